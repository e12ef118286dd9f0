-- Adults whose effective dose of 5 years reaches 100 mSv (definitions.md, "Cumulative dose"): the estimates of
-- core.exam_dose added up over the true calendar and the linked person, looking back from each exam.
WITH
exams AS (
    SELECT
        date_offset.person_key,
        (exam.study_at - to_seconds(date_offset.date_offset_seconds))::DATE AS exam_date,
        year(exam_date) AS exam_year,
        exam.patient_age_years AS age_years,
        exam_dose.effective_dose_method,
        coalesce(exam_dose.effective_dose_msv, 0) AS dose_msv,
        coalesce(exam_dose.effective_dose_low_msv, 0) AS low_msv,
        coalesce(exam_dose.effective_dose_high_msv, 0) AS high_msv,
        CASE WHEN exam_dose.effective_dose_method IN ('dlp', 'agd') THEN dose_msv ELSE 0 END AS reported_msv
    FROM core.exam_dose AS exam_dose
    INNER JOIN core.exam AS exam
        ON
            exam_dose.hospital_id = exam.hospital_id
            AND exam_dose.exam_pseudo_id = exam.exam_pseudo_id
            AND exam_dose.patient_key = exam.patient_key
    INNER JOIN restricted.date_offset AS date_offset ON exam_dose.patient_key = date_offset.patient_key
    WHERE exam_dose.is_adult AND exam.is_patient_known AND exam.study_at IS NOT NULL
),

-- A number with more exams is none of a person: many share it.
persons AS (
    SELECT
        person_key,
        fsum(high_msv) >= 100 AS may_reach
    FROM exams
    GROUP BY person_key
    HAVING count(*) <= 1000
),

-- Only of persons who can reach it at all are the exams put in order.
looked_back AS (
    SELECT
        exams.person_key,
        exams.exam_year,
        sum(exams.dose_msv) OVER five_years AS dose_msv,
        sum(exams.low_msv) OVER five_years AS low_msv,
        sum(exams.high_msv) OVER five_years AS high_msv,
        sum(exams.reported_msv) OVER five_years AS reported_msv
    FROM exams
    INNER JOIN persons ON exams.person_key = persons.person_key
    WHERE persons.may_reach
    WINDOW five_years AS (
        PARTITION BY exams.person_key
        ORDER BY exams.exam_date
        RANGE BETWEEN INTERVAL 5 YEARS PRECEDING AND CURRENT ROW
    )
),

-- Nine digits: what adds up to 100 reaches it, whatever binary fractions make of it.
largest AS (
    SELECT
        person_key,
        exam_year,
        round(max(dose_msv), 9) >= 100 AS has_reached,
        round(max(low_msv), 9) >= 100 AS has_reached_low,
        round(max(high_msv), 9) >= 100 AS has_reached_high,
        round(max(reported_msv), 9) >= 100 AS has_reached_reported
    FROM looked_back
    GROUP BY person_key, exam_year
),

years AS (
    SELECT
        exams.person_key,
        exams.exam_year,
        max(exams.age_years) AS age_years,
        bool_or(exams.effective_dose_method = 'none') AS is_unestimated,
        fsum(exams.dose_msv) AS dose_msv,
        fsum(exams.dose_msv - exams.reported_msv) AS typical_msv
    FROM exams
    INNER JOIN persons ON exams.person_key = persons.person_key
    GROUP BY exams.person_key, exams.exam_year
),

judged AS (
    SELECT
        years.exam_year,
        CASE
            WHEN years.age_years < 40 THEN '18-39'
            WHEN years.age_years < 60 THEN '40-59'
            ELSE '60+'
        END AS age_group,
        years.is_unestimated,
        years.dose_msv,
        years.typical_msv,
        coalesce(largest.has_reached, FALSE) AS has_reached,
        coalesce(largest.has_reached_low, FALSE) AS has_reached_low,
        coalesce(largest.has_reached_high, FALSE) AS has_reached_high,
        coalesce(largest.has_reached_reported, FALSE) AS has_reached_reported
    FROM years
    LEFT JOIN largest ON years.person_key = largest.person_key AND years.exam_year = largest.exam_year
),

observed AS (
    SELECT
        exam_year,
        max(exam_date) AS last_date
    FROM exams
    GROUP BY exam_year
),

-- The day by which one exam in a thousand was done: a wrong clock does not make the lake older.
first_day AS (
    SELECT quantile_disc(exam_date, 0.001) AS first_date
    FROM exams
)

SELECT
    judged.exam_year::VARCHAR AS exam_year,
    CASE WHEN grouping(judged.age_group) = 1 THEN 'all' ELSE judged.age_group END AS age_group,
    count(*) AS n_persons,
    count(*) FILTER (WHERE judged.is_unestimated) AS n_unestimated,
    count(*) FILTER (WHERE judged.has_reached) AS n_reached,
    count(*) FILTER (WHERE judged.has_reached_low) AS n_reached_low,
    count(*) FILTER (WHERE judged.has_reached_high) AS n_reached_high,
    count(*) FILTER (WHERE judged.has_reached_reported) AS n_reached_reported,
    fsum(judged.typical_msv) / nullif(fsum(judged.dose_msv), 0) AS typical_dose_share,
    fsum(judged.dose_msv) AS effective_dose_msv,
    least(
        observed.last_date - first_day.first_date + 1,
        observed.last_date - (observed.last_date - INTERVAL 5 YEARS)::DATE
    )::SMALLINT AS n_lookback_days,
    FALSE AS is_masked
FROM judged
INNER JOIN observed ON judged.exam_year = observed.exam_year
CROSS JOIN first_day
GROUP BY judged.exam_year, observed.last_date, first_day.first_date, cube (judged.age_group)
