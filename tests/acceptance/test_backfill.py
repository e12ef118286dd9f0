"""A backfill of a real archive: killed, paused, overtaken by a live harvest, and whole in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from radlake.backfill import (
    BackfillPaused,
    Ending,
    HospitalStatus,
    PlanRows,
    backfill_hospital,
    keep_plan,
    plan_hospital,
    run_backfill,
    status_of,
)
from radlake.backfill.sizes import Sizes
from radlake.backfill.windows import months
from radlake.config import Settings
from radlake.harvest.courtesy.week import Slot, Week
from radlake.ingest import harvest_hospital
from radlake.lake import Lake, duck
from radlake.lake.evidence import StudyEntry
from radlake.lake.ledger import Ledger
from radlake.machine import utc_now
from radlake.net import Window, load_hospitals
from radlake.synth.quirks import Quirks
from radlake.vault.lake_key import open_ledger
from support.counting_pacs import CountingPacs, counting_pacs, lake_of
from support.dicom import image_study, write
from support.killing import run_killed
from support.lakes import states

SPAN = Window(date(2024, 1, 1), date(2024, 3, 31))
DAYS = [date(2024, 1, 10), date(2024, 2, 20), date(2024, 3, 5), date(2024, 3, 6)]
A_DAY = 2
N_STUDIES = A_DAY * len(DAYS)
ALWAYS = Week((Slot(1),) * 168)
PROGRAM = [sys.executable, "-c", "from radlake.cli import main; main()"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of two instances on four days of three months."""
    folder = tmp_path_factory.mktemp("archive")
    for day in DAYS:
        for n in range(A_DAY):
            for k, ds in enumerate(image_study("CR", n=2, patient_id=f"{day} {n}", study_date=day, rows=8, columns=8)):
                write(ds, folder / f"{day}-{n}-{k}.dcm")
    return folder


@pytest.fixture
def pacs(archive: Path) -> Iterator[CountingPacs]:
    with counting_pacs(archive) as running:
        yield running


@pytest.fixture
def settings(pacs: CountingPacs, tmp_path: Path) -> Settings:
    """A lake whose hospital is planned; one association, so that one study is under way."""
    node = pacs.node.replace("}", ", max_associations: 1}")
    settings = lake_of(tmp_path / "lake", h1=node)
    plan(settings)
    return settings


def plan(settings: Settings, *windows: Window) -> None:
    """Month by month if nothing else is said: a window each."""
    hospital = load_hospitals(settings.hospitals)["h1"]
    with closing(open_ledger(settings)) as ledger:
        now = utc_now()
        for span in windows or months(SPAN):
            made = plan_hospital(settings, hospital, window=span, ledger=ledger, sizes=Sizes({}), harvests={}, now=now)
            keep_plan(made, ledger=ledger, now=now)


def status(settings: Settings) -> HospitalStatus:
    with closing(Ledger(settings.ledger)) as ledger:
        return status_of("h1", ledger=ledger, harvests={}, week=ALWAYS, now=utc_now())


def pause(settings: Settings) -> None:
    with closing(Ledger(settings.ledger)) as ledger:
        PlanRows(ledger).pause("h1", now=utc_now())


def resume(settings: Settings) -> None:
    with closing(Ledger(settings.ledger)) as ledger:
        PlanRows(ledger).resume("h1")


def run(settings: Settings) -> Ending:
    return run_backfill(settings, load_hospitals(settings.hospitals)["h1"]).ending


def wait_for(condition: Callable[[], bool], *, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came that far"
        time.sleep(0.01)


def assert_whole(settings: Settings) -> None:
    assert Counter(state for state, _ in states(settings).values()) == {"complete": N_STUDIES}
    done = status(settings)
    assert (done.n_studies, done.n_complete, done.n_open) == (N_STUDIES, N_STUDIES, 0)
    assert done.n_windows_done == done.n_windows
    assert not done.is_running
    assert done.problems == ()


def test_the_newest_first_and_the_status_before_and_after(settings: Settings, pacs: CountingPacs) -> None:
    before = status(settings)
    assert (before.n_windows_done, before.n_open, before.n_complete, before.eta) == (0, N_STUDIES, 0, None)
    assert before.open_bytes > 0
    assert run(settings) is Ending.DONE
    assert_whole(settings)
    assert len(pacs.retrieved) == len(set(pacs.retrieved)) == N_STUDIES
    dates = {entry.study_uid: entry.study_date for entry in entries(settings)}
    assert [getattr(dates[uid], "month", None) for uid in pacs.retrieved] == [3] * 4 + [2] * 2 + [1] * 2
    after = status(settings)
    assert after.rate is not None
    assert after.stored_bytes > 0
    assert {day: one.share for day, one in after.coverage.items() if one.n_listed} == dict.fromkeys(DAYS, 1.0)
    told = after.to_json()
    assert told["planned"] == [{"from": str(SPAN.start), "to": str(SPAN.end)}]
    assert (told["coverage"]["n_listed"], told["coverage"]["share"]) == (N_STUDIES, 1.0)
    assert [(one["study_date"], one["n_complete"]) for one in after.days_to_json()] == [(str(d), A_DAY) for d in DAYS]
    with duck.connect(Lake.from_settings(settings), zone="restricted") as connection:
        query = "SELECT study_date, n_listed, n_complete, n_open FROM ops.coverage WHERE n_listed > 0 ORDER BY ALL"
        assert connection.execute(query).fetchall() == [(day, A_DAY, A_DAY, 0) for day in DAYS]
    with duck.connect(Lake.from_settings(settings)) as connection:
        assert connection.execute("SELECT count(*) FROM ops.coverage").fetchall() == [(0,)], "true dates stay inside"
    assert run(settings) is Ending.DONE
    assert len(pacs.retrieved) == N_STUDIES, "nothing is fetched again"


def test_a_small_archive_is_one_window_and_one_batch_the_newest_study_first(pacs: CountingPacs, tmp_path: Path) -> None:
    settings = lake_of(tmp_path / "lake", h1=pacs.node.replace("}", ", max_associations: 1}"))
    plan(settings, SPAN)
    assert status(settings).n_windows == 1
    assert run(settings) is Ending.DONE
    assert_whole(settings)
    dates = {entry.study_uid: str(entry.study_date) for entry in entries(settings)}
    assert [dates[uid] for uid in pacs.retrieved] == [str(day) for day in reversed(DAYS) for _ in range(A_DAY)]
    with duck.connect(Lake.from_settings(settings)) as connection:
        assert connection.execute("SELECT count(DISTINCT batch_id) FROM ops.quality").fetchall() == [(1,)]


def entries(settings: Settings) -> list[StudyEntry]:
    with closing(Ledger(settings.ledger)) as ledger:
        return ledger.entries("h1")


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("backfill.window_begun", 2),
        ("study.begun", 3),
        ("instance.durable", 3),
        ("batch.staged", 1),
        ("batch.settled", 2),
        ("backfill.window_ended", 1),
    ],
)
def test_killed_in_mid_run_one_study_at_most_is_fetched_twice(
    point: str, number: int, settings: Settings, pacs: CountingPacs
) -> None:
    run_killed(run_backfill, settings, load_hospitals(settings.hospitals)["h1"], point=point, nth=number)
    assert status(settings).n_open > 0
    assert not status(settings).is_running, "a claim goes with its process"
    assert run(settings) is Ending.DONE
    assert_whole(settings)
    twice = [uid for uid, n in Counter(pacs.retrieved).items() if n > 1]
    assert len(twice) <= 1
    assert len(pacs.retrieved) <= N_STUDIES + 1


def test_a_pause_takes_effect_within_one_study_and_survives_a_restart(settings: Settings, pacs: CountingPacs) -> None:
    pacs.delay = 0.3
    endings: list[Ending] = []
    running = threading.Thread(target=lambda: endings.append(run(settings)))
    running.start()
    wait_for(lambda: len(pacs.retrieved) >= 2)
    n_begun = len(pacs.retrieved)
    pause(settings)
    running.join(300)
    assert endings == [Ending.PAUSED]
    assert len(pacs.retrieved) <= n_begun + 1
    assert status(settings).n_complete == len(pacs.retrieved), "what came is published"
    n_fetched = len(pacs.retrieved)
    assert run(settings) is Ending.PAUSED
    with pytest.raises(BackfillPaused):
        backfill_hospital(settings, "h1", SPAN)
    assert len(pacs.retrieved) == n_fetched
    assert status(settings).is_paused
    resume(settings)
    assert backfill_hospital(settings, "h1", SPAN)["ending"] == "done"
    assert_whole(settings)
    assert len(pacs.retrieved) == N_STUDIES


def test_a_live_harvest_goes_before_a_backfill_in_another_process(settings: Settings, pacs: CountingPacs) -> None:
    pacs.delay = 0.4
    january = DAYS[0]
    process = subprocess.Popen(
        [*PROGRAM, "--lake", settings.lake, "backfill", "run", "h1"],
        env=os.environ | {"RADLAKE_WORKERS": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: len(pacs.retrieved) >= 2)
        assert status(settings).is_running
        hospital = load_hospitals(settings.hospitals)["h1"]
        n_before = len(pacs.retrieved)
        live = harvest_hospital(settings, hospital, window=Window(january, january))
        assert live.studies_complete == A_DAY
        dates = {entry.study_uid: entry.study_date for entry in entries(settings)}
        first = next(n for n, uid in enumerate(pacs.retrieved) if dates[uid] == january)
        assert first <= n_before + 1, "the backfill began one more study at most"
        assert {dates[uid] for uid in pacs.retrieved[first : first + A_DAY]} == {january}
        said = process.communicate(timeout=300)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert_whole(settings)
    assert len(pacs.retrieved) == N_STUDIES


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_in_order(
    number: signal.Signals, code: int, settings: Settings, pacs: CountingPacs
) -> None:
    pacs.delay = 0.3
    process = subprocess.Popen(
        [*PROGRAM, "--lake", settings.lake, "backfill", "run"],
        env=os.environ | {"RADLAKE_WORKERS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(pacs.retrieved) >= 2 or process.poll() is not None)
    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == code, said
    assert "Nothing is lost; the same command goes on where it stopped." in said
    assert "Traceback" not in said
    assert status(settings).n_complete == len(pacs.retrieved) < N_STUDIES
    pacs.delay = 0
    assert run(settings) is Ending.DONE
    assert_whole(settings)


def test_a_node_that_goes_away_is_told_and_the_rest_is_fetched_later(settings: Settings, archive: Path) -> None:
    text = settings.hospitals.read_text(encoding="utf-8")
    settings.hospitals.write_text(text.replace("ae_title: HIS", "ae_title: NOT_HIS"), encoding="utf-8")
    assert run(settings) is Ending.FAILED
    told = status(settings)
    assert [problem.reason.partition(":")[0] for problem in told.problems] == ["window not finished"]
    assert "radlake node echo h1" in told.problems[0].next_step
    assert told.n_open == N_STUDIES
    with counting_pacs(archive) as pacs:
        settings.hospitals.write_text(lake_of_node(pacs, text), encoding="utf-8")
        assert run(settings) is Ending.DONE
        assert_whole(settings)


def test_what_came_before_a_node_went_away_counts(archive: Path, tmp_path: Path) -> None:
    pacs = CountingPacs(archive, quirks=Quirks())
    settings = lake_of(tmp_path / "lake", h1=pacs.node.replace("}", ", max_associations: 1}"))
    plan(settings, SPAN)
    pacs.delay = 0.3
    endings: list[Ending] = []
    running = threading.Thread(target=lambda: endings.append(run(settings)))
    running.start()
    wait_for(lambda: len(pacs.retrieved) >= 3)
    pacs.stop()
    running.join(300)
    assert endings == [Ending.FAILED]
    with duck.connect(Lake.from_settings(settings)) as connection:
        [(n_studies, n_bytes)] = connection.execute("SELECT count(*), sum(study_bytes) FROM dicom.study").fetchall()
    assert n_studies >= 2
    assert status(settings).stored_bytes == n_bytes


def lake_of_node(pacs: CountingPacs, text: str) -> str:
    before, _, _ = text.partition("node: ")
    return f"{before}node: {pacs.node}}}\n"


def test_studies_without_a_date_are_fetched_too(tmp_path: Path) -> None:
    for n in range(3):
        for ds in image_study("CR", patient_id=f"undated {n}", rows=8, columns=8, StudyDate=None, StudyTime=None):
            write(ds, tmp_path / "archive" / f"{n}.dcm")
    with counting_pacs(tmp_path / "archive") as pacs:
        settings = lake_of(tmp_path / "lake", h1=pacs.node)
        plan(settings)
        assert status(settings).n_open == 3
        assert run(settings) is Ending.DONE
    done = status(settings)
    assert (done.n_studies, done.n_open, done.n_windows_done) == (3, 0, done.n_windows)
    assert Counter(state for state, _ in states(settings).values()) == {"complete": 3}
