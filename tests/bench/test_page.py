"""The page of the benchmarks: every goal has its line, and one that is missed or not measured says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.__main__ import DOCS, NOTES, SECTIONS
from bench.figures import Failed, Met, Report, Table, at_least, at_most, stated
from bench.goals import Goal
from bench.report import notes_of, write

LOWER_IS_BETTER = [goal for goal in Goal if goal.limit is not None and goal.words.startswith(("<=", "within"))]
HIGHER_IS_BETTER = [goal for goal in Goal if goal.limit is not None and goal.words.startswith(">=")]


def written(folder: Path, found: Mapping[str, Report | Failed]) -> str:
    write(folder, found, SECTIONS, notes_of(NOTES.read_text("utf-8")), "## Capacity", "in 1 s")
    return (folder / "benchmarks.md").read_text("utf-8")


def goals_of(page: str) -> dict[str, str]:
    """What is in column `met`, by what was measured."""
    table = page.split("## Goals\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()]
    return {row[0]: row[3] for row in rows[2:]}


def test_a_goal_that_nobody_measured_is_short_and_says_why(tmp_path: Path) -> None:
    page = written(tmp_path, {"many": Failed("not done after 400 s")})
    assert goals_of(page) == {goal.what: "**short**" for goal in Goal}
    assert page.count("not measured: many did not end well: not done after 400 s") == len(Goal)


@pytest.mark.parametrize("goal", LOWER_IS_BETTER, ids=lambda goal: goal.name)
def test_a_figure_above_its_goal_is_short_in_the_table_and_explained_below_it(goal: Goal, tmp_path: Path) -> None:
    assert goal.limit is not None
    report = Report((at_most(goal, goal.limit * 1.01, "ms", 9, "the disk was slow"),))
    page = written(tmp_path, {"latency": report})
    assert goals_of(page)[goal.what] == "**short**"
    assert re.search(rf"^\*\*{re.escape(goal.what)}: .*The disk was slow\.", page, re.MULTILINE)
    assert at_most(goal, goal.limit, "ms", 9).met is Met.OK


@pytest.mark.parametrize("goal", HIGHER_IS_BETTER, ids=lambda goal: goal.name)
def test_a_figure_below_its_goal_is_short(goal: Goal) -> None:
    assert goal.limit is not None
    assert at_least(goal, goal.limit * 0.99, "x", 9).met is Met.SHORT
    assert at_least(goal, goal.limit, "x", 9).met is Met.OK


def test_a_goal_says_the_same_in_words_and_as_a_number() -> None:
    for goal in Goal:
        if goal.limit is not None and not goal.words.startswith("within"):
            assert f"{goal.limit:g}" in re.findall(r"[\d.]+", goal.words), goal


def test_the_goals_stand_in_their_order_and_each_section_below_them(tmp_path: Path) -> None:
    figures = tuple(stated(goal, "1 ms", Met.OK, 5, "a note") for goal in reversed(Goal))
    page = written(tmp_path, {"start": Report(figures, (Table("Starts", ("", "s"), (("exec", "1"),)),))})
    assert list(goals_of(page)) == [goal.what for goal in Goal]
    assert "## Start\n\n### Starts\n\n|  | s |\n| --- | ---: |\n| exec | 1 |" in page
    assert "Where a goal is missed" not in page


def test_the_page_that_is_there_has_this_form() -> None:
    page = (DOCS / "benchmarks.md").read_text("utf-8")
    assert re.match(r"# Benchmarks\n\nWritten by `make bench` on a machine with .*\n", page)
    assert set(goals_of(page).values()) <= {"ok", "**short**", "-"}
