-- Dose of each exam (definitions.md, "Exam dose"): every irradiation event once, by its UID, whatever reports tell it.
-- A copy of another hospital's study (a CD) carries the same UIDs; the event stays with the first hospital by name.
WITH
events AS (
    SELECT
        dose.irradiation_event.hospital_id,
        dose.irradiation_event.study_instance_uid,
        dose.irradiation_event.event_kind,
        dose.irradiation_event.target_part_code,
        dose.irradiation_event.is_localizer,
        dose.irradiation_event.ctdi_vol_mgy,
        dose.irradiation_event.ctdi_phantom_cm,
        dose.irradiation_event.dlp_mgy_cm,
        dose.irradiation_event.dap_gy_m2,
        dose.irradiation_event.agd_mgy
    FROM dose.irradiation_event
    QUALIFY
        row_number() OVER (
            PARTITION BY dose.irradiation_event.irradiation_event_uid
            ORDER BY
                dose.irradiation_event.hospital_id,
                dose.irradiation_event.sop_instance_uid,
                dose.irradiation_event.event_number
        ) = 1
),

factors AS (
    SELECT
        method,
        modality_group,
        body_part_code,
        [factor, factor_low, factor_high] AS factors,
        phantom_cm
    FROM ref.dose_factor
    QUALIFY row_number() OVER (PARTITION BY method, modality_group, body_part_code ORDER BY valid_from DESC) = 1
),

exams AS (
    SELECT
        hospital_id,
        exam_pseudo_id,
        patient_key,
        study_month,
        modality_group,
        body_part_code,
        patient_age_years >= 18 AS is_adult
    FROM core.exam
    WHERE modality_group IN ('CT', 'DX', 'MG', 'NM', 'PT', 'RF', 'XA')
),

priced AS (
    SELECT
        exams.hospital_id,
        exams.exam_pseudo_id,
        exams.patient_key,
        events.is_localizer,
        events.ctdi_vol_mgy,
        events.ctdi_phantom_cm,
        events.dlp_mgy_cm,
        events.dap_gy_m2,
        events.agd_mgy,
        coalesce(of_target.factors, of_exam.factors) AS factors,
        CASE WHEN of_target.factors IS NULL THEN of_exam.phantom_cm ELSE of_target.phantom_cm END AS factor_phantom_cm
    FROM events
    INNER JOIN dicom.study AS study
        ON events.hospital_id = study.hospital_id AND events.study_instance_uid = study.study_instance_uid
    INNER JOIN exams
        ON
            study.hospital_id = exams.hospital_id
            AND study.exam_pseudo_id = exams.exam_pseudo_id
            AND study.patient_key = exams.patient_key
    LEFT JOIN factors AS of_target
        ON
            of_target.method = 'dlp'
            AND of_target.modality_group = 'CT'
            AND events.event_kind = 'CT'
            AND events.target_part_code = of_target.body_part_code
    LEFT JOIN factors AS of_exam
        ON
            of_exam.method = 'dlp'
            AND of_exam.modality_group = 'CT'
            AND events.event_kind = 'CT'
            AND exams.body_part_code = of_exam.body_part_code
),

reported AS (
    SELECT
        hospital_id,
        exam_pseudo_id,
        patient_key,
        count(*) AS n_events,
        max(ctdi_vol_mgy) FILTER (WHERE NOT is_localizer) AS ctdi_vol_mgy,
        arg_max(ctdi_phantom_cm, ctdi_vol_mgy) FILTER (WHERE NOT is_localizer) AS ctdi_phantom_cm,
        fsum(dlp_mgy_cm) AS dlp_mgy_cm,
        fsum(dap_gy_m2) AS dap_gy_m2,
        fsum(agd_mgy) AS agd_mgy,
        [
            fsum(dlp_mgy_cm * factors[1]), fsum(dlp_mgy_cm * factors[2]), fsum(dlp_mgy_cm * factors[3])
        ] AS doses_msv,
        bool_or(dlp_mgy_cm > 0 AND factors IS NULL) AS has_no_factor,
        bool_or(dlp_mgy_cm > 0 AND NOT is_localizer AND ctdi_phantom_cm <> factor_phantom_cm) AS is_other_phantom
    FROM priced
    GROUP BY hospital_id, exam_pseudo_id, patient_key
),

headers AS (
    SELECT
        study.hospital_id,
        study.exam_pseudo_id,
        study.patient_key,
        max(instance.ctdi_vol_mgy) AS ctdi_vol_mgy
    FROM dicom.instance AS instance
    INNER JOIN dicom.study AS study
        ON instance.hospital_id = study.hospital_id AND instance.study_instance_uid = study.study_instance_uid
    WHERE instance.ctdi_vol_mgy > 0 AND instance.modality = 'CT'
    GROUP BY study.hospital_id, study.exam_pseudo_id, study.patient_key
),

doses AS (
    SELECT
        exams.hospital_id,
        exams.exam_pseudo_id,
        exams.patient_key,
        exams.study_month,
        exams.modality_group,
        exams.body_part_code,
        exams.is_adult,
        CASE
            WHEN reported.n_events IS NOT NULL THEN 'rdsr'
            WHEN headers.ctdi_vol_mgy IS NOT NULL THEN 'image_header'
            ELSE 'none'
        END AS dose_source,
        coalesce(reported.n_events, 0)::INTEGER AS n_events,
        CASE WHEN reported.n_events IS NULL THEN headers.ctdi_vol_mgy ELSE reported.ctdi_vol_mgy END AS ctdi_vol_mgy,
        reported.ctdi_phantom_cm,
        reported.dlp_mgy_cm,
        reported.dap_gy_m2,
        reported.agd_mgy,
        coalesce(reported.is_other_phantom, FALSE) AS is_other_phantom,
        CASE
            WHEN coalesce(exams.is_adult, FALSE) IS FALSE THEN 'none'
            WHEN reported.dlp_mgy_cm > 0 AND NOT reported.has_no_factor AND NOT is_other_phantom THEN 'dlp'
            WHEN reported.agd_mgy > 0 AND glandular.factors IS NOT NULL THEN 'agd'
            WHEN coalesce(typical.factors, typical_of_all.factors) IS NOT NULL THEN 'typical'
            ELSE 'none'
        END AS effective_dose_method,
        CASE effective_dose_method
            WHEN 'dlp' THEN reported.doses_msv
            WHEN 'agd' THEN glandular.factors
            WHEN 'typical' THEN coalesce(typical.factors, typical_of_all.factors)
        END AS factors,
        CASE WHEN effective_dose_method = 'agd' THEN reported.agd_mgy ELSE 1 END AS multiplier
    FROM exams
    LEFT JOIN reported
        ON
            exams.hospital_id = reported.hospital_id
            AND exams.exam_pseudo_id = reported.exam_pseudo_id
            AND exams.patient_key = reported.patient_key
    LEFT JOIN headers
        ON
            exams.hospital_id = headers.hospital_id
            AND exams.exam_pseudo_id = headers.exam_pseudo_id
            AND exams.patient_key = headers.patient_key
    LEFT JOIN factors AS glandular
        ON glandular.method = 'agd' AND exams.modality_group = glandular.modality_group
    LEFT JOIN factors AS typical
        ON
            typical.method = 'typical'
            AND exams.modality_group = typical.modality_group
            AND exams.body_part_code = typical.body_part_code
    LEFT JOIN factors AS typical_of_all
        ON
            typical_of_all.method = 'typical'
            AND exams.modality_group = typical_of_all.modality_group
            AND typical_of_all.body_part_code = 'all'
)

SELECT
    hospital_id,
    exam_pseudo_id,
    patient_key,
    study_month,
    modality_group,
    body_part_code,
    is_adult,
    dose_source,
    n_events,
    ctdi_vol_mgy,
    ctdi_phantom_cm,
    dlp_mgy_cm,
    dap_gy_m2,
    agd_mgy,
    factors[1] * multiplier AS effective_dose_msv,
    factors[2] * multiplier AS effective_dose_low_msv,
    factors[3] * multiplier AS effective_dose_high_msv,
    effective_dose_method,
    CASE
        WHEN coalesce(is_adult, FALSE) IS FALSE THEN 'no_adult'
        WHEN effective_dose_method = 'none' THEN 'no_factor'
        WHEN is_other_phantom AND effective_dose_method = 'typical' THEN 'phantom'
        ELSE ''
    END AS problem
FROM doses
