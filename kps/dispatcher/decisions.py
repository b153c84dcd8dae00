"""Decides about the tickets that a look has found, has it carried out, and keeps what is left of the look."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kps.core.agenda import LookAgain
from kps.core.half_written import HalfWritten
from kps.core.look import NOTHING, Found
from kps.core.plan import Plan, plan
from kps.core.routing import WaitFor
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.database.dispatcher_queue import DispatcherQueue
from kps.dispatcher.devices import Devices
from kps.dispatcher.printers import Printers
from kps.dispatcher.rounds import Rounds
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

log = logging.getLogger("kps.dispatcher")


class Decisions:
    """What becomes of each ticket, and what is to be remembered of those that wait."""

    def __init__(
        self,
        settings: Settings,
        queue: DispatcherQueue,
        stats: Stats,
        printers: Printers,
        devices: Devices,
        rounds: Rounds,
        on_missed: Callable[[], None],
    ) -> None:
        """`on_missed` is called when the regular poll finds a ticket: its notification was missed."""
        self._settings = settings
        self._queue = queue
        self._stats = stats
        self._printers = printers
        self._devices = devices
        self._rounds = rounds
        self._on_missed = on_missed
        self._half_written = HalfWritten()
        self._said_held: dict[TicketId, WaitFor] = {}
        """Tickets of which the log says already why they are held."""
        self.left = NOTHING
        """What is left of the last look."""

    def forget_look(self) -> None:
        """Something has happened that may have changed what a look finds."""
        self.left = NOTHING

    def forget_all_but(self, found: Found) -> None:
        """Remember nothing of tickets that a look has not found any more."""
        present = {ticket.id for ticket in found.tickets}
        self._half_written.forget_all_but(present)
        self._said_held = {ticket: why for ticket, why in self._said_held.items() if ticket in present}

    def carry_out(self, found: Found, *, polled: bool = False) -> LookAgain | None:
        """Carry out what is decided for each ticket; returns when these tickets want another look.

        `polled`: the look was nothing but the regular poll, so nothing has notified us of what it found.
        """
        routes, free = self._printers.routes, self._printers.free()
        made = plan(found.tickets, routes, self._devices.states, free, self._half_written, self._settings, monotonic())
        self._report(made)
        if made.claims and polled:
            self._stats.add(Cell.POLL_FOUND_WORK)
            self._on_missed()
        self.left = found.without({ticket.id for ticket, _ in made.claims}, routes)
        unclaimed = self._printers.claim(made.claims, self._settings.max_tickets_per_poll)
        if unclaimed is not None:
            # A ticket that was not claimed must not be overtaken by those behind it.
            self.left = NOTHING
        self._rounds.end(made.ended)
        self._rounds.give_up(made.given_up)
        if noted := [ticket for ticket in made.unroutable if not ticket.unroutable_noted]:
            self._queue.wait(noted)
        self._rounds.say_why(made.ending)
        return unclaimed or made.again

    def _report(self, made: Plan) -> None:
        """Count the tickets without a printer row and those that are held, and log once for each why it is held."""
        self._stats.set(Cell.UNROUTABLE, len(made.unroutable))
        self._stats.set(Cell.HELD_TICKETS, len(made.held))
        for ticket, why in made.held:
            if self._said_held.get(ticket.id) != why:
                self._said_held[ticket.id] = why
                log.warning("ticket held", extra={"ticket": ticket.id, "station": ticket.station, "cause": why.value})
