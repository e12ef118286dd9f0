"""Judge one written object: by itself, against the table, and against its original.

Each function yields findings with a path inside the object; where the object lies is the caller's to add.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom import Dataset

from radlake.referee.codestream import text_segments
from radlake.referee.finding import Finding
from radlake.referee.instance import BULK_VRS, Instance, Value, keyword_of, native_bytes, quiet, tag_path
from radlake.referee.search import Searcher, telltales_in
from radlake.referee.standard import Policy, codes_of_dicom, table_row

__all__ = ["claimed_codes", "find_identifiers", "judge_alone", "policy_for"]

_META = frozenset([0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013])
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_PSEUDONYM = re.compile(r"[0-9a-f]{16}")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_TEMPORAL = {"retain_full_dates": "UNMODIFIED", "retain_modified_dates": "MODIFIED"}
_CODE_VALUE = 0x00080100
_CLEAN_PIXELS, _CLEAN_PIXELS_OPTION = "113101", "clean_pixel_data"
_OLDEST = 90
_NO_NAME = re.compile(r"(REMOVED|ANONYM\w*|NONE|UNKNOWN)?", re.IGNORECASE)


def claimed_codes(instance: Instance) -> set[str]:
    """Codes of De-identification Method Code Sequence (0012,0064)."""
    return {value.text for value in instance.values if re.match(r"\(0012,0064\).*\(0008,0100\)$", value.path)}


def policy_for(instance: Instance, policy: Policy | None) -> Policy:
    """The policy that the caller knows, else the one that the object claims."""
    return policy or Policy.of_codes(claimed_codes(instance))


def find_identifiers(instance: Instance, searcher: Searcher, *, owner: str) -> Iterator[Finding]:
    """Identifiers of the originals in any byte of an object that is no image data."""
    for value in instance.values:
        if value.data and not _is_code_of_dicom(value):
            rule = "identifier-in-bulk" if value.vr in BULK_VRS else "identifier-in-element"
            for hit in searcher.hits(value.data, vr=value.vr, owner=owner):
                yield Finding(rule, "", value.path, hit.kind, hit.encoding)
    for path, data in _hidden_places(instance):
        rule = "identifier-in-codestream" if "frame" in path else "identifier-in-bulk"
        for hit in searcher.hits(data, vr="bulk", owner=owner):
            yield Finding(rule, "", path, hit.kind, hit.encoding)


def _is_code_of_dicom(value: Value) -> bool:
    """Whether a Code Value is one that DICOM defines: six digits may be a time of day, or a number, by chance."""
    return (
        value.tag == _CODE_VALUE
        and str(value.item.get("CodingSchemeDesignator", "")) == "DCM"
        and value.text in codes_of_dicom()
    )


def _hidden_places(instance: Instance) -> Iterator[tuple[str, bytes]]:
    """Bytes beside the elements: preamble, comments of compressed pixels, what follows pixels or data set."""
    layout = instance.layout
    yield "preamble", instance.data[:128]
    if layout is None:
        return
    if len(layout.data) > layout.end:
        yield "behind the data set", layout.data[layout.end :]
    if layout.inflated_tail:
        yield "behind the data set", layout.inflated_tail
    for number, (start, end) in enumerate(layout.fragments[1:]):
        for name, segment in text_segments(layout.data[start:end]):
            yield f"{tag_path(0x7FE00010)} frame {number} {name}", segment
    if not layout.fragments and (expected := native_bytes(instance.ds)) and layout.pixels[1]:
        start, end = layout.pixels
        yield f"{tag_path(0x7FE00010)} behind the last frame", layout.data[start + expected : end]


def judge_alone(instance: Instance, policy: Policy) -> Iterator[Finding]:
    """The rules that need no original: table, markers, file format, telltales."""
    yield from _judge_file(instance)
    yield from _judge_markers(instance, policy)
    for value in instance.values:
        if value.tag >> 16 == 2:
            continue
        yield from _judge_presence(value, policy)
        yield from _judge_value(value, policy)
    yield from _judge_sequences(instance.ds, policy)


def _judge_file(instance: Instance) -> Iterator[Finding]:
    if any(instance.data[:128]):
        yield Finding("preamble", "")
    layout = instance.layout
    if layout is None:
        yield Finding("unreadable", "", "data set")
        return
    if layout.end != len(layout.data) or layout.inflated_tail or not layout.is_ascending:
        yield Finding("trailing-bytes", "", "data set")
    if not layout.fragments and (expected := native_bytes(instance.ds)) and layout.pixels[1]:
        start, end = layout.pixels
        if end - start > expected + expected % 2 and any(layout.data[start + expected : end]):
            yield Finding("trailing-bytes", "", tag_path(0x7FE00010))
    meta = {value.tag: value.text for value in instance.values if value.tag >> 16 == 2}
    for tag in sorted(meta.keys() - _META):
        yield Finding("file-meta", "", tag_path(tag), "remove")
    for in_meta, in_dataset in ((0x00020002, 0x00080016), (0x00020003, 0x00080018)):
        if meta.get(in_meta, "") != instance.text(in_dataset):
            yield Finding("file-meta", "", tag_path(in_meta), "differs")


def _judge_markers(instance: Instance, policy: Policy) -> Iterator[Finding]:
    codes = claimed_codes(instance)
    if instance.text(0x00120062).upper() != "YES":
        yield Finding("markers", "", tag_path(0x00120062))
    if not instance.text(0x00120063):
        yield Finding("markers", "", tag_path(0x00120063))
    claimed = Policy.of_codes(codes).options
    # Clean Pixel Data is claimed by those objects only whose pixels were looked at.
    if "113100" not in codes or not policy.options - {_CLEAN_PIXELS_OPTION} <= claimed <= policy.options:
        yield Finding("markers", "", tag_path(0x00120064))
    expected = next((word for option, word in _TEMPORAL.items() if option in policy.options), "REMOVED")
    if instance.text(0x00280303) != expected:
        yield Finding("markers", "", tag_path(0x00280303), expected)
    if _CLEAN_PIXELS in codes and instance.text(0x00280301) != "NO":
        yield Finding("markers", "", tag_path(0x00280301), "NO")


def _judge_presence(value: Value, policy: Policy) -> Iterator[Finding]:
    tag = value.tag
    if tag >> 16 & 1:
        if not _is_safe_private(value, policy):
            yield Finding("private-attribute", "", value.path)
        return
    if tag & 0xFFFF == 0:
        return  # group lengths say nothing
    outcomes = policy.outcomes(tag)
    if outcomes == {"remove"}:
        yield Finding("must-be-removed", "", value.path, "X")
    elif (policy.ruled is not None and tag not in policy.ruled and table_row(tag) is None) or (
        policy.ruled is None and not keyword_of(tag) and table_row(tag) is None
    ):
        yield Finding("unknown-attribute", "", value.path)
    elif policy.ruled is not None and tag not in policy.ruled:
        yield Finding("must-be-removed", "", value.path, "no rule")
    elif outcomes is not None and outcomes <= {"remove", "empty"} and (value.data or b"").strip(b" \0"):
        yield Finding("must-be-empty", "", value.path, "Z")


def _is_safe_private(value: Value, policy: Policy) -> bool:
    group, element = value.tag >> 16, value.tag & 0xFFFF
    block = element if element <= 0xFF else element >> 8
    with quiet():
        creator = str(value.item.get((group, block)).value if (group, block) in value.item else "").strip()
    if element <= 0xFF:
        return any((group, creator) == (safe[0], safe[1]) for safe in policy.safe_private)
    return (group, creator, element & 0xFF) in policy.safe_private


def _judge_value(value: Value, policy: Policy) -> Iterator[Finding]:
    tag, vr = value.tag, value.vr
    text = value.text if vr not in BULK_VRS else ""
    if vr == "UI":
        for uid in text.split("\\"):
            uid = uid.strip(" \0")
            if uid and (len(uid) > 64 or not _UID.fullmatch(uid)):
                yield Finding("uid-invalid", "", value.path)
        return
    outcomes = policy.outcomes(tag) or frozenset()
    if tag in (_PATIENT_NAME, _PATIENT_ID) and "patient" in outcomes and not _PSEUDONYM.fullmatch(text):
        yield Finding("not-a-pseudonym", "", value.path)
    elif vr == "PN" and policy.is_of_profile and "patient" not in outcomes and not _NO_NAME.fullmatch(text.strip("^=")):
        yield Finding("not-a-pseudonym", "", value.path, "name")
    if vr == "AS" and "age" in outcomes and (found := re.fullmatch(r"(\d{3})Y", text)) and int(found[1]) > _OLDEST:
        yield Finding("age-over-90", "", value.path)
    for kind in telltales_in(value.data or b"", vr=vr):
        if kind != "institution" or "retain_institution_identity" not in policy.options:
            yield Finding("telltale", "", value.path, kind)


def _judge_sequences(ds: Dataset, policy: Policy, prefix: str = "") -> Iterator[Finding]:
    """Sequences that must be gone or empty: their items are judged one by one, their presence here."""
    with quiet():
        for tag in sorted(int(tag) for tag in ds.keys()):  # noqa: SIM118
            elem = ds.get_item(tag)
            if elem is None or elem.VR != "SQ":
                continue
            path = f"{prefix}{tag_path(tag)}"
            items = list(ds[tag].value or [])
            outcomes = policy.outcomes(tag)
            if tag >> 16 & 1 and not policy.safe_private:
                yield Finding("private-attribute", "", path)
            elif outcomes == {"remove"}:
                yield Finding("must-be-removed", "", path, "X")
            elif policy.ruled is not None and tag not in policy.ruled:
                yield Finding("unknown-attribute", "", path)
            elif outcomes is not None and outcomes <= {"remove", "empty"} and items:
                yield Finding("must-be-empty", "", path, "Z")
            for number, item in enumerate(items):
                yield from _judge_sequences(item, policy, f"{path}[{number}]>")
