"""What a benchmark says: figures held against goals, and tables beside them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum

from bench.goals import Goal


class Met(Enum):
    """Whether a figure reaches its goal."""

    OK = "ok"
    SHORT = "short"
    NONE = "-"
    """There is no goal: a peer's figure, or a ratio that is only reported."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the goals."""

    what: str
    goal: str
    """In words, as the goal stands; empty = none."""
    figure: str
    """With its unit, and beside it the peer's of the same run as a ratio, where there is a peer."""
    met: Met
    samples: int = 0
    note: str = ""
    """What stands behind the figure: where the time goes, its parts, what is different in the quick run."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of docs/benchmarks.md; the first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: str = ""
    """What a reader should see in it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark has found."""

    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A benchmark that came to no end; `why` is its last line."""

    why: str


Findings = Generator[tuple[str, Report | Failed], None, None]
"""What a run finds, piece by piece: the benchmark's name and its report."""


def told(goal: Goal, figure: str, met: Met, samples: int = 0, note: str = "") -> Figure:
    """A figure in words of its own."""
    return Figure(goal.what, goal.words, figure, met, samples, note)


def at_most(
    goal: Goal,
    value: float,
    unit: str,
    samples: int,
    note: str = "",
    beside: str = "",
    limit: float | None = None,
) -> Figure:
    """A figure that must not be above its goal's limit; `beside` is what the peers do.

    `limit`: where the goal has none of its own.
    """
    met = Met.OK if value <= _limit(goal, limit) else Met.SHORT
    return told(goal, _in_words(value, unit, beside), met, samples, note)


def at_least(goal: Goal, value: float, unit: str, samples: int, note: str = "", beside: str = "") -> Figure:
    """A figure that must not be below its goal's limit; `beside` is what the peers do."""
    met = Met.OK if value >= _limit(goal) else Met.SHORT
    return told(goal, _in_words(value, unit, beside), met, samples, note)


def _limit(goal: Goal, given: float | None = None) -> float:
    limit = goal.limit if given is None else given
    if limit is None:
        raise ValueError(f"no limit is known for {goal.what!r}")
    return limit


def _in_words(value: float, unit: str, beside: str) -> str:
    number = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}" + (f"; {beside}" if beside else "")
