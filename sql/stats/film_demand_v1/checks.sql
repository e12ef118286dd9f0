-- fail: more sheets were asked for than the film ledger says were printed
SELECT
    film_demand.hospital_id,
    film_demand.film_month,
    film_demand.modality_group
FROM ref.film_demand AS film_demand
LEFT JOIN ref.film_ledger AS film_ledger
    ON
        film_demand.hospital_id = film_ledger.hospital_id
        AND film_demand.film_month = film_ledger.film_month
        AND film_demand.modality_group = film_ledger.modality_group
GROUP BY film_demand.hospital_id, film_demand.film_month, film_demand.modality_group
HAVING sum(film_demand.n_sheets) > coalesce(any_value(film_ledger.n_sheets_printed), 0);

-- warn: a film demand is of a month that is none; it is in no statistic
SELECT
    hospital_id,
    film_month
FROM ref.film_demand
WHERE try_strptime(film_month::VARCHAR, '%Y%m') IS NULL;

-- warn: film was asked for more exams than there were
SELECT
    film_demand.exam_month,
    film_demand.hospital_id,
    film_demand.modality_group
FROM stats.film_demand AS film_demand
LEFT JOIN stats.film_saving AS film_saving
    ON
        film_demand.exam_month = film_saving.exam_month
        AND film_demand.hospital_id = film_saving.hospital_id
        AND film_demand.modality_group = film_saving.modality_group
WHERE
    'all' NOT IN (film_demand.exam_month, film_demand.hospital_id, film_demand.modality_group)
    AND film_demand.reason_code = 'all'
    AND film_demand.n_exams_asked > coalesce(film_saving.n_exams, 0);
