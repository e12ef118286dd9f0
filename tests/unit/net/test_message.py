"""Command sets and identifiers, judged by pydicom's own reader and writer."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, Sequence, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import DataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from radlake.net.message import (
    Field,
    MessageBroken,
    decode_command,
    decode_identifier,
    elements,
    encode_command,
    encode_identifier,
    encode_response,
    has_data_set,
    status_text,
    value_of,
)
from support.samples import COMPRESSED, UNCOMPRESSED


def encoded(ds: Dataset, *, is_implicit: bool = True, is_little: bool = True) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = is_implicit, is_little
    write_dataset(buffer, ds)
    return buffer.getvalue()


def test_a_command_as_pydicom_reads_it() -> None:
    raw = encode_command(
        {"CommandField": Field.C_MOVE_RQ, "MessageID": 7, "AffectedSOPClassUID": "1.2.3", "MoveDestination": "RADLAKE",
         "Priority": 2}, with_data_set=True
    )  # fmt: skip
    ds = read_dataset(BytesIO(raw), is_implicit_VR=True, is_little_endian=True)
    assert {element.keyword: element.value for element in ds} == {
        "CommandGroupLength": len(raw) - 12,
        "AffectedSOPClassUID": "1.2.3",
        "CommandField": 0x0021,
        "MessageID": 7,
        "MoveDestination": "RADLAKE",
        "Priority": 2,
        "CommandDataSetType": 1,
    }
    assert has_data_set(decode_command(raw))


def test_a_response_as_pydicom_writes_it() -> None:
    ds = Dataset()
    ds.AffectedSOPClassUID = "1.2"
    ds.CommandField = 0x8010
    ds.MessageIDBeingRespondedTo = 9
    ds.CommandDataSetType = 0x0101
    ds.Status = 0xB000
    ds[0x00000902] = DataElement(0x00000902, "UN", "王小东".encode("gb18030"))
    ds.NumberOfRemainingSuboperations = None
    ds.NumberOfFailedSuboperations = 2
    command = decode_command(encoded(ds))
    assert command == {
        "AffectedSOPClassUID": "1.2",
        "CommandField": Field.C_GET_RSP,
        "MessageIDBeingRespondedTo": 9,
        "CommandDataSetType": 0x0101,
        "Status": 0xB000,
        "NumberOfFailedSuboperations": 2,
    }
    assert not has_data_set(command)


def test_a_response_names_what_it_answers() -> None:
    request = {"CommandField": Field.C_STORE_RQ, "MessageID": 5, "AffectedSOPClassUID": "1.2", "Priority": 2}
    answer = decode_command(encode_response(request, field=Field.C_STORE_RSP, status=0xA700))
    assert answer == {
        "AffectedSOPClassUID": "1.2",
        "CommandField": Field.C_STORE_RSP,
        "MessageIDBeingRespondedTo": 5,
        "CommandDataSetType": 0x0101,
        "Status": 0xA700,
    }


def test_an_identifier_as_pydicom_reads_it() -> None:
    raw = encode_identifier(
        {
            "QueryRetrieveLevel": "IMAGE",
            "StudyInstanceUID": "1.2",
            "SOPInstanceUID": ["1.2.3", "1.2.34"],
            "StudyDate": "",
            "InstanceAvailability": "",
        }
    )
    ds = read_dataset(BytesIO(raw), is_implicit_VR=True, is_little_endian=True)
    assert {element.keyword: element.value for element in ds} == {
        "SOPInstanceUID": ["1.2.3", "1.2.34"],
        "StudyDate": "",
        "InstanceAvailability": "",
        "QueryRetrieveLevel": "IMAGE",
        "StudyInstanceUID": "1.2",
    }


def test_an_answer_with_a_name_in_another_character_set_than_it_says() -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds[0x00100010] = DataElement(0x00100010, "UN", "王^小东".encode("gb18030"))
    ds.StudyInstanceUID = "1.2.3"
    ds.StudyDate = "20260301"
    ds.ModalitiesInStudy = ["CT", "SR"]
    ds.InstanceAvailability = "NEARLINE"
    ds.ReferencedStudySequence = Sequence([Dataset()])
    ds.ReferencedStudySequence[0].StudyInstanceUID = "9.9.9"
    assert decode_identifier(encoded(ds)) == {
        "StudyInstanceUID": "1.2.3",
        "StudyDate": "20260301",
        "ModalitiesInStudy": "CT\\SR",
        "InstanceAvailability": "NEARLINE",
    }


def test_sequences_of_undefined_length_are_passed_over_to_any_depth() -> None:
    inner, middle, ds = Dataset(), Dataset(), Dataset()
    inner.StudyInstanceUID = "9.9"
    middle.ReferencedSeriesSequence = Sequence([inner, inner])
    ds.ReferencedStudySequence = Sequence([middle])
    ds.StudyInstanceUID = "1.2.3"
    for owner, keyword in ((middle, "ReferencedSeriesSequence"), (ds, "ReferencedStudySequence")):
        owner[keyword].is_undefined_length = True
        for item in owner[keyword].value:
            item.is_undefined_length_sequence_item = True
    assert decode_identifier(encoded(ds)) == {"StudyInstanceUID": "1.2.3"}


def test_unknown_vr_of_undefined_length_holds_implicit_items() -> None:
    # (0009,1000) UN of undefined length, one item with (0008,0016) in Implicit VR (PS3.5 6.2.2, note 4).
    inner = encode_identifier({"SOPClassUID": "1.2"})
    un = b"\x09\x00\x00\x10UN\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner
    un += b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    study = b"\x20\x00\x0d\x00UI\x04\x001.2\x00"
    assert list(elements(un + study, is_implicit=False)) == [(0x00091000, b""), (0x0020000D, b"1.2\0")]


@pytest.mark.parametrize("name", [*UNCOMPRESSED, *COMPRESSED, "MR_small_bigendian.dcm", "nested_priv_SQ.dcm"])
def test_the_elements_of_real_files(name: str) -> None:
    path = str(get_testdata_file(name, download=False))
    ds = dcmread(path)
    syntax = ds.file_meta.TransferSyntaxUID
    with open(path, "rb") as file:  # noqa: PTH123
        meta_end = 132 + 12 + ds.file_meta.FileMetaInformationGroupLength
        file.seek(meta_end)
        found = elements(file.read(), is_implicit=syntax.is_implicit_VR, is_big_endian=not syntax.is_little_endian)
        tags = [tag for tag, _ in found]
    assert tags == list(ds.keys())


def test_too_deep_is_broken_and_no_recursion_error() -> None:
    level = b"\x08\x00\x10\x11\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    with pytest.raises(MessageBroken):
        list(elements(level * 5000))


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_called_broken(data: bytes, is_implicit: bool, is_big_endian: bool) -> None:
    try:
        tags = [tag for tag, _ in elements(data, is_implicit=is_implicit, is_big_endian=is_big_endian)]
    except MessageBroken:
        return
    assert all(0 <= tag <= 0xFFFFFFFF for tag in tags)


@given(
    values=st.dictionaries(st.integers(0x00080000, 0x00400000), st.binary(max_size=6), min_size=1, max_size=5),
    wanted=st.integers(0x00080000, 0x00400000),
    cut=st.integers(0, 80),
)
def test_one_value_is_found_or_known_to_be_missing(values: dict[int, bytes], wanted: int, cut: int) -> None:
    def encoded(items: list[tuple[int, bytes]]) -> bytes:
        return b"".join(struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in items)

    items = sorted(values.items())
    for tag in (wanted, items[-1][0]):
        up_to = encoded([item for item in items if item[0] <= tag])
        is_certain = tag in values or tag < items[-1][0]
        for data in (encoded(items), encoded(items)[:cut]):
            try:
                assert value_of(data, tag, is_implicit=True) == values.get(tag, b"")
            except MessageBroken:
                assert not is_certain or len(data) < len(encoded(items))
            else:
                assert is_certain
                assert len(data) >= len(up_to)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (encode_identifier({"StudyDate": ""}), "without a command field"),
        (encode_command({"CommandField": Field.C_FIND_RSP}, with_data_set=False), "without a status"),
    ],
)
def test_a_message_that_lacks_the_essential_is_broken(raw: bytes, reason: str) -> None:
    with pytest.raises(MessageBroken, match=reason):
        decode_command(raw)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0xA801, "0xA801: move destination unknown: it does not know our AE title and address"),
        (0xC123, "0xC123: unable to process"),
        (0x1234, "0x1234: unknown status"),
    ],
)
def test_what_a_status_says(status: int, text: str) -> None:
    assert status_text(status) == text
