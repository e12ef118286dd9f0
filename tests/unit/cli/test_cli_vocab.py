"""`radlake vocab`: what people see of the rules."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from radlake.cli.vocab import app


def told(*arguments: str) -> dict:
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.output)


def test_explain_tells_facts_and_steps() -> None:
    answer = told("explain", "胸部CT平扫+增强", "--modality", "CT", "--body-part", "ABDOMEN")
    assert answer["facts"]["conflict_code"] == "BODY_PART"
    assert answer["facts"]["body_part_sct"] == ["818981001"]
    assert answer["evidence"]["study"] == ["CHEST"]
    assert [step["text"] for step in answer["steps"]] == ["胸部", "CT", "平扫", "增强"]


def test_explain_tells_what_is_not_understood() -> None:
    assert told("explain", "髁間Q CT 某某某")["unread"] == ["髁间", "某某某"]


def test_score_tells_the_held_out_apart() -> None:
    scores = told("score")["scores"]
    assert {one["split"] for one in scores} == {"dev", "held_out"}
    assert told("score", "--misses")["misses"] is not None
    assert all(miss["row"]["split"] == "dev" for miss in told("score", "--misses")["misses"])
