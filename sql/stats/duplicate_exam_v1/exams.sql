-- Exams of each cell of stats.duplicate_exam. An exam is looked up among the earlier ones of its person directly: no
-- windows as in query.sql, so that who traces a number also checks it.
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.exam_pseudo_id,
        core.exam.modality_group,
        date_offset.person_key AS patient_key,
        core.exam.body_part_code,
        core.exam.laterality_code,
        core.exam.is_patient_known AND core.exam.body_part_code <> 'UNKNOWN' AS is_matchable,
        core.exam.study_at - to_seconds(date_offset.date_offset_seconds) AS exam_at,
        exam_at::DATE AS exam_date
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
    WHERE core.exam.study_at IS NOT NULL
),

observed AS (
    SELECT
        hospital_id,
        quantile_disc(exam_date, 0.05) AS first_date
    FROM exams
    GROUP BY hospital_id
),

pairs AS (
    SELECT
        later.hospital_id,
        later.exam_pseudo_id,
        later.patient_key,
        max(earlier.exam_date) AS earlier_date,
        arg_max(
            earlier.hospital_id, (date_trunc('second', earlier.exam_at), earlier.hospital_id)
        ) AS earlier_hospital_id
    FROM exams AS later
    INNER JOIN exams AS earlier
        ON
            later.patient_key = earlier.patient_key
            AND later.modality_group = earlier.modality_group
            AND later.body_part_code = earlier.body_part_code
            AND later.exam_date > earlier.exam_date
            AND NOT (later.laterality_code = 'L' AND earlier.laterality_code = 'R')
            AND NOT (later.laterality_code = 'R' AND earlier.laterality_code = 'L')
    WHERE later.is_matchable
    GROUP BY later.hospital_id, later.exam_pseudo_id, later.patient_key
),

looked_back AS (
    SELECT
        exams.hospital_id,
        exams.exam_pseudo_id,
        exams.modality_group,
        exams.is_matchable,
        strftime(exams.exam_date, '%Y-%m') AS exam_month,
        windows.window_days,
        coalesce(exams.exam_date - pairs.earlier_date <= windows.window_days, FALSE) AS is_duplicate,
        pairs.earlier_hospital_id = exams.hospital_id AS is_within
    FROM exams
    INNER JOIN observed ON exams.hospital_id = observed.hospital_id
    INNER JOIN (VALUES (30), (90)) AS windows (window_days)
        ON exams.exam_date - observed.first_date >= windows.window_days
    LEFT JOIN pairs
        ON
            exams.hospital_id = pairs.hospital_id
            AND exams.exam_pseudo_id = pairs.exam_pseudo_id
            AND exams.patient_key = pairs.patient_key
)

SELECT
    looked_back.hospital_id AS exam_hospital_id,
    looked_back.exam_pseudo_id,
    [looked_back.window_days::VARCHAR] AS window_days,
    [scopes.scope] AS scope,
    [looked_back.exam_month, 'all'] AS exam_month,
    [looked_back.hospital_id, 'all'] AS hospital_id,
    [looked_back.modality_group, 'all'] AS modality_group,
    1 AS n_exams,
    (NOT looked_back.is_matchable)::INTEGER AS n_unmatchable,
    (
        looked_back.is_duplicate
        AND CASE scopes.scope
            WHEN 'any' THEN TRUE
            WHEN 'within_hospital' THEN looked_back.is_within
            ELSE NOT looked_back.is_within
        END
    )::INTEGER AS n_duplicates
FROM looked_back
CROSS JOIN (VALUES ('any'), ('within_hospital'), ('across_hospitals')) AS scopes (scope)
