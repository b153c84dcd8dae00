"""What HTTP shows is made when somebody asks for it: by the main loop, for nobody else may read what it is made of."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kps.core.health import Snapshot
from kps.process.clocks import monotonic

FRESH_S = 0.25
"""A snapshot is given to all that ask within so long after it was made."""
ANSWER_LIMIT_S = 0.5
"""So long an answer is waited for. A loop that makes none stands still, and the last snapshot shows that by its age."""


class Publisher:
    """Gives snapshots to other threads. `turn` belongs to the main loop, everything else may be called by anybody."""

    def __init__(self, make: Callable[[], Snapshot], wake: Callable[[], None]) -> None:
        """`make` is called in the main loop's thread only, `wake` lets it have its turn."""
        self._make = make
        self._wake = wake
        self._made = threading.Condition()
        self._latest = make()
        self._made_at = monotonic()
        self._asked_at: float | None = None
        """Since when the oldest question waits; None = nobody waits."""

    def latest(self) -> Snapshot:
        """A snapshot of now, or the last one if the main loop makes none in time."""
        with self._made:
            asked_at = monotonic()
            if asked_at - self._made_at < FRESH_S:
                return self._latest
            since = self._asked_at
            if since is None:
                self._asked_at = since = asked_at
                self._wake()
            # The limit counts from the oldest question: a probe must have its answer although the loop stands still.
            self._made.wait_for(lambda: self._made_at >= asked_at, since + ANSWER_LIMIT_S - asked_at)
            return self._latest

    def turn(self) -> None:
        """Make a snapshot if somebody waits for one."""
        with self._made:
            if self._asked_at is None:
                return
            self._asked_at = None  # before it is made: a question that comes meanwhile is for the next one
        made_at, latest = monotonic(), self._make()
        with self._made:
            self._made_at, self._latest = made_at, latest
            self._made.notify_all()
