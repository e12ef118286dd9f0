-- fail: a report is older than its exam
SELECT
    hospital_id,
    exam_pseudo_id
FROM ref.exam_service
WHERE reported_at < performed_at;
