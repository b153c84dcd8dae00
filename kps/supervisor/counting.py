"""The queue in numbers, `printing` tickets that nobody accounts for, and the sweep of what is long over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from kps.core.clock import RIGHT_WITHIN_S
from kps.core.health import QueueView
from kps.core.routing import Crowd
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, TicketId, Token
from kps.database.keeper_queue import KeeperQueue
from kps.process.clocks import monotonic
from kps.supervisor.maintenance_events import Reclaimed

COUNTS_EVERY_S = 5.0
"""Between two counts while tickets are open."""
COUNTS_QUIET_S = 10.0
"""The same while no ticket is open: what the other counts say changes with a ticket."""
SWEEP_S = 1.0
"""How long a sweep goes on with the next piece."""
ADOPTED_AT_ONCE = 500
"""So many orphans are taken over in one transaction."""
JUST_NOW_S = 0.1
"""Counts of so long ago are of this moment."""
SLOW_CALL_S = 4.0
"""Limit of calls that may be slow."""

log = logging.getLogger("kps.supervisor")


class Counting:
    """What the last count has shown, and since when each orphan has been one."""

    def __init__(self, settings: Settings, post: Callable[[Reclaimed], None]) -> None:
        self._settings = settings
        self._post = post
        self._orphans: dict[tuple[TicketId, Token], float] = {}
        self._swept_up_to = 0
        """The last ticket whose job the sweep has looked at; each sweep goes on behind it."""
        self.unproven: tuple[tuple[int, list[str]], ...] = ()
        """Tickets of which a copy may lie at a printer, and the keys of those, newest first."""
        self.waiting: tuple[Crowd, ...] = ()
        self.counts = QueueView()
        self.at = float("-inf")
        self.pos_behind_s = 0.0
        """How far the POS's clock is behind the database's; negative: ahead, 0 = right or not known."""
        self.host_behind_s = 0.0
        """The same of this host's clock."""

    def count(self, queue: KeeperQueue) -> None:
        """Count again. Raises DatabaseTrouble."""
        asked_at = time.time()
        row = queue.counts(limit=SLOW_CALL_S)
        self.counts = QueueView(row.new, row.printing, row.failed_today, row.printed_today, row.oldest_new_age_s)
        self.unproven = tuple([(ticket, keys) for ticket, keys in row.unproven])
        self.waiting = tuple(
            [Crowd(station, brand or "", PrinterKey(key), tickets) for station, brand, key, tickets in row.waiting]
        )
        self.pos_behind_s = row.pos_behind_s
        took_s = time.time() - asked_at
        # The database looked at its clock somewhere in between.
        behind_s = row.clock - (asked_at + took_s / 2)
        self.host_behind_s = behind_s if abs(behind_s) >= RIGHT_WITHIN_S + took_s else 0.0
        self.at = monotonic()

    def reclaim(self, queue: KeeperQueue) -> None:
        """Adopt `printing` tickets that nobody has accounted for during RECLAIM_SECONDS."""
        now = monotonic()
        if now - self.at < JUST_NOW_S and not self.counts.printing:
            self._orphans = {}
            return
        settings = self._settings
        found = queue.orphans(settings.stations, settings.brands, limit=SLOW_CALL_S)
        seen = {(row.id, row.token) for row in found}
        self._orphans = {one: self._orphans.get(one, now) for one in seen}
        due = [one for one, since in self._orphans.items() if now - since >= settings.reclaim_s]
        for begin in range(0, len(due), ADOPTED_AT_ONCE):
            self._adopt(queue, due[begin : begin + ADOPTED_AT_ONCE])

    def _adopt(self, queue: KeeperQueue, due: list[tuple[TicketId, Token]]) -> None:
        if count := queue.adopt(due):
            log.warning("released", extra={"cause": "reclaim", "count": count})
            self._post(Reclaimed(count))

    def sweep(self, queue: KeeperQueue) -> None:
        """Some of it each time, and for no longer than that: the rest comes with the next sweep."""
        end, more = monotonic() + SWEEP_S, True
        while more and monotonic() < end:
            row = queue.sweep(self._swept_up_to)
            self._swept_up_to = row.last or 0
            more = bool(row.last or row.more)

    @property
    def every_s(self) -> float:
        """Seconds between two counts. Orphans are looked for as often: without a `printing` ticket there are none."""
        return COUNTS_EVERY_S if self.counts.open else COUNTS_QUIET_S
