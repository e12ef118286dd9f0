-- fail: the exams of the regions are not the exams of core.exam
WITH
cells AS (
    SELECT coalesce(sum(n_exams), 0) AS n_exams
    FROM stats.exam_rate
    WHERE region_code <> 'all' AND modality_group = 'all'
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

-- warn: a region and year with exams has no population; it has no rate
SELECT
    exam_year,
    region_code
FROM stats.exam_rate
WHERE n_residents IS NULL AND modality_group = 'all' AND exam_year <> 'unknown';

-- warn: more persons were examined than live in the region; its hospitals serve other regions or the year is wrong
SELECT
    exam_year,
    region_code
FROM stats.exam_rate
WHERE n_patients > n_residents AND modality_group = 'all';
