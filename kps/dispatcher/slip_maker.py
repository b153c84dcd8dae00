"""Slips are made beside the dispatcher's loop: to watch thousands of papers takes longer than a ticket may wait."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from kps.core.settings import Settings
from kps.database import Database, DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue, SlipsMade
from kps.database.pos import PosAdapter
from kps.process.clocks import monotonic

SHARE = 0.05
"""How much of the time may be spent looking: where it takes long, it is looked less often."""
PAUSE_S = 2.0
"""After a first error; each further one doubles it."""
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Making:
    """One look for what stations must be told."""

    made: SlipsMade
    took_s: float


class SlipMaker:
    """A thread with a connection of its own that makes slips when it is told to, one look at a time."""

    def __init__(self, settings: Settings, schema: PosAdapter, owner: str, name: str) -> None:
        self._settings = settings
        self._queue = DispatcherQueue(Database(settings.database, name), schema, owner, settings.instance_name)
        self._pool = ThreadPoolExecutor(1, "slips")
        self._making: Future[_Making] | None = None
        self._due = 0.0
        self._took_s = 0.0
        self.failures = 0
        """Looks in a row that came to nothing."""
        self.open = True
        """Whether a slip may be untold, by the last look."""
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)

    def fileno(self) -> int:
        """Readable when a look is done."""
        return self._bell

    @property
    def errors(self) -> int:
        """Errors of its connection so far."""
        return self._queue.database.errors

    def begin(self) -> None:
        """Look for what stations must be told, and make slips of it, unless that is under way or it is too soon."""
        if self._making is None and monotonic() >= self._due:
            try:
                self._making = self._pool.submit(self._make)
            except RuntimeError:  # the host allows no further thread now; what was handed in must not be done twice
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = ThreadPoolExecutor(1, "slips")
                self._due = monotonic() + PAUSE_S
                return
            self._making.add_done_callback(_ringing(self._ring))

    def take(self) -> int | None:
        """How many slips the look that is done has made, once; None = none is done. Raises DatabaseTrouble."""
        try:
            os.read(self._bell, 1)
        except BlockingIOError:
            return None
        done, self._making = self._making, None
        if done is None:
            return None
        try:
            making = done.result()
        except DatabaseTrouble as trouble:
            self.failures, self.open = self.failures + 1, True
            # What a person must mend takes a while; a lock or a lost connection is over in a moment.
            doubled = PAUSE_S * 2 ** min(self.failures - 1, 10)
            self._due = monotonic() + (LONGEST_PAUSE_S if trouble.refused else min(doubled, LONGEST_PAUSE_S))
            raise
        self.failures, self.open = 0, making.made.any_open
        # One look that waited for a lock has cost nothing; two that took long have.
        took_s, self._took_s = min(making.took_s, self._took_s), making.took_s
        self._due = monotonic() + min(took_s / SHARE, LONGEST_PAUSE_S)
        return making.made.count

    def close(self) -> None:
        """Wait for the look that is under way, and end thread and connection. A process that ends need not do so."""
        self._pool.shutdown()
        self._queue.database.close()
        os.close(self._bell)
        os.close(self._ring)

    def _make(self) -> _Making:
        settings, began = self._settings, monotonic()
        made = self._queue.make_slips(
            minutes=settings.void_slip_minutes,
            stations=settings.void_slip_stations,
            own_stations=settings.stations,
            own_brands=settings.brands,
        )
        return _Making(made, monotonic() - began)


def _ringing(pipe: int) -> Callable[[Future[_Making]], None]:
    def ring(_: Future[_Making]) -> None:
        os.write(pipe, b"!")

    return ring
