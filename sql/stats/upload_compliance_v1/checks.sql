-- fail: an exam is in two classes, or in none
SELECT
    exam_month,
    hospital_id
FROM stats.upload_compliance
WHERE
    n_exams <> n_due + n_pending + n_clock_ahead
    OR n_due <> n_in_time + n_late + n_waiting + n_never_uploaded;

-- warn: exams of hospitals without an order list; those that were never uploaded are not in the denominator
SELECT
    hospital_id,
    n_exams
FROM stats.upload_compliance
WHERE exam_month = 'all' AND hospital_id <> 'all' AND denominator = 'listed';

-- warn: clocks of hospitals are ahead; such exams are not judged
SELECT
    hospital_id,
    n_clock_ahead
FROM stats.upload_compliance
WHERE exam_month = 'all' AND hospital_id <> 'all' AND n_clock_ahead > 0;

-- warn: studies without any time are in no compliance
SELECT
    hospital_id,
    count(*) AS n_studies
FROM ops.upload
WHERE ended_at IS NULL AND state <> 'withdrawn'
GROUP BY hospital_id;
