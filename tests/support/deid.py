"""De-identify in tests the way the lake does: through bytes, and judged by pydicom alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pydicom
from pydicom import Dataset

from radlake.deidentify import Deidentifier, KeyRing, Profile, identify_person, load_profile
from radlake.deidentify.profile import read_profile
from radlake.dicom.part10 import encode_instance, read_bytes
from support.dicom import ct_study, dicom_bytes

__all__ = [
    "CHINESE_NAME",
    "HOSPITAL",
    "HOSPITAL_NAME",
    "KEYS",
    "PATIENT_ID",
    "assert_unreadable",
    "ct_of_somebody",
    "default_profile",
    "deidentified",
    "deidentified_bytes",
    "item_of",
    "occurrences",
    "profile_of",
    "read_output",
]

KEYS = KeyRing.from_secret("5a" * 32)
HOSPITAL = "jsph"
CHINESE_NAME = "王秀兰"
PATIENT_ID = "ZY12736053"
HOSPITAL_NAME = "苏州样例第一医院"
_ENCODINGS = ("utf-8", "gb18030", "big5", "latin_1", "iso2022_jp_2", "euc_kr", "utf-16-le", "utf-16-be")


def deidentified_bytes(data: bytes | Dataset, *, profile: Profile | None = None) -> bytes:
    """The Part 10 bytes that the lake stores, from the bytes (or the data set) that a hospital sends."""
    ds = read_bytes(dicom_bytes(data) if isinstance(data, Dataset) else data)
    person = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS)
    deidentifier = Deidentifier(profile or default_profile(), KEYS)
    return encode_instance(deidentifier.deidentify(ds, person=person, hospital_id=HOSPITAL))


def deidentified(data: bytes | Dataset, *, profile: Profile | None = None) -> Dataset:
    """The same as a data set, read by pydicom."""
    return read_output(deidentified_bytes(data, profile=profile))


@cache
def default_profile() -> Profile:
    return load_profile("default")


def read_output(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def occurrences(text: str, data: bytes) -> Iterator[str]:
    """Encodings in which a text can be read in the bytes; also without the marks of a name, in any case."""
    for encoding in _ENCODINGS:
        try:
            needle = text.encode(encoding)
        except UnicodeEncodeError:
            continue
        if needle in data:
            yield encoding
    folded = text.replace("^", "").replace(" ", "").encode("utf-8").lower()
    if folded in data.replace(b"^", b"").replace(b" ", b"").lower():
        yield "folded"


def ct_of_somebody(**attributes: object) -> Dataset:
    """A CT slice that tells by right whose it is."""
    name = f"Wang^Xiulan={CHINESE_NAME}"
    return ct_study(1, patient=name, patient_id=PATIENT_ID, hospital=HOSPITAL_NAME, **attributes)[0]


def item_of(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def profile_of(folder: Path, text: str) -> Profile:
    """A profile of a few lines of YAML, without its head."""
    path = folder / "own.yaml"
    path.write_text(f"name: own\nversion: 1\ntitle: {{zh: 甲, en: A}}\n{text}\n", encoding="utf-8")
    return read_profile(path)


def assert_unreadable(data: bytes, *texts: str) -> None:
    readable = {text: list(occurrences(text, data)) for text in texts}
    assert not any(readable.values()), readable
