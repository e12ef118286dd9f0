-- Dose of repeats that nothing on record excuses (definitions.md, "Dose of repeats"): those that stats.repeat_rate has
-- as potential within 30 days by the pack clinical_v1, and of each the dose of the repeat itself. Doses that machines
-- reported, typical values and exams without either stand in rows of their own.
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

numbered AS (
    SELECT
        exams.*,
        exam_order.encounter_pseudo_id,
        exam_order.operation_days,
        string_split(coalesce(exam_order.ground_codes, ''), '+') AS grounds,
        row_number() OVER (
            ORDER BY
                exams.patient_key,
                exams.modality_group,
                exams.body_part_code,
                round_even(epoch(exams.exam_at), 0),
                exams.hospital_id,
                exams.exam_pseudo_id
        ) AS number
    FROM exams
    INNER JOIN persons ON exams.patient_key = persons.patient_key
    LEFT JOIN ref.exam_order AS exam_order
        ON
            exams.hospital_id = exam_order.hospital_id
            AND exams.exam_pseudo_id = exam_order.exam_pseudo_id
            AND exams.own_key = exam_order.patient_key
    WHERE exams.is_matchable AND exams.modality_group IN ('CT', 'DX', 'MG', 'NM', 'PT', 'RF', 'XA')
),

looked_back AS (
    SELECT
        number,
        CASE laterality_code
            WHEN 'L' THEN max(number) FILTER (WHERE laterality_code <> 'R') OVER earlier
            WHEN 'R' THEN max(number) FILTER (WHERE laterality_code <> 'L') OVER earlier
            ELSE max(number) OVER earlier
        END AS earlier_number
    FROM numbered
    WINDOW earlier AS (
        PARTITION BY patient_key, modality_group, body_part_code
        ORDER BY number
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),

repeats AS (
    SELECT
        later.hospital_id,
        later.exam_pseudo_id,
        later.own_key,
        later.modality_group,
        later.body_part_code,
        year(later.exam_date)::VARCHAR AS exam_year
    FROM looked_back
    INNER JOIN numbered AS later ON looked_back.number = later.number
    INNER JOIN numbered AS earlier ON looked_back.earlier_number = earlier.number
    INNER JOIN observed ON later.hospital_id = observed.hospital_id
    WHERE
        later.exam_date - earlier.exam_date BETWEEN 1 AND 30
        AND later.exam_date - observed.first_date >= 30
        AND later.exam_date <= observed.last_date
        AND NOT coalesce(
            later.hospital_id = earlier.hospital_id AND later.encounter_pseudo_id = earlier.encounter_pseudo_id, FALSE
        )
        -- schemas/rules/duplicates/clinical.yaml
        AND NOT list_has_any(
            later.grounds,
            [
                'emergency', 'trauma', 'intensive_care', 'decisive_step', 'oncology', 'pregnancy', 'screening',
                'condition_changed', 'rapid_change', 'appraisal', 'patient_requested', 'other_lawful'
            ]
        )
        AND NOT list_has_any(earlier.grounds, ['follow_up_recommended', 'earlier_not_retrievable'])
        AND NOT coalesce(later.operation_days BETWEEN 0 AND 30, FALSE)
),

typical AS (
    SELECT
        modality_group,
        body_part_code,
        source
    FROM ref.dose_factor
    WHERE method = 'typical'
    QUALIFY row_number() OVER (PARTITION BY modality_group, body_part_code ORDER BY valid_from DESC) = 1
),

doses AS (
    SELECT
        repeats.exam_year,
        repeats.modality_group,
        repeats.body_part_code,
        CASE
            WHEN exam_dose.effective_dose_method IN ('dlp', 'agd') THEN 'estimated'
            WHEN exam_dose.effective_dose_method = 'typical' THEN 'typical'
            WHEN exam_dose.dose_source = 'rdsr' THEN 'reported'
            ELSE 'unknown'
        END AS dose_basis,
        CASE WHEN dose_basis <> 'typical' THEN exam_dose.dlp_mgy_cm END AS dlp_mgy_cm,
        exam_dose.effective_dose_msv,
        exam_dose.effective_dose_low_msv,
        exam_dose.effective_dose_high_msv
    FROM repeats
    LEFT JOIN core.exam_dose AS exam_dose
        ON
            repeats.hospital_id = exam_dose.hospital_id
            AND repeats.exam_pseudo_id = exam_dose.exam_pseudo_id
            AND repeats.own_key = exam_dose.patient_key
),

summed AS (
    SELECT
        CASE WHEN grouping(exam_year) = 1 THEN 'all' ELSE exam_year END AS exam_year,
        CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
        CASE WHEN grouping(body_part_code) = 1 THEN 'all' ELSE body_part_code END AS body_part_code,
        dose_basis,
        count(*) AS n_repeats,
        -- of all exams of a row or of none: a sum over few of many would tell of the few
        CASE WHEN count(dlp_mgy_cm) = count(*) THEN fsum(dlp_mgy_cm) END AS dlp_mgy_cm,
        fsum(effective_dose_msv) AS effective_dose_msv,
        fsum(effective_dose_low_msv) AS effective_dose_low_msv,
        fsum(effective_dose_high_msv) AS effective_dose_high_msv,
        -- of a sum of nothing one exam has no share
        greatest(
            max(dlp_mgy_cm) / nullif(fsum(dlp_mgy_cm), 0),
            max(effective_dose_msv) / nullif(fsum(effective_dose_msv), 0),
            max(effective_dose_low_msv) / nullif(fsum(effective_dose_low_msv), 0),
            max(effective_dose_high_msv) / nullif(fsum(effective_dose_high_msv), 0)
        ) AS largest_share
    FROM doses
    GROUP BY dose_basis, cube (exam_year, modality_group, body_part_code)
)

SELECT
    summed.exam_year,
    summed.modality_group,
    summed.body_part_code,
    summed.dose_basis,
    summed.n_repeats,
    summed.dlp_mgy_cm,
    summed.effective_dose_msv,
    summed.effective_dose_low_msv,
    summed.effective_dose_high_msv,
    coalesce(summed.largest_share, 1) AS largest_share,
    CASE WHEN summed.dose_basis = 'typical' THEN coalesce(of_part.source, of_modality.source) END AS typical_source,
    FALSE AS is_masked
FROM summed
LEFT JOIN typical AS of_part
    ON summed.modality_group = of_part.modality_group AND summed.body_part_code = of_part.body_part_code
LEFT JOIN typical AS of_modality
    ON summed.modality_group = of_modality.modality_group AND of_modality.body_part_code = 'all'
