"""Document -> ESC/POS bytes of one ticket: python-escpos's commands, text by our own code pages, pictures in strips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kps.core.document import Align, Document, Line, Size, Unrenderable
from kps.core.tickets import PaperFormat, Reason
from kps.paper.commands import (
    ALIGN,
    BOLD,
    CUT,
    INITIALIZE,
    INVERSE,
    KANJI_OFF,
    LINE_FEED,
    RASTER,
    REAL_TIME,
    SIZE,
    feed,
    select_mode,
    select_page,
)
from kps.paper.layout import NativeLine, Picture, RasterLine, Sheet, lay_out
from kps.paper.profiles import CodePage, Profile
from kps.paper.raster import without_hidden_commands

_STRIP_ROWS: Final = 128
_STRIP_BYTES: Final = 72 * 128
"""Bytes of a strip on paper of 576 dots. On wider paper a strip has fewer rows, so that it never has more bytes:
when a connection broke in the middle of a strip, this many NULs complete it."""
_EMPHASIZED, _TALL, _WIDE = 0x08, 0x10, 0x20
"""Bits of ESC ! n."""


def render(
    document: Document,
    paper: PaperFormat,
    *,
    font_dirs: tuple[str, ...] = (),
    after_reset: bytes = b"",
    pulse: Callable[[], None] | None = None,
) -> bytes:
    """All bytes of one ticket on that paper; see `lay_out` and `encode`. Raises `Unrenderable`."""
    return encode(lay_out(document, paper, font_dirs=font_dirs, pulse=pulse), after_reset=after_reset)


def encode(sheet: Sheet, *, after_reset: bytes = b"") -> bytes:
    """All bytes of one sheet: ESC @, `after_reset`, beep, feed, lines, feed, cut. ESC @ stands only at the start.

    ESC @ also turns automatic status back (ASB) off; a sender that listens to it passes its own command as
    `after_reset`. Raises `Unrenderable` if the finished bytes hold a real-time command.
    """
    profile = sheet.profile
    state = _PrinterState(profile)
    out = bytearray(INITIALIZE + (KANJI_OFF if profile.kanji_off else b"") + after_reset)
    out += profile.beep if sheet.beep else b""
    out += feed(sheet.feed_before)
    for row in sheet.rows:
        match row:
            case NativeLine(line):
                out += state.format(line) + state.encode(line.text) + LINE_FEED
            case RasterLine(line, picture):
                out += state.align(line)
                out += b"".join(_strips(picture))
    out += feed(sheet.feed_lines) + (CUT if sheet.cut else b"")
    return _without_real_time(bytes(out))


def warm_up() -> None:
    """Read the profiles and fill the tables now, so that the first ticket does not wait for them (10 ms)."""
    render(Document((Line("–", Size.DOUBLE, bold=True),), feed_lines=1, cut=True), PaperFormat(48, 80))


class _PrinterState:
    """The format and the code page in force at this point of the ticket. It writes commands only for changes."""

    def __init__(self, profile: Profile) -> None:
        self._pages = profile.pages
        self._page: CodePage | None = None
        self._sized_by_mode = not profile.raster
        self._line = Line("")
        self._align = Align.LEFT

    def format(self, line: Line) -> bytes:
        """The commands that change the format from that of the line before to that of this line."""
        before, self._line = self._line, line
        weight = _mode_change(before, line) if self._sized_by_mode else _look_change(before, line)
        return weight + self.align(line)

    def align(self, line: Line) -> bytes:
        """The command that aligns this line, text or picture; nothing where the alignment is in force already."""
        before, self._align = self._align, line.align
        return ALIGN[line.align] if line.align is not before else b""

    def encode(self, text: str) -> bytes:
        """Bytes of a text whose characters are all encodable. If one code page has them all, it is selected once."""
        if text.isascii():
            return text.encode("ascii")
        foreign = {char for char in text if not char.isascii()}
        page = next((page for page in self._candidates() if foreign <= page.codes.keys()), None)
        if page is not None:
            return self._select(page) + bytes(_code(char, page) for char in text)
        return b"".join(map(self._encode_character, text))

    def _encode_character(self, char: str) -> bytes:
        if char.isascii():
            return char.encode("ascii")
        page = next(page for page in self._candidates() if char in page.codes)
        return self._select(page) + bytes((page.codes[char],))

    def _candidates(self) -> Iterator[CodePage]:
        if self._page is not None:
            yield self._page
        yield from self._pages

    def _select(self, page: CodePage) -> bytes:
        if page is self._page:
            return b""
        self._page = page
        return select_page(page.number)


def _code(char: str, page: CodePage) -> int:
    return ord(char) if char.isascii() else page.codes[char]


def _look_change(before: Line, line: Line) -> bytes:
    return b"".join(
        (
            SIZE[line.size] if line.size is not before.size else b"",
            BOLD[line.bold] if line.bold is not before.bold else b"",
            INVERSE[line.inverse] if line.inverse is not before.inverse else b"",
        )
    )


def _mode_change(before: Line, line: Line) -> bytes:
    """ESC !, for impact printers, which have no GS ! and no GS B (Epson TM-U220)."""
    return b"" if _mode(before) == _mode(line) else select_mode(_mode(line))


def _mode(line: Line) -> int:
    return _EMPHASIZED * line.bold | _TALL * (line.size.height > 1) | _WIDE * (line.size.width > 1)


def _strips(picture: Picture) -> Iterator[bytes]:
    """The picture as several `GS v 0`. Each is so small that NULs can complete it after a broken connection."""
    strip = min(_STRIP_ROWS, _STRIP_BYTES // picture.width_bytes) * picture.width_bytes
    for start in range(0, len(picture.data), strip):
        data = picture.data[start : start + strip]
        rows = len(data) // picture.width_bytes
        size = picture.width_bytes.to_bytes(2, "little") + rows.to_bytes(2, "little")
        yield RASTER + size + without_hidden_commands(data)


def _without_real_time(ticket: bytes) -> bytes:
    for pattern in REAL_TIME:
        if pattern in ticket:
            raise Unrenderable(Reason.UNRENDERABLE, f"the ticket would hold the real-time command {pattern.hex(' ')}")
    return ticket
