-- fail: more exams are reported than there are
SELECT
    exam_year,
    hospital_id,
    modality_group,
    body_part_code
FROM stats.dose
WHERE n_reported > n_exams;
