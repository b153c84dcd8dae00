"""The promise before the first byte: from then on the database says that a copy may exist."""

from __future__ import annotations

import logging
import random

from kps.core.retry import Backoff
from kps.core.tickets import Token
from kps.core.work import Promised, Work, WorkKind
from kps.database import DatabaseTrouble
from kps.database.printer_queue import ClaimLost, LeaseEnded, PrinterQueue, Withdrawn
from kps.printer.config import DeviceConfig
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

LEASE_NEED_S = 2.0
"""Work is promised only if the lease lasts for at least this much longer."""
_PROMISE_AGAIN = Backoff(first=1.0, cap=30.0)

log = logging.getLogger("kps.printer")


class Promises:
    """Writes down, before the first byte of a copy leaves, that the copy may exist from now on."""

    def __init__(self, queue: PrinterQueue, stats: Stats, late_after_minutes: float) -> None:
        self._queue = queue
        self._stats = stats
        self._late_after_minutes = late_after_minutes
        self._refusals = 0
        self._due = 0.0

    @property
    def due(self) -> bool:
        """Whether one may be made now."""
        return monotonic() >= self._due

    @property
    def refused(self) -> bool:
        """Whether the database refused the last one, for a reason that a person must mend."""
        return self._refusals > 0

    def plan(self) -> None:
        """Have PostgreSQL plan the statement, so that the first ticket does not wait for that (10 ms)."""
        try:
            # No ticket has the id 0, so nothing is promised.
            self._promise(Work(WorkKind.TICKET, 0, Token(0)), ())
        except ClaimLost:
            return
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})

    def make(self, work: Work, config: DeviceConfig) -> Promised:
        """Bytes may leave from now on. Raises ClaimLost, LeaseEnded, Withdrawn, DatabaseTrouble."""
        try:
            promised = self._promise(work, config.rows)
        except (ClaimLost, LeaseEnded, Withdrawn):
            self._answered()
            raise
        self._answered()
        return promised

    def _promise(self, work: Work, rows: tuple[int, ...]) -> Promised:
        return self._queue.promise(
            work, rows, need_s=LEASE_NEED_S, late_after_minutes=self._late_after_minutes
        )  # fmt: skip

    def put_off(self, work: Work, trouble: DatabaseTrouble) -> None:
        """The database refused, and would refuse any other printer as well: the work stays here, for a later try.

        If it were given back, it would be claimed for this printer again at once, with two audit rows each time.
        """
        self._refusals += 1
        self._due = monotonic() + _PROMISE_AGAIN.delay(self._refusals, random.random())  # noqa: S311 - jitter
        if self._refusals == 1:
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, monotonic())
        log.warning(
            "database trouble",
            extra={"cause": trouble.sentence, "failures": self._refusals} | work.log_field,
        )

    def _answered(self) -> None:
        if self._refusals:
            log.info("database back")
        self.forget_refusals()

    def forget_refusals(self) -> None:
        """There is no work that waits for a promise any more."""
        if self._refusals:
            self._refusals = 0
            self._due = 0.0
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)
