"""Which `new` tickets a look considers, when there are too many, or too old ones, to look through them all."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kps.core.tickets import TicketId, Token

Route = tuple[str, str]
"""A station and a brand."""

COMMITTED_WITHIN_S = 120.0
"""The longest that a transaction of the POS which writes a ticket is taken to last."""
NO_TICKET = TicketId(2**53)
"""A number above every ticket's."""
AT_ONCE = 500
"""Old tickets that are failed in one transaction; fewer where that takes too long."""
PAUSE_S = 1.0
"""After an error, or while an old ticket's row is locked; each further one in a row doubles the pause."""
LONGEST_PAUSE_S = 30.0


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
    """Routes of which the survey may not have found all tickets, with the last one that it found."""
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


@dataclass(frozen=True, slots=True)
class OldTicket:
    """A `new` ticket of another day."""

    id: TicketId
    token: Token
    """The token of its job; 0 = it has no job yet."""
    at: float
    """Its `created_at`, in seconds since 1970."""
    stale: bool
    """Whether it has to be failed."""
    reset: bool
    """Whether the POS has made it `new` again: then it is printed, however old it is."""


class Walk:
    """How far the old tickets have been worked off, oldest first. Those that cannot be failed wait for another pass."""

    def __init__(self, horizon: Horizon) -> None:
        self.horizon = horizon
        self.size = AT_ONCE
        """How many are failed at once now: halved where that took too long, doubled where it did not."""
        self._pause_s = PAUSE_S
        self._begin()

    def _begin(self) -> None:
        self.since = -math.inf
        """The next page begins with tickets of this moment (`created_at`)."""
        self.passed: frozenset[TicketId] = frozenset()
        """Tickets of that moment that are left out of it: an earlier page had them, and they are `new` still."""
        self._left = 0
        """Tickets that this pass could not fail."""

    def go_on(self, page: Sequence[OldTicket], failed: Collection[TicketId]) -> None:
        """Go on behind this page, of which these have been failed."""
        still = frozenset(one.id for one in page if one.id not in failed and one.at == page[-1].at)
        self.passed = still | (self.passed if page[-1].at == self.since else frozenset())
        self.since = page[-1].at
        self._left += sum(one.stale and one.id not in failed for one in page)

    def was_slow(self, count: int) -> None:
        """So many took too long together."""
        self.size = max(1, count // 2)

    def was_quick(self) -> None:
        """More may be failed together again."""
        self.size = min(AT_ONCE, self.size * 2)

    def again(self) -> float | None:
        """This pass has come to its end: seconds until the next one; None = none is needed."""
        if not self._left:
            return None
        self._begin()
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        return pause_s
