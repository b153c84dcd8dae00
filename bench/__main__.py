"""All benchmarks in turn: a line for each goal, and after a full run docs/benchmarks.md.

    .venv/bin/python -m bench [--quick] [MODULE ...]

Each benchmark runs in a process of its own: none inherits another's memory, and one that fails stops no other.
"""

from __future__ import annotations

import argparse
import importlib
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

from bench.figures import Report
from bench.report import Failed, line, machine, write

SECTIONS = {
    "latency": "At once",
    "burst": "A burst",
    "paper": "A ticket to bytes",
    "real_speed": "At the printers' own speed",
    "many": "Many printers",
    "faults": "Faults",
    "start": "Start and takeover",
    "footprint": "Footprint",
    "growth": "How cost grows",
}
"""The modules that measure, in the order of a run, with their titles on the page."""
DOCS = Path(__file__).parent.parent / "docs"
CAPACITY = Path(__file__).with_name("capacity.md")
QUICK_LIMIT_S, FULL_LIMIT_S = 60.0, 400.0
"""What a single benchmark may take."""
END_LIMIT_S = 45.0
"""For an interrupted one to end what it has started."""


class Interrupted(Exception):
    """SIGTERM, or Ctrl-C: no further benchmark is begun."""


def main(arguments: Sequence[str]) -> int:
    """The command line; 0 = every benchmark came to its end, whether its goals are met or not."""
    chosen = _parse(arguments)
    if chosen.alone:
        return _measure_alone(chosen.modules[0], chosen.quick, Path(chosen.alone))
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    print(f"{machine()}{', quick' if chosen.quick else ''}", flush=True)
    found: dict[str, Report | Failed] = {}
    taken: list[str] = []
    begin = time.monotonic()
    try:
        for module in chosen.modules or SECTIONS:
            begun = time.monotonic()
            found[module] = _measure(module, chosen.quick)
            _tell(module, found[module])
            taken.append(f"{module} {time.monotonic() - begun:.0f}")
    except Interrupted:
        print("interrupted")
        return 130
    print(f"{time.monotonic() - begin:.0f} s: {', '.join(taken)}")
    if not chosen.quick and not chosen.modules:
        write(DOCS, found, SECTIONS, CAPACITY.read_text("utf-8"))
        print(f"written: {DOCS / 'benchmarks.md'}")
    return int(any(isinstance(one, Failed) for one in found.values()))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples, under a minute in all; writes no page")
    parser.add_argument("--alone", default="", help=argparse.SUPPRESS)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"only these of {', '.join(SECTIONS)}")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.modules) - set(SECTIONS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return chosen


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


def _tell(module: str, found: Report | Failed) -> None:
    if isinstance(found, Failed):
        print(f"short {module}: did not end well: {found.why}", flush=True)
        return
    for figure in found.figures:
        print(line(figure), flush=True)


# A benchmark in a process of its own.


def _measure(module: str, quick: bool) -> Report | Failed:
    """Run one; its last words are the reason if it fails. Raises Interrupted once it has ended."""
    with tempfile.TemporaryDirectory(prefix="kps-bench-report-") as folder:
        place, said = Path(folder) / "report", Path(folder) / "said"
        command = [sys.executable, "-m", "bench", "--alone", str(place), *(["--quick"] * quick), module]
        with said.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
            try:
                process.wait(QUICK_LIMIT_S if quick else FULL_LIMIT_S)
            except subprocess.TimeoutExpired:
                _end(process)
                return Failed(f"not done after {QUICK_LIMIT_S if quick else FULL_LIMIT_S:g} s")
            except Interrupted:
                _end(process)
                raise
        if process.returncode != 0:
            words = said.read_text("utf-8", "replace").strip().splitlines()
            sys.stderr.write("".join(f"  | {word}\n" for word in words[-25:]))
            return Failed(words[-1] if words else f"exit code {process.returncode}")
        report: Report = pickle.loads(place.read_bytes())
        return report


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end what it has started, as Ctrl-C would; if it does not, the kernel does."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _measure_alone(module: str, quick: bool, place: Path) -> int:
    report = importlib.import_module(f"bench.{module}").measure(quick)
    place.write_bytes(pickle.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
