"""The command line of a benchmark that is run alone."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

from bench.figures import Report
from bench.report import show


def main(measure: Callable[[bool], Report], text: str | None) -> None:
    """Measure and print the report; `text` says what is measured. SIGTERM ends it as Ctrl-C does."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    chosen = parser.parse_args()
    end_in_order()
    try:
        show(measure(chosen.quick))
    except KeyboardInterrupt:
        sys.exit(130)


def end_in_order() -> None:
    """SIGTERM and SIGINT end the program once, and what it has started with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)
    print("interrupted: ending what was started", file=sys.stderr, flush=True)
    raise KeyboardInterrupt
