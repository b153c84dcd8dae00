"""What is prepared of a ticket before it is claimed: an idle printer process reads what it will say, and draws it."""

from __future__ import annotations

from dataclasses import dataclass

from kps.core.document import reads_the_same
from kps.core.tickets import NotPrinted, PrinterKey, Ticket, Unprintable
from kps.core.work import Promised, Work, WorkKind
from kps.database import Database, DatabaseTrouble
from kps.database.printer_queue import Draft, PrinterQueue
from kps.device.connection import Device
from kps.printer.copies import Copier, Copy
from kps.printer.mailbox import Announced
from kps.process.clocks import monotonic

FRESH_S = 0.25
"""A draft that is older is not used: what the POS has changed since would not be on the paper."""
PLAN_AFTER_S = 0.05
"""A pause of the kitchen, after which the next ticket is not likely to come right now."""


@dataclass(frozen=True, slots=True)
class _Kept:
    draft: Draft
    read_at: float


class Drafts:
    """The draft of the ticket that was announced last.

    A draft promises nothing and changes nothing; without one a ticket is printed all the same, some time later.
    """

    def __init__(self, database: Database, queue: PrinterQueue, late_after_minutes: float) -> None:
        self._database = database
        self._queue = queue
        self._late_after_minutes = late_after_minutes
        self._planned_on = 0
        """The connection that has both statements planned; another one would take longer than a draft saves."""
        self._wanted = False
        self._kept: _Kept | None = None

    @property
    def planned(self) -> bool:
        """Whether drafts can be read now."""
        return self._database.connected and self._planned_on == self._database.opened

    @property
    def unplanned(self) -> bool:
        """Whether they are to be planned in the next pause: this printer has tickets, and the database is there."""
        return self._wanted and self._database.connected and not self.planned

    def plan(self) -> None:
        """Have the statements planned. There is nothing to do just now."""
        try:
            self._queue.plan_drafts()
        except DatabaseTrouble:
            return  # counted by the connection, which is closed now
        self._planned_on = self._database.opened

    def prepare(self, announced: Announced, key: PrinterKey) -> None:
        """Read what the ticket will say. It may never come."""
        self._kept = None
        if not self.planned:
            return
        try:
            draft = self._queue.draft(announced.ticket, announced.row, key, late_after_minutes=self._late_after_minutes)
        except DatabaseTrouble:
            return  # counted by the connection; whoever needs the database next says so
        self._kept = None if draft is None else _Kept(draft, monotonic())

    def take(self, work: Work) -> Draft | None:
        """Its draft, once; None = there is none that is still true."""
        kept, self._kept, self._wanted = self._kept, None, True
        if kept is None or work.kind is not WorkKind.TICKET or work.id != kept.draft.ticket:
            return None
        return kept.draft if monotonic() - kept.read_at <= FRESH_S else None


class DraftCopy:
    """The copy that a draft makes: the same as the promise's, if both say the same."""

    def __init__(self, draft: Draft, copier: Copier, device: Device) -> None:
        self._draft = draft
        self._copier = copier
        self._device = device
        self._made: Copy | NotPrinted | Unprintable | None = None

    def make(self) -> None:
        """Compose and draw it."""
        self._made = self._copier.make(self._draft.content, self._draft.paper, self._device)

    def of(self, promised: Promised) -> Copy | None:
        """The copy that is promised, if it has been made."""
        content, made = promised.content, self._made
        if not isinstance(made, Copy) or not isinstance(content, Ticket) or promised.paper != self._draft.paper:
            return None
        return made if reads_the_same(content, self._draft.content, self._copier.style) else None
