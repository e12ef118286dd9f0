"""A number on a screen, walked back to the pixels and the harvest; and a lake that somebody changed is told."""

from __future__ import annotations

import html
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import duckdb
import httpx
import pytest

from radlake.config import Settings
from radlake.contracts import load_table
from radlake.epidemiology.definition import load_measure
from radlake.epidemiology.release import release_measures
from radlake.ingest.build import build_lake
from radlake.ingest.duplicates import build_repeats
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake, duck
from radlake.lineage.listed import listed_exams
from radlake.lineage.number import CellMasked, NumberInvalid, SnapshotGone
from radlake.lineage.trace import trace
from radlake.machine import utc_now
from radlake.stats.policy import load_policy
from radlake.web.access import Access, Role
from radlake.web.server import app_of
from support.dicom import ct_study, image_study, write
from support.faults import harvest
from support.lakes import settings_of
from support.webserver import running

N_PERSONS = 7
VOLUME = "stats.exam_volume/n_exams"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven persons with a CT of two instances each, the first of them twice; one of them also an MR."""
    folder = tmp_path_factory.mktemp("trace")
    given = [{"patient_id": f"P{n}", "patient": f"Person^{n}"} for n in range(N_PERSONS)]
    again = given[0] | {"study_date": "20260420"}
    studies = [ct_study(n=2, study=n, accession=f"A{n}", **one) for n, one in enumerate([*given, again])]
    studies.append(image_study("MR", study=99, accession="A99", **given[1]))
    for number, study in enumerate(studies):
        for place, ds in enumerate(study):
            write(ds, folder / "archive" / f"{number}" / f"{place}.dcm")
    settings = settings_of(folder / "lake")
    harvest(settings, folder / "archive")
    build_lake(settings, now=utc_now())
    build_repeats(settings, now=utc_now())
    return folder / "lake"


@pytest.fixture
def settings(original: Path, tmp_path: Path) -> Settings:
    """A copy of the lake: every test may change its own."""
    shutil.copytree(original, tmp_path / "lake")
    return Settings(lake=str(tmp_path / "lake"), workers=0)


def changed(settings: Settings, table: str, sql: str) -> None:
    """Change the one Parquet file of a table behind the back of its log; `sql` selects from `it`."""
    files = Lake.from_settings(settings).tables.files(table)
    for file in files:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE it AS FROM read_parquet('{file}', hive_partitioning = false)")
            connection.execute(f"COPY ({sql}) TO '{file}' (FORMAT parquet)")


def test_a_number_leads_to_its_query_snapshot_exams_objects_and_events(settings: Settings) -> None:
    found = trace(settings, VOLUME, limit=100)
    assert str(found.number) == "stats.exam_volume_v1@1/exam_month=all/hospital_id=all/modality_group=all/n_exams"
    assert found.value == N_PERSONS + 2
    assert found.problems == ()
    assert [step.build.table.view_name for step in found.steps] == ["stats.exam_volume", "core.exam"]
    assert all(step.rerun and step.rerun.is_equal for step in found.steps)
    assert "FROM person_cells" in found.steps[0].build.query
    assert found.steps[1].build.inputs["dicom.study"] == Lake.from_settings(settings).tables.version("dicom.study")
    assert found.counted
    assert (found.counted.n_exams, found.counted.total) == (N_PERSONS + 2, N_PERSONS + 2)
    with duck.connect(Lake.from_settings(settings)) as connection:
        rows = connection.execute("SELECT DISTINCT object_path FROM dicom.instance").fetchall()
    objects = {one.path for exam in found.exams for study in exam.studies for one in study.objects}
    assert objects == {path for (path,) in rows}
    events = [[event.what for event in study.events] for exam in found.exams for study in exam.studies]
    assert len(events) == N_PERSONS + 2
    assert all(one[0] == "discover" and one[-1] == "settle" for one in events)


def test_every_shown_number_of_the_fixed_tables_is_traced_to_exams_that_add_up(settings: Settings) -> None:
    """`exams.sql` of every table says by another formulation what `query.sql` counts."""
    lake = Lake.from_settings(settings)
    n_sums = 0
    for name in ("exam_volume", "duplicate_exam", "film_saving", "exam_rate"):
        with duck.connect(lake) as connection:
            cursor = connection.execute(f"SELECT * FROM stats.{name} WHERE NOT is_masked")
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        for row in rows[:6]:
            key = "/".join(f"{column}={row[column]}" for column in load_table(f"stats.{name}").key)
            found = trace(settings, f"stats.{name}/{key}/n_exams", limit=0)
            assert found.problems == ()
            n_sums += found.counted is not None and found.counted.total == row["n_exams"] > 0
    assert n_sums == 5


def test_a_number_of_a_measure_is_counted_again(settings: Settings) -> None:
    lake, measure = Lake.from_settings(settings), load_measure(Path("chest_ct_exams"))
    release_measures(
        lake,
        [measure],
        date_offsets=date_offsets(settings),
        policy=load_policy("internal"),
        now=utc_now().replace(tzinfo=None),
    )
    with duck.connect(lake) as connection:
        years = connection.execute(
            "SELECT exam_year, region_code, n_exams FROM stats.measure WHERE NOT is_masked AND n_exams > 0"
        ).fetchall()
    assert years
    for year, region, n_exams in years:
        name = f"stats.measure/measure_id={measure.measure_id}/exam_year={year}/region_code={region}/n_exams"
        found = trace(settings, name, limit=1)
        assert found.problems == ()
        assert found.value == n_exams
        assert found.counted
        assert found.counted.total == n_exams
        assert found.exams[0].studies[0].objects
    changed(settings, "stats.measure", "SELECT * REPLACE (n_exams + 1 AS n_exams) FROM it")
    assert "is not what its query gives" in "".join(trace(settings, name, limit=0).problems)


def test_a_repeat_rate_is_counted_again(settings: Settings) -> None:
    with duck.connect(Lake.from_settings(settings), zone="restricted") as connection:
        row = connection.execute("SELECT * FROM stats.repeat_rate WHERE n_exams > 0 LIMIT 1").fetchall()[0]
    key = f"rule_pack={row[0]}/window_days={row[1]}/exam_month={row[2]}/hospital_id={row[5]}/modality_group={row[6]}"
    found = trace(settings, f"stats.repeat_rate/{key}/n_exams", limit=0)
    assert found.problems == ()
    assert [step.build.table.view_name for step in found.steps] == [
        "stats.repeat_rate",
        "core.exam_sequence",
        "core.exam",
    ]
    assert found.steps[0].rerun
    assert found.steps[0].rerun.is_equal


def flip_a_byte(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    path = Path(lake.url) / "objects" / next(iter(lake.objects.list()))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_an_event(settings: Settings) -> None:
    with sqlite3.connect(settings.restricted / "ledger.db") as connection:
        connection.execute("UPDATE study_event SET reason = 'it was so' WHERE seq = 1")


def change_a_row_of_the_ledger(settings: Settings) -> None:
    with sqlite3.connect(settings.restricted / "ledger.db") as connection:
        connection.execute("UPDATE study SET n_expected = 1")


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (
            lambda s: changed(s, "stats.exam_volume", "SELECT * REPLACE (n_exams + 1 AS n_exams) FROM it"),
            "stats.exam_volume_v1 version 1 is not what its query gives",
        ),
        (
            lambda s: changed(s, "core.exam", "FROM it WHERE modality_group <> 'MR'"),
            "core.exam_v1 version 1 is not what its query gives: 1 rows differ",
        ),
        (
            lambda s: changed(s, "dicom.study", "SELECT * REPLACE ('MR' AS modality_group) FROM it"),
            "core.exam_v1 version 1 is not what its query gives",
        ),
        (lambda s: changed(s, "dicom.instance", "FROM it LIMIT 1"), "stored instances are not catalogued"),
        (flip_a_byte, "the bytes of 1 instances are gone or were changed"),
        (change_an_event, "event 1 of the ledger was changed"),
        (change_a_row_of_the_ledger, "is not as event"),
    ],
    ids=["statistic", "exam", "study", "catalogue", "pixels", "event", "ledger"],
)
def test_a_lake_that_somebody_changed_is_told(
    settings: Settings, tamper: Callable[[Settings], None], told: str
) -> None:
    assert trace(settings, VOLUME, limit=100).problems == ()
    tamper(settings)
    assert told in "\n".join(trace(settings, VOLUME, limit=100).problems)


def test_a_withheld_cell_leads_nowhere(settings: Settings) -> None:
    with pytest.raises(CellMasked):
        trace(settings, "stats.exam_volume/modality_group=MR/n_exams", limit=1)


def test_exams_of_a_number_are_listed_as_the_lake_knows_them(settings: Settings) -> None:
    found = listed_exams(settings, VOLUME, limit=4)
    assert (found.n_exams, found.value, len(found.exams)) == (N_PERSONS + 2, N_PERSONS + 2, 4)
    names = tuple(found.exams[0])
    with duck.connect(Lake.from_settings(settings)) as connection:
        known = connection.execute(
            f"SELECT {', '.join(names)} FROM core.exam ORDER BY hospital_id, exam_pseudo_id"
        ).fetchall()
    assert [tuple(exam.values()) for exam in found.exams] == known[:4]
    with pytest.raises(CellMasked):
        listed_exams(settings, "stats.exam_volume/modality_group=MR/n_exams", limit=4)


def test_exams_are_never_listed_beside_their_true_month(settings: Settings) -> None:
    """Their dates are shifted: the month would tell by how much."""
    for period in ("stats.exam_volume/exam_month=2026-03", "stats.exam_rate/exam_year=2026/region_code=320100"):
        with pytest.raises(NumberInvalid, match="the true month"):
            listed_exams(settings, f"{period}/n_exams", limit=4)


def test_an_old_snapshot_is_traced_until_it_is_vacuumed(settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    changed(settings, "ref.hospital", "SELECT * REPLACE ('320100' AS region_code) FROM it")
    build_lake(settings, now=utc_now())
    old = trace(settings, "stats.exam_volume@1/n_exams", limit=0)
    assert old.value == N_PERSONS + 2
    lake.tables.vacuum("stats.exam_volume", retention=timedelta(0))
    with pytest.raises(SnapshotGone, match="files were deleted"):
        trace(settings, "stats.exam_volume@1/n_exams", limit=0)
    assert trace(settings, VOLUME, limit=0).value == N_PERSONS + 2
    with pytest.raises(SnapshotGone, match="there never was"):
        trace(settings, "stats.exam_volume@99/n_exams", limit=0)


def test_without_the_key_the_way_ends_at_the_snapshot(settings: Settings) -> None:
    (settings.restricted / "root.key").unlink()
    found = trace(settings, VOLUME, limit=5)
    assert found.value == N_PERSONS + 2
    assert found.steps[0].build.inputs["core.exam"] == 1
    assert found.counted is None
    assert found.exams == ()
    assert all(step.rerun is None for step in found.steps)


def test_a_row_that_does_not_exist_is_told(settings: Settings) -> None:
    with pytest.raises(NumberInvalid, match="no row has this key"):
        trace(settings, "stats.exam_volume/exam_month=1999-01/n_exams", limit=0)


def test_the_command_tells_the_same_in_words_and_as_json(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from radlake import log
    from radlake.cli import main

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["radlake", "--lake", settings.lake, "trace", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        log.configure(strict=True)
        return int(stopped.value.code or 0), capsys.readouterr().out

    code, said = run(VOLUME, "--exams", "1")
    assert code == 0
    assert "calculated again: the same" in said
    assert "settle: complete" in said
    code, said = run(VOLUME, "--json")
    told = json.loads(said)
    assert (told["value"], told["problems"], told["counted"]) == (9, [], {"n_exams": 9, "total": 9})
    assert told["steps"][0]["rerun"]["sha256"] == told["steps"][0]["rerun"]["sha256_again"]
    flip_a_byte(settings)
    assert run(VOLUME, "--exams", "20")[0] == 1
    code, said = run(VOLUME, "--list", "3", "--json")
    told = json.loads(said)
    assert (code, told["n_exams"], len(told["exams"])) == (0, 9, 3)
    assert "the first 3:" in run(VOLUME, "--list", "3")[1]


@pytest.mark.parametrize(("role", "sees_exams"), [(Role.ANALYST, False), (Role.ENGINEER, True), (Role.VIEWER, None)])
def test_page_shows_the_way_of_a_number(original: Path, role: Role, sees_exams: bool | None) -> None:
    """Linked from its cell; exams for who may see them; what `radlake trace` refuses is refused in its words."""
    settings = Settings(lake=str(original), workers=0)
    with running(app_of(settings, Access(everyone=role))) as url, httpx.Client(base_url=url, timeout=180) as client:
        page = client.get("/", params={"lang": "en"})
        links = re.findall(r'href="(/trace/stats.exam_volume[^"]+n_exams[^"]*)"', page.text)
        of_hospital = re.findall(r'href="(/exams/stats.exam_volume/[^"]+n_exams[^"]*)"', page.text)
        assert bool(of_hospital) == bool(sees_exams)
        listed = client.get(html.unescape(of_hospital[0]) if of_hospital else f"/exams/{VOLUME}")
        assert listed.status_code == (200 if sees_exams else 403)
        if sees_exams:
            with duck.connect(Lake.from_settings(settings)) as connection:
                exams = connection.execute("SELECT exam_pseudo_id FROM core.exam").fetchall()
            assert {exam for (exam,) in exams} == set(re.findall(r'<th scope="row"><code>(\w+)</code>', listed.text))
        if sees_exams is None:
            assert links == []
            assert client.get(f"/trace/{VOLUME}").status_code == 403
            return
        answer = client.get(html.unescape(links[0]) if links else f"/trace/{VOLUME}?lang=en")
        assert answer.status_code == 200
        assert "The same " in answer.text
        assert "core.exam_v1@" in answer.text
        whole = client.get(f"/trace/{VOLUME}?lang=en").text
        assert ("Study of 2 instances" in whole) == sees_exams
        assert "rows differ" not in answer.text
        wrong = client.get("/trace/stats.exam_volume/n_exam?lang=en")
        assert wrong.status_code == 404
        assert "Did you mean n_exams?" in wrong.text
