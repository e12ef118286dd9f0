"""Names of numbers: what is read is what is written, and what is wrong is told."""

from __future__ import annotations

import pytest

from radlake.lineage.number import Number, NumberInvalid


@pytest.mark.parametrize(
    "text",
    [
        "stats.exam_volume_v1@12/exam_month=2026-03/hospital_id=h1/modality_group=CT/n_exams",
        "stats.exam_volume_v1/hospital_id=a%2Fb%3Dc/n_exams",
        "stats.repeat_rate_v1@0/rule_pack=lawful_v1/n_potential",
    ],
)
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    assert str(Number.from_text(text)) == text


def test_the_order_of_keys_does_not_matter() -> None:
    one = Number.from_text("stats.exam_volume@1/modality_group=CT/exam_month=2026-03/n_exams")
    assert str(one) == "stats.exam_volume_v1@1/exam_month=2026-03/modality_group=CT/n_exams"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stats.exam_volum/n_exams", "Did you mean stats.exam_volume"),
        ("stats.exam_volume@x/n_exams", "x is no version"),
        ("stats.exam_volume@-1/n_exams", "-1 is no version"),
        ("stats.exam_volume", "it ends with no column"),
        ("stats.exam_volume/exam_month=2026-03", "it ends with no column"),
        ("stats.exam_volume/exam_month", "stats.exam_volume has no exam_month"),
        ("stats.exam_volume/n_exam", "Did you mean n_exams"),
        ("stats.exam_volume/month=2026-03/n_exams", "month=2026-03 is not one of exam_month=..."),
        ("stats.exam_volume/hospital_id=a/hospital_id=b/n_exams", "hospital_id=b is not one of"),
    ],
)
def test_what_is_wrong_with_a_name_is_told(text: str, told: str) -> None:
    with pytest.raises(NumberInvalid) as raised:
        Number.from_text(text)
    assert told in str(raised.value)
