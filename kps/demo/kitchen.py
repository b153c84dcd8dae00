"""The demo's printers, what came out of them, and which ticket each paper belongs to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from kps.demo.shop import PrinterSeed
from kps.demo.virtual_printer import Paper, Speed, VirtualPrinter, picture

RAW_KEPT: Final = 50
"""So many papers of each printer keep their bytes. All keep their text."""
_TICKET = re.compile(r"^#(\d+)$", re.MULTILINE)
_MARK = re.compile(r"POSSIBLE\s+DUPLICATE|MOVED\s+-\s+PART|REPRINT")
_BACKUP = re.compile(r"BACKUP\s+FOR")


@dataclass(frozen=True, slots=True)
class Place:
    """A printer of the demo: its station, its rank there (1 = first choice), and its profile."""

    name: str
    station: str
    priority: int = 1
    profile: str = "epson-t20iii"
    """Profile of the virtual printer."""
    level: str = "process_id+pushes+clears"
    """What a probe would have found, as in PROOF_LEVELS; empty = it was not probed."""


PLACES: Final = (
    Place("kitchen-1", "kitchen"),
    Place("kitchen-2", "kitchen", 2),
    Place("bar-1", "bar"),
    Place("dessert-1", "dessert", profile="generic", level="fence+pushes"),
    Place("checker-1", "checker", profile="generic", level=""),
)
PROOF_LEVELS: Final = ",".join(f"{place.name}={place.level}" for place in PLACES if place.level)
"""The setting PROOF_LEVELS. It replaces probes, which need a person at the printer."""
FRAIL: Final = "kitchen-1"
"""The printer that runs out of paper: it has a backup."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One paper of one ticket. `t` is the `time.monotonic()` at which its first byte arrived at the printer."""

    ticket: int
    printer: str
    t: float
    marked: bool
    """Whether the paper says that another copy may exist."""
    backup: bool
    """Whether the paper says that it comes from a backup printer."""


@dataclass(slots=True)
class Papers:
    """Every copy seen so far, by ticket."""

    copies: dict[int, list[Copy]] = field(default_factory=dict)

    def add(self, copy: Copy) -> None:
        """Note one more copy."""
        self.copies.setdefault(copy.ticket, []).append(copy)

    def of(self, ticket: int) -> list[Copy]:
        """The copies of a ticket in the order in which they began."""
        return sorted(self.copies.get(ticket, ()), key=lambda copy: copy.t)

    def first_byte(self, ticket: int) -> float | None:
        """When the first copy began; None if there is none."""
        copies = self.of(ticket)
        return copies[0].t if copies else None


class Kitchen:
    """The printers, each a thread of this process on a port of its own. A context manager."""

    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._stack = ExitStack()
        self._seen: dict[str, int] = {}
        self.printers: dict[str, VirtualPrinter] = {}
        self.papers = Papers()

    def __enter__(self) -> Kitchen:
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            for place in PLACES:
                printer = VirtualPrinter(name=place.name, profile=place.profile, speed=self._speed, keep_raw=RAW_KEPT)
                self.printers[place.name] = self._stack.enter_context(printer)
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def seeds(self) -> list[PrinterSeed]:
        """Their printer rows for the POS's database."""
        return [
            PrinterSeed(
                self.printers[place.name].host,
                self.printers[place.name].port,
                place.station,
                place.priority,
                place.name,
            )
            for place in PLACES
        ]

    def stop(self) -> None:
        """Switch all printers off; what they have printed stays readable."""
        self._stack.close()

    def collect(self) -> list[Copy]:
        """Read the papers that came out since the last call."""
        fresh = [copy for name, printer in self.printers.items() for copy in self._fresh(name, printer)]
        for copy in fresh:
            self.papers.add(copy)
        return fresh

    def _fresh(self, name: str, printer: VirtualPrinter) -> Iterator[Copy]:
        papers = printer.papers
        for paper in papers[self._seen.get(name, 0) :]:
            found = _TICKET.findall(paper.text)
            if found:
                marked = _MARK.search(paper.text) is not None
                backup = _BACKUP.search(paper.text) is not None
                yield Copy(int(found[-1]), name, paper.t_first_byte, marked, backup)
        self._seen[name] = len(papers)

    def counts(self) -> dict[str, int]:
        """Papers by printer."""
        return {name: len(printer.papers) for name, printer in self.printers.items()}

    def write_papers(self, folder: Path) -> None:
        """Every paper as a text file: `<folder>/<printer>/<number>.txt`."""
        for name, printer in self.printers.items():
            place = folder / name
            place.mkdir(parents=True)
            for paper in printer.papers:
                (place / f"{paper.sequence:04d}.txt").write_text(_as_text(paper, printer.settings.columns), "utf-8")


def _as_text(paper: Paper, columns: int) -> str:
    return "".join(f"{line}\n" for line in picture(paper, columns))
