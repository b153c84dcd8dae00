"""The findings of the benchmarks as lines for a terminal and as docs/benchmarks.md."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.figures import Failed, Figure, Met, Report, Table, stated
from bench.goals import Goal
from bench.plot import DrawnReport, svg
from kps.demo.postgres import EmbeddedPostgres

PEERS = """\
The peers, measured in the same run: **(a)** the usual design, `bench/naive.py`: one loop that polls every 2 s, takes up
to ten tickets, connects, sends, closes, marks, and rests 0.5 s between two; **(b)** the same every 100 ms without a
rest; **(c)** CUPS with raw socket queues, from `lp` to the cut, which knows no database; **(d)** python-escpos'
`Network` in a plain loop without a database, the ceiling of its transport. p50 is the middle one of n samples, p99 what
one in a hundred is above. None of the peers knows leases, a second instance or a printer's state, and only (a) and (b)
know a database: where no peer stands beside a figure, none of them does that."""
PICTURES = "benchmarks"
"""Folder of the pictures, beside the page."""


Found = Mapping[str, Report | Failed]
"""By module, in the order of the run."""


def lines(figures: Sequence[Figure]) -> str:
    """A line for each: met or not, what, figure, goal, samples; below a missed one its note."""
    rows = []
    for figure in figures:
        samples = f", n = {figure.samples}" if figure.samples else ""
        goal = f" (goal {figure.goal}{samples})" if figure.goal else f" ({samples[2:]})" if samples else ""
        rows.append(f"{figure.met.value:6}{figure.what}: {figure.figure}{goal}")
        if figure.met is Met.SHORT and figure.note:
            rows.append(f"      | {figure.note}")
    return "\n".join(rows)


def show(report: Report) -> None:
    """Print a report: its figures with their notes, then its tables."""
    for figure in report.figures:
        print(lines([figure]))
        if figure.met is not Met.SHORT and figure.note:
            print(f"      | {figure.note}")
    for table in report.tables:
        print("\n" + _as_text(table))


def missing(found: Found) -> list[Figure]:
    """A missed figure for each goal that was not measured, so that none is left out."""
    have = {figure.what for report in found.values() if isinstance(report, Report) for figure in report.figures}
    why = "; ".join(f"{name} did not end well: {one.why}" for name, one in found.items() if isinstance(one, Failed))
    words = f"not measured: {why}" if why else "not measured"
    return [stated(goal, words, Met.SHORT) for goal in Goal if goal.what not in have]


def machine() -> str:
    """The machine, as far as it matters for the figures."""
    return f"{len(os.sched_getaffinity(0))} cores, PostgreSQL {EmbeddedPostgres().version}"


Notes = Mapping[str, str]
"""What was tried, by the words of the goal that is missed."""


def notes_of(text: str) -> Notes:
    """The sections of bench/notes.md. Raises ValueError if a heading is no goal's words."""
    found: dict[str, str] = {}
    for section in text.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        if heading not in {goal.what for goal in Goal}:
            raise ValueError(f"bench/notes.md: no goal is called {heading!r}")
        found[heading] = body.strip()
    return found


def write(folder: Path, found: Found, sections: Mapping[str, str], notes: Notes, capacity: str, run: str) -> None:
    """Write the page and its pictures.

    `sections` are the modules' titles, `capacity` is the text at the end, `run` says how the run went.
    """
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    for report in found.values():
        if isinstance(report, DrawnReport):
            for picture in report.pictures:
                (pictures / f"{picture.name}.svg").write_text(svg(picture), "utf-8")
    (folder / "benchmarks.md").write_text(page(found, sections, notes, capacity, run), "utf-8")


def page(found: Found, sections: Mapping[str, str], notes: Notes, capacity: str, run: str) -> str:
    """The text of docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        f"Written by `make bench` on a machine with {machine()}, {run}. Database, printers, tills and service "
        "share its cores; PostgreSQL writes durably (fsync on); the printers are virtual ones on loopback. "
        "`make bench-quick` prints the same goals in a minute, from fewer samples, some of them from fewer rows or "
        "printers.",
        PEERS,
        "## Goals",
        _markdown(_goals(found)),
        *_missed(found, notes),
    ]
    for module, title in sections.items():
        report = found.get(module)
        if isinstance(report, Report):
            parts += _section(title, report)
    return "\n\n".join([*parts, capacity.strip()]) + "\n"


def _goals(found: Found) -> Table:
    """The table of goals, in their order."""
    figures = {
        figure.what: figure for report in found.values() if isinstance(report, Report) for figure in report.figures
    }
    figures |= {figure.what: figure for figure in missing(found)}
    rows = []
    for goal in Goal:
        figure = figures[goal.what]
        samples = str(figure.samples) if figure.samples else ""
        met = f"**{figure.met.value}**" if figure.met is Met.SHORT else figure.met.value
        rows.append((figure.what, figure.goal, figure.figure, met, samples))
    return Table("", ("what", "goal", "figure", "met", "n"), tuple(rows))


def _missed(found: Found, notes: Notes) -> list[str]:
    """The section about missed goals: where the time goes, and what was tried."""
    figures = [figure for report in found.values() if isinstance(report, Report) for figure in report.figures]
    parts = []
    for figure in figures:
        if figure.met is Met.SHORT:
            words = [f"**{figure.what}: {figure.figure}** (goal {figure.goal}).", _sentence(figure.note)]
            parts.append(" ".join(filter(None, [*words, notes.get(figure.what, "")])))
    return ["## Where a goal is missed", *parts] if parts else []


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}." if note else ""


def _section(title: str, report: Report) -> list[str]:
    parts = []
    if isinstance(report, DrawnReport):
        for picture in report.pictures:
            parts += [f"![{picture.title}]({PICTURES}/{picture.name}.svg)", picture.text]
    for table in report.tables:
        parts += [f"### {table.title}", table.text, _markdown(table)]
    parts.append("\n".join(_remarks(report.figures)))
    filled = [part for part in parts if part]
    return [f"## {title}", *filled] if filled else []


def _remarks(figures: Sequence[Figure]) -> Iterator[str]:
    """The notes of figures that are not missed, and figures without a goal."""
    goals = {goal.what for goal in Goal}
    for figure in figures:
        alone = f"{figure.what}: {figure.figure}" if figure.what not in goals else figure.what
        if figure.met is not Met.SHORT and (figure.note or figure.what not in goals):
            yield f"- {alone}" + (f": {figure.note}" if figure.note and figure.what in goals else
                                  f" ({figure.note})" if figure.note else "")  # fmt: skip


def _markdown(table: Table) -> str:
    rows = [table.header, tuple("---" if place == 0 else "---:" for place in range(len(table.header))), *table.rows]
    if "figure" in table.header:
        rows[1] = ("---",) * len(table.header)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _as_text(table: Table) -> str:
    widths = [max(len(row[place]) for row in (table.header, *table.rows)) for place in range(len(table.header))]
    rows = [_aligned(row, widths) for row in (table.header, *table.rows)]
    return "\n".join([table.title, *rows, *([table.text] if table.text else [])])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()
