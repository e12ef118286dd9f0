-- fail: exams with an earlier one in the same and in another hospital do not add up to all duplicates
SELECT
    window_days,
    exam_month,
    hospital_id,
    modality_group
FROM stats.duplicate_exam
GROUP BY window_days, exam_month, hospital_id, modality_group
HAVING
    sum(n_duplicates) FILTER (WHERE scope = 'any')
    <> coalesce(sum(n_duplicates) FILTER (WHERE scope <> 'any'), 0);

-- fail: more exams are counted than exam_volume has
SELECT
    duplicate_exam.window_days,
    duplicate_exam.exam_month,
    duplicate_exam.hospital_id,
    duplicate_exam.modality_group
FROM stats.duplicate_exam AS duplicate_exam
LEFT JOIN stats.exam_volume AS exam_volume
    ON
        duplicate_exam.exam_month = exam_volume.exam_month
        AND duplicate_exam.hospital_id = exam_volume.hospital_id
        AND duplicate_exam.modality_group = exam_volume.modality_group
WHERE duplicate_exam.n_exams > coalesce(exam_volume.n_exams, 0);

-- fail: more hospitals than the number of a hospital has room for
SELECT count(DISTINCT hospital_id) AS n_hospitals
FROM core.exam
HAVING count(DISTINCT hospital_id) >= 65536;

-- warn: over one hundredth of a hospital's exams cannot match, for want of a person or a body part
SELECT
    hospital_id,
    n_unmatchable,
    n_exams
FROM stats.duplicate_exam
WHERE
    window_days = 30
    AND scope = 'any'
    AND exam_month = 'all'
    AND modality_group = 'all'
    AND n_unmatchable > 0.01 * n_exams;
