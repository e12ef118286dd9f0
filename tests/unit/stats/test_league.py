"""The league and its letters: what is wrong, how much of it, beside whom, and how to repair it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from radlake.contracts.reasons import reasons
from radlake.errors import ConfigInvalid
from radlake.stats.league import gate_faults, letter, standings, topics
from support.rows import rows
from support.statistics import tables

DAY = date(2026, 11, 22)
# hospital -> share of exams of which the fault is known: one in so many
TRUTH = {"good": {}, "bad": {"no_patient": 4, "other_body_part": 5}, "mixed": {"no_body_part": 10}}
N = 100


def drawn() -> list[dict]:
    made = []
    for number, (hospital, faults) in enumerate(TRUTH.items()):
        for n in range(N):
            has = {code for code, every in faults.items() if n % every == 0}
            at = datetime(2026, 2, 20, 9) + timedelta(days=n // 5)
            made.append(
                {
                    "hospital_id": hospital,
                    "exam_pseudo_id": f"{hospital}{n}",
                    "patient_key": number * N + n,
                    "study_at": at,
                    "study_month": at.year * 100 + at.month,
                    "is_patient_known": "no_patient" not in has,
                    "body_part_code": "UNKNOWN" if "no_body_part" in has else "CHEST",
                    "conflict_code": "BODY_PART" if "other_body_part" in has else "NONE",
                    "modality_group": "CT",
                    "patient_sex": "F",
                    "patient_age_years": 40,
                    "n_instances": 10,
                }
            )
    return made


@pytest.fixture(scope="module")
def found() -> list[dict]:
    held = rows(
        "ops.quarantine",
        {"hospital_id": "bad", "reason": "part10_truncated", "n_instances": 111},
        {"hospital_id": "bad", "reason": "quality_gate", "n_instances": 9},
        {"hospital_id": "silent", "reason": "not_dicom", "n_instances": 3},
    )
    with tables({"core.exam": rows("core.exam", *drawn()), "ops.quarantine": held}) as db:
        db.build("stats.data_quality")
        assert db.problems("stats.data_quality") == []
        cursor = db.connection.execute("FROM stats.data_quality")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_every_share_is_the_true_one(found: list[dict]) -> None:
    shares = {
        (row["hospital_id"], row["topic_code"]): (row["n_failed"], row["n_checked"])
        for row in found
        if row["exam_month"] == "all"
    }
    for hospital, faults in TRUTH.items():
        for code in ("no_patient", "no_body_part", "other_body_part", "no_date", "other_side"):
            assert shares[hospital, code] == (N // faults[code] if code in faults else 0, N)
    assert shares["bad", "part10_truncated"] == (111, N * 10 + 120)
    assert shares["silent", "not_dicom"] == (3, 3)  # nothing of it was ever stored
    assert shares["all", "no_patient"] == (25, 3 * N)
    months = {row["exam_month"] for row in found if row["topic_code"] == "no_patient"}
    assert months == {"2026-02", "2026-03", "all"}


def test_a_fault_that_is_counted_by_its_number_ranks_the_largest_hospital_last(found: list[dict]) -> None:
    """The score is of shares: a hospital with ten times as many exams and faults keeps its place."""
    ranked = [one.hospital_id for one in standings(found)]
    assert ranked == ["good", "mixed", "bad", "silent"]
    larger = [
        row | {"n_checked": 10 * row["n_checked"], "n_failed": 10 * row["n_failed"]}
        if row["hospital_id"] == "mixed"
        else row
        for row in found
    ]
    assert [one.hospital_id for one in standings(larger)] == ranked
    naive = {row["hospital_id"]: row["n_failed"] for row in larger if row["topic_code"] == "no_body_part"}
    assert naive["mixed"] > 25


def test_the_score_is_what_the_weights_say(found: list[dict]) -> None:
    scores = {one.hospital_id: one.score for one in standings(found)}
    assert scores["good"] == 100
    assert scores["mixed"] == pytest.approx(100 - 0.5 * 10)
    assert scores["bad"] == pytest.approx(100 - 25 - 20 - 100 * 120 / 1120)


def test_the_letter_names_what_to_repair_and_how_in_both_languages(found: list[dict]) -> None:
    standing = next(one for one in standings(found) if one.hospital_id == "bad")
    gate = gate_faults(
        ["month 202601 is held back: dicom.study.n_series: 2 of 30 are below 1; dicom.study.x: y",
         "month 202602 is held back: dicom.study.n_series: 2 of 30 are below 1"]
    )  # fmt: skip
    assert gate == ["dicom.study.n_series: 2 of 30 are below 1", "dicom.study.x: y"]
    zh = letter(standing, name="示例医院", language="zh", n_hospitals=4, day=DAY, gate=gate)
    en = letter(standing, name="Example", language="en", n_hospitals=4, day=DAY, gate=gate)
    assert "# 数据质量反馈：示例医院" in zh
    assert "列第 3 位" in zh
    for code in ("no_patient", "other_body_part", "part10_truncated", "quality_gate"):
        assert topics()[code].remedy["zh"] in zh
        assert topics()[code].remedy["en"] in en
    assert "25 / 100 | 25.0% | 8.3%" in en
    assert "place 3 of 4" in en
    assert "dicom.study.n_series" in en
    assert "202601" not in en  # a shifted month means nothing to a hospital


def test_a_hospital_without_a_fault_is_thanked(found: list[dict]) -> None:
    text = letter(standings(found)[0], name="Good", language="en", n_hospitals=4, day=DAY)
    assert "Nothing was found" in text
    assert "Score 100.0" in text


def test_a_text_that_a_comma_cuts_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quality").mkdir()
    (tmp_path / "quality" / "topics.yaml").write_text(
        "quarantine_weight: 1.0\ntopics:\n  no_date:\n    weight: 1.0\n"
        "    zh: {title: 无日期, remedy: 补全（0008,0020）}\n    en: {title: No date, remedy: Fill it in.}\n",
        encoding="utf-8",
    )
    monkeypatch.setattr("radlake.stats.league.schemas_root", lambda: tmp_path)
    topics.cache_clear()
    try:
        with pytest.raises(ConfigInvalid, match="no_date: needs a title and a remedy"):
            topics()
    finally:
        topics.cache_clear()


def test_every_fault_has_words_in_both_languages() -> None:
    assert set(reasons()) < set(topics())
    assert topics()["no_patient"].remedy["zh"].endswith("更正。")
    for topic in topics().values():
        assert all(topic.title[language] and topic.remedy[language] for language in ("zh", "en"))
