"""How far the clock of the POS's web host, which writes `created_at`, is behind the database's."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kps.core.routing import Waiting
from kps.core.tickets import TicketId

ARRIVALS = 5
"""So many of the last tickets that were seen to arrive are compared; more than half of them must agree."""
TOGETHER_S = 30.0
"""Ages that agree differ by no more than this."""
RIGHT_WITHIN_S = 30.0
"""A clock that is off by less counts as right: commits, looks and NTP have delays too."""
NEWS_S = 10.0
"""What is known of the POS's clock is written anew if it differs by so much."""


def behind(ages_s: Sequence[float]) -> float | None:
    """Seconds by which that clock is behind (negative: ahead, 0 = it is right), or None if that cannot be said.

    `ages_s`: how old the last tickets seemed to be, each when it was first seen, by a service that looked all the time.
    A ticket that has just come is not old, so an age that most of them share is the clock's error. A single one may
    really be old: a till without its network hands its tickets in later. The ages of such tickets differ.
    """
    most = ARRIVALS // 2 + 1
    ages = sorted(ages_s)
    if not any(ages[first + most - 1] - ages[first] <= TOGETHER_S for first in range(len(ages) - most + 1)):
        return None
    # `most` of so few agree, so the middle one is among them.
    found = ages[(len(ages) - 1) // 2]
    return found if abs(found) >= RIGHT_WITHIN_S else 0.0


class PosClock:
    """What the looks of one service have taught about that clock."""

    def __init__(self) -> None:
        self.known_s: float | None = None
        """What the database has on record, from whichever instance; None = nothing."""
        self._newest: TicketId | None = None
        """The newest ticket of the last look: one with a higher number has come since. None = that cannot be said."""
        self._ages: deque[float] = deque(maxlen=ARRIVALS)

    def missed(self) -> None:
        """Tickets may have come unseen: of those that the next look finds it is not known when they came."""
        self._newest = None

    def saw(self, tickets: Sequence[Waiting], complete: bool) -> float | None:
        """Learn from a look, which left out no ticket if `complete`.

        Returns the seconds by which the clock is behind, if they differ from what is known; None = no news.
        """
        last = self._newest
        newest = max((ticket.id for ticket in tickets), default=TicketId(0))
        self._newest = max(newest, last or newest) if complete else None
        ages = [ticket.age_s for ticket in tickets if ticket.untried and last is not None and ticket.id > last]
        if not ages:
            return None
        self._ages.append(min(ages))
        found = behind(self._ages)
        if found is None or (self.known_s is not None and abs(found - self.known_s) < NEWS_S):
            return None
        return found


def apart(seconds: float) -> str:
    """A difference of two clocks in words, without its sign."""
    minutes = round(abs(seconds) / 60)
    if abs(seconds) < 120:
        return f"{abs(seconds):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def direction(behind_s: float) -> str:
    """`6 min behind` or `6 min ahead of`."""
    return f"{apart(behind_s)} {'behind' if behind_s > 0 else 'ahead of'}"
