"""What so many printers need of the host."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.limits import (
    HTTP_LEAST,
    HTTP_MOST,
    MB,
    MEMORY_BASE_MB,
    MEMORY_EACH_MB,
    MEMORY_PEAK,
    TASKS_BASE,
    TASKS_EACH,
    Limit,
    Means,
    high_enough,
    http_connections,
    is_shortage,
    limit_files,
    limit_value,
    too_low,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("descriptors", "printers", "connections"),
    [(256, 3, 46), (1024, 5, 237), (1024, 30, 225), (20_000, 500, 512), (64, 3, HTTP_LEAST), (2_048, 500, 246)],
)
def test_http_gets_a_share_of_what_the_printers_leave(descriptors: int, printers: int, connections: int) -> None:
    assert http_connections(descriptors, printers) == connections


@given(st.integers(0, 2**31), st.integers(0, 2_000))
def test_where_the_limit_is_enough_printers_and_http_fit_into_it(descriptors: int, printers: int) -> None:
    connections = http_connections(descriptors, printers)
    assert HTTP_LEAST <= connections <= HTTP_MOST
    if descriptors >= Means.DESCRIPTORS.needed(printers):
        assert Means.DESCRIPTORS.needed(printers) - HTTP_LEAST + connections <= descriptors


@given(st.sampled_from(Means), st.integers(0, 2**40), st.integers(0, 2_000))
def test_a_limit_is_too_low_exactly_for_more_printers_than_it_is_enough_for(
    means: Means, value: int, printers: int
) -> None:
    limit = Limit("x", means, value)
    low = bool(list(too_low([limit], printers)))
    assert low == (printers > means.printers_within(value) or value < means.needed(0))
    assert bool(list(high_enough([limit], printers))) is not low


def test_the_sentence_names_the_limit_and_says_for_how_many_printers_it_is_enough() -> None:
    limits = [
        Limit("memory.max", Means.MEMORY, 256 * MB),
        Limit("pids.max", Means.TASKS, 52),
        Limit("ulimit -n", Means.DESCRIPTORS, 20_000),
    ]
    assert list(too_low(limits, 20)) == [
        "memory.max 256 MB is enough for 16 of 20 printers: all of them need 300 MB",
        "pids.max 52 is enough for 4 of 20 printers: all of them need 100",
    ]


def test_of_a_limit_that_is_high_enough_it_is_said_what_is_needed_and_not_for_how_many_it_would_be_enough() -> None:
    limits = [Limit("memory.max", Means.MEMORY, 968 * MB), Limit("ulimit -n", Means.DESCRIPTORS, 1_024)]
    assert list(high_enough(limits, 9)) == [
        "memory.max 968 MB, and 9 printers need 179 MB", "ulimit -n 1024, and 9 printers need 98",
    ]  # fmt: skip
    assert list(high_enough(limits, 1))[1] == "ulimit -n 1024, and 1 printer needs 82"


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/\n", ["memory.max", "unified/memory.max"]),
        (
            "0::/system.slice/kps.service\n",
            [
                "system.slice/kps.service/memory.max", "system.slice/memory.max", "memory.max",
                "unified/system.slice/kps.service/memory.max", "unified/system.slice/memory.max", "unified/memory.max",
            ],
        ),
        (
            "5:cpu,cpuacct:/docker/ab\n4:memory:/docker/ab\n0::/docker/ab\n",
            [
                "memory/docker/ab/memory.limit_in_bytes", "memory/docker/memory.limit_in_bytes",
                "memory/memory.limit_in_bytes", "docker/ab/memory.max", "docker/memory.max", "memory.max",
                "unified/docker/ab/memory.max", "unified/docker/memory.max", "unified/memory.max",
            ],
        ),
        ("3:memory:/../..\n", ["memory/memory.limit_in_bytes"]),
        ("", []),
        ("nonsense\n7\n", []),
    ],
)  # fmt: skip
def test_every_group_from_ours_up_to_the_mount_may_limit_us(membership: str, files: list[str]) -> None:
    assert limit_files(membership, Means.MEMORY) == files


@given(st.text())
def test_any_text_is_some_list_of_files_below_the_mount(membership: str) -> None:
    for means in (Means.TASKS, Means.MEMORY):
        assert not any(".." in file.split("/") or file.startswith("/") for file in limit_files(membership, means))


@pytest.mark.parametrize(
    ("text", "value"),
    [("max\n", None), ("268435456\n", 268_435_456), ("9223372036854771712\n", None), ("", None), ("-1", None)],
)
def test_a_limit_file_says_a_number_or_that_there_is_none(text: str, value: int | None) -> None:
    assert limit_value(text) == value


def test_used_up_is_told_apart_from_broken() -> None:
    assert is_shortage(OSError(errno.EMFILE, "x"))
    assert is_shortage(MemoryError())
    assert not is_shortage(OSError(errno.ENOENT, "x"))
    assert not is_shortage(ValueError())


PRINTERS = 30
"""What compose.yml says it is for."""


def test_compose_sets_the_limits_by_the_rule() -> None:
    text = (ROOT / "compose.yml").read_text("utf-8")
    assert f"for {PRINTERS} printers" in text
    assert re.findall(r"^    pids_limit: (\d+)$", text, re.MULTILINE) == [str(Means.TASKS.needed(PRINTERS))]
    assert re.findall(r"^    mem_limit: (\d+)m$", text, re.MULTILINE) == [
        str(round(Means.MEMORY.needed(PRINTERS) * MEMORY_PEAK / MB))
    ]
    assert f"{MEMORY_BASE_MB} MB and {MEMORY_EACH_MB} MB for each printer" in text
    assert f"{TASKS_BASE} and {TASKS_EACH} for each printer" in text


def test_the_readme_says_the_same_rule() -> None:
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"{MEMORY_BASE_MB} MB of memory, and {MEMORY_EACH_MB} MB for each printer" in text
    base, each = Means.DESCRIPTORS.value
    assert f"{base} descriptors and {each} for each printer" in text
    assert f"{TASKS_BASE} processes and threads and {TASKS_EACH} for each printer" in text
