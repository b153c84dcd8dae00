"""How far the clock of the POS's web host, which writes `created_at`, is behind the database's."""

from __future__ import annotations

from collections.abc import Sequence

ARRIVALS = 5
"""The last tickets that were seen to arrive are asked; more than half of them must agree."""
TOGETHER_S = 30.0
"""Those that agree lie no further apart."""
RIGHT_WITHIN_S = 30.0
"""A clock that is off by less is right: commits, looks and NTP take their time too."""


def behind(ages_s: Sequence[float]) -> float | None:
    """Seconds by which that clock is behind (negative: ahead, 0 = it is right), or None if nobody can say.

    `ages_s`: how old each of the last tickets seemed to be when it was first seen, by a service that looked all the
    time. None of them was: what they seem to be is the clock's fault. A single one may really be old, handed in by a
    till that was without its network, and those have ages of their own.
    """
    most = ARRIVALS // 2 + 1
    ages = sorted(ages_s)
    if not any(ages[first + most - 1] - ages[first] <= TOGETHER_S for first in range(len(ages) - most + 1)):
        return None
    # As `most` of so few agree, the middle one is among them.
    found = ages[(len(ages) - 1) // 2]
    return found if abs(found) >= RIGHT_WITHIN_S else 0.0


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
