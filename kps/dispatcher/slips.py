"""Slips: have them made, and hand the open ones to their printers. Trouble with slips alone never keeps a ticket."""

from __future__ import annotations

import logging

from kps.core.agenda import Agenda, Task
from kps.core.routing import ClaimFor, printer_for_slip
from kps.core.work import WorkKind
from kps.database import DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue, WaitingSlip
from kps.dispatcher.devices import Devices
from kps.dispatcher.printers import Printers
from kps.dispatcher.slip_maker import SlipMaker
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

SLIPS_EVERY_S = 2.0
"""Between looks for events that stations must know of, and between tries to hand out what is open."""
SLIPS_AGAIN_S = 30.0
"""The same after an error of the database that a person must mend, and that concerns slips alone."""

log = logging.getLogger("kps.dispatcher")


class Slips:
    """Slips from the event that they tell of to the mailbox of their printer."""

    def __init__(
        self,
        queue: DispatcherQueue,
        stats: Stats,
        agenda: Agenda,
        printers: Printers,
        devices: Devices,
        maker: SlipMaker,
    ) -> None:
        self._queue = queue
        self._stats = stats
        self._agenda = agenda
        self._printers = printers
        self._devices = devices
        self.maker = maker
        self.waiting = False
        """Whether a slip is to be handed out with the next look: it is new, or waits for room at its printer."""

    def hear(self) -> bool:
        """Whether the maker has just found slips to be handed out, new ones or older ones."""
        try:
            made = self.maker.take()
        except DatabaseTrouble as trouble:
            self._failed(trouble, self.maker.failures)
            return False
        if made is None:
            return False
        self._stats.add(Cell.SLIPS_MADE, made)
        self.waiting = self.maker.open
        return self.waiting

    def make(self) -> None:
        """Have slips made of what has happened since."""
        self._agenda.put(Task.MAKE_SLIPS, monotonic() + SLIPS_EVERY_S)
        self.maker.begin()

    def hand_out(self) -> None:
        """Give the open slips to their printers. Raises DatabaseTrouble, unless it concerns slips alone."""
        self.waiting = False
        if not self._agenda.due(Task.HAND_OUT_SLIPS, monotonic()):
            return
        try:
            self._hand_out_all()
        except DatabaseTrouble as trouble:
            if not trouble.sqlstate:
                raise
            pause_s = SLIPS_AGAIN_S if trouble.refused else SLIPS_EVERY_S
            self._agenda.put(Task.HAND_OUT_SLIPS, monotonic() + pause_s)
            self._failed(trouble, 1)

    def _hand_out_all(self) -> None:
        """A slip that finds no room goes before the next ticket: a busy printer must not delay a VOID."""
        slips = self._queue.look_slips()
        if slips:
            self._devices.read(self._printers.routes)
        waiting = [self._hand_out(slip) for slip in slips]
        self.waiting = any(waiting)

    def _hand_out(self, slip: WaitingSlip) -> bool:
        """Give a slip to the printer that it belongs to, if that is ours; True = it waits for room there."""
        if slip.over:
            if self._queue.give_up(WorkKind.SLIP, [slip], error="too old, or tried too often"):
                self._stats.add(Cell.SLIPS_GIVEN_UP)
                log.error("slip given up", extra={"slip": slip.id, "kind": slip.kind, "station": slip.station})
            return False
        routes = self._printers.routes
        rows = routes.rows if slip.target else routes.of(slip.station, slip.brand)
        row = None if slip.waits else printer_for_slip(rows, slip.target, self._devices.states)
        box = None if row is None else self._printers.box_of(row.key)
        if row is None or box is None:
            return False
        if box.room <= 0:
            return True
        for claimed in self._queue.claim(WorkKind.SLIP, [(slip, ClaimFor(row, ""), box.epoch)]):
            self._printers.hand_over(claimed)
        return False

    def _failed(self, trouble: DatabaseTrouble, failures: int) -> None:
        if trouble.sqlstate:
            log.error("slips cannot be made", extra={"cause": trouble.sentence})
        elif failures in (1, 10, 100):
            log.warning("database trouble", extra={"cause": trouble.sentence, "failures": failures})
