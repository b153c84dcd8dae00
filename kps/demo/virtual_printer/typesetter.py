"""Text bytes and print modes -> lines, wrapped and decoded as the device would."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from kps.demo.virtual_printer.decoder import Command, Kind
from kps.demo.virtual_printer.records import Align, Line, Span
from kps.demo.virtual_printer.settings import Settings

LINE_ROWS = 30
"""Dot rows of the lines that a speed in lines a second is about."""
CELL_ROWS = 24
"""Height of a character of font A."""
_TAB_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class Style:
    """Everything that decides how the next byte of text looks."""

    page: int = 0
    kanji: bool = False
    width: int = 1
    height: int = 1
    bold: bool = False
    double_strike: bool = False
    underline: bool = False
    inverse: bool = False
    font: int = 0


class Typesetter:
    """The line buffer and the modes in force."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """The state after power-on and `ESC @`: default modes, nothing in the line."""
        self._style = Style(kanji=self._settings.kanji_default)
        self._align = Align.LEFT
        self._spacing = self._settings.line_rows
        self._pieces: list[tuple[Style, bytearray]] = []

    @property
    def align(self) -> Align:
        """Where the next line or bitmap stands."""
        return self._align

    @property
    def pending(self) -> bool:
        """Whether text waits for the end of its line."""
        return bool(self._pieces)

    def discard(self) -> None:
        """Forget the text of the unfinished line; modes stay."""
        self._pieces.clear()

    def add(self, text: bytes) -> None:
        """Put bytes into the line, in the style in force."""
        if self._pieces and self._pieces[-1][0] == self._style:
            self._pieces[-1][1].extend(text)
        else:
            self._pieces.append((self._style, bytearray(text)))

    def tab(self) -> None:
        """Go to the next of the default stops, every eight columns."""
        used = sum(style.width for style, _ in self._characters())
        self.add(b" " * (_TAB_COLUMNS - used % _TAB_COLUMNS))

    def apply(self, command: Command) -> bool:
        """Execute a command that changes modes; False if it is none."""
        n = command.params[0] if command.params else 0
        style = self._style
        match command.kind:
            case Kind.MODE:
                style = _mode(style, n)
            case Kind.SIZE:
                style = replace(style, width=(n >> 4 & 7) + 1, height=(n & 7) + 1)
            case Kind.BOLD:
                style = replace(style, bold=bool(n & 1))
            case Kind.DOUBLE_STRIKE:
                style = replace(style, double_strike=bool(n & 1))
            case Kind.INVERSE:
                style = replace(style, inverse=bool(n & 1))
            case Kind.UNDERLINE:
                style = replace(style, underline=n % 48 in (1, 2))
            case Kind.FONT:
                style = replace(style, font=n % 48 & 1)
            case Kind.CODE_PAGE:
                style = replace(style, page=n)
            case Kind.KANJI_ON | Kind.KANJI_OFF:
                style = replace(style, kanji=command.kind is Kind.KANJI_ON)
            case Kind.ALIGN:
                self._align = (Align.LEFT, Align.CENTER, Align.RIGHT)[n % 48 if n % 48 < 3 else 0]
            case Kind.SPACING_DEFAULT:
                self._spacing = self._settings.line_rows
            case Kind.SPACING:
                self._spacing = n
            case Kind.CHARACTER_SET:
                pass
            case _:
                return False
        self._style = style
        return True

    def blank(self) -> Line:
        """An empty line at the spacing in force."""
        return Line(rows=self._spacing)

    def take(self) -> list[Line]:
        """End the line: one printed line, more where it was too long for the paper, none where nothing waited."""
        lines: list[list[tuple[Style, str]]] = [[]]
        room = self._settings.dots
        for style, character in self._characters():
            dots = self._dots(style, character)
            if dots > room and lines[-1]:
                lines.append([])
                room = self._settings.dots
            lines[-1].append((style, character))
            room -= dots
        self._pieces.clear()
        return [self._line(cells) for cells in lines if cells]

    def _characters(self) -> Iterator[tuple[Style, str]]:
        for style, data in self._pieces:
            codec = "gb18030" if style.kanji else self._settings.code_pages.get(style.page, "cp437")
            for character in data.decode(codec, "replace"):
                yield style, character

    def _dots(self, style: Style, character: str) -> int:
        cell = self._settings.dots // self._settings.columns
        if style.font:
            cell = cell * 3 // 4
        wide = style.kanji and unicodedata.east_asian_width(character) in "WF"
        return cell * style.width * (2 if wide else 1)

    def _line(self, cells: list[tuple[Style, str]]) -> Line:
        spans = tuple(
            _span(style, "".join(character for _, character in group))
            for style, group in groupby(cells, key=lambda cell: cell[0])
        )
        height = max(span.height for span in spans)
        return Line(spans, self._align, max(self._spacing, CELL_ROWS * height))


def _mode(style: Style, n: int) -> Style:
    """`ESC !`: bit 0 font B, 3 bold, 4 double height, 5 double width, 7 underline."""
    return replace(
        style,
        font=n & 1,
        bold=bool(n & 0x08),
        height=2 if n & 0x10 else 1,
        width=2 if n & 0x20 else 1,
        underline=bool(n & 0x80),
    )


def _span(style: Style, text: str) -> Span:
    return Span(
        text, style.width, style.height, style.bold or style.double_strike, style.inverse, style.underline, style.font
    )
