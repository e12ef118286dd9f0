"""What a study examined: the ladder, and what each rung may and may not decide."""

from __future__ import annotations

import pytest
from pydicom import DataElement, Dataset, config
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence

from radlake.vocab import (
    ExamFacts,
    body_part_term,
    decide,
    evidence_of,
    manufacturer_group,
    modality_term,
)
from radlake.vocab.rules import rules


def header(modality: str = "CT", **attributes: object) -> Dataset:
    """A header as hospitals write it: pydicom is told not to validate the values."""
    ds = Dataset()
    for keyword, value in {"Modality": modality, **attributes}.items():
        ds.add(DataElement(keyword, dictionary_VR(keyword), value, validation_mode=config.IGNORE))
    return ds


def code(value: str, scheme: str, meaning: str = "", **attributes: object) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for keyword, found in attributes.items():
        setattr(item, keyword, found)
    return item


def classify_exam(datasets: list[Dataset]) -> ExamFacts:
    return decide(evidence_of(datasets))


def parts(*datasets: Dataset) -> tuple[str, str]:
    facts = classify_exam(list(datasets))
    return facts.body_part_code, facts.body_part_source


def test_a_whole_study() -> None:
    study = [
        header(BodyPartExamined="CHEST", StudyDescription="胸部CT平扫+增强", ContrastBolusAgent="碘海醇"),
        header("SR"),
    ]
    assert classify_exam(study) == ExamFacts(
        modality_group="CT",
        modalities_in_study="CT\\SR",
        body_part_code="CHEST",
        body_part_source="body_part_examined",
        laterality_code="U",
        contrast_code="WITHOUT_AND_WITH",
        mado_region_code="67734004",
        confidence_code="HIGH",
        conflict_code="NONE",
        loinc_code="30598-7",
        vocab_version=rules().version,
    )


def test_nothing_known() -> None:
    unknown = ExamFacts(
        modality_group="UNKNOWN",
        modalities_in_study="UNKNOWN",
        body_part_code="UNKNOWN",
        body_part_source="none",
        laterality_code="NONE",
        contrast_code="UNKNOWN",
        mado_region_code="UNKNOWN",
        confidence_code="NONE",
        conflict_code="NONE",
        loinc_code="NONE",
        vocab_version=rules().version,
    )
    assert unknown.has_contrast is None
    assert classify_exam([]) == unknown
    assert classify_exam([Dataset()]) == unknown


@pytest.mark.parametrize(
    ("modalities", "group", "in_study"),
    [
        pytest.param(["CR"], "DX", "CR", id="CR is DX"),
        pytest.param(["DR"], "DX", "DR", id="a spelling of devices"),
        pytest.param(["CT", "PT"], "PT", "CT\\PT", id="PET/CT is PT"),
        pytest.param(["CT", "NM"], "NM", "CT\\NM", id="SPECT/CT is NM"),
        pytest.param(["SEG", "MR", "PR"], "MR", "MR\\PR\\SEG", id="derived objects do not lead"),
        pytest.param(["SR"], "OT", "SR", id="only a report"),
        pytest.param(["OT"], "OT", "OT", id="other"),
        pytest.param(["ZHANG SAN"], "UNKNOWN", "UNKNOWN", id="misused for a name"),
        pytest.param(["CT", "ZHANG SAN"], "CT", "CT\\UNKNOWN", id="misused in one series"),
    ],
)
def test_modality(modalities: list[str], group: str, in_study: str) -> None:
    facts = classify_exam([header(modality) for modality in modalities])
    assert (facts.modality_group, facts.modalities_in_study) == (group, in_study)


def test_codes_win_over_body_part_examined_and_that_over_words() -> None:
    region = Sequence([code("12738006", "SCT", "Brain")])
    assert parts(header(AnatomicRegionSequence=region, BodyPartExamined="CHEST")) == ("HEAD", "code")
    assert parts(header(BodyPartExamined="CHEST", StudyDescription="腹部CT")) == ("CHEST", "body_part_examined")
    assert parts(header(StudyDescription="腹部CT", SeriesDescription="CHEST")) == ("ABDOMEN", "description")
    assert parts(header(SeriesDescription="CHEST 5mm")) == ("CHEST", "description")


@pytest.mark.parametrize(
    ("region", "part"),
    [
        pytest.param(code("T-A0100", "SRT", "Brain"), "HEAD", id="SNOMED-RT style code"),
        pytest.param(code("T-04000", "SNM3", "BREAST"), "BREAST", id="oldest designator"),
        pytest.param(code("416775004", "SCT"), "ABDOMEN+CHEST+PELVIS", id="a code of several parts"),
        pytest.param(code("0815", "99HOSP", "左膝关节"), "KNEE", id="a local code speaks by its meaning"),
        pytest.param(code("T-AA610", "SRT", "Retina"), "ORBIT", id="a code that we do not have speaks by its meaning"),
        pytest.param(code("T-01000", "SRT", "Skin"), "UNKNOWN", id="a region that we do not have"),
    ],
)
def test_coded_regions(region: Dataset, part: str) -> None:
    assert parts(header(AnatomicRegionSequence=Sequence([region])))[0] == part


def test_procedure_codes_speak_by_their_meaning() -> None:
    procedure = Sequence([code("CT0001", "SIEMENS_RIS", "CT BRAIN WO IVCON")])
    assert parts(header(ProcedureCodeSequence=procedure, BodyPartExamined="CHEST")) == ("HEAD", "code")
    request = Dataset()
    request.RequestedProcedureCodeSequence = Sequence([code("2195", "GEIIS", "MR PELVIS WO CONTRAST")])
    assert parts(header(RequestAttributesSequence=Sequence([request]))) == ("PELVIS", "code")


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("CHEST", "CHEST"),
        ("C_SPINE", "CSPINE"),
        ("Whole Body", "WHOLEBODY"),
        ("HEADNECK", "HEAD+NECK"),
        ("胸部", "CHEST"),
        ("ABDOMEN/PELVIS", "ABDOMEN+PELVIS"),
        ("LUNG", "CHEST"),
        ("ARTERY", "UNKNOWN"),
        ("ZHANGSAN", "UNKNOWN"),
    ],
)
def test_body_part_examined(value: str, part: str) -> None:
    assert parts(header(BodyPartExamined=value))[0] == part


@pytest.mark.parametrize(
    ("description", "part"),
    [
        pytest.param("头颅、胸部CT平扫", "CHEST+HEAD", id="two parts are sorted"),
        pytest.param("胸椎MR平扫", "TSPINE", id="the longest word"),
        pytest.param("全腹部CT增强", "ABDOMEN+PELVIS", id="one word, two parts"),
        pytest.param("肝胆胰脾彩超", "ABDOMEN", id="organs of the abdomen"),
        pytest.param("双侧颈动脉椎动脉彩超", "NECK", id="vessels"),
        pytest.param("冠状动脉CTA", "HEART", id="coronary arteries"),
        pytest.param("CT CHEST ABDOMEN AND PELVIS W CONTRAST", "ABDOMEN+CHEST+PELVIS", id="english phrase"),
        pytest.param("XR C SPINE 4 VIEWS", "CSPINE", id="single letters in a phrase"),
        pytest.param("骨龄片", "HAND", id="bone age is a hand"),
        pytest.param("请查胸部", "CHEST", id="a part after unknown characters"),
        pytest.param("胸外科手术后", "UNKNOWN", id="a department is not a part, 手 in 手术 not a hand"),
        pytest.param("张手", "UNKNOWN", id="a name is not a part"),
        pytest.param("phantom", "UNKNOWN", id="no part"),
    ],
)
def test_descriptions(description: str, part: str) -> None:
    assert parts(header(StudyDescription=description))[0] == part


def test_parts_of_all_series_count() -> None:
    assert parts(header(BodyPartExamined="CHEST"), header(BodyPartExamined="ABDOMEN"))[0] == "ABDOMEN+CHEST"
    assert parts(header(BodyPartExamined="CHEST"), header("SR", BodyPartExamined="HEAD"))[0] == "CHEST"


@pytest.mark.parametrize(
    ("attributes", "side"),
    [
        pytest.param({"Laterality": "L"}, "L", id="series"),
        pytest.param({"ImageLaterality": "R"}, "R", id="image"),
        pytest.param({"Laterality": "左"}, "NONE", id="not a value of the attribute"),
        pytest.param({"StudyDescription": "左膝正侧位"}, "L", id="word"),
        pytest.param({"StudyDescription": "双膝正侧位"}, "B", id="both"),
        pytest.param({"StudyDescription": "KNEE RT LAT"}, "R", id="english word"),
        pytest.param({"Laterality": "L", "StudyDescription": "右膝"}, "L", id="the attribute wins"),
        pytest.param({"BodyPartExamined": "CHEST", "StudyDescription": "胸部左侧位"}, "U", id="a left lateral view"),
        pytest.param(
            {"BodyPartExamined": "CHEST", "StudyDescription": "胸部 右侧"}, "U", id="words do not pair a chest"
        ),
    ],
)
def test_laterality(attributes: dict[str, str], side: str) -> None:
    assert classify_exam([header("DX", **{"BodyPartExamined": "KNEE", **attributes})]).laterality_code == side


def test_left_and_right_series_are_both() -> None:
    study = [header("MG", BodyPartExamined="BREAST", ImageLaterality=side) for side in "LR"]
    assert classify_exam(study).laterality_code == "B"


def test_coded_laterality() -> None:
    left = Sequence([code("G-A101", "SRT", "Left")])
    region = Sequence([code("72696002", "SCT", "Knee", AnatomicRegionModifierSequence=left)])
    assert classify_exam([header("DX", AnatomicRegionSequence=region)]).laterality_code == "L"


@pytest.mark.parametrize(
    ("attributes", "contrast"),
    [
        pytest.param({"ContrastBolusAgent": "Omniscan 11 ml"}, True, id="agent"),
        pytest.param({"ContrastBolusAgent": "NONE"}, False, id="agent says none"),
        pytest.param({"ContrastBolusAgent": "NONE", "StudyDescription": "增强"}, True, id="words over none"),
        pytest.param({"StudyDescription": "胸部CT平扫"}, False, id="plain"),
        pytest.param({"StudyDescription": "胸部CT平扫+增强"}, True, id="plain and enhanced"),
        pytest.param({"StudyDescription": "冠脉CTA"}, True, id="angiography needs it"),
        pytest.param({"StudyDescription": "CT HEAD W/O CONTRAST"}, False, id="without"),
        pytest.param({"StudyDescription": "CT HEAD W/WO CONTRAST"}, True, id="with and without"),
        pytest.param({"StudyDescription": "胸部CT 张增强"}, None, id="a given name"),
        pytest.param({"StudyDescription": "胸部CT"}, None, id="not stated"),
    ],
)
def test_contrast(attributes: dict[str, str], contrast: bool | None) -> None:
    assert classify_exam([header(**attributes)]).has_contrast is contrast


def test_single_values() -> None:
    assert [body_part_term(text) for text in ("chest", "L-SPINE", "THORAX", "胸部", "")] == [
        "CHEST",
        "LSPINE",
        "THORAX",
        None,
        None,
    ]
    assert [modality_term(text) for text in ("ct ", "PET", "李雷", "")] == ["CT", "PET", "UNKNOWN", "UNKNOWN"]


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("UIH", "UIH"),
        ("上海联影医疗科技股份有限公司", "UIH"),
        ("Neusoft Medical Systems", "NEUSOFT"),
        ("SonoScape", "SONOSCAPE"),
        ("Mindray", "MINDRAY"),
        ("Wandong", "WANDONG"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("G.E. Medical Systems", "GE"),
        ("GEORGE", "OTHER"),
        ("TOSHIBA_MEC", "CANON"),
        ("Siemens Healthineers", "SIEMENS"),
        ("UIH (XX医院)", "UIH"),
        ("苏州样例第一医院", "OTHER"),
        (" ", "UNKNOWN"),
    ],
)
def test_manufacturer_group(text: str, group: str) -> None:
    assert manufacturer_group(text) == group
