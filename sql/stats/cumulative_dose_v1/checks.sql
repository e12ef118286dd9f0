-- fail: ages of a year do not add up to the year
SELECT exam_year
FROM stats.cumulative_dose
GROUP BY exam_year
HAVING
    sum(n_persons) FILTER (WHERE age_group = 'all') <> sum(n_persons) FILTER (WHERE age_group <> 'all')
    OR sum(n_reached) FILTER (WHERE age_group = 'all') <> sum(n_reached) FILTER (WHERE age_group <> 'all');

-- fail: more persons reach it with less
SELECT
    exam_year,
    age_group
FROM stats.cumulative_dose
WHERE
    n_reached_low > n_reached
    OR n_reached > n_reached_high
    OR n_reached_reported > n_reached
    OR n_reached_high > n_persons
    OR n_unestimated > n_persons;
