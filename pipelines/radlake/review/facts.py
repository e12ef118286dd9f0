"""What a reviewer is told about a picture in words: how it was made and how large it is, never whose it is."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pydicom
from pydicom import Dataset
from pydicom.uid import UID

from radlake.dicom.values import number, texts

__all__ = ["Facts", "facts_of"]

_SOP_CLASS, _MODALITY, _MANUFACTURER, _MODEL = 0x00080016, 0x00080060, 0x00080070, 0x00081090
_SERIES, _INSTANCE_NUMBER, _FRAMES, _ROWS, _COLUMNS = 0x0020000E, 0x00200013, 0x00280008, 0x00280010, 0x00280011
_STATION, _SERIAL = 0x00081010, 0x00181000
_MIME_TYPE = 0x00420012
_IDENTITY = (0x00100010, 0x00100020, 0x00101000, 0x00101001, 0x00080050)
_TAGS = (
    _SOP_CLASS, _MODALITY, _MANUFACTURER, _MODEL, _SERIES, _INSTANCE_NUMBER, _FRAMES, _ROWS, _COLUMNS, _STATION,
    _SERIAL, _MIME_TYPE, *_IDENTITY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one object. `series` and `device` are to be compared, not shown.

    Attributes
    ----------
    made_by : str
        Manufacturer and model; empty when a name or number of the patient stands in them.
    rows, columns : int
        0 for an object without pixels.
    """

    modality: str = ""
    sop_class: str = ""
    made_by: str = ""
    rows: int = 0
    columns: int = 0
    n_frames: int = 1
    mime_type: str = ""
    instance_number: int = 0
    series: str = ""
    device: tuple[str, ...] = ()

    @property
    def has_picture(self) -> bool:
        return self.rows > 0 and self.columns > 0


@lru_cache(maxsize=8192)
def facts_of(path: Path) -> Facts:
    """Read them from a header; of one that cannot be read nothing is known. The bytes behind a path never change."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            return _facts(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS)))
    except Exception:  # whatever is broken in it: the reviewer sees that nothing is known
        return Facts()


def _facts(ds: Dataset) -> Facts:
    def text(tag: int) -> str:
        return " ".join(texts(ds, tag))[:64]

    made_by = " ".join(part for part in (text(_MANUFACTURER), text(_MODEL)) if part)
    names = {word for tag in _IDENTITY for word in re.split(r"[\s^=]+", text(tag).casefold()) if len(word) > 1}
    return Facts(
        modality=_code(text(_MODALITY)),
        sop_class=UID(text(_SOP_CLASS)).name if UID(text(_SOP_CLASS)).is_valid else "",
        made_by="" if any(name in made_by.casefold() for name in names) else made_by,
        rows=number(ds, _ROWS) or 0,
        columns=number(ds, _COLUMNS) or 0,
        n_frames=number(ds, _FRAMES) or 1,
        mime_type=_code(text(_MIME_TYPE)),
        instance_number=number(ds, _INSTANCE_NUMBER) or 0,
        series=text(_SERIES),
        device=tuple(text(tag) for tag in (_MANUFACTURER, _MODEL, _STATION, _SERIAL)),
    )


def _code(text: str) -> str:
    """A word of a fixed vocabulary, or nothing: what is misused for other text is not shown."""
    return text if re.fullmatch(r"[A-Za-z0-9+./-]{1,32}", text) and not re.search(r"\d{5}", text) else ""
