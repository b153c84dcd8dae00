"""The supervisor's verbs: leases, the dead, what nobody accounts for, printer rows, and the queue in numbers."""

from __future__ import annotations

from collections.abc import Sequence

from kps.core.tickets import PrinterKey, TicketId, Token
from kps.database.connection import CALL_LIMIT_S
from kps.database.role import Role
from kps.database.statements.counts import Counts
from kps.database.statements.leases import Acquired
from kps.database.statements.printer_rows import PosRow
from kps.database.statements.reclaiming import DeadReleased, LeftRequeued, Orphan
from kps.database.statements.retention import Swept


class KeeperQueue(Role):
    """What is kept in order for all printers of one instance, and for what others have left behind."""

    def expire_owner(self, owner: str) -> set[PrinterKey]:
        """End the leases of an owner whose processes are proven gone; returns the devices that it had."""
        return {PrinterKey(row.printer_key) for row in self.database.run(self.sql.expire_owner, owner=owner)}

    def acquire(self, key: PrinterKey, name: str, ttl_s: float) -> Acquired | None:
        """Take a device that nobody owns, for `ttl_s` seconds; None = somebody has it."""
        rows = self.database.run(
            self.sql.acquire, me=self.me, instance=self.instance, keys=[key], names=[name], ttl=ttl_s
        )
        return rows[0] if rows else None

    def yield_lease(self, key: PrinterKey, epoch: int, away_s: float) -> bool:
        """Give a device of mine up for `away_s` seconds, as nothing reaches it from here, if another instance lives."""
        return bool(self.database.run(self.sql.yield_lease, me=self.me, key=key, epoch=epoch, away=away_s))

    def lapse(self, keys: Sequence[PrinterKey]) -> None:
        """End leases of mine at once; those under which something is held stay."""
        self.database.run(self.sql.lapse, me=self.me, keys=list(keys))

    def cut_loans(self) -> None:
        """Cut loans that seem to last for minutes to their length."""
        self.database.run(self.sql.cut_loans)

    def release_dead(self, key: PrinterKey, epoch: int, blamed: int) -> DeadReleased | None:
        """A printer's process has been reaped: give back what it held. None = the lease is not ours any more.

        `blamed` is the token of a ticket that it was preparing when it died of its own (0 = none).
        """
        rows = self.database.run(
            self.sql.release_dead, me=self.me, key=key, epoch=epoch, blamed=blamed, instance=self.instance
        )
        return rows[0] if rows else None

    def requeue_left(self, keys: Sequence[PrinterKey]) -> list[LeftRequeued]:
        """Try again to give back what earlier epochs of devices of mine have left open."""
        return self.database.run(self.sql.requeue_left, me=self.me, keys=list(keys), instance=self.instance)

    def orphans(self, stations: frozenset[str], brands: frozenset[str], *, limit: float = CALL_LIMIT_S) -> list[Orphan]:
        """`printing` tickets that nobody accounts for, as far as this instance decides on them."""
        return self.database.run(
            self.sql.orphans, me=self.me, stations=sorted(stations), brands=sorted(brands), limit=limit
        )

    def adopt(self, tickets: Sequence[tuple[TicketId, Token]]) -> int:
        """Take orphans over; returns how many still were."""
        rows = self.database.run(
            self.sql.adopt,
            ids=[ticket for ticket, _ in tickets],
            tokens=[token for _, token in tickets],
            instance=self.instance,
        )
        return len(rows)

    def sweep(self, after: int) -> Swept:
        """Forget some of what is long over, among the jobs after `after`."""
        return self.database.run(self.sql.sweep, me=self.me, after=after)[0]

    def rows(self) -> list[PosRow]:
        """All printer rows of the POS, in routing order."""
        return self.database.run(self.sql.rows)

    def counts(self, *, limit: float = CALL_LIMIT_S) -> Counts:
        """The queue in numbers."""
        return self.database.run(self.sql.counts, limit=limit)[0]
