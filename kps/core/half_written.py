"""Tickets whose items are still being written: whether to wait for more, and when to look again."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

from kps.core.routing import Waiting, Written
from kps.core.tickets import TicketId

SETTLED_AFTER_S = 0.1
"""A half-written ticket counts as whole when its item count has not changed for this long."""
SETTLE_LIMIT_S = 2.0
"""A half-written ticket is decided on after this long, whole or not."""
LOOKS_S = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Seconds until the next look at a half-written ticket, one after the other; the last one stays."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Whether a ticket has all its items, as a look saw it."""

    written: Written
    look_in_s: float = 0.0
    """If it has only a part of them: seconds until it is worth another look."""


@dataclass(frozen=True, slots=True)
class _Growth:
    """What earlier looks saw of a half-written ticket; moments of a monotonic clock."""

    seen_at: float
    """When it was first seen."""
    changed_at: float
    """When its item count was first seen to be what it is."""
    items: int
    looks: int = 0


def how_written(ticket: Waiting, unchanged_s: float, seen_s: float) -> Written:
    """Whether all items of a ticket have been written.

    `unchanged_s`: for how long its item count has been the same; `seen_s`: for how long it has been looked at.
    """
    if ticket.items == 0:
        return Written.EMPTY if seen_s >= SETTLE_LIMIT_S else Written.IN_PART
    if ticket.original_items is None or ticket.items >= ticket.original_items:
        return Written.WHOLE
    settled = unchanged_s >= SETTLED_AFTER_S or seen_s >= SETTLE_LIMIT_S
    return Written.WHOLE if settled else Written.IN_PART


class HalfWritten:
    """What looks have seen of tickets that were not whole.

    The POS may commit a ticket before its items. A reprint is whole with as many items as its original has; nothing
    says how many items any other ticket will have, so that one counts as whole as soon as there is one.
    """

    def __init__(self) -> None:
        self._growing: dict[TicketId, _Growth] = {}

    def look(self, ticket: Waiting, now: float) -> Writing:
        """Whether this ticket has all its items, as a look sees it at `now`."""
        if how_written(ticket, 0.0, 0.0) is Written.WHOLE:
            self._growing.pop(ticket.id, None)
            return Writing(Written.WHOLE)
        growth = self._growing.get(ticket.id, _Growth(now, now, ticket.items))
        if ticket.items != growth.items:
            growth = replace(growth, items=ticket.items, changed_at=now)
        self._growing[ticket.id] = replace(growth, looks=growth.looks + 1)
        written = how_written(ticket, now - growth.changed_at, now - growth.seen_at)
        return Writing(written, LOOKS_S[min(growth.looks, len(LOOKS_S) - 1)])

    def forget_all_but(self, present: Container[TicketId]) -> None:
        """Tickets that a look has not seen any more are forgotten."""
        self._growing = {ticket: growth for ticket, growth in self._growing.items() if ticket in present}
