-- Look-back duplicate exams (definitions.md, "Duplicate exam").
--
-- An earlier exam is one number, seconds * 65536 + number of its hospital: the latest one is the largest. The frame
-- ends one day before the exam, so the exam's own day never counts. L asks for an earlier exam that is not R, R for one
-- that is not L; every exam is one or the other, so the two windows serve the other sides too.
WITH
hospitals AS (
    SELECT
        hospital_id,
        row_number() OVER (ORDER BY hospital_id) AS hospital_number
    FROM core.exam
    GROUP BY hospital_id
),

exams AS (
    SELECT
        core.exam.hospital_id,
        hospitals.hospital_number,
        core.exam.modality_group,
        date_offset.person_key AS patient_key,
        core.exam.body_part_code,
        core.exam.laterality_code,
        core.exam.is_patient_known AND core.exam.body_part_code <> 'UNKNOWN' AS is_matchable,
        core.exam.study_at - to_seconds(date_offset.date_offset_seconds) AS exam_at,
        exam_at::DATE AS exam_date,
        exam_date - DATE '1800-01-01' AS exam_day,
        date_diff('second', TIMESTAMP '1800-01-01', exam_at) * 65536
        + hospitals.hospital_number AS moment_and_hospital
    FROM core.exam
    INNER JOIN hospitals ON core.exam.hospital_id = hospitals.hospital_id
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
    WHERE core.exam.study_at IS NOT NULL
),

observed AS (
    SELECT
        hospital_id,
        -- one exam in twenty may carry a false or very early date without stretching the observed period
        quantile_disc(exam_date, 0.05) AS first_date
    FROM exams
    GROUP BY hospital_id
),

looked_back AS (
    SELECT
        hospital_id,
        hospital_number,
        modality_group,
        exam_date,
        exam_day,
        is_matchable,
        laterality_code,
        max(moment_and_hospital) FILTER (WHERE laterality_code <> 'R') OVER earlier AS latest_not_right,
        max(moment_and_hospital) FILTER (WHERE laterality_code <> 'L') OVER earlier AS latest_not_left
    FROM exams
    WINDOW earlier AS (
        PARTITION BY patient_key, modality_group, body_part_code
        ORDER BY exam_day
        RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

latest AS (
    SELECT
        looked_back.hospital_id,
        looked_back.hospital_number,
        looked_back.modality_group,
        looked_back.is_matchable,
        (year(looked_back.exam_date) * 100 + month(looked_back.exam_date))::INTEGER AS exam_month,
        looked_back.exam_date - observed.first_date AS observed_days,
        looked_back.exam_day,
        CASE
            WHEN NOT looked_back.is_matchable THEN NULL
            WHEN looked_back.laterality_code = 'L' THEN looked_back.latest_not_right
            WHEN looked_back.laterality_code = 'R' THEN looked_back.latest_not_left
            ELSE greatest(looked_back.latest_not_right, looked_back.latest_not_left)
        END AS earlier_exam
    FROM looked_back
    INNER JOIN observed ON looked_back.hospital_id = observed.hospital_id
),

cells AS (
    SELECT
        windows.window_days,
        latest.exam_month,
        latest.hospital_id,
        latest.modality_group,
        count(*) AS n_exams,
        count(*) FILTER (WHERE NOT latest.is_matchable) AS n_unmatchable,
        count(*) FILTER (
            WHERE latest.exam_day - latest.earlier_exam // 65536 // 86400 <= windows.window_days
        ) AS n_any,
        count(*) FILTER (
            WHERE latest.exam_day - latest.earlier_exam // 65536 // 86400 <= windows.window_days
            AND latest.earlier_exam % 65536 = latest.hospital_number
        ) AS n_within
    FROM latest
    INNER JOIN (VALUES (30), (90)) AS windows (window_days) ON latest.observed_days >= windows.window_days
    GROUP BY ALL
),

scoped AS (
    SELECT
        cells.window_days,
        scopes.scope,
        cells.exam_month,
        cells.hospital_id,
        cells.modality_group,
        cells.n_exams,
        cells.n_unmatchable,
        CASE scopes.scope
            WHEN 'any' THEN cells.n_any
            WHEN 'within_hospital' THEN cells.n_within
            ELSE cells.n_any - cells.n_within
        END AS n_duplicates
    FROM cells
    CROSS JOIN (VALUES ('any'), ('within_hospital'), ('across_hospitals')) AS scopes (scope)
)

SELECT
    window_days::SMALLINT AS window_days,
    scope,
    CASE
        WHEN grouping(exam_month) = 1 THEN 'all'
        ELSE format('{:04d}-{:02d}', exam_month // 100, exam_month % 100)
    END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
    sum(n_exams)::BIGINT AS n_exams,
    sum(n_unmatchable)::BIGINT AS n_unmatchable,
    sum(n_duplicates)::BIGINT AS n_duplicates,
    sum(n_duplicates) / sum(n_exams) AS duplicate_share,
    FALSE AS is_masked
FROM scoped
GROUP BY window_days, scope, cube (exam_month, hospital_id, modality_group)
