"""The limits as a host, and a container on it, shows them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from kps.core.limits import Limit, Means
from kps.process.limits import host_limits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def write(root: Path, membership: str, **files: str) -> Path:
    """A tree of control groups, `__` for a slash and `_` for a dot; returns our membership."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = root.parent / "membership"
    own.write_text(membership)
    return own


def seen(root: Path, membership: Path) -> dict[str, int]:
    return {limit.name: limit.value for limit in host_limits(root, membership) if "ulimit" not in limit.name}


def test_a_container_sees_its_own_limits_at_the_mount(root: Path) -> None:
    own = write(root, "0::/\n", memory_max="268435456\n", pids_max="200\n")
    assert seen(root, own) == {"memory.max": 268_435_456, "pids.max": 200}


def test_the_lowest_limit_on_the_way_up_counts(root: Path) -> None:
    own = write(
        root, "0::/shop/kps\n", shop__kps__memory_max="max", shop__memory_max="1000000", memory_max="max",
        shop__kps__pids_max="90", shop__pids_max="50",
    )  # fmt: skip
    assert seen(root, own) == {"memory.max": 1_000_000, "pids.max": 50}


def test_the_older_hierarchies_are_read_as_well(root: Path) -> None:
    membership = "8:pids:/docker/ab\n4:memory:/docker/ab\n0::/\n"
    (root / "memory").mkdir(parents=True)
    (root / "memory" / "memory.limit_in_bytes").write_text("300000000\n")
    own = write(root, membership, pids__docker__ab__pids_max="64\n")
    assert seen(root, own) == {"memory.limit_in_bytes": 300_000_000, "pids.max": 64}


def test_where_nothing_is_set_or_can_be_read_there_is_no_limit(root: Path) -> None:
    assert seen(root, root / "absent") == {}
    assert seen(root, write(root, "0::/a\n", a__memory_max="max")) == {}


def test_the_limit_of_descriptors_is_the_hard_one(root: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    expected = [] if hard == resource.RLIM_INFINITY else [Limit("ulimit -n", Means.DESCRIPTORS, hard)]
    assert [one for one in host_limits(root, root) if one.means is Means.DESCRIPTORS] == expected
