"""Whatever the identifiers are and wherever they stand: none is readable in any byte of the output."""

from __future__ import annotations

from datetime import date

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.datadict import dictionary_VR
from pydicom.sequence import Sequence

from radlake.deidentify import Deidentifier, identify_person
from radlake.dicom.part10 import encode_instance
from radlake.vocab import clean_description
from support.deid import HOSPITAL, KEYS, default_profile, deidentified_bytes, occurrences, read_output
from support.dicom import ct_study

DEIDENTIFIER = Deidentifier(default_profile(), KEYS)
SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗欧阳司马诸葛"
GIVEN = "伟芳娜敏静秀英丽强磊军洋勇艳杰涛明超兰霞平刚桂玲燕鑫浩宇轩梓涵子睿欣怡"
SYLLABLES = ["wang", "zhang", "xiu", "lan", "zhi", "qiang", "yu", "zhen", "hao", "ran", "si", "yuan", "guo", "jian"]

chinese_names = st.builds(
    lambda surname, name: surname + name, st.sampled_from(SURNAMES), st.text(GIVEN, min_size=2, max_size=3)
)
latin_names = st.builds(
    lambda parts: f"{''.join(parts[:1])}^{''.join(parts[1:])}",
    st.lists(st.sampled_from(SYLLABLES), min_size=3, max_size=4),
).map(str.title)
numbers = st.from_regex(r"[A-Z]{2}[0-9]{8}|[1-9][0-9]{9}", fullmatch=True)
birth_dates = st.dates(min_value=date(1930, 1, 1), max_value=date(2015, 12, 31))

# Where an attribute may be misused for text, at the top, in an item and in an item of an item.
PLACES = [
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "ImageComments",
    "PatientComments",
    "SoftwareVersions",
    "ManufacturerModelName",
    "Manufacturer",
    "ScanOptions",
    "SequenceName",
    "ConvolutionKernel",
    "FilterType",
    "ContrastBolusAgent",
    "BodyPartExamined",
    "PatientState",
    "OperatorsName",
    "StationName",
    "TextValue",
    "SegmentLabel",
    "CodeMeaning",
    "AdditionalPatientHistory",
    "RequestedProcedureDescription",
]


@st.composite
def misuses(draw: st.DrawFn) -> list[tuple[str, int, int, str]]:
    """(attribute, depth, which identifier, words around it)"""
    one = st.tuples(
        st.sampled_from(PLACES),
        st.integers(0, 2),
        st.integers(0, 4),
        st.sampled_from(["{}", "CHEST {}", "{} 胸部平扫", "R5 ({})"]),
    )
    return draw(st.lists(one, min_size=1, max_size=6))


@settings(max_examples=150)
@given(
    chinese=chinese_names,
    latin=latin_names,
    patient_id=numbers,
    accession=numbers,
    born=birth_dates,
    places=misuses(),
)
def test_no_input_identifier_in_any_output_byte(
    chinese: str,
    latin: str,
    patient_id: str,
    accession: str,
    born: date,
    places: list[tuple[str, int, int, str]],
) -> None:
    assume(clean_description(latin) is None)
    birth_date = f"{born:%Y%m%d}"
    identifiers = [chinese, latin, patient_id, accession, birth_date]
    ds = ct_study(
        1,
        patient=f"{latin}={chinese}",
        patient_id=patient_id,
        accession=accession,
        birth_date=birth_date,
        description="",
    )[0]
    for keyword, depth, which, words in places:
        target = ds
        for _ in range(depth):
            if "RelatedSeriesSequence" not in target:
                target.RelatedSeriesSequence = Sequence([Dataset()])
            target = target.RelatedSeriesSequence[0]
        target.add_new(keyword, dictionary_VR(keyword), "")
        target[keyword]._value = words.format(identifiers[which])
    person = identify_person([ds], hospital_id=HOSPITAL, keys=KEYS)
    out = encode_instance(DEIDENTIFIER.deidentify(ds, person=person, hospital_id=HOSPITAL))
    readable = {text: list(occurrences(text, out)) for text in identifiers}
    assert not any(readable.values()), readable
    again = deidentified_bytes(out)
    readable = {text: list(occurrences(text, again)) for text in identifiers}
    assert not any(readable.values()), readable


@settings(max_examples=25)
@given(
    st.lists(
        st.from_regex(r"1\.2\.156\.[1-9][0-9]{2,8}\.20[0-9]{6}\.[1-9][0-9]{0,4}", fullmatch=True),
        unique=True,
        min_size=3,
        max_size=3,
    )
)
def test_references_follow_their_objects(uids: list[str]) -> None:
    referring = ct_study(1)[0]
    referring.ReferencedImageSequence = Sequence([])
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = referring.SOPClassUID, uid
        referring.ReferencedImageSequence.append(item)
    objects = [deidentified_bytes(ct_study(1, SOPInstanceUID=uid)[0]) for uid in uids]
    out = read_output(deidentified_bytes(referring))
    referred = [item.ReferencedSOPInstanceUID for item in out.ReferencedImageSequence]
    assert referred == [read_output(data).SOPInstanceUID for data in objects] == list(map(KEYS.uid, uids))
    assert len(set(referred)) == 3
