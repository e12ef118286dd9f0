"""When studies were made, and which are waited for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from radlake.lake.ledger_tables import STUDY_TIME
from radlake.lake.pushed import Notice, PushRecords, StepStatus
from radlake.lake.study_times import Waiting, enter_study_times, waiting_studies
from radlake.lake.withdrawals import TURNED_AWAY
from radlake.machine import utc_now
from support.lakes import keyed_ledger, settings_of


def test_waiting_studies_are_those_that_the_hospital_has_to_send(tmp_path: Path) -> None:
    ledger = keyed_ledger(settings_of(tmp_path / "lake").ledger)
    now = utc_now()
    try:
        for uid in ("1.1", "1.2", "1.3", "1.4"):
            ledger.discover("h1", uid, study_date=None, n_expected=1, now=now)
        ledger.begin("h1", "1.2", found=frozenset({"1.2.1"}), now=now)
        enter_study_times(ledger, "h1", {"1.1": datetime(2026, 1, 1), "1.3": datetime(2026, 1, 3, 8)})
        since = datetime(2026, 1, 2)
        assert waiting_studies(ledger, since=since) == {"h1": Waiting(3, datetime(2026, 1, 3, 8))}
    finally:
        ledger.close()


def test_nothing_is_told_of_a_study_that_is_turned_away(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "lake")
    ledger, now = keyed_ledger(settings.ledger), utc_now()
    ledger.discover("h1", "1.2.3.77777", study_date=None, n_expected=1, now=now)
    enter_study_times(ledger, "h1", {"1.2.3.77777": datetime(2026, 1, 1), "1.2.3.8": datetime(2026, 1, 1)})
    notice = Notice("1.2.3.99999", "1.2.3.77777", StepStatus.COMPLETED, frozenset({"1.2.3.1"}))
    PushRecords(ledger).tell("h1", notice, now=now)
    ledger.erase("h1", "1.2.3.77777", why=TURNED_AWAY, now=now)
    with ledger.reading() as connection:
        assert list(connection.scalars(sa.select(STUDY_TIME.c.study_uid))) == ["1.2.3.8"]
    assert PushRecords(ledger).notices("h1", "1.2.3.77777") == []
    assert PushRecords(ledger).doubtful(since=datetime(2026, 1, 1)) == []
    ledger.close()
    found = b"".join(path.read_bytes() for path in settings.restricted.rglob("*") if path.is_file())
    assert b"1.2.3.77777" not in found
    assert b"1.2.3.99999" not in found
