"""The two clocks that are used: monotonic inside a host, BOOTTIME for the trust in a lease."""

from __future__ import annotations

import time

monotonic = time.monotonic


def boottime() -> float:
    """Seconds since boot, suspend included: the database's clock goes on while this host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
