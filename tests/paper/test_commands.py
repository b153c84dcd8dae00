"""The format commands that we keep are those of python-escpos, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kps
from kps.core.document import Align, Size
from kps.paper import commands

COMPARE_CHANGED = """
import kps.paper.commands as commands
from kps.paper.escpos_commands import differences
{change}
print(len(differences()))
"""


def python(*arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    # In a process of its own: python-escpos leaves a temporary folder at each import, and configures logging.
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(kps.__file__).parents[1],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_command_is_what_python_escpos_writes(tmp_path: Path) -> None:
    done = python("-m", "kps.paper.escpos_commands", temporary=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize(
    "change",
    [
        "commands.SIZE.update({size: b'x' for size in commands.SIZE})",
        "commands.BOLD.update({True: commands.BOLD[False]})",
        "commands.INVERSE.update({False: b''})",
        "commands.ALIGN.update({side: b'x' for side in commands.ALIGN})",
        "commands.CUT = b'\\x1dV\\x00'",
        "commands.feed = lambda lines: b'\\x1bJ' + bytes((lines,))",
    ],
)
def test_a_command_that_differs_is_found(change: str, tmp_path: Path) -> None:
    done = python("-c", COMPARE_CHANGED.format(change=change), temporary=tmp_path)
    assert int(done.stdout) > 0, done.stderr


def test_there_is_a_command_for_every_look() -> None:
    assert set(commands.SIZE) == set(Size)
    assert set(commands.ALIGN) == set(Align)


def test_no_feed_is_no_command() -> None:
    assert commands.feed(0) == b""
