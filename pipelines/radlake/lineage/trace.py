"""The whole way of a number: cell, query, snapshot, exams, studies, objects, harvest events; and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from radlake.config import Settings
from radlake.contracts import Table, load_table
from radlake.errors import KeyMissing
from radlake.ingest.offsets import date_offsets
from radlake.lake import Lake
from radlake.lineage.exams import CountedExams, counted_exams
from radlake.lineage.measure import MEASURE, trace_measure
from radlake.lineage.number import Number, Shown, SnapshotGone, shown
from radlake.lineage.pixels import TracedExam, trace_exams
from radlake.lineage.repeats import REPEATS, rerun_repeats
from radlake.lineage.rerun import Build, Rerun, build_of, rerun
from radlake.sqlrun.date_offsets import DateOffsets
from radlake.vault.lake_key import LakeKeyMissing

__all__ = ["Step", "Trace", "trace"]

_NO_KEY = "the rest of the way is in the restricted zone, and its key is not here"


@dataclass(frozen=True)
class Step:
    """A table on the way and how it was made.

    Attributes
    ----------
    rerun : Rerun or None
        None when it was not run again; `why_not` says why.
    """

    build: Build
    rerun: Rerun | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Trace:
    """What a number comes from.

    Attributes
    ----------
    steps : tuple of Step
        The table of the number first, then those that it was made from; empty when no build of this lake made it.
    counted : CountedExams or None
        None when `why_no_exams` says why they are not told.
    exams : tuple of TracedExam
        The first of them, to the pixels.
    problems : tuple of str
        What does not hold; empty when all does.
    """

    number: Number
    value: object
    steps: tuple[Step, ...]
    counted: CountedExams | None = None
    exams: tuple[TracedExam, ...] = ()
    why_no_exams: str = ""
    problems: tuple[str, ...] = ()


def trace(settings: Settings, text: str, *, limit: int) -> Trace:
    """Trace a number by its name; `limit` exams are followed to their pixels.

    Raises
    ------
    NumberInvalid, CellMasked, SnapshotGone
    KeyMismatch
        If the key is that of another lake. Without a key the way ends at the snapshot.
    """
    lake = Lake.from_settings(settings)
    found = shown(lake, Number.from_text(text))
    builds = _builds(lake, found)
    try:
        with date_offsets(settings) as offsets:
            return _checked(_traced(settings, lake, found, builds, offsets, limit=limit), found)
    except (KeyMissing, LakeKeyMissing):
        steps = tuple(Step(build, why_not=_NO_KEY) for build in builds)
        return Trace(found.number, found.value, steps, why_no_exams=_NO_KEY)


def _builds(lake: Lake, found: Shown) -> list[Build]:
    """How the table of the number was made, and how those were that it was made from, as far as builds tell."""
    table = found.number.table
    first = build_of(lake, table, found.version)
    builds = [first] if first else []
    for build in builds:  # grows while it is walked
        seen = {one.table for one in builds}
        for name, version in build.inputs.items():
            above: Table = load_table(name)
            if above.layer == "core" and above not in seen and version is not None:
                builds += filter(None, [build_of(lake, above, version)])
    return builds


def _traced(
    settings: Settings, lake: Lake, found: Shown, builds: list[Build], offsets: DateOffsets, *, limit: int
) -> Trace:
    name = found.number.table.view_name
    if not builds:
        return Trace(found.number, found.value, (), why_no_exams="no build of this lake made the table")
    first, *above = builds
    counted = None
    if name == MEASURE:
        again, counted = trace_measure(lake, found, first, date_offsets=offsets, limit=limit)
        steps = [Step(first, again)]
    else:
        steps = [_rerun_step(lake, found, first, offsets)]
    steps += [_rerun_step(lake, found, build, offsets) for build in above]
    so_far = Trace(found.number, found.value, tuple(steps))
    if name in REPEATS:
        return replace(so_far, why_no_exams="core.exam_sequence names no exams; ask `radlake why` of one")
    if counted is None and first.query:
        counted = counted_exams(lake, found, first, date_offsets=offsets, limit=limit)
    if counted is None:
        told = f"{name} counts no exams, but rows of {', '.join(sorted(first.inputs))}"
        return replace(so_far, why_no_exams=told)
    studies_at = next((build.inputs.get("dicom.study") for build in builds if build.table.name == "exam"), None)
    exams = trace_exams(settings, lake, counted.first, studies_at=studies_at)
    return replace(so_far, counted=counted, exams=tuple(exams))


def _rerun_step(lake: Lake, found: Shown, build: Build, offsets: DateOffsets) -> Step:
    """A table that the number is in must be there; one that it was made from may be gone, which is told."""
    name = build.table.view_name
    try:
        if name in REPEATS:
            return Step(build, *rerun_repeats(lake, build))
        if not build.query:
            return Step(build, why_not="it is made by a program, not by a query")
        return Step(build, rerun(lake, build, date_offsets=offsets))
    except SnapshotGone:
        if build.table == found.number.table:
            raise
        return Step(build, why_not="a version that it was made from was deleted by `radlake tidy`")


def _checked(traced: Trace, found: Shown) -> Trace:
    return replace(traced, problems=tuple(_problems(traced, found)))


def _problems(traced: Trace, found: Shown) -> Iterator[str]:
    for step in traced.steps:
        if step.rerun and not step.rerun.is_equal:
            yield (
                f"{step.rerun.table} version {step.rerun.version} is not what its query gives: "
                f"{step.rerun.n_different} rows differ"
            )
    total = traced.counted.total if traced.counted else None
    if total is not None and total != found.value:
        yield f"its exams add up to {total}, not to {found.value}"
    for exam in traced.exams:
        yield from exam.problems
