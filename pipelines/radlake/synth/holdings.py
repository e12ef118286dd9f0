"""What a simulated PACS holds: an index of instances, and the matching of queries against it.

They are the Part-10 files of a folder, whose headers are read once, or are made when they are asked for (`virtual`).
Files that cannot be read, or that name no study, series or instance, are not held: a real PACS would have refused them.
Attributes are kept as text, values separated by backslashes, as in a query; matching follows PS3.4 C.2.2.2. Protocols
and encodings are left to `dimse_pacs` and `web_pacs`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

__all__ = ["LEVELS", "Held", "Holdings", "dataset_from"]

_STUDY_KEYS = """
StudyInstanceUID StudyDate StudyTime AccessionNumber StudyID StudyDescription ReferringPhysicianName
PatientName PatientID IssuerOfPatientID PatientBirthDate PatientSex
"""
_SERIES_KEYS = """
SeriesInstanceUID Modality SeriesNumber SeriesDescription SeriesDate SeriesTime BodyPartExamined Laterality
ProtocolName Manufacturer
"""
_IMAGE_KEYS = "SOPInstanceUID SOPClassUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames"
# Levels of the information model, from the top, with the keys answered at each, the unique key first.
LEVELS = {"STUDY": _STUDY_KEYS.split(), "SERIES": _SERIES_KEYS.split(), "IMAGE": _IMAGE_KEYS.split()}
_UNIQUE_KEYS = [keys[0] for keys in LEVELS.values()]


@dataclass(slots=True)
class Held:
    """A study, series or instance; an instance has no children, and `content`, its Part-10 file."""

    attributes: dict[str, str]
    children: dict[str, Held] = field(default_factory=dict)
    content: Callable[[], bytes] = bytes
    transfer_syntax_uid: str = ""

    @property
    def sop_instance_uid(self) -> str:
        return self.attributes["SOPInstanceUID"]

    @property
    def sop_class_uid(self) -> str:
        return self.attributes["SOPClassUID"]


class Holdings:
    """The index of one archive.

    Attributes
    ----------
    by_uid : dict
        Every instance by its SOP Instance UID; of two with the same one the first.

    Parameters
    ----------
    folder : Path, optional
        Folder of Part-10 files, at any depth. When two files carry the same SOP Instance UID the first one is held.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.root = Held({})
        self.by_uid: dict[str, Held] = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()) if folder else ():
            self._add_file(path)

    def add(self, attributes: Mapping[str, str], *, content: Callable[[], bytes], transfer_syntax_uid: str) -> None:
        """Hold an instance, also when one with its SOP Instance UID is held already.

        Parameters
        ----------
        attributes : mapping
            Every key of `LEVELS`.
        """
        held = self.root
        for keys in LEVELS.values():
            uid = attributes[keys[0]]
            if keys is LEVELS["IMAGE"] and uid in held.children:
                uid = f"{uid}~{len(held.children)}"
            if uid not in held.children:
                held.children[uid] = Held({key: attributes[key] for key in keys})
            held = held.children[uid]
        held.content, held.transfer_syntax_uid = content, transfer_syntax_uid
        self.by_uid.setdefault(held.sop_instance_uid, held)

    def _add_file(self, path: Path) -> None:
        try:
            ds = dcmread(path, stop_before_pixels=True)
            transfer_syntax_uid = str(ds.file_meta.TransferSyntaxUID)
        except (InvalidDicomError, EOFError, AttributeError, ValueError, NotImplementedError):
            return
        uids = [_text(ds, keyword) for keyword in _UNIQUE_KEYS]
        if not all(uids) or not _text(ds, "SOPClassUID") or uids[-1] in self.by_uid:
            return
        attributes = {key: _text(ds, key) for keys in LEVELS.values() for key in keys}
        self.add(attributes, content=path.read_bytes, transfer_syntax_uid=transfer_syntax_uid)

    def find(self, level: str, query: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """Answers at a level, each with the attributes of the levels above it and the counts of what is below it."""
        for held, attributes in _descend(self.root, query, to=list(LEVELS).index(level)):
            answer = attributes | _counts(level, held)
            if _is_match(answer, query):
                yield answer

    def instances(self, query: Mapping[str, str]) -> list[Held]:
        """Instances whose UIDs (and no other keys: PS3.4 C.4.3.1.2) the query names."""
        uids = {key: wanted for key, wanted in query.items() if key in _UNIQUE_KEYS}
        return [held for held, _ in _descend(self.root, uids, to=len(LEVELS) - 1)]


def _descend(held: Held, query: Mapping[str, str], *, to: int, level: int = 0) -> Iterator[tuple[Held, dict[str, str]]]:
    """What matches at the level `to`, with the attributes collected on the way down."""
    wanted = query.get(_UNIQUE_KEYS[level], "").strip("*")
    if not wanted or level == len(LEVELS) - 1:  # several may have the same SOP Instance UID: the match below tells
        children = list(held.children.values())
    else:
        children = [held.children.get(uid) for uid in wanted.split("\\")]
    for child in children:
        if child is None or not _is_match(child.attributes, query):
            continue
        if level == to:
            yield child, child.attributes
            continue
        for found, attributes in _descend(child, query, to=to, level=level + 1):
            yield found, child.attributes | attributes


def _is_match(attributes: Mapping[str, str], query: Mapping[str, str]) -> bool:
    return all(_matches(key, wanted, attributes[key]) for key, wanted in query.items() if key in attributes)


def _counts(level: str, held: Held) -> dict[str, str]:
    if level == "SERIES":
        return {"NumberOfSeriesRelatedInstances": str(len(held.children))}
    if level != "STUDY":
        return {}
    series = list(held.children.values())
    instances = [instance for one in series for instance in one.children.values()]
    return {
        "ModalitiesInStudy": "\\".join(sorted({one.attributes["Modality"] for one in series} - {""})),
        "SOPClassesInStudy": "\\".join(sorted({instance.sop_class_uid for instance in instances})),
        "NumberOfStudyRelatedSeries": str(len(series)),
        "NumberOfStudyRelatedInstances": str(len(instances)),
    }


def _text(ds: Dataset, keyword: str) -> str:
    """The value as text; empty when it cannot be decoded, or is no number where it should be one."""
    try:
        value = ds.get(keyword)
        if value is not None and dictionary_VR(keyword) == "IS":
            value = int(value)
    except Exception:  # pydicom raises what it likes at a value that breaks its representation
        return ""
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _matches(keyword: str, wanted: str, value: str) -> bool:
    """Whether an attribute matches a key of a query.

    >>> _matches("StudyDate", "20250101-20250131", "20250107")
    True
    >>> _matches("PatientName", "*王*", "Wang^XiaoDong=王^小东")
    True
    >>> _matches("ModalitiesInStudy", "CT", "CT\\\\SR")
    True
    """
    if not wanted.strip("*"):
        return True
    vr = dictionary_VR(keyword)
    if vr in ("DA", "TM") and "-" in wanted:
        first, last = wanted.split("-", 1)
        return bool(value) and first <= value and (not last or value[: len(last)] <= last)
    values = value.split("\\")
    if vr == "UI":
        return not set(values).isdisjoint(wanted.split("\\"))
    if vr == "PN":
        values += value.split("=")
    pattern = re.escape(wanted).replace(r"\*", ".*").replace(r"\?", ".")
    flags = re.DOTALL | (re.IGNORECASE if vr == "PN" else 0)
    return any(re.fullmatch(pattern, one, flags) for one in values)


def dataset_from(attributes: Mapping[str, str]) -> Dataset:
    """A data set of attributes kept as text."""
    ds = Dataset()
    for keyword, value in attributes.items():
        is_number = dictionary_VR(keyword) == "US"
        setattr(ds, keyword, (int(value) if value else None) if is_number else value)
    return ds
