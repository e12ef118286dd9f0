"""Hospitals that are harvested at the same time and published in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from radlake.config import Settings
from radlake.errors import IdentifierLeak, StoreFull, WorkersLost
from radlake.ingest import publish, replay_quarantine, spot_check
from radlake.ingest import together as together_module
from radlake.ingest.province import Told, harvest_province
from radlake.ingest.workers import workers
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.net import DimseNode, FolderNode, Hospital, NodeClient, Window
from radlake.referee import Finding
from radlake.synth.virtual import DAYS, START, VirtualClient, make_virtual_province
from support.lakes import settings_of, states

WINDOW = Window(START, START + timedelta(days=DAYS + 1))
PLACES = {
    place.hospital.hospital_id: replace(place, entries=())
    for place in make_virtual_province(seed=3, hospitals=3, studies=6)
}
HOSPITALS = {
    name: Hospital(
        hospital_id=name,
        name_zh=place.hospital.name_zh,
        name_en=place.hospital.name_en,
        node=DimseNode(name=name, ae_title="HIS", host="127.0.0.1"),
    )
    for name, place in PLACES.items()
}
A, B, C = HOSPITALS


@contextmanager
def converse(hospital: Hospital) -> Iterator[NodeClient]:
    yield VirtualClient(PLACES[hospital.hospital_id].make().behaviour(), name=hospital.hospital_id)


def harvest(settings: Settings, hospitals: Mapping[str, Hospital] = HOSPITALS) -> dict[str, Told]:
    told: dict[str, Told] = {}

    def tell(one: Told) -> None:
        assert one.hospital_id not in told
        told[one.hospital_id] = one

    with workers(settings) as executor:
        harvest_province(
            settings,
            hospitals,
            window=lambda: WINDOW,
            at_once=3,
            executor=executor,
            is_once=True,
            tell=tell,
            converse=converse,
        )
    return told


def hospitals_of(settings: Settings) -> set[str]:
    return {name.partition("/")[0] for name, (state, _) in states(settings).items() if state == "complete"}


def object_paths(settings: Settings) -> list[str]:
    with duck.connect(Lake.from_settings(settings)) as connection:
        return [path for (path,) in connection.execute("SELECT object_path FROM dicom.series").fetchall()]


def test_hospitals_are_told_when_their_batch_is_in(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    told = harvest(settings)
    assert {name: one.error for name, one in told.items()} == {A: None, B: None, C: None}
    assert sum(one.summary.studies_complete for one in told.values() if one.summary) == 6
    assert all(one.summary.instances_stored > 0 for one in told.values() if one.summary)
    assert hospitals_of(settings) == {A, B, C}


def test_a_leak_stops_its_own_hospital_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "lake")
    look = spot_check.check_written

    def objects_to_b(*given: object, rows: Sequence[dict[str, object]], **more: object) -> Iterator[Finding]:
        if rows[0]["hospital_id"] == B:
            yield Finding(rule="X", where="a header", path="", kind="", encoding="")
        yield from look(*given, rows=rows, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(spot_check, "check_written", objects_to_b)
    told = harvest(settings)
    assert isinstance(told[B].error, IdentifierLeak)
    assert told[A].error is told[C].error is None
    assert hospitals_of(settings) == {A, C}
    monkeypatch.undo()
    assert harvest(settings)[B].error is None  # and leaves out what is held
    with closing(Ledger(settings.ledger)) as ledger:
        held = ledger.held(hospital_id=B)
    replay_quarantine(settings, HOSPITALS[B], held=held)
    assert hospitals_of(settings) == {A, B, C}
    assert all((Path(settings.lake) / "objects" / path).exists() for path in object_paths(settings))


def test_hospitals_whose_batch_fails_are_told_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path / "lake")

    def full(*_: object, **__: object) -> None:
        raise StoreFull(path="tables")

    with monkeypatch.context() as fault:
        fault.setattr(together_module, "publish_ops", full)
        assert all(isinstance(one.error, StoreFull) for one in harvest(settings).values())
    assert {one.error for one in harvest(settings).values()} == {None}
    assert hospitals_of(settings) == {A, B, C}


def test_a_batch_that_was_left_staged_is_finished_before_the_first_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "lake")

    def full(*_: object, **__: object) -> None:
        raise StoreFull(path="tables")

    with monkeypatch.context() as fault:
        fault.setattr(publish, "commit", full)
        assert all(isinstance(one.error, StoreFull) for one in harvest(settings).values())
    assert {one.error for one in harvest(settings).values()} == {None}
    assert hospitals_of(settings) == {A, B, C}


def test_a_folder_has_its_turn_too(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    archive = tmp_path / "archive"
    archive.mkdir()
    for number, held in enumerate(PLACES[A].make().holdings.by_uid.values()):
        (archive / f"{number}.dcm").write_bytes(held.content())
    hospital = HOSPITALS[A].model_copy(update={"node": FolderNode(name=A, path=archive)})
    told = harvest(settings, {A: hospital})
    assert told[A].error is None
    summary = told[A].summary
    assert summary is not None
    assert summary.studies_complete == PLACES[A].n_studies
    assert hospitals_of(settings) == {A}


def test_a_province_that_is_told_to_stop_tells_of_whom_it_asked(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    told: list[Told] = []
    asked: list[str] = []

    @contextmanager
    def counted(hospital: Hospital) -> Iterator[NodeClient]:
        asked.append(hospital.hospital_id)
        with converse(hospital) as client:
            yield client

    with workers(settings) as executor:
        harvest_province(
            settings,
            HOSPITALS,
            window=lambda: WINDOW,
            at_once=1,
            executor=executor,
            is_once=False,
            tell=told.append,
            converse=counted,
            should_stop=lambda: bool(asked),
        )
    assert [one.hospital_id for one in told] == asked
    assert len(asked) == 1
    assert {one.error for one in told} == {None}
    assert ("retrieving", "") not in states(settings).values()


def test_without_workers_the_province_ends(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    settings.prepare_restricted()

    class Gone:
        def submit(self, *_: object) -> Future[None]:
            raise WorkersLost(reason="the cluster is gone")

    with pytest.raises(WorkersLost):
        harvest_province(
            settings,
            HOSPITALS,
            window=lambda: WINDOW,
            at_once=1,
            executor=Gone(),  # pyright: ignore[reportArgumentType]
            is_once=True,
            tell=lambda _: None,
            converse=converse,
        )
    assert set(states(settings).values()) <= {("discovered", ""), ("retrieving", "")}
