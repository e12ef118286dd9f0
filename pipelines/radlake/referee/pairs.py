"""Compare written objects with their originals: values that should have gone, dates, UIDs, pixels.

One `Comparison` sees all pairs of a run: a person's offset, and the replacement of a UID, are the same in all of them.
It does not know the keys. What is constant is inferred from the pairs, and whatever departs from it is a finding.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary

from radlake.referee.finding import Finding
from radlake.referee.identifiers import fold_text, is_class_uid
from radlake.referee.instance import BULK_VRS, Instance, Value, keyword_of, native_bytes, quiet, tag_path
from radlake.referee.judge import claimed_codes, policy_for
from radlake.referee.standard import Policy

__all__ = ["Comparison"]

_PIXELS = tag_path(0x7FE00010)
_PATIENT_ID, _STUDY_UID = 0x00100020, 0x0020000D
_DAY = 86_400
_DUMMY = re.compile(r"(removed?|anonym\w*|unknown|none|other|0+|19000101|19000101000000|000y)?")
_CLEAN_PIXELS = "113101"
_BIG = "1.2.840.10008.1.2.2"


@dataclass(frozen=True, slots=True)
class _Move:
    """A date or time before and after."""

    where: str
    path: str
    vr: str
    days: int | None  # between the dates; None for a time of day
    seconds: int | None  # between the times, modulo a day; None when it tells none
    time_before: int | None  # seconds since midnight
    precision: int  # seconds that the text leaves open


@dataclass
class Comparison:
    """All pairs of a run."""

    policy: Policy | None = None
    pixels_compared: Counter[str] = field(default_factory=Counter)
    _moves: dict[str, list[_Move]] = field(default_factory=lambda: defaultdict(list))
    _replaced: dict[str, dict[str, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    _origins: dict[str, dict[str, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))
    _persons: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def compare(self, original: Instance, written: Instance, *, where: str) -> Iterator[Finding]:
        """What one pair shows by itself; dates and UIDs are also remembered for `conclude`."""
        policy = policy_for(written, self.policy)
        before = _by_path(original)
        person = written.text(_PATIENT_ID) or where
        self._persons[original.text(_STUDY_UID)].setdefault(person, where)
        for value in written.values:
            old = before.get(value.path)
            if old is None or value.tag >> 16 == 2:
                continue
            outcomes = policy.outcomes(value.tag)
            if value.vr == "UI":
                self._note_uids(old, value, policy, where)
            elif value.vr in ("DA", "TM", "DT"):
                self._note_move(old, value, before, written, person, where)
                # A time to the minute may stay when its person's clock moved by seconds only: `conclude` judges times.
                is_dated = value.vr != "TM" and outcomes and "retain_full_dates" not in policy.options
                if is_dated and _is_kept(old, value):
                    yield Finding("date-kept", where, value.path, value.vr)
            elif value.vr in BULK_VRS:
                if outcomes and not outcomes & {"keep", "clean"} and value.data and value.data == old.data:
                    yield Finding("value-kept", where, value.path, "/".join(sorted(outcomes)))
            elif outcomes and not outcomes & {"keep", "clean", "age"} and _is_kept(old, value):
                yield Finding("value-kept", where, value.path, "/".join(sorted(outcomes)))
        yield from self._compare_pixels(original, written, where)

    def conclude(self) -> Iterator[Finding]:
        """What only all pairs together show."""
        for moves in self._moves.values():
            yield from _judge_moves(moves)
        for name, seen in (("uid-split", self._replaced), ("uid-merged", self._origins)):
            for others in seen.values():
                if len(others) > 1:
                    for where, path in list(others.values())[1:]:
                        yield Finding(name, where, path, "uid")
        for study, persons in self._persons.items():
            if study:
                for where in list(persons.values())[1:]:
                    yield Finding("person-split", where, tag_path(_PATIENT_ID))

    def _note_uids(self, old: Value, new: Value, policy: Policy, where: str) -> None:
        if is_class_uid(new.tag) or "retain_uids" in policy.options:
            return
        olds, news = old.text.split("\\"), new.text.split("\\")
        if len(olds) != len(news):
            return
        for one, other in zip(olds, news, strict=True):
            one, other = one.strip(" \0"), other.strip(" \0")
            if one and other and one not in UID_dictionary:
                self._replaced[one].setdefault(other, (where, new.path))
                self._origins[other].setdefault(one, (where, new.path))

    def _note_move(
        self, old: Value, new: Value, before: dict[str, Value], written: Instance, person: str, where: str
    ) -> None:
        if written.text(0x00280303) != "MODIFIED":
            return
        olds, news = old.text.split("\\"), new.text.split("\\")
        if len(olds) != len(news):
            return
        times = before[time_path].text.split("\\") if (time_path := _path_of_time(new, before)) else []
        for number, (one, other) in enumerate(zip(olds, news, strict=True)):
            if new.vr != "TM" and _DUMMY.fullmatch(other):  # the same for everybody, as for a birth date in a report
                continue
            move = _move(one, other, new.vr, time=times[number] if number < len(times) else "")
            if move is not None:
                self._moves[person].append(_Move(where, new.path, new.vr, *move))

    def _compare_pixels(self, original: Instance, written: Instance, where: str) -> Iterator[Finding]:
        old, new = original.layout, written.layout
        if old is None or new is None or not new.pixels[1]:
            return
        if not old.pixels[1]:
            yield Finding("pixels-changed", where, _PIXELS, "were not there")
        elif _has_equal_bytes(original, written):
            self.pixels_compared["equal"] += 1
        else:
            is_masked = _CLEAN_PIXELS in claimed_codes(written)
            verdict = _compare_decoded(original.ds, written.ds, is_masked=is_masked)
            self.pixels_compared[verdict] += 1
            is_same = verdict == "equal" or (verdict == "not decoded" and _only_lost_bytes(original, written))
            if not is_masked and old.transfer_syntax == new.transfer_syntax and not is_same:
                yield Finding("pixels-changed", where, _PIXELS, "no mask is claimed")
            elif verdict == "differ":
                yield Finding("pixels-changed", where, _PIXELS, "outside of what is black")


def _by_path(instance: Instance) -> dict[str, Value]:
    return {value.path: value for value in instance.values}


def _is_kept(old: Value, new: Value) -> bool:
    """Whether a value that names something is the same as before; dummies that stood there before may stay."""
    text = new.text
    return bool(text) and _DUMMY.fullmatch(fold_text(text)) is None and fold_text(text) in map(fold_text, old.texts)


def _path_of_time(value: Value, before: dict[str, Value]) -> str:
    """Path of the TM that belongs to a DA: Study Date and Study Time."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword_of(value.tag).replace("Date", "Time")) if value.vr == "DA" else None
    path = value.path[: -len(tag_path(0))] + tag_path(tag) if tag is not None else ""
    return path if path in before else ""


def _move(old: str, new: str, vr: str, *, time: str) -> tuple[int | None, int | None, int | None, int] | None:
    """(days, seconds, seconds of the day before, precision) by which a value moved; None when one is no date."""
    if vr == "TM":
        one, other = _seconds(old), _seconds(new)
        if one is None or other is None:
            return None
        return None, (other[0] - one[0]) % _DAY, one[0], max(one[1], other[1])
    one, other = _date_time(old), _date_time(new)
    if one is None or other is None:
        return None
    if vr == "DA":
        at = _seconds(time)
        return (other[0] - one[0]).days, None, at[0] if at else None, _DAY
    return (other[0].date() - one[0].date()).days, None, _second_of_day(one[0]), max(one[1], other[1])


def _seconds(text: str) -> tuple[int, int] | None:
    """(second of the day, precision) of a TM; also of ACR-NEMA's with colons."""
    found = re.fullmatch(r"(\d{2})(\d{2})?(\d{2})?(?:\.\d+)?", text.strip().replace(":", ""))
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + min(second, 59), 1 if found[3] else 60 if found[2] else 3600


def _date_time(text: str) -> tuple[datetime, int] | None:
    digits = (
        re.sub(r"[.\-/](?=\d{2}(?:\D|$))", "", text.strip()) if re.match(r"\d{4}[.\-/]", text.strip()) else text.strip()
    )
    found = re.match(r"(\d{4})(\d{2})(\d{2})(\d{2})?(\d{2})?(\d{2})?", digits)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        at = datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return None
    return at, 1 if found[6] else 60 if found[5] else 3600 if found[4] else _DAY


def _second_of_day(at: datetime) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


def _judge_moves(moves: list[_Move]) -> Iterator[Finding]:
    """All dates of a person must have moved by the same days, all times by the same seconds, over midnight together."""
    seconds = Counter(move.seconds for move in moves if move.seconds is not None and move.precision == 1)
    clock = seconds.most_common(1)[0][0] if seconds else 0
    days = Counter(move.days - _carry(move, clock) for move in moves if move.days is not None)
    offset = days.most_common(1)[0][0] if days else None
    for move in moves:
        if move.days == 0 and not move.seconds:
            yield Finding("date-kept", move.where, move.path, move.vr)
        elif move.seconds is not None and abs(move.seconds - clock) >= move.precision:
            unmoved = move.seconds == 0
            yield Finding("date-kept" if unmoved else "date-offset", move.where, move.path, move.vr)
        elif move.days is not None and offset is not None and move.days - _carry(move, clock) != offset:
            yield Finding("date-offset", move.where, move.path, move.vr)


def _carry(move: _Move, clock: int) -> int:
    """Days that the clock offset adds: 1 when it moves the time of the value over midnight."""
    if move.time_before is None:
        return 0
    return int(timedelta(seconds=move.time_before + clock) >= timedelta(days=1))


def _has_equal_bytes(old: Instance, new: Instance) -> bool:
    """Whether the values of Pixel Data are equal but for byte order and padding."""
    before, after = _pixel_bytes(old), _pixel_bytes(new)
    if before == after:
        return True
    is_big = [instance.layout is not None and instance.layout.transfer_syntax == _BIG for instance in (old, new)]
    if is_big[0] == is_big[1]:
        return False
    with quiet():
        width = max(int(old.ds.get("BitsAllocated", 16) or 16) // 8, 2)
    if len(before) % width or len(before) != len(after):
        return False
    return np.frombuffer(before, dtype=f">u{width}").astype(f"<u{width}").tobytes() == after


def _pixel_bytes(instance: Instance) -> bytes:
    layout = instance.layout
    if layout is None:
        return b""
    start, end = layout.pixels
    expected = 0 if layout.fragments else native_bytes(instance.ds)
    return layout.data[start : min(end, start + expected) if expected else end]


def _only_lost_bytes(old: Instance, new: Instance) -> bool:
    """Whether bytes of Pixel Data became zero, as those of a comment, and no other changed."""
    before, after = (np.frombuffer(_pixel_bytes(one), np.uint8) for one in (old, new))
    return before.shape == after.shape and not after[before != after].any()


def _compare_decoded(old: Dataset, new: Dataset, *, is_masked: bool) -> str:
    """`equal`, `blackened` (all that differs is black now), `differ`, or `not decoded`."""
    try:
        with quiet():
            before, after = _stored_bits(old), _stored_bits(new)
            black = _blacks(before, str(new.get("PhotometricInterpretation", "")))
    except Exception:  # no decoder for this transfer syntax, or attributes that contradict each other
        return "not decoded"
    if before.ndim == after.ndim + 1 and "NumberOfFrames" not in old:
        before = before[0]  # pydicom makes frames of what lies behind the only one
    if before.shape != after.shape:
        return "differ"
    changed = before != after
    if not changed.any():
        return "equal"
    if not is_masked:
        return "differ"
    if int(new.get("SamplesPerPixel", 1)) > 1:
        changed = np.broadcast_to(changed.any(axis=-1, keepdims=True), after.shape)
    colours = np.unique(after[changed])
    return "blackened" if len(colours) == 1 and (black is None or int(colours[0]) in black) else "differ"


def _stored_bits(ds: Dataset) -> np.ndarray:
    """Decoded pixels without bits that are no pixel (PS3.5 8.1.1): an embedded overlay may go."""
    pixels = ds.pixel_array
    stored, high = int(ds.BitsStored), int(ds.HighBit)
    if not np.issubdtype(pixels.dtype, np.integer) or ds.BitsAllocated == stored:
        return pixels
    return pixels & pixels.dtype.type(((1 << stored) - 1) << (high - stored + 1))


def _blacks(before: np.ndarray, photometric: str) -> set[int] | None:
    """Values that look black; None where that is the palette's to say."""
    if photometric == "PALETTE COLOR":
        return None
    if photometric == "MONOCHROME1":
        return {int(before.max()), int(before[0].max()), int(np.iinfo(before.dtype).max)}
    return {0, int(before.min()), int(before[0].min())}
