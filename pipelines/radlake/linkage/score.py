"""Measure the policy in force on synthetic records whose truth is known, at each noise level."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from radlake.lake.person_links import person_of
from radlake.linkage.clusters import join
from radlake.linkage.match import find_pairs
from radlake.linkage.policy import Policy
from radlake.linkage.quality import measured, scored
from radlake.linkage.records import record_from_identities, records_table
from radlake.synth.identities import NOISE, write_records

__all__ = ["score_policy"]


def score_policy(
    policy: Policy,
    *,
    today: date,
    n_persons: int = 20_000,
    seed: int = 1,
    levels: Iterable[str] = tuple(NOISE),
    scratch: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Columns of ops.linkage by population: `synthetic_low`, `synthetic_medium`, `synthetic_high`.

    Raises
    ------
    LinkageFailed
    """
    score = {}
    for level in levels:
        written = list(write_records(n_persons, noise=NOISE[level], seed=seed, today=today))
        records = [record_from_identities(key, [one.identity], today=today) for key, one in enumerate(written)]
        matches = find_pairs(records_table(records), policy=policy, scratch=scratch)
        known = {record.patient_key: record for record in records}
        pairs, _ = join(matches.pairs, records=known, most_keys=policy.most_keys)
        persons = person_of(pair.keys for pair in pairs)
        truth = {key: one.person_id for key, one in enumerate(written)}
        score[f"synthetic_{level}"] = measured(records, persons) | scored(truth, persons)
    return score
