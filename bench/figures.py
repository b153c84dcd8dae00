"""The results of benchmarks: figures with their goals, and tables."""

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
    """No goal, or too few samples to judge."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of goals."""

    what: str
    goal: str
    """In words, as the goal stands; empty = none."""
    figure: str
    """The value with its unit; then, where there is a peer, its value or ratio in the same run."""
    met: Met
    samples: int = 0
    note: str = ""
    """Details: where the time goes, parts of the figure, differences in the quick run."""


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
    """A benchmark that failed; `why` is the last line of its output."""

    why: str


Findings = Generator[tuple[str, Report | Failed], None, None]
"""The findings of a run one by one: the benchmark's name and its report."""


def stated(goal: Goal, figure: str, met: Met, samples: int = 0, note: str = "") -> Figure:
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
    """A figure that must not be above its goal's limit; `beside` is about the peers.

    `limit`: where the goal has none of its own.
    """
    met = Met.OK if value <= _limit(goal, limit) else Met.SHORT
    return stated(goal, _value_in_words(value, unit, beside), met, samples, note)


def at_least(goal: Goal, value: float, unit: str, samples: int, note: str = "", beside: str = "") -> Figure:
    """A figure that must not be below its goal's limit; `beside` is about the peers."""
    met = Met.OK if value >= _limit(goal) else Met.SHORT
    return stated(goal, _value_in_words(value, unit, beside), met, samples, note)


def _limit(goal: Goal, given: float | None = None) -> float:
    limit = goal.limit if given is None else given
    if limit is None:
        raise ValueError(f"no limit is known for {goal.what!r}")
    return limit


def _value_in_words(value: float, unit: str, beside: str) -> str:
    number = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}" + (f"; {beside}" if beside else "")
