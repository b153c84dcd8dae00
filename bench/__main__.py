"""All benchmarks in turn: a line for each goal, and after a full run docs/benchmarks.md.

    .venv/bin/python -m bench [--quick] [MODULE ...]

Each benchmark runs in a process of its own: none inherits another's memory, and one that fails stops no other. The
quick run is one process, because starting a shop for each benchmark would take most of a minute: see bench.quick.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.beside import Turn, end, last_words
from bench.figures import Failed, Findings, Report
from bench.others import Others
from bench.report import lines, machine, missing, notes_of, write
from bench.shop import ending_with_us

SECTIONS = {
    "latency": "At once",
    "burst": "A burst",
    "paper": "A ticket to bytes",
    "real_speed": "At the printers' own speed",
    "many": "Many printers",
    "faults": "Faults",
    "start": "Start",
    "footprint": "Footprint",
    "growth": "How cost grows",
}
"""The modules that measure, with their titles, in the order of the page."""
AHEAD = "footprint"
"""Started before all others: the growth of its service's memory is observed over the whole run."""
FULL_RUN = ("latency", "burst", "paper", "real_speed", "many", "start", "growth", AHEAD)
"""The processes of a full run, in order. The faults are measured while the service of `footprint` idles."""
DOCS = Path(__file__).parent.parent / "docs"
CAPACITY = Path(__file__).with_name("capacity.md")
NOTES = Path(__file__).with_name("notes.md")
QUICK_LIMIT_S, FULL_LIMIT_S = 150.0, 450.0
"""Limit in seconds for one process, from the moment when its turn comes."""
AHEAD_LIMIT_S = 60.0
"""Limit in seconds for AHEAD to prepare, before that."""
LOOK_EVERY_S = 0.1


class Interrupted(Exception):
    """SIGTERM, or Ctrl-C: no further benchmark is begun."""


def main(arguments: Sequence[str]) -> int:
    """The command line; 0 = every benchmark came to its end, whether its goals are met or not."""
    chosen = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    notes = notes_of(NOTES.read_text("utf-8"))
    print(f"{machine()}{', quick' if chosen.quick else ''}", flush=True)
    found: dict[str, Report | Failed] = {}
    begin, others, taken = time.monotonic(), Others(), list[str]()
    whole = not chosen.quick and not chosen.modules
    try:
        with contextlib.ExitStack() as stack:
            ahead = {AHEAD: stack.enter_context(Unit(AHEAD, chosen))} if whole else {}
            for prepared in ahead.values():
                prepared.wait_until_prepared()
            for name in chosen.modules or (["quick"] if chosen.quick else FULL_RUN):
                begun = time.monotonic()
                with ahead.get(name) or Unit(name, chosen) as unit:
                    for module, report in unit.findings():
                        found[module] = report
                        _print_findings(module, report)
                taken.append(f"{name} {time.monotonic() - begun:.0f}")
    except Interrupted:
        return 130
    if not chosen.modules and (gaps := missing(found)):
        print(lines(gaps))
    took_s = time.monotonic() - begin
    print(f"{took_s:.0f} s{'' if chosen.quick else ': ' + ', '.join(taken)}; {others.words()}")
    if chosen.quick:
        print("a p99 of fewer than 100 samples is the worst of them; `make bench` has more samples, rows, printers")
    if whole:
        run = f"in {took_s:.0f} s; {others.words()}"
        write(DOCS, found, SECTIONS, notes, CAPACITY.read_text("utf-8"), run)
        print(f"written: {DOCS / 'benchmarks.md'}")
    return int(any(isinstance(one, Failed) for one in found.values()))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples, under a minute in all; writes no page")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"only these of {', '.join(SECTIONS)}")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.modules) - set(SECTIONS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return chosen


def _interrupt(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)
    print("interrupted: ending what was started", flush=True)
    raise Interrupted


def _print_findings(module: str, found: Report | Failed) -> None:
    if isinstance(found, Failed):
        print(f"short {module}: did not end well: {found.why}", flush=True)
    elif found.figures:
        print(lines(found.figures), flush=True)


class Unit(contextlib.AbstractContextManager["Unit"]):
    """A benchmark in its own process, which starts when this is made and is ended at the end of the context."""

    def __init__(self, name: str, chosen: argparse.Namespace) -> None:
        self._name = name
        self._limit_s = QUICK_LIMIT_S if chosen.quick else FULL_LIMIT_S
        self._folder = tempfile.TemporaryDirectory(prefix="kps-bench-report-")
        folder = Path(self._folder.name)
        folder.chmod(0o711)  # PostgreSQL and CUPS work in it as other users
        self._places, self._said = folder / "found", folder / "said"
        self._places.mkdir()
        self._turn = Turn(self._places)
        options = ["--quick"] * chosen.quick + ["--only"] * bool(chosen.modules)
        command = [*ending_with_us(), sys.executable, "-m", "bench.alone", str(self._places), name, *options]
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, start_new_session=True, env=os.environ | {"TMPDIR": str(folder)}
            )

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            end(self._process)
        self._folder.cleanup()

    def wait_until_prepared(self) -> None:
        """Wait until it waits for its turn, has ended, or AHEAD_LIMIT_S is over; `findings` reports what happened."""
        until = time.monotonic() + AHEAD_LIMIT_S
        while not self._turn.is_awaited() and self._process.poll() is None and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)

    def findings(self) -> Findings:
        """Give it its turn; yields each finding as it comes."""
        self._turn.come()
        until = time.monotonic() + self._limit_s
        seen = 0
        while True:
            ended, late = self._process.poll() is not None, time.monotonic() > until
            for place in sorted(self._places.glob("*.found"))[seen:]:
                seen += 1
                finding: tuple[str, Report | Failed] = pickle.loads(place.read_bytes())
                yield finding
            if ended or late:
                break
            time.sleep(LOOK_EVERY_S)
        if not ended:
            yield self._name, Failed(f"not done after {self._limit_s:g} s")
        elif self._process.returncode:
            yield self._name, Failed(last_words(self._said, self._process.returncode))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
