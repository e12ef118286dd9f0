-- fail: repeats of a year by modality and body part do not add up to those of the year
SELECT
    exam_year,
    dose_basis
FROM stats.repeat_dose
GROUP BY exam_year, dose_basis
HAVING
    sum(n_repeats) FILTER (WHERE modality_group = 'all' AND body_part_code = 'all')
    <> sum(n_repeats) FILTER (WHERE modality_group <> 'all' AND body_part_code <> 'all');

-- fail: a dose is below its range or above it
SELECT
    exam_year,
    modality_group,
    body_part_code,
    dose_basis
FROM stats.repeat_dose
WHERE
    effective_dose_msv NOT BETWEEN effective_dose_low_msv - 1e-9 AND effective_dose_high_msv + 1e-9
    OR (dose_basis IN ('reported', 'unknown') AND effective_dose_msv IS NOT NULL);
