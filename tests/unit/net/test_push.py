"""`push:` of the hospitals file: who may send, and what closes a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from radlake.errors import ConfigInvalid
from radlake.net import Hospital, PushNode, load_hospitals
from radlake.net.push import CloseRule, Push

HEAD = """
hospitals:
  - hospital_id: h1
    name_zh: 一
    name_en: One
"""


def read(tmp_path: Path, rest: str) -> Hospital:
    path = tmp_path / "hospitals.yaml"
    path.write_text(HEAD + rest, encoding="utf-8")
    return load_hospitals(path)["h1"]


def test_a_hospital_that_pushes_needs_no_node(tmp_path: Path) -> None:
    hospital = read(
        tmp_path,
        "    push: {ae_titles: [CT01], hosts: [10.1.2.0/24, 10.9.0.7], token: 'env:T',\n"
        "      close: {quiet: 5, count: false}}",
    )
    assert hospital.node == PushNode(name="h1")
    assert hospital.push == Push(
        ae_titles=("CT01",),
        hosts=("10.1.2.0/24", "10.9.0.7/32"),
        token="env:T",
        close=CloseRule(count=False, notice=True, quiet=5),
    )


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("    push: {ae_titles: [CT01]}", "hospitals[0].push: ae_titles and hosts come together"),
        ("    push: {}", "hospitals[0].push: name who sends"),
        ("    push: {token: secret}", "hospitals[0].push.token: write where the secret is"),
        ("    push: {ae_titles: [CT01], hosts: [pacs.example]}", "hospitals[0].push.hosts[0]: write an address"),
        (
            "    push: {token: 'env:T', close: {quit: 5}}",
            "hospitals[0].push.close.quit: unknown key; did you mean quiet",
        ),
        ("    push: {token: 'env:T', close: {quiet: 0}}", "hospitals[0].push.close.quiet: must be greater than 0"),
        (
            "    push: {ae_titles: [CT01], hosts: [10.1.2.3], commitment: [{ae_title: CT02, host: 10.1.2.4}]}",
            "hospitals[0].push: commitment names CT02, which is not one of ae_titles",
        ),
        (
            "    push: {ae_titles: [CT01], hosts: [10.1.2.3], commitment: [{ae_title: CT01, hots: 10.1.2.4, host: x}]}",
            "hospitals[0].push.commitment[0].hots: unknown key; did you mean host",
        ),
        ("    node: {kind: push}", "hospitals[0]: a hospital without a node pushes to us"),
    ],
)
def test_each_mistake_is_told_with_its_place(tmp_path: Path, rest: str, problem: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(tmp_path, rest)
    (told,) = caught.value.facts["problems"]
    assert told.startswith(problem)
