-- Why film is still asked for (definitions.md, "Film demand"). Counts of the film desks, none of them calculated.
WITH
demand AS (
    SELECT
        try_strptime(film_month::VARCHAR, '%Y%m') AS exam_month,
        hospital_id,
        modality_group,
        reason_code,
        n_exams,
        n_sheets
    FROM ref.film_demand
)

SELECT
    CASE WHEN grouping(exam_month) = 1 THEN 'all' ELSE strftime(exam_month, '%Y-%m') END AS exam_month,
    CASE WHEN grouping(hospital_id) = 1 THEN 'all' ELSE hospital_id END AS hospital_id,
    CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
    CASE WHEN grouping(reason_code) = 1 THEN 'all' ELSE reason_code END AS reason_code,
    sum(n_exams)::BIGINT AS n_exams_asked,
    sum(n_sheets)::BIGINT AS n_sheets,
    FALSE AS is_masked
FROM demand
WHERE exam_month IS NOT NULL
GROUP BY cube (exam_month, hospital_id, modality_group, reason_code)
HAVING count(*) > 0
