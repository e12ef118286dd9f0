-- fail: two prices of one item are valid on the same day
SELECT
    earlier.item,
    earlier.modality_group,
    earlier.body_part_code,
    earlier.valid_from,
    later.valid_from AS overlaps_from
FROM ref.price AS earlier
INNER JOIN ref.price AS later
    ON
        earlier.item = later.item
        AND earlier.modality_group = later.modality_group
        AND earlier.body_part_code = later.body_part_code
        AND earlier.valid_from < later.valid_from
        AND coalesce(earlier.valid_to, DATE '9999-12-31') >= later.valid_from;

-- fail: only exam and sheets_per_exam are given by modality; the prices of film and cloud film are for all
SELECT
    item,
    modality_group
FROM ref.price
WHERE (item IN ('exam', 'sheets_per_exam')) = (modality_group = 'all');

-- fail: only exam is priced by body part
SELECT
    item,
    modality_group,
    body_part_code
FROM ref.price
WHERE item <> 'exam' AND body_part_code <> 'all';

-- warn: an exam is priced by a body part that no exam of the modality has
SELECT
    price.modality_group,
    price.body_part_code
FROM ref.price AS price
ANTI JOIN core.exam AS exam
    ON price.modality_group = exam.modality_group AND price.body_part_code = exam.body_part_code
WHERE price.item = 'exam' AND price.body_part_code <> 'all';

-- fail: more sheets were left unclaimed than printed
SELECT
    hospital_id,
    film_month,
    modality_group
FROM ref.film_ledger
WHERE n_sheets_unclaimed > n_sheets_printed;

-- warn: a film ledger has months or modalities without a price; they are in no saving
SELECT
    film_ledger.hospital_id,
    film_ledger.film_month,
    film_ledger.modality_group
FROM ref.film_ledger AS film_ledger
LEFT JOIN stats.film_saving AS film_saving
    ON
        film_saving.exam_month = format('{:04d}-{:02d}', film_ledger.film_month // 100, film_ledger.film_month % 100)
        AND film_ledger.hospital_id = film_saving.hospital_id
        AND film_ledger.modality_group = film_saving.modality_group
WHERE film_saving.hospital_id IS NULL;

-- warn: CT, DX or MR exams are in months without a price; they are in no saving
SELECT
    exam_volume.exam_month,
    exam_volume.modality_group,
    exam_volume.n_exams
FROM stats.exam_volume AS exam_volume
LEFT JOIN stats.film_saving AS film_saving
    ON
        exam_volume.exam_month = film_saving.exam_month
        AND exam_volume.modality_group = film_saving.modality_group
        AND film_saving.hospital_id = 'all'
WHERE
    exam_volume.modality_group IN ('CT', 'DX', 'MR')
    AND exam_volume.hospital_id = 'all'
    AND exam_volume.exam_month NOT IN ('all', 'unknown')
    AND film_saving.exam_month IS NULL;
