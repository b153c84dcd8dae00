"""The piece of paper that is coming out, and the work that the mechanism does on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kps.demo.virtual_printer.buffers import Origin
from kps.demo.virtual_printer.decoder import Command
from kps.demo.virtual_printer.records import EndedBy, Line, Paper, Raster


@dataclass(frozen=True, slots=True)
class PrintLine:
    """Print one line of text."""

    line: Line
    origin: Origin
    raw: bytes

    @property
    def rows(self) -> int:
        """Dot rows of paper that this moves."""
        return self.line.rows


@dataclass(frozen=True, slots=True)
class PrintRaster:
    """Print one bitmap."""

    image: Raster
    origin: Origin
    raw: bytes

    @property
    def rows(self) -> int:
        """Dot rows of paper that this moves."""
        return self.image.rows


@dataclass(frozen=True, slots=True)
class Feed:
    """Move the paper."""

    rows: int
    origin: Origin
    raw: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut. `spoiled`: something of this paper was lost, or came out as garbage."""

    origin: Origin
    raw: bytes
    spoiled: bool
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a question that stands behind print data."""

    command: Command
    connection: int
    rows: int = 0


Work = PrintLine | PrintRaster | Feed | Cut | Answer


class Sheet:
    """The uncut paper below the print head."""

    def __init__(self) -> None:
        self._origin: Origin | None = None
        self._connections: list[int] = []
        self._lines: list[Line] = []
        self._raster: list[Raster] = []
        self._raw = bytearray()
        self._rows = 0
        self._t_first_dot: float | None = None
        self._held = False
        self._damaged = False

    @property
    def blank(self) -> bool:
        """Whether nothing has moved this paper yet."""
        return self._origin is None

    def begin(self, work: PrintLine | PrintRaster | Feed | Cut, now: float, stops: int) -> None:
        """Note that the mechanism starts on this work. `stops`: how often the printer has been stopped so far."""
        if self._origin is None or work.origin.t < self._origin.t:
            self._origin = work.origin
        if work.origin.connection not in self._connections and not isinstance(work, Cut):
            self._connections.append(work.origin.connection)
        if work.origin.stops < stops:
            self._held = True
        if self._t_first_dot is None and isinstance(work, (PrintLine, PrintRaster)):
            self._t_first_dot = now

    def hold(self) -> None:
        """Note that the printer was stopped in the middle of its work on this paper."""
        self._held = True

    def damage(self) -> None:
        """Note that something of this paper is lost."""
        self._damaged = True

    def finish(self, work: PrintLine | PrintRaster | Feed | Cut) -> None:
        """Put finished work on the paper."""
        match work:
            case PrintLine(line):
                self._lines.append(replace(line, row=self._rows))
            case PrintRaster(image):
                self._raster.append(replace(image, row=self._rows))
            case _:
                pass
        self._rows += work.rows
        self._raw += work.raw

    def tear_off(self, sequence: int, printer: str, ended_by: EndedBy, t_cut: float | None, spoiled: bool) -> Paper:
        """The record of this paper. It must not be blank."""
        assert self._origin is not None
        return Paper(
            sequence=sequence,
            printer=printer,
            connection=self._connections[0] if self._connections else self._origin.connection,
            connections=tuple(self._connections) or (self._origin.connection,),
            lines=tuple(self._lines),
            raster=tuple(self._raster),
            raw=bytes(self._raw),
            t_first_byte=self._origin.t,
            t_first_dot=self._t_first_dot,
            t_cut=t_cut,
            held=self._held,
            complete=ended_by is EndedBy.CUT and not spoiled and not self._damaged,
            ended_by=ended_by,
            rows=self._rows,
        )
