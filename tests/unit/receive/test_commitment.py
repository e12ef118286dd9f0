"""Storage commitment decided: what is asked, what we are committed to, and why not to the rest."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from radlake.lake.commitments import CommitmentRequest
from radlake.net.message import Command
from radlake.receive.commitment import WELL_KNOWN, Failure, failures, read, result
from radlake.receive.data_sets import Refused, bytes_of, data_set_of

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
REQUEST = CommitmentRequest("h1", "1.2.3", "CT01", {"1.1": CT, "1.2": CT, "1.3": CT, "1.4": CT})


def asked(**changes: object) -> tuple[Command, Dataset]:
    command: Command = {"CommandField": 0x0130, "ActionTypeID": 1, "RequestedSOPInstanceUID": WELL_KNOWN}
    ds = result(REQUEST, {})
    for keyword, value in changes.items():
        if keyword in ("ActionTypeID", "RequestedSOPInstanceUID"):
            command[keyword] = value  # pyright: ignore[reportArgumentType]
        else:
            setattr(ds, keyword, value)
    return command, ds


def test_what_is_asked() -> None:
    assert read(*asked(), hospital_id="h1", ae_title="CT01") == REQUEST


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ActionTypeID": 2}, 0x0123),
        ({"RequestedSOPInstanceUID": "1.2"}, 0x0112),
        ({"ReferencedSOPSequence": []}, 0x0115),
        ({"ReferencedSOPSequence": [Dataset()]}, 0x0115),
        ({"TransactionUID": ""}, 0x0115),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_no_request_is_refused(changes: dict[str, object], status: int) -> None:
    with pytest.raises(Refused) as refused:
        read(*asked(**changes), hospital_id="h1", ae_title="CT01")
    assert refused.value.status == status


def test_only_what_is_held_as_it_is_named_is_committed() -> None:
    failed = failures(REQUEST, held={"1.1": CT, "1.2": MR, "1.4": CT}, set_aside={"1.4"})
    assert failed == {
        "1.2": Failure.CLASS_CONFLICT,
        "1.3": Failure.NO_SUCH_INSTANCE,
        "1.4": Failure.PROCESSING_FAILURE,
    }


@pytest.mark.parametrize("syntax_uid", [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN], ids=["EVR", "IVR"])
def test_the_result_names_each_instance_once(syntax_uid: str) -> None:
    ds = result(REQUEST, {"1.2": Failure.CLASS_CONFLICT})
    back = data_set_of(bytes_of(ds, syntax_uid=syntax_uid), syntax_uid=syntax_uid)
    assert back.TransactionUID == "1.2.3"
    assert [item.ReferencedSOPInstanceUID for item in back.ReferencedSOPSequence] == ["1.1", "1.3", "1.4"]
    assert [(i.ReferencedSOPClassUID, i.ReferencedSOPInstanceUID, i.FailureReason) for i in back.FailedSOPSequence] == [
        (CT, "1.2", 0x0119)
    ]


def test_a_sequence_without_an_item_is_left_out() -> None:
    assert "FailedSOPSequence" not in result(REQUEST, {})
    assert "ReferencedSOPSequence" not in result(REQUEST, dict.fromkeys(REQUEST.wanted, Failure.NO_SUCH_INSTANCE))
