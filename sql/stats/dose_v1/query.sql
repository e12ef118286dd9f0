-- Dose of adult exams that have a dose report, beside the national reference levels (definitions.md, "Dose"). No totals
-- over modality or part: doses of different examinations do not mix. Exams without a report are not counted: with them
-- the counts would be sums of those of stats.exam_volume by year, and tell what is withheld there.
WITH
doses AS (
    SELECT
        year(exam.study_at - to_seconds(date_offset.date_offset_seconds))::VARCHAR AS exam_year,
        exam_dose.hospital_id,
        exam_dose.modality_group,
        exam_dose.body_part_code,
        exam_dose.n_events,
        exam_dose.ctdi_vol_mgy,
        exam_dose.dlp_mgy_cm,
        exam_dose.dap_gy_m2,
        exam_dose.agd_mgy,
        exam_dose.effective_dose_msv
    FROM core.exam_dose AS exam_dose
    INNER JOIN core.exam AS exam
        ON
            exam_dose.hospital_id = exam.hospital_id
            AND exam_dose.exam_pseudo_id = exam.exam_pseudo_id
            AND exam_dose.patient_key = exam.patient_key
    INNER JOIN restricted.date_offset AS date_offset ON exam_dose.patient_key = date_offset.patient_key
    WHERE exam_dose.is_adult AND exam_dose.dose_source = 'rdsr' AND exam.study_at IS NOT NULL
),

summed AS (
    SELECT
        exam_year,
        CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
        modality_group,
        body_part_code,
        count(*) AS n_reported,
        sum(n_events)::BIGINT AS n_events,
        median(ctdi_vol_mgy) AS ctdi_vol_median_mgy,
        quantile_cont(ctdi_vol_mgy, 0.75) AS ctdi_vol_p75_mgy,
        median(dlp_mgy_cm) AS dlp_median_mgy_cm,
        quantile_cont(dlp_mgy_cm, 0.75) AS dlp_p75_mgy_cm,
        median(dap_gy_m2) AS dap_median_gy_m2,
        median(agd_mgy) AS agd_median_mgy,
        median(effective_dose_msv) AS effective_dose_median_msv
    FROM doses
    GROUP BY GROUPING SETS (
        (exam_year, hospital_id, modality_group, body_part_code),
        (exam_year, modality_group, body_part_code)
    )
),

levels AS (
    SELECT
        modality_group,
        body_part_code,
        quantity,
        p75,
        is_verified
    FROM ref.drl
    QUALIFY row_number() OVER (PARTITION BY modality_group, body_part_code, quantity ORDER BY valid_from DESC) = 1
)

SELECT
    summed.exam_year,
    summed.hospital_id,
    summed.modality_group,
    summed.body_part_code,
    summed.n_reported,
    summed.n_events,
    summed.ctdi_vol_median_mgy,
    summed.ctdi_vol_p75_mgy,
    of_ctdi.p75 AS ctdi_vol_drl_mgy,
    summed.dlp_median_mgy_cm,
    summed.dlp_p75_mgy_cm,
    of_dlp.p75 AS dlp_drl_mgy_cm,
    CASE
        WHEN summed.ctdi_vol_median_mgy > of_ctdi.p75 OR summed.dlp_median_mgy_cm > of_dlp.p75 THEN TRUE
        WHEN summed.ctdi_vol_median_mgy <= of_ctdi.p75 AND summed.dlp_median_mgy_cm <= of_dlp.p75 THEN FALSE
    END AS is_above_drl,
    coalesce(of_ctdi.is_verified, TRUE) AND of_dlp.is_verified AS is_drl_verified,
    summed.dap_median_gy_m2,
    summed.agd_median_mgy,
    summed.effective_dose_median_msv,
    FALSE AS is_masked
FROM summed
LEFT JOIN levels AS of_ctdi
    ON
        of_ctdi.quantity = 'ctdi_vol_mgy'
        AND summed.modality_group = of_ctdi.modality_group
        AND summed.body_part_code = of_ctdi.body_part_code
LEFT JOIN levels AS of_dlp
    ON
        of_dlp.quantity = 'dlp_mgy_cm'
        AND summed.modality_group = of_dlp.modality_group
        AND summed.body_part_code = of_dlp.body_part_code
