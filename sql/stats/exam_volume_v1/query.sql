-- Exams, persons, instances and bytes by calendar month, hospital and modality, with every margin.
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.region_code,
        core.exam.modality_group,
        date_offset.person_key AS patient_key,
        core.exam.n_instances,
        core.exam.exam_bytes,
        core.exam.study_at - to_seconds(date_offset.date_offset_seconds) AS exam_at
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
),

person_cells AS (
    SELECT
        (year(exam_at) * 100 + month(exam_at))::INTEGER AS exam_month,
        hospital_id,
        region_code,
        modality_group,
        patient_key,
        count(*) AS n_exams,
        sum(n_instances)::BIGINT AS n_instances,
        sum(exam_bytes)::BIGINT AS exam_bytes
    FROM exams
    GROUP BY ALL
)

SELECT
    CASE
        WHEN grouping(exam_month) = 1 THEN 'all'
        WHEN exam_month IS NULL THEN 'unknown'
        ELSE format('{:04d}-{:02d}', exam_month // 100, exam_month % 100)
    END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE region_code END AS region_code,
    CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
    sum(n_exams)::BIGINT AS n_exams,
    count(DISTINCT patient_key) AS n_patients,
    sum(n_instances)::BIGINT AS n_instances,
    sum(exam_bytes)::BIGINT AS exam_bytes,
    FALSE AS is_masked
FROM person_cells
GROUP BY
    GROUPING SETS (
        (exam_month, hospital_id, region_code, modality_group),
        (exam_month, hospital_id, region_code),
        (exam_month, modality_group),
        (exam_month),
        (hospital_id, region_code, modality_group),
        (hospital_id, region_code),
        (modality_group),
        ()
    )
HAVING count(*) > 0
