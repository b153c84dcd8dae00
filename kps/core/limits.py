"""What so many printers need of the host, and which of its limits is too low for them.

The rules were measured: docs/benchmarks.md for memory; descriptors and tasks were counted in /proc.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MB = 1024 * 1024
MEMORY_BASE_MB, MEMORY_EACH_MB = 80, 11
"""Proportional memory of the whole service without printers, and of one printer's process: README, Sizing."""
MEMORY_PEAK = 1.5
"""A limit that leaves room for peaks is so many times what is used."""
TASKS_BASE, TASKS_EACH = 40, 3
"""Processes and threads: supervisord and its listener, supervisor, template, dispatcher, a probe of the container and a
command typed into it; for each printer a process, its log's thread, and one for what hangs."""
DESCRIPTORS_BASE, DESCRIPTORS_EACH = 64, 2
"""Of the supervisor, which has most, and without HTTP: what it holds and what a start takes for a moment; for each
printer a control pipe and what watches its process."""
HTTP_LEAST, HTTP_MOST, HTTP_SHARE = 16, 512, 4
"""Connections to both ports together: that share of the descriptors that the printers leave, within these bounds."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""Of an OSError: the host, or what it allows us, is used up. It passes, and says nothing about what was asked for."""


class Means(Enum):
    """What there may be too little of."""

    DESCRIPTORS = (DESCRIPTORS_BASE + HTTP_LEAST, DESCRIPTORS_EACH)
    TASKS = (TASKS_BASE, TASKS_EACH)
    MEMORY = (MEMORY_BASE_MB * MB, MEMORY_EACH_MB * MB)

    def needed(self, printers: int) -> int:
        """What the service needs for so many printers; memory in bytes."""
        base, each = self.value
        return base + each * printers

    def printers_within(self, limit: int) -> int:
        """How many printers a limit is enough for."""
        base, each = self.value
        return max(0, (limit - base) // each)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that the host sets us."""

    name: str
    """Where one finds it: `ulimit -n`, `pids.max`, `memory.max` ..."""
    means: Means
    value: int
    """Memory in bytes."""

    def __str__(self) -> str:
        return f"{self.name} {_shown(self.means, self.value)}"


def too_low(limits: Iterable[Limit], printers: int) -> Iterator[str]:
    """A sentence for each limit that is too low for so many printers."""
    for limit in limits:
        if limit.value < limit.means.needed(printers):
            yield _sentence(limit, printers)


def high_enough(limits: Iterable[Limit], printers: int) -> Iterator[str]:
    """A sentence for each other limit: what is set, and what the printers that there are need of it."""
    for limit in limits:
        if limit.value >= (needed := limit.means.needed(printers)):
            who = "1 printer needs" if printers == 1 else f"{printers} printers need"
            yield f"{limit}, and {who} {_shown(limit.means, needed)}"


def _sentence(limit: Limit, printers: int) -> str:
    enough, needed = limit.means.printers_within(limit.value), _shown(limit.means, limit.means.needed(printers))
    return f"{limit} is enough for {enough} of {printers} printers: all of them need {needed}"


def http_connections(descriptors: int, printers: int) -> int:
    """How many HTTP connections there may be at both ports together, so that printing has the descriptors it needs."""
    left = descriptors - (DESCRIPTORS_BASE + DESCRIPTORS_EACH * printers)
    return max(HTTP_LEAST, min(HTTP_MOST, left // HTTP_SHARE))


def is_shortage(error: BaseException) -> bool:
    """Whether it means no more than that something is used up for now."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SHORTAGES)


def _shown(means: Means, value: int) -> str:
    return f"{-(-value // MB)} MB" if means is Means.MEMORY else str(value)


# -- control groups ------------------------------------------------------------------------------------------------

UNLIMITED = 1 << 60
"""The old memory controller writes some number beyond this where nothing is set."""

_FILES = {
    Means.TASKS: ("pids", "pids.max", "pids.max"),
    Means.MEMORY: ("memory", "memory.max", "memory.limit_in_bytes"),
}
"""Controller, and the name of its limit in the unified hierarchy and in one of its own."""


def limit_files(membership: str, means: Means) -> list[str]:
    """The files below the mount of the control groups that may limit us, nearest first.

    `membership` is the text of /proc/self/cgroup. Every group above ours limits us too. A container often sees the path
    that the host knows, and has its own group mounted at the top: what is not there is left out by the reader.
    """
    controller, unified, own = _FILES[means]
    found: list[str] = []
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if number == "0" and not controllers:
            found += [f"{group}{unified}" for top in ("", "unified/") for group in _upwards(top, path)]
        elif controller in controllers.split(","):
            tops = dict.fromkeys((f"{controller}/", f"{controllers}/"))
            found += [f"{group}{own}" for top in tops for group in _upwards(top, path)]
    return found


def _upwards(top: str, path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    while parts:
        yield f"{top}{'/'.join(parts)}/"
        parts.pop()
    yield top


def limit_value(text: str) -> int | None:
    """What a limit file says; None = no limit, or nothing that we understand."""
    try:
        value = int(text)
    except ValueError:
        return None  # "max"
    return value if 0 <= value < UNLIMITED else None
