"""How much processor time other programs took meanwhile, because their load makes figures worse."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
IDLE = (3, 4)
"""Places of idle and iowait in the first line of /proc/stat."""
QUIET = 0.1
"""A lower share is not reported in detail: it includes the benchmarks' own killed processes, whose time is lost."""


class Others:
    """Counts from the moment it is made."""

    def __init__(self) -> None:
        self._before, self._ours, self._begun = _busy_s(), _ours_s(), time.monotonic()

    def share(self) -> float:
        """Share of the whole machine, 0 to 1. The benchmarks' own processes are subtracted once they have ended."""
        cores = os.cpu_count() or 1
        theirs = _busy_s() - self._before - (_ours_s() - self._ours)
        return max(0.0, theirs / (cores * (time.monotonic() - self._begun)))

    def words(self) -> str:
        """The same as a sentence for the page."""
        share = self.share()
        if share < QUIET:
            return f"other programs took less than {QUIET:.0%} of the machine"
        return f"other programs took {share:.0%} of the machine meanwhile, which makes these figures worse"


def _busy_s() -> float:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return TICK_S * sum(ticks for place, ticks in enumerate(fields) if place not in IDLE)


def _ours_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
