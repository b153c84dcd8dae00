"""Which `new` tickets a look considers, when there are too many, or too old ones, to look through them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kps.core.tickets import TicketId

Route = tuple[str, str]
"""A station and a brand."""

COMMITTED_WITHIN_S = 120.0
"""The longest that a transaction of the POS which writes a ticket is taken to last."""
NO_TICKET = TicketId(2**53)
"""A number above every ticket's."""


@dataclass(frozen=True, slots=True)
class Among:
    """Which `new` tickets a look considers: each that meets one of these conditions."""

    since: float
    """Its `created_at`, in seconds since 1970, is this moment or later; infinity = none is."""
    above: TicketId
    """It has a higher number than this."""
    ids: frozenset[TicketId] = frozenset()
    """It has one of these numbers."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Which tickets are of another day, as the first look after a start found: those that meet both conditions.

    A ticket with a higher number has come since that look, whatever time the POS wrote on it.
    """

    before: float
    """Its `created_at`, in seconds since 1970, is before this moment."""
    up_to: TicketId
    """It has at most this number."""

    def without_old(self, spared: frozenset[TicketId]) -> Among:
        """All tickets that are not of another day, and those of another day that are spared."""
        return Among(self.before, self.up_to, spared)


@dataclass(frozen=True, slots=True)
class Survey:
    """The oldest tickets of each route at a moment, when there were too many to ask for them at every look."""

    above: TicketId
    """The newest ticket of that moment. Every look sees the tickets that come later."""
    at: float
    """`created_at` of that ticket, in seconds since 1970; infinity = there was none."""
    ids: frozenset[TicketId] = frozenset()
    """The tickets that the survey has found."""
    cut: Mapping[Route, TicketId] = field(default_factory=dict)
    """Routes that have more tickets than the survey found, with the last ticket that it found."""
    count: int = 0
    """How many tickets were `new` at that moment, on all routes."""
    took_s: float = 0.0
    """How long the survey took."""

    def among(self, more: frozenset[TicketId]) -> Among:
        """The tickets of the survey, those that have come since, and these.

        A ticket may be committed after one with a higher number, so that the survey did not see it. Therefore all
        tickets count that were written not long before the newest.
        """
        return Among(self.at - COMMITTED_WITHIN_S, self.above, self.ids | more)
