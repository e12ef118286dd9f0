"""Order lists: what is wrong with one is told by line and never by number; what is right counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.errors import ConfigInvalid
from radlake.ingest.build import build_lake
from radlake.ingest.orders import load_orders, rows_from_orders
from radlake.lake import Lake, duck
from radlake.machine import utc_now
from radlake.vault.lake_key import lake_keys
from support.dicom import ct_study, write
from support.faults import harvest
from support.lakes import settings_of

NOW = datetime(2026, 11, 20, 4)
HEADER = "accession_number,order_status,performed_at"


def problems(text: str) -> list[str]:
    return rows_from_orders(text, hospitals={"h1", "hub"}, now=NOW)[1]


def test_a_good_list_is_read_with_times_in_utc() -> None:
    text = (
        f"{HEADER},modality,reader_id,reported_at,encounter_number,ground_codes,operation_days\n"
        "A1,performed,2026-11-02 08:30:00,DR,hub,2026-11-02T01:00:00+00:00,V7,oncology+emergency,3\n"
        "A2,cancelled,,,,,,,\n"
    )
    orders, found = rows_from_orders(text, hospitals={"h1", "hub"}, now=NOW)
    assert found == []
    first, second = orders
    assert first == {
        "accession_number": "A1",
        "order_status": "performed",
        "modality_group": "DX",
        "performed_at": datetime(2026, 11, 2, 0, 30),
        "reader_id": "hub",
        "reported_at": datetime(2026, 11, 2, 1),
        "encounter_number": "V7",
        "ground_codes": "emergency+oncology",
        "operation_days": 3,
        "evidence_source": "order",
    }
    assert (second["order_status"], second["performed_at"], second["modality_group"]) == ("cancelled", None, "UNKNOWN")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "column accession_number is missing"),
        ("accession_number,order_status\nA1,performed\n", "column performed_at is missing"),
        (f"{HEADER},patient_name\nA1,cancelled,,X\n", "column 'patient_name' is not known"),
        (f"{HEADER},order_status\nA1,cancelled,,cancelled\n", "column order_status is given twice"),
        (f"{HEADER}\n", "has no order in it"),
        (f"{HEADER}\n,cancelled,\n", "line 2: accession_number is empty"),
        (
            f"{HEADER}\nA1,cancelled,\nA2,cancelled,\nA1,cancelled,\n",
            "line 4: is of the same accession_number as line 2",
        ),
        (f"{HEADER}\nA1,done,2026-11-02 08:30:00\n", "line 2: order_status must be one of performed"),
        (f"{HEADER}\nA1,performed,\n", "line 2: is performed and has no performed_at"),
        (f"{HEADER}\nA1,performed,2.11.2026\n", "line 2: performed_at is not a time like"),
        (f"{HEADER}\nA1,performed,2026-11-02\n", "line 2: performed_at is a day without a time"),
        (f"{HEADER}\nA1,performed,2026-11-20 12:06:00\n", "line 2: performed_at is in the future"),
        (f"{HEADER}\nA1,cancelled,2026-11-02 08:30:00\n", "line 2: is not performed and has a time of it"),
        (f"{HEADER}\nA1,cancelled\n", "line 2: has not as many cells as the header"),
        (
            f"{HEADER},reported_at\nA1,performed,2026-11-02 08:30,2026-11-02 08:00\n",
            "reported_at is before performed_at",
        ),
        (f"{HEADER},reader_id\nA1,performed,2026-11-02 08:30,h9\n", "reader_id is no hospital of ref.hospital"),
        (f"{HEADER},ground_codes\nA1,cancelled,,because\n", "1 ground_codes are not in"),
        (f"{HEADER},operation_days\nA1,cancelled,,-3\n", "operation_days must be a whole number"),
    ],
)
def test_what_is_wrong_is_told_by_line(text: str, told: str) -> None:
    assert told in "\n".join(problems(text))


def test_a_time_that_has_just_passed_by_our_clock_is_allowed() -> None:
    assert problems(f"{HEADER}\nA1,performed,2026-11-20 12:04:00\n") == []


def test_all_problems_come_at_once_and_none_quotes_a_number() -> None:
    lines = "".join(f"SECRET{n},done,SECRET\n" for n in range(50))
    found = problems(f"{HEADER}\n{lines}")
    assert len(found) == 2
    assert "line 2, 3, 4" in found[0]
    assert "and more" in found[0]
    assert "SECRET" not in "".join(found)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Six exams of one hospital, harvested now; A3 has two studies."""
    settings = settings_of(tmp_path / "lake")
    for number, accession in enumerate(["A0", "A1", "A2", "A3", "A3", "A4", "A5"]):
        for ds in ct_study(n=1, study=number, accession=accession, patient_id=f"P{number}"):
            write(ds, tmp_path / "archive" / f"{number}.dcm")
    harvest(settings, tmp_path / "archive")
    return settings


def list_of(settings: Settings, *lines: str, name: str = "orders.csv") -> Path:
    path = settings.restricted / name
    path.write_text("\n".join([HEADER + ",encounter_number", *lines]) + "\n", encoding="utf-8")
    return path


def compliance(settings: Settings) -> dict:
    with duck.connect(Lake.from_settings(settings), zone="restricted") as connection:
        cursor = connection.execute("SELECT * FROM stats.upload_compliance WHERE exam_month='all' AND hospital_id='h1'")
        names = [column[0] for column in cursor.description or ()]
        rows = cursor.fetchall()
    return dict(zip(names, rows[0], strict=True)) if rows else {}


def load(settings: Settings, path: Path, now: datetime):
    return load_orders(
        Lake.from_settings(settings), path, hospital_id="h1", keys=lake_keys(settings), now=now
    )  # fmt: skip


def test_exams_that_were_never_uploaded_count_when_the_list_is_there(settings: Settings) -> None:
    now = utc_now()
    build_lake(settings, now=now)
    assert (
        compliance(settings) == {}
    )  # the exams are older than the connection of the hospital: backfill, nobody's fault
    later = now + timedelta(days=2)
    local = (now + timedelta(hours=9)).isoformat(sep=" ", timespec="seconds")  # an hour after now, in Shanghai
    path = list_of(settings, f"A0,performed,{local},V1", f"B1,performed,{local},", "B2,cancelled,,", "B3,scheduled,,")
    loaded = load(settings, path, later)
    assert (loaded.n_orders, loaded.n_performed, loaded.n_in_lake, loaded.is_new) == (4, 2, 1, True)
    build_lake(settings, now=later)
    found = compliance(settings)
    assert (found["n_exams"], found["n_due"], found["n_never_uploaded"]) == (1, 1, 1)  # A0 is backfill by its images
    assert found["denominator"] == "orders"
    with duck.connect(Lake.from_settings(settings)) as connection:
        orders = connection.execute("SELECT encounter_pseudo_id, ground_codes FROM ref.exam_order").fetchall()
    assert len(orders) == 1
    assert orders[0][0] not in (None, "V1")
    assert not load(settings, path, later).is_new


def test_a_list_in_the_lake_or_with_a_problem_loads_nothing(settings: Settings, tmp_path: Path) -> None:
    bad = list_of(settings, "A0,performed,soon,")
    with pytest.raises(ConfigInvalid, match="line 2: performed_at is not a time"):
        load(settings, bad, NOW)
    public = tmp_path / "lake" / "orders.csv"
    public.write_text(HEADER, encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="may not lie in the lake"):
        load(settings, public, NOW)
    (settings.restricted / "gb.csv").write_bytes("检查".encode("gb18030"))
    with pytest.raises(ConfigInvalid, match="is not UTF-8"):
        load(settings, settings.restricted / "gb.csv", NOW)
    assert Lake.from_settings(settings).version("ref.exam_service") is None


def test_a_corrected_list_replaces_what_it_names(settings: Settings) -> None:
    at = "2026-11-02 08:30:00"
    load(settings, list_of(settings, f"A0,performed,{at},", f"A1,performed,{at},"), NOW)
    load(settings, list_of(settings, "A0,cancelled,,"), NOW)
    with duck.connect(Lake.from_settings(settings), zone="restricted") as connection:
        rows = connection.execute(
            "SELECT order_status, count(*) FROM ref.exam_service GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert rows == [("cancelled", 1), ("performed", 1)]
