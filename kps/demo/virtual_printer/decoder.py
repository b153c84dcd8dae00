"""ESC/POS bytes -> commands, one at a time, however the stream is cut."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from kps.demo.virtual_printer.buffers import REAL_TIME


class Kind(StrEnum):
    """What a command does, as far as this printer cares."""

    TEXT = "text"
    LINE_FEED = "LF"
    TAB = "HT"
    INIT = "ESC @"
    FEED_LINES = "ESC d"
    FEED_DOTS = "ESC J"
    MODE = "ESC !"
    SIZE = "GS !"
    BOLD = "ESC E"
    DOUBLE_STRIKE = "ESC G"
    INVERSE = "GS B"
    UNDERLINE = "ESC -"
    FONT = "ESC M"
    ALIGN = "ESC a"
    CODE_PAGE = "ESC t"
    CHARACTER_SET = "ESC R"
    KANJI_ON = "FS &"
    KANJI_OFF = "FS ."
    SPACING_DEFAULT = "ESC 2"
    SPACING = "ESC 3"
    CUT = "GS V"
    PULSE = "ESC p"
    BEEP = "beep"
    """`BEL`, `ESC B n t`, or `ESC ( A` with an external buzzer."""
    RASTER = "GS v 0"
    FENCE = "GS r"
    ASB = "GS a"
    IDENTITY = "GS I"
    COUNTER = "GS g"
    RESPONSE = "GS ( H"
    SYMBOL = "GS ( k"
    BARCODE = "GS k"
    REAL_TIME = "DLE"
    OTHER = "other"
    """Its length is known, so it is skipped; it has no effect here."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its fixed parameters, its variable data, and all its bytes as they came."""

    kind: Kind
    raw: bytes
    params: bytes = b""
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Step:
    """How many bytes were used up, and the command that they completed, if any. 0 = more bytes are needed."""

    consumed: int
    command: Command | None = None


_FIXED: dict[bytes, tuple[Kind, int]] = {
    b"\x1b@": (Kind.INIT, 0),
    b"\x1bd": (Kind.FEED_LINES, 1),
    b"\x1bJ": (Kind.FEED_DOTS, 1),
    b"\x1b!": (Kind.MODE, 1),
    b"\x1d!": (Kind.SIZE, 1),
    b"\x1bE": (Kind.BOLD, 1),
    b"\x1bG": (Kind.DOUBLE_STRIKE, 1),
    b"\x1dB": (Kind.INVERSE, 1),
    b"\x1b-": (Kind.UNDERLINE, 1),
    b"\x1bM": (Kind.FONT, 1),
    b"\x1ba": (Kind.ALIGN, 1),
    b"\x1bt": (Kind.CODE_PAGE, 1),
    b"\x1bR": (Kind.CHARACTER_SET, 1),
    b"\x1c&": (Kind.KANJI_ON, 0),
    b"\x1c.": (Kind.KANJI_OFF, 0),
    b"\x1b2": (Kind.SPACING_DEFAULT, 0),
    b"\x1b3": (Kind.SPACING, 1),
    b"\x1bi": (Kind.CUT, 0),
    b"\x1bm": (Kind.CUT, 0),
    b"\x1bp": (Kind.PULSE, 3),
    b"\x1bB": (Kind.BEEP, 2),
    b"\x1dr": (Kind.FENCE, 1),
    b"\x1da": (Kind.ASB, 1),
    b"\x1dI": (Kind.IDENTITY, 1),
    b"\x1dg": (Kind.COUNTER, 4),
}
"""Two bytes -> meaning and number of parameter bytes."""

_SKIPPED: dict[bytes, int] = {
    **{b"\x1b" + bytes([code]): 1 for code in b" =%?QTVUr{"},
    **{b"\x1b" + bytes([code]): 0 for code in b"LSOv<\x0c"},
    **{b"\x1d" + bytes([code]): 1 for code in b"#/:THbfhwx"},
    **{b"\x1d" + bytes([code]): 2 for code in b"$LPW\\"},
    **{b"\x1c" + bytes([code]): 1 for code in b"!-CW"},
    b"\x1b$": 2,
    b"\x1b\\": 2,
    b"\x1bW": 8,
    b"\x1bc": 2,
    b"\x1cS": 2,
    b"\x1cp": 2,
    b"\x1d^": 3,
}
"""Commands without effect here -> number of parameter bytes."""

_PARENTHESES = {b"\x1d(H": Kind.RESPONSE, b"\x1d(k": Kind.SYMBOL, b"\x1b(A": Kind.BEEP}
"""Commands that contain their own length -> meaning."""
_TEXT_RUN = re.compile(rb"[\x20-\xff]+")
_PULSE_AND_CLEAR = {0x01: 5, 0x02: 5, 0x08: 10}
"""Length of `DLE DC4 fn` by function."""


@dataclass(slots=True)
class _Body:
    """A command whose header is known and whose data is still arriving. `missing` None = up to a NUL."""

    kind: Kind
    header: bytes
    params: bytes
    missing: int | None
    data: bytearray = field(default_factory=bytearray)


class Decoder:
    """Reads the head of a buffer. Image data is taken in pieces, so that the buffer may be smaller than it."""

    def __init__(self) -> None:
        self._body: _Body | None = None

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a command."""
        return self._body is None

    def reset(self) -> None:
        """Forget a command that is half read."""
        self._body = None

    def next(self, data: bytearray) -> Step:
        """Use up bytes from the head of `data`; the caller removes `consumed` of them."""
        if self._body is not None:
            return self._fill(self._body, data)
        if not data:
            return Step(0)
        match data[0]:
            case code if code >= 0x20:
                run = _TEXT_RUN.match(data)
                assert run is not None
                return _done(Kind.TEXT, run.group())
            case 0x0A:
                return _done(Kind.LINE_FEED, b"\n")
            case 0x09:
                return _done(Kind.TAB, b"\t")
            case 0x07:
                return _done(Kind.BEEP, b"\a")
            case 0x10:
                return _real_time(data)
            case 0x1B | 0x1C | 0x1D:
                return self._escape(data)
            case code:
                return _done(Kind.OTHER, bytes([code]))

    def _escape(self, data: bytearray) -> Step:
        if len(data) < 2:
            return Step(0)
        prefix = bytes(data[:2])
        if prefix in _FIXED:
            kind, count = _FIXED[prefix]
            return _fixed(kind, data, count)
        if prefix in _SKIPPED:
            return _fixed(Kind.OTHER, data, _SKIPPED[prefix])
        match prefix:
            case b"\x1dV":
                return _cut(data)
            case b"\x1dv":
                return self._raster(data)
            case b"\x1d(" | b"\x1b(" | b"\x1c(":
                return self._parenthesis(data)
            case b"\x1d8":
                return self._sized(data, 7, lambda head: int.from_bytes(head[3:7], "little"))
            case b"\x1dk":
                return self._barcode(data)
            case b"\x1b*":
                return self._sized(data, 5, lambda head: _column_bytes(head[2], head[3] + 256 * head[4]))
            case b"\x1d*":
                return self._sized(data, 4, lambda head: head[2] * head[3] * 8)
            case b"\x1bD":
                return self._begin(_Body(Kind.OTHER, prefix, b"", None), 2)
        return _done(Kind.UNKNOWN, prefix)

    def _raster(self, data: bytearray) -> Step:
        if len(data) >= 3 and data[2] != 0x30:
            return _done(Kind.UNKNOWN, bytes(data[:2]))
        return self._sized(
            data, 8, lambda head: (head[4] + 256 * head[5]) * (head[6] + 256 * head[7]), kind=Kind.RASTER
        )

    def _parenthesis(self, data: bytearray) -> Step:
        kind = Kind.OTHER
        if len(data) > 2:
            kind = _PARENTHESES.get(bytes(data[:3]), Kind.OTHER)
        return self._sized(data, 5, lambda head: head[3] + 256 * head[4], kind=kind)

    def _barcode(self, data: bytearray) -> Step:
        if len(data) < 3:
            return Step(0)
        if data[2] <= 6:
            return self._begin(_Body(Kind.BARCODE, bytes(data[:3]), bytes(data[2:3]), None), 3)
        return self._sized(data, 4, lambda head: head[3], kind=Kind.BARCODE)

    def _sized(self, data: bytearray, header: int, size: Callable[[bytes], int], kind: Kind = Kind.OTHER) -> Step:
        if len(data) < header:
            return Step(0)
        head = bytes(data[:header])
        return self._begin(_Body(kind, head, head[2:], size(head)), header)

    def _begin(self, body: _Body, consumed: int) -> Step:
        if body.missing == 0:
            return Step(consumed, Command(body.kind, body.header, body.params))
        self._body = body
        return Step(consumed)

    def _fill(self, body: _Body, data: bytearray) -> Step:
        if body.missing is None:
            end = data.find(0)
            count = len(data) if end < 0 else end + 1
            finished = end >= 0
        else:
            count = min(body.missing, len(data))
            body.missing -= count
            finished = body.missing == 0
        body.data += data[:count]
        if not finished:
            return Step(count)
        self._body = None
        content = bytes(body.data)
        return Step(count, Command(body.kind, body.header + content, body.params, content))


def _done(kind: Kind, raw: bytes) -> Step:
    return Step(len(raw), Command(kind, raw))


def _fixed(kind: Kind, data: bytearray, count: int) -> Step:
    end = 2 + count
    if len(data) < end:
        return Step(0)
    return Step(end, Command(kind, bytes(data[:end]), bytes(data[2:end])))


def _cut(data: bytearray) -> Step:
    if len(data) < 3:
        return Step(0)
    return _fixed(Kind.CUT, data, 1 if data[2] in (0, 1, 48, 49) else 2)


def _column_bytes(mode: int, columns: int) -> int:
    """`ESC *`: modes from 32 have three bytes for each column."""
    return columns * (3 if mode >= 32 else 1)


def _real_time(data: bytearray) -> Step:
    """The scanner has executed it on arrival; here it is only taken out of the way."""
    whole = REAL_TIME.match(data)
    if whole is not None:
        return _done(Kind.REAL_TIME, whole.group())
    if len(data) < _real_time_length(data):
        return Step(0)
    return _done(Kind.OTHER, bytes(data[:1]))


def _real_time_length(data: bytearray) -> int:
    """How many bytes decide whether this DLE begins a real-time command."""
    if len(data) < 2:
        return 2
    if data[1] == 0x14 and len(data) >= 3:
        return _PULSE_AND_CLEAR.get(data[2], 3)
    return 3 if data[1] in (0x04, 0x05, 0x14) else 2
