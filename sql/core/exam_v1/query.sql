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
    exams.exam_bytes::BIGINT AS exam_bytes
FROM exams
LEFT JOIN ref.hospital AS hospital ON exams.hospital_id = hospital.hospital_id
