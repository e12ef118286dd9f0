"""Runs: find what is native, encode it in batches, swap the rows of each batch in one staged commit.

Encoding needs no lock: objects are immutable, and nobody knows the new ones yet. The hospital's lock is held for the
moments in which rows are read for a batch and swapped, so a harvest gets its turn; rows that changed meanwhile are
left to the next run. The old objects stay until `radlake tidy` deletes them. The ledger is not touched: its digests
are those of the content as it was received and first stored, by which a resend is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import closing
from time import monotonic

from radlake import log
from radlake.config import Settings
from radlake.ingest.batch import roll_forward
from radlake.ingest.progress import Progress, silent
from radlake.ingest.workers import most_under_way, workers
from radlake.lake import Lake
from radlake.machine import utc_now
from radlake.recompress.catalogue import Candidate, candidates, jobs_of, left_by_row, native_by_modality, sample
from radlake.recompress.series import SeriesJob, SeriesOutcome, estimate_series, recompress_series
from radlake.recompress.summary import Recompressed, Sizes
from radlake.recompress.swap import swap
from radlake.vault.lake_key import open_ledger

__all__ = ["estimate_hospital", "recompress_hospital"]

_BATCH_INSTANCES = 20_000
_SAMPLE = 24  # instances of a modality


def recompress_hospital(
    settings: Settings,
    hospital_id: str,
    *,
    codec: str = "htj2k",
    limit: int | None = None,
    batch_instances: int = _BATCH_INSTANCES,
    executor: Executor | None = None,
    progress: Callable[[Progress], None] = silent,
) -> Recompressed:
    """Encode a hospital's native pixels anew and swap what is proven equal. Running it again goes on where it ended.

    Parameters
    ----------
    codec : str
        One of `CODECS`.
    limit : int, optional
        Most series objects to look at.
    batch_instances : int
        Instances that are swapped in one commit, at least one series object.

    Raises
    ------
    LedgerBusy
        If a harvest or another recompression of this hospital is under way; what was committed stays.
    """
    lake = Lake.from_settings(settings)
    settings.prepare_restricted()
    summary, start = Recompressed(hospital_id, codec), monotonic()
    with (
        closing(open_ledger(settings)) as ledger,
        ledger.lock(f"{hospital_id}|recompress"),
        workers(settings, given=executor) as pool,
    ):
        with ledger.lock(hospital_id):
            roll_forward(lake, ledger, hospital_id=hospital_id, now=utc_now())
        summary.left.update(left_by_row(lake, hospital_id))
        found = candidates(lake, hospital_id)[:limit]
        n_done = 0
        for batch in _batches(found, batch_instances):
            swaps: list[SeriesOutcome] = []
            jobs = jobs_of(settings, lake, hospital_id, batch, codec=codec)
            for outcome in _results(pool, recompress_series, jobs, ahead=most_under_way(pool, settings)):
                n_done += 1
                progress(Progress(hospital_id, n_done, len(found)))
                if outcome.refused:
                    summary.refused[outcome.refused] += 1
                    log.get_logger().error("recompression_refused", hospital=hospital_id, reason=outcome.refused)
                elif outcome.new_path:
                    swaps.append(outcome)
                else:
                    summary.count(outcome)
            with ledger.lock(hospital_id):
                swapped = swap(lake, ledger, hospital_id, swaps)
            for outcome in swapped:
                summary.count(outcome)
            summary.n_overtaken += len(swaps) - len(swapped)
    summary.seconds = round(monotonic() - start, 3)
    log.get_logger().info("recompression_finished", hospital=hospital_id, n_instances=summary.whole.n_instances)
    return summary


def estimate_hospital(
    settings: Settings, hospital_id: str, *, codec: str = "htj2k", executor: Executor | None = None
) -> Recompressed:
    """What `recompress_hospital` would do, from a sample of each modality; nothing is written."""
    lake = Lake.from_settings(settings)
    summary, start = Recompressed(hospital_id, codec), monotonic()
    summary.left.update(left_by_row(lake, hospital_id))
    with workers(settings, given=executor) as pool:
        jobs = sample(settings, lake, hospital_id, codec=codec, size=_SAMPLE)
        outcomes = list(_results(pool, estimate_series, jobs, ahead=most_under_way(pool, settings)))
    for modality, (n_instances, n_bytes) in native_by_modality(lake, hospital_id).items():
        mine = [outcome for outcome in outcomes if outcome.job.members[0].modality == modality and not outcome.refused]
        sizes = [size for outcome in mine for size in outcome.sizes]
        if not sizes:
            continue
        # Instances of the sample that must be left say how many of all will be.
        share = len(sizes) / len(mine)
        after_before = sum(size.after for size in sizes) / sum(size.before for size in sizes)
        before = round(n_bytes * share)
        summary.by_modality[modality] = Sizes(round(n_instances * share), before, round(before * after_before))
    summary.n_sampled = len(outcomes)
    summary.refused.update(outcome.refused for outcome in outcomes if outcome.refused)
    summary.seconds = round(monotonic() - start, 3)
    return summary


def _results(
    pool: Executor, function: Callable[[SeriesJob], SeriesOutcome], jobs: Sequence[SeriesJob], *, ahead: int
) -> Iterator[SeriesOutcome]:
    """Outcomes in the order of the jobs; only so many are under way as keep the workers busy."""
    running: deque[Future[SeriesOutcome]] = deque()
    for job in jobs:
        running.append(pool.submit(function, job))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _batches(found: Sequence[Candidate], n_instances: int) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    n_here = 0
    for candidate in found:
        batch.append(candidate)
        n_here += candidate.n_instances
        if n_here >= n_instances:
            yield batch
            batch, n_here = [], 0
    if batch:
        yield batch
