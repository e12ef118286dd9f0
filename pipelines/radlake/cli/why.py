"""`radlake why`: why an exam is counted as a repeat, or is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from radlake.cli._lake import existing_lake

if TYPE_CHECKING:
    from radlake.stats.duplicates.why import Explanation, PersonExam

app = typer.Typer()


@app.command()
def why(
    ctx: typer.Context,
    exam: Annotated[str, typer.Argument(help="exam_pseudo_id of core.exam.")],
    hospital: Annotated[str | None, typer.Option(help="Its hospital_id, when several have such an exam.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Every exam of the person that was considered, the one that is repeated, and each exclusion with its evidence.

    Tells intervals, never a date.
    """
    from radlake.ingest.duplicates import why_counted

    existing_lake(ctx.obj)
    found = why_counted(ctx.obj, exam, hospital_id=hospital)
    if as_json:
        typer.echo(json.dumps(_without_dates(asdict(found)), default=sorted, ensure_ascii=False))
        return
    typer.echo("\n".join(_lines(found)))


def _lines(found: Explanation) -> list[str]:
    lines = [f"exam {_named(found.exam)}"]
    if found.unmatchable:
        lines.append(f"  cannot match: {found.unmatchable}")
    for one in found.considered:
        days = "" if one.days is None else f" {abs(one.days)} days {'before' if one.days >= 0 else 'after'}:"
        lines.append(f"  {_named(one.exam)}:{days} {one.verdict}")
    if found.earlier is None:
        return [*lines, "no repeat: no earlier exam of the same person, modality, body part and compatible side"]
    windows = ", ".join(map(str, found.windows)) or "none"
    lines.append(f"repeats {found.earlier.exam_pseudo_id} after {found.days} days; within the windows: {windows}")
    if found.is_side_unknown:
        lines.append("  one of the two states no side, which matches any")
    apart = [
        name
        for name, is_other in (
            ("hospitals", found.exam.hospital_id != found.earlier.hospital_id),
            ("prefectures", found.exam.region_code[:4] != found.earlier.region_code[:4]),
            ("levels", found.exam.hospital_level != found.earlier.hospital_level),
        )
        if is_other
    ]
    lines.append(f"  across {' and '.join(apart)}" if apart else "  within one hospital")
    for pack in found.packs:
        lines.append(f"by {pack.rule_pack}: {pack.class_}")
        lines += [
            f"  {'yes' if looked.applies else 'no '} {looked.code}: {looked.evidence} (exam {looked.told_by})"
            for looked in pack.looked
        ]
    return lines


def _named(exam: PersonExam) -> str:
    side = "" if exam.laterality_code in ("NONE", "U") else f" {exam.laterality_code}"
    return f"{exam.exam_pseudo_id} of {exam.hospital_id}, {exam.modality_group} {exam.body_part_code}{side}"


def _without_dates(value: object) -> object:
    """True times stay in the memory of this process."""
    if isinstance(value, dict):
        return {key: _without_dates(item) for key, item in value.items() if key != "at"}
    if isinstance(value, (list, tuple)):
        return [_without_dates(item) for item in value]
    return value
