-- fail: more failed, or came from the cache, than were asked for, or what all hospitals waited for is not their sum
SELECT
    retrieval_month,
    sum(n_retrievals) AS n_retrievals
FROM stats.retrieval
GROUP BY retrieval_month
HAVING
    bool_or(n_failed + n_from_cache > n_retrievals)
    OR sum(n_retrievals) FILTER (WHERE hospital_id = 'all') <> sum(n_retrievals) FILTER (WHERE hospital_id <> 'all');
