"""Document -> ESC/POS bytes of one ticket: formatting by python-escpos, text by our own code pages."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final

from kps.core.document import Align, Document, Line, Size, Unrenderable, columns_of
from kps.core.text import columns, substitute, wrap
from kps.core.tickets import PaperFormat, Reason

if TYPE_CHECKING:
    from escpos.printer import Dummy

_INITIALIZE: Final = b"\x1b@"
_KANJI_OFF: Final = b"\x1c."
_LINE_FEED: Final = b"\n"
_REAL_TIME: Final = (b"\x10\x04", b"\x10\x05", b"\x10\x14")
"""DLE EOT, DLE ENQ, DLE DC4: executed on arrival wherever they stand, even power off (Epson TM-T88III, TM-U295)."""
_CACHE_SETTING: Final = "ESCPOS_CAPABILITIES_PICKLE_DIR"


@dataclass(frozen=True)
class CodePage:
    """A table of 256 characters that a printer selects by `ESC t number`."""

    name: str
    number: int
    codes: dict[str, int]
    """Character -> byte, without ASCII, which is the same in every page."""


@dataclass(frozen=True)
class Brand:
    """What may be sent to the printers of a brand."""

    pages: tuple[CodePage, ...]
    """Best known first."""
    kanji_off: bool
    """Whether bytes >= 80 may be taken in pairs as Chinese after ESC @, unless FS . says otherwise."""

    def encodable(self, char: str) -> bool:
        """Whether one of the pages has this character."""
        return char.isascii() or any(char in page.codes for page in self.pages)


def render(document: Document, paper: PaperFormat, *, after_reset: bytes = b"") -> bytes:
    """All bytes of one ticket: ESC @, `after_reset`, lines, feed, cut. ESC @ stands only at the start.

    ESC @ also turns automatic status back (ASB) off; a sender that listens to it passes its own command as
    `after_reset`. Characters in no code page come out as `[U+XXXX]`. Raises `Unrenderable` if the finished bytes
    hold a real-time command.
    """
    brand = brand_of(paper)
    paper_columns = columns_of(paper)
    ink = _Ink(brand)
    out = bytearray(_INITIALIZE + (_KANJI_OFF if brand.kanji_off else b"") + after_reset)
    for line in document.lines:
        for fitted in _fit(line, brand, paper_columns):
            out += ink.format(fitted)
            out += ink.encode(_bar(fitted, paper_columns) if fitted.inverse else fitted.text)
            out += _LINE_FEED
    out += _ending(document.feed_lines, document.cut)
    return _without_real_time(bytes(out))


def brand_of(paper: PaperFormat) -> Brand:
    """The brand of a printer row; one that nobody described is `generic`."""
    return _brands().get(paper.brand.strip().lower(), _brands()["generic"])


def warm_up() -> None:
    """Import python-escpos and fill the tables now, so that the first ticket does not wait for them (0.2 s)."""
    render(Document((Line("–", Size.DOUBLE, bold=True),), feed_lines=1, cut=True), PaperFormat(48, 80))


class _Ink:
    """What the printer's format and code page are at this point of the ticket; commands only where they change."""

    def __init__(self, brand: Brand) -> None:
        self._pages = brand.pages
        self._page: CodePage | None = None
        self._before = Line("")

    def format(self, line: Line) -> bytes:
        """The commands from the format of the line before to the format of this one."""
        before, self._before = self._before, line
        return b"".join(
            (
                _size(line.size) if line.size is not before.size else b"",
                _bold(line.bold) if line.bold is not before.bold else b"",
                _inverse(line.inverse) if line.inverse is not before.inverse else b"",
                _align(line.align) if line.align is not before.align else b"",
            )
        )

    def encode(self, text: str) -> bytes:
        """Bytes of a text whose characters are all encodable: one page for the line if there is one."""
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
        return bytes((0x1B, 0x74, page.number))


def _code(char: str, page: CodePage) -> int:
    return ord(char) if char.isascii() else page.codes[char]


def _fit(line: Line, brand: Brand, paper_columns: int) -> Iterable[Line]:
    """The line in characters that the brand has; broken again where that made it too wide."""
    text = substitute(line.text, brand.encodable)
    room = line.room(paper_columns)
    if columns(text) <= room:
        return (line if text is line.text else replace(line, text=text),)
    body = text.lstrip(" ")
    lead = text[: len(text) - len(body)]
    # A code that is torn can be neither read nor looked up: between two of them the line may break.
    body = body.replace("][U+", "] [U+")
    return [replace(line, text=part) for part in wrap(body, room, first=lead, indent=line.indent)]


def _bar(line: Line, paper_columns: int) -> str:
    """The text of an inverse line in the middle of blanks, which print black, over the width of the paper."""
    gap = paper_columns // line.size.width - columns(line.text)
    left = gap // 2
    return " " * left + line.text + " " * (gap - left)


def _without_real_time(ticket: bytes) -> bytes:
    for pattern in _REAL_TIME:
        if pattern in ticket:
            raise Unrenderable(Reason.UNRENDERABLE, f"the ticket would hold the real-time command {pattern.hex(' ')}")
    return ticket


@cache
def _size(size: Size) -> bytes:
    command = _blank()
    command.set(custom_size=True, width=size.width, height=size.height)
    return _output(command)


@cache
def _bold(on: bool) -> bytes:
    command = _blank()
    command.set(bold=on)
    return _output(command)


@cache
def _inverse(on: bool) -> bytes:
    command = _blank()
    command.set(invert=on)
    return _output(command)


@cache
def _align(align: Align) -> bytes:
    command = _blank()
    command.set(align=align.value)
    return _output(command)


@cache
def _ending(feed_lines: int, cut: bool) -> bytes:
    """Feed, then cut after feeding to the cutter: GS V 66 0, which needs no guess at how far that is."""
    command = _blank()
    if feed_lines:
        command.print_and_feed(feed_lines)
    if cut:
        command.cut(feed=False)
    return _output(command)


def _blank() -> Dummy:
    return _dummy_class()(profile="default")


def _output(command: Dummy) -> bytes:
    return bytes(command.output)


@cache
def _dummy_class() -> type[Dummy]:
    """python-escpos's byte collector, imported so that nothing of the import stays behind.

    The import (3.1) makes a temporary folder that it never removes, and calls `logging.basicConfig()`. Its cache
    of printer profiles may also be stale and read-only, which would fail the import: then it goes without.
    """
    with _unchanged_logging(), _private_temporary_folder() as folder:
        try:
            from escpos.printer import Dummy
        except OSError:
            with _cache_in(folder):
                from escpos.printer import Dummy
    collector: type[Dummy] = Dummy
    return collector


@contextmanager
def _unchanged_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers)
    try:
        yield
    finally:
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)
            handler.close()


@contextmanager
def _private_temporary_folder() -> Iterator[str]:
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="kps-") as folder:
        tempfile.tempdir = folder
        try:
            yield folder
        finally:
            tempfile.tempdir = before


@contextmanager
def _cache_in(folder: str) -> Iterator[None]:
    before = os.environ.get(_CACHE_SETTING)
    os.environ[_CACHE_SETTING] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CACHE_SETTING]
        else:
            os.environ[_CACHE_SETTING] = before


@cache
def _brands() -> dict[str, Brand]:
    """Brands by lower-case name. The page numbers are Epson's (ESC t, TM-T88V), which most clones keep."""
    pages = tuple(
        _code_page(name, number)
        for name, number in (
            ("cp437", 0),
            ("cp850", 2),
            ("cp858", 19),
            ("cp1252", 16),
            ("cp852", 18),
            ("cp866", 17),
        )
    )
    return {"generic": Brand(pages, kanji_off=True), "epson": Brand(pages, kanji_off=False)}


def _code_page(name: str, number: int) -> CodePage:
    upper_half = ((code, bytes((code,)).decode(name, "ignore")) for code in range(0x80, 0x100))
    return CodePage(name, number, {char: code for code, char in upper_half if char.isprintable() and char})
