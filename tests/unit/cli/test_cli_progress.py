"""Progress where there is no terminal: lines that a log can keep."""

from __future__ import annotations

import io

from rich.console import Console

from radlake.cli._progress import Bars
from radlake.ingest import Progress


def test_a_line_for_the_first_study_and_for_each_tenth() -> None:
    file = io.StringIO()
    with Bars(Console(file=file)) as bars:
        for n_done in range(1, 401):
            bars(Progress("h1", n_done, 400))
    lines = file.getvalue().splitlines()
    assert len(lines) == 11
    assert (lines[0], lines[1]) == ("h1: 1 of 400 studies (0%)", "h1: 40 of 400 studies (10%)")
    assert lines[-1] == "h1: 400 of 400 studies (100%)"
