"""SQL that lays out the exams of a range of persons, step by step; `sequence` says which exams, and where they go.

Exams that state left or right stand in a track of their own side, and those without a side in all tracks, so that the
row before an exam is always the latest earlier exam of a compatible side.
"""

from __future__ import annotations

from radlake.stats.duplicates.packs import Windows

__all__ = ["DAYS", "EXAM", "KNOWN", "ORDERS", "PERIODS", "SHIFTED", "SUPPLEMENTARY", "sequence_sql"]


def sequence_sql(windows: Windows) -> str:
    """The rows of core.exam_sequence, from the tables that the other statements make."""
    before, after = (
        " + ".join(f"({days} >= {window})::INTEGER" for window in windows.days)
        for days in ("days_before", "days_after")
    )
    return _SEQUENCE.format(before=before, after=after)


SHIFTED = """
CREATE TABLE shifted AS
SELECT patient_key, person_key, hospital_id, exam_pseudo_id, study_at, modality_group, body_part_code, laterality_code,
    is_patient_known
FROM {exams}
WHERE study_at IS NOT NULL
"""

EXAM = """
CREATE TABLE exam AS
SELECT
    shifted.person_key AS patient_key,
    shifted.patient_key AS own_key,
    shifted.hospital_id,
    shifted.exam_pseudo_id,
    site.code AS site_code,
    place.code AS place_number,
    shifted.study_at - to_seconds(offsets.seconds) AS exam_at,
    exam_at::DATE AS exam_date,
    modality.code AS modality_code,
    body_part.code AS body_part,
    (CASE shifted.laterality_code WHEN 'L' THEN 1 WHEN 'R' THEN 2 WHEN 'B' THEN 3 ELSE 0 END)::SMALLINT AS side_code,
    shifted.is_patient_known AND shifted.body_part_code <> 'UNKNOWN' AS is_told
FROM shifted
INNER JOIN offsets ON shifted.patient_key = offsets.patient_key
INNER JOIN codes AS site ON site.code_kind = 'site' AND site.label = shifted.hospital_id
INNER JOIN codes AS place
    ON place.code_kind = 'place' AND place.region_code = site.region_code AND place.hospital_level = site.hospital_level
INNER JOIN codes AS modality ON modality.code_kind = 'modality' AND modality.label = shifted.modality_group
INNER JOIN codes AS body_part ON body_part.code_kind = 'body_part' AND body_part.label = shifted.body_part_code
"""

DAYS = "SELECT site_code, exam_date, count(*) AS n FROM exam GROUP BY ALL"

PERIODS = """
WITH days AS (SELECT site_code, exam_date, sum(n) AS n FROM counts GROUP BY ALL),
running AS (
    SELECT site_code, exam_date, sum(n) OVER (PARTITION BY site_code ORDER BY exam_date) AS n_until,
        sum(n) OVER (PARTITION BY site_code) AS n_all
    FROM days
)
SELECT site_code,
    min(exam_date) FILTER (WHERE n_until >= 0.001 * n_all) AS first_date,
    min(exam_date) FILTER (WHERE n_until >= 0.999 * n_all) AS last_date
FROM running
GROUP BY site_code
"""

ORDERS = """
CREATE TABLE exam_order AS
SELECT
    orders.hospital_id,
    orders.exam_pseudo_id,
    orders.patient_key AS own_key,
    CASE WHEN orders.encounter_pseudo_id IS NULL THEN 0
        ELSE hash(orders.hospital_id, orders.encounter_pseudo_id) % 2147483646 + 1 END::INTEGER AS encounter_code,
    grounds.bits AS ground_bits,
    coalesce(orders.operation_days, -1) AS operation_days
FROM {orders} AS orders
INNER JOIN grounds ON orders.ground_codes = grounds.ground_codes
"""

# Persons, and the groups of a person's exams in which left and right occur.
KNOWN = """
CREATE TABLE person AS
SELECT patient_key, min(exam_date) AS first_date, count(*) > {max_person_exams} AS is_shared
FROM exam GROUP BY patient_key;
CREATE TABLE known AS
SELECT exam.*, exam.rowid AS row_number, person.first_date AS person_date, is_told AND NOT is_shared AS is_matchable
FROM exam INNER JOIN person USING (patient_key);
DROP TABLE exam;
CREATE TABLE two_sided AS
SELECT patient_key, modality_code, body_part
FROM known
WHERE side_code IN (1, 2) AND is_matchable
GROUP BY ALL
HAVING min(side_code) < max(side_code)
"""

SUPPLEMENTARY = """
CREATE TABLE supplementary AS
WITH several AS (
    SELECT patient_key, body_part
    FROM known WHERE is_matchable
    GROUP BY ALL
    HAVING min(modality_code) < max(modality_code)
),
candidates AS (SELECT known.* FROM known SEMI JOIN several USING (patient_key, body_part) WHERE is_matchable)
SELECT later.row_number, min(later.exam_date - earlier.exam_date) AS days
FROM candidates AS later
INNER JOIN candidates AS earlier
    ON later.patient_key = earlier.patient_key
    AND later.body_part = earlier.body_part
    AND later.modality_code <> earlier.modality_code
    AND earlier.exam_at < later.exam_at
    AND NOT (later.side_code = 1 AND earlier.side_code = 2)
    AND NOT (later.side_code = 2 AND earlier.side_code = 1)
GROUP BY later.row_number
"""

_SEQUENCE = """
WITH tracked AS (
    SELECT
        known.*,
        known.modality_code * 65536 + known.body_part * 4 AS kind,
        CASE
            WHEN NOT is_matchable THEN [3]
            WHEN two_sided.patient_key IS NULL THEN [0]
            WHEN side_code = 1 THEN [1, 0]
            WHEN side_code = 2 THEN [2, 0]
            ELSE [0, 1, 2]
        END AS tracks
    FROM known
    LEFT JOIN two_sided USING (patient_key, modality_code, body_part)
),
laid AS (
    SELECT tracked.* EXCLUDE (tracks), tracks[1] AS track, TRUE AS is_counted FROM tracked
    UNION ALL
    SELECT tracked.* EXCLUDE (tracks), unnest(tracks[2:]) AS track, FALSE AS is_counted
    FROM tracked WHERE len(tracks) > 1
),
sizes AS (
    SELECT
        count(*) FILTER (WHERE code_kind = 'month') AS n_months,
        count(*) FILTER (WHERE code_kind = 'place') AS n_places,
        count(*) FILTER (WHERE code_kind = 'modality') AS n_modalities
    FROM codes
),
months AS (SELECT code AS month_number, label::INTEGER AS exam_month FROM codes WHERE code_kind = 'month'),
placed AS (
    SELECT
        laid.*,
        (year(exam_date) * 100 + month(exam_date))::INTEGER AS exam_month,
        CASE WHEN NOT is_counted THEN 2 WHEN track = 3 THEN 1 ELSE 0 END AS status,
        CASE WHEN exam_date <= last_date THEN exam_date - periods.first_date ELSE -1 END AS days_before,
        CASE WHEN exam_date >= periods.first_date THEN last_date - exam_date ELSE -1 END AS days_after
    FROM laid
    INNER JOIN periods USING (site_code)
)
SELECT
    placed.patient_key,
    (placed.kind + placed.track)::INTEGER AS exam_code,
    (placed.exam_date - placed.person_date)::INTEGER AS person_day,
    (epoch_us(placed.exam_at) // 1000000 - epoch(placed.exam_date))::INTEGER AS day_second,
    placed.exam_month,
    placed.site_code,
    placed.is_counted,
    placed.side_code,
    ({before})::SMALLINT AS n_windows_before,
    ({after})::SMALLINT AS n_windows_after,
    coalesce(exam_order.encounter_code, 0)::INTEGER AS encounter_code,
    coalesce(exam_order.ground_bits, 0)::INTEGER AS ground_bits,
    coalesce(exam_order.operation_days, -1)::SMALLINT AS operation_days,
    coalesce(supplementary.days, -1)::INTEGER AS supplementary_days,
    CASE WHEN months.month_number IS NULL THEN error('an exam lies in a month that has no number')
        ELSE ((placed.status * n_months + months.month_number) * n_places + placed.place_number) * n_modalities
            + placed.modality_code
    END::INTEGER AS cell_code
FROM placed
CROSS JOIN sizes
LEFT JOIN months USING (exam_month)
LEFT JOIN exam_order USING (hospital_id, exam_pseudo_id, own_key)
LEFT JOIN supplementary USING (row_number)
"""
