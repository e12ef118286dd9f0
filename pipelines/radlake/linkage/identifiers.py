"""Numbers that a person is known by beyond one hospital: checked, normalised, and read for what they say.

A number that fails its check is no evidence of anything; it is left out, never repaired. Which number makes a
pseudonym is decided in `radlake.deidentify.person`; nothing here changes that.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from radlake.deidentify.person import national_ids

__all__ = [
    "NationalId",
    "birth_date_from_text",
    "health_card_from_text",
    "national_id_from_text",
    "phone_from_text",
    "sex_from_text",
    "the_national_id",
]

# GB/T 2260: the first two digits are the province. 81 to 83 and 9x are residence permits (Hong Kong, Macao, Taiwan;
# foreigners), which bear numbers of the same form.
_PLACE = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]|9\d")
_OLD_FORM = re.compile(r"(?<![0-9A-Z])[1-9]\d{14}(?![0-9A-Z])")
_CHECK_DIGITS = "10X98765432"
_EARLIEST_YEAR = 1900
_MOBILE = re.compile(r"1[3-9]\d{9}")
_HEALTH_CARD = re.compile(r"80\d{14,17}")
_HEALTH_IIN_DIGITS = 6
_SEXES = {"M": "M", "F": "F", "男": "M", "女": "F", "MALE": "M", "FEMALE": "F"}


@dataclass(frozen=True, repr=False)
class NationalId:
    """A citizen identity number of 18 characters whose check digit is right; it has no repr, because it identifies.

    Attributes
    ----------
    number : str
        18 characters. Of a number of the old form, the one that it became (the century is 19).
    is_old_form : bool
        It was written with 15 digits: there was no check digit to prove it.
    """

    number: str
    is_old_form: bool

    @property
    def birth_date(self) -> date:
        return date(int(self.number[6:10]), int(self.number[10:12]), int(self.number[12:14]))

    @property
    def sex(self) -> str:
        """`M` when the 17th digit is odd (GB 11643-1999, 4.4)."""
        return "M" if int(self.number[16]) % 2 else "F"


def national_id_from_text(text: str, *, today: date) -> NationalId | None:
    """The one national identity number in a text; None without one, or with several.

    GB 11643-1999: 18 characters with a check digit (ISO 7064 MOD 11-2), or the old form (GB 11643-1989) of 15 digits,
    which has no check digit and counts only when its province and day of birth exist.

    >>> national_id_from_text("11010519491231002X", today=date(2026, 1, 1)).sex
    'F'
    >>> national_id_from_text("110105491231002", today=date(2026, 1, 1)).number[:14], national_id_from_text(
    ...     "110105194912310021", today=date(2026, 1, 1))
    ('11010519491231', None)
    """
    plain = _plain(text).upper()
    found = {NationalId(number, is_old_form=False) for number in national_ids(plain)}
    found |= {NationalId(_modern(number), is_old_form=True) for number in _OLD_FORM.findall(plain)}
    valid = {one.number: one for one in sorted(found, key=lambda one: not one.is_old_form) if _is_possible(one, today)}
    return next(iter(valid.values())) if len(valid) == 1 else None


def the_national_id(texts: Iterable[str], *, today: date) -> NationalId | None:
    """The number that all texts agree on; two different ones (mother and child, mostly) are nobody's."""
    found = {one.number: one for text in texts if (one := national_id_from_text(text, today=today))}
    return next(iter(found.values())) if len(found) == 1 else None


def health_card_from_text(text: str, *, issuer: str = "") -> tuple[str, str] | None:
    """Issuer and number of a health card; None when the number is not one, or its check digit is wrong.

    ISO/IEC 7812-1: major industry 80 is health care (ISO 20301), 16 to 19 digits, the last by Luhn's formula. The
    issuer is the one that the hospital names (Issuer of Patient ID), else the first six digits of the card.

    >>> health_card_from_text("8015 6320 0000 0014"), health_card_from_text("8015632000000018")
    (('801563', '8015632000000014'), None)
    """
    digits = re.sub(r"[\s-]", "", _plain(text))
    if not _HEALTH_CARD.fullmatch(digits) or _luhn(digits) % 10:
        return None
    return " ".join(_plain(issuer).upper().split()) or digits[:_HEALTH_IIN_DIGITS], digits


def phone_from_text(text: str) -> str | None:
    """A mobile number of mainland China, 11 digits; None for anything else: a landline is a household or a ward.

    >>> phone_from_text("+86 138-0013-8000"), phone_from_text("025-8888 6666"), phone_from_text("13800000000")
    ('13800138000', None, None)
    """
    digits = re.sub(r"\D", "", _plain(text))
    digits = digits.removeprefix("00").removeprefix("86") if len(digits) > 11 else digits
    is_typed = len(set(digits[3:])) > 2  # 13800000000, 13333333333: what staff type to get on
    return digits if _MOBILE.fullmatch(digits) and is_typed else None


def birth_date_from_text(text: str, *, today: date) -> date | None:
    """A possible date of birth (DA of PS3.5 6.2, with or without marks); None for 19000101 and other fillers.

    >>> birth_date_from_text("1964.02.24", today=date(2026, 1, 1)), birth_date_from_text("19000101", today=date.max)
    (datetime.date(1964, 2, 24), None)
    """
    found = re.fullmatch(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})", _plain(text).strip())
    if not found:
        return None
    try:
        born = date(*map(int, found.groups()))
    except ValueError:
        return None
    return born if date(_EARLIEST_YEAR, 1, 1) < born <= today else None


def sex_from_text(text: str) -> str | None:
    """`M` or `F`; None for O (other) and what was not recorded: they contradict nobody."""
    return _SEXES.get(_plain(text).strip().upper())


def _modern(number: str) -> str:
    first17 = f"{number[:6]}19{number[6:]}"
    total = sum(int(digit) * 2**power for digit, power in zip(first17, range(17, 0, -1), strict=True))
    return first17 + _CHECK_DIGITS[total % 11]


def _is_possible(one: NationalId, today: date) -> bool:
    try:
        born = one.birth_date
    except ValueError:
        return False
    return _PLACE.match(one.number) is not None and date(_EARLIEST_YEAR, 1, 1) <= born <= today


def _luhn(digits: str) -> int:
    """Sum of Luhn's formula (ISO/IEC 7812-1, Annex B); a multiple of ten when the last digit checks."""
    doubled = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
    numbers = [int(digit) for digit in reversed(digits)]
    return sum(numbers[::2]) + sum(doubled[number] for number in numbers[1::2])


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)
