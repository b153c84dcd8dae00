"""Tickets that no printer can print: the end of their rounds, their failure, and their rescue.

A round is one try of a ticket at the printers of its route; a ticket has so many rounds, with a pause between them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kps.core.agenda import NEVER, Agenda, Task
from kps.core.routing import EndRound, GiveUp, PrinterRow, Waiting, can_be_rescued, covers, why_not
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, TicketId
from kps.core.work import WorkKind
from kps.database.dispatcher_queue import DispatcherQueue
from kps.dispatcher.devices import Devices
from kps.dispatcher.printers import Printers
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

RESCUE_EVERY_S = 5.0
"""Between two looks for failed tickets that a printer could print now."""
RESCUE_QUIET_S = 30.0
"""The same while there are none, and a printer that becomes able would wake us."""
SAY_WHY_S = 10.0
"""A printer's row that says why it cannot print is not written again for so long, however many tickets end."""

log = logging.getLogger("kps.dispatcher")


class Rounds:
    """Ends rounds and fails tickets in the database, with the reason, and rescues them."""

    def __init__(
        self,
        settings: Settings,
        queue: DispatcherQueue,
        stats: Stats,
        agenda: Agenda,
        printers: Printers,
        devices: Devices,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._stats = stats
        self._agenda = agenda
        self._printers = printers
        self._devices = devices
        self._next_known = False
        """Whether the agenda has the moment of the next round."""
        self._say_due: dict[int, float] = {}
        """By the id of a printer row: when it may be written again why its printer cannot print."""

    def begin(self) -> bool:
        """Whether the next round of a waiting ticket begins now."""
        if not self._agenda.due(Task.ROUNDS, monotonic()):
            return False
        self._agenda.put(Task.ROUNDS, NEVER)
        self._next_known = False
        return True

    def know_next(self) -> None:
        """Have the agenda know when the next round of a waiting ticket begins: it must not wait for a poll."""
        if self._next_known:
            return
        due_s = self._queue.next_due()
        self._agenda.put(Task.ROUNDS, NEVER if due_s is None else monotonic() + due_s)
        self._next_known = True

    def end(self, ended: Sequence[tuple[Waiting, EndRound]]) -> None:
        """End the rounds of these tickets: another one begins later, or they become `failed`."""
        for same in _grouped(ended):
            tickets, end = [ticket for ticket, _ in same], same[0][1]
            done = self._queue.end_round(
                tickets,
                ip=end.row.address.pos_ip,
                code=end.reason.value,
                error=end.text,
                delay_s=self._settings.retry_delay_s,
                budget=self._settings.max_print_retries,
            )
            for result in done:
                self._stats.add(Cell.ROUNDS_ENDED)
                if result.status == "failed":
                    self._failed(result.ticket, end.text)
                else:
                    log.warning(
                        "round ended", extra={"ticket": result.ticket, "cause": end.text, "attempt": result.attempts}
                    )
            self._next_known = self._next_known and not any(result.status == "new" for result in done)

    def give_up(self, given_up: Sequence[tuple[Waiting, GiveUp]]) -> None:
        """Fail these tickets at once."""
        for ticket, reason in given_up:
            for failed in self._queue.give_up(
                WorkKind.TICKET, [ticket], code=reason.reason.value, error=reason.text, rescue=reason.rescue
            ):
                self._failed(TicketId(failed), reason.text)

    def say_why(self, tickets: Sequence[Waiting]) -> None:
        """Write into the printers' rows why they could not print these tickets, whether they are served or not."""
        now = monotonic()
        wanted: dict[int, tuple[PrinterKey, str]] = {}
        for station, brand in {(ticket.station, ticket.brand) for ticket in tickets}:
            wanted |= why_not(self._printers.routes.of(station, brand), self._devices.states)
        due = {row: why for row, why in wanted.items() if now >= self._say_due.get(row, 0.0)}
        if not due:
            return
        later = {row: at for row, at in self._say_due.items() if at > now}
        self._say_due = later | dict.fromkeys(due, now + SAY_WHY_S)
        self._queue.say_why(due, news=False)

    def rescue(self, *, woken: bool) -> list[TicketId]:
        """If it is time: make tickets `new` again that failed for want of a printer, where one is able now.

        `woken`: whether a notification comes when a printer's state changes.
        """
        if not self._agenda.due(Task.RESCUE, monotonic()):
            return []
        self._agenda.put(Task.RESCUE, monotonic() + RESCUE_EVERY_S)
        if not self._settings.rescue_minutes:
            return []
        failed = self._queue.rescuable(self._settings.rescue_minutes)
        if woken and not failed:
            self._agenda.put(Task.RESCUE, monotonic() + RESCUE_QUIET_S)
        routes = self._printers.routes
        if failed:
            self._devices.read(routes)
        found = [
            (ticket, token) for ticket, token, station, brand in failed if self._may_rescue(routes.of(station, brand))
        ]
        rescued = self._queue.rescue(found) if found else []
        for ticket in rescued:
            self._stats.add(Cell.RESCUED)
            log.warning("ticket rescued", extra={"ticket": ticket})
        return rescued

    def _may_rescue(self, rows: Sequence[PrinterRow]) -> bool:
        settings = self._settings
        ours = any(covers(settings.stations, settings.brands, row) for row in rows)
        return ours and can_be_rescued(rows, self._devices.states)

    def _failed(self, ticket: TicketId, why: str) -> None:
        self._agenda.put(Task.RESCUE, min(self._agenda.at(Task.RESCUE), monotonic() + RESCUE_EVERY_S))
        self._stats.add(Cell.FAILED)
        log.error("ticket failed", extra={"ticket": ticket, "cause": why})


def _grouped(ended: Sequence[tuple[Waiting, EndRound]]) -> list[list[tuple[Waiting, EndRound]]]:
    """Tickets whose round ends for the same reason at the same route go into one statement."""
    groups: dict[tuple[int, str], list[tuple[Waiting, EndRound]]] = {}
    for ticket, end in ended:
        groups.setdefault((end.row.id, end.text), []).append((ticket, end))
    return list(groups.values())
