"""The format commands of a ticket: the bytes that python-escpos writes for them, kept, for it takes 7 MB and 0.15 s.

`python -m kps.paper.escpos_commands` compares them with the installed python-escpos (docs/decisions/0025-memory.md).
"""

from __future__ import annotations

from typing import Final

from kps.core.document import Align, Size

SIZE: Final = {Size.NORMAL: b"\x1d!\x00", Size.TALL: b"\x1d!\x01", Size.DOUBLE: b"\x1d!\x11", Size.HUGE: b"\x1d!\x22"}
"""GS ! n."""
BOLD: Final = {False: b"\x1bE\x00", True: b"\x1bE\x01"}
"""ESC E n."""
INVERSE: Final = {False: b"\x1dB\x00", True: b"\x1dB\x01"}
"""GS B n."""
ALIGN: Final = {Align.LEFT: b"\x1ba\x00", Align.CENTER: b"\x1ba\x01"}
"""ESC a n."""
CUT: Final = b"\x1dVB\x00"
"""GS V 66 0: cut after feeding to the cutter, which needs no guess at how far that is."""


def feed(lines: int) -> bytes:
    """ESC d n, for 0..255 lines; nothing for none."""
    return b"\x1bd" + bytes((lines,)) if lines else b""
