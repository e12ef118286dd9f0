"""A build decides again what older rules decided, from the evidence that the study carries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from radlake.vocab import again
from radlake.vocab.again import decide_again
from radlake.vocab.evidence import Evidence, evidence_to_json
from radlake.vocab.rules import rules
from support.rows import rows
from support.statistics import tables

EVIDENCE = evidence_to_json(Evidence(modalities=("CT",), study=("CHEST", "HEAD"), study_contrast=("WITH", "WITHOUT")))


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = replace(rules(), version=2)
    monkeypatch.setattr(again, "rules", lambda: newer)


def studies(*changes: dict[str, object]):
    base = {"exam_evidence": EVIDENCE, "body_part_code": "CHEST", "has_contrast": None, "modality_group": "CT"}
    made = [
        base | {"study_instance_uid": f"2.25.{n}", "exam_pseudo_id": f"e{n}"} | change
        for n, change in enumerate(changes)
    ]
    return {"dicom.study": rows("dicom.study", *made)}


@pytest.mark.usefixtures("next_version")
def test_only_rows_of_older_versions_are_decided_again_and_each_evidence_once() -> None:
    given = studies({"vocab_version": 1}, {"vocab_version": 1}, {"vocab_version": 2}, {"vocab_version": 0})
    with tables(given) as db:
        assert decide_again(db.connection) == 1
        found = db.rows("SELECT body_part_code, has_contrast, contrast_code FROM dicom.study ORDER BY exam_pseudo_id")
        assert found == [
            ("CHEST+HEAD", True, "WITHOUT_AND_WITH"),
            ("CHEST+HEAD", True, "WITHOUT_AND_WITH"),
            ("CHEST", None, "UNKNOWN"),
            ("CHEST", None, "UNKNOWN"),
        ]
        db.build("core.exam")
        assert db.rows("SELECT count(*) FROM core.exam WHERE body_part_code = 'CHEST+HEAD'") == [(2,)]


def test_nothing_is_done_when_every_row_is_of_these_rules() -> None:
    with tables(studies({"vocab_version": rules().version})) as db:
        assert decide_again(db.connection) == 0
