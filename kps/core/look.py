"""What a look for tickets has found, and what may be done with it before the next look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from kps.core.backlog import Route, Survey
from kps.core.routing import Routes, Waiting
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, TicketId

CROWDED_S = 0.05
"""A look that takes longer, and finds more than it can take, is too dear to be had each time: see `Survey`."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the last look found, less what has been claimed of it since.

    A look reads the oldest few tickets of each route (a station and a brand), so it may leave out younger ones. When a
    printer has room again, the next tickets are taken from here instead of from another look. That is allowed because:

    1. The tickets are in order of their numbers, and a printer gets the lowest of those that it can print.
    2. A ticket stays here only if the look cannot have left out an older one for a printer of its route.
    3. Whatever else may change what a look finds (a ticket comes or is reset, printers, leases or devices change, the
       database fails) makes all of this void: NOTHING takes its place, and the next look begins anew.
    4. A claim names what the look saw of the ticket. One that has changed meanwhile is not claimed.
    """

    tickets: tuple[Waiting, ...] = ()
    complete: bool = False
    """The look has left out no ticket: no other one waits."""
    ends: Mapping[PrinterKey, TicketId] = field(default_factory=dict)
    """For printers whose tickets the look may have left out in part: none up to this one is left out."""

    def may_be_next(self, ticket: Waiting, routes: Routes) -> bool:
        """Whether the look has left out no older ticket for any printer of this ticket's route."""
        rows = routes.of(ticket.station, ticket.brand)
        return all(ticket.id <= self.ends.get(row.key, ticket.id) for row in rows)

    def without(self, taken: Collection[TicketId], routes: Routes) -> Found:
        """What is left when these tickets are taken."""
        left = [ticket for ticket in self.tickets if ticket.id not in taken and self.may_be_next(ticket, routes)]
        return replace(self, tickets=tuple(left))


NOTHING = Found()
"""Nothing is known: only a look can tell what waits."""


class Refill(Enum):
    """What is done when printers have room again."""

    NOTHING = "nothing"
    """No ticket waits. The next one is notified, or found by the next poll."""
    GO_ON = "go on"
    """They get the next tickets of those that are left of the last look."""
    LOOK = "look"
    """Only a look can tell what they get."""


def when_room(left: Found, *, believed: bool, slips_wait: bool) -> Refill:
    """What is done when printers have room again.

    `believed`: nothing can have changed what the look found without our knowing it, and no look is due. `slips_wait`: a
    slip waits for room, and goes before the next ticket.
    """
    if slips_wait:
        return Refill.LOOK
    if left.complete and not left.tickets:
        return Refill.NOTHING
    return Refill.GO_ON if left.tickets and believed else Refill.LOOK


def depth_of(settings: Settings) -> int:
    """How many tickets a look reads of each route."""
    return max(20, settings.max_tickets_per_poll)


def what_was_found(seen: Sequence[Waiting], depth: int, routes: Routes, survey: Survey | None) -> Found:
    """What a look has found that saw these tickets: the oldest `depth` of each route, in order of their numbers.

    Where a survey chose what the look considers, tickets are left out that may have to stand behind older ones which
    the survey did not reach.
    """
    ends = _ends(seen, depth, routes, survey)
    if survey is None:
        return Found(tuple(seen), complete=len(seen) < depth, ends=ends)
    # Younger tickets of a route must not make up for surveyed ones that are gone.
    reached = _by_route(
        ticket for ticket in seen if ticket.id <= survey.cut.get((ticket.station, ticket.brand), ticket.id)
    )
    used_up = {route: end for route, end in survey.cut.items() if reached[route] < depth}
    kept = [ticket for ticket in seen if not _overtakes(ticket, routes, survey, used_up)]
    return Found(tuple(kept), complete=False, ends=ends)


def is_crowded(seen: Sequence[Waiting], depth: int, took_s: float) -> bool:
    """Whether such a look is too dear to be had each time: it took long, and some route has more than it can take."""
    return took_s > CROWDED_S and any(count >= depth for count in _by_route(seen).values())


def _by_route(seen: Iterable[Waiting]) -> Counter[Route]:
    return Counter((ticket.station, ticket.brand) for ticket in seen)


def _ends(seen: Sequence[Waiting], depth: int, routes: Routes, survey: Survey | None) -> dict[PrinterKey, TicketId]:
    """By printer: the last ticket up to which the look can have left out none for it."""
    numbers: dict[Route, list[TicketId]] = {}
    for ticket in seen:
        numbers.setdefault((ticket.station, ticket.brand), []).append(ticket.id)
    last: dict[Route, TicketId] = {} if survey is None else dict(survey.cut)
    for route, found in numbers.items():
        if len(found) >= depth:
            last[route] = min(found[-1], last.get(route, found[-1]))
    ends: dict[PrinterKey, TicketId] = {}
    for (station, brand), end in last.items():
        for row in routes.of(station, brand):
            if row.key:
                ends[row.key] = min(end, ends.get(row.key, end))
    return ends


def _overtakes(ticket: Waiting, routes: Routes, survey: Survey, used_up: Mapping[Route, TicketId]) -> bool:
    """Whether an older ticket that the survey did not reach may be waiting for a printer of this ticket's route.

    `used_up`: routes of which the survey did not reach all, and of whose surveyed tickets few are left, with the last
    ticket that it reached.
    """
    if ticket.id > survey.cut.get((ticket.station, ticket.brand), ticket.id):
        return True
    keys = {row.key for row in routes.of(ticket.station, ticket.brand) if row.active and row.key}
    return any(
        ticket.id > end and not keys.isdisjoint(row.key for row in routes.of(*route) if row.active)
        for route, end in used_up.items()
    )
