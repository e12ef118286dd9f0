-- fail: the exams do not hold every study, instance and byte of dicom.study
WITH
exams AS (
    SELECT
        coalesce(sum(n_studies), 0) AS n_studies,
        coalesce(sum(n_instances), 0) AS n_instances,
        coalesce(sum(exam_bytes), 0) AS n_bytes
    FROM core.exam
),

studies AS (
    SELECT
        count(*) AS n_studies,
        coalesce(sum(n_instances), 0) AS n_instances,
        coalesce(sum(study_bytes), 0) AS n_bytes
    FROM dicom.study
)

SELECT
    exams.n_studies,
    studies.n_studies AS n_studies_expected
FROM exams
CROSS JOIN studies
WHERE
    exams.n_studies <> studies.n_studies
    OR exams.n_instances <> studies.n_instances
    OR exams.n_bytes <> studies.n_bytes;

-- fail: a hospital is named `all`, the label of totals
SELECT hospital_id
FROM core.exam
WHERE hospital_id = 'all';

-- warn: exams come from a hospital that ref.hospital does not have; their region is UNKNOWN
SELECT hospital_id
FROM core.exam
WHERE region_code = 'UNKNOWN'
GROUP BY hospital_id;

-- warn: an accession number is used for several persons; each person counts as an exam
SELECT
    hospital_id,
    exam_pseudo_id
FROM core.exam
GROUP BY hospital_id, exam_pseudo_id
HAVING count(*) > 1;

-- warn: studies of one exam lie more than 30 days apart; the accession number may have been used again
SELECT
    hospital_id,
    exam_pseudo_id,
    patient_key
FROM dicom.study
GROUP BY hospital_id, exam_pseudo_id, patient_key
HAVING date_diff('day', min(study_at), max(study_at)) > 30;
