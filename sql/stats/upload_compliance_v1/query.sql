-- Uploads within 12 hours of the end of the exam (definitions.md, "Upload compliance"). An exam is complete when all of
-- its studies are. Months are those of Asia/Shanghai.
WITH
uploads AS (
    SELECT
        hospital_id,
        coalesce(exam_pseudo_id, study_instance_uid) AS exam_id,
        bool_or(exam_pseudo_id IS NOT NULL) AS is_stored,
        max(ended_at) AS ended_at,
        CASE WHEN count(*) = count(completed_at) THEN max(completed_at) END AS completed_at,
        min(connected_at) AS connected_at,
        max(observed_at) AS observed_at
    FROM ops.upload
    WHERE state <> 'withdrawn'
    GROUP BY hospital_id, coalesce(exam_pseudo_id, study_instance_uid)
),

observed AS (
    SELECT
        hospital_id,
        min(connected_at) AS connected_at,
        max(observed_at) AS observed_at
    FROM uploads
    GROUP BY hospital_id
),

-- A hospital that never sent anything is judged by its list alone: since the first exam of it.
orders AS (
    SELECT
        exam_service.hospital_id,
        exam_service.exam_pseudo_id AS exam_id,
        exam_service.performed_at,
        coalesce(
            observed.connected_at, min(exam_service.performed_at) OVER (PARTITION BY exam_service.hospital_id)
        ) AS connected_at,
        coalesce(observed.observed_at, exam_service.listed_at) AS observed_at
    FROM ref.exam_service AS exam_service
    LEFT JOIN observed ON exam_service.hospital_id = observed.hospital_id
    WHERE exam_service.order_status = 'performed' AND exam_service.performed_at IS NOT NULL
),

listed_months AS (
    SELECT DISTINCT
        hospital_id,
        date_trunc('month', performed_at + INTERVAL 8 HOUR)::DATE AS exam_month
    FROM orders
),

known AS (
    SELECT
        coalesce(uploads.hospital_id, orders.hospital_id) AS hospital_id,
        uploads.hospital_id IS NOT NULL AS is_known,
        coalesce(uploads.is_stored, FALSE) AS is_stored,
        orders.hospital_id IS NOT NULL AS is_ordered,
        coalesce(uploads.ended_at, orders.performed_at) AS ended_at,
        uploads.completed_at,
        coalesce(uploads.connected_at, orders.connected_at) AS connected_at,
        coalesce(uploads.observed_at, orders.observed_at) AS observed_at
    FROM uploads
    FULL JOIN orders
        ON uploads.hospital_id = orders.hospital_id AND uploads.exam_id = orders.exam_id
),

-- A study of which nothing is stored has no exam yet: where there is an order list, it is in there already.
exams AS (
    SELECT
        known.hospital_id,
        date_trunc('month', known.ended_at + INTERVAL 8 HOUR)::DATE AS exam_month,
        listed_months.hospital_id IS NOT NULL AS has_orders,
        known.is_known,
        date_diff('second', known.ended_at, known.completed_at) / 3600.0 AS hours,
        date_diff('second', known.ended_at, known.observed_at) / 3600.0 AS age_hours
    FROM known
    LEFT JOIN listed_months
        ON
            known.hospital_id = listed_months.hospital_id
            AND date_trunc('month', known.ended_at + INTERVAL 8 HOUR)::DATE = listed_months.exam_month
    WHERE
        known.ended_at >= known.connected_at
        AND (known.is_stored OR known.is_ordered OR listed_months.hospital_id IS NULL)
),

judged AS (
    SELECT
        hospital_id,
        exam_month,
        has_orders,
        CASE
            WHEN coalesce(hours, age_hours) < 0 THEN 'clock_ahead'
            WHEN age_hours <= 12 THEN 'pending'
            WHEN hours <= 12 THEN 'in_time'
            WHEN hours IS NOT NULL THEN 'late'
            WHEN is_known THEN 'waiting'
            ELSE 'never_uploaded'
        END AS verdict,
        coalesce(hours, age_hours) AS hours
    FROM exams
)

SELECT
    CASE WHEN grouping(exam_month) = 1 THEN 'all' ELSE strftime(exam_month, '%Y-%m') END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    count(*) AS n_exams,
    count(*) FILTER (WHERE verdict NOT IN ('clock_ahead', 'pending')) AS n_due,
    count(*) FILTER (WHERE verdict = 'in_time') AS n_in_time,
    count(*) FILTER (WHERE verdict = 'late') AS n_late,
    count(*) FILTER (WHERE verdict = 'waiting') AS n_waiting,
    count(*) FILTER (WHERE verdict = 'never_uploaded') AS n_never_uploaded,
    count(*) FILTER (WHERE verdict = 'pending') AS n_pending,
    count(*) FILTER (WHERE verdict = 'clock_ahead') AS n_clock_ahead,
    n_in_time / nullif(n_due, 0) AS in_time_share,
    quantile_disc(hours, 0.5) FILTER (WHERE verdict NOT IN ('clock_ahead', 'pending')) AS p50_hours,
    quantile_disc(hours, 0.95) FILTER (WHERE verdict NOT IN ('clock_ahead', 'pending')) AS p95_hours,
    quantile_disc(hours, 0.99) FILTER (WHERE verdict NOT IN ('clock_ahead', 'pending')) AS p99_hours,
    CASE WHEN bool_and(has_orders) THEN 'orders' WHEN bool_or(has_orders) THEN 'mixed' ELSE 'listed' END AS denominator,
    FALSE AS is_masked
FROM judged
GROUP BY cube (exam_month, hospital_id)
HAVING count(*) > 0
