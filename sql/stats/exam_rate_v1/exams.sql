-- Exams of each cell of stats.exam_rate: the total over regions holds those that have residents in that year.
WITH
populations AS (
    SELECT DISTINCT
        population.year::BIGINT AS exam_year,
        left(coalesce(nullif(region.successor_region_code, 'NONE'), population.region_code), 4) || '00' AS region_code
    FROM ref.population AS population
    LEFT JOIN ref.region AS region ON population.region_code = region.region_code
),

exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.exam_pseudo_id,
        core.exam.modality_group,
        CASE
            WHEN core.exam.region_code = 'UNKNOWN' THEN 'UNKNOWN'
            ELSE left(core.exam.region_code, 4) || '00'
        END AS region_code,
        year(core.exam.study_at - to_seconds(date_offset.date_offset_seconds)) AS exam_year
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
)

SELECT
    exams.hospital_id AS exam_hospital_id,
    exams.exam_pseudo_id,
    [coalesce(exams.exam_year::VARCHAR, 'unknown')] AS exam_year,
    CASE
        WHEN populations.region_code IS NULL THEN [exams.region_code]
        ELSE [exams.region_code, 'all']
    END AS region_code,
    [exams.modality_group, 'all'] AS modality_group,
    1 AS n_exams
FROM exams
LEFT JOIN populations
    ON exams.exam_year = populations.exam_year AND exams.region_code = populations.region_code
