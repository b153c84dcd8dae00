"""Document -> the rows of one paper: which lines the printer prints in its own font, and which are sent as pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from kps.core.document import MAX_HEIGHT, Document, Line, Size, Unrenderable, columns_of
from kps.core.text import JOINERS, columns, substitute, without_loose_joiners, wrap
from kps.core.tickets import PaperFormat, Reason
from kps.paper.fonts import FontLost, Fonts, fonts_in
from kps.paper.profiles import Profile, profile_of
from kps.paper.raster import Picture, TooWide, draw, forget
from kps.paper.runs import is_right_to_left
from kps.paper.transliteration import transliterate

__all__ = ["NativeLine", "Picture", "RasterLine", "Sheet", "is_native", "lay_out"]

log = logging.getLogger(__name__)

_ORNAMENTS: Final = str.maketrans("─│┌┐└┘", "-|++++")
_LETTERS_OF_CODES: Final = "[U+0123456789ABCDEF]"
_MAX_DRAWN: Final = 12_000
"""Most columns of text that are drawn for one sheet. A new character takes 0.3 ms, and a process whose heartbeat stops
for seconds is killed."""


@dataclass(frozen=True, slots=True)
class NativeLine:
    """A line that the printer writes with its own font: every character is in one of its code pages.

    Its text is what stands on the paper from the left edge of the line on, the blanks of an inverse bar included.
    """

    line: Line


@dataclass(frozen=True, slots=True)
class RasterLine:
    """A line that is sent as a picture over the whole width. Its text is what the picture shows."""

    line: Line
    picture: Picture


@dataclass(frozen=True, slots=True)
class Sheet:
    """One paper, ready to become bytes, text or a PNG."""

    rows: tuple[NativeLine | RasterLine, ...]
    profile: Profile
    columns: int
    """Characters of the normal font per line."""
    feed_before: int
    feed_lines: int
    cut: bool
    beep: bool
    width_mm: int = 80
    """Width of the paper, with the margins that cannot be printed on."""


def lay_out(
    document: Document,
    paper: PaperFormat,
    *,
    font_dirs: tuple[str, ...] = (),
    pulse: Callable[[], None] | None = None,
) -> Sheet:
    """The rows of a document on that paper.

    A line is the printer's own text if one of its code pages has each character, else a picture; what no font has is
    `[U+XXXX]`. A printer that takes no pictures gets the text in letters that it has, and so does any printer what
    comes after the first 12,000 drawn columns. Folders of `font_dirs` are searched for fonts before the system's, once
    per process, when the first picture is drawn.

    Pictures take their time: `pulse` is called before each. Raises `Unrenderable` if the rows are higher than
    MAX_HEIGHT.
    """
    profile = profile_of(paper.brand, paper.model)
    page = _Page(profile, columns_of(paper), font_dirs, pulse)
    rows = tuple(_bounded(row for line in page.reframed(document.lines) for row in page.rows(line)))
    return Sheet(
        rows,
        profile,
        page.columns,
        document.feed_before,
        document.feed_lines,
        document.cut,
        document.beep,
        paper.width_mm,
    )


def _bounded(rows: Iterable[NativeLine | RasterLine]) -> Iterator[NativeLine | RasterLine]:
    height = 0
    for row in rows:
        height += row.line.size.height
        if height > MAX_HEIGHT:
            raise Unrenderable(Reason.UNRENDERABLE, f"its paper would be more than {MAX_HEIGHT} lines long")
        yield row


def is_native(profile: Profile, char: str) -> bool:
    """Whether the printer's own font shows the character at its place.

    Not so for marks, which would stand beside their letter, nor for letters from right to left, which it would set in
    the wrong order, whatever its code pages have.
    """
    return char.isascii() or (profile.encodable(char) and columns(char) == 1 and not is_right_to_left(char))


class _Page:
    """Turns the lines of a document into rows for one printer."""

    def __init__(
        self, profile: Profile, paper_columns: int, font_dirs: tuple[str, ...], pulse: Callable[[], None] | None
    ) -> None:
        self.columns = paper_columns
        self._profile = profile
        self._font_dirs = font_dirs
        self._pulse = pulse
        self._drawn = 0
        """Columns of text that were drawn, or whose fonts were looked for."""
        self._draws = profile.raster
        """Whether lines may still be sent as pictures."""
        self._too_wide: set[str] = set()
        """Characters that a font has, but so wide that they do not fit into their columns."""

    def reframed(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The lines, with each frame as wide as its text is on this printer, where characters may be spelled out."""
        frame: list[Line] = []
        for line in lines:
            if frame or line.text.lstrip(" ").startswith("┌"):
                frame.append(line)
            else:
                yield line
            if frame and line.text.endswith("┘"):
                yield from self._reframed(frame)
                frame.clear()
        yield from frame

    def _reframed(self, frame: list[Line]) -> Iterable[Line]:
        look = frame[0]
        margin = look.text[: -len(look.text.lstrip(" "))]
        texts = [line.text[len(margin) + len("│ ") : -len(" │")].rstrip(" ") for line in frame[1:-1]]
        if all(map(self._is_native_text, texts)):
            return frame
        # A frame is drawn whole or not at all: lines of two fonts would not close it.
        self._may_draw_all(frame)
        shown = [self._shown(text) for text in texts]
        if shown == texts:
            return frame
        framed = self._framed(shown, look, margin)
        if not self._may_draw_all(framed):
            framed = self._framed([self._shown(text) for text in texts], look, margin)
        return framed

    def _framed(self, texts: list[str], look: Line, margin: str) -> list[Line]:
        room = look.room(self.columns) - len(margin) - len("│  │")
        inside = [part for text in texts for part in wrap(text.replace("][U+", "] [U+"), room)]
        width = max(map(columns, inside), default=0)
        edge = "─" * (width + 2)
        framed = [f"│ {text}{' ' * (width - columns(text))} │" for text in inside]
        return [replace(look, text=margin + text) for text in (f"┌{edge}┐", *framed, f"└{edge}┘")]

    def _shown(self, text: str) -> str:
        """The text in characters that this printer can print in its own font or as a picture."""
        if self._is_native_text(text):
            return text
        if not self._draws:
            return transliterate(text, self._is_native)
        self._send_pulse()
        return _spelled_out(text, lambda char: self._is_native(char) or self._is_drawable(char))

    def rows(self, line: Line) -> Iterator[NativeLine | RasterLine]:
        """The rows of one line of the document: one, or more where spelling out made the text longer."""
        if line.text.isascii():
            yield self._native_row(line)
            return
        text = self._with_plain_frames(line.text)
        if self._is_native_text(text):
            yield self._native_row(replace(line, text=text))
        elif self._may_draw(columns(text)):
            self._drawn += columns(text)
            yield from self._drawn_rows(line, text)
        else:
            yield from self._transliterated_rows(line, text)

    def _transliterated_rows(self, line: Line, text: str) -> Iterator[NativeLine]:
        own = transliterate(text, self._is_native)
        return map(self._native_row, _wrapped(line, own, self.columns))

    def _may_draw(self, more: int) -> bool:
        """Whether so many more columns may be drawn. If not, no further line is, and a warning is logged."""
        if self._draws and self._drawn + more > _MAX_DRAWN:
            self._draws = False
            log.warning("too much to draw", extra={"columns": _MAX_DRAWN})
        return self._draws

    def _may_draw_all(self, lines: list[Line]) -> bool:
        return self._may_draw(sum(columns(line.text) for line in lines if not self._is_native_text(line.text)))

    def _drawn_rows(self, line: Line, text: str) -> Iterable[NativeLine | RasterLine]:
        """The line as pictures. Parts that the printer can print itself, once characters are spelled out, stay text."""
        while True:
            try:
                return list(self._draw(line, text))
            except FontLost as lost:  # Ends: each failure removes a font.
                self._fonts().give_up(lost)
                forget()
            except TooWide as run:
                refused = {char for char in run.text if not char.isascii()} - self._too_wide
                if not refused:  # Even the plain letters are too wide in this font.
                    return list(self._transliterated_rows(line, text))
                self._too_wide |= refused

    def _draw(self, line: Line, text: str) -> Iterator[NativeLine | RasterLine]:
        # Codes like [U+XXXX] are drawn as well: without a font for plain letters nothing can be drawn.
        able = all(self._is_drawable(char) for char in text + _LETTERS_OF_CODES if char.isascii())
        shown = _spelled_out(text, lambda char: self._is_native(char) or (able and self._is_drawable(char)))
        for part in _wrapped(line, shown, self.columns):
            if self._is_native_text(part.text):
                yield self._native_row(part)
                continue
            for drawn in _wrapped(part, _spelled_out(part.text, self._is_drawable), self.columns):
                yield self._raster_row(drawn)

    def _native_row(self, line: Line) -> NativeLine:
        """A line in the printer's own font. A printer without inverse text gets a bar of asterisks instead."""
        if self._profile.raster:
            return NativeLine(_bar(line, self.columns) if line.inverse else line)
        return NativeLine(_for_impact_printer(line, self.columns))

    def _raster_row(self, line: Line) -> RasterLine:
        whole = _bar(line, self.columns) if line.inverse else line
        self._send_pulse()
        cell = (self._profile.cell_width, self._profile.cell_height, self._profile.line_height)
        return RasterLine(whole, draw(whole, self.columns, cell, self._fonts()))

    def _send_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse()

    def _fonts(self) -> Fonts:
        return fonts_in(self._font_dirs)

    def _is_native(self, char: str) -> bool:
        return is_native(self._profile, char)

    def _is_native_text(self, text: str) -> bool:
        return all(map(self._is_native, text))

    def _is_drawable(self, char: str) -> bool:
        if char in self._too_wide:
            return False
        return char == " " or char in JOINERS or self._fonts().face_for(char) is not None

    def _with_plain_frames(self, text: str) -> str:
        """The text with ASCII frames if this printer's code pages lack the lines: a frame alone is never drawn."""
        lacks = any(ord(char) in _ORNAMENTS and not self._profile.encodable(char) for char in text)
        return text.translate(_ORNAMENTS) if lacks else text


def _bar(line: Line, paper_columns: int, edge: str = " ") -> Line:
    """An inverse line as wide as the paper: its text in the middle of blanks, which print black."""
    gap = max(0, paper_columns // line.size.width - columns(line.text))
    left = gap // 2
    return replace(line, text=edge * left + line.text + edge * (gap - left))


def _for_impact_printer(line: Line, paper_columns: int) -> Line:
    """The line for an impact printer, which has two sizes and no inverse text (Epson TM-U220)."""
    plain = replace(line, size=Size.DOUBLE if line.size is Size.HUGE else line.size, inverse=False)
    if not line.inverse:
        return plain
    spaced = f" {line.text} "
    # A bar needs an asterisk at each side.
    narrow = columns(spaced) + len("**") <= paper_columns // plain.size.width
    return _bar(replace(plain, text=spaced) if narrow else plain, paper_columns, "*")


def _spelled_out(text: str, known: Callable[[str], bool]) -> str:
    """`text` with each character that is not `known`, and a leading mark without a letter, as `[U+XXXX]`."""
    shown = without_loose_joiners(substitute(text, known)).lstrip("".join(JOINERS))
    return f"[U+{ord(shown[0]):04X}]{shown[1:]}" if shown and not columns(shown[0]) else shown


def _wrapped(line: Line, text: str, paper_columns: int) -> Iterator[Line]:
    """The line with a changed text, wrapped again if it has become too wide."""
    if columns(text) <= line.room(paper_columns):
        yield line if text == line.text else replace(line, text=text)
        return
    body = text.lstrip(" ")
    lead = text[: len(text) - len(body)]
    # A code must stay in one piece to be looked up: let the line break between two of them.
    body = body.replace("][U+", "] [U+")
    for part in wrap(body, line.room(paper_columns), first=lead, indent=line.indent):
        yield replace(line, text=part)
