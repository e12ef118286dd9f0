"""A lake of three studies of 2009: an outpatient's, an inpatient's, one that tells nothing."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from pathlib import Path

from radlake.cli.hospitals import hospital_of_files
from radlake.config import Settings
from radlake.expiry import Expired, expire
from radlake.ingest import harvest_folder
from radlake.machine import utc_now
from radlake.retention import load_schedule
from radlake.vault.lake_key import open_ledger
from radlake.vault.trail import Reason
from support.dicom import ct_study, image_study, write
from support.lakes import settings_of

__all__ = ["REASON", "TODAY", "expired", "lake_of_2009", "write_archive"]

TODAY = date(2026, 11, 2)
REASON = Reason("Archive board", "decision 7 of 2026")


def write_archive(folder: Path) -> Path:
    studies = [
        ct_study(n=2, patient="李雷"),
        image_study("MR", n=2, patient_id="P2"),
        image_study("DX", n=1, patient_id="P3"),
    ]
    for s, study in enumerate(studies):
        for n, ds in enumerate(study):
            ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20090305"
            if s == 0:
                ds.RequestingService = "门诊" if ds.get("SpecificCharacterSet") else "OUTPATIENT"
            if s == 1:
                ds.AdmissionID = "7"
            write(ds, folder / f"{s}" / f"{n}.dcm")
    return folder


def lake_of_2009(folder: Path, archive: Path) -> Settings:
    settings = settings_of(folder)
    harvest_folder(settings, archive, hospital=hospital_of_files(settings, "h1"))
    return settings


def expired(settings: Settings, *, today: date = TODAY) -> Expired:
    with closing(open_ledger(settings)) as ledger:
        return expire(settings, ledger, schedule=load_schedule(), today=today, reason=REASON, now=utc_now())
