"""What the service needs of the host for a number of printers, and which limits of the host are too low for that.

The numbers are measured: memory as docs/benchmarks.md says; descriptors and tasks were counted in /proc.
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
"""A memory limit should be so many times what is used, to leave room for peaks."""
TASKS_BASE, TASKS_EACH = 40, 3
"""Processes and threads: supervisord and its event listener, supervisor, template, dispatcher, a health check of the
container and a command typed into it; for each printer a process, the thread of its log, and one to spare."""
DESCRIPTORS_BASE, DESCRIPTORS_EACH = 64, 2
"""Of the supervisor, which has most open, without HTTP: what it keeps open, and what the start of a process needs for a
moment; for each printer a control pipe and what reports the end of its process."""
HTTP_LEAST, HTTP_MOST, HTTP_SHARE = 16, 512, 4
"""HTTP connections to both ports together: one in HTTP_SHARE of the descriptors that printers do not need, but no fewer
and no more than these."""

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""errno of an OSError that means: a resource of the host, or our share of it, is used up. That passes, and says nothing
about the file or address that was asked for."""


class Means(Enum):
    """A resource of the host: (what the service needs without printers, what each printer adds)."""

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
    """Where an operator finds it: `ulimit -n`, `pids.max`, `memory.max` ..."""
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
    """A sentence for each limit that is high enough: what is set, and what so many printers need."""
    for limit in limits:
        if limit.value >= (needed := limit.means.needed(printers)):
            who = "1 printer needs" if printers == 1 else f"{printers} printers need"
            yield f"{limit}, and {who} {_shown(limit.means, needed)}"


def _sentence(limit: Limit, printers: int) -> str:
    enough, needed = limit.means.printers_within(limit.value), _shown(limit.means, limit.means.needed(printers))
    return f"{limit} is enough for {enough} of {printers} printers: all of them need {needed}"


def http_connections(descriptors: int, printers: int) -> int:
    """How many HTTP connections to both ports together leave printing the descriptors that it needs."""
    left = descriptors - (DESCRIPTORS_BASE + DESCRIPTORS_EACH * printers)
    return max(HTTP_LEAST, min(HTTP_MOST, left // HTTP_SHARE))


def is_shortage(error: BaseException) -> bool:
    """Whether it only means that a resource is used up for now."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in SHORTAGES)


def _shown(means: Means, value: int) -> str:
    return f"{-(-value // MB)} MB" if means is Means.MEMORY else str(value)


# -- control groups ------------------------------------------------------------------------------------------------

UNLIMITED = 1 << 60
"""Version 1 of the memory controller writes some number beyond this where no limit is set."""

_FILES = {
    Means.TASKS: ("pids", "pids.max", "pids.max"),
    Means.MEMORY: ("memory", "memory.max", "memory.limit_in_bytes"),
}
"""Controller, and the name of its limit file in version 2 and in version 1 of the control groups."""


def limit_files(membership: str, means: Means) -> list[str]:
    """The files below the mount of the control groups that may limit us, nearest first.

    `membership` is the text of /proc/self/cgroup. Every group above ours limits us too. In a container the path may be
    the host's, while the container's own group is mounted at the top: some of the files do not exist, and the caller
    skips them.
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
    """The limit in the text of such a file; None = no limit, or a text that we do not understand."""
    try:
        value = int(text)
    except ValueError:
        return None  # "max"
    return value if 0 <= value < UNLIMITED else None
