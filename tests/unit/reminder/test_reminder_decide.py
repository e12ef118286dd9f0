"""Which orders are reminded of which exams: the rules as a table that a doctor can read."""

from __future__ import annotations

from datetime import datetime

import pytest

from radlake.reminder.decide import SHOW, VERDICTS, Ordered, Prior, decide
from radlake.reminder.policy import load_policy
from support.statistics import parsed

NOW = datetime(2026, 3, 20, 10)
# order: modality and part, then what it says more. priors: date, then what is different; several are joined by ;
CASES = """
    order                   | priors                                   | verdict           | shown
    CT CHEST                | 2026-03-09                               | SHOW              | 2026-03-09
    CT CHEST                | 2026-03-19                               | SHOW              | 2026-03-19
    CT CHEST                | 2026-02-18                               | SHOW              | 2026-02-18
    CT CHEST                | 2026-02-17                               | NO_PRIOR          | -
    CT CHEST                |                                          | NO_PRIOR          | -
    CT CHEST                | 2026-03-20                               | SAME_EPISODE      | -
    CT CHEST visit=v        | 2026-03-09 visit=v                       | SAME_EPISODE      | -
    CT CHEST visit=v        | 2026-03-09 visit=w                       | SHOW              | 2026-03-09
    DX CHEST                | 2026-03-09                               | SHOW              | 2026-03-09
    DX CHEST                | 2026-03-01                               | NO_PRIOR          | -
    US ABDOMEN              | 2026-03-09                               | NOT_IMAGING       | -
    CT UNKNOWN              | 2026-03-09                               | EXAM_UNREAD       | -
    CT CHEST sure=LOW       | 2026-03-09                               | EXAM_UNREAD       | -
    CT CHEST                | 2026-03-09 sure=LOW                      | PRIOR_UNSURE      | -
    CT CHEST ground=emergency | 2026-03-09                             | EXCUSED           | -
    CT CHEST ground=oncology  | 2026-03-09                             | EXCUSED           | -
    CT CHEST                | 2026-03-09 ground=follow_up_recommended  | PRIOR_EXCUSES     | -
    CT CHEST                | 2026-03-09 ground=earlier_not_retrievable | PRIOR_EXCUSES    | -
    CT CHEST                | 2026-03-09 ground=oncology               | SHOW              | 2026-03-09
    CT CHEST                | 2026-03-09 gone                          | NOT_RETRIEVABLE   | -
    CT CHEST                | 2026-03-09 gone; 2026-03-01              | SHOW              | 2026-03-01
    CT CHEST                | 2026-03-09; 2026-03-01                   | SHOW              | 2026-03-09
    CT CHEST contrast=WITH  | 2026-03-09                               | CONTRAST_ADDED    | -
    CT CHEST contrast=WITH  | 2026-03-09 contrast=WITHOUT_AND_WITH     | SHOW              | 2026-03-09
    CT CHEST                | 2026-03-09 contrast=WITH                 | SHOW              | 2026-03-09
    MR KNEE side=L          | 2026-03-09 side=R                        | OTHER_SIDE        | -
    MR KNEE side=L          | 2026-03-09 side=B                        | SHOW              | 2026-03-09
    MR KNEE side=L          | 2026-03-09 side=R; 2026-03-05 side=L     | SHOW              | 2026-03-05
    CT CHEST                | 2026-03-09 no=2026-03-19T11:00           | OVERRIDDEN_BEFORE | -
    CT CHEST                | 2026-03-09 no=2026-03-19T09:00           | SHOW              | 2026-03-09
    CT CHEST                | 2026-03-09 no=2026-03-20T09:00; 2026-03-01 | OVERRIDDEN_BEFORE | -
    CT CHEST                | 2026-03-09 gone; 2026-03-20              | NOT_RETRIEVABLE   | -
    """


def _given(words: list[str]) -> dict[str, str]:
    return dict(word.split("=") for word in words if "=" in word)


def _ordered(text: str) -> Ordered:
    modality, part, *more = text.split()
    given = _given(more)
    return Ordered(
        resource_id="ServiceRequest/1",
        modality_group=modality,
        body_part_code=part,
        laterality_code=given.get("side", "U"),
        contrast_code=given.get("contrast", "WITHOUT"),
        confidence_code=given.get("sure", "HIGH"),
        ground_codes=frozenset({given["ground"]} if "ground" in given else ()),
        encounter_pseudo_id=given.get("visit", ""),
    )


def _prior(text: str) -> Prior:
    day, *more = text.split()
    given = _given(more)
    return Prior(
        at=datetime.fromisoformat(f"{day} 09:00"),
        hospital_id="h2",
        exam_pseudo_id=day,
        patient_key=1,
        laterality_code=given.get("side", "U"),
        contrast_code=given.get("contrast", "WITHOUT"),
        confidence_code=given.get("sure", "HIGH"),
        ground_codes=frozenset({given["ground"]} if "ground" in given else ()),
        encounter_pseudo_id=given.get("visit", ""),
        is_retrievable="gone" not in more,
        overridden_at=datetime.fromisoformat(given["no"]) if "no" in given else None,
    )


@pytest.mark.parametrize("case", parsed(CASES), ids=lambda case: f"{case['order']} after {case['priors'] or 'nothing'}")
def test_an_order_is_reminded_of_what_can_be_acted_upon(case: dict[str, str]) -> None:
    priors = [_prior(text.strip()) for text in case["priors"].split(";") if text.strip()]
    decision = decide(_ordered(case["order"]), priors, now=NOW, policy=load_policy())
    assert decision.verdict == case["verdict"]
    if case["verdict"] == SHOW:
        assert decision.prior is not None
        assert decision.prior.exam_pseudo_id == case["shown"]


def test_every_verdict_about_a_prior_has_a_case() -> None:
    said = {case["verdict"] for case in parsed(CASES)}
    assert set(VERDICTS) - said == {"PERSON_UNKNOWN", "PERSON_AMBIGUOUS"}  # `desk` says these
