-- Exams of each cell of stats.exam_volume.
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.exam_pseudo_id,
        core.exam.modality_group,
        core.exam.n_instances,
        core.exam.exam_bytes,
        core.exam.study_at - to_seconds(date_offset.date_offset_seconds) AS exam_at
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
)

SELECT
    hospital_id AS exam_hospital_id,
    exam_pseudo_id,
    [coalesce(strftime(exam_at, '%Y-%m'), 'unknown'), 'all'] AS exam_month,
    [hospital_id, 'all'] AS hospital_id,
    [modality_group, 'all'] AS modality_group,
    1 AS n_exams,
    n_instances,
    exam_bytes
FROM exams
