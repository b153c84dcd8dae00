"""What a benchmark says: figures held against goals, and tables beside them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    """Where the time goes, and what was tried, if the goal is missed."""


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


def at_most(what: str, goal: str, value: float, limit: float, unit: str, samples: int, note: str = "") -> Figure:
    """A figure that must not be above its limit."""
    met = Met.OK if value <= limit else Met.SHORT
    return Figure(what, goal, f"{value:.3g} {unit}", met, samples, note)


def at_least(what: str, goal: str, value: float, limit: float, unit: str, samples: int, note: str = "") -> Figure:
    """A figure that must not be below its limit."""
    met = Met.OK if value >= limit else Met.SHORT
    return Figure(what, goal, f"{value:.3g} {unit}", met, samples, note)
