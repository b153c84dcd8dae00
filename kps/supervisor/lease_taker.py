"""Leases that are taken, and tickets of their last owners that somebody has locked, which are taken back later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from kps.core.abilities import Abilities
from kps.core.tickets import PrinterKey, ProofLevel
from kps.database import DatabaseTrouble
from kps.database.keeper_queue import KeeperQueue
from kps.database.statements.leases import LEASE_TTL_S
from kps.printer.config import DIED_S, VANISHED_S
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import LeaseCell
from kps.supervisor.lease_keeper import LeaseKeeper, ToRenew
from kps.supervisor.maintenance_events import LeaseTaken, Reclaimed

LEFT_EVERY_S = 1.0
"""Between tries to take back tickets that somebody has locked."""
LOCKED_AGAIN_S = 5.0
"""A printer whose row is locked by somebody is not tried again for so long: each try waits until the lock's limit."""
NEVER = float("inf")

log = logging.getLogger("kps.supervisor")


class LeaseTaker:
    """Works on the connection of the maintenance; what has been taken the lease keeper renews."""

    def __init__(self, keeper: LeaseKeeper, post: Callable[[LeaseTaken | Reclaimed], None]) -> None:
        self._keeper = keeper
        self._post = post
        self._left: set[PrinterKey] = set()
        """Printers of ours of which tickets are left."""
        self._locked: dict[PrinterKey, float] = {}
        """Printers whose rows were locked when we wanted to take them, and when to try again."""
        self.left_due = NEVER
        """When `requeue_left` is due."""
        self.orphaned: set[PrinterKey] = set()
        """Devices of the generation that was here before us and has died; each is taken once."""

    def leave(self, key: PrinterKey, count: int) -> None:
        """So many tickets of a dead owner or process of this printer are locked by somebody: take them back later."""
        if count:
            log.warning("tickets locked", extra={"printer": key, "count": count})
            self._left.add(key)
            self.left_due = min(self.left_due, monotonic() + LEFT_EVERY_S)

    def requeue_left(self, queue: KeeperQueue) -> None:
        """Try again to take back what is left. Raises DatabaseTrouble."""
        self.left_due = monotonic() + LEFT_EVERY_S
        rows = queue.requeue_left(sorted(self._left))
        for row in rows:
            if row.released:
                log.warning("released", extra={"cause": "reclaim", "printer": row.printer_key, "count": row.released})
                self._post(Reclaimed(row.released))
        self._left = {row.printer_key for row in rows if row.left}
        if not self._left:
            self.left_due = NEVER

    def acquire(self, queue: KeeperQueue, names: Mapping[PrinterKey, str]) -> None:
        """Take those of these devices that nobody owns; `names` has what they are called.

        Our own lapsed leases too, under a new epoch, with what our processes have in hand. Raises DatabaseTrouble.
        """
        now = monotonic()
        unwanted = self._keeper.unwanted | {key for key, again_at in self._locked.items() if now < again_at}
        taken = False
        for key, name in names.items():
            if key in unwanted:
                continue
            try:
                taken |= self._acquire_one(queue, key, name)
            except DatabaseTrouble as trouble:
                if not trouble.locked:
                    raise
                self._locked[key] = monotonic() + LOCKED_AGAIN_S
                log.warning("database trouble", extra={"cause": trouble.sentence, "printer": key})
        if taken:
            self._keeper.look_now()  # /status shows whose they are now

    def _acquire_one(self, queue: KeeperQueue, key: PrinterKey, name: str) -> bool:
        """In a transaction of its own: what is wrong with one printer's tickets keeps no other from being taken."""
        asked_at = boottime()
        row = queue.acquire(key, name, LEASE_TTL_S)
        if row is None:
            return False
        log.info("lease taken", extra={"printer": key, "epoch": row.epoch, "released": row.released})
        self.leave(key, row.left)
        if row.released:
            self._post(Reclaimed(row.released))
        if renewed := self._keeper.to_renew.get(key):
            self._keeper.to_renew[key] = ToRenew(row.epoch, renewed.lease_cells)
            renewed.lease_cells[LeaseCell.TRUST_UNTIL] = asked_at + LEASE_TTL_S
        level = ProofLevel(row.proof_level) if row.proof_level else None
        abilities = Abilities(level, row.pushes, row.clears, row.firmware)
        contested_s = VANISHED_S if row.contested else DIED_S if key in self.orphaned else 0.0
        self.orphaned.discard(key)
        self._post(
            LeaseTaken(key, row.epoch, row.answers, abilities, contested_s, trusted_until=asked_at + LEASE_TTL_S)
        )
        return True
