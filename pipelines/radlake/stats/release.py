"""One release: the statistics that are published together, and how the totals of each come about.

How a table is masked is in `disclosure`; a new statistic needs an entry here only where its totals are not plain sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from radlake.contracts import load_table
from radlake.stats import disclosure
from radlake.stats.disclosure import Policy, Sums

__all__ = ["SUMS", "mask"]

SUMS: Mapping[str, Sums] = {
    "stats.exam_volume": Sums(distinct=["n_patients"]),
    "stats.duplicate_exam": Sums(
        repeated={"n_exams": ["scope"]},
        zeros=["n_duplicates"],
        at_most={"n_duplicates": "n_exams"},
    ),
    "stats.exam_rate": Sums(distinct=["n_patients"], left_out={"region_code": "n_residents"}),
}


def mask(exact: Mapping[str, pa.Table], *, policy: Policy | None = None) -> dict[str, pa.Table]:
    """Withhold small counts in all statistics of a release.

    Parameters
    ----------
    exact : mapping of str to pa.Table
        Exact statistics by name.
    """
    return {
        name: disclosure.mask(load_table(name), data, policy=policy or Policy(), sums=SUMS.get(name))
        for name, data in exact.items()
    }
