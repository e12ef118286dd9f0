-- fail: an exam by ionising radiation has no row, or several
SELECT
    exam.hospital_id,
    exam.exam_pseudo_id
FROM core.exam AS exam
LEFT JOIN core.exam_dose AS exam_dose
    ON
        exam.hospital_id = exam_dose.hospital_id
        AND exam.exam_pseudo_id = exam_dose.exam_pseudo_id
        AND exam.patient_key = exam_dose.patient_key
WHERE exam.modality_group IN ('CT', 'DX', 'MG', 'NM', 'PT', 'RF', 'XA')
GROUP BY exam.hospital_id, exam.exam_pseudo_id, exam.patient_key
HAVING count(exam_dose.exam_pseudo_id) <> 1;

-- warn: dose reports hold fewer events than they state, or units that are not known
SELECT
    hospital_id,
    problem
FROM dose.report
WHERE problem IN ('events_missing', 'unknown_unit');

-- warn: dose reports were not read yet; run `radlake benefit dose read`
SELECT
    instance.hospital_id,
    instance.sop_instance_uid
FROM dicom.instance AS instance
ANTI JOIN dose.report AS report
    ON instance.hospital_id = report.hospital_id AND instance.sop_instance_uid = report.sop_instance_uid
WHERE instance.sop_class_uid IN ('1.2.840.10008.5.1.4.1.1.88.67', '1.2.840.10008.5.1.4.1.1.88.76');

-- warn: irradiation events have neither UID nor start; equal ones that come in two reports are counted once
SELECT
    hospital_id,
    irradiation_event_uid
FROM dose.irradiation_event
WHERE starts_with(irradiation_event_uid, '#') AND event_at IS NULL;
