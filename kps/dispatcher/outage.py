"""Trouble with the database: since when, how often in a row, and when to try again."""

from __future__ import annotations

import logging

from kps.database import DatabaseTrouble
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

RETRY_S = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Seconds before the next try, one after the other; the last one stays."""
OUTAGE_S = 60.0
"""After trouble of this length the waiting tickets may be of another day."""

log = logging.getLogger("kps.dispatcher")


class Outage:
    """Failures in a row, most of the time none."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._failures = 0
        self._since: float | None = None

    def failed(self, trouble: DatabaseTrouble) -> float:
        """Note one more failure; returns seconds before the next try."""
        delay_s = RETRY_S[min(self._failures, len(RETRY_S) - 1)]
        self._failures += 1
        if self._failures in (1, 10, 100) or self._failures % 1000 == 0:
            log.warning("database trouble", extra={"cause": trouble.sentence, "failures": self._failures})
        if self._since is None:
            self._since = monotonic()
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, self._since)
        return delay_s

    def over(self) -> None:
        """The database has done all that was asked of it."""
        if self._failures:
            log.info("database back")
        self._failures = 0
        self._since = None
        self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)

    @property
    def lasts(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    @property
    def is_long(self) -> bool:
        """Whether tickets that have waited for all of it may be of another day."""
        return self._since is not None and monotonic() - self._since > OUTAGE_S
