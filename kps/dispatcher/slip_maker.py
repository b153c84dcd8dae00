"""Slips are made beside the dispatcher's loop: to watch thousands of papers takes longer than a ticket may wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from kps.core.settings import Settings
from kps.database import Database
from kps.database.queue import Queue, SlipsMade
from kps.database.schema import PosSchema
from kps.process.clocks import monotonic


@dataclass(frozen=True, slots=True)
class Making:
    """One look for what stations must be told."""

    made: SlipsMade
    took_s: float


class SlipMaker:
    """A thread with a connection of its own that makes slips when it is told to, one look at a time."""

    def __init__(self, settings: Settings, schema: PosSchema, owner: str, name: str) -> None:
        self._settings = settings
        self._queue = Queue(Database(settings.database, name), schema, owner, settings.instance_name)
        self._pool = ThreadPoolExecutor(1, "slips")
        self._making: Future[Making] | None = None
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)

    def fileno(self) -> int:
        """Readable when a look is done."""
        return self._bell

    def begin(self) -> None:
        """Look for what stations must be told, and make slips of it, unless that is under way."""
        if self._making is None:
            self._making = self._pool.submit(self._make)
            self._making.add_done_callback(_ringing(self._ring))

    def take(self) -> Making | None:
        """The look that is done, once; None = none is. Raises DatabaseTrouble if it came to nothing."""
        try:
            os.read(self._bell, 1)
        except BlockingIOError:
            return None
        done, self._making = self._making, None
        return None if done is None else done.result()

    def _make(self) -> Making:
        settings, began = self._settings, monotonic()
        made = self._queue.make_slips(
            minutes=settings.void_slip_minutes,
            stations=settings.void_slip_stations,
            own_stations=settings.stations,
            own_brands=settings.brands,
        )
        return Making(made, monotonic() - began)


def _ringing(pipe: int) -> Callable[[Future[Making]], None]:
    def ring(_: Future[Making]) -> None:
        os.write(pipe, b"!")

    return ring
