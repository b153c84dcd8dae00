"""The records of a virtual printer: papers, and events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Align(StrEnum):
    """Where a line stands."""

    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring characters of one look. `width` and `height` are multipliers from 1 to 8."""

    text: str
    width: int = 1
    height: int = 1
    bold: bool = False
    inverse: bool = False
    underline: bool = False
    font: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line of text; a feed by lines leaves blank ones. `row` is its first dot row on the paper."""

    spans: tuple[Span, ...] = ()
    align: Align = Align.LEFT
    rows: int = 30
    row: int = 0

    @property
    def text(self) -> str:
        """The characters as printed, without their look."""
        return "".join(span.text for span in self.spans)

    @property
    def width(self) -> int:
        """The widest multiplier in the line."""
        return max((span.width for span in self.spans), default=1)

    @property
    def height(self) -> int:
        """The highest multiplier in the line."""
        return max((span.height for span in self.spans), default=1)

    @property
    def bold(self) -> bool:
        """Whether anything in the line is bold."""
        return any(span.bold for span in self.spans)

    @property
    def inverse(self) -> bool:
        """Whether anything in the line is white on black."""
        return any(span.inverse for span in self.spans)


@dataclass(frozen=True, slots=True)
class Raster:
    """A printed bitmap: `data` holds `height` rows of `width_bytes` bytes, the highest bit leftmost, 1 = black.

    A record that was slimmed has no `data` any more.
    """

    width_bytes: int
    height: int
    data: bytes
    rows: int
    """Dot rows on paper; twice the height if the mode doubles it."""
    row: int = 0
    scale: int = 1
    """Dots on paper for one dot of a row; 2 if the mode doubles the width."""
    align: Align = Align.LEFT

    @property
    def text(self) -> str:
        """The text that stands for the bitmap."""
        return f"[image {self.width_bytes * 8} x {self.height}]"


class EndedBy(StrEnum):
    """How a paper ended."""

    CUT = "cut"
    POWER_LOSS = "power_loss"
    CLEAR = "clear"
    STOPPED = "stopped"
    """The virtual printer itself was stopped."""


@dataclass(frozen=True, slots=True)
class Paper:
    """One piece of paper. Times are those of the printer's clock (`time.monotonic()` for VirtualPrinter)."""

    sequence: int
    """1 for the first paper of this printer."""
    printer: str
    connection: int
    """The connection that printed first on it; connections count from 1."""
    connections: tuple[int, ...]
    """All that printed on it, in the order of their first trace."""
    lines: tuple[Line, ...]
    raster: tuple[Raster, ...]
    raw: bytes
    """The commands that shaped this paper; questions and real-time commands are left out."""
    t_first_byte: float
    """Arrival of the first byte that left a trace here."""
    t_first_dot: float | None
    t_cut: float | None
    held: bool
    """Printed, at least in part, only after the printer had been stopped (paper, cover, error)."""
    complete: bool
    """The cut was reached, nothing was lost on the way, and no command came out as text."""
    ended_by: EndedBy
    rows: int = 0
    """Its length in dot rows."""

    @property
    def parts(self) -> list[Line | Raster]:
        """Lines and bitmaps in the order in which they stand on the paper."""
        return sorted([*self.lines, *self.raster], key=lambda part: part.row)

    @property
    def text(self) -> str:
        """The lines of text in order, without blank lines at the end."""
        return "\n".join(line.text for line in self.lines).rstrip("\n")

    @property
    def shown(self) -> str:
        """The same with `[image 576 x 30]` where a bitmap stands."""
        return "\n".join(part.text for part in self.parts).rstrip("\n")


class EventKind(StrEnum):
    """The kinds of events."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    BYTES_IN = "bytes_in"
    COMMAND = "command"
    REALTIME = "realtime"
    UNKNOWN = "unknown"
    """A command or code page that this printer does not know."""
    REPLY = "reply"
    REPLY_LOST = "reply_lost"
    """An answer for which there was no connection, or which a silent printer kept to itself."""
    SENSOR = "sensor"
    COUNTER = "counter"
    """The counter of cuts has changed."""
    LOST = "lost"
    """Data that will never be printed."""
    PAPER = "paper"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, in time order. `connection` is 0 where none is concerned."""

    t: float
    kind: EventKind
    connection: int
    text: str
    data: bytes = b""
    """First bytes of the command, or the whole reply."""
    size: int = 0
    """Bytes received, lost or consumed."""
