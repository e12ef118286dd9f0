"""When studies were made, and which are waited for."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from radlake.lake.study_times import Waiting, enter_study_times, waiting_studies
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
