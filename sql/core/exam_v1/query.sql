-- One exam = one accession number of one hospital and person; it may have several studies (definitions.md, "Exam").
WITH
studies AS (
    SELECT
        hospital_id,
        exam_pseudo_id,
        patient_key,
        study_at,
        modality_group,
        list_position(
            ['PT', 'NM', 'XA', 'MR', 'CT', 'MG', 'RF', 'DX', 'US', 'OT', 'UNKNOWN'], modality_group
        ) AS modality_rank,
        CASE WHEN body_part_code <> 'UNKNOWN' THEN string_split(body_part_code, '+') END AS body_parts,
        laterality_code,
        has_contrast,
        contrast_code,
        CASE WHEN mado_region_code <> 'UNKNOWN' THEN string_split(mado_region_code, '+') END AS mado_regions,
        body_part_source,
        list_position(
            ['none', 'modality', 'description', 'body_part_examined', 'code'], body_part_source
        ) AS source_rank,
        confidence_code,
        list_position(['NONE', 'LOW', 'MEDIUM', 'HIGH'], confidence_code) AS confidence_rank,
        CASE WHEN conflict_code <> 'NONE' THEN string_split(conflict_code, '+') END AS conflicts,
        loinc_code,
        vocab_version,
        nullif(patient_sex, 'UNKNOWN') AS patient_sex,
        patient_age_years,
        is_patient_known,
        n_series,
        n_instances,
        study_bytes
    FROM dicom.study
),

exams AS (
    SELECT
        hospital_id,
        exam_pseudo_id,
        patient_key,
        min(study_at) AS study_at,
        arg_min(
            modality_group, coalesce(modality_rank, error('Unmapped modality group: ' || modality_group))
        ) AS modality_group,
        array_to_string(list_sort(list_distinct(flatten(list(body_parts)))), '+') AS body_part_code,
        bool_or(laterality_code IN ('L', 'B')) AS has_left,
        bool_or(laterality_code IN ('R', 'B')) AS has_right,
        bool_or(laterality_code = 'U') AS is_unpaired,
        bool_or(has_contrast) AS has_contrast,
        bool_or(contrast_code IN ('WITH', 'WITHOUT_AND_WITH')) AS is_with,
        bool_or(contrast_code IN ('WITHOUT', 'WITHOUT_AND_WITH')) AS is_without,
        array_to_string(list_sort(list_distinct(flatten(list(mado_regions)))), '+') AS mado_region_code,
        arg_min(body_part_source, source_rank) AS body_part_source,
        arg_min(confidence_code, confidence_rank) AS confidence_code,
        array_to_string(list_sort(list_distinct(flatten(list(conflicts)))), '+') AS conflict_code,
        CASE WHEN min(loinc_code) = max(loinc_code) THEN min(loinc_code) ELSE 'NONE' END AS loinc_code,
        min(vocab_version) AS vocab_version,
        min(patient_sex) AS first_sex,
        max(patient_sex) AS last_sex,
        max(patient_age_years) AS patient_age_years,
        bool_or(is_patient_known) AS is_patient_known,
        count(*) AS n_studies,
        sum(n_series) AS n_series,
        sum(n_instances) AS n_instances,
        sum(study_bytes) AS exam_bytes
    FROM studies
    GROUP BY hospital_id, exam_pseudo_id, patient_key
)

SELECT
    exams.hospital_id,
    exams.exam_pseudo_id,
    exams.patient_key,
    coalesce(hospital.region_code, 'UNKNOWN') AS region_code,
    coalesce(year(exams.study_at) * 100 + month(exams.study_at), 190001)::INTEGER AS study_month,
    exams.study_at,
    exams.modality_group,
    coalesce(nullif(exams.body_part_code, ''), 'UNKNOWN') AS body_part_code,
    CASE
        WHEN exams.has_left AND exams.has_right THEN 'B'
        WHEN exams.has_left THEN 'L'
        WHEN exams.has_right THEN 'R'
        WHEN exams.is_unpaired THEN 'U'
        ELSE 'NONE'
    END AS laterality_code,
    exams.has_contrast,
    CASE WHEN exams.first_sex = exams.last_sex THEN exams.first_sex ELSE 'UNKNOWN' END AS patient_sex,
    exams.patient_age_years,
    exams.is_patient_known,
    exams.n_studies::INTEGER AS n_studies,
    exams.n_series::INTEGER AS n_series,
    exams.n_instances::INTEGER AS n_instances,
    exams.exam_bytes::BIGINT AS exam_bytes,
    CASE
        WHEN exams.is_with AND exams.is_without THEN 'WITHOUT_AND_WITH'
        WHEN exams.is_with THEN 'WITH'
        WHEN exams.is_without THEN 'WITHOUT'
        ELSE 'UNKNOWN'
    END AS contrast_code,
    coalesce(nullif(exams.mado_region_code, ''), 'UNKNOWN') AS mado_region_code,
    exams.body_part_source,
    exams.confidence_code,
    coalesce(nullif(exams.conflict_code, ''), 'NONE') AS conflict_code,
    exams.loinc_code,
    exams.vocab_version
FROM exams
LEFT JOIN ref.hospital AS hospital ON exams.hospital_id = hospital.hospital_id
