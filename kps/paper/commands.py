"""The commands of a ticket, as python-escpos has them: this is all of it that a process of the service loads.

`escpos.constants` takes 2 ms and 0.1 MB. Its printers and profiles take 0.2 s and 10 MB more, and importing them leaves
a temporary folder and sets up logging: nothing here needs them (docs/decisions/0040-python-escpos-by-its-constants.md).

What has no constant there is put together here, and says from where it is: *Epson* is the ESC/POS command reference.
"""

from __future__ import annotations

from typing import Final

from escpos.constants import (
    CODEPAGE_CHANGE,
    CTL_LF,
    DC4,
    DLE,
    ENQ,
    EOT,
    ESC,
    FS,
    GS,
    HW_INIT,
    S_RASTER_N,
    TXT_SIZE,
    TXT_STYLE,
)

from kps.core.document import Align, Size

INITIALIZE: Final[bytes] = HW_INIT
"""ESC @."""
SIZE: Final[dict[Size, bytes]] = {
    size: TXT_SIZE + bytes((TXT_STYLE["width"][size.width] + TXT_STYLE["height"][size.height],)) for size in Size
}
"""GS ! n."""
BOLD: Final[dict[bool, bytes]] = {on: TXT_STYLE["bold"][on] for on in (False, True)}
"""ESC E n."""
INVERSE: Final[dict[bool, bytes]] = {on: TXT_STYLE["invert"][on] for on in (False, True)}
"""GS B n."""
ALIGN: Final[dict[Align, bytes]] = {side: TXT_STYLE["align"][side.value] for side in Align}
"""ESC a n."""
LINE_FEED: Final[bytes] = CTL_LF
RASTER: Final[bytes] = S_RASTER_N
"""GS v 0 0, without the picture's size."""
CUT: Final[bytes] = GS + b"V\x42\x00"
"""GS V 66 0 (Epson): cut after feeding to the cutter, which needs no guess at how far that is.

No constant; `Escpos.cut(feed=False)` writes it. Its `cut()` feeds six lines first, whatever the printer.
"""
KANJI_OFF: Final[bytes] = FS + b"."
"""FS . (Epson): bytes from 80 on are letters, and no halves of Chinese ones. Not in python-escpos."""
REAL_TIME: Final[tuple[bytes, ...]] = (DLE + EOT, DLE + ENQ, DLE + DC4)
"""DLE EOT, DLE ENQ, DLE DC4: executed on arrival wherever they stand, even power off (Epson TM-T88III, TM-U295)."""

_MODE: Final[bytes] = ESC + b"!"
_FEED: Final[bytes] = ESC + b"d"
_PAGE: Final[bytes] = CODEPAGE_CHANGE


def select_mode(bits: int) -> bytes:
    """ESC ! n (Epson): weight and size at once, for printers without GS !. python-escpos has it for sizes alone."""
    return _MODE + bytes((bits,))


def select_page(number: int) -> bytes:
    """ESC t n: the code page of that number on this printer, 0..255."""
    return _PAGE + bytes((number,))


def feed(lines: int) -> bytes:
    """ESC d n (Epson), for 0..255 lines; nothing for none. No constant; `Escpos.print_and_feed(n)` writes it."""
    return _FEED + bytes((lines,)) if lines else b""
