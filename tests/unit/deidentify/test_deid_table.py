"""All 656 rows of PS3.15 Table E.1-1 with every option, from the standard's own table and not from the product's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from radlake.deidentify.profile import Profile, profile_names, read_profile
from radlake.deidentify.reference_table import OPTIONS
from radlake.deidentify.rules import Action, Rule

pytestmark = pytest.mark.corpus

# What the codes of the Basic Profile allow (PS3.15 E.1.1). A code that leaves a choice allows what is stricter too.
NON_ZERO = {Action.DUMMY, Action.PSEUDONYM, Action.PATIENT, Action.CODE}
BASIC = {
    "X": {Action.REMOVE},
    "Z": {Action.EMPTY} | NON_ZERO,
    "D": NON_ZERO | {Action.KEEP, Action.UID},  # of a sequence: its items are treated; of a UID: a replaced one
    "U": {Action.UID},
    "X/Z": {Action.REMOVE, Action.EMPTY},
    "X/D": {Action.REMOVE} | NON_ZERO,
    "Z/D": {Action.EMPTY} | NON_ZERO,
    "X/Z/D": {Action.REMOVE, Action.EMPTY, Action.KEEP} | NON_ZERO,
    "X/Z/U*": {Action.REMOVE, Action.EMPTY, Action.KEEP},  # kept: the UIDs in the items are replaced
}
# What each option does to a row that it names K or C.
OPTION = {
    "K": {Action.KEEP, Action.AGE},  # the age of persons above 90 is told as 90
    "C": {Action.CLEAN, Action.SHIFT, Action.KEEP, Action.PSEUDONYM, Action.DUMMY},
}


@pytest.fixture(scope="module")
def rows(corpus: Path) -> list[dict[str, str]]:
    return json.loads((corpus / "ps3.15_e1-1.json").read_text(encoding="utf-8"))["rows"]


def _tag(row: dict[str, str]) -> int | None:
    found = re.fullmatch(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)", row["tag"])
    return int(found[1] + found[2], 16) if found else None


def _profile(folder: Path, *options: str) -> Profile:
    path = folder / "one.yaml"
    path.write_text(
        f"{{name: one, version: 1, title: {{zh: 甲, en: A}}, extends: basic, options: [{', '.join(options)}]}}",
        encoding="utf-8",
    )
    return read_profile(path)


def _rule(profile: Profile, tag: int) -> Rule:
    return profile.rules[tag]


def _obeys(rule: Rule, code: str) -> bool:
    return rule.action in BASIC[code] and (rule.action is not Action.KEEP or rule.vr == "SQ")


def test_basic_profile_obeys_every_row(rows: list[dict[str, str]]) -> None:
    profile = read_profile("basic")
    wrong = []
    for row in rows:
        tag = _tag(row)
        if tag is None:
            assert all(number >> 24 not in (0x50, 0x60) and not number >> 16 & 1 for number in profile.rules)
        elif tag >> 16 <= 6:
            continue  # commands, file meta information and directories are written anew
        elif not _obeys(_rule(profile, tag), row["basicProfile"]):
            wrong.append((row["name"], row["basicProfile"], profile.rules[tag].action))
    assert wrong == []
    assert len(rows) == 656


@pytest.mark.parametrize("option", OPTIONS)
def test_option_overrides_the_profile_in_every_row_that_it_names(
    rows: list[dict[str, str]], option: str, tmp_path: Path
) -> None:
    column, _ = OPTIONS[option]
    basic, chosen = read_profile("basic"), _profile(tmp_path, option)
    wrong, n_named = [], 0
    for row in rows:
        tag = _tag(row)
        if tag is None or tag >> 16 <= 6:
            continue
        rule, code = _rule(chosen, tag), row[column]
        if not code:
            if rule.action != _rule(basic, tag).action:
                wrong.append((row["name"], "not named", rule.action))
            continue
        n_named += 1
        if rule.action not in OPTION[code] or (rule.action is Action.CLEAN and rule.vr == "SQ"):
            wrong.append((row["name"], code, rule.action))
    assert wrong == []
    assert n_named == sum(bool(row[column]) for row in rows if (_tag(row) or 0) >> 16 > 6)


@pytest.mark.parametrize("name", profile_names())
def test_profiles_keep_more_than_the_basic_one_only_where_an_option_says_so(
    rows: list[dict[str, str]], name: str
) -> None:
    profile = read_profile(name)
    wrong = []
    for row in rows:
        tag = _tag(row)
        if tag is None or tag >> 16 <= 6:
            continue
        named = any(row[OPTIONS[option][0]] for option in profile.options if option in OPTIONS)
        if not named and not _obeys(profile.rules[tag], row["basicProfile"]):
            wrong.append((row["name"], row["basicProfile"], profile.rules[tag].action))
    assert wrong == []


def test_every_shipped_profile_says_what_it_is_for() -> None:
    assert profile_names() == ["basic", "default", "device_quality", "research"]
    for name in profile_names():
        profile = read_profile(name)
        assert set(profile.title) == set(profile.about) == {"zh", "en"}
        assert all(set(rule.why) in ({"zh", "en"}, set()) for rule in profile.rules.values())
