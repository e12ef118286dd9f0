-- fail: an exam with a dose report has no irradiation event
SELECT
    exam_year,
    hospital_id,
    modality_group,
    body_part_code
FROM stats.dose
WHERE n_events < n_reported;
