"""`radlake cohort`: cohorts defined as files, counted while they are written, built, released and pulled."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radlake.cli import _results

if TYPE_CHECKING:
    from radlake.cohort.definition import Cohort
    from radlake.config import Settings
    from radlake.lake import Lake

app = typer.Typer(help="Cohorts of exams, defined as files under review.", no_args_is_help=True)
app.add_typer(_results.app, name="results")

File = Annotated[Path, typer.Argument(help="YAML of a cohort, or the name of one that comes with radlake.")]
Files = Annotated[list[Path], typer.Argument(help="YAML of cohorts, or names of ones that come with radlake.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", help="Read a table at a version, as core.exam=12; the others at their latest. May be repeated."
    ),
]


@app.command()
def check(files: Files) -> None:
    """Read definitions; all problems of a file are told at once, with line and nearest names. Needs no lake."""
    from radlake.cohort.definition import load_cohort
    from radlake.errors import RadlakeError

    is_valid = True
    for file in files:
        try:
            cohort = load_cohort(file)
            typer.echo(f"{cohort.name} version {cohort.version} is valid")
        except RadlakeError as exc:
            typer.echo(f"error: {exc}", err=True)
            is_valid = False
    if not is_valid:
        raise typer.Exit(1)


@app.command()
def count(ctx: typer.Context, file: File, at: At = None, as_json: Json = False) -> None:
    """What each step of a definition leaves, while you write it: coarse numbers, nothing is written."""
    from radlake.cli._lake import existing_lake
    from radlake.cohort.build import count_cohort
    from radlake.ingest.offsets import date_offsets
    from radlake.stats.policy import load_policy

    settings = ctx.obj
    policy = load_policy(settings.disclosure)
    lake = existing_lake(settings)
    cohort, snapshot = _asked(settings, lake, file, at)
    steps = count_cohort(lake, cohort, date_offsets=date_offsets(settings), policy=policy, snapshot=snapshot)
    if as_json:
        typer.echo(json.dumps([{"step": s.name, "n_exams": exams, "n_persons": n} for s, exams, n in steps]))
        return
    _show_steps(steps, threshold=policy.threshold)


@app.command()
def build(ctx: typer.Context, file: File, at: At = None, as_json: Json = False) -> None:
    """Build a cohort from the latest tables, or those of --at, and pin them: the same id is the same bytes for ever.

    Its members lie in the restricted zone; `radlake cohort release` makes of it what may leave.
    """
    from radlake.cli._lake import existing_lake
    from radlake.cohort.build import build_cohort
    from radlake.epidemiology.release import coarsened
    from radlake.ingest.offsets import date_offsets
    from radlake.lake.withdrawals import sharing_lake
    from radlake.stats.policy import load_policy

    settings = ctx.obj
    lake, policy = existing_lake(settings), load_policy(settings.disclosure)
    cohort, snapshot = _asked(settings, lake, file, at)
    settings.prepare_restricted()
    with sharing_lake(settings):
        built = build_cohort(lake, cohort, date_offsets=date_offsets(settings), snapshot=snapshot)
    if as_json:
        facts = {"cohort_id": built.cohort_id, "snapshot": dict(built.snapshot), "digests": dict(built.digests)}
        typer.echo(json.dumps(facts))
        return
    _show_steps(coarsened(built.steps, policy=policy), threshold=policy.threshold)
    typer.echo(f"built {built.cohort_id} from {json.dumps(dict(built.snapshot))}")
    for name, digest in sorted(built.digests.items()):
        typer.echo(f"  {digest}  {name}")
    typer.echo(f"To let it leave: radlake cohort release {built.cohort_id} --project NAME --contact TEXT")


@app.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """Cohorts that were built in this lake, and definitions that come with radlake."""
    from radlake.cli._answers import show_table
    from radlake.cli._lake import existing_lake
    from radlake.cohort.build import built_cohorts, open_built
    from radlake.cohort.definition import load_cohort, shipped_cohorts

    lake = existing_lake(ctx.obj)
    found = [open_built(lake, cohort_id) for cohort_id in built_cohorts(lake)]
    rows = [(b.cohort_id, b.cohort.title["zh"], b.cohort.title["en"]) for b in found]
    if as_json:
        typer.echo(json.dumps([b.cohort_id for b in found]))
        return
    shipped = [load_cohort(path) for path in shipped_cohorts().values()]
    rows += [(f"{c.name} (comes with radlake)", c.title["zh"], c.title["en"]) for c in shipped]
    show_table(rows, header=("cohort", "title", ""))


@app.command()
def release(
    ctx: typer.Context,
    cohort: Annotated[str, typer.Argument(help="Id of a cohort that was built.")],
    project: Annotated[str, typer.Option(help="Names the project's own keys: lower-case letters, digits, _ and -.")],
    contact: Annotated[str, typer.Option(help="Whom to ask about the release; told to everybody.")],
    as_json: Json = False,
) -> None:
    """Make a release of a cohort under the keys of a project; it waits for `radlake cohort approve`.

    Pseudonyms, UIDs and dates are the project's own, ages and places as coarse as k-anonymity needs. Stopped at any
    point, the same command goes on. What a committee reads is in its folder `review`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from radlake.cli._lake import existing_lake
    from radlake.cli._stop import stoppable
    from radlake.cohort.release import Step, make_release
    from radlake.ingest.offsets import date_offsets
    from radlake.stats.policy import load_policy

    settings = ctx.obj
    existing_lake(settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("series"))
    with stoppable(), Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task(project, total=None)

        def show(step: Step) -> None:
            bars.update(bar, completed=step.n_done, total=step.n_total)

        made = make_release(
            settings,
            cohort,
            project=project,
            contact=contact,
            date_offsets=date_offsets(settings),
            policy=load_policy(settings.disclosure),
            progress=show,
        )
    told = made.document
    if as_json:
        typer.echo(json.dumps({**told, "digest": made.digest, "review": str(made.folder / "review")}))
        return
    counts = ", ".join(f"{told[name]:,} {name[2:]}" for name in ("n_persons", "n_exams", "n_series", "n_instances"))
    typer.echo(f"{made.release_id}: {counts}, {told['n_bytes']:,} bytes")
    typer.echo(f"rejected series: {json.dumps(told['rejected'])}")
    typer.echo(f"It waits for approval: read {made.folder / 'review' / 'index.html'}, then")
    typer.echo(
        f"radlake cohort approve {made.release_id} --purpose TEXT --holder WHO --expires DATE --licence NAME --by WHO"
        " --why TEXT"
    )


Release = Annotated[str, typer.Argument(help="Id of a release, as `radlake cohort releases` lists it.")]
By = Annotated[str, typer.Option("--by", help="Who decides.")]
Why = Annotated[str, typer.Option("--why", help="On what ground: an approval's number.")]


@app.command()
def approve(
    ctx: typer.Context,
    release: Release,
    purpose: Annotated[str, typer.Option(help="What the data are for.")],
    holder: Annotated[str, typer.Option(help="Who answers for them.")],
    expires: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="The last day on which they can be pulled.")],
    licence: Annotated[str, typer.Option(help="Licence or agreement that the holder is bound by.")],
    by: By,
    why: Why,
) -> None:
    """Approve a release: it can be pulled from now on. Entered in the ledger and in the audit trail."""
    from radlake.cohort.approval import approve as approve_release
    from radlake.machine import utc_now

    approval = approve_release(
        ctx.obj,
        release,
        purpose=purpose,
        holder=holder,
        expires_on=expires.date(),
        by=by,
        why=why,
        licence=licence,
        now=utc_now().replace(tzinfo=None),
    )
    typer.echo(f"{release} may be pulled by {holder} until {approval.expires_on}: radlake cohort pull {release} FOLDER")


@app.command()
def revoke(ctx: typer.Context, release: Release, by: By, why: Why) -> None:
    """End a release before its time: it cannot be pulled from now on. What was pulled is with its holder."""
    from radlake.cohort.approval import revoke as revoke_release
    from radlake.machine import utc_now

    revoke_release(ctx.obj, release, by=by, why=why, now=utc_now().replace(tzinfo=None))
    typer.echo(f"{release} cannot be pulled any more")


@app.command()
def releases(ctx: typer.Context, as_json: Json = False) -> None:
    """Releases that were made in this lake, and what was decided; of an `ended` one somebody was withdrawn."""
    from radlake.cli._answers import show_table
    from radlake.cli._lake import existing_lake
    from radlake.cohort.approval import standing
    from radlake.lake.ledger import Ledger

    lake = existing_lake(ctx.obj)
    with closing(Ledger(ctx.obj.ledger)) as ledger:
        found = standing(lake, ledger)
    if as_json:
        typer.echo(
            json.dumps([{"release_id": i} | (vars(one) if one else {}) for i, one in found.items()], default=str)
        )
        return
    rows = [
        (i, one.decision, one.holder, one.purpose, str(one.expires_on or "")) if one else (i, "waiting", "", "", "")
        for i, one in found.items()
    ]
    show_table(rows, header=("release", "decision", "holder", "purpose", "until"))


@app.command()
def pull(
    ctx: typer.Context,
    release: Annotated[str, typer.Argument(help="Id of a release, or the file of a manifest.")],
    folder: Annotated[Path, typer.Argument(help="Where it shall lie.")],
    layout: Annotated[
        str, typer.Option(help="dicom, zip, webdataset, nifti (needs dcm2niix) or tables (no pixels).")
    ] = "dicom",
    csv: Annotated[bool, typer.Option("--csv", help="Tables as CSV too.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read again what is there, and mend it.")] = False,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Range reads at once; 0: as many as suit the store.", show_default=False)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Bring an approved release home: verified by digest, resumable, nothing twice.

    Needs neither key nor restricted zone, only where the lake is (--lake, or the manifest tells it). What could not be
    had is in FOLDER/retry.manifest, which this command takes too.
    """
    from rich.console import Console

    from radlake.cli._pull import PullBar, show_pulled
    from radlake.cli._stop import stoppable
    from radlake.cohort.pull import LAYOUTS, manifest_of, open_release
    from radlake.cohort.pull import pull as pull_release
    from radlake.errors import ConfigInvalid
    from radlake.machine import utc_now

    if layout not in LAYOUTS:
        raise ConfigInvalid(path=f"--layout {layout}", problems=[f"there are {', '.join(LAYOUTS)}"])
    manifest, settings = manifest_of(release, ctx.obj)
    opened = open_release(settings, manifest.release_id, today=utc_now().date())
    with stoppable(), PullBar(Console(stderr=True), opened.release_id) as bar:
        pulled = pull_release(
            opened,
            folder,
            manifest=manifest,
            layout=layout,
            workers=workers,
            with_csv=csv,
            by_digest=verify,
            progress=bar,
        )
    show_pulled(pulled, folder, opened, as_json=as_json)
    if pulled.failed:  # it may have been closed meanwhile: then nothing goes on
        open_release(settings, manifest.release_id, today=utc_now().date())
    if not pulled.is_complete:
        raise typer.Exit(1)


@app.command()
def export(
    ctx: typer.Context,
    release: Release,
    folder: Annotated[Path, typer.Argument(help="Where the files shall lie.")],
    form: Annotated[
        str,
        typer.Option(
            "--as",
            help="fhir: NDJSON of FHIR R4 resources. mado: a KOS and a FHIR Bundle of each study. "
            "omop: OMOP CDM 5.4 with MI-CDM as Parquet, and DDL.",
        ),
    ],
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Of fhir, only this type of resource. May be repeated.")
    ] = None,
    wado: Annotated[
        str, typer.Option("--wado-rs", help="Of mado, base URL of the WADO-RS where you keep the images.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Write an approved release in the words of others; of its tables, without pixels.

    A folder of omop must not be there before; what has no concept and what is left out is told.
    """
    from radlake.cli._exports import FORMS
    from radlake.cli._stop import stoppable
    from radlake.cohort.pull import open_release
    from radlake.errors import ConfigInvalid
    from radlake.machine import utc_now

    if form not in FORMS:
        raise ConfigInvalid(path=f"--as {form}", problems=[f"there are {', '.join(FORMS)}"])
    with stoppable("stopped. The same command begins anew."):
        opened = open_release(ctx.obj, release, today=utc_now().date())
        FORMS[form](opened, folder, types=types or (), wado_url=wado, as_json=as_json)


def _asked(settings: Settings, lake: Lake, file: Path, at: list[str] | None) -> tuple[Cohort, dict[str, int]]:
    """The definition and the versions of --at; problems of both at once."""
    from radlake.cli.hospitals import registered_hospitals
    from radlake.cohort.build import known_of, snapshot_of
    from radlake.cohort.definition import load_cohort
    from radlake.errors import ConfigInvalid

    snapshot = _versions(at)
    problems: list[str] = []
    try:
        snapshot_of(lake, snapshot)
    except ConfigInvalid as exc:
        problems = [f"--at: {problem}" for problem in exc.facts["problems"]]
    try:
        cohort = load_cohort(file, known_of(lake, registered_hospitals(settings)))
    except ConfigInvalid as exc:
        raise ConfigInvalid(path=file, problems=[*exc.facts["problems"], *problems]) from exc
    if problems:
        raise ConfigInvalid(path="The snapshot", problems=problems)
    return cohort, snapshot


def _versions(given: list[str] | None) -> dict[str, int]:
    found = {}
    for one in given or []:
        name, _, version = one.partition("=")
        if not version.isdecimal():
            raise typer.BadParameter(f"{one} is not TABLE=VERSION, as core.exam=12")
        found[name] = int(version)
    return found


def _show_steps(steps: list[Any], *, threshold: int) -> None:
    from radlake.cli._answers import show_table

    small = f"<{threshold}"
    rows = [(s.name, small if exams is None else exams, small if n is None else n) for s, exams, n in steps]
    show_table(rows, header=("after", "exams", "persons"), numbers=(False, True, True))
    typer.echo(f"rounded to {2 * threshold}")
