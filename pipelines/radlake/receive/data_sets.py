"""Data sets that come and go with messages of the normalized services (PS3.7 10), and why one is refused."""

from __future__ import annotations

import io

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

__all__ = [
    "ATTRIBUTE_MISSING",
    "DUPLICATE_INSTANCE",
    "INVALID_ARGUMENT",
    "INVALID_VALUE",
    "NO_SUCH_ACTION",
    "NO_SUCH_INSTANCE",
    "PROCESSING_FAILURE",
    "RESOURCE_LIMITATION",
    "SYNTAXES",
    "Refused",
    "bytes_of",
    "data_set_of",
]

SYNTAXES = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)

INVALID_VALUE, PROCESSING_FAILURE, DUPLICATE_INSTANCE, NO_SUCH_INSTANCE = 0x0106, 0x0110, 0x0111, 0x0112
INVALID_ARGUMENT, ATTRIBUTE_MISSING, NO_SUCH_ACTION, RESOURCE_LIMITATION = 0x0115, 0x0120, 0x0123, 0x0213


class Refused(Exception):
    """What was asked cannot be done so.

    Attributes
    ----------
    status : int
        Of the response (PS3.7 Annex C).
    """

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"0x{status:04X}")


def data_set_of(data: bytes, *, syntax_uid: str) -> Dataset:
    """A data set that came with a message, in one of `SYNTAXES`.

    Raises
    ------
    Refused
        If it cannot be read.
    """
    try:
        ds = read_dataset(io.BytesIO(data), syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN, True, bytelength=len(data))
        ds.walk(lambda *_: None)  # values are read at their first use: here, or never
    except Exception as exc:  # pydicom raises whatever its reader meets
        raise Refused(PROCESSING_FAILURE) from exc
    return ds


def bytes_of(ds: Dataset, *, syntax_uid: str) -> bytes:
    """The same the other way."""
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN
    write_dataset(stream, ds)
    return stream.getvalue()
