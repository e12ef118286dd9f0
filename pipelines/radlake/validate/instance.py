"""May this instance be stored? Decided by harm: what makes an instance ambiguous or unusable sets it aside.

What only deviates (a PatientID longer than 64, no Modality, a leading zero in a UID) is noted on the data set: real
archives are full of it, and a good viewer shows such images. Whether the file can be read at all is decided before, in
`radlake.dicom.part10`. One instance is judged alone; conflicts between instances belong to the callers.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

from radlake.dicom import part10, uids, values
from radlake.errors import QuarantineError
from radlake.validate.pixels import check_pixels

__all__ = ["check_instance"]

_SMALLEST_FILE = 132  # preamble and prefix
_UIDS = {
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
}
_META = {0x00080016: 0x00020002, 0x00080018: 0x00020003}  # the same UIDs in file meta information
_MODALITY = 0x00080060
# What an object without pixels is made for, by the arc of its SOP class (PS3.3): content, document, waveform.
_PAYLOADS = {
    "1.2.840.10008.5.1.4.1.1.88.": ("ContentSequence", 0x0040A730),
    "1.2.840.10008.5.1.4.1.1.104.": ("EncapsulatedDocument", 0x00420011),
    "1.2.840.10008.5.1.4.1.1.9.": ("WaveformSequence", 0x54000100),
}
# Most characters of one value (PS3.5 table 6.2-1) of what identifies a person, a study and a device.
_LENGTHS = {
    "AccessionNumber": (0x00080050, 16),
    "InstitutionName": (0x00080080, 64),
    "Manufacturer": (0x00080070, 64),
    "Modality": (_MODALITY, 16),
    "PatientBirthDate": (0x00100030, 8),
    "PatientID": (0x00100020, 64),
    "StudyDate": (0x00080020, 8),
    "StudyDescription": (0x00081030, 64),
    "StudyID": (0x00200010, 16),
}


def check_instance(ds: Dataset, *, size: int) -> None:
    """Check one instance as `read_instance` gives it.

    Parameters
    ----------
    ds : Dataset
        Gets further `notes` of accepted deviations.
    size : int
        Bytes of the file it came in.

    Raises
    ------
    QuarantineError
        `media_directory`, `uid_missing`, `uid_invalid`, `sop_class_unknown`, `transfer_syntax_unknown`,
        `part10_truncated`, `iod_attribute_missing`, and what `check_pixels` raises.
    """
    if size < _SMALLEST_FILE:
        raise QuarantineError(reason="part10_truncated", detail=f"{size} bytes")
    meta_class = values.first_text(ds.file_meta, _META[_UIDS["SOPClassUID"]])
    if uids.MEDIA_DIRECTORY in (meta_class, values.first_text(ds, _UIDS["SOPClassUID"])):
        raise QuarantineError(reason="media_directory", detail="Media Storage Directory")
    syntax = uids.transfer_syntax(values.first_text(ds.file_meta, 0x00020010))
    if syntax is None:
        raise QuarantineError(reason="transfer_syntax_unknown", detail="none that is known")
    sop_class = _check_uids(ds)
    _check_payload(ds, sop_class)
    found = [*_deviations(ds), *check_pixels(ds, syntax=syntax, is_image=uids.is_image_class(sop_class))]
    part10.add_notes(ds, found)


def _check_uids(ds: Dataset) -> str:
    """The four UIDs that give an instance its place; returns the SOP class."""
    found = {keyword: values.first_text(ds, tag) for keyword, tag in _UIDS.items()}
    absent = [keyword for keyword, uid in found.items() if not uid]
    if absent:
        raise QuarantineError(reason="uid_missing", detail=", ".join(absent))
    broken = [
        keyword
        for keyword, uid in found.items()
        if not (uids.is_uid if keyword == "SOPClassUID" else uids.is_instance_uid)(uid)
        or len(values.texts(ds, _UIDS[keyword])) > 1
    ]
    if broken:
        raise QuarantineError(reason="uid_invalid", detail=", ".join(broken))
    if not uids.is_storage_class(found["SOPClassUID"]):
        raise QuarantineError(reason="sop_class_unknown", detail=found["SOPClassUID"])
    return found["SOPClassUID"]


def _check_payload(ds: Dataset, sop_class: str) -> None:
    for arc, (keyword, tag) in _PAYLOADS.items():
        if sop_class.startswith(arc) and not values.is_present(ds, tag):
            raise QuarantineError(reason="iod_attribute_missing", detail=keyword)


def _deviations(ds: Dataset) -> Iterator[str]:
    """What breaks the standard without harm."""
    for keyword, tag in _UIDS.items():
        uid = values.first_text(ds, tag)
        if uids.has_leading_zero(uid):
            yield f"{keyword} has a component with a leading zero"
        if tag in _META and values.first_text(ds.file_meta, _META[tag]) not in ("", uid):
            yield f"{keyword} of the file meta information is another"
    if not values.is_present(ds, _MODALITY):
        yield "no Modality"
    for keyword, (tag, most) in _LENGTHS.items():
        if len(values.first_text(ds, tag)) > most:
            yield f"{keyword} is longer than {most}"
