-- Exams of each cell of stats.repeat_dose. The earlier exam is looked up among all of the person directly: no windows
-- as in query.sql, so that who traces a number also checks it.
WITH
exams AS (
    SELECT
        exam.hospital_id,
        exam.exam_pseudo_id,
        exam.patient_key AS own_key,
        date_offset.person_key AS patient_key,
        exam.modality_group,
        exam.body_part_code,
        exam.laterality_code,
        exam.is_patient_known AND exam.body_part_code <> 'UNKNOWN' AS is_matchable,
        exam.study_at - to_seconds(date_offset.date_offset_seconds) AS exam_at,
        exam_at::DATE AS exam_date
    FROM core.exam AS exam
    INNER JOIN restricted.date_offset AS date_offset ON exam.patient_key = date_offset.patient_key
    WHERE exam.study_at IS NOT NULL
),

-- A number with more exams is none of a person: many share it.
persons AS (
    SELECT patient_key
    FROM exams
    GROUP BY patient_key
    HAVING count(*) <= 1000
),

days AS (
    SELECT
        hospital_id,
        exam_date,
        sum(count(*)) OVER (PARTITION BY hospital_id ORDER BY exam_date) AS n_until,
        sum(count(*)) OVER (PARTITION BY hospital_id) AS n_all
    FROM exams
    GROUP BY hospital_id, exam_date
),

observed AS (
    SELECT
        hospital_id,
        min(exam_date) FILTER (WHERE n_until >= 0.001 * n_all) AS first_date,
        min(exam_date) FILTER (WHERE n_until >= 0.999 * n_all) AS last_date
    FROM days
    GROUP BY hospital_id
),

recorded AS (
    SELECT
        exams.*,
        exam_order.encounter_pseudo_id,
        exam_order.operation_days,
        string_split(coalesce(exam_order.ground_codes, ''), '+') AS grounds,
        (round_even(epoch(exams.exam_at), 0), exams.hospital_id, exams.exam_pseudo_id) AS moment
    FROM exams
    INNER JOIN persons ON exams.patient_key = persons.patient_key
    LEFT JOIN ref.exam_order AS exam_order
        ON
            exams.hospital_id = exam_order.hospital_id
            AND exams.exam_pseudo_id = exam_order.exam_pseudo_id
            AND exams.own_key = exam_order.patient_key
    WHERE exams.is_matchable AND exams.modality_group IN ('CT', 'DX', 'MG', 'NM', 'PT', 'RF', 'XA')
),

pairs AS (
    SELECT
        later.*,
        earlier.exam_date AS earlier_date,
        earlier.hospital_id AS earlier_hospital_id,
        earlier.encounter_pseudo_id AS earlier_encounter_pseudo_id,
        earlier.grounds AS earlier_grounds
    FROM recorded AS later
    INNER JOIN recorded AS earlier
        ON
            later.patient_key = earlier.patient_key
            AND later.modality_group = earlier.modality_group
            AND later.body_part_code = earlier.body_part_code
            AND later.moment > earlier.moment
            AND NOT (later.laterality_code = 'L' AND earlier.laterality_code = 'R')
            AND NOT (later.laterality_code = 'R' AND earlier.laterality_code = 'L')
    QUALIFY
        row_number() OVER (
            PARTITION BY later.hospital_id, later.exam_pseudo_id, later.own_key ORDER BY earlier.moment DESC
        ) = 1
),

repeats AS (
    SELECT
        later.hospital_id,
        later.exam_pseudo_id,
        later.own_key,
        later.modality_group,
        later.body_part_code,
        year(later.exam_date)::VARCHAR AS exam_year
    FROM pairs AS later
    INNER JOIN observed ON later.hospital_id = observed.hospital_id
    WHERE
        later.exam_date - later.earlier_date BETWEEN 1 AND 30
        AND later.exam_date - observed.first_date >= 30
        AND later.exam_date <= observed.last_date
        AND NOT coalesce(
            later.hospital_id = later.earlier_hospital_id
            AND later.encounter_pseudo_id = later.earlier_encounter_pseudo_id,
            FALSE
        )
        -- schemas/rules/duplicates/clinical.yaml
        AND NOT list_has_any(
            later.grounds,
            [
                'emergency', 'trauma', 'intensive_care', 'decisive_step', 'oncology', 'pregnancy', 'screening',
                'condition_changed', 'rapid_change', 'appraisal', 'patient_requested', 'other_lawful'
            ]
        )
        AND NOT list_has_any(later.earlier_grounds, ['follow_up_recommended', 'earlier_not_retrievable'])
        AND NOT coalesce(later.operation_days BETWEEN 0 AND 30, FALSE)
)

SELECT
    repeats.hospital_id AS exam_hospital_id,
    repeats.exam_pseudo_id,
    [repeats.exam_year, 'all'] AS exam_year,
    [repeats.modality_group, 'all'] AS modality_group,
    [repeats.body_part_code, 'all'] AS body_part_code,
    [CASE
        WHEN exam_dose.effective_dose_method IN ('dlp', 'agd') THEN 'estimated'
        WHEN exam_dose.effective_dose_method = 'typical' THEN 'typical'
        WHEN exam_dose.dose_source = 'rdsr' THEN 'reported'
        ELSE 'unknown'
    END] AS dose_basis,
    1 AS n_repeats
FROM repeats
LEFT JOIN core.exam_dose AS exam_dose
    ON
        repeats.hospital_id = exam_dose.hospital_id
        AND repeats.exam_pseudo_id = exam_dose.exam_pseudo_id
        AND repeats.own_key = exam_dose.patient_key
