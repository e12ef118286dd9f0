"""Linking patient records on two cores at three levels of noise: rules, a trained model and guards, beside two joins.

The peers are what an analyst writes first, in DuckDB: equal in all fields (name as written, date of birth, sex and
telephone), and equal in a valid national identity number or else in sound of name, date of birth and sex. They find
pairs and no persons. Records are synthetic with known truth; making them is not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

from bench.measure import Done, Place, Prepare, compare, in_fresh_process, print_table

_RECORDS = 100_000  # a million with --scale 10
_RECORDS_PER_PERSON = 1.95
_TODAY = date(2026, 11, 1)
_LEVELS = ("low", "medium", "high")
_TIMED = "medium"
_PAIRS = """
    SELECT one.patient_key, other.patient_key FROM record AS one INNER JOIN record AS other
        ON {clause} AND one.patient_key < other.patient_key
"""
_SOUND = "one.sound = other.sound AND one.birth_date = other.birth_date AND one.sex = other.sex"
_WRITTEN = "coalesce(one.zh, one.sound) = coalesce(other.zh, other.sound) AND one.birth_date = other.birth_date AND one.sex = other.sex"  # noqa: E501
PEERS = {
    "all fields": [f"{_WRITTEN} AND one.phone = other.phone"],
    "number or sound": ["one.national_id = other.national_id", _SOUND],
}


def main(place: Place, *, scale: float) -> None:
    """100,000 records of each level at scale 1. Other levels than the medium one are run once: they are there for
    their answers, which do not vary.
    """
    for level in _LEVELS:
        file = place.folder / f"{level}.parquet"
        n_persons = round(_RECORDS * scale / _RECORDS_PER_PERSON)
        n = in_fresh_process(partial(write_table, file, level=level, n_persons=n_persons))
        contestants: dict[str, Prepare] = {name: partial(join_peer, file, clauses) for name, clauses in PEERS.items()}
        print_table(
            compare(
                contestants | {"radlake linkage": partial(link, file)},
                place=place if level == _TIMED else replace(place, repetitions=1),
            ),
            title=f"{n:,} records of the {level} noise level on two threads; precision and recall of pairs",
            unit="record",
            peers=list(PEERS),
            answer="precision, recall, linkage rate",
        )


def write_table(file: Path, *, level: str, n_persons: int) -> int:
    """Write records of a noise level with their truth, and return how many they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from radlake.linkage.records import record_from_identities, records_table
    from radlake.synth.identities import NOISE, write_records

    written = list(write_records(n_persons, noise=NOISE[level], seed=7, today=_TODAY))
    records = (record_from_identities(key, [one.identity], today=_TODAY) for key, one in enumerate(written))
    table = records_table(records).append_column("truth", pa.array([one.person_id for one in written]))
    pq.write_table(table, file)
    return table.num_rows


def link(file: Path, folder: Path) -> Callable[[], Done]:
    """What `radlake linkage run` does with the records of a vault."""
    import pyarrow.parquet as pq
    import splink  # noqa: F401  # its import is start-up

    from radlake.lake.person_links import person_of
    from radlake.linkage.clusters import join
    from radlake.linkage.match import find_pairs
    from radlake.linkage.policy import load_policy
    from radlake.linkage.records import Record

    policy, table = load_policy(), pq.read_table(file)

    def run() -> Done:
        given = table.drop_columns("truth")
        found = find_pairs(given, policy=policy, scratch=folder, threads=2)
        records = {row["patient_key"]: Record(**row) for batch in given.to_batches() for row in batch.to_pylist()}
        pairs, _ = join(found.pairs, records=records, most_keys=policy.most_keys)
        persons = person_of(pair.keys for pair in pairs)
        return Done(table.num_rows, look=lambda: _told(file, persons))

    return run


def join_peer(file: Path, clauses: list[str], _: Path) -> Callable[[], Done]:
    """A join of the same records by any of some clauses."""
    from radlake.lake import parquet
    from radlake.lake.person_links import person_of

    connection = parquet.new_connection(threads=2)
    connection.execute(f"CREATE TABLE record AS FROM read_parquet('{file}')")

    def run() -> Done:
        pairs = [pair for clause in clauses for pair in connection.execute(_PAIRS.format(clause=clause)).fetchall()]
        [(n,)] = connection.execute("SELECT count(*) FROM record").fetchall()
        return Done(n, look=lambda: _told(file, person_of(pairs)))

    return run


def _told(file: Path, persons: dict[int, int]) -> str:
    import pyarrow.parquet as pq

    from radlake.linkage.quality import measured, scored
    from radlake.linkage.records import Record

    rows = pq.read_table(file).to_pylist()
    truth = {row["patient_key"]: row.pop("truth") for row in rows}
    found = measured([Record(**row) for row in rows], persons) | scored(truth, persons)
    return ", ".join(f"{found[name] or 0:.4f}" for name in ("precision_share", "recall_share", "linkage_share"))
