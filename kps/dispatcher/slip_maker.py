"""A thread that makes slips: comparing thousands of printed tickets takes longer than a new ticket may wait."""

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
"""How much of the time may be spent on looks: where a look takes long, there are fewer."""
PAUSE_S = 2.0
"""After a first error; each further one in a row doubles the pause."""
LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Making:
    """One look for events that stations must know of."""

    made: SlipsMade
    took_s: float


class SlipMaker:
    """The dispatcher's side of the thread, which has a database connection of its own and makes one look at a time."""

    def __init__(self, settings: Settings, schema: PosAdapter, owner: str, name: str) -> None:
        self._settings = settings
        self._queue = DispatcherQueue(Database(settings.database, name), schema, owner, settings.instance_name)
        self._pool = ThreadPoolExecutor(1, "slips")
        self._making: Future[_Making] | None = None
        self._due = 0.0
        self._took_s = 0.0
        self.failures = 0
        """Looks in a row that failed."""
        self.open = True
        """Whether a slip may still have to be printed, by the last look."""
        self.tickets_wait = True
        """Whether a ticket may be `new`, by the last look."""
        self._reading_end, self._writing_end = os.pipe()
        os.set_blocking(self._reading_end, False)

    def fileno(self) -> int:
        """Readable when a look is done."""
        return self._reading_end

    @property
    def errors(self) -> int:
        """Errors of its connection so far."""
        return self._queue.database.errors

    @property
    def looks(self) -> bool:
        """Whether a look is under way, or its end has not been heard of yet."""
        return self._making is not None

    def begin(self) -> None:
        """Begin a look, which makes a slip of each event, unless one is under way or it is too soon for the next."""
        if self._making is None and monotonic() >= self._due:
            try:
                self._making = self._pool.submit(self._make)
            except RuntimeError:  # the host allows no further thread now; the pool must not start this look later
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = ThreadPoolExecutor(1, "slips")
                self._due = monotonic() + PAUSE_S
                return
            self._making.add_done_callback(_writing_to(self._writing_end))

    def take(self) -> int | None:
        """How many slips a look has made that has ended since the last call; None = none has.

        Raises DatabaseTrouble if it failed.
        """
        try:
            os.read(self._reading_end, 1)
        except BlockingIOError:
            return None
        done, self._making = self._making, None
        if done is None:
            return None
        try:
            making = done.result()
        except DatabaseTrouble as trouble:
            self.failures, self.open, self.tickets_wait = self.failures + 1, True, True
            # What a person must mend takes a while; a lock or a lost connection may be over in a moment.
            doubled = PAUSE_S * 2 ** min(self.failures - 1, 10)
            self._due = monotonic() + (LONGEST_PAUSE_S if trouble.refused else min(doubled, LONGEST_PAUSE_S))
            raise
        self.failures, self.open, self.tickets_wait = 0, making.made.any_open, making.made.tickets_wait
        # A single long look may have waited for a lock, which costs nothing; two in a row are taken for work.
        took_s, self._took_s = min(making.took_s, self._took_s), making.took_s
        self._due = monotonic() + min(took_s / SHARE, LONGEST_PAUSE_S)
        return making.made.count

    def close(self) -> None:
        """Wait for the look that is under way, and end thread and connection. A process that ends need not do this."""
        self._pool.shutdown()
        self._queue.database.close()
        os.close(self._reading_end)
        os.close(self._writing_end)

    def _make(self) -> _Making:
        settings, began = self._settings, monotonic()
        made = self._queue.make_slips(
            minutes=settings.void_slip_minutes,
            stations=settings.void_slip_stations,
            own_stations=settings.stations,
            own_brands=settings.brands,
        )
        return _Making(made, monotonic() - began)


def _writing_to(pipe: int) -> Callable[[Future[_Making]], None]:
    def write(_: Future[_Making]) -> None:
        os.write(pipe, b"!")

    return write
