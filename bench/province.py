"""A province: hospitals with all quirks of the catalogue are harvested into a real lake, and compared with the truth.

    python -m bench province --hospitals 1578 --studies 100000

Most PACS answer in memory, some over real sockets (C-GET, C-MOVE, DICOMweb). What follows is the real thing: spool,
validation, de-identification, series objects, gate, Parquet, ledger. After a first pass late series arrive and what is
on tape has been brought; further passes, as further nights, ask the hospitals again that had something left, until
nothing new comes. Then every instance that a PACS holds must be stored, set aside, or named missing because the PACS
cannot send it, and nothing may be called complete that is not. Beside it stands what a naive harvester makes of the
same province: one list, one retrieve per study, every status believed.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import sqlalchemy as sa

from bench.measure import Place, print_rows
from bench.usage import resident_bytes
from radlake import log
from radlake.config import Settings
from radlake.ingest.certify import certify, verify
from radlake.ingest.province import Told, harvest_province
from radlake.ingest.workers import workers
from radlake.lake import Lake, duck
from radlake.lake.evidence import StudyEntry, StudyState
from radlake.lake.ledger_tables import NODE_STATE, STUDY
from radlake.machine import free_port, shanghai_day, utc_now
from radlake.net import DimseNode, Hospital, NodeClient, WebNode, Window
from radlake.synth.behaviour import Behaviour, Offline, TooBroad
from radlake.synth.dimse_pacs import DimsePacs
from radlake.synth.holdings import Holdings
from radlake.synth.virtual import DAYS, START, VirtualArchive, VirtualClient, VirtualHospital, make_virtual_province
from radlake.synth.web_pacs import WebPacs
from radlake.vault.lake_key import open_ledger

__all__ = ["Outcome", "main", "prove_and_alter", "run_province"]

WINDOW = Window(START, START + timedelta(days=DAYS + 1))
_MORE_NIGHTS = 6
_AT_ONCE = 8  # hospitals
_OVER_SOCKETS = 12
_LARGEST_OVER_SOCKETS = 400  # studies
_UNSETTLED = (StudyState.DISCOVERED, StudyState.RETRIEVING)


@dataclass
class Outcome:
    """What a province run came to.

    Attributes
    ----------
    n_without_state : int
        Studies at a PACS that the ledger does not know, or leaves open.
    n_false_complete : int
        Studies that are called complete and are not.
    n_lost : int
        Instances that are neither stored, nor set aside, nor named missing because they cannot be sent.
    n_rows, n_stored : int
        Rows of dicom.instance, and instances that the ledger calls stored.
    naive_false, naive_lost : int
        Studies that a naive harvester calls complete falsely, and those that it has not at all.
    """

    n_hospitals: int = 0
    n_over_sockets: int = 0
    n_studies: int = 0
    n_instances: int = 0
    n_without_state: int = 0
    n_false_complete: int = 0
    n_lost: int = 0
    n_rows: int = 0
    n_stored: int = 0
    naive_false: int = 0
    naive_lost: int = 0
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    nights: list[float] = field(default_factory=list)  # seconds
    peak_bytes: float = 0


@dataclass
class _Place:
    """A hospital of the run: its PACS keeps what it was asked, its archive is made anew when it is needed."""

    virtual: VirtualHospital
    behaviour: Behaviour
    is_late: bool = False
    n_late: int = 0  # studies that grow once it is late
    node: DimseNode | WebNode | None = None  # for real sockets

    def archive(self) -> VirtualArchive:
        archive = self.virtual.make()
        if self.is_late:
            archive.arrive_late()
        self.behaviour.holdings = archive.holdings
        return archive

    def rest(self) -> None:
        self.behaviour.holdings = Holdings()

    @property
    def hospital(self) -> Hospital:
        place = self.virtual.hospital
        return Hospital(
            hospital_id=place.hospital_id,
            name_zh=place.name_zh,
            name_en=place.name_en,
            region_code=place.region_code,
            level=place.level,
            node=self.node or DimseNode(name=place.hospital_id, ae_title=place.ae_title, host="127.0.0.1"),
        )

    @contextmanager
    def converse(self) -> Iterator[NodeClient | None]:
        """Its archive lives as long as it is asked."""
        self.n_late = len(self.archive().late)
        try:
            yield None if self.node else VirtualClient(self.behaviour, name=self.virtual.hospital.hospital_id)
        finally:
            self.rest()


def main(place: Place, *, hospitals: int, studies: int, seed: int) -> None:
    """Run a province and print what came of it."""
    log.configure(level="error")
    settings = Settings(lake=str(place.folder / "lake"))
    outcome = run_province(settings, hospitals=hospitals, studies=studies, seed=seed)
    _print(outcome)
    is_certified = _certify(settings)
    n_wrong = outcome.n_without_state + outcome.n_false_complete + outcome.n_lost
    if n_wrong or outcome.n_rows != outcome.n_stored or not is_certified:
        raise SystemExit("the lake is not what the PACS hold")


def run_province(settings: Settings, *, hospitals: int, studies: int, seed: int) -> Outcome:
    """Harvest a province into a new lake, and compare."""
    _make_key(settings)
    settings = settings.model_copy(update={"scp_port": free_port()})
    province = make_virtual_province(seed=seed, hospitals=hospitals, studies=studies)
    places = {one.hospital.hospital_id: _Place(one, Behaviour(Holdings(), quirks=one.quirks)) for one in province}
    outcome = Outcome(n_hospitals=hospitals)
    with _peak(outcome), _over_sockets(settings, list(places.values())) as outcome.n_over_sockets:
        left, n_new = _night(settings, places, outcome)
        for name in left:
            places[name].is_late = True
        while left and n_new and len(outcome.nights) <= _MORE_NIGHTS:
            _let_a_day_pass(settings)
            left, n_new = _night(settings, {name: places[name] for name in left}, outcome)
    begin = time.perf_counter()
    _compare(settings, places.values(), outcome)
    print(f"comparison: {time.perf_counter() - begin:,.0f} s")
    return outcome


def _make_key(settings: Settings) -> None:
    key = settings.prepare_restricted() / "root.key"
    key.touch(mode=0o600)
    key.write_text("5f" * 32, encoding="utf-8")


@contextmanager
def _over_sockets(settings: Settings, places: Sequence[_Place]) -> Iterator[int]:
    """Give every so many-th hospital a real protocol, each of the three in turn; how many have one."""
    small = [one for one in places if one.virtual.n_studies <= _LARGEST_OVER_SOCKETS]
    chosen = small[:: max(1, len(small) // _OVER_SOCKETS)][:_OVER_SOCKETS]
    with ExitStack() as servers:
        for number, one in enumerate(chosen):
            is_of_move = one.virtual.quirks.answer_first or one.virtual.quirks.association_per_image
            one.node = _serve(servers, settings, one, over="move" if is_of_move else ("get", "move", "web")[number % 3])
        yield len(chosen)


def _serve(
    servers: ExitStack, settings: Settings, one: _Place, *, over: Literal["get", "move", "web"]
) -> DimseNode | WebNode:
    """Start the server of a hospital; what it is asked for it holds as long as a turn lasts."""
    name, ae_title = one.virtual.hospital.hospital_id, one.virtual.hospital.ae_title
    if over == "web":
        web = WebPacs(one.behaviour, host="127.0.0.1", port=0, token="")
        servers.callback(web.stop)
        return WebNode(name=name, base_url=f"http://127.0.0.1:{web.port}")
    one.archive()  # its association contexts are of what it holds
    destinations = {settings.ae_title: ("127.0.0.1", settings.scp_port)}
    pacs = DimsePacs(one.behaviour, ae_title=ae_title, host="127.0.0.1", port=0, destinations=destinations)
    one.rest()
    servers.callback(pacs.stop)
    return DimseNode(name=name, ae_title=ae_title, host="127.0.0.1", port=pacs.port, retrieve=over)


def _night(settings: Settings, places: Mapping[str, _Place], outcome: Outcome) -> tuple[list[str], int]:
    """Harvest each hospital once; those that are to be asked again, and how many instances came."""
    begin = time.perf_counter()
    left: list[str] = []
    n_new = 0

    def tell(told: Told) -> None:
        nonlocal n_new
        if told.error is not None:
            outcome.errors[type(told.error).__name__] += 1
            n_new += 1  # who failed is asked again
        done = told.summary
        if done is not None:
            n_new += done.instances_stored + done.instances_quarantined
        if told.error or done is None or done.studies_complete < done.studies_found or places[told.hospital_id].n_late:
            left.append(told.hospital_id)

    with workers(settings) as executor:
        harvest_province(
            settings,
            {name: one.hospital for name, one in places.items()},
            window=lambda: WINDOW,
            at_once=_AT_ONCE,
            executor=executor,
            is_once=True,
            tell=tell,
            converse=lambda hospital: places[hospital.hospital_id].converse(),
        )
    seconds = time.perf_counter() - begin
    outcome.nights.append(seconds)
    print(f"{len(places):,} hospitals asked: {n_new:,} instances in {seconds:,.0f} s; {len(left):,} to be asked again")
    return left, n_new


def _let_a_day_pass(settings: Settings) -> None:
    """What a node did, and how it was left in peace for it, is of yesterday."""
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        connection.execute(NODE_STATE.delete())


def _compare(settings: Settings, places: Iterable[_Place], outcome: Outcome) -> None:
    """Hold the ledger and the tables against what the PACS hold."""
    ledger = open_ledger(settings)
    try:
        for one in places:
            archive = one.archive()
            entries = {entry.study_uid: entry for entry in ledger.entries(one.virtual.hospital.hospital_id)}
            for study_uid, held in archive.holdings.root.children.items():
                uids = [
                    image.sop_instance_uid for series in held.children.values() for image in series.children.values()
                ]
                _judge(entries.get(study_uid), uids, one, outcome)
            outcome.n_stored += sum(len(entry.stored) for entry in entries.values())
            _ask_naively(one, outcome)
            one.rest()
    finally:
        ledger.close()
    with duck.connect(Lake.from_settings(settings)) as connection:
        ((outcome.n_rows,),) = connection.execute("SELECT count(*) FROM dicom.instance").fetchall()


def _judge(entry: StudyEntry | None, uids: list[str], one: _Place, outcome: Outcome) -> None:
    outcome.n_studies += 1
    outcome.n_instances += len(uids)
    if entry is None or entry.state in _UNSETTLED:
        outcome.n_without_state += 1
        outcome.n_lost += len(uids)
        return
    reason = re.sub(r"\d+", "N", entry.reason)
    outcome.states[entry.state.value, reason] += 1
    aside = {item.sop_uid for item in entry.set_aside}
    has_conflict = one.virtual.quirks.twins in ("other", "series")
    for uid, n in Counter(uids).items():
        is_held = uid in entry.stored or uid in aside
        is_named = uid in (entry.missing or ()) and one.behaviour.cannot_send(one.behaviour.holdings.by_uid[uid])
        if not is_held and not is_named:
            outcome.n_lost += n
        elif n > 1 and has_conflict and is_held and uid not in aside:
            outcome.n_lost += 1
    is_whole = set(uids) <= entry.stored.keys() and not (has_conflict and len(set(uids)) < len(uids))
    outcome.n_false_complete += entry.state is StudyState.COMPLETE and not is_whole


def _ask_naively(one: _Place, outcome: Outcome) -> None:
    """One list, one retrieve per study, what is said is believed; the PACS behaves as if nobody had asked before."""
    behaviour = Behaviour(one.virtual.make().holdings, quirks=one.virtual.quirks)
    archive_studies = one.behaviour.holdings.root.children
    cap = one.virtual.quirks.result_cap
    try:
        listed = [answer["StudyInstanceUID"] for answer in behaviour.find("STUDY", {})][: cap or None]
    except TooBroad:
        listed = []
    complete: dict[str, list[str]] = {}
    for study_uid in listed:
        if behaviour.refuses():
            continue
        try:
            instances = behaviour.sends({"StudyInstanceUID": study_uid})
        except Offline:
            continue
        is_cut = any(behaviour.is_cut() for _ in instances)
        lost = [held for held in instances if behaviour.cannot_send(held)]
        if is_cut or (lost and not one.virtual.quirks.hide_failures):
            continue
        complete[study_uid] = [held.sop_instance_uid for held in instances if held not in lost]
    outcome.naive_lost += len(archive_studies) - len(complete)
    for study_uid, got in complete.items():
        uids = [
            image.sop_instance_uid
            for series in archive_studies[study_uid].children.values()
            for image in series.children.values()
        ]
        # What comes under one UID lies in one file: the last one.
        has_conflict = len(set(uids)) < len(uids) and one.virtual.quirks.twins != "same"
        outcome.naive_false += has_conflict or set(got) != set(uids)


def prove_and_alter(settings: Settings) -> tuple[int, int, list[str]]:
    """Certify and verify the whole ledger, then make one study that is not complete say that it is, and verify again.

    Returns
    -------
    tuple
        Certificates, problems before the change, and what is told after it.
    """
    now = utc_now()
    n_certificates = len(certify(settings, (), shanghai_day(now), now))
    n_before = len(list(verify(settings)))
    with closing(open_ledger(settings)) as ledger, ledger.writing() as connection:
        victim = sa.select(STUDY.c.hospital_id, STUDY.c.study_uid).where(STUDY.c.state != "complete").limit(1)
        hospital_id, study_uid = connection.execute(victim).one()
        where = STUDY.c.hospital_id == hospital_id, STUDY.c.study_uid == study_uid
        connection.execute(STUDY.update().where(*where).values(state="complete", reason=""))
    return n_certificates, n_before, [f"{one.hospital_id}: {one.where}: {one.told}" for one in verify(settings)]


def _certify(settings: Settings) -> bool:
    """Print what the certificates prove; whether they hold, and the altered row is found."""
    begin = time.perf_counter()
    n_certificates, n_before, after = prove_and_alter(settings)
    seconds = time.perf_counter() - begin
    print(f"certificates: {n_certificates:,}, problems: {n_before}; {seconds:,.0f} s with two verifications")
    print(f"one altered row: {after[0] if after else 'NOT FOUND'}")
    return not n_before and bool(after)


@contextmanager
def _peak(outcome: Outcome) -> Iterator[None]:
    """Watch the resident memory of this process and its children, all together."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(1.0):
            outcome.peak_bytes = max(outcome.peak_bytes, resident_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        outcome.peak_bytes = max(outcome.peak_bytes, resident_bytes())
        is_over.set()
        thread.join()


def _print(outcome: Outcome) -> None:
    seconds = sum(outcome.nights)
    print_rows(
        [
            ["", "ours", "naive"],
            ["hospitals", f"{outcome.n_hospitals:,}", ""],
            ["  over real sockets", f"{outcome.n_over_sockets:,}", ""],
            ["studies", f"{outcome.n_studies:,}", ""],
            ["instances", f"{outcome.n_instances:,}", ""],
            ["  stored", f"{outcome.n_stored:,}", ""],
            ["  rows of dicom.instance", f"{outcome.n_rows:,}", ""],
            ["studies without a state", f"{outcome.n_without_state:,}", f"{outcome.naive_lost:,}"],
            ["falsely complete", f"{outcome.n_false_complete:,}", f"{outcome.naive_false:,}"],
            ["nights after the first", f"{len(outcome.nights) - 1:,}", ""],
            ["instances lost", f"{outcome.n_lost:,}", ""],
            ["seconds", f"{seconds:,.0f}", ""],
            ["studies/s", f"{outcome.n_studies / seconds:,.1f}", ""],
            ["peak memory of all processes, MB", f"{outcome.peak_bytes / 1e6:,.0f}", ""],
        ],
        title="province",
    )
    print_rows(
        [
            ["state and reason", "studies"],
            *([f"{state}: {reason}"[:110], f"{n:,}"] for (state, reason), n in outcome.states.most_common()),
        ],
        title="states",
    )
    print("met on the way: " + (", ".join(f"{name} x{n}" for name, n in outcome.errors.items()) or "nothing"))
