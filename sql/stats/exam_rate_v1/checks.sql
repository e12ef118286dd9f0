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

-- fail: a region became part of one that is not in ref.region, or that became part of another itself
SELECT
    earlier.region_code,
    earlier.successor_region_code
FROM ref.region AS earlier
LEFT JOIN ref.region AS later ON earlier.successor_region_code = later.region_code
WHERE earlier.successor_region_code <> 'NONE' AND coalesce(later.successor_region_code, 'unknown') <> 'NONE';

-- fail: residents are of a year in which their region was part of another already; they would count twice
SELECT
    population.region_code,
    population.year
FROM ref.population AS population
INNER JOIN ref.region AS region ON population.region_code = region.region_code
WHERE population.year > region.last_year;

-- warn: exams are of hospitals that are registered in a region that became part of another; enter its code of today
SELECT
    exam.hospital_id,
    exam.region_code
FROM core.exam AS exam
INNER JOIN ref.region AS region ON exam.region_code = region.region_code
WHERE region.successor_region_code <> 'NONE';
