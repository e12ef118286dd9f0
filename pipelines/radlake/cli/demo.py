"""`radlake demo`: three hospitals, harvested over real DICOM protocols to a number on a screen."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from radlake.cli._progress import Bars
from radlake.cli._stop import stoppable
from radlake.cli.harvest import JsonFile, write_json
from radlake.cli.init import ensure_key
from radlake.cli.tables import human_bytes, summary_table
from radlake.config import Settings
from radlake.errors import ConfigInvalid, RadlakeError
from radlake.ingest import HarvestSummary, harvest_folder, harvest_hospital, total
from radlake.ingest.build import build_lake
from radlake.ingest.workers import workers
from radlake.lake import Lake, duck
from radlake.machine import free_port, utc_now
from radlake.net import Hospital, Window, load_hospitals
from radlake.sqlrun.reference import load_reference
from radlake.synth import demo as synth
from radlake.synth.ledgers import film_demand_table, film_ledger_table, population_table

app = typer.Typer()
LAKE = "demo-lake"
_QUESTION = (
    "SELECT hospital_id, window_days, n_exams, n_duplicates FROM stats.duplicate_exam"
    " WHERE scope = 'any' AND exam_month = 'all' AND modality_group = 'all' ORDER BY ALL"
)


@app.command()
def demo(
    ctx: typer.Context,
    serve: Annotated[bool, typer.Option("--serve/--no-serve", help="Show the numbers in a browser at the end.")] = True,
    json_file: JsonFile = None,
    exams: Annotated[int, typer.Option(min=30, help="Exams in the synthetic province.")] = 1200,
    port: Annotated[int, typer.Option(help="Port of the page.")] = 8765,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew: remove the demo's lake first.")] = False,
) -> None:
    """Make three synthetic hospitals, run a PACS for each, harvest, de-identify, store, count and show.

    The lake is ./demo-lake (or --lake). A second run goes on where the first stopped: nothing is fetched twice.
    """
    console, start = Console(), monotonic()
    settings = _demo_settings(ctx.obj)
    if fresh and settings.is_local and (Path(settings.lake) / "restricted" / "demo").is_dir():
        shutil.rmtree(settings.lake)
    ensure_key(settings)
    with stoppable():
        summaries = _fill(settings, console, n_exams=exams)
    result = _result(Lake.from_settings(settings), summaries, seconds=monotonic() - start)
    _print(console, summaries, result)
    if json_file:
        write_json(json_file, result)
    if serve:
        from radlake.cli.serve import serve_anywhere

        serve_anywhere(settings, port=port)


def _fill(settings: Settings, console: Console, *, n_exams: int) -> list[HarvestSummary]:
    """From no hospital at all to the tables that the pages show; each step leaves alone what is done already."""
    lake = Lake.from_settings(settings)
    root = settings.restricted / "demo"
    root.mkdir(exist_ok=True)

    console.print("[bold]1/4[/] making three hospitals' archives …")
    province = synth.demo_province(n_exams=n_exams)
    files = synth.make_archives(province, root)
    console.print(f"    {sum(files.values()):,} files of {len(province.hospitals)} hospitals and a CD")

    console.print("[bold]2/4[/] harvesting over C-GET, C-MOVE, DICOMweb and from a CD …")
    with synth.running_pacs(province, root, our_ae_title=settings.ae_title, scp_port=settings.scp_port) as pacs:
        synth.write_hospitals(pacs, settings.hospitals)
        summaries = _harvest(settings, console, cd=root / "cd")

    console.print("[bold]3/4[/] loading population, prices and film ledger …")
    load_reference(
        lake, "ref.film_demand", film_demand_table(province), batch_id=f"demo-film-why-{synth.SEED}-{n_exams}"
    )
    load_reference(lake, "ref.film_ledger", film_ledger_table(province), batch_id=f"demo-film-{synth.SEED}-{n_exams}")
    people = population_table(province, one_in=1000)
    load_reference(lake, "ref.population", people, batch_id=f"demo-people-{synth.SEED}-{n_exams}")

    console.print("[bold]4/4[/] counting exams, duplicates and film …")
    build_lake(settings, now=utc_now())
    return summaries


def _demo_settings(given: Settings) -> Settings:
    """The demo has a lake of its own unless another is named, and a storage SCP port that is free."""
    lake = given.lake if "lake" in given.model_fields_set else str(Path(LAKE).resolve())
    if "://" in lake:
        raise ConfigInvalid(
            path="--lake", problems=["the demo keeps its hospitals beside its lake: name a local folder"]
        )
    chosen = given.model_dump(include=given.model_fields_set - {"restricted", "ledger", "hospitals", "key"})
    return Settings(**chosen | {"lake": lake, "scp_port": given.scp_port or free_port()})


def _harvest(settings: Settings, console: Console, *, cd: Path) -> list[HarvestSummary]:
    """All hospitals at once, on shared workers; one that fails does not stop the others. Then the county's CD."""
    hospitals = load_hospitals(settings.hospitals)
    window = Window(synth.START, synth.END)

    with Bars(console) as bars, workers(settings) as executor, ThreadPoolExecutor(len(hospitals)) as threads:

        def harvest(hospital: Hospital) -> HarvestSummary | RadlakeError:
            try:
                return harvest_hospital(settings, hospital, window=window, executor=executor, progress=bars)
            except RadlakeError as exc:
                return exc

        try:
            results = list(threads.map(harvest, hospitals.values()))
        except KeyboardInterrupt:
            bars.stop()
            raise
        county = list(hospitals.values())[-1]
        results.append(harvest_folder(settings, cd, hospital=county, executor=executor, progress=bars))
    for hospital, result in zip(hospitals, results, strict=False):
        if isinstance(result, RadlakeError):
            console.print(f"[red]error:[/] {hospital}: {result}")
    return [result for result in results if isinstance(result, HarvestSummary)]


def _result(lake: Lake, summaries: list[HarvestSummary], *, seconds: float) -> dict[str, Any]:
    with duck.connect(lake) as connection:

        def one(query: str) -> Any:
            row = connection.execute(query).fetchone()
            return row[0] if row else None

        duplicates = {
            f"duplicates_{days}_days": one(
                "SELECT n_duplicates FROM stats.duplicate_exam WHERE scope = 'any' AND exam_month = 'all'"
                f" AND hospital_id = 'all' AND modality_group = 'all' AND window_days = {days}"
            )
            for days in (30, 90)
        }
        net_fen = one(
            "SELECT net_saving_fen FROM stats.film_saving"
            " WHERE exam_month = 'all' AND hospital_id = 'all' AND modality_group = 'all'"
        )
        counts = {
            "exams": one("SELECT count(*) FROM core.exam"),
            "instances_in_lake": one("SELECT count(*) FROM dicom.instance"),
            "series_objects": one("SELECT count(*) FROM dicom.series"),
            "studies_in_lake": one("SELECT count(*) FROM dicom.study"),
        }
    return (
        total(summaries)
        | counts
        | duplicates
        | {"net_film_saving_yuan": None if net_fen is None else net_fen / 100, "seconds": round(seconds, 1)}
        | {"hospitals": [summary.to_json() for summary in summaries], "lake": lake.url}
    )


def _print(console: Console, summaries: list[HarvestSummary], result: dict[str, Any]) -> None:
    console.print()
    console.print(summary_table(summaries))
    table = Table(
        title="The whole lake now", title_justify="left", box=box.SIMPLE_HEAD, show_header=False, pad_edge=False
    )
    studies, objects, instances = (result[name] for name in ("studies_in_lake", "series_objects", "instances_in_lake"))
    table.add_row("studies / series objects / instances", f"{studies:,} / {objects:,} / {instances:,}")
    table.add_row("exams 检查", f"{result['exams']:,}")
    for days in (30, 90):
        table.add_row(f"duplicate exams within {days} days 重复检查", _shown(result[f"duplicates_{days}_days"]))
    table.add_row("net film saving 胶片净节省", f"{_shown(result['net_film_saving_yuan'])} yuan 元")
    console.print(table)
    console.print(f"this run: {human_bytes(result['stored_bytes'])} stored in {result['seconds']:.0f} s")
    named = LAKE if result["lake"] == str(Path(LAKE).resolve()) else result["lake"]
    console.print(f'ask it: radlake --lake {named} sql "{_QUESTION}"', highlight=False, soft_wrap=True)


def _shown(value: float | None) -> str:
    return "masked" if value is None else f"{value:,.0f}"
