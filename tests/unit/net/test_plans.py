"""What is proposed, what is asked for, and what is believed of an answer: decisions without a network."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from radlake.errors import ConfigInvalid
from radlake.net import DimseNode, FolderNode, StudyFound, Window, connect
from radlake.net.contexts import VERIFICATION, choose_transfer_syntax, plan_contexts
from radlake.net.inventory import Inventory, plan_requests, studies_within, study_from_text
from radlake.net.node import Tls
from radlake.net.pdu import Refusal

SERIES = {"S1": ("1.1", "1.2", "1.3"), "S2": ("2.1", "2.2")}
STUDY = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1"}
ALL = Inventory(SERIES)


@pytest.mark.parametrize(
    ("inventory", "due", "expected"),
    [
        (Inventory(), None, [STUDY]),
        (Inventory(), {"1.1"}, [STUDY]),
        (ALL, None, [STUDY]),
        (ALL, ALL.instances, [STUDY]),
        (ALL, {"9.9"}, [STUDY]),
        (ALL, {"2.1", "2.2"}, [{**STUDY, "QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "S2"}]),
        (
            ALL,
            {"1.3", "1.1", "2.1", "2.2"},
            [
                {**STUDY, "QueryRetrieveLevel": "IMAGE", "SeriesInstanceUID": "S1", "SOPInstanceUID": ["1.1", "1.3"]},
                {**STUDY, "QueryRetrieveLevel": "SERIES", "SeriesInstanceUID": "S2"},
            ],
        ),
    ],
    ids=[
        "nothing known",
        "no list",
        "nothing said",
        "all",
        "not in the list",
        "a series",
        "some of one, all of another",
    ],
)
def test_the_fewest_requests(inventory: Inventory, due: set[str] | None, expected: list[object]) -> None:
    assert plan_requests("1", inventory=inventory, due=due) == expected


def test_long_lists_of_instances_are_split() -> None:
    inventory = Inventory({"S": [f"1.{n}" for n in range(251)]})
    requests = plan_requests("1", inventory=inventory, due={f"1.{n}" for n in range(250)})
    assert [len(request["SOPInstanceUID"]) for request in requests] == [100, 100, 50]


def test_each_known_class_is_proposed_in_each_transfer_syntax_alone() -> None:
    proposals = plan_contexts({CTImageStorage, MRImageStorage})
    assert all(len(p.transfer_syntaxes) == 1 and p.is_scp for p in proposals)
    pairs = [(p.abstract_syntax, p.transfer_syntaxes[0]) for p in proposals]
    assert len(pairs) == len(set(pairs)) <= 127
    for sop_class in (CTImageStorage, MRImageStorage):
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit):
            assert (sop_class, syntax) in pairs


def test_without_classes_the_modalities_tell() -> None:
    proposals = plan_contexts((), modalities=["CT", "SR"])
    classes = {p.abstract_syntax for p in proposals}
    assert {CTImageStorage, SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage} <= classes
    assert MRImageStorage not in classes
    assert (CTImageStorage, (JPEG2000Lossless,)) in [(p.abstract_syntax, p.transfer_syntaxes) for p in proposals]


@pytest.mark.parametrize("modalities", [(), ("CT", "??")], ids=["none", "an unknown one"])
def test_without_either_the_commonest_classes_are_proposed(modalities: tuple[str, ...]) -> None:
    classes = {p.abstract_syntax for p in plan_contexts((), modalities=modalities)}
    assert {CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage} <= classes


@pytest.mark.parametrize("n", [0, 1, 30, 63, 64, 90, 127], ids=str)
def test_an_association_has_room_for_127_and_every_class_gets_a_plain_one(n: int) -> None:
    classes = {f"1.2.840.10008.5.1.4.1.1.999.{k}" for k in range(n)}
    proposals = plan_contexts(classes)
    assert len(proposals) <= 127
    plain = {p.abstract_syntax for p in proposals if ExplicitVRLittleEndian in p.transfer_syntaxes}
    assert plain == classes or (not classes and CTImageStorage in plain)


@pytest.mark.parametrize(
    ("abstract_syntax", "offered", "chosen"),
    [
        (CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ExplicitVRLittleEndian),
        (CTImageStorage, [JPEG2000Lossless, ImplicitVRLittleEndian], JPEG2000Lossless),
        (CTImageStorage, [ExplicitVRBigEndian, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        (CTImageStorage, [ExplicitVRBigEndian], ExplicitVRBigEndian),
        (CTImageStorage, [DeflatedExplicitVRLittleEndian], DeflatedExplicitVRLittleEndian),
        (CTImageStorage, ["1.2.840.113619.5.2"], Refusal.TRANSFER_SYNTAXES),
        ("1.3.12.2.1107.5.9.1", [ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        (VERIFICATION, [ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ("1.2.840.10008.5.1.4.1.2.2.1", [ImplicitVRLittleEndian], Refusal.ABSTRACT_SYNTAX),
    ],
    ids=["first", "compressed", "not big endian", "big endian alone", "deflated", "private syntax", "private class",
         "echo", "a query is not storage"],
)  # fmt: skip
def test_what_our_storage_scp_accepts(abstract_syntax: str, offered: list[str], chosen: str | Refusal) -> None:
    assert choose_transfer_syntax(abstract_syntax, offered) == chosen


def test_a_window_is_a_range_of_dates() -> None:
    assert Window(date(2026, 3, 1), date(2026, 3, 1)).as_range() == "20260301"
    with pytest.raises(ValueError, match="ends before"):
        Window(date(2026, 3, 2), date(2026, 3, 1))


@pytest.mark.parametrize(
    ("study_date", "n_instances", "expected"),
    [
        ("20260301", "12", StudyFound("1.2", date(2026, 3, 1), 12, ("CT", "SR"))),
        ("2026.03.01", " 12 ", StudyFound("1.2", date(2026, 3, 1), 12, ("CT", "SR"))),
        ("", "", StudyFound("1.2", None, None, ("CT", "SR"))),
        ("20261301", "-1", StudyFound("1.2", None, None, ("CT", "SR"))),
        ("yesterday", "many", StudyFound("1.2", None, None, ("CT", "SR"))),
    ],
)
def test_a_study_from_the_texts_of_an_answer(study_date: str, n_instances: str, expected: StudyFound) -> None:
    modalities = ["CT", " SR ", ""]
    assert study_from_text(" 1.2", study_date=study_date, n_instances=n_instances, modalities=modalities) == expected


def test_an_answer_is_not_believed_blindly() -> None:
    within, outside = StudyFound("1", date(2026, 3, 1)), StudyFound("2", date(2026, 4, 1))
    undated, nameless = StudyFound("3"), StudyFound("")
    window = Window(date(2026, 3, 1), date(2026, 3, 31))
    assert studies_within(window, [within, outside, within, nameless, undated], node="n") == [within, undated]


def test_c_move_needs_a_port_that_the_node_knows() -> None:
    node = DimseNode(name="h1", ae_title="A", host="h", retrieve="move")
    with pytest.raises(ConfigInvalid, match="RADLAKE_SCP_PORT"):
        connect(node, ae_title="RADLAKE")
    connect(node, ae_title="RADLAKE", scp_port=11112)
    connect(node, ae_title="RADLAKE", scp_port=None)
    connect(node.model_copy(update={"move_port": 11113}), ae_title="RADLAKE")


def test_a_missing_key_file_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    node = DimseNode(name="h1", ae_title="A", host="h", tls=Tls(ca=tmp_path / "no.pem"))
    with pytest.raises(ConfigInvalid, match=r"no\.pem"):
        connect(node, ae_title="RADLAKE")


def test_a_folder_has_no_client(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folder"):
        connect(FolderNode(path=tmp_path), ae_title="RADLAKE")
