"""The commands that KPS takes from python-escpos, and those that it puts together, are what Epson's reference says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import kps
from kps.core.document import MAX_FEED_LINES, Align, Size
from kps.paper import commands

COLLECT = f"""
from escpos.printer import Dummy
dummy = Dummy(profile="default")
dummy.cut(feed=False)
for lines in range(1, {MAX_FEED_LINES} + 1):
    dummy.print_and_feed(lines)
print(dummy.output.hex())
"""


def test_the_bytes_of_every_command() -> None:
    assert commands.SIZE == {
        Size.NORMAL: b"\x1d!\x00",
        Size.TALL: b"\x1d!\x01",
        Size.DOUBLE: b"\x1d!\x11",
        Size.HUGE: b"\x1d!\x22",
    }
    assert commands.BOLD == {False: b"\x1bE\x00", True: b"\x1bE\x01"}
    assert commands.INVERSE == {False: b"\x1dB\x00", True: b"\x1dB\x01"}
    assert commands.ALIGN == {Align.LEFT: b"\x1ba\x00", Align.CENTER: b"\x1ba\x01"}
    assert commands.INITIALIZE == b"\x1b@"
    assert commands.KANJI_OFF == b"\x1c."
    assert commands.LINE_FEED == b"\n"
    assert commands.RASTER == b"\x1dv0\x00"
    assert commands.CUT == b"\x1dVB\x00"
    assert commands.REAL_TIME == (b"\x10\x04", b"\x10\x05", b"\x10\x14")
    assert commands.select_mode(0x38) == b"\x1b!\x38"
    assert commands.select_page(255) == b"\x1bt\xff"
    assert [commands.feed(lines) for lines in (0, 1, 255)] == [b"", b"\x1bd\x01", b"\x1bd\xff"]


def test_there_is_a_command_for_every_look() -> None:
    assert set(commands.SIZE) == set(Size)
    assert set(commands.ALIGN) == set(Align)


def test_cut_and_feed_are_what_the_methods_of_python_escpos_write(tmp_path: Path) -> None:
    # In a process of its own: importing them leaves a temporary folder, and configures logging.
    done = subprocess.run(
        [sys.executable, "-c", COLLECT],
        cwd=Path(kps.__file__).parents[1],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ours = commands.CUT + b"".join(commands.feed(lines) for lines in range(1, MAX_FEED_LINES + 1))
    assert bytes.fromhex(done.stdout) == ours
