"""The printers that there are, and the mailboxes of those that this instance owns: claims go out through them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from kps.core.agenda import Agenda, LookAgain, Task, Why
from kps.core.routing import ClaimFor, PrinterRow, Routes, Waiting
from kps.core.tickets import PrinterKey, TicketId
from kps.core.work import WorkKind
from kps.crash import Point, crash_point
from kps.database.dispatcher_queue import Claimed, DispatcherQueue
from kps.dispatcher.mailboxes import Mailbox
from kps.process.channels import Channel, EndLost, PeerGone
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

LOCKED_AGAIN_S = 0.05
"""Before the next look, if a ticket could not be claimed because its row was locked, or has changed since the look."""
LEFT_AGAIN_S = 1.0
"""Between tries to give back claims that no printer process has, while their tickets' rows are locked."""

log = logging.getLogger("kps.dispatcher")


class Printers:
    """Rows and mailboxes as the supervisor sends them, and what is claimed for them."""

    def __init__(self, control: Channel, queue: DispatcherQueue, stats: Stats, agenda: Agenda) -> None:
        self._control = control
        self._queue = queue
        self._stats = stats
        self._agenda = agenda
        self.routes = Routes()
        self.known = False
        """Whether the rows have come: before, no ticket has a route."""
        self._arriving: list[PrinterRow] = []
        self.boxes: dict[PrinterKey, Mailbox] = {}
        self._failovers: Counter[tuple[str, str]] = Counter()
        """(printer, its backup) -> tickets claimed for the backup since the supervisor was last sent these numbers."""

    # -- what the supervisor sends ---------------------------------------------------------------------------------

    def begin_rows(self) -> None:
        """All rows are sent anew."""
        self._arriving = []

    def add_row(self, row: PrinterRow) -> None:
        """One of them."""
        self._arriving.append(row)

    def end_rows(self) -> None:
        """That was the last one: they are valid from now on."""
        self.routes, self.known = Routes(tuple(self._arriving)), True

    def open(self, key: PrinterKey, generation: int, epoch: int) -> None:
        """Take the mailbox of a printer process; its end of the pipe follows the message that announces it."""
        self.close(key)
        try:
            channel = self._control.receive_end()
        except EndLost:  # the supervisor logs it, and sends another one
            self._control.send(("mailbox lost", key, generation))
            return
        self.boxes[key] = Mailbox(key, generation, channel, epoch)

    def close(self, key: PrinterKey) -> None:
        """The printer process has ended, or is of no use any more."""
        if box := self.boxes.pop(key, None):
            box.channel.close()

    # -- what the printer processes say ----------------------------------------------------------------------------

    def read(self) -> tuple[set[PrinterKey], bool]:
        """Read all mailboxes.

        Returns the printers that have room again, and whether there is one more that has to be reconciled first.
        """
        gained, unreconciled = set(), False
        for box in list(self.boxes.values()):
            try:
                if not box.read():
                    continue
                if box.reconciled:
                    gained.add(box.key)
                else:
                    unreconciled = True
            except PeerGone:
                # The supervisor gives back what the process had, once the process has been reaped.
                self.close(box.key)
        return gained, unreconciled

    def free(self) -> dict[PrinterKey, int]:
        """For how many more tickets there is room at each printer that may be given some."""
        return {box.key: box.room for box in self.boxes.values() if _may_be_given_work(box)}

    def box_of(self, key: PrinterKey) -> Mailbox | None:
        """The mailbox of a printer that may be given something, whether it has room or not."""
        box = self.boxes.get(key)
        return box if box is not None and _may_be_given_work(box) else None

    def have_room(self, keys: set[PrinterKey]) -> bool:
        """Whether one of these has room."""
        return any(box.room > 0 for box in self.boxes.values() if box.key in keys)

    # -- what the database says is claimed for them ----------------------------------------------------------------

    def doubt(self) -> None:
        """Whether the last statement took effect is not known: each printer is reconciled before its next claim."""
        for box in self.boxes.values():
            box.reconciled = False

    def reconcile(self) -> None:
        """Have the database give back what is claimed for a printer whose process does not have it in hand."""
        again = self._agenda.due(Task.GIVE_BACK, monotonic())
        for box in self.boxes.values():
            if box.greeted and (not box.reconciled or (box.left and again)):
                found = self._queue.reconcile(box.key, box.in_hand)
                box.reconciled, box.left = True, found.left > 0
                if found.released:
                    self._stats.add(Cell.RECONCILED, found.released)
                    log.warning("released", extra={"cause": "reconcile", "printer": box.key, "count": found.released})
        if self.owes and again:
            self._agenda.put(Task.GIVE_BACK, monotonic() + LEFT_AGAIN_S)

    @property
    def owes(self) -> bool:
        """Whether something could not be given back yet."""
        return any(box.left for box in self.boxes.values())

    def claim(self, wanted: Sequence[tuple[Waiting, ClaimFor]], at_most: int) -> LookAgain | None:
        """Claim the first `at_most` of these, and hand them over; returns when to go on, None = all are claimed."""
        batch = wanted[:at_most]
        if not batch:
            return None
        decided = {ticket.id: claim for ticket, claim in batch}
        for key in {claim.row.key for claim in decided.values()}:
            self.boxes[key].announce()
        claimed = self._queue.claim(
            WorkKind.TICKET, [(ticket, claim, self.boxes[claim.row.key].epoch) for ticket, claim in batch]
        )
        crash_point(Point.CLAIMED)
        for one in claimed:
            claim = decided[TicketId(one.work.id)]
            self._stats.add(Cell.CLAIMED)
            if claim.backup_for:
                self._failovers[claim.backup_for, claim.row.name] += 1
            self.hand_over(one)
        if len(wanted) > len(batch):
            return LookAgain(0.0, Why.MORE)
        return LookAgain(LOCKED_AGAIN_S, Why.LOCKED) if len(claimed) < len(batch) else None

    def hand_over(self, claimed: Claimed) -> None:
        """Give claimed work to its printer process, or back if there is none any more."""
        box = self.boxes.get(claimed.key)
        try:
            if box is None:
                raise PeerGone
            box.room -= 1
            crash_point(Point.HAND_OVER)
            box.hand_over(claimed.work)
            crash_point(Point.HANDED_OVER)
        except PeerGone:
            self.close(claimed.key)
            self._queue.release([claimed.work], "its printer process is gone")
            log.warning("released", extra={"cause": "hand-over", **claimed.work.log_field, "printer": claimed.key})

    def report_failovers(self) -> None:
        """Send the numbers of failovers, unless the supervisor is not reading: then they add up here."""
        if self._failovers and not self._control.waiting:
            for (primary, backup), count in self._failovers.items():
                self._control.send(("failover", primary, backup, count))
            self._failovers.clear()


def _may_be_given_work(box: Mailbox) -> bool:
    """Its process has said what it has, the database agrees, and the lease is ours."""
    return bool(box.greeted and box.reconciled and box.epoch)
