"""Archives that break their word: nothing is lost in silence, and one bad answer does not spoil the others."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.uid import MRImageStorage

from radlake.errors import AssociationRejected, NodeUnavailable, QueryFailed, RetrieveFailed
from radlake.net import NodeClient, RetrieveResult, StudyFound, Window, connect
from radlake.net.node import Timeouts
from support import need
from support.dicom import ct_study, write
from support.odd_pacs import OddPacs, odd_pacs, rows

# pynetdicom forgets to close a socket that its peer closed first.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")

MARCH = Window(date(2026, 3, 1), date(2026, 3, 31))
SLICES = ct_study(n=5)
STUDY, SERIES = SLICES[0].StudyInstanceUID, SLICES[0].SeriesInstanceUID
UIDS = frozenset(str(ds.SOPInstanceUID) for ds in SLICES)


def client(pacs: OddPacs, **settings: Any) -> NodeClient:
    return connect(pacs.node(**settings), ae_title="RADLAKE", scp_port=settings.get("move_port", 0))


def listing(identifier: Dataset, slices: Sequence[Dataset] = SLICES) -> list[Dataset]:
    """A good answer at every level."""
    study, series = slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID
    if identifier.QueryRetrieveLevel == "STUDY":
        return rows({"StudyInstanceUID": study, "StudyDate": "20260301"})
    if identifier.QueryRetrieveLevel == "SERIES":
        return rows({"StudyInstanceUID": study, "SeriesInstanceUID": series, "Modality": "CT"})
    return rows(*({"SOPInstanceUID": ds.SOPInstanceUID, "SOPClassUID": ds.SOPClassUID} for ds in slices))


def no_listing(identifier: Dataset) -> list[Dataset]:
    return []


def sending(*slices: Dataset) -> Callable[[Any], Iterator[Any]]:
    """A C-GET that sends these and reports success."""

    def get(event: Any) -> Iterator[Any]:
        yield len(slices)
        yield from ((0xFF00, ds) for ds in slices)

    return get


# C-FIND


def test_a_name_in_another_character_set_than_it_says() -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds[0x00100010] = DataElement(0x00100010, "UN", "王^小东".encode("gb18030"))
    ds.StudyInstanceUID, ds.StudyDate, ds.ModalitiesInStudy = "1.2", "20260301", ["CT", "SR"]
    with odd_pacs(find=lambda _: [ds]) as pacs:
        assert client(pacs).find_studies(MARCH) == [StudyFound("1.2", date(2026, 3, 1), None, ("CT", "SR"))]


def test_an_archive_that_ignores_the_date_and_repeats_itself() -> None:
    answers = rows(
        {"StudyInstanceUID": "1.1", "StudyDate": "20260301"},
        {"StudyInstanceUID": "1.1", "StudyDate": "20260301"},
        {"StudyInstanceUID": "1.2", "StudyDate": "20260401"},
        {"StudyInstanceUID": "1.3", "StudyDate": ""},
        {"StudyDate": "20260301"},
    )
    with odd_pacs(find=lambda _: answers) as pacs:
        assert [study.study_uid for study in client(pacs).find_studies(MARCH)] == ["1.1", "1.3"]


def test_an_archive_that_lists_fifty_studies_at_most() -> None:
    studies = [
        {"StudyInstanceUID": f"1.{day}.{hour}", "StudyDate": f"202603{day:02d}", "StudyTime": f"{hour:02d}3000"}
        for day in (1, 2, 20)
        for hour in range(24)
    ]

    def find(identifier: Dataset) -> list[Dataset]:
        first, _, last = identifier.StudyDate.partition("-")
        begin, _, end = str(identifier.get("StudyTime", "-")).partition("-")
        found = [
            study
            for study in studies
            if first <= study["StudyDate"] <= (last or first) and begin <= study["StudyTime"] <= (end or "24")
        ]
        return rows(*found[:50])

    with odd_pacs(find=find) as pacs:
        found = client(pacs).find_studies(MARCH)
        assert {study.study_uid for study in found} == {study["StudyInstanceUID"] for study in studies}
        assert len(found) == len(studies)
        assert pacs.n_associations == 1


def test_no_patient_is_asked_for() -> None:
    with odd_pacs(find=listing) as pacs:
        client(pacs).find_studies(MARCH)
        client(pacs).find_instances(STUDY)
        assert all(element.tag.group != 0x0010 for _, identifier in pacs.asked for element in identifier)


@pytest.mark.parametrize(
    ("status", "reason"), [(0xA700, "out of resources"), (0xC001, "unable to process"), (0xFE00, "cancelled")]
)
def test_a_query_that_fails_half_way_gives_no_half_list(status: int, reason: str) -> None:
    with (
        odd_pacs(find=lambda identifier: [*listing(identifier), (status, None)]) as pacs,
        pytest.raises(QueryFailed, match=reason),
    ):
        client(pacs).find_studies(MARCH)


def test_an_archive_that_falls_silent() -> None:
    enough = threading.Event()

    def find(identifier: Dataset) -> Iterator[Dataset]:
        yield from listing(identifier)
        enough.wait(10)

    with odd_pacs(find=find) as pacs:
        with pytest.raises(QueryFailed, match=r"silent for 0\.2 s"):
            client(pacs, timeouts=Timeouts(query=0.2)).find_studies(MARCH)
        enough.set()


@pytest.mark.parametrize(
    "find",
    [
        no_listing,
        lambda identifier: listing(identifier) if identifier.QueryRetrieveLevel != "IMAGE" else [],
        lambda identifier: listing(identifier) if identifier.QueryRetrieveLevel != "IMAGE" else [(0xA900, None)],
        lambda identifier: (
            listing(identifier)
            if identifier.QueryRetrieveLevel == "IMAGE"
            else rows({"SeriesInstanceUID": SERIES, "NumberOfSeriesRelatedInstances": 500})
        ),
    ],
    ids=["nothing", "no instances", "no such level", "fewer instances than it counts"],
)
def test_a_list_that_cannot_be_trusted_is_no_list(find: Callable[[Dataset], list[Any]]) -> None:
    with odd_pacs(find=find) as pacs:
        assert client(pacs).find_instances(STUDY) is None


def test_answers_for_another_study_are_left_out() -> None:
    def find(identifier: Dataset) -> list[Dataset]:
        stray = {"StudyInstanceUID": "9.9", "SeriesInstanceUID": "9.9.9"}
        return rows(stray, *listing(identifier)) if identifier.QueryRetrieveLevel == "SERIES" else listing(identifier)

    with odd_pacs(find=find) as pacs:
        assert client(pacs).find_instances(STUDY) == UIDS


# C-GET


@pytest.mark.parametrize(
    ("find", "asked"),
    [(listing, ["STUDY", "SERIES", "SERIES"]), (no_listing, ["STUDY", "STUDY"])],
    ids=["listed", "no list"],
)
def test_success_with_no_sub_operations(
    find: Callable[[Dataset], list[Dataset]], asked: list[str], tmp_path: Path
) -> None:
    with odd_pacs(find=find, get=sending()) as pacs:
        with pytest.raises(RetrieveFailed, match="reported success"):
            client(pacs).retrieve(STUDY, into=tmp_path)
        assert pacs.levels("C_GET") == asked


def test_success_with_a_part_of_the_study(tmp_path: Path) -> None:
    with odd_pacs(find=listing, get=sending(*SLICES[:3])) as pacs:
        result = client(pacs).retrieve(STUDY, into=tmp_path)
    assert result == RetrieveResult(3, 2, "it reported success, but 2 of the instances did not come")


def test_a_partial_failure_is_told_with_its_status(tmp_path: Path) -> None:
    foreign = ct_study(n=1, study="x")[0]
    foreign.SOPClassUID = foreign.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.1"  # not negotiated
    with odd_pacs(find=no_listing, get=sending(*SLICES[:2], foreign)) as pacs:
        result = client(pacs).retrieve(STUDY, into=tmp_path)
    assert result == RetrieveResult(2, 1, "0xB000: sub-operations complete, with failures")
    assert dcmread(tmp_path / f"{SLICES[0].SOPInstanceUID}.dcm") == SLICES[0]


def test_a_series_of_two_sop_classes(tmp_path: Path) -> None:
    """The class of one instance of a series is asked for; what has another comes at the second request."""
    mixed = ct_study(n=5, study="mixed")
    for ds in mixed[3:]:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage

    def find(identifier: Dataset) -> list[Dataset]:
        if identifier.QueryRetrieveLevel != "IMAGE":
            return listing(identifier)
        told = ["SOPInstanceUID", *(["SOPClassUID"] if "SOPClassUID" in identifier else [])]
        return rows(*({name: ds[name].value for name in told} for ds in mixed))

    def get(event: Any) -> Iterator[Any]:
        wanted = event.identifier.get("SOPInstanceUID") or [ds.SOPInstanceUID for ds in mixed]
        yield from sending(*(ds for ds in mixed if ds.SOPInstanceUID in wanted))(event)

    with odd_pacs(find=find, get=get) as pacs:
        assert client(pacs).retrieve(STUDY, into=tmp_path) == RetrieveResult(5, 0)
        requests = [identifier for verb, identifier in pacs.asked if verb == "C_GET"]
    first = min(mixed, key=lambda ds: ds.SOPInstanceUID)
    others = {ds.SOPInstanceUID for ds in mixed if ds.SOPClassUID != first.SOPClassUID}
    assert [identifier.QueryRetrieveLevel for identifier in requests] == ["STUDY", "IMAGE"]
    assert set(requests[1].SOPInstanceUID) == others


def test_no_class_is_asked_for_of_every_instance(tmp_path: Path) -> None:
    with odd_pacs(find=listing, get=sending(*SLICES)) as pacs:
        client(pacs).retrieve(STUDY, into=tmp_path)
        asked = [identifier for verb, identifier in pacs.asked if verb == "C_FIND" and "SOPClassUID" in identifier]
    assert [identifier.SOPInstanceUID in UIDS for identifier in asked] == [True]


def test_an_abort_in_the_middle_keeps_what_came(tmp_path: Path) -> None:
    def get(event: Any) -> Iterator[Any]:
        yield 5
        yield from ((0xFF00, ds) for ds in SLICES[:2])
        event.assoc.abort()

    with odd_pacs(find=listing, get=get) as pacs:
        result = client(pacs).retrieve(STUDY, into=tmp_path)
    assert result == RetrieveResult(2, 3, "aborted by the peer")
    assert {path.name for path in tmp_path.iterdir()} == {f"{ds.SOPInstanceUID}.dcm" for ds in SLICES[:2]}


def test_an_abort_before_anything_came(tmp_path: Path) -> None:
    def get(event: Any) -> Iterator[Any]:
        event.assoc.abort()
        yield 0

    with odd_pacs(find=listing, get=get) as pacs, pytest.raises(RetrieveFailed, match="aborted"):
        client(pacs).retrieve(STUDY, into=tmp_path)


def test_an_instance_sent_twice_counts_once(tmp_path: Path) -> None:
    with odd_pacs(find=listing, get=sending(*SLICES, SLICES[0])) as pacs:
        assert client(pacs).retrieve(STUDY, into=tmp_path) == RetrieveResult(5, 0)


def test_only_the_missing_instances_are_asked_for(tmp_path: Path) -> None:
    for ds in SLICES[:3]:
        write(ds, tmp_path / f"{ds.SOPInstanceUID}.dcm")
    with odd_pacs(find=listing, get=sending(*SLICES[3:])) as pacs:
        assert client(pacs).retrieve(STUDY, into=tmp_path) == RetrieveResult(2, 0)
        (request,) = [identifier for verb, identifier in pacs.asked if verb == "C_GET"]
    assert request.QueryRetrieveLevel == "IMAGE"
    assert set(request.SOPInstanceUID) == {ds.SOPInstanceUID for ds in SLICES[3:]}


def test_an_archive_that_knows_no_retrieve_below_the_study(tmp_path: Path) -> None:
    def get(event: Any) -> Iterator[Any]:
        if event.identifier.QueryRetrieveLevel != "STUDY":
            yield 0
            yield 0xA900, None
            return
        yield from sending(*SLICES)(event)

    write(SLICES[0], tmp_path / f"{SLICES[0].SOPInstanceUID}.dcm")
    with odd_pacs(find=listing, get=get) as pacs:
        assert client(pacs).retrieve(STUDY, into=tmp_path) == RetrieveResult(4, 0)
        assert pacs.levels("C_GET") == ["IMAGE", "STUDY"]


def test_the_instances_are_listed_once_for_list_and_retrieve(tmp_path: Path) -> None:
    with odd_pacs(find=listing, get=sending(*SLICES)) as pacs:
        asked = client(pacs)
        assert asked.find_instances(STUDY) == UIDS
        assert asked.retrieve(STUDY, into=tmp_path) == RetrieveResult(5, 0)
        assert pacs.levels("C_FIND") == ["SERIES", "IMAGE", "IMAGE"]


def test_an_archive_without_c_get_says_so(tmp_path: Path) -> None:
    with odd_pacs(find=listing) as pacs, pytest.raises(AssociationRejected, match="no C-GET"):
        client(pacs).retrieve(STUDY, into=tmp_path)


# C-MOVE


def moving(*slices: Dataset, port: int) -> Callable[[Any], Iterator[Any]]:
    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", port
        yield len(slices)
        yield from ((0xFF00, ds) for ds in slices)

    return move


def test_a_move_brings_the_study(tmp_path: Path) -> None:
    port = need.free_port()
    with odd_pacs(find=listing, move=moving(*SLICES, port=port)) as pacs:
        result = client(pacs, retrieve="move", move_port=port).retrieve(STUDY, into=tmp_path)
    assert result == RetrieveResult(5, 0)


def test_two_archives_send_to_one_port_at_the_same_time(tmp_path: Path) -> None:
    port, both = need.free_port(), threading.Barrier(2, timeout=60)
    studies = [SLICES, ct_study(n=3, study="of the other")]

    def fetch(slices: list[Dataset], into: Path) -> RetrieveResult:
        def move(event: Any) -> Iterator[Any]:
            both.wait()
            yield from moving(*slices, port=port)(event)

        with odd_pacs(find=partial(listing, slices=slices), move=move) as pacs:
            asked = connect(pacs.node(retrieve="move"), ae_title="RADLAKE", scp_port=port)
            return asked.retrieve(slices[0].StudyInstanceUID, into=into)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(fetch, studies, (tmp_path / "one", tmp_path / "other")))
    assert results == [RetrieveResult(5, 0), RetrieveResult(3, 0)]


def test_a_move_that_sends_another_study_too(tmp_path: Path) -> None:
    port = need.free_port()
    stray = ct_study(n=1, study="stray")
    with odd_pacs(find=listing, move=moving(*stray, *SLICES, port=port)) as pacs:
        result = client(pacs, retrieve="move", move_port=port).retrieve(STUDY, into=tmp_path)
    assert result == RetrieveResult(5, 0)
    assert {path.stem for path in tmp_path.iterdir()} == UIDS


@pytest.mark.dcmqrscp
def test_an_archive_that_answers_first_and_sends_later_with_an_association_for_each(tmp_path: Path) -> None:
    port = need.free_port()
    files = [write(ds, tmp_path / "at the archive" / f"{n}.dcm") for n, ds in enumerate(SLICES)]
    storescu = [need.program("storescu", package="dcmtk"), "-aec", "RADLAKE", "127.0.0.1", str(port)]

    def send_later() -> None:
        for path in files:
            time.sleep(0.1)
            subprocess.run([*storescu, str(path)], check=True, timeout=30)

    def move(event: Any) -> Iterator[Any]:
        threading.Thread(target=send_later).start()
        yield "127.0.0.1", port
        yield 0

    with odd_pacs(find=listing, move=move) as pacs:
        result = client(pacs, retrieve="move", move_port=port).retrieve(STUDY, into=tmp_path / "study")
    assert result == RetrieveResult(5, 0)


def test_a_move_that_falls_silent(tmp_path: Path) -> None:
    port, enough = need.free_port(), threading.Event()

    def move(event: Any) -> Iterator[Any]:
        yield "127.0.0.1", port
        yield 5
        yield 0xFF00, SLICES[0]
        enough.wait(15)

    with odd_pacs(find=listing, move=move) as pacs:
        asked = client(pacs, retrieve="move", move_port=port, timeouts=Timeouts(retrieve=0.3))
        result = asked.retrieve(STUDY, into=tmp_path)
        enough.set()
    assert (result.n_received, result.n_failed) == (1, 4)
    assert "silent for 0.3 s" in result.reason


# Associations


def test_a_busy_archive_is_asked_again() -> None:
    rejected = iter([True, True, False])

    def busy(event: Any) -> None:
        if next(rejected):
            event.assoc.acse.send_reject(0x02, 0x03, 0x02)
            event.assoc.kill()

    with odd_pacs(find=listing, on_requested=busy) as pacs:
        assert len(client(pacs).find_studies(MARCH)) == 1
        assert pacs.n_associations == 3


def test_a_refusal_for_good_is_not_repeated() -> None:
    def never(event: Any) -> None:
        event.assoc.acse.send_reject(0x01, 0x01, 0x03)
        event.assoc.kill()

    with odd_pacs(find=listing, on_requested=never) as pacs:
        with pytest.raises(AssociationRejected, match="calling AE title not recognized"):
            client(pacs).find_studies(MARCH)
        assert pacs.n_associations == 1


def test_no_more_associations_than_the_node_allows() -> None:
    lock = threading.Lock()
    n_now, n_most = 0, 0

    def find(identifier: Dataset) -> Iterator[Dataset]:
        nonlocal n_now, n_most
        with lock:
            n_now += 1
            n_most = max(n_most, n_now)
        time.sleep(0.1)
        yield from listing(identifier)
        with lock:
            n_now -= 1

    with odd_pacs(find=find) as pacs:
        asked = client(pacs, max_associations=2)
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(asked.find_studies, [MARCH] * 6))
    assert [len(studies) for studies in found] == [1] * 6
    assert n_most == 2


def test_an_echo_that_is_refused_is_unavailable() -> None:
    def abort(event: Any) -> None:
        event.assoc.abort()

    with odd_pacs(on_requested=abort) as pacs, pytest.raises(NodeUnavailable, match=r"aborted|closed"):
        client(pacs).echo()
