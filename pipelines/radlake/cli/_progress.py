"""How far a harvest is: bars in a terminal, lines elsewhere."""

from __future__ import annotations

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from radlake.ingest import Progress as Step

__all__ = ["Bars"]

_SECONDS_BETWEEN_LINES = 10.0


class Bars:
    """A bar for each hospital; where there is no terminal, a line for the first, each tenth and each ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("studies"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, tuple[int, float]] = {}  # hospital -> tenths and instant of its last line
        self._is_stopped = False

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stop(self) -> None:
        """End harvests that run in other threads at their next study: Ctrl-C reaches the main thread only."""
        self._is_stopped = True

    def __call__(self, step: Step) -> None:
        if self._is_stopped:
            raise KeyboardInterrupt
        if not self._console.is_terminal:
            self._write_line(step)
            return
        if step.hospital_id not in self._tasks:
            self._tasks[step.hospital_id] = self._bars.add_task(step.hospital_id, total=step.n_total)
        self._bars.update(self._tasks[step.hospital_id], completed=step.n_done, total=step.n_total)

    def _write_line(self, step: Step) -> None:
        tenths, now = 10 * step.n_done // step.n_total, monotonic()
        before, at = self._told.get(step.hospital_id, (-1, 0.0))
        if tenths == before and now - at < _SECONDS_BETWEEN_LINES:
            return
        self._told[step.hospital_id] = tenths, now
        share = step.n_done / step.n_total
        line = f"{step.hospital_id}: {step.n_done:,} of {step.n_total:,} studies ({share:.0%})"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
