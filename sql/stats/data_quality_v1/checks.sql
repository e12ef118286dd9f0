-- fail: more has a fault than was looked at
SELECT
    exam_month,
    hospital_id,
    topic_code
FROM stats.data_quality
WHERE n_failed > n_checked OR n_checked = 0;
