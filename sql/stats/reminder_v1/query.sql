-- How often order entry is reminded, and what becomes of it (definitions.md, "Reminders").
WITH
orders AS (
    SELECT
        hospital_id,
        (order_month // 100)::VARCHAR || '-' || lpad((order_month % 100)::VARCHAR, 2, '0') AS reminder_month,
        n_orders AS n
    FROM ops.reminder_order
    WHERE hook = 'order-sign' AND verdict <> 'NOT_IMAGING'
),

events AS (
    SELECT
        hospital_id,
        reminder_month,
        n AS n_orders,
        FALSE AS is_shown,
        FALSE AS is_muted,
        'OPEN' AS answer_code,
        NULL::VARCHAR AS ground_code,
        NULL::DOUBLE AS open_seconds
    FROM orders
    UNION ALL
    SELECT
        hospital_id,
        strftime(shown_at + INTERVAL 8 HOUR, '%Y-%m') AS reminder_month,
        0 AS n_orders,
        NOT is_muted AS is_shown,
        is_muted,
        answer_code,
        ground_code,
        epoch(opened_at) - epoch(shown_at) AS open_seconds
    FROM ops.reminder
),

counted AS (
    SELECT
        CASE WHEN grouping(reminder_month) = 1 THEN 'all' ELSE reminder_month END AS reminder_month,
        CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
        sum(n_orders)::BIGINT AS n_orders,
        count(*) FILTER (WHERE is_shown) AS n_shown,
        count(*) FILTER (WHERE is_muted) AS n_muted,
        count(*) FILTER (WHERE is_shown AND answer_code = 'ACCEPTED') AS n_accepted,
        count(*) FILTER (WHERE is_shown AND answer_code = 'OVERRIDDEN') AS n_overridden,
        count(*) FILTER (WHERE is_shown AND answer_code = 'IGNORED') AS n_ignored,
        count(*) FILTER (WHERE is_shown AND open_seconds IS NOT NULL) AS n_opened,
        count(*) FILTER (WHERE is_shown AND ground_code = 'condition_changed') AS n_condition_changed,
        count(*) FILTER (WHERE is_shown AND ground_code = 'rapid_change') AS n_rapid_change,
        count(*) FILTER (WHERE is_shown AND ground_code = 'decisive_step') AS n_decisive_step,
        count(*) FILTER (WHERE is_shown AND ground_code = 'emergency') AS n_emergency,
        count(*) FILTER (WHERE is_shown AND ground_code = 'appraisal') AS n_appraisal,
        count(*) FILTER (WHERE is_shown AND ground_code = 'earlier_not_retrievable') AS n_earlier_not_retrievable,
        count(*) FILTER (WHERE is_shown AND ground_code = 'other_lawful') AS n_other_lawful,
        quantile_disc(open_seconds, 0.5) FILTER (WHERE is_shown) AS p50_open_seconds
    FROM events
    GROUP BY cube (reminder_month, hospital_id)
    HAVING count(*) > 0
)

SELECT
    reminder_month,
    hospital_id,
    n_orders,
    n_shown,
    n_muted,
    n_accepted,
    n_overridden,
    n_ignored,
    n_opened,
    n_shown / nullif(n_orders, 0) AS shown_share,
    n_accepted / nullif(n_accepted + n_overridden + n_ignored, 0) AS accepted_share,
    n_condition_changed / nullif(n_overridden, 0) AS condition_changed_share,
    n_rapid_change / nullif(n_overridden, 0) AS rapid_change_share,
    n_decisive_step / nullif(n_overridden, 0) AS decisive_step_share,
    n_emergency / nullif(n_overridden, 0) AS emergency_share,
    n_appraisal / nullif(n_overridden, 0) AS appraisal_share,
    n_earlier_not_retrievable / nullif(n_overridden, 0) AS earlier_not_retrievable_share,
    n_other_lawful / nullif(n_overridden, 0) AS other_lawful_share,
    p50_open_seconds,
    FALSE AS is_masked
FROM counted
