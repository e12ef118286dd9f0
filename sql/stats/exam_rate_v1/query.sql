-- Persons examined per 1,000 residents (definitions.md, "Exam rate"): the region is that of the hospital.
-- Limits: Byar's approximation to the 95 % Poisson limits of the number of persons.
WITH
exams AS (
    SELECT
        date_offset.person_key AS patient_key,
        core.exam.modality_group,
        CASE
            WHEN core.exam.region_code = 'UNKNOWN' THEN 'UNKNOWN'
            ELSE left(core.exam.region_code, 4) || '00'
        END AS region_code,
        (core.exam.study_at - to_seconds(date_offset.date_offset_seconds))::DATE AS exam_date
    FROM core.exam
    INNER JOIN restricted.date_offset AS date_offset ON core.exam.patient_key = date_offset.patient_key
),

periods AS (
    SELECT
        region_code,
        min(exam_date) AS first_date,
        max(exam_date) AS last_date
    FROM exams
    GROUP BY region_code
),

-- In the boundaries of today: a region that became part of another has its residents there, in every year.
residents AS (
    SELECT
        population.year,
        coalesce(nullif(region.successor_region_code, 'NONE'), population.region_code) AS region_code,
        population.n_residents
    FROM ref.population AS population
    LEFT JOIN ref.region AS region ON population.region_code = region.region_code
),

-- A figure of the prefecture itself wins over the sum of its counties.
populations AS (
    SELECT
        year::BIGINT AS exam_year,
        left(region_code, 4) || '00' AS region_code,
        coalesce(sum(n_residents) FILTER (WHERE region_code LIKE '____00'), sum(n_residents)) AS n_residents
    FROM residents
    GROUP BY ALL
),

persons AS (
    SELECT
        year(exam_date) AS exam_year,
        region_code,
        modality_group,
        patient_key,
        count(*) AS n_exams
    FROM exams
    GROUP BY ALL
),

cells AS (
    SELECT
        exam_year,
        region_code,
        CASE WHEN grouping(modality_group) = 1 THEN 'all' ELSE modality_group END AS modality_group,
        sum(n_exams) AS n_exams,
        count(DISTINCT patient_key) AS n_patients
    FROM persons
    GROUP BY exam_year, region_code, cube (modality_group)
),

regions AS (
    SELECT
        cells.exam_year,
        cells.region_code,
        populations.n_residents,
        least(periods.last_date, make_date(cells.exam_year, 12, 31))
        - greatest(periods.first_date, make_date(cells.exam_year, 1, 1)) + 1 AS n_observed_days
    FROM cells
    INNER JOIN periods ON cells.region_code = periods.region_code
    LEFT JOIN populations
        ON cells.exam_year = populations.exam_year AND cells.region_code = populations.region_code
    WHERE cells.modality_group = 'all'
),

province AS (
    SELECT
        exam_year,
        sum(n_residents) AS n_residents,
        max(n_observed_days) AS n_observed_days
    FROM regions
    WHERE n_residents IS NOT NULL
    GROUP BY exam_year
),

province_cells AS (
    SELECT
        persons.exam_year,
        CASE WHEN grouping(persons.modality_group) = 1 THEN 'all' ELSE persons.modality_group END AS modality_group,
        sum(persons.n_exams) AS n_exams,
        count(DISTINCT persons.patient_key) AS n_patients
    FROM persons
    INNER JOIN regions
        ON
            persons.exam_year = regions.exam_year
            AND persons.region_code = regions.region_code
            AND regions.n_residents IS NOT NULL
    GROUP BY persons.exam_year, cube (persons.modality_group)
),

rated AS (
    SELECT
        cells.exam_year,
        cells.region_code,
        cells.modality_group,
        cells.n_exams,
        cells.n_patients,
        nullif(regions.n_residents, 0) AS n_residents,
        regions.n_observed_days
    FROM cells
    LEFT JOIN regions ON cells.exam_year = regions.exam_year AND cells.region_code = regions.region_code
    UNION ALL
    SELECT
        province_cells.exam_year,
        'all' AS region_code,
        province_cells.modality_group,
        province_cells.n_exams,
        province_cells.n_patients,
        nullif(province.n_residents, 0) AS n_residents,
        province.n_observed_days
    FROM province_cells
    INNER JOIN province ON province_cells.exam_year = province.exam_year
)

SELECT
    coalesce(exam_year::VARCHAR, 'unknown') AS exam_year,
    region_code,
    modality_group,
    n_exams::BIGINT AS n_exams,
    n_patients,
    n_residents::BIGINT AS n_residents,
    n_observed_days::SMALLINT AS n_observed_days,
    1000.0 * n_patients / n_residents AS rate_per_1000,
    1000.0 * n_patients * pow(1 - 1 / (9.0 * n_patients) - 1.959963984540054 / (3 * sqrt(n_patients)), 3)
    / n_residents AS rate_low,
    1000.0 * (n_patients + 1)
    * pow(1 - 1 / (9.0 * (n_patients + 1)) + 1.959963984540054 / (3 * sqrt(n_patients + 1)), 3)
    / n_residents AS rate_high,
    FALSE AS is_masked
FROM rated
