"""Every quirk of the catalogue over real sockets: our harvest ends with the right states, a naive one does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from radlake.config import Settings
from radlake.errors import TransientError
from radlake.ingest import harvest_hospital
from radlake.lake.evidence import StudyEntry
from radlake.net import DimseNode, Hospital, NodeClient, WebNode, Window, connect
from radlake.synth.behaviour import Behaviour
from radlake.synth.dimse_pacs import DimsePacs
from radlake.synth.province import make_hospitals
from radlake.synth.quirks import CATALOGUE, CatalogueEntry, Quirks, combined
from radlake.synth.virtual import DAYS, START, VirtualArchive, VirtualClient, VirtualHospital
from radlake.synth.web_pacs import WebPacs
from radlake.vault.lake_key import open_ledger
from support import need
from support.lakes import settings_of
from support.naive import Naive

# pynetdicom leaves its sockets to the garbage collector when a peer hangs up.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WINDOW = Window(START, START + timedelta(days=DAYS + 1))
DATES = WINDOW.as_range()
BY_NAME = {entry.name: entry for entry in CATALOGUE}


@dataclass
class Site:
    """A hospital with one quirk, its PACS over DIMSE, and a lake."""

    settings: Settings
    archive: VirtualArchive
    quirks: Quirks
    scp_port: int
    port: int
    retrieve: Literal["get", "move"]

    def behaviour(self) -> Behaviour:
        return Behaviour(self.archive.holdings, quirks=self.quirks)

    def harvest(self, *, window: Window = WINDOW) -> None:
        node = self._node()
        client = connect(node, ae_title="RADLAKE", scp_port=self.scp_port)
        harvest_by(self.settings, node, client=client, window=window)

    def entries(self) -> dict[str, StudyEntry]:
        return entries_of(self.settings)

    def held(self) -> dict[str, list[str]]:
        return held_by(self.archive)

    def naive(self, *, seconds: float = 10.0) -> Naive:
        scp_port = self.scp_port if self.retrieve == "move" else 0
        return Naive(self.port, self.archive.virtual.hospital.ae_title, scp_port=scp_port, seconds=seconds)

    def _node(self) -> DimseNode:
        ae_title = self.archive.virtual.hospital.ae_title
        return DimseNode(
            name="site",
            ae_title=ae_title,
            host="127.0.0.1",
            port=self.port,
            retrieve=self.retrieve,
        )


def held_by(archive: VirtualArchive) -> dict[str, list[str]]:
    """SOP Instance UIDs of every study, one that is held twice twice."""
    return {
        study_uid: [one.sop_instance_uid for series in study.children.values() for one in series.children.values()]
        for study_uid, study in archive.holdings.root.children.items()
    }


def entries_of(settings: Settings) -> dict[str, StudyEntry]:
    ledger = open_ledger(settings)
    try:
        return {entry.study_uid: entry for entry in ledger.entries("site")}
    finally:
        ledger.close()


def hospital_of(node: DimseNode | WebNode) -> Hospital:
    return Hospital(hospital_id="site", name_zh="医院", name_en="Hospital", node=node)


def harvest_by(settings: Settings, node: DimseNode | WebNode, *, client: NodeClient, window: Window = WINDOW) -> None:
    for attempt in range(3):
        try:
            harvest_hospital(settings, hospital_of(node), window=window, client=client)
        except TransientError:
            if attempt == 2:
                raise
        else:
            return


def archive_of(*entries: CatalogueEntry, n_studies: int, seed: int = 3) -> VirtualArchive:
    (place,) = make_hospitals(1)
    return VirtualHospital(place, n_studies, entries, seed=seed, n_persons=50).make()


@contextmanager
def site(
    folder: Path, *names: str, n_studies: int = 6, retrieve: Literal["get", "move"] = "get", **changed: object
) -> Iterator[tuple[Site, Callable[..., Naive]]]:
    """A site with our way to it, and a PACS of its own for the naive harvester: what it asks must not help us."""
    entries = tuple(BY_NAME[name] for name in names)
    archive = archive_of(*entries, n_studies=n_studies)
    quirks = replace(combined(*entries), **changed)  # pyright: ignore[reportArgumentType]
    settings, scp_port = settings_of(folder / "lake"), need.free_port()

    def start() -> DimsePacs:
        return DimsePacs(
            Behaviour(archive.holdings, quirks=quirks),
            ae_title=archive.virtual.hospital.ae_title,
            host="127.0.0.1",
            port=0,
            destinations={"RADLAKE": ("127.0.0.1", scp_port)},
        )

    ours, theirs = start(), start()
    one = Site(settings, archive, quirks, scp_port, ours.port, retrieve)
    try:
        yield one, lambda **given: replace(one, port=theirs.port).naive(**given)
    finally:
        ours.stop()
        theirs.stop()


def states(one: Site) -> Counter[str]:
    return Counter(entry.state.value for entry in one.entries().values())


def truly_complete(one: Site, naive: Naive) -> set[str]:
    held = one.held()
    return {study_uid for study_uid in naive.complete if set(held[study_uid]) <= naive.instances.keys()}


def assert_all_accounted(one: Site) -> None:
    """Every instance of the PACS is stored, set aside, or named missing because it cannot be sent."""
    entries, behaviour = one.entries(), one.behaviour()
    assert entries.keys() == one.held().keys()
    for study_uid, uids in one.held().items():
        entry = entries[study_uid]
        aside = {item.sop_uid for item in entry.set_aside}
        lost = {uid for uid in uids if uid not in entry.stored and uid not in aside}
        assert lost == {uid for uid in uids if behaviour.cannot_send(behaviour.holdings.by_uid[uid])}
        assert (entry.state == "complete") == (not lost and not aside)


# Lists


def test_a_list_that_ends_in_silence(tmp_path: Path) -> None:
    with site(tmp_path, "cap-silent", n_studies=35, result_cap=20) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert len(one.entries()) == 35
        assert len(naive().harvest(DATES).complete) == 20


def test_a_list_that_is_refused_as_too_long(tmp_path: Path) -> None:
    with site(tmp_path, "cap-refused", n_studies=12, refuse_above=5) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert len(one.entries()) == 12
        assert not naive().harvest(DATES).complete


def test_a_clock_that_is_a_day_ahead(tmp_path: Path) -> None:
    """What was taken on the last day is listed on the day after: the next night looks back, a naive list does not."""
    with site(tmp_path, "clock-skew", n_studies=8) as (one, naive):
        last = max(one.archive.holdings.root.children.values(), key=lambda held: held.attributes["StudyDate"])
        today = WINDOW.start + timedelta(days=int(last.attributes["StudyDate"][-2:]) - 2)
        one.harvest(window=Window(today - timedelta(days=40), today))
        missed = one.held().keys() - one.entries().keys()
        assert missed  # a window that ends today does not show them to anybody
        one.harvest(
            window=Window(today - timedelta(days=3), today + timedelta(days=1))
        )  # the next night's, which looks back
        assert_all_accounted(one)
        got = naive().harvest(Window(today, today).as_range())
        got.harvest(Window(today + timedelta(days=2), today + timedelta(days=2)).as_range())
        assert missed - got.complete


def test_names_that_are_not_in_the_character_set_that_they_claim(tmp_path: Path) -> None:
    with site(tmp_path, "mislabelled") as (one, naive):
        one.harvest()
        assert states(one) == {"complete": 6}
        names = {held.attributes["PatientName"] for held in one.archive.holdings.root.children.values()}
        written = b"".join(path.read_bytes() for path in Path(one.settings.lake, "objects").rglob("*.zip"))
        for name in names:
            assert name.split("=")[1].replace("^", "").encode("gb18030") not in written
        assert not {name for name in naive().harvest(DATES).names if "=" in name} & names


# Counts and classes that are not told


def test_failures_that_are_told_as_success_without_counts(tmp_path: Path) -> None:
    with site(tmp_path, "no-counts", "failed-success", n_studies=8, fail_one_in=3) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert states(one)["partial"] > 0
        got = naive().harvest(DATES)
        assert len(got.complete) == 8
        assert len(truly_complete(one, got)) == states(one)["complete"]


def test_sub_operations_that_fail(tmp_path: Path) -> None:
    with site(tmp_path, "partial-warning", n_studies=8, fail_one_in=3) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert all("missing" in entry.reason for entry in one.entries().values() if entry.state == "partial")
        assert len(naive().harvest(DATES).complete) < 8  # and it never says which instances it lacks


def test_classes_that_are_not_told(tmp_path: Path) -> None:
    with site(tmp_path, "no-sop-class", n_studies=8) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert len(truly_complete(one, naive().harvest(DATES))) < 8


# Retrieves


def test_success_with_no_sub_operations(tmp_path: Path) -> None:
    with site(tmp_path, "empty-success") as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert states(one)["partial"] == 0
        got = naive().harvest(DATES)
        assert len(got.complete) == 6
        assert not got.instances


def test_success_with_no_sub_operations_where_the_series_must_be_named(tmp_path: Path) -> None:
    """A night is not ended by studies that a second question brings."""
    archive = archive_of(BY_NAME["empty-success"], n_studies=6)
    quirks = replace(archive.virtual.quirks, needs_series=True)
    one = Site(settings_of(tmp_path / "lake"), archive, quirks, 0, 104, "get")
    harvest_hospital(
        one.settings, hospital_of(one._node()), window=WINDOW, client=VirtualClient(one.behaviour(), name="site")
    )
    assert_all_accounted(one)


def test_an_archive_that_wants_the_series_named(tmp_path: Path) -> None:
    with site(tmp_path, "needs-series") as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        got = naive().harvest(DATES)
        assert len(got.complete) == 6
        assert not got.instances


def test_an_answer_before_anything_is_sent(tmp_path: Path) -> None:
    with site(tmp_path, "answers-first", retrieve="move", n_studies=4) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        got = naive().harvest(DATES)
        assert len(got.complete) == 4
        assert not truly_complete(one, got)


def test_an_association_for_each_image(tmp_path: Path) -> None:
    with site(tmp_path, "association-per-image", retrieve="move", n_studies=4) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        several = {study_uid for study_uid, uids in one.held().items() if len(uids) > 1}
        assert not truly_complete(one, naive().harvest(DATES)) & several


def test_a_connection_that_is_cut(tmp_path: Path) -> None:
    with site(tmp_path, "abort", n_studies=8) as (one, naive):
        one.harvest()
        one.harvest()
        assert_all_accounted(one)
        assert len(naive().harvest(DATES).complete) < 8


def test_studies_on_tape(tmp_path: Path) -> None:
    with site(tmp_path, "nearline", n_studies=9) as (one, naive):
        one.harvest()
        offline = [entry for entry in one.entries().values() if entry.state == "offline"]
        assert offline
        assert all(entry.reason.startswith("missing") and "offline" in entry.reason for entry in offline)
        one.harvest()
        assert_all_accounted(one)
        assert len(naive().harvest(DATES).complete) < 9


def test_a_slow_archive(tmp_path: Path) -> None:
    with site(tmp_path, "slow", n_studies=2, delay_ms=700) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert not naive(seconds=0.4).harvest(DATES).complete


def test_an_archive_that_refuses_now_and_then(tmp_path: Path) -> None:
    with site(tmp_path, "flapping", n_studies=8, flap=4) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert len(naive().harvest(DATES).complete) < 8


# One UID twice


def test_the_same_bytes_twice_cost_nothing(tmp_path: Path) -> None:
    with site(tmp_path, "twin-same", n_studies=4) as (one, naive):
        one.harvest()
        assert_all_accounted(one)
        assert sum(len(entry.stored) + len(entry.set_aside) for entry in one.entries().values()) == len(
            {uid for uids in one.held().values() for uid in uids}
        )
        got = naive().harvest(DATES)
        assert got.n_counted > len(got.instances)


@pytest.mark.parametrize("name", ["twin-other", "twin-series"])
def test_other_bytes_under_one_uid_are_both_kept(name: str, tmp_path: Path) -> None:
    with site(tmp_path, name, n_studies=4) as (one, naive):
        one.harvest()
        twice = {study_uid for study_uid, uids in one.held().items() if len(set(uids)) < len(uids)}
        assert twice
        for study_uid in twice:
            entry = one.entries()[study_uid]
            assert entry.state == "partial"
            assert "sop_instance_conflict x1" in entry.reason
            assert {item.sop_uid for item in entry.set_aside} <= set(one.held()[study_uid])
        got = naive().harvest(DATES)
        assert twice <= got.complete  # and one of the two is gone


@pytest.mark.parametrize("kind", ["other", "series"])
@pytest.mark.parametrize(
    "hurdle",
    [{"needs_series": True}, {"empty_success": 1}, *({"drop_after_n": n} for n in (5, 6, 7))],
    ids=str,
)
def test_both_of_one_uid_come_over_hurdles(kind: str, hurdle: dict[str, int], tmp_path: Path) -> None:
    """A study with one of two instances under a UID is never called complete, and the other one comes in the end."""
    seed = 4 if "drop_after_n" in hurdle else 3  # the study has two instances and a twin, or one and its twin
    archive = archive_of(BY_NAME[f"twin-{kind}"], n_studies=4, seed=seed)
    settings, behaviour = settings_of(tmp_path / "lake"), Behaviour(archive.holdings, quirks=Quirks(**hurdle))  # pyright: ignore[reportArgumentType]
    node = DimseNode(name="site", ae_title="SITE", host="127.0.0.1", port=104)
    (twice,) = (study_uid for study_uid, uids in held_by(archive).items() if len(set(uids)) < len(uids))
    for _ in range(3):
        harvest_by(settings, node, client=VirtualClient(behaviour, name="site"))
        assert entries_of(settings)[twice].state == "partial"
    assert {study_uid: entry.reason for study_uid, entry in entries_of(settings).items()} == {
        study_uid: "set aside: sop_instance_conflict x1" if study_uid == twice else "" for study_uid in held_by(archive)
    }


# Later


def test_a_series_that_comes_later(tmp_path: Path) -> None:
    with site(tmp_path, "late-series", n_studies=6) as (one, naive):
        got = naive()
        one.harvest()
        got.harvest(DATES)
        assert one.archive.arrive_late() == 2
        one.harvest()
        got.harvest(DATES)
        assert_all_accounted(one)
        assert len(got.complete) == 6
        assert len(truly_complete(one, got)) == 4


# The other ways


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_memory_shows_the_same_as_the_wire(entry: CatalogueEntry, tmp_path: Path) -> None:
    """In memory the province asks most PACS; each quirk ends with the same accounts."""
    archive = archive_of(entry, n_studies=6)
    one = Site(settings_of(tmp_path / "lake"), archive, entry.quirks, 0, 104, "get")
    client = VirtualClient(one.behaviour(), name="site")
    for _ in range(3):
        harvest_by(one.settings, one._node(), client=client)
        archive.arrive_late()
    if entry.quirks.twins in ("other", "series"):
        assert any("sop_instance_conflict" in item.reason for item in one.entries().values())
    else:
        assert_all_accounted(one)


@pytest.mark.parametrize("name", ["cap-refused", "needs-series", "nearline", "twin-other", "abort", "flapping"])
def test_over_dicomweb(name: str, tmp_path: Path) -> None:
    entry = BY_NAME[name]
    quirks = replace(entry.quirks, refuse_above=4) if entry.quirks.refuse_above else entry.quirks
    archive = archive_of(entry, n_studies=6)
    one = Site(settings_of(tmp_path / "lake"), archive, quirks, 0, 104, "get")
    web = WebPacs(one.behaviour(), host="127.0.0.1", port=0, token="")
    try:
        node = WebNode(name="site", base_url=f"http://127.0.0.1:{web.port}")
        client = connect(node, ae_title="RADLAKE")
        for _ in range(3):
            harvest_by(one.settings, node, client=client)
    finally:
        web.stop()
    if quirks.twins:
        assert any("sop_instance_conflict" in item.reason for item in one.entries().values())
    else:
        assert_all_accounted(one)
