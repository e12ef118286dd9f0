"""Ctrl-C and SIGTERM: heard at once, told in words, and nothing that was done is lost."""

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
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable(words: str = _GO_ON) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block in order; a second one does not wait for that.

    Parameters
    ----------
    words : str
        What is told then.
    """

    received = int(signal.SIGINT)

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal received
        received = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stderr.write("\nstopping; once more does not wait\n")
        raise KeyboardInterrupt

    before = {one: signal.signal(one, stop) for one in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(words, err=True)
        raise typer.Exit(128 + received) from None  # as shells say it
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


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

    before = {one: signal.signal(one, stop) for one in _SIGNALS}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def stopping() -> Iterator[Event]:
    """`told_to_end` for a command whose work is not done then: it exits with the signal's code."""
    with told_to_end("\nending after the current study; what came is published first") as told:
        yield told
    if told.is_set():
        typer.echo(_GO_ON, err=True)
        raise typer.Exit(128 + told.number)
