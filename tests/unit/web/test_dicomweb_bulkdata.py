"""Large values of a header: links in the metadata, and what is behind them, in sequences too."""

from __future__ import annotations

import json

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from radlake.web.dicomweb.bulkdata import bulk_value, tags_of
from radlake.web.dicomweb.catalogue import Instance
from radlake.web.dicomweb.metadata import json_of_instance
from radlake.web.dicomweb.refusals import NotFound
from support.dicom import dicom_bytes, sr_document


class Bytes:
    """One object in memory, read as objects of a lake are."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, path: str, offset: int, length: int) -> bytes:
        return self.content[offset : offset + length]


def test_links_lead_to_the_values() -> None:
    ds = sr_document()
    large, small = Dataset(), Dataset()
    large.ICCProfile, small.ICCProfile = b"p" * 2000, b"s" * 10
    ds.ReferencedSeriesSequence = Sequence([small, large])
    ds.ICCProfile = b"q" * 1026
    pixels = Bytes(b"before" + dicom_bytes(ds))
    instance = Instance("1.2", "1.2.3", "1.2.3.4", "1.2.840.10008.1.2.1", 0, 0, 1, 0, "", 0, "o", 6,
                        len(pixels.content) - 6, None)  # fmt: skip
    told = json_of_instance(pixels, instance, url="http://x")  # pyright: ignore[reportArgumentType]
    first, second = told["00081115"]["Value"]
    assert "InlineBinary" in first["00282000"]
    links = [told["00282000"]["BulkDataURI"], second["00282000"]["BulkDataURI"]]
    assert links == ["http://x/bulkdata/00282000", "http://x/bulkdata/00081115.1.00282000"]
    for link, value in zip(links, (b"q" * 1026, b"p" * 2000), strict=True):
        path = link.rpartition("/")[2]
        assert bulk_value(pixels, instance, tags_of(path)) == value  # pyright: ignore[reportArgumentType]
    for path in ("00081115.2.00282000", "00081115", "00100010", "x", "7FE00010"):
        with pytest.raises(NotFound):
            bulk_value(pixels, instance, tags_of(path))  # pyright: ignore[reportArgumentType]


def test_metadata_are_json_whatever_numbers_there_are() -> None:
    ds = sr_document()
    item = Dataset()
    item.RealWorldValueSlope = float("-inf")
    ds.RealWorldValueMappingSequence = Sequence([item])
    ds.add_new("TableOfParameterValues", "FL", [float("nan"), 1.5, float("inf")])
    pixels = Bytes(dicom_bytes(ds))
    instance = Instance("1.2", "1.2.3", "1.2.3.4", "1.2.840.10008.1.2.1", 0, 0, 1, 0, "", 0, "o", 0,
                        len(pixels.content), None)  # fmt: skip
    told = json_of_instance(pixels, instance, url="http://x")  # pyright: ignore[reportArgumentType]
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["0018605A"]["Value"] == ["NaN", 1.5, "Infinity"]
    assert told["00409096"]["Value"][0]["00409225"]["Value"] == ["-Infinity"]
    read = Dataset.from_json(told)
    assert str(read.TableOfParameterValues) == "[nan, 1.5, inf]"
