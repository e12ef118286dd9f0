"""Ctrl-C: heard at once, told in words, and nothing that was done is lost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

__all__ = ["stoppable"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


@contextmanager
def stoppable(then: str) -> Iterator[None]:
    """Let Ctrl-C end the block in order; a second one does not wait for that.

    Parameters
    ----------
    then : str
        What a person does next, told at the end.
    """

    def stop(*_: int | FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping; Ctrl-C again does not wait\n")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped. {then}", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)
