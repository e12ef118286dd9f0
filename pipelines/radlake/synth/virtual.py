"""Virtual PACS: archives whose studies, instances and quirks follow from a seed, asked in memory or over real sockets.

The same seed gives the same province: hospitals, persons who are seen in several of them, studies, bytes and quirks.
Objects are small and are made when they are sent, so that 1,578 archives fit into one process; one archive is held as
an index only. `VirtualClient` shows in memory what a quirk looks like from outside, `DimsePacs` and `WebPacs` speak.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache

from radlake.errors import NodeUnavailable, QueryFailed
from radlake.net import StudyFound, Window
from radlake.net.delivery import Delivery
from radlake.net.inventory import Inventory, Keys, studies_within, study_from_answer
from radlake.net.listing import AnyDate, CutLists, Span
from radlake.net.study_client import ATTEMPTS, StudyClient
from radlake.synth.behaviour import Behaviour, Offline, TooBroad
from radlake.synth.datasets import SeriesObjects
from radlake.synth.headers import series_header
from radlake.synth.holdings import LEVELS, Held, Holdings
from radlake.synth.persons import make_person
from radlake.synth.protocols import PROTOCOLS, SeriesPlan
from radlake.synth.province import Exam, Hospital, Series, Study, make_hospitals
from radlake.synth.quirks import CATALOGUE, CatalogueEntry, Quirks, combined

__all__ = ["VirtualArchive", "VirtualClient", "VirtualHospital", "make_virtual_province"]

START, DAYS = date(2025, 1, 1), 28
_THIN = 3  # 32 x 32 pixels: an object of 4 KB
_TWINS_ONE_IN = 4
_CAPPED_STUDIES = 1.5  # a capped archive holds so many times its cap, else nobody would notice
_OUT_OF_RESOURCES = 0xA700


@dataclass(frozen=True)
class VirtualHospital:
    """A hospital, how many studies its PACS holds, and the quirks of it; `make` gives the archive."""

    hospital: Hospital
    n_studies: int
    entries: tuple[CatalogueEntry, ...]
    seed: int
    n_persons: int

    @property
    def quirks(self) -> Quirks:
        return combined(*self.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its quirks."""
        return tuple(entry.name for entry in self.entries)

    def make(self) -> VirtualArchive:
        return VirtualArchive(self)


def make_virtual_province(*, seed: int, hospitals: int, studies: int) -> tuple[VirtualHospital, ...]:
    """So many hospitals with so many studies in all; two thirds of the hospitals have one or two quirks.

    Every quirk of the catalogue occurs when there are hospitals enough. An archive that caps its lists has its share
    of studies raised above the cap where that leaves the others at least one each.
    """
    rng = random.Random(f"radlake/{seed}/quirks")
    places = make_hospitals(hospitals)
    chosen = [_entries(number, rng=rng) for number in range(hospitals)]
    least = [_least_studies(entries) for entries in chosen]
    while sum(least) > studies:
        largest = max(range(hospitals), key=least.__getitem__)
        if least[largest] == 1:
            raise ValueError("a hospital has at least one study")
        least[largest] = 1
    weights = [place.weight for place in places]
    spare = studies - sum(least)
    shares = [int(spare * weight / sum(weights)) for weight in weights]
    shares[-1] += spare - sum(shares)
    return tuple(
        VirtualHospital(place, at_least + share, entries, seed=seed, n_persons=max(1, studies * 2 // 3))
        for place, at_least, share, entries in zip(places, least, shares, chosen, strict=True)
    )


def _entries(number: int, *, rng: random.Random) -> tuple[CatalogueEntry, ...]:
    """The quirks of the hospital with this number: each of the catalogue in turn, some with a second one."""
    turn, place = divmod(number, len(CATALOGUE) * 3 // 2)
    if place >= len(CATALOGUE):
        return ()
    first = CATALOGUE[place]
    if turn == 0 or rng.random() < 0.6:
        return (first,)
    return first, rng.choice([entry for entry in CATALOGUE if entry is not first])


def _least_studies(entries: tuple[CatalogueEntry, ...]) -> int:
    cap = max((max(entry.quirks.result_cap, entry.quirks.refuse_above) for entry in entries), default=0)
    return max(1, int(cap * _CAPPED_STUDIES))


class VirtualArchive:
    """What one hospital holds.

    Attributes
    ----------
    holdings : Holdings
        The index; its instances are made when they are read.
    late : dict
        Number of instances that `arrive_late` will add, by Study Instance UID.
    """

    def __init__(self, virtual: VirtualHospital) -> None:
        self.virtual = virtual
        self.holdings = Holdings()
        self.late: dict[str, list[tuple[Exam, Study, Series]]] = {}
        place, quirks = virtual.hospital, virtual.quirks
        self._hospital = replace(place, charset="GB18030") if quirks.is_charset_mislabelled else place
        for number in range(1, virtual.n_studies + 1):
            self._hold(number, quirks=quirks)

    def behaviour(self) -> Behaviour:
        """Its PACS as it is when it starts: nothing was asked yet."""
        return Behaviour(self.holdings, quirks=self.virtual.quirks)

    def arrive_late(self) -> int:
        """Let the late series come; the number of studies that grew."""
        n_studies = len(self.late)
        for parts in self.late.values():
            for exam, study, series in parts:
                self._hold_series(exam, study, series)
        self.late = {}
        return n_studies

    def _hold(self, number: int, *, quirks: Quirks) -> None:
        exam = _exam(number, virtual=self.virtual, hospital=self._hospital)
        study = exam.studies[0]
        for series in study.series:
            self._hold_series(exam, study, series)
        if quirks.late_one_in and number % quirks.late_one_in == 0:
            more = replace(
                study.series[0], series_instance_uid=f"{study.study_instance_uid}.9", number=9, n_instances=1
            )
            self.late[study.study_instance_uid] = [(exam, study, more)]
        if quirks.twins and number % _TWINS_ONE_IN == 0:
            self._hold_twin(exam, study, quirks.twins)

    def _hold_series(self, exam: Exam, study: Study, series: Series) -> None:
        attributes = self._attributes(exam, study, series)
        for number in range(1, series.n_instances + 1):
            uid = f"{series.series_instance_uid}.{number}"
            self._add(attributes, _Content(self, exam, study, series, number), uid=uid, number=number)

    def _hold_twin(self, exam: Exam, study: Study, kind: str) -> None:
        """The first instance of the study once more."""
        first = study.series[0]
        uid = f"{first.series_instance_uid}.1"
        note, series = "", first
        if kind == "other":
            note = "again"
        elif kind == "series":
            series = replace(first, series_instance_uid=f"{study.study_instance_uid}.8", number=8)
        attributes = self._attributes(exam, study, series)
        self._add(attributes, _Content(self, exam, study, series, 1, uid, note), uid=uid, number=1)

    def _attributes(self, exam: Exam, study: Study, series: Series) -> dict[str, str]:
        header = series_header(exam, study, series, hospital=self._hospital)
        skew = timedelta(days=self.virtual.quirks.skew_days)
        known = {key: _text(header.get(key, "")) for keys in LEVELS.values() for key in keys}
        return known | {"StudyDate": f"{study.started_at + skew:%Y%m%d}", "NumberOfFrames": ""}

    def _add(self, attributes: Mapping[str, str], content: _Content, *, uid: str, number: int) -> None:
        own = {"SOPInstanceUID": uid, "InstanceNumber": str(number)}
        self.holdings.add(
            {**attributes, **own}, content=content, transfer_syntax_uid=self._hospital.transfer_syntax_uid
        )

    def _objects(self, exam: Exam, study: Study, series: Series) -> SeriesObjects:
        label = "ISO_IR 100" if self.virtual.quirks.is_charset_mislabelled else None
        return SeriesObjects(
            exam, study, series, hospital=self._hospital, seed=self.virtual.seed, thin=_THIN, label=label
        )


@dataclass(frozen=True, slots=True)
class _Content:
    """The bytes of one instance, made at each call."""

    archive: VirtualArchive
    exam: Exam
    study: Study
    series: Series
    number: int
    uid: str = ""
    note: str = ""

    def __call__(self) -> bytes:
        objects = self.archive._objects(self.exam, self.study, self.series)
        return objects.content(self.number, sop_instance_uid=self.uid, note=self.note)


class VirtualClient(StudyClient):
    """A `radlake.net.client.NodeClient` of a virtual PACS in this process: the quirks, without the wire.

    What of a harvester lies above the wire is the same as for every other node: the doubt about lists and counts, the
    fallbacks, the durable files.
    """

    refusals = frozenset((0,))
    breath = 0.0

    def __init__(self, behaviour: Behaviour, *, name: str) -> None:
        super().__init__(node=name)
        self._behaviour = behaviour
        self._lists = CutLists(node=name)

    def echo(self) -> float:
        self._associate()
        return 0.0

    def find_studies(self, window: Window) -> list[StudyFound]:
        self._associate()
        return studies_within(window, self._lists.whole(Span(window), self._list), node=self._name)

    @property
    def list_limit(self) -> int | None:
        return self._lists.limit

    def doubtful_windows(self) -> tuple[Window, ...]:
        return self._lists.doubtful()

    def find_any_studies(self, *, at_most: int) -> list[StudyFound]:
        self._associate()
        return self._list(AnyDate())[:at_most]

    def _list(self, span: Span | AnyDate) -> list[StudyFound]:
        try:
            answers = list(self._behaviour.find("STUDY", span.keys()))
        except TooBroad as exc:
            raise QueryFailed(
                node=self._name, level="STUDY", reason="out of resources", status=_OUT_OF_RESOURCES
            ) from exc
        cap = self._behaviour.quirks.result_cap
        return [study_from_answer(answer) for answer in (answers[:cap] if cap else answers)]

    def _find_inventory(self, study_uid: str) -> Inventory:
        self._associate()
        listed: dict[str, list[str]] = {}
        study = {"StudyInstanceUID": study_uid}
        for series in self._behaviour.find("SERIES", study):
            series_uid = series["SeriesInstanceUID"]
            images = self._behaviour.find("IMAGE", {**study, "SeriesInstanceUID": series_uid})
            if uids := [image["SOPInstanceUID"] for image in images]:
                listed[series_uid] = uids
        return Inventory(listed or None)

    def _ask(self, requests: list[Keys], inventory: Inventory, delivery: Delivery) -> None:  # noqa: ARG002
        self._associate()
        for request in requests:
            query = {key: value if isinstance(value, str) else "\\".join(value) for key, value in request.items()}
            try:
                instances = self._behaviour.sends(query)
            except Offline:
                delivery.refuse("its instances are offline")
                return
            delivery.statuses.add(0)
            for held in instances:
                if self._behaviour.cannot_send(held):
                    delivery.n_said_failed += not self._behaviour.quirks.hide_failures
                elif self._behaviour.is_cut():
                    delivery.reasons.append("connection lost")
                    return
                else:
                    self._store(held, delivery)
                delivery.n_said += 1

    def _store(self, held: Held, delivery: Delivery) -> None:
        with delivery.folder.draft() as draft:
            draft.write(held.content())
            delivery.count(held.sop_instance_uid, is_new=draft.keep_as(held.sop_instance_uid))

    def _associate(self) -> None:
        """As over DIMSE: who is refused asks again before it gives up."""
        if all(self._behaviour.refuses() for _ in range(ATTEMPTS)):
            raise NodeUnavailable(node=self._name, reason="it refuses the association")


@lru_cache(maxsize=1024)
def _person(number: int, seed: int):
    return make_person(number, rng=random.Random(f"radlake/{seed}/person/{number}"), today=START)


def _exam(number: int, *, virtual: VirtualHospital, hospital: Hospital) -> Exam:
    """One exam of one study of one to three instances."""
    rng = random.Random(f"radlake/{virtual.seed}/{hospital.hospital_id}/{number}")
    who = 1 + int(rng.random() * virtual.n_persons)
    person = _person(who, virtual.seed)
    suitable = [one for one in PROTOCOLS if person.sex in one.sex]
    protocol = rng.choices(suitable, [one.weight for one in suitable])[0]
    started_at = datetime(START.year, START.month, START.day, 7) + timedelta(
        days=rng.randrange(DAYS), seconds=rng.randrange(14 * 3600)
    )
    uid = f"{hospital.uid_root}.{number}"
    plans = _plans(protocol.series, n_instances=rng.choice((1, 2, 2, 3)))
    series = tuple(Series(f"{uid}.{place}", place, plan, n) for place, (plan, n) in enumerate(plans, start=1))
    return Exam(
        exam_id=f"{hospital.hospital_id}/{number:06d}",
        hospital_id=hospital.hospital_id,
        person=person,
        patient_id=f"{who * 37 + 1000:010d}",
        has_national_id=rng.random() < 0.92,
        accession_number=f"{started_at:%y%m%d}{number:06d}",
        started_at=started_at,
        protocol=protocol,
        laterality=rng.choice("LR") if protocol.is_paired else "B" if protocol.modality == "MG" else "",
        has_body_part=rng.random() < 0.88,
        is_emergency=rng.random() < 0.12,
        studies=(Study(uid, started_at, series),),
    )


def _plans(series: tuple[SeriesPlan, ...], *, n_instances: int) -> list[tuple[SeriesPlan, int]]:
    """The first series that take so many instances; one instance at least."""
    plans: list[tuple[SeriesPlan, int]] = []
    for plan in (plan for plan in series if plan.description != "Topogram"):
        if n_instances > 0:
            n = min(n_instances, plan.most)
            plans.append((plan, n))
            n_instances -= n
    return plans


def _text(value: object) -> str:
    return "\\".join(map(str, value)) if isinstance(value, list) else str(value)
