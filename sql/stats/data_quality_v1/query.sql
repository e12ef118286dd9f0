-- What is wrong with the data of each hospital (definitions.md, "Data quality").
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        coalesce(
            strftime(core.exam.study_at - to_seconds(date_offset.date_offset_seconds), '%Y-%m'), 'unknown'
        ) AS exam_month,
        core.exam.study_at IS NULL AS has_no_date,
        NOT core.exam.is_patient_known AS has_no_patient,
        core.exam.body_part_code = 'UNKNOWN' AS has_no_body_part,
        core.exam.modality_group = 'UNKNOWN' AS has_no_modality,
        core.exam.patient_sex = 'UNKNOWN' OR core.exam.patient_age_years IS NULL AS has_no_sex_or_age,
        contains(core.exam.conflict_code, 'BODY_PART') AS has_other_body_part,
        contains(core.exam.conflict_code, 'MODALITY') AS has_other_modality,
        contains(core.exam.conflict_code, 'LATERALITY') AS has_other_side
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
),

-- Two lists that go in step: a name and whether it holds.
topics AS (
    SELECT
        exams.hospital_id,
        exams.exam_month,
        unnest([
            'no_date',
            'no_patient',
            'no_body_part',
            'no_modality',
            'no_sex_or_age',
            'other_body_part',
            'other_modality',
            'other_side'
        ]) AS topic_code,
        unnest([
            exams.has_no_date,
            exams.has_no_patient,
            exams.has_no_body_part,
            exams.has_no_modality,
            exams.has_no_sex_or_age,
            exams.has_other_body_part,
            exams.has_other_modality,
            exams.has_other_side
        ]) AS is_failed
    FROM exams
),

-- The clock of a hospital is ahead when an exam ended after it was complete.
clocks AS (
    SELECT
        hospital_id,
        strftime(ended_at + INTERVAL 8 HOUR, '%Y-%m') AS exam_month,
        completed_at < ended_at AS is_failed
    FROM ops.upload
    WHERE ended_at IS NOT NULL AND completed_at IS NOT NULL AND state <> 'withdrawn'
),

found AS (
    SELECT
        hospital_id,
        exam_month,
        topic_code,
        count(*) AS n_checked,
        count(*) FILTER (WHERE is_failed) AS n_failed
    FROM topics
    GROUP BY hospital_id, exam_month, topic_code
    UNION ALL
    SELECT
        hospital_id,
        exam_month,
        'clock_ahead' AS topic_code,
        count(*) AS n_checked,
        count(*) FILTER (WHERE is_failed) AS n_failed
    FROM clocks
    GROUP BY hospital_id, exam_month
),

stored AS (
    SELECT
        hospital_id,
        sum(n_instances) AS n_stored
    FROM core.exam
    GROUP BY hospital_id
),

set_aside AS (
    SELECT
        quarantine.hospital_id,
        quarantine.reason AS topic_code,
        coalesce(stored.n_stored, 0)
        + sum(quarantine.n_instances) OVER (PARTITION BY quarantine.hospital_id) AS n_checked,
        quarantine.n_instances AS n_failed
    FROM ops.quarantine AS quarantine
    LEFT JOIN stored ON quarantine.hospital_id = stored.hospital_id
),

cells AS (
    SELECT
        CASE WHEN grouping(exam_month) = 1 THEN 'all' ELSE exam_month END AS exam_month,
        CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
        topic_code,
        sum(n_checked) AS n_checked,
        sum(n_failed) AS n_failed
    FROM found
    GROUP BY topic_code, cube (exam_month, hospital_id)
    UNION ALL
    SELECT
        'all' AS exam_month,
        hospital_id,
        topic_code,
        n_checked,
        n_failed
    FROM set_aside
    UNION ALL
    SELECT
        'all' AS exam_month,
        'all' AS hospital_id,
        set_aside.topic_code,
        (SELECT coalesce(sum(stored.n_stored), 0) FROM stored)
        + (SELECT sum(quarantine.n_instances) FROM ops.quarantine AS quarantine) AS n_checked,
        sum(set_aside.n_failed) AS n_failed
    FROM set_aside
    GROUP BY set_aside.topic_code
)

SELECT
    exam_month,
    hospital_id,
    topic_code,
    n_checked::BIGINT AS n_checked,
    n_failed::BIGINT AS n_failed,
    n_failed / n_checked AS failed_share,
    FALSE AS is_masked
FROM cells
