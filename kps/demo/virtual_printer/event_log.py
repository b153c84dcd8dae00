"""The log of what happened to a virtual printer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from kps.demo.virtual_printer.records import Event, EventKind

EVENTS_KEPT = 50_000


class EventLog:
    """The newest EVENTS_KEPT events, oldest first; each gets the clock's time when it is noted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._clock = clock

    def note(self, kind: EventKind, connection: int, text: str, data: bytes = b"", size: int = 0) -> None:
        """Something happened; `connection` is 0 where none is concerned."""
        self.events.append(Event(self._clock(), kind, connection, text, data, size))

    def lost(self, connection: int, count: int, why: str) -> None:
        """So many received bytes will never be printed; 0 is no event."""
        if count:
            self.note(EventKind.LOST, connection, why, size=count)
