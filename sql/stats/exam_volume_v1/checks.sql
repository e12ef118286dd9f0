-- fail: the exams of the cells are not the exams of core.exam
WITH
cells AS (
    SELECT coalesce(sum(n_exams), 0) AS n_exams
    FROM stats.exam_volume
    WHERE exam_month <> 'all' AND hospital_id <> 'all' AND modality_group <> 'all'
),

exams AS (
    SELECT count(*) AS n_exams
    FROM core.exam
)

SELECT
    cells.n_exams,
    exams.n_exams AS n_exams_expected
FROM cells
CROSS JOIN exams
WHERE cells.n_exams <> exams.n_exams;

-- warn: exams have no date; they are counted in the month `unknown` and in no rate
SELECT
    hospital_id,
    n_exams
FROM stats.exam_volume
WHERE exam_month = 'unknown' AND hospital_id <> 'all' AND modality_group = 'all';
