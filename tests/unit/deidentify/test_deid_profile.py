"""Profiles: the reference table, options and overrides, and what a wrong file is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from radlake.deidentify import load_profile
from radlake.deidentify.profile import Action
from radlake.deidentify.reference_table import OPTIONS, reference_rows, write_table
from radlake.errors import ConfigInvalid
from radlake.resources import schemas_root
from support.deid import default_profile


def _write(folder: Path, text: str, name: str = "hospital.yaml") -> Path:
    path = folder / name
    path.write_text("name: hospital\nversion: 3\ntitle: {zh: 甲, en: A}\n" + text, encoding="utf-8")
    return path


@pytest.mark.corpus
def test_reference_table_is_made_from_the_standard(corpus: Path) -> None:
    out = io.StringIO()
    write_table(json.loads((corpus / "ps3.15_e1-1.json").read_text(encoding="utf-8")), to=out)
    assert out.getvalue() == (schemas_root() / "deid" / "table_e1_1.csv").read_text(encoding="utf-8")
    assert len(reference_rows()) == 656


def test_every_row_of_the_table_has_a_rule() -> None:
    rules = default_profile().rules
    missing = [row.tag for row in reference_rows() if row.number is not None and row.number not in rules]
    assert missing == []
    assert [row.tag for row in reference_rows() if row.number is None] == ["50xxxxxx", "60xx3000", "60xx4000", "gggg"]


def test_basic_keeps_nothing_that_the_table_removes() -> None:
    rules = load_profile("basic").rules
    kept = {
        row.keyword
        for row in reference_rows()
        if row.number is not None and row.basic == "X" and rules[row.number].action is not Action.REMOVE
    }
    assert kept == set()


def test_default_departs_from_the_table_only_where_an_option_says_so() -> None:
    profile = default_profile()
    for row in reference_rows():
        if row.number is None or row.basic != "X":
            continue
        rule = profile.rules[row.number]
        chosen = [option for option in profile.options if option in row.options]
        assert rule.action is Action.REMOVE or chosen, row.keyword


@pytest.mark.parametrize(
    ("keyword", "tag", "action"),
    [
        ("StudyDate", 0x00080020, "shift"),
        ("AccessionNumber", 0x00080050, "empty"),
        ("StudyDescription", 0x00081030, "clean"),
        ("ReferencedImageSequence", 0x00081140, "keep"),
        ("StudyInstanceUID", 0x0020000D, "uid"),
        ("PatientWeight", 0x00101030, "keep"),
        ("PatientBirthDate", 0x00100030, "empty"),
        ("Allergies", 0x00102110, "clean"),
        ("OperatorsName", 0x00081070, "empty"),
        ("GraphicAnnotationSequence", 0x00700001, "keep"),
        ("OriginalAttributesSequence", 0x04000561, "remove"),
        ("EncryptedAttributesSequence", 0x04000500, "remove"),
        ("FrameOriginTimestamp", 0x00340007, "dummy"),
        ("TransferSyntaxUID in the data set", 0x00020010, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_default_actions(keyword: str, tag: int, action: str | None) -> None:
    rule = default_profile().rules.get(tag)
    assert (rule and rule.action) == action


def test_codes_say_what_was_done() -> None:
    profile = default_profile()
    assert [code for code, _ in profile.codes] == ["113100", "113107", "113105", "113104", "113103", "113108", "113101"]
    assert all(len(meaning) <= 64 for _, meaning in profile.codes)
    assert profile.temporal_information == "MODIFIED"
    assert load_profile("basic").temporal_information == "REMOVED"


def test_hospital_overrides_default(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        """
extends: default
attributes:
  - {attribute: PatientAge, action: remove, why: {zh: 伦理委员会要求。, en: The board asks for it.}}
  - {attribute: SeriesDescription, action: dummy, dummy: SERIES}
""",
    )
    profile = load_profile(path)
    assert profile.label == "hospital v3"
    assert profile.options == default_profile().options
    assert profile.rules[0x00101010].action is Action.REMOVE
    assert profile.rules[0x0008103E].dummy == "SERIES"
    assert profile.rules[0x00100010] == default_profile().rules[0x00100010]


def test_full_dates_instead_of_modified_ones(tmp_path: Path) -> None:
    profile = load_profile(_write(tmp_path, "extends: basic\noptions: [retain_full_dates]\n"))
    assert profile.rules[0x00080020].action is Action.KEEP
    assert profile.temporal_information == "UNMODIFIED"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("options: [retain_everything]", "retain_everything is not one of"),
        ("options: [retain_full_dates, retain_modified_dates]", "exclude each other"),
        ("options: [retain_uids]", "not possible"),
        ("options: [clean_recognizable_visual_features]", "faces are not removed"),
        ("choices: {X/Z: blur}", "choices: X/Z: action is not one of"),
        ("unlisted: {PN: blur}", "unlisted: PN: action is not one of"),
        ("atributes: []", "unknown key atributes"),
        ("attributes: [{attribute: PatientShoeSize, action: keep}]", "PatientShoeSize is not an attribute"),
        ("attributes: [{attribute: PatientName, action: blur}]", "PatientName: action is not one of"),
        ("attributes: [{attribute: PatientName, acton: keep}]", "unknown key acton"),
        ("attributes: [{attribute: Rows, action: clean}]", "Rows: only text can be cleaned"),
        ("safe_private: [{group: '0019', creator: X, element: '0C', vr: DS}]", "needs the option retain_safe_private"),
        (
            "options: [retain_safe_private]\nsafe_private: [{group: '0018', creator: X, element: '0C', vr: DS}]",
            "odd group",
        ),
    ],
)
def test_wrong_profile_is_told_what_is_wrong(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigInvalid, match=told):
        load_profile(_write(tmp_path, f"extends: basic\n{text}\n"))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "extends: default\nattributes: [{attribute: Foo, action: keep}, {attribute: Bar, action: keep}]\n"
    with pytest.raises(ConfigInvalid) as caught:
        load_profile(_write(tmp_path, text))
    assert len(caught.value.facts["problems"]) == 2


def test_profile_without_a_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="must extend basic"):
        load_profile(_write(tmp_path, "options: []\n"))


def test_misspelt_profile_is_told_the_nearest_names() -> None:
    with pytest.raises(ConfigInvalid, match=r"comes with radlake \(basic, .*did you mean default"):
        load_profile("defualt")


def test_profile_cannot_extend_itself(tmp_path: Path) -> None:
    path = _write(tmp_path, "extends: hospital.yaml\n")
    with pytest.raises(ConfigInvalid, match="extends itself"):
        load_profile(path)


def test_options_have_one_column_each() -> None:
    used = {option for row in reference_rows() for option in row.options}
    assert used == set(OPTIONS)
