"""Every change of a study is in its history, and who changes row or history behind our back breaks it."""

from __future__ import annotations

import sqlite3
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from radlake.deidentify import KeyRing
from radlake.lake.certificate import merkle_root
from radlake.lake.certificate_check import Problem, problems
from radlake.lake.events import walk
from radlake.lake.evidence import SetAside, Settlement, StoredInstance, StudyState
from radlake.lake.ledger import Ledger, LedgerLocked, Listed, head_file
from support.lakes import KEY, keyed_ledger
from support.postgres import postgres, postgres_cluster

__all__ = ["postgres", "postgres_cluster"]

NOW = datetime(2026, 3, 1, 8, 0)
MAC = KeyRing.from_secret(KEY).ledger_mac


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'ledger.db'}"


def filled(ledger: Ledger, study_uid: str = "1.2", stored: str = "ab", listed: str = "ab") -> None:
    ledger.discover("h1", study_uid, study_date=None, n_expected=len(listed), now=NOW)
    ledger.begin("h1", study_uid, listed=frozenset(listed), now=NOW)
    instances = {uid: StoredInstance(f"d{uid}", f"s{uid}") for uid in stored}
    ledger.settle([Settlement("h1", study_uid, instances, lake_study_uid=f"2.25.{study_uid}")], now=NOW)


def history(ledger: Ledger, study_uid: str = "1.2") -> list[tuple[str, str]]:
    with ledger.reading() as connection:
        return [(event.what, event.state) for event in walk(connection, "h1", study_uid=study_uid)]


def wrong(ledger: Ledger, folder: Path) -> list[Problem]:
    with ledger.snapshot() as connection:
        heads = head_file(folder / "heads", "h1")
        found = problems(
            connection, "h1", mac=MAC, head=heads, folder=folder / "none", published={}, today=date(2026, 3, 2)
        )
        return list(found)


def test_each_change_is_an_event_and_a_resend_is_none(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    told = [("discover", "discovered"), ("begin", "retrieving"), ("settle", "complete")]
    assert history(ledger) == told
    filled(ledger)
    assert history(ledger) == told
    assert wrong(ledger, tmp_path) == []


def test_a_late_series_opens_a_complete_study_at_once(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    entry = ledger.discover("h1", "1.2", study_date=None, n_expected=3, now=NOW)
    assert (entry.state, entry.reason, entry.completed_at) == (StudyState.PARTIAL, "missing 1 of 3", None)
    filled(ledger, stored="abc", listed="abc")
    assert [state for _, state in history(ledger)][2:] == ["complete", "partial", "retrieving", "complete"]


def test_a_count_that_the_list_has_overruled_opens_nothing(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    ledger.discover("h1", "1.2", study_date=None, n_expected=5, now=NOW)
    ledger.begin("h1", "1.2", listed=frozenset("ab"), now=NOW)
    instances = {uid: StoredInstance(f"d{uid}", f"s{uid}") for uid in "ab"}
    (entry,) = ledger.settle([Settlement("h1", "1.2", instances)], now=NOW)
    assert entry.state is StudyState.COMPLETE
    assert ledger.discover("h1", "1.2", study_date=None, n_expected=5, now=NOW).state is StudyState.COMPLETE
    assert ledger.discover("h1", "1.2", study_date=None, n_expected=6, now=NOW).reason == "missing 4 of 6"


def test_a_node_that_lists_nothing_has_said_nothing(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    ledger.discover("h1", "1.2", study_date=None, n_expected=None, now=NOW)
    assert ledger.begin("h1", "1.2", listed=frozenset(), now=NOW).state is StudyState.RETRIEVING
    (entry,) = ledger.settle([Settlement("h1", "1.2", stored={})], now=NOW)
    assert (entry.state, entry.reason) == (
        StudyState.PARTIAL,
        "unverifiable: the node gives neither a list nor a count",
    )


def test_the_same_uid_with_other_bytes_is_told_and_never_complete(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    conflict = SetAside("q1", "a", "sop_instance_conflict")
    (entry,) = ledger.settle([Settlement("h1", "1.2", stored={}, set_aside=(conflict,))], now=NOW)
    assert (entry.state, entry.reason) == (StudyState.PARTIAL, "set aside: sop_instance_conflict x1")
    assert set(entry.stored) == set("ab")


def test_a_withdrawn_study_is_not_opened_again(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    ledger.withdraw("h1", "1.2", why="opted out", now=NOW)
    assert ledger.begin("h1", "1.2", listed=frozenset("abc"), now=NOW).state is StudyState.WITHDRAWN
    assert history(ledger)[-1] == ("withdraw", "withdrawn")


def test_recompression_changes_the_digest_in_the_lake_and_nothing_else(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    for _ in range(2):  # a batch that is rolled forward is settled twice
        (entry,) = ledger.settle([Settlement("h1", "1.2", stored={}, recoded={"da": "new"})], now=NOW)
    assert entry.stored["a"] == StoredInstance("da", "sa", "new")
    assert (entry.state, len(history(ledger))) == (StudyState.COMPLETE, 4)


def test_without_a_key_a_ledger_is_read_only(tmp_path: Path) -> None:
    filled(keyed_ledger(url_in(tmp_path)))
    ledger = Ledger(url_in(tmp_path))
    assert ledger.entry("h1", "1.2") is not None
    with pytest.raises(LedgerLocked):
        ledger.discover("h1", "1.3", study_date=None, n_expected=1, now=NOW)


@pytest.mark.parametrize(
    ("harm", "where", "told"),
    [
        ("UPDATE study SET n_expected = 1 WHERE study_uid = '1.2'", "study", "somebody changed it"),
        ("UPDATE study SET state = 'partial', reason = 'x' WHERE study_uid = '1.2'", "study", "called partial"),
        ("UPDATE study SET stored = (SELECT stored FROM study WHERE study_uid = '1.3')", "study", "somebody changed"),
        ("UPDATE study SET updated_at = '2026-03-02 00:00:00.000000'", "study", "somebody changed it"),
        ("DELETE FROM study WHERE study_uid = '1.2'", "study", "somebody removed it"),
        ("UPDATE study SET study_uid = '9.9' WHERE study_uid = '1.2'", "study", "it has no history"),
        ("UPDATE study_event SET reason = 'x' WHERE seq = 2", "chain", "entry 2 was changed"),
        ("UPDATE study_event SET mac = previous_mac WHERE seq = 2", "chain", "entry 3 does not follow entry 2"),
        ("DELETE FROM study_event WHERE seq = 2", "chain", "entry 2 is missing"),
        ("DELETE FROM study_event WHERE seq > 4", "chain", "entries 5 to 6 are missing"),
        ("DELETE FROM study_event; DELETE FROM study", "chain", "entries 1 to 6 are missing"),
    ],
)
def test_what_somebody_else_changed_is_found(harm: str, where: str, told: str, tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    filled(ledger, "1.3", stored="cd", listed="cd")
    ledger.close()
    assert wrong(ledger, tmp_path) == []
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.executescript(harm)
    found = wrong(ledger, tmp_path)
    assert told in "\n".join(problem.told for problem in found if problem.where == where)
    names = "\n".join(problem.name for problem in found)
    assert not any(line.startswith("1.") for line in names.splitlines())  # never the hospital's UID


def test_a_change_from_outside_stays_visible_after_ours(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("UPDATE study SET n_expected = 1")
    ledger.discover("h1", "1.2", study_date=None, n_expected=4, now=NOW)
    assert [what for what, _ in history(ledger)][-2:] == ["altered", "discover"]
    assert [problem.told for problem in wrong(ledger, tmp_path)] == ["event 4 found the study changed by somebody else"]


def test_another_key_is_not_ours(tmp_path: Path) -> None:
    ledger = Ledger(url_in(tmp_path), mac=KeyRing.from_secret("0f" * 32).ledger_mac)
    filled(ledger)
    assert "written with another key" in wrong(ledger, tmp_path)[0].told


def _as_before_history(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            DROP TABLE study_event; DROP TABLE certificate; DROP INDEX ix_study_lake_study_uid;
            ALTER TABLE study DROP COLUMN is_open; ALTER TABLE study DROP COLUMN n_told;
            ALTER TABLE study DROP COLUMN trouble; ALTER TABLE study DROP COLUMN unverified;
            ALTER TABLE study DROP COLUMN withdrawn;
            DELETE FROM fact;
            UPDATE study SET state = 'partial', reason = 'missing 1 of 3: the node hung up; set aside: pixel_risk x1',
                n_expected = 3 WHERE study_uid = '1.3';
            """
        )


def test_an_older_ledger_gets_columns_and_a_history(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    filled(ledger)
    filled(ledger, "1.3")
    ledger.settle([Settlement("h1", "1.3", {}, set_aside=(SetAside("q", "c", "pixel_risk"),))], now=NOW)
    ledger.close()
    _as_before_history(tmp_path / "ledger.db")
    (tmp_path / "heads" / "h1.head").unlink()
    assert len(Ledger(url_in(tmp_path)).entries("h1")) == 2  # without the key nothing is adopted yet
    ledger = keyed_ledger(url_in(tmp_path))
    ledger.close()
    assert history(ledger) == [("adopt", "complete")]
    assert history(ledger, "1.3") == [("adopt", "partial")]
    assert wrong(ledger, tmp_path) == []
    filled(ledger)
    assert len(history(ledger)) == 1


@pytest.mark.postgres
def test_the_same_on_postgresql(postgres: str, tmp_path: Path) -> None:
    ledger = Ledger(postgres, mac=MAC, heads=tmp_path / "heads")
    filled(ledger)
    ledger.close()
    ledger = Ledger(postgres, mac=MAC, heads=tmp_path / "heads")
    filled(ledger)
    ledger.withdraw("h1", "1.2", why="opted out", now=NOW)
    assert [what for what, _ in history(ledger)] == ["discover", "begin", "settle", "withdraw"]
    ledger.close()
    assert wrong(ledger, tmp_path) == []
    with ledger.writing() as connection:
        connection.execute(sa.text("UPDATE study SET reason = 'x'"))
    assert [problem.where for problem in wrong(ledger, tmp_path)] == ["study", "study"]
    ledger.engine.dispose()


def test_many_studies_are_entered_in_one_transaction(tmp_path: Path) -> None:
    ledger = keyed_ledger(url_in(tmp_path))
    entered = ledger.discover_all("h1", [Listed(f"1.{n}", None, 1) for n in range(1200)], now=NOW)
    assert [entry.study_uid for entry in entered] == [f"1.{n}" for n in range(1200)]
    assert wrong(ledger, tmp_path) == []


def test_the_root_depends_on_every_study_and_their_order() -> None:
    digests = [f"{n:064x}" for n in range(7)]
    roots = {merkle_root(digests), merkle_root(digests[:-1]), merkle_root(digests[::-1]), merkle_root([])}
    assert len(roots) == 4


class Histories(RuleBasedStateMachine):
    """Whatever happens in whatever order: history whole, states as they must be, nothing falsely complete."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.ledger = keyed_ledger(url_in(Path(self.folder.name)))
        self.clock = NOW

    uids = st.sampled_from(["1.1", "1.2"])
    some = st.frozensets(st.sampled_from("abc"))

    def now(self) -> datetime:
        self.clock += timedelta(seconds=1)
        return self.clock

    @rule(uid=uids, count=st.sampled_from([None, 0, 1, 3]))
    def discover(self, uid: str, count: int | None) -> None:
        self.ledger.discover("h1", uid, study_date=None, n_expected=count, now=self.now())

    @rule(uid=uids, listed=st.none() | some, stored=some, aside=some, trouble=st.sampled_from(["", "hung up"]))
    def attempt(
        self, uid: str, listed: frozenset[str] | None, stored: frozenset[str], aside: frozenset[str], trouble: str
    ) -> None:
        self.ledger.discover("h1", uid, study_date=None, n_expected=None, now=self.now())
        self.ledger.begin("h1", uid, listed=listed, now=self.now())
        items = tuple(SetAside(f"q{name}", name, "pixel_risk") for name in sorted(aside))
        instances = {name: StoredInstance(name, name) for name in stored}
        self.ledger.settle([Settlement("h1", uid, instances, set_aside=items, trouble=trouble)], now=self.now())

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.ledger._keep_heads()
        assert wrong(self.ledger, Path(self.folder.name)) == []
        for entry in self.ledger.entries("h1"):
            if entry.state is StudyState.COMPLETE:
                assert entry.stored
                assert not entry.set_aside
                assert (entry.expected or frozenset()) <= entry.stored.keys()
                assert len(entry.stored) >= (entry.n_expected or 1)

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = hypothesis_settings(max_examples=12, stateful_step_count=12)
