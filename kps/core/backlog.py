"""Which of the waiting tickets a look considers, when there are too many old ones to look through them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kps.core.tickets import TicketId

Route = tuple[str, str]
"""A station and a brand."""

COMMITTED_WITHIN_S = 120.0
"""Longest transaction of the POS that writes a ticket."""
NO_TICKET = TicketId(2**53)
"""A number above every ticket's."""


@dataclass(frozen=True, slots=True)
class Among:
    """A look considers `new` tickets written since a moment, those above a number, and those of these numbers."""

    since: float
    """Seconds since 1970 by the database's clock; infinity = none for its time."""
    above: TicketId
    ids: frozenset[TicketId] = frozenset()


@dataclass(frozen=True, slots=True)
class Horizon:
    """What a first look found: tickets written before a moment and numbered up to `up_to` are of another day.

    A ticket with a later number has come while we looked, whatever time the POS wrote on it.
    """

    before: float
    """Seconds since 1970 by the database's clock."""
    up_to: TicketId

    def without_old(self, spared: frozenset[TicketId]) -> Among:
        """All that is not of another day, and what is spared of that."""
        return Among(self.before, self.up_to, spared)


@dataclass(frozen=True, slots=True)
class Survey:
    """The oldest tickets of each route at a moment, when there were too many to ask for them at every look."""

    above: TicketId
    """The last ticket of that moment; what comes later is seen by every look."""
    at: float
    """When that one was written by the POS's clock, seconds since 1970; infinity = there is none."""
    ids: frozenset[TicketId] = frozenset()
    cut: Mapping[Route, TicketId] = field(default_factory=dict)
    """Routes that have more than was surveyed, with the last that was."""
    count: int = 0
    """All `new` tickets."""
    took_s: float = 0.0

    def among(self, more: frozenset[TicketId]) -> Among:
        """What was surveyed, what has come since, and these.

        A ticket that was numbered before the last one may have been committed behind it: what is as young is seen too.
        """
        return Among(self.at - COMMITTED_WITHIN_S, self.above, self.ids | more)
