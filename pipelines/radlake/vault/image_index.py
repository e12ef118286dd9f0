"""NHSA image index (医保影像云索引): the text by which the national health insurance names the images of an exam. Pure.

    person code - examined at  - body part - device        - organisation
    26 digits     YYYYMMDDhhmm   9           13              18, a unified social credit code

It names a person, so it stays in the restricted zone: no log, no error and no table of the lake may hold one, or a part
of one. Sources: the notice of the NHSA as quoted by a public report of 2025-02-11, with its example; GB 32100-2015 for
the check character. No check digit of the other parts is published, so none is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from radlake.errors import PermanentError

__all__ = ["NO_BODY_PART", "NO_DEVICE", "ImageIndex", "ImageIndexInvalid", "credit_code_check", "image_index_from_text"]

NO_BODY_PART, NO_DEVICE = "0" * 9, "0" * 13  # what the notice has filled in for now
_CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100: no I, O, S, V, Z
_FORMS = {
    "person code": ("26 digits", re.compile(r"[0-9]{26}")),
    "body part": ("9 digits or capital letters", re.compile(r"[0-9A-Z]{9}")),
    "device": ("13 digits or capital letters", re.compile(r"[0-9A-Z]{13}")),
    "organisation": (f"18 characters of {_CREDIT}", re.compile(f"[{_CREDIT}]{{18}}")),
}
_MOMENT = re.compile(r"[0-9]{12}")


class ImageIndexInvalid(PermanentError):
    """The fact `problems` names parts, never what stands there."""

    sentence = "This is no NHSA image index:\n{problems}\nAsk the hospital that wrote it."


@dataclass(frozen=True)
class ImageIndex:
    """The parts of an image index; one that exists is valid.

    Attributes
    ----------
    person_code : str
        Person management code (人员管理码), 26 digits.
    examined_at : datetime
        Local, to the minute.
    organisation_code : str
        Unified social credit code of who stores the images.
    body_part_code : str
        WS/T 364.8-2023; zeros while the notice asks for none.
    device_code : str
        Medical device code (医用设备码); zeros while the notice asks for none.

    Raises
    ------
    ImageIndexInvalid
    """

    person_code: str = field(repr=False)
    examined_at: datetime = field(repr=False)
    organisation_code: str
    body_part_code: str = NO_BODY_PART
    device_code: str = NO_DEVICE

    def __post_init__(self) -> None:
        given = {"person code": self.person_code, "body part": self.body_part_code, "device": self.device_code,
                 "organisation": self.organisation_code}  # fmt: skip
        problems = [f"{part}: not {told}" for part, (told, form) in _FORMS.items() if not form.fullmatch(given[part])]
        if not problems and credit_code_check(self.organisation_code[:-1]) != self.organisation_code[-1]:
            problems.append("organisation: its check character (GB 32100) is wrong")
        at = self.examined_at
        if at.year < 1000 or at != at.replace(second=0, microsecond=0, tzinfo=None):
            problems.append("examined at: not a local time to the minute, in a year of four digits")
        if problems:
            raise ImageIndexInvalid(problems=problems)

    @property
    def text(self) -> str:
        """As it is exchanged, 82 characters."""
        moment = f"{self.examined_at:%Y%m%d%H%M}"
        return "-".join((self.person_code, moment, self.body_part_code, self.device_code, self.organisation_code))


def image_index_from_text(text: str) -> ImageIndex:
    """Read an image index.

    >>> index = image_index_from_text(
    ...     "10000000000000000708463177-202411221430-000000000-0000000000000-123502004266007916"
    ... )  # the example of the notice
    >>> index
    ImageIndex(organisation_code='123502004266007916', body_part_code='000000000', device_code='0000000000000')
    >>> index.examined_at
    datetime.datetime(2024, 11, 22, 14, 30)

    Raises
    ------
    ImageIndexInvalid
    """
    parts = text.split("-")
    if len(parts) != 5:
        raise ImageIndexInvalid(problems=[f"it has {len(parts)} parts between hyphens, not 5"])
    person, moment, body_part, device, organisation = parts
    try:
        examined_at = datetime.strptime(moment, "%Y%m%d%H%M") if _MOMENT.fullmatch(moment) else None
    except ValueError:
        examined_at = None
    if examined_at is None:
        raise ImageIndexInvalid(problems=["examined at: not a time as YYYYMMDDhhmm"])
    return ImageIndex(person, examined_at, organisation, body_part, device)


def credit_code_check(first: str) -> str:
    """Check character of a unified social credit code (GB 32100-2015), of its first 17 characters.

    >>> credit_code_check("12350200426600791")
    '6'
    """
    total = sum(_CREDIT.index(character) * pow(3, place, 31) for place, character in enumerate(first))
    return _CREDIT[-total % 31]
