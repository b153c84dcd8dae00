"""What the host allows this process and its children."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from kps.core.limits import Limit, Means, limit_files, limit_value

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def host_limits(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> tuple[Limit, ...]:
    """The limits that are set: descriptors, processes, memory; of several of a kind the lowest."""
    found = [_rlimit("ulimit -n", Means.DESCRIPTORS, resource.RLIMIT_NOFILE)]
    if os.getuid() != 0:  # the kernel asks no administrator
        found.append(_rlimit("ulimit -u", Means.TASKS, resource.RLIMIT_NPROC))
    found += [_cgroup(cgroups, membership, means) for means in (Means.TASKS, Means.MEMORY)]
    return tuple(limit for limit in found if limit is not None)


def _rlimit(name: str, means: Means, which: int) -> Limit | None:
    hard = resource.getrlimit(which)[1]  # the service raises its own limit to this one
    return None if hard == resource.RLIM_INFINITY else Limit(name, means, hard)


def _cgroup(cgroups: Path, membership: Path, means: Means) -> Limit | None:
    try:
        files = limit_files(membership.read_text(encoding="utf-8"), means)
    except OSError:
        return None
    values = [(value, file) for file in files if (value := _value(cgroups / file)) is not None]
    if not values:
        return None
    value, file = min(values)
    return Limit(file.rpartition("/")[2], means, value)


def _value(path: Path) -> int | None:
    try:
        return limit_value(path.read_text(encoding="utf-8"))
    except OSError:
        return None
