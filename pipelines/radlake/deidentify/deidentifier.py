"""De-identify one data set: refuse what cannot be done, walk the rest, search what stays, say what was done.

Fail closed: whatever cannot be finished is a QuarantineError without output. What happens to each element is in `walk`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from radlake.deidentify.dates import OLDEST
from radlake.deidentify.documents import cleaned_document
from radlake.deidentify.elements import Element, canonical, dataset, raw_element, text_of
from radlake.deidentify.keys import KeyRing
from radlake.deidentify.markers import marker_elements
from radlake.deidentify.person import Person
from radlake.deidentify.profile import CLEAN_PIXEL_DATA, Action, Profile
from radlake.deidentify.told import Told
from radlake.deidentify.walk import Walk
from radlake.dicom.uids import EXPLICIT_VR_LITTLE_ENDIAN, MEDIA_DIRECTORY
from radlake.dicom.values import date_from_text
from radlake.errors import QuarantineError
from radlake.pixels import DecisionKind, Judgement, PixelDecision, Verdict, is_acquired, is_radiograph, judge
from radlake.pixels.remains import PIXEL_DATA, PIXEL_TAGS, without_remains

if TYPE_CHECKING:
    from radlake.pixels.clean import Cleaned

__all__ = ["Deidentifier", "Treatment"]

_CHARSET = 0x00080005
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY_DATE = 0x00080020
_PATIENT_NAME, _PATIENT_ID, _BIRTH_DATE, _AGE = 0x00100010, 0x00100020, 0x00100030, 0x00101010
_REQUIRED_UIDS = {
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
    0x0020000D: "Study Instance UID",
    0x0020000E: "Series Instance UID",
}
_DOCUMENT = 0x00420011
_UNDEFINED = 0xFFFFFFFF
_VOICE_CLASSES = frozenset(["1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2"])


class Treatment(NamedTuple):
    """A de-identified data set, the walk that made it, and whether its pixels were looked at or have another length."""

    ds: Dataset
    walk: Walk
    are_pixels_changed: bool


class Deidentifier:
    """Applies one profile with the keys of one deployment."""

    def __init__(self, profile: Profile, keys: KeyRing) -> None:
        self._profile = profile
        self._keys = keys

    def deidentify(
        self,
        ds: Dataset,
        *,
        person: Person,
        hospital_id: str,
        decision: PixelDecision | None = None,
        told: Told = frozenset(),
    ) -> Dataset:
        """A new data set that names nobody; pixels are bit-identical outside of what had to be masked.

        The transfer syntax stays, unless pixels were masked that cannot be compressed again without loss.

        Parameters
        ----------
        ds : Dataset
            From `read_instance` or built in memory. Its values stay as they are.
        person : Person
            From `identify_person`, of the whole study.
        decision : PixelDecision, optional
            Of a person who looked at the pixels: instead of judging them.
        told : frozenset of (kind, text)
            What the other data sets of the study tell (`identifiers_of`): it must not be readable in this one either.

        Raises
        ------
        QuarantineError
            `media_directory`, `document_not_cleanable`, `pixel_risk`, `rejected_by_reviewer`, `uid_missing`,
            `charset_unknown`, or `deidentification_failed` with the class of the error: a value is never quoted.
        """
        return self.treat(ds, person=person, hospital_id=hospital_id, decision=decision, told=told).ds

    def walk(self, *, person: Person, hospital_id: str, told: Told = frozenset()) -> Walk:
        """A new walk over a data set of this person."""
        return Walk(self._profile, self._keys, person=person, hospital_id=hospital_id, told=told)

    def treat(
        self,
        ds: Dataset,
        *,
        person: Person,
        hospital_id: str,
        decision: PixelDecision | None = None,
        told: Told = frozenset(),
    ) -> Treatment:
        """`deidentify`, with what a series template needs to know about it."""
        try:
            ds = canonical(ds)
            _refuse(ds)
            document = cleaned_document(ds, self._profile.documents)
            walk = self.walk(person=person, hospital_id=hospital_id, told=told)
            with _no_garbage():
                elements = walk.treat(ds)
                walk.drop_identifiers()
            if document is not None:
                elements[BaseTag(_DOCUMENT)] = raw_element(_DOCUMENT, "OB", document)
            cleaned = self._clean_pixels(ds, decision)
            self._complete(elements, ds, person, cleaned)
            is_shorter = _drop_remains(elements, ds, cleaned)
            out = dataset(elements)
            out.file_meta = FileMetaDataset()
            out.file_meta.MediaStorageSOPClassUID = UID(text_of(out, _SOP_CLASS))
            out.file_meta.MediaStorageSOPInstanceUID = UID(text_of(out, _SOP_INSTANCE))
            meta = getattr(ds, "file_meta", FileMetaDataset())
            syntax = cleaned.syntax if cleaned else meta.get("TransferSyntaxUID", EXPLICIT_VR_LITTLE_ENDIAN)
            out.file_meta.TransferSyntaxUID = UID(str(syntax))
        except QuarantineError:
            raise
        except Exception as exc:
            raise QuarantineError(reason="deidentification_failed", detail=type(exc).__name__) from None
        return Treatment(out, walk, are_pixels_changed=cleaned is not None or is_shorter)

    def _clean_pixels(self, ds: Dataset, decision: PixelDecision | None) -> Cleaned | None:
        """What changes in the pixels; None when header and glance are enough to leave them alone."""
        if decision is None:
            judgement = judge(ds)
            if judgement.verdict is Verdict.CLEAN:
                if not _looks_written_on(ds):
                    return None
                judgement = Judgement(Verdict.LOOK, "a glance at the pixels found strokes as of writing")
            if judgement.verdict is Verdict.HUMAN or CLEAN_PIXEL_DATA not in self._profile.options:
                raise QuarantineError(reason="pixel_risk", detail=judgement.reason)
        elif decision.kind is DecisionKind.REJECT:
            raise QuarantineError(reason="rejected_by_reviewer", detail="")
        from radlake.pixels.clean import NeedsPerson, clean_pixels  # decoders: most processes never need them

        try:
            return clean_pixels(ds, decision=decision)
        except NeedsPerson as exc:
            raise QuarantineError(reason="pixel_risk", detail=str(exc)) from None

    def _complete(self, elements: dict[BaseTag, Element], ds: Dataset, person: Person, cleaned: Cleaned | None) -> None:
        """Add what every de-identified object has: character set, pseudonym, markers, the age at the exam."""
        pseudonym = person.patient_id.encode()
        markers = marker_elements(self._profile, are_pixels_cleaned=cleaned is not None)
        added: list[Element] = [raw_element(_CHARSET, "CS", b"ISO_IR 192"), *markers]
        for tag, vr in ((_PATIENT_NAME, "PN"), (_PATIENT_ID, "LO")):
            added.append(raw_element(tag, vr, pseudonym))
        age = elements.get(BaseTag(_AGE))
        if self._profile.rules[_AGE].action is Action.AGE and (age is None or not age.value):
            at_exam = age_at_exam(born=text_of(ds, _BIRTH_DATE), seen=text_of(ds, _STUDY_DATE))
            added += [raw_element(_AGE, "AS", at_exam.encode())] if at_exam else []
        for tag, changed in (cleaned.elements if cleaned else {}).items():
            if changed is None:
                elements.pop(BaseTag(tag), None)
            else:
                vr, value = changed
                added.append(raw_element(tag, vr, value))
        elements.update((elem.tag, elem) for elem in added)


def _looks_written_on(ds: Dataset) -> bool:
    """Whether a detector's pixels may show writing; asked when the header cleared them."""
    if PIXEL_DATA not in ds or not is_acquired(ds):
        return False
    from radlake.pixels.glance import may_be_written_on  # numpy and decoders: objects without pixels never need them

    return may_be_written_on(ds, is_slice=not is_radiograph(ds))


def _drop_remains(elements: dict[BaseTag, Element], ds: Dataset, cleaned: Cleaned | None) -> bool:
    """Take out what stands in Pixel Data beside the pixels; whether they are shorter now."""
    if cleaned is not None and PIXEL_DATA in cleaned.elements:
        return False
    kept = without_remains(ds)
    if kept is None:
        return False
    elem = next(elements[BaseTag(tag)] for tag in PIXEL_TAGS if BaseTag(tag) in elements)
    is_shorter = len(kept) < len(elem.value or b"")
    length = len(kept) if is_shorter else _UNDEFINED
    elements[elem.tag] = RawDataElement(elem.tag, elem.VR or "OB", length, kept, 0, False, True)  # pyright: ignore
    return is_shorter


def _refuse(ds: Dataset) -> None:
    """Refuse objects that no profile can clean."""
    sop_class = text_of(ds, _SOP_CLASS)
    if sop_class == MEDIA_DIRECTORY or any(elem.tag >> 16 == 0x0004 for elem in ds.values()):
        raise QuarantineError(reason="media_directory", detail="a list of the objects on a medium")
    if sop_class in _VOICE_CLASSES:
        raise QuarantineError(reason="document_not_cleanable", detail="recording of a voice")
    for tag, name in _REQUIRED_UIDS.items():
        if not text_of(ds, tag):
            raise QuarantineError(reason="uid_missing", detail=name)


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Pause the collector: none of the many items of a dose report is garbage, and looking takes twice the walk."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def age_at_exam(*, born: str, seen: str) -> str | None:
    """Patient's Age (AS) from date of birth and study date; the date of birth itself does not stay.

    >>> age_at_exam(born="19700102", seen="20260301"), age_at_exam(born="19200101", seen="20260301")
    ('056Y', '090Y')
    >>> age_at_exam(born="20260115", seen="20260301"), age_at_exam(born="", seen="20260301") is None
    ('001M', True)
    """
    start, end = date_from_text(born), date_from_text(seen)
    if start is None or end is None or end < start:
        return None
    months = (end.year - start.year) * 12 + end.month - start.month - (end.day < start.day)
    if months >= 24:
        return f"{min(months // 12, OLDEST):03d}Y"
    return f"{months:03d}M" if months else f"{(end - start).days:03d}D"
