"""`radlake nhsa`: image indexes of the national health insurance, checked where they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Image indexes of the NHSA (医保影像云索引).", no_args_is_help=True)


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Text with an image index a line, below the restricted zone.")],
) -> None:
    """Read every index of a file: form, time, and the check character of the organisation. Shows line numbers only.

    An index names a person, so the file has to lie in the restricted zone, and nothing of a line is shown.
    """
    from radlake.cli._lake import existing_lake
    from radlake.errors import ConfigInvalid, SourceMissing
    from radlake.vault.image_index import ImageIndexInvalid, image_index_from_text

    restricted = existing_lake(ctx.obj).restricted.resolve()
    if not file.resolve().is_relative_to(restricted):
        raise ConfigInvalid(path=file, problems=[f"image indexes name persons; move the file below {restricted}"])
    n_good = n_bad = 0
    try:
        with file.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    if line.strip():
                        image_index_from_text(line.strip())
                        n_good += 1
                except ImageIndexInvalid as exc:
                    n_bad += 1
                    typer.echo(f"line {number}: {'; '.join(exc.facts['problems'])}")
    except OSError as exc:
        raise SourceMissing(path=file) from exc
    except UnicodeDecodeError as exc:
        raise ConfigInvalid(path=file, problems=["it is no text in UTF-8"]) from exc
    typer.echo(f"{n_good:,} image indexes are valid, {n_bad:,} are not")
    if n_bad:
        raise typer.Exit(1)
