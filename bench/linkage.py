"""Linking patient records on two cores: rules, a trained model and guards, beside an exact join of the same records.

The peer is DuckDB joining on equal sound of name, date of birth and sex: what an analyst writes first. It finds pairs
and no persons. Records are synthetic, of the medium noise level, with known truth; making them is not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

from bench.measure import Done, Place, Prepare, compare, in_fresh_process, print_table

_RECORDS = 100_000  # a million with --scale 10
_RECORDS_PER_PERSON = 1.95
_TODAY = date(2026, 11, 1)


def main(place: Place, *, scale: float) -> None:
    """100,000 records at scale 1."""
    file = place.folder / "records.parquet"
    n = in_fresh_process(partial(_write_records, file, n_persons=round(_RECORDS * scale / _RECORDS_PER_PERSON)))
    contestants: dict[str, Prepare] = {"exact join": partial(_exact, file), "radlake linkage": partial(_linkage, file)}
    print_table(
        compare(contestants, place=place),
        title=f"{n:,} records of the medium noise level on two threads; precision and recall of pairs",
        unit="record",
        peers=["exact join"],
        ratio="seconds",
        answer="precision, recall",
    )


def _write_records(file: Path, *, n_persons: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from radlake.linkage.records import record_from_identities, records_table
    from radlake.synth.identities import NOISE, write_records

    written = list(write_records(n_persons, noise=NOISE["medium"], seed=7, today=_TODAY))
    records = (record_from_identities(key, [one.identity], today=_TODAY) for key, one in enumerate(written))
    table = records_table(records).append_column("truth", pa.array([one.person_id for one in written]))
    pq.write_table(table, file)
    return table.num_rows


def _linkage(file: Path, folder: Path) -> Callable[[], Done]:
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
        return Done(table.num_rows, look=lambda: _told(table["truth"].to_pylist(), persons))

    return run


def _exact(file: Path, _: Path) -> Callable[[], Done]:
    from radlake.lake import parquet
    from radlake.lake.person_links import person_of

    connection = parquet.new_connection(threads=2)
    connection.execute(f"CREATE TABLE record AS FROM read_parquet('{file}')")

    def run() -> Done:
        pairs = connection.execute(
            "SELECT one.patient_key, other.patient_key FROM record AS one INNER JOIN record AS other"
            " ON one.sound = other.sound AND one.birth_date = other.birth_date AND one.sex = other.sex"
            " AND one.patient_key < other.patient_key"
        ).fetchall()
        truth = [value for (value,) in connection.execute("SELECT truth FROM record ORDER BY patient_key").fetchall()]
        return Done(len(truth), look=lambda: _told(truth, person_of(pairs)))

    return run


def _told(truth: list[str], persons: dict[int, int]) -> str:
    from radlake.linkage.quality import scored

    found = scored(dict(enumerate(truth)), persons)
    return f"{found['precision_share'] or 0:.4f}, {found['recall_share'] or 0:.4f}"
