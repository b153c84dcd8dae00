"""`python -m kps.paper.escpos_commands`: whether our format commands are still those of the installed python-escpos.

Exit code 1 and one line for each that differs. No process of the service imports this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from escpos.printer import Dummy

from kps.core.document import MAX_FEED_LINES
from kps.paper import commands


def differences() -> tuple[str, ...]:
    """One line for each command of `kps.paper.commands` that python-escpos writes otherwise."""
    return tuple(
        f"{name}: {ours.hex(' ')} is {theirs.hex(' ')} in python-escpos"
        for name, ours, theirs in _pairs()
        if ours != theirs
    )


def _pairs() -> Iterator[tuple[str, bytes, bytes]]:
    """(name, our bytes, those of python-escpos)."""
    for size, ours in commands.SIZE.items():
        yield str(size), ours, _written("set", custom_size=True, width=size.width, height=size.height)
    for on, ours in commands.BOLD.items():
        yield f"bold {on}", ours, _written("set", bold=on)
    for on, ours in commands.INVERSE.items():
        yield f"inverse {on}", ours, _written("set", invert=on)
    for align, ours in commands.ALIGN.items():
        yield f"align {align}", ours, _written("set", align=align.value)
    for lines in range(1, MAX_FEED_LINES + 1):
        yield f"feed {lines}", commands.feed(lines), _written("print_and_feed", lines)
    yield "cut", commands.CUT, _written("cut", feed=False)


def _written(method: str, *given: object, **named: object) -> bytes:
    """What one call is on paper."""
    collector = Dummy(profile="default")
    getattr(collector, method)(*given, **named)
    return bytes(collector.output)


def main() -> int:
    """Compare. Returns the exit code."""
    found = differences()
    for line in found:
        print(line)  # noqa: T201 - a command line
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
