"""A process with its children: list, freeze, kill. Linux only."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

FREEZE_SECONDS: Final = 5.0
END_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.002


class ProcessStuck(Exception):
    """A process did not obey a signal that cannot be ignored."""


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and parent of a process; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = text.rpartition(")")[2].split()[:2]
    return state, int(parent)


def children(parent: int) -> list[int]:
    """Process ids of the direct children."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if (found := _stat(pid)) is not None and found[1] == parent]


def freeze(pid: int) -> None:
    """SIGSTOP; returns when the process stands still or is gone. Raises ProcessStuck."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        _wait_until_still(pid)


def _wait_until_still(pid: int) -> None:
    deadline = time.monotonic() + FREEZE_SECONDS
    while (found := _stat(pid)) is not None and found[0] not in "TtZX":
        if time.monotonic() > deadline:
            raise ProcessStuck(f"process {pid} does not stop")
        time.sleep(POLL_SECONDS)


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a child of this process and its children; returns when all are gone. Raises ProcessStuck.

    By pidfds, because an orphan is reaped by another process, and its id may be reused.
    """
    freeze(process.pid)  # no new children from here on
    with ExitStack() as descriptors:
        orphans = []
        for pid in children(process.pid):
            with suppress(ProcessLookupError):
                orphan = os.pidfd_open(pid)
                descriptors.callback(os.close, orphan)
                orphans.append(orphan)
        process.kill()
        for orphan in orphans:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(orphan, signal.SIGKILL)
        process.wait(END_SECONDS)
        for orphan in orphans:
            _wait_for_end(orphan)


def _wait_for_end(process_descriptor: int) -> None:
    poller = select.poll()
    poller.register(process_descriptor, select.POLLIN)
    if not poller.poll(END_SECONDS * 1000):
        raise ProcessStuck("a killed child does not end")
