-- How long people wait for pixels that a hospital keeps (definitions.md, "Retrieval time"). One that failed is not left
-- out: it takes longer than any.
WITH
retrievals AS (
    SELECT
        hospital_id,
        date_trunc('month', asked_at + INTERVAL 8 HOUR)::DATE AS retrieval_month,
        outcome,
        CASE WHEN outcome IN ('here', 'fetched') THEN seconds ELSE 1e9 END AS waited
    FROM ops.retrieval
)

SELECT
    CASE WHEN grouping(retrieval_month) = 1 THEN 'all' ELSE strftime(retrieval_month, '%Y-%m') END AS retrieval_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    count(*) AS n_retrievals,
    count(*) FILTER (WHERE waited = 1e9) AS n_failed,
    count(*) FILTER (WHERE outcome = 'here') AS n_from_cache,
    count(*) FILTER (WHERE waited <= 3) / count(*) AS within_3_seconds_share,
    nullif(quantile_disc(waited, 0.5), 1e9) AS p50_seconds,
    nullif(quantile_disc(waited, 0.95), 1e9) AS p95_seconds,
    FALSE AS is_masked
FROM retrievals
GROUP BY cube (retrieval_month, hospital_id)
HAVING count(*) > 0
