-- Exams of each cell of stats.dose.
SELECT
    exam_dose.hospital_id AS exam_hospital_id,
    exam_dose.exam_pseudo_id,
    [year(exam.study_at - to_seconds(date_offset.date_offset_seconds))::VARCHAR] AS exam_year,
    [exam_dose.hospital_id, 'all'] AS hospital_id,
    [exam_dose.modality_group] AS modality_group,
    [exam_dose.body_part_code] AS body_part_code,
    1 AS n_reported,
    exam_dose.n_events
FROM core.exam_dose AS exam_dose
INNER JOIN core.exam AS exam
    ON
        exam_dose.hospital_id = exam.hospital_id
        AND exam_dose.exam_pseudo_id = exam.exam_pseudo_id
        AND exam_dose.patient_key = exam.patient_key
INNER JOIN restricted.date_offset AS date_offset ON exam_dose.patient_key = date_offset.patient_key
WHERE exam_dose.is_adult AND exam_dose.dose_source = 'rdsr' AND exam.study_at IS NOT NULL
