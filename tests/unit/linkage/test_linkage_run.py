"""Merge and unmerge with history, published as a map of pseudonyms and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from radlake.cli import main
from radlake.commit_points import listening
from radlake.config import Settings
from radlake.lake import Lake, duck
from radlake.lake.ledger import Ledger
from radlake.lake.person_links import Decision, PersonLinks, Revision, publish_links
from radlake.linkage.policy import load_policy
from radlake.linkage.run import MergeRefused, Outcome, link_all, merge, pseudonyms_of, unmerge
from radlake.synth.persons import national_id
from radlake.vault.lookup import LookupRefused, Vault
from radlake.vault.trail import Reason
from support.lakes import settings_of
from support.linkage import NOW, identity, keep_no_score, seal_identities
from support.postgres import postgres, postgres_cluster

__all__ = ["postgres", "postgres_cluster"]

WHY = Reason("Zhang, data protection officer", "request 2026-17")
PHONE, ID, OTHER_ID = "13912345678", "11010519491231002X", national_id("11010519800405002")
# Two spellings of one person, one with her number; a stranger; a namesake with another number.
PEOPLE = (
    identity("劉曉梅", phone=PHONE, number=ID),
    identity("LIU^XIAOMEI", phone=PHONE),
    identity("李强", born="19700203", sex="M", phone="13800138001"),
    identity("王芳", born="19800405", number=OTHER_ID),
)


class Linking:
    """A lake whose vault has the records of PEOPLE."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = seal_identities(settings, PEOPLE)
        keep_no_score(settings)
        self.vault = Vault(settings, clock=lambda: NOW)
        self.lake = Lake.from_settings(settings)
        self.links = PersonLinks(self.vault.ledger)

    def run(self) -> Outcome:
        return link_all(self.vault, self.settings, policy=load_policy(), reason=WHY, now=NOW)

    def merge(self, one: int, other: int) -> Outcome:
        keys = self.keys[one], self.keys[other]
        return merge(self.vault, self.settings, keys, policy=load_policy(), reason=WHY, now=NOW)

    def unmerge(self, *which: int) -> Outcome:
        keys = [self.keys[one] for one in which]
        return unmerge(self.vault, self.settings, keys, policy=load_policy(), reason=WHY, now=NOW)

    def published(self) -> list[tuple[int, ...]]:
        with duck.connect(self.lake, tables=["core"]) as connection:
            return connection.execute("SELECT patient_key, person_key FROM core.person_link").fetchall()

    def pair(self, one: int, other: int) -> list[tuple[int, int]]:
        """What is published of two pseudonyms of one person."""
        low, high = sorted((self.keys[one], self.keys[other]))
        return [(high, low)]


@pytest.fixture
def linking(tmp_path: Path) -> Iterator[Linking]:
    linking = Linking(settings_of(tmp_path / "lake"))
    yield linking
    linking.vault.close()


def test_a_run_publishes_who_is_one_person_and_a_second_run_changes_nothing(linking: Linking) -> None:
    outcome = linking.run()
    assert (outcome.revision, outcome.n_merged, outcome.n_unmerged) == (1, 1, 0)
    assert linking.published() == linking.pair(0, 1)
    again = linking.run()
    assert (again.revision, again.n_merged, again.n_unmerged) == (1, 0, 0)


def test_the_linkage_rate_stands_beside_precision_and_recall(linking: Linking) -> None:
    linking.run()
    with duck.connect(linking.lake, tables=["ops"]) as connection:
        rows = connection.execute(
            "SELECT population, n_keys, n_linked_keys, n_persons, linkage_share, precision_share FROM ops.linkage"
            " ORDER BY population"
        ).fetchall()
    assert rows == [("lake", 4, 2, 3, 0.75, None), ("synthetic_low", 1, 1, 1, 1.0, 0.99)]


def test_an_unmerge_holds_against_every_later_run_until_a_person_merges_again(linking: Linking) -> None:
    linking.run()
    linking.unmerge(1)
    assert linking.published() == []
    linking.run()
    assert linking.published() == []
    linking.merge(0, 1)
    assert linking.published() == linking.pair(0, 1)
    linking.run()
    assert linking.published() == linking.pair(0, 1)
    told = [(one.kind, pair.action, pair.decided_by) for one, pair in linking.links.history([linking.keys[1]])]
    assert told == [("run", "merged", "model"), ("unmerge", "unmerged", "person"), ("merge", "merged", "person")]


def test_every_older_revision_can_be_read_again(linking: Linking) -> None:
    linking.run()
    version = linking.lake.tables.version("core.person_link")
    linking.unmerge(0, 1)
    assert [pair.keys for pair in linking.links.linked(1).live.values()] == [tuple(sorted(linking.keys[:2]))]
    assert linking.links.linked().live == {}
    with duck.connect(linking.lake, snapshot={"core.person_link_v1": version or 0}, tables=["core"]) as connection:
        assert connection.execute("SELECT patient_key, person_key FROM core.person_link").fetchall() == linking.pair(0, 1)  # fmt: skip  # noqa: E501


def test_a_person_may_merge_what_differs_in_sex_but_never_two_national_ids(linking: Linking) -> None:
    linking.merge(1, 2)
    assert linking.published() == linking.pair(1, 2)
    with pytest.raises(MergeRefused, match="national_id"):
        linking.merge(0, 3)
    with pytest.raises(MergeRefused, match="one person already"):
        linking.merge(2, 1)
    with pytest.raises(MergeRefused, match="not of one person"):
        linking.unmerge(3)
    assert linking.published() == linking.pair(1, 2)
    assert linking.links.linked().revision == 1


def test_two_national_ids_do_not_meet_through_a_third_record(linking: Linking) -> None:
    linking.merge(0, 2)
    with pytest.raises(MergeRefused, match="national_id"):
        linking.merge(2, 3)


def test_a_pseudonym_that_the_vault_does_not_know_is_merged_with_nobody(linking: Linking) -> None:
    linking.keys.append(5)
    with pytest.raises(MergeRefused, match="no record of 0000000000000005"):
        linking.merge(0, 4)


def test_taking_out_the_middle_one_leaves_the_others_apart(linking: Linking) -> None:
    linking.merge(0, 2)
    linking.merge(2, 1)
    assert len(pseudonyms_of(linking.links, linking.keys[0])) == 3
    linking.unmerge(2)
    assert linking.published() == []
    assert pseudonyms_of(linking.links, linking.keys[0]) == [linking.keys[0]]


def test_who_is_one_person_by_a_pseudonym_that_was_withdrawn_stays_one_in_every_later_run(linking: Linking) -> None:
    gone, one, other = 100, 101, 102  # nothing in the vault contradicts them
    decisions = [Decision(gone, key, "merged", "model", "m1", 0.95) for key in (one, other)]
    assert linking.links.append(decisions, revision=Revision(1, NOW, "run", "p", "by", "why", {}))
    for _ in range(2):  # after a kill
        linking.links.forget([gone], by="officer", why="withdrawn: withdrawal 1", now=NOW)
    assert [one.kind for one in linking.links.revisions()] == ["run", "withdraw"]
    assert linking.links.history([gone]) == []
    assert pseudonyms_of(linking.links, one) == [one, other]
    linking.run()
    assert pseudonyms_of(linking.links, one) == [one, other]
    assert (other, one) in linking.published()


def test_a_kill_between_history_and_map_is_made_good_by_whoever_comes_next(linking: Linking) -> None:
    class Killed(BaseException):
        pass

    def kill(name: str) -> None:
        if name in ("linkage.decided", "linkage.published"):
            raise Killed

    with pytest.raises(Killed), listening(kill):
        linking.run()
    assert linking.links.linked().revision == 1
    assert linking.published() == []
    with pytest.raises(Killed), listening(kill):
        publish_links(linking.lake, linking.vault.ledger)
    assert publish_links(linking.lake, linking.vault.ledger) == 1
    assert linking.published() == linking.pair(0, 1)
    version = linking.lake.tables.version("core.person_link")
    assert publish_links(linking.lake, linking.vault.ledger) == 1
    assert linking.lake.tables.version("core.person_link") == version


def test_nothing_identifying_is_in_the_lake_the_trail_or_the_history(linking: Linking, tmp_path: Path) -> None:
    linking.run()
    linking.unmerge(1)
    told = [value.encode() for one in PEOPLE for values in one.values() for value in values if len(value) > 2]
    told += ["刘晓梅".encode(), b"liu mei xiao"]
    files = [path for path in (tmp_path / "lake").rglob("*") if path.is_file() and path.name != "root.key"]
    assert any(path.suffix == ".parquet" for path in files)
    assert [(path.name, value) for path in files for value in told if value in path.read_bytes()] == []


def test_each_linkage_is_in_the_audit_trail_before_a_record_is_opened(linking: Linking) -> None:
    linking.run()
    with pytest.raises(MergeRefused):
        linking.merge(0, 3)
    entries = [(entry.action, entry.kind, entry.outcome) for entry in linking.vault.trail.entries()]
    assert entries == [
        ("link", "run", ""),
        ("linked", "run", "to 1: revision 1, 1 merged, 0 unmerged"),
        ("link", "merge", ""),
        ("linked", "merge", "to 3: failed, MergeRefused"),
    ]


@pytest.mark.parametrize("reason", [Reason("", "monthly"), Reason("Zhang", " "), Reason("Zhang", f"she is {ID}")])
def test_who_does_not_say_who_and_why_or_tells_an_identifier_links_nobody(linking: Linking, reason: Reason) -> None:
    with pytest.raises(LookupRefused):
        link_all(linking.vault, linking.settings, policy=load_policy(), reason=reason, now=NOW)
    assert linking.links.revisions() == []
    assert [(entry.agent, entry.purpose, entry.outcome) for entry in linking.vault.trail.entries()] == [
        ("(not told)", "(not told)", "refused")
    ]


def test_the_command_tells_pseudonyms_only(
    linking: Linking, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    linking.vault.close()
    by = ["--by", WHY.by, "--why", WHY.why, "--json"]

    def call(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["radlake", "--lake", linking.settings.lake, "linkage", *words])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out)

    assert call("run", *by)["n_merged"] == 1
    one, other = (f"{key:016x}" for key in linking.keys[:2])
    assert call("show", one, "--json")["pseudonyms"] == sorted([one, other])
    assert call("unmerge", one, *by)["n_unmerged"] == 1
    shown = call("show", other, "--json")
    assert shown["pseudonyms"] == [other]
    assert [row["action"] for row in shown["history"]] == ["merged", "unmerged"]
    assert call("merge", one, other, *by)["n_merged"] == 1


@pytest.mark.postgres
def test_of_two_who_decide_at_once_one_decides_again(postgres: str) -> None:
    with closing(Ledger(postgres)) as ledger:
        links = PersonLinks(ledger)
        first = Revision(1, NOW, "run", "v1", "a", "b", {})
        assert links.append([Decision(1, 2, "merged", "rule", "same_national_id", 1.0)], revision=first)
        assert not links.append([Decision(1, 3, "merged", "rule", "same_national_id", 1.0)], revision=first)
        assert list(links.linked().live) == [(1, 2)]
