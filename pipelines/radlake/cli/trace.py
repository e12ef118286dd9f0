"""`radlake trace`: a number back to the query, the snapshot, the exams and the harvest that it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radlake.cli._answers import show_table
from radlake.cli._lake import filled_lake
from radlake.config import Settings

if TYPE_CHECKING:
    from radlake.lineage.pixels import TracedExam
    from radlake.lineage.trace import Step, Trace

app = typer.Typer()


@app.command()
def trace(
    ctx: typer.Context,
    number: Annotated[
        str,
        typer.Argument(help="TABLE@VERSION/KEY=VALUE/.../COLUMN; without @VERSION the latest; totals may be left out."),
    ],
    exams: Annotated[int, typer.Option(help="So many exams are followed to their pixels, every byte read.", min=0)] = 3,
    listed: Annotated[
        int | None,
        typer.Option(
            "--list", help="Only list so many of its exams, as the lake knows them.", min=1, show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Cell, query, snapshot, exams, studies, series objects, harvest events; and whether the numbers come out again.

    Every table on the way is calculated again at its pinned versions and compared byte by byte. Exams are told where
    the key of the lake is. Exit code 1: something does not hold.
    """
    from radlake.lineage.trace import trace as traced

    filled_lake(ctx.obj)
    if listed is not None:
        _list(ctx.obj, number, listed, as_json=as_json)
        return
    found = traced(ctx.obj, number, limit=exams)
    if as_json:
        typer.echo(json.dumps(_told(found), ensure_ascii=False, indent=2, default=_plain))
    else:
        typer.echo("\n".join(_lines(found)))
        for problem in found.problems:
            typer.echo(f"problem: {problem}", err=True)
    raise typer.Exit(1 if found.problems else 0)


def _list(settings: Settings, number: str, limit: int, *, as_json: bool) -> None:
    from radlake.lineage.listed import listed_exams

    found = listed_exams(settings, number, limit=limit)
    told = {"number": str(found.number), "value": found.value, "n_exams": found.n_exams, "exams": found.exams}
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2, default=_plain))
        return
    typer.echo(f"{found.number} = {found.value}: {found.n_exams:,} exams, dates shifted; the first {len(found.exams)}:")
    show_table([tuple(exam.values()) for exam in found.exams], header=tuple(found.exams[0]) if found.exams else ())


def _lines(found: Trace) -> Iterator[str]:
    yield f"{found.number} = {found.value}"
    for step in found.steps:
        yield from _step_lines(step)
    if found.counted is None:
        yield f"exams: {found.why_no_exams}"
        return
    total = "" if found.counted.total is None else f"; they add up to {found.counted.total:,}"
    yield f"exams: {found.counted.n_exams:,}{total}; the first {len(found.exams)}:"
    for exam in found.exams:
        yield from _exam_lines(exam)


def _step_lines(step: Step) -> Iterator[str]:
    build = step.build
    inputs = ", ".join(f"{name}@{'none' if n is None else n}" for name, n in sorted(build.inputs.items()))
    yield f"{build.table.full_name}@{build.version} made by {build.run_id} from {inputs}"
    is_current = "" if build.is_current else ", which has changed since"
    yield f"  query {build.query_sha256[:16]}{is_current}"
    if step.rerun is None:
        yield f"  not calculated again: {step.why_not}"
    elif step.rerun.is_equal:
        yield f"  calculated again: the same {step.rerun.n_rows:,} rows, sha256 {step.rerun.sha256[:16]}"
    else:
        digests = f"sha256 {step.rerun.sha256[:16]}, and {step.rerun.sha256_again[:16]} again"
        yield f"  calculated again: NOT the same: {step.rerun.n_different:,} rows differ, {digests}"


def _exam_lines(exam: TracedExam) -> Iterator[str]:
    yield f"  exam {exam.exam_pseudo_id} of {exam.hospital_id}"
    for study in exam.studies:
        yield f"    study {study.study_instance_uid}: {study.n_instances} instances"
        for one in study.objects:
            state = f"{one.n_damaged} DAMAGED" if one.n_damaged else "intact"
            where = "kept by the hospital, not read" if one.where == "hospital" else state
            yield f"      {one.path}: {one.n_instances} instances, {one.n_bytes:,} bytes, {where}"
        for event in study.events:
            sealed = "" if event.is_sealed else " CHANGED"
            told = f"{event.what}: {event.state}{f' ({event.reason})' if event.reason else ''}{sealed}"
            yield f"      event {event.seq} {event.at:%Y-%m-%d %H:%M:%S} UTC {told}"


def _told(found: Trace) -> dict[str, Any]:
    number = found.number
    return {
        "number": str(number),
        "table": number.table.full_name,
        "version": number.version,
        "key": dict(number.key),
        "column": number.column,
        "value": found.value,
        "steps": [
            {
                "table": step.build.table.full_name,
                "version": step.build.version,
                "run_id": step.build.run_id,
                "built_at": step.build.built_at,
                "inputs": dict(step.build.inputs),
                "query_sha256": step.build.query_sha256,
                "query": step.build.query,
                "is_current_query": step.build.is_current,
                "rerun": None if step.rerun is None else asdict(step.rerun) | {"is_equal": step.rerun.is_equal},
                "why_not": step.why_not,
            }
            for step in found.steps
        ],
        "counted": None if found.counted is None else {"n_exams": found.counted.n_exams, "total": found.counted.total},
        "exams": [asdict(exam) for exam in found.exams],
        "why_no_exams": found.why_no_exams,
        "problems": list(found.problems),
    }


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
