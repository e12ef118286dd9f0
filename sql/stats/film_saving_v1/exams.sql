-- Exams of each cell of stats.film_saving: of months and modalities that have a price. Sheets that were printed come
-- from the film ledgers.
WITH
exams AS (
    SELECT
        core.exam.hospital_id,
        core.exam.exam_pseudo_id,
        core.exam.modality_group,
        date_trunc('month', core.exam.study_at - to_seconds(date_offset.date_offset_seconds))::DATE AS exam_month
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
    WHERE core.exam.study_at IS NOT NULL
)

SELECT
    exams.hospital_id AS exam_hospital_id,
    exams.exam_pseudo_id,
    [strftime(exams.exam_month, '%Y-%m'), 'all'] AS exam_month,
    [exams.hospital_id, 'all'] AS hospital_id,
    [exams.modality_group, 'all'] AS modality_group,
    1 AS n_exams
FROM exams
INNER JOIN ref.price AS sheets
    ON
        sheets.item = 'sheets_per_exam'
        AND exams.modality_group = sheets.modality_group
        AND exams.exam_month BETWEEN sheets.valid_from AND coalesce(sheets.valid_to, DATE '9999-12-31')
INNER JOIN ref.price AS film
    ON
        film.item = 'film_sheet'
        AND exams.exam_month BETWEEN film.valid_from AND coalesce(film.valid_to, DATE '9999-12-31')
INNER JOIN ref.price AS cloud
    ON
        cloud.item = 'cloud_film'
        AND exams.exam_month BETWEEN cloud.valid_from AND coalesce(cloud.valid_to, DATE '9999-12-31')
