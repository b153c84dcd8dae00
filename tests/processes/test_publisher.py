"""Snapshots that are made when somebody asks: by the main loop, and never waited for without a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from kps.core.health import Snapshot
from kps.supervisor import publisher
from kps.supervisor.publisher import Publisher
from tests.core.test_health import WELL


class Loop:
    """A main loop that has a turn each time it is woken."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)
        self.makers: set[str] = set()
        self.awake = threading.Event()
        self.stopping = False
        self.publisher = Publisher(self.make, self.awake.set)
        self.thread = threading.Thread(target=self.run, name="loop")

    def make(self) -> Snapshot:
        self.makers.add(threading.current_thread().name)
        return replace(WELL, tickets_processed=next(self._numbers))

    def run(self) -> None:
        while self.awake.wait(20) and not self.stopping:
            self.awake.clear()
            self.publisher.turn()

    def __enter__(self) -> Loop:
        self.thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopping = True
        self.awake.set()
        self.thread.join()


def test_whoever_asks_gets_a_snapshot_of_now_that_the_loop_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FRESH_S", 0.0)
    with Loop() as loop:
        loop.makers.clear()
        assert [loop.publisher.latest().tickets_processed for _ in range(3)] == [2, 3, 4]
    assert loop.makers == {"loop"}


def test_who_asks_right_behind_another_one_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FRESH_S", 3600.0)
    loop = Loop()
    assert loop.publisher.latest().tickets_processed == 1
    assert not loop.awake.is_set()


def test_a_loop_that_stands_still_keeps_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FRESH_S", 0.0)
    loop = Loop()
    assert [loop.publisher.latest().tickets_processed for _ in range(10)] == [1] * 10
    assert loop.awake.is_set(), "it was woken, and has not come"
