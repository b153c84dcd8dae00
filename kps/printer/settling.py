"""What became of a copy: it is counted and logged, and kept until the database has it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from kps.core.retry import Backoff
from kps.core.tickets import NotPrinted, Outcome, Printed, Token, Uncertain, Unprintable
from kps.core.work import Work, WorkKind
from kps.crash import Point, crash_point
from kps.database import DatabaseTrouble
from kps.database.printer_queue import ClaimLost, PrinterQueue
from kps.printer.device_monitor import DeviceMonitor
from kps.process.clocks import monotonic
from kps.process.shared_stats import PRINTED_CELL, Cell, Stats

UNSENT_AGAIN_S = 0.5
"""After this long, a slip of which no byte has left is given to the next printer."""
_SETTLE_AGAIN = Backoff(first=0.05, cap=1.0)

log = logging.getLogger("kps.printer")


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome that the database must learn of before anything else is printed."""

    work: Work
    outcome: Outcome
    duration_ms: int
    possible_duplicate: bool = False
    promise_unknown: bool = False
    """The database went away during the promise: whether that was committed is not known, but no byte has left."""


class Settling:
    """The last outcome of a printer process, until the database has it. Nothing new is printed before that."""

    def __init__(
        self,
        queue: PrinterQueue,
        stats: Stats,
        monitor: DeviceMonitor,
        retry_delay_s: float,
        on_room: Callable[[Token], None],
    ) -> None:
        """`on_room` is called with the token of each work whose outcome the database has."""
        self._queue = queue
        self._stats = stats
        self._monitor = monitor
        self._retry_delay_s = retry_delay_s
        self._on_room = on_room
        self._result: Result | None = None
        self._failures = 0
        self.due = 0.0
        """When it is to be written next (`monotonic`)."""

    @property
    def work(self) -> Work | None:
        """The work whose outcome the database does not have yet; None = there is none."""
        return None if self._result is None else self._result.work

    def keep(self, result: Result) -> None:
        """Count and log an outcome, once, and keep it for `settle`."""
        self._result = result
        self._failures = 0
        self.due = 0.0
        if isinstance(result.outcome, Uncertain):
            self._monitor.left_uncertain()
        if isinstance(result.outcome, Uncertain) or (
            self._monitor.unable is not None and isinstance(result.outcome, Printed)
        ):
            self._monitor.due = 0.0  # the printer was in trouble with the ticket inside: ask at once how it is now
        match result.work.kind:
            case WorkKind.TICKET:
                self._tell_ticket(result)
            case WorkKind.SLIP:
                self._tell_slip(result)
            case unexpected:
                assert_never(unexpected)

    def settle(self) -> None:
        """Write the outcome to the database, if there is one and it is time."""
        result = self._result
        if result is None or monotonic() < self.due:
            return
        # First that the printer cannot print, so that the work is not sent to it again.
        if isinstance(result.outcome, (NotPrinted, Uncertain)):
            self._monitor.publish_wanted()
        crash_point(Point.SETTLING)
        try:
            self._write(result)
            crash_point(Point.SETTLED)
        except ClaimLost:
            claim_lost(result.work, self._stats)
        except DatabaseTrouble as trouble:
            self._failures += 1
            self.due = monotonic() + _SETTLE_AGAIN.delay(self._failures, random.random())  # noqa: S311 - jitter
            if self._failures == 1:
                self._stats.set(Cell.DATABASE_TROUBLE_SINCE, monotonic())
                log.warning("database trouble", extra={"cause": trouble.sentence} | result.work.log_field)
            return
        if self._failures:
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)
            log.info("database back")
        self._result = None
        self._on_room(result.work.token)

    def _write(self, result: Result) -> None:
        if result.promise_unknown:
            self._queue.unsent(result.work, again_s=UNSENT_AGAIN_S)
            return
        self._queue.settle(
            result.work,
            result.outcome,
            duration_ms=result.duration_ms,
            # Work that cannot be put on paper says nothing about the printer.
            asked=not isinstance(result.outcome, Unprintable),
            possible_duplicate=result.possible_duplicate,
            again_s=UNSENT_AGAIN_S if isinstance(result.outcome, NotPrinted) else self._retry_delay_s,
        )

    def _tell_ticket(self, result: Result) -> None:
        fields = result.work.log_field | {"ms": result.duration_ms}
        marked = float(result.possible_duplicate)
        match result.outcome:
            case Printed(level, sent_bytes):
                self._stats.add(PRINTED_CELL[level])
                self._stats.add(Cell.MARKED, marked)
                self._stats.add(Cell.BYTES, sent_bytes)
                self._stats.set(Cell.LAST_OK, monotonic())
                self._stats.observe_print(result.duration_ms / 1000)
                log.info("ticket printed", extra=fields | {"proof": level.value, "bytes": sent_bytes})
            case NotPrinted(reason, text):
                self._stats.add(Cell.NOT_PRINTED)
                log.warning("ticket not printed", extra=fields | {"cause": reason.value, "text": text})
            case Uncertain(reason, text, sent_bytes, _, cleared):
                self._stats.add(Cell.UNCERTAIN)
                self._stats.add(Cell.MARKED, marked)
                self._stats.add(Cell.CLEARED, float(cleared))
                self._stats.add(Cell.BYTES, sent_bytes)
                log.error("ticket uncertain", extra=fields | {"cause": reason.value, "text": text, "bytes": sent_bytes})
            case Unprintable(reason, text):
                self._stats.add(Cell.UNPRINTABLE)
                self._stats.add(Cell.FAILED)
                log.error("ticket failed", extra=fields | {"cause": reason.value, "text": text})
            case unexpected:
                assert_never(unexpected)

    def _tell_slip(self, result: Result) -> None:
        fields = result.work.log_field | {"ms": result.duration_ms}
        match result.outcome:
            case Printed(level, sent_bytes):
                self._stats.add(Cell.SLIPS_PRINTED)
                log.info("slip printed", extra=fields | {"proof": level.value, "bytes": sent_bytes})
            case NotPrinted(reason, text) | Uncertain(reason, text) | Unprintable(reason, text):
                log.warning("slip not printed", extra=fields | {"cause": reason.value, "text": text})
            case unexpected:
                assert_never(unexpected)


def claim_lost(work: Work, stats: Stats) -> None:
    """Count and log that another process may print the work now, and this one may not change it any more."""
    stats.add(Cell.STALE_TOKENS)
    log.warning("claim lost", extra={"token": work.token} | work.log_field)
