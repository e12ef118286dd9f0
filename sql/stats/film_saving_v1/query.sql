-- What cloud film saves against printing (definitions.md, "Film saving"). Money is integer fen, never floating point.
-- A modality is a film modality in a month when ref.price has its sheets_per_exam then.
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.modality_group,
        date_trunc('month', core.exam.study_at - to_seconds(date_offset.date_offset_seconds))::DATE AS exam_month,
        count(*) AS n_exams
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
    WHERE core.exam.study_at IS NOT NULL
    GROUP BY ALL
),

facts AS (
    SELECT
        exam_month,
        hospital_id,
        modality_group,
        n_exams,
        0 AS n_printed,
        0 AS n_unclaimed
    FROM exams
    UNION ALL
    SELECT
        try_strptime(film_month::VARCHAR, '%Y%m')::DATE AS exam_month,
        hospital_id,
        modality_group,
        0 AS n_exams,
        n_sheets_printed AS n_printed,
        n_sheets_unclaimed AS n_unclaimed
    FROM ref.film_ledger
),

cells AS (
    SELECT
        facts.exam_month,
        facts.hospital_id,
        facts.modality_group,
        sum(facts.n_exams) AS n_exams,
        sum(facts.n_exams * sheets.price_fen - facts.n_printed) AS n_sheets_avoided,
        sum(facts.n_exams * sheets.price_fen * film.price_fen) AS film_cost_fen,
        sum(facts.n_exams * cloud.price_fen) AS cloud_cost_fen,
        sum(facts.n_printed * film.price_fen) AS printed_cost_fen,
        sum(facts.n_unclaimed * film.price_fen) AS unclaimed_cost_fen
    FROM facts
    INNER JOIN ref.price AS sheets
        ON
            sheets.item = 'sheets_per_exam'
            AND facts.modality_group = sheets.modality_group
            AND facts.exam_month BETWEEN sheets.valid_from AND coalesce(sheets.valid_to, DATE '9999-12-31')
    INNER JOIN ref.price AS film
        ON
            film.item = 'film_sheet'
            AND facts.exam_month BETWEEN film.valid_from AND coalesce(film.valid_to, DATE '9999-12-31')
    INNER JOIN ref.price AS cloud
        ON
            cloud.item = 'cloud_film'
            AND facts.exam_month BETWEEN cloud.valid_from AND coalesce(cloud.valid_to, DATE '9999-12-31')
    GROUP BY facts.exam_month, facts.hospital_id, facts.modality_group
)

SELECT
    CASE WHEN grouping(exam_month) = 1 THEN 'all' ELSE strftime(exam_month, '%Y-%m') END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
    sum(n_exams)::BIGINT AS n_exams,
    sum(n_sheets_avoided)::BIGINT AS n_sheets_avoided,
    sum(film_cost_fen)::BIGINT AS film_cost_fen,
    sum(cloud_cost_fen)::BIGINT AS cloud_cost_fen,
    sum(printed_cost_fen)::BIGINT AS printed_cost_fen,
    sum(unclaimed_cost_fen)::BIGINT AS unclaimed_cost_fen,
    sum(film_cost_fen - printed_cost_fen)::BIGINT AS gross_saving_fen,
    sum(film_cost_fen - cloud_cost_fen - printed_cost_fen)::BIGINT AS net_saving_fen,
    FALSE AS is_masked
FROM cells
GROUP BY cube (exam_month, hospital_id, modality_group)
HAVING count(*) > 0
