"""What a look leads to: what is decided for each of its tickets, sorted by what has to be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kps.core.agenda import LookAgain, Why, sooner
from kps.core.half_written import HalfWritten
from kps.core.routing import (
    ClaimFor,
    Decision,
    DeviceState,
    EndRound,
    GiveUp,
    Routes,
    WaitFor,
    Waiting,
    Written,
    covers,
    decide,
)
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey

GRACE_LOOK_S = 0.1
"""Before the next look, at least, for a ticket whose wait for a printer row ends."""


@dataclass(slots=True)
class Plan:
    """What has to be done about the tickets of a look, each in order of their numbers."""

    claims: list[tuple[Waiting, ClaimFor]] = field(default_factory=list)
    ended: list[tuple[Waiting, EndRound]] = field(default_factory=list)
    given_up: list[tuple[Waiting, GiveUp]] = field(default_factory=list)
    held: list[tuple[Waiting, WaitFor]] = field(default_factory=list)
    """They wait until a person or a printer does something, for this reason."""
    unroutable: list[Waiting] = field(default_factory=list)
    """No printer row would do for them. They wait for one, for a while."""
    again: LookAgain | None = None
    """When some of them have to be looked at again; None = whatever changes anything is notified."""

    @property
    def ending(self) -> list[Waiting]:
        """Tickets whose round, or whose wait, ends without a printer."""
        return [ticket for ticket, _ in (*self.ended, *self.given_up)]


def plan(
    tickets: Iterable[Waiting],
    routes: Routes,
    devices: Mapping[PrinterKey, DeviceState],
    free: Mapping[PrinterKey, int],
    half_written: HalfWritten,
    settings: Settings,
    now: float,
) -> Plan:
    """Decide for each ticket, in order of their numbers: so each printer gets its lowest first.

    `free`: for how many tickets the printers of this instance have room. `now`: of a monotonic clock.
    """
    made, left = Plan(), dict(free)
    for ticket in tickets:
        writing = half_written.look(ticket, now)
        match _decide(ticket, routes, devices, left, writing.written, settings):
            case ClaimFor() as claim:
                left[claim.row.key] -= 1
                made.claims.append((ticket, claim))
            case EndRound() as end:
                made.ended.append((ticket, end))
            case GiveUp() as give_up:
                made.given_up.append((ticket, give_up))
            case WaitFor.ITEMS:
                made.again = sooner(made.again, LookAgain(writing.look_in_s, Why.HALF_WRITTEN))
            case WaitFor.GRACE:
                made.unroutable.append(ticket)
                left_s = max(GRACE_LOOK_S, settings.unroutable_grace_s - ticket.waited_s)
                made.again = sooner(made.again, LookAgain(left_s, Why.NO_PRINTER_ROW))
            case WaitFor.HELD | WaitFor.INACTIVE as why:
                made.held.append((ticket, why))
            case WaitFor():
                pass
    return made


def _decide(
    ticket: Waiting,
    routes: Routes,
    devices: Mapping[PrinterKey, DeviceState],
    free: Mapping[PrinterKey, int],
    written: Written,
    settings: Settings,
) -> Decision:
    """What happens to a ticket now; an instance decides nothing but a claim about a ticket that it does not serve."""
    decision = decide(
        ticket,
        routes.of(ticket.station, ticket.brand),
        devices,
        free,
        written=written,
        policy=settings.printer_down_policy,
        grace_s=settings.unroutable_grace_s,
    )
    if isinstance(decision, ClaimFor) or covers(settings.stations, settings.brands, ticket):
        return decision
    return WaitFor.BUSY
