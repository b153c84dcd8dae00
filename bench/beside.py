"""Runs the benchmark of faults in its own process at the same time as one of an idle service: both mostly wait.

The idle service takes a hundredth of a core, which does not change the times of the faults. Its processor time and
memory are read from its own processes, so the faults do not change those either.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from bench.figures import Failed, Report
from bench.shop import ending_with_us

OPEN = b"open\n"
END_LIMIT_S = 45.0
"""Seconds for an interrupted benchmark to end what it has started."""


class Turn:
    """A benchmark waits for its turn, and bench.__main__ gives it, by two files in a shared folder."""

    def __init__(self, folder: Path) -> None:
        self._waits, self._came = folder / "waits", folder / "came"

    def has_come(self) -> bool:
        """Called by the benchmark when it is prepared: whether it may begin."""
        self._waits.touch()
        return self._came.exists()

    def is_awaited(self) -> bool:
        """Called by bench.__main__: whether the benchmark waits for its turn."""
        return self._waits.exists()

    def come(self) -> None:
        """Called by bench.__main__: let the benchmark begin."""
        self._came.touch()


class Faults:
    """`bench.faults` in a process, a context manager. Its shop is opened at once; it measures from `begin` on."""

    def __init__(self, *, quick: bool, take_overs: bool) -> None:
        self._options = ["--quick"] * quick + ["--no-take-over"] * (not take_overs)

    def __enter__(self) -> Faults:
        self._folder = tempfile.TemporaryDirectory(prefix="kps-bench-faults-")
        self._place, self._said = Path(self._folder.name) / "report", Path(self._folder.name) / "said"
        command = [sys.executable, "-m", "bench.faults", "--beside", str(self._place), *self._options]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*ending_with_us(), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        if self.running():
            end(self._process)
        self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()
        self._folder.cleanup()

    def wait_open(self) -> None:
        """Wait until its database and printers are there, or it has failed."""
        self._pipe(self._process.stdout).readline()

    def begin(self) -> None:
        """Let it start its service and measure; if it has failed already, `report` says why."""
        try:
            self._pipe(self._process.stdin).write(b"go\n")
            self._pipe(self._process.stdin).flush()
        except BrokenPipeError:
            self._process.wait()

    def running(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def report(self) -> Report | Failed:
        """Its findings; the process must have ended."""
        if self._process.returncode:
            return Failed(last_words(self._said, self._process.returncode))
        found: Report = pickle.loads(self._place.read_bytes())
        return found

    def _pipe(self, pipe: object) -> BinaryIO:
        return pipe  # type: ignore[return-value]


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process as Ctrl-C would, so that it ends what it has started; kill it if it takes too long."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(END_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_words(said: Path, code: int) -> str:
    """The last line of a process's output; its last 25 lines are copied to standard error."""
    words = said.read_text("utf-8", "replace").strip().splitlines()
    sys.stderr.write("".join(f"  | {word}\n" for word in words[-25:]))
    return words[-1] if words else f"exit code {code}"
