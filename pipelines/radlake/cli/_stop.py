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

__all__ = ["stoppable", "stopping"]

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


@contextmanager
def stopping(then: str) -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set, for work in other threads that ends in order; a second one does not wait.

    Parameters
    ----------
    then : str
        What a person does next, told at the end.
    """
    told = Event()
    number = signal.SIGINT

    def stop(received: int, _: FrameType | None) -> None:
        nonlocal number
        if told.is_set():
            os._exit(128 + received)  # as safe as kill -9: the same command goes on
        number = signal.Signals(received)
        sys.stderr.write("\nending after the current study; once more does not wait\n")
        told.set()

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if told.is_set():
        typer.echo(f"stopped. {then}", err=True)
        raise typer.Exit(128 + number)
