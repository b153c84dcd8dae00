"""What the benchmarks have found, as lines for a terminal and as docs/benchmarks.md."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, Met, Report, Table
from bench.plot import DrawnReport, svg
from kps.demo.postgres import EmbeddedPostgres

PICTURES = "benchmarks"
"""Folder of the pictures, beside the page."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A benchmark that came to no end; `why` is its last line."""

    why: str


Found = Mapping[str, Report | Failed]
"""By module, in the order of the run."""


def line(figure: Figure) -> str:
    """One line for a terminal."""
    goal = f" (goal {figure.goal})" if figure.goal else ""
    samples = f", n = {figure.samples}" if figure.samples else ""
    note = f"; {figure.note}" if figure.note else ""
    return f"{figure.met.value:6}{figure.what}: {figure.figure}{goal}{samples}{note}"


def show(report: Report) -> None:
    """Print a report: its figures, then its tables."""
    for figure in report.figures:
        print(line(figure))
    for table in report.tables:
        print("\n" + _plain(table))


def machine() -> str:
    """The machine, as far as figures need it."""
    return f"{len(os.sched_getaffinity(0))} cores, PostgreSQL {EmbeddedPostgres().version}"


def write(folder: Path, found: Found, sections: Mapping[str, str], capacity: str) -> None:
    """Write the page and its pictures. `sections` are the modules' titles, `capacity` is the text at the end."""
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    for report in found.values():
        if isinstance(report, DrawnReport):
            for picture in report.pictures:
                (pictures / f"{picture.name}.svg").write_text(svg(picture), "utf-8")
    (folder / "benchmarks.md").write_text(page(found, sections, capacity), "utf-8")


def page(found: Found, sections: Mapping[str, str], capacity: str) -> str:
    """The text of docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        f"Written by `make bench` on a machine with {machine()}. Database, printers, tills and service share its "
        "cores; PostgreSQL writes durably (fsync on); the printers are virtual ones on loopback; peers are measured in "
        "the same run. `make bench-quick` prints the same figures from fewer samples.",
        "## Goals",
        _markdown(_goals(found)),
    ]
    parts += _missed(found)
    for module, report in found.items():
        if isinstance(report, Report):
            parts += _section(sections[module], report)
    return "\n\n".join([*parts, capacity.strip()]) + "\n"


def _goals(found: Found) -> Table:
    rows = []
    for module, report in found.items():
        if isinstance(report, Failed):
            rows.append((module, "", f"did not end well: {report.why}", Met.SHORT.value, ""))
            continue
        for figure in report.figures:
            samples = str(figure.samples) if figure.samples else ""
            rows.append((figure.what, figure.goal, figure.figure, figure.met.value, samples))
    return Table("", ("what", "goal", "figure", "", "n"), tuple(rows))


def _missed(found: Found) -> list[str]:
    """Where a goal is missed: where the time goes, and what was tried."""
    figures = [figure for report in found.values() if isinstance(report, Report) for figure in report.figures]
    notes = [f"- {figure.what}: {figure.note}" for figure in figures if figure.met is Met.SHORT and figure.note]
    return ["### Where a goal is missed", "\n".join(notes)] if notes else []


def _section(title: str, report: Report) -> list[str]:
    parts = []
    if isinstance(report, DrawnReport):
        for picture in report.pictures:
            parts += [f"![{picture.title}]({PICTURES}/{picture.name}.svg)", picture.text]
    for table in report.tables:
        parts += [f"### {table.title}", table.text, _markdown(table)]
    notes = [
        f"- {figure.what}: {figure.note}" for figure in report.figures if figure.note and figure.met is not Met.SHORT
    ]
    parts.append("\n".join(notes))
    filled = [part for part in parts if part]
    return [f"## {title}", *filled] if filled else []


def _markdown(table: Table) -> str:
    rows = [table.header, tuple("---" if place == 0 else "---:" for place in range(len(table.header))), *table.rows]
    if "figure" in table.header:
        rows[1] = ("---",) * len(table.header)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _plain(table: Table) -> str:
    widths = [max(len(row[place]) for row in (table.header, *table.rows)) for place in range(len(table.header))]
    rows = [_aligned(row, widths) for row in (table.header, *table.rows)]
    return "\n".join([table.title, *rows, *([table.text] if table.text else [])])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()
