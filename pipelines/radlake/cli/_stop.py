"""Ctrl-C: heard at once, told in words, and nothing that was done is lost."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

import typer

__all__ = ["stoppable", "stopping", "told_to_end"]

_GO_ON = "stopped. Nothing is lost; the same command goes on where it stopped."
_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


@contextmanager
def stoppable(words: str = _GO_ON) -> Iterator[None]:
    """Let Ctrl-C end the block in order; a second one does not wait for that.

    Parameters
    ----------
    words : str
        What is told then.
    """

    def stop(*_: int | FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stderr.write("\nstopping; Ctrl-C again does not wait\n")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(words, err=True)
        raise typer.Exit(_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, before)


class Told(Event):
    """Set when the program is told to end; `number` is the signal."""

    number = 0


@contextmanager
def told_to_end(words: str) -> Iterator[Told]:
    """An event that Ctrl-C and SIGTERM set, for work in other threads that ends in order; a second one does not wait.

    Parameters
    ----------
    words : str
        What happens now, told at once.
    """
    told = Told()

    def stop(received: int, _: FrameType | None) -> None:
        if told.number:
            os._exit(128 + received)  # as safe as kill -9: the same command goes on
        told.number = received
        told.set()
        sys.stderr.write(f"{words}; once more does not wait\n")

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def stopping() -> Iterator[Event]:
    """`told_to_end` for a command whose work is not done then: it exits with the signal's code."""
    with told_to_end("\nending after the current study") as told:
        yield told
    if told.is_set():
        typer.echo(_GO_ON, err=True)
        raise typer.Exit(128 + told.number)
