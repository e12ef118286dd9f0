-- Hours from the end of an exam to its signed report (definitions.md, "Report turnaround"). An exam without a report is
-- not left out: it takes longer than any. One younger than 24 hours is not judged, with a report or without: of these
-- only the fast have one.
WITH
exams AS (
    SELECT
        hospital_id,
        reader_id,
        CASE WHEN reader_id = 'UNKNOWN' THEN 'unknown' WHEN reader_id = hospital_id THEN 'own' ELSE 'remote' END
            AS reading_place,
        date_trunc('month', performed_at + INTERVAL 8 HOUR)::DATE AS exam_month,
        reported_at IS NOT NULL AS is_reported,
        listed_at - performed_at <= INTERVAL 24 HOUR AS is_open,
        date_diff('second', performed_at, reported_at) / 3600.0 AS hours
    FROM ref.exam_service
    WHERE order_status = 'performed' AND performed_at IS NOT NULL
)

SELECT
    CASE WHEN grouping(exam_month) = 1 THEN 'all' ELSE strftime(exam_month, '%Y-%m') END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    CASE WHEN grouping(reader_id) = 1 THEN 'all' ELSE reader_id END AS reader_id,
    CASE WHEN grouping(reading_place) = 1 THEN 'all' ELSE reading_place END AS reading_place,
    count(*) AS n_exams,
    count(*) FILTER (WHERE is_reported) AS n_reported,
    count(*) FILTER (WHERE is_open) AS n_open,
    count(*) FILTER (WHERE hours <= 24 AND NOT is_open) / nullif(count(*) FILTER (WHERE NOT is_open), 0)
        AS within_24_hours_share,
    nullif(quantile_disc(coalesce(hours, 1e9), 0.5) FILTER (WHERE NOT is_open), 1e9) AS p50_hours,
    nullif(quantile_disc(coalesce(hours, 1e9), 0.9) FILTER (WHERE NOT is_open), 1e9) AS p90_hours,
    FALSE AS is_masked
FROM exams
GROUP BY cube (exam_month, hospital_id, reader_id, reading_place)
HAVING count(*) > 0
