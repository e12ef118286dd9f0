"""History through the rules: every exam is an order, and only what lies before it counts."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from radlake.deidentify import KeyRing
from radlake.lake import Lake
from radlake.lake.ledger import Ledger
from radlake.reminder.policy import load_policy
from radlake.reminder.replay import Replayed, replay
from support.lakes import KEY
from support.reminder import lake_of_exams
from support.rows import rows

EXAMS = """
    number | hospital | modality | body_part | date             | state    | dose | grounds
    P-1    | h1       | CT       | CHEST     | 2026-02-20 09:00 | complete | 6.0  |
    P-1    | h1       | CT       | CHEST     | 2026-03-09 09:00 | complete | 7.0  |
    P-1    | h1       | CT       | CHEST     | 2026-03-09 15:00 | complete | 7.0  |
    P-1    | h1       | CT       | CHEST     | 2026-03-12 09:00 | complete | 5.0  | emergency
    P-2    | h1       | CT       | HEAD      | 2026-03-01 09:00 | partial  |      |
    P-2    | h1       | CT       | HEAD      | 2026-03-08 09:00 | complete |      |
    P-3    | h1       | US       | ABDOMEN   | 2026-03-08 09:00 | complete |      |
    """


def offsets(keys: np.ndarray) -> np.ndarray:
    return np.array(KeyRing.from_secret(KEY).offset_seconds(keys.tolist()))


@pytest.mark.parametrize("is_all_here", [False, True], ids=["by the ledger", "all retrievable"])
def test_what_would_have_been_shown(tmp_path: Path, is_all_here: bool) -> None:
    settings = lake_of_exams(tmp_path, EXAMS)
    lake = Lake.from_settings(settings)
    price = {"item": "exam", "modality_group": "CT", "valid_from": date(2026, 1, 1), "price_fen": 24_000, "source": "t"}
    of_chests = price | {"body_part_code": "CHEST", "price_fen": 26_000}
    lake.tables.commit_batch("ref.price", rows("ref.price", price, of_chests), batch_id="price")
    period = {"first": date(2026, 3, 1), "last": date(2026, 3, 31), "policy": load_policy()}
    with closing(Ledger(settings.ledger)) as ledger:
        found = replay(lake, date_offsets=offsets, ledger=None if is_all_here else ledger, **period)
    # 03-09 twice: the second has the same day's exam before it, and that of February; 03-12 is an emergency.
    silences = {"EXCUSED": 1, "NO_PRIOR": 1} | ({} if is_all_here else {"NOT_RETRIEVABLE": 1})
    n, cost_fen = (3, 2 * 26_000 + 24_000) if is_all_here else (2, 2 * 26_000)
    assert found == [
        Replayed(
            "h1", "CT", n_orders=5, n_reminders=n, silences=silences, cost_fen=cost_fen, n_unpriced=0, dose_msv=14.0
        )
    ]
