"""Real child processes, none of which outlives its test."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.resource_tracker import ensure_running
from typing import Any

import pytest

from kps.process.channels import Channel

Start = Callable[..., tuple[Channel, SpawnProcess]]


@pytest.fixture
def context() -> SpawnContext:
    """The one start method of the house."""
    ensure_running()
    return multiprocessing.get_context("spawn")


@pytest.fixture
def start(context: SpawnContext) -> Iterator[Start]:
    """Start a function of `children` with a control pipe; answers our end of it and the process."""
    started: list[tuple[Channel, SpawnProcess]] = []

    def start(work: Callable[..., None], *given: Any, first: tuple[Any, ...] = ()) -> tuple[Channel, SpawnProcess]:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(*first, theirs, *given))
        process.start()
        theirs.close()
        started.append((Channel(ours), process))
        return started[-1]

    yield start
    for channel, process in started:
        with suppress(OSError):
            channel.close()
        process.kill()
        process.join(10)
        process.close()
