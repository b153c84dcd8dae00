"""Reads tickets and slips, whole or torn, from the lines on one printer's papers. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MARKS: Final = ("POSSIBLE DUPLICATE", "REPRINT -", "MOVED -")
"""Beginnings of headings that say that another copy exists or may exist. They stand above all other lines."""
FURTHER: Final = 100_000
"""The guests of queue number n sit at table n, and move to table n + FURTHER."""


class Kind(StrEnum):
    """The kinds of slips, as in `kps.slip.kind`."""

    VOID = "void"
    CANCELLED = "cancelled"
    MOVED = "moved"
    OUTAGE = "outage"
    CATCH_UP = "catch_up"


CHANGES: Final = frozenset({Kind.VOID, Kind.CANCELLED, Kind.MOVED})
"""Slips about changes by guests and waiters. The others are about printers."""
_TITLES: Final = {"VOID": Kind.VOID, "CANCELLED": Kind.CANCELLED, "TABLE CHANGED": Kind.MOVED}
_ORDERS: Final = ("DO NOT COOK", "KEEP COOKING")
"""A line below the place on slips, and on no ticket."""
_RULE: Final = "---"
_QUEUE: Final = re.compile(r"QUEUE (\d+)")
_TABLE: Final = re.compile(r"TABLE (\d+)")
_MOVE: Final = re.compile(r"T(\d+) -> T\d+")
_ITEM: Final = re.compile(r"(?:\[ \] )?\d+ x (.+)")
_CHAIN: Final = re.compile(r"#(\d+) .+")
"""The line below an item on a slip that says which ticket it is on."""
_CODE: Final = re.compile(r"#(\d+)")
_SLIP: Final = re.compile(r"slip #(\d+)")
_IMAGE: Final = "[image "


@dataclass(frozen=True, slots=True)
class Piece:
    """A ticket on paper, or the first part of one whose printing was broken off."""

    printer: str
    queue: int
    """The number that stands on top of every ticket; each has its own."""
    whole: bool
    """Whether its last line, the ticket's code, is there."""
    marked: bool
    table: int = 0
    """The table on it; 0 = none."""
    dishes: tuple[str, ...] = ()
    """Dishes that are printed as text."""
    drawn: bool = False
    """Whether it has a picture."""
    at_picture: bool = False
    """Whether it ends at the rule above its items or at a picture, with no other item or rule after that."""


@dataclass(frozen=True, slots=True)
class SlipPiece:
    """A slip on paper, or the first part of one."""

    printer: str
    kind: Kind | None
    """None if its title is missing."""
    station: str
    """The station, in small letters; empty if the slip was torn above it."""
    place: int
    """Queue number, or for a moved bill its old table; 0 if the slip was torn above it or has none."""
    marked: bool
    id: int = 0
    """Id in `kps.slip`, the last line; 0 = the slip is torn."""
    numbers: tuple[int, ...] = ()
    """For each item the number of its ticket at the station."""


@dataclass(slots=True)
class _Open:
    """A ticket or slip of which the last line has not been read yet."""

    marked: bool
    kind: Kind | None = None
    """Kind of the slip; None = it is a ticket."""
    station: str = ""
    place: int = 0
    table: int = 0
    ordered: bool = False
    """Whether the slip's instruction was read: the place above it then belongs to the slip."""
    dishes: list[str] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    drawn: bool = False
    begun: bool = False
    """The rule above the items has been read."""
    at_picture: bool = False


class _Reader:
    """Reads one paper. A torn ticket or slip is not cut off from what follows it, so their ends must be guessed."""

    def __init__(self, printer: str) -> None:
        self.found: list[Piece | SlipPiece] = []
        self._printer = printer
        self._marked = False
        self._table = 0
        self._open: _Open | None = None

    def read(self, line: str) -> None:
        if line.startswith(MARKS):
            self.torn()
            self._marked = True
        elif kind := _kind(line):
            self.torn()
            self._begin(kind)
        elif match := _SLIP.fullmatch(line):
            self._end_slip(int(match[1]))
        elif match := _TABLE.fullmatch(line):
            self._table = int(match[1])
        elif match := _MOVE.fullmatch(line) or _QUEUE.fullmatch(line):
            self._place(int(match[1]))
        elif _CODE.fullmatch(line):
            self._end_ticket()
        elif self._open is not None and line:
            self._read_inside(self._open, line)

    def torn(self) -> None:
        """The open ticket or slip is torn: it ends here."""
        if (one := self._open) is not None:
            self.found.append(self._slip(one) if one.kind else self._ticket(one, whole=False))
        self._open = None

    def _begin(self, kind: Kind | None = None) -> _Open:
        self._open = _Open(self._marked, kind)
        self._marked = False
        return self._open

    def _place(self, number: int) -> None:
        """A place was read. A slip has at most one; any other begins a ticket."""
        one = self._open
        if one is None or one.place:
            self.torn()
            one = self._begin()
            one.table = self._table_of(number)
        one.place = number

    def _table_of(self, number: int) -> int:
        """The table that was read last, if it may belong to this queue number."""
        return self._table if self._table % FURTHER == number else 0

    def _read_inside(self, one: _Open, line: str) -> None:
        if line in _ORDERS:
            one.ordered = True
        elif one.kind and one.place and not one.ordered and line.startswith(_RULE):
            # No slip continues like that: it was torn above its place, and this place belongs to the next ticket.
            self.found.append(SlipPiece(self._printer, one.kind, "", 0, one.marked))
            self._open = _Open(marked=False, place=one.place, table=self._table_of(one.place))
            self._read_inside(self._open, line)
        elif line.startswith(_RULE):
            one.at_picture = not one.begun
            one.begun = True
        elif line.startswith(_IMAGE):
            one.drawn = one.at_picture = True
        elif one.kind in CHANGES and not one.station:
            one.station = line.lower()
        elif match := _CHAIN.fullmatch(line):
            one.numbers.append(int(match[1]))
        elif match := _ITEM.fullmatch(line):
            one.at_picture = False
            one.dishes.append(match[1])

    def _end_slip(self, number: int) -> None:
        if self._open is not None and self._open.kind is None:
            self.torn()
        one = self._open or self._begin()
        self.found.append(self._slip(one, number))
        self._open = None

    def _end_ticket(self) -> None:
        if self._open is not None and self._open.kind is None:
            self.found.append(self._ticket(self._open, whole=True))
            self._open = None

    def _ticket(self, one: _Open, *, whole: bool) -> Piece:
        dishes = tuple(one.dishes)
        return Piece(self._printer, one.place, whole, one.marked, one.table, dishes, one.drawn, one.at_picture)

    def _slip(self, one: _Open, number: int = 0) -> SlipPiece:
        return SlipPiece(
            self._printer, one.kind, one.station, one.place, one.marked, number, tuple(one.numbers)
        )  # fmt: skip


def read(printer: str, texts: Iterable[str]) -> list[Piece | SlipPiece]:
    """The tickets and slips on the papers of one printer, in the order in which they came out.

    A text has `[image 576 x 30]` where a picture is. A paper may hold several tickets and slips: one that was torn is
    not cut off from the next. What was torn above its number, or a slip above its title, is nobody's and left out.
    """
    found = []
    for text in texts:
        reader = _Reader(printer)
        for line in map(str.strip, text.splitlines()):
            reader.read(line)
        reader.torn()
        found += reader.found
    return found


def _kind(line: str) -> Kind | None:
    """Which slip begins with this line."""
    if line.endswith("PRINTS AGAIN"):
        return Kind.CATCH_UP
    return Kind.OUTAGE if " CANNOT" in line else _TITLES.get(line)
