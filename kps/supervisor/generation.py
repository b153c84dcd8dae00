"""The children of this supervisor, written down so that its successor can end those that outlive it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from kps.process.child import TEMPORARY

GRACE_S = 2.0
"""Orphans of a killed supervisor notice it by EOF and end by themselves within this."""

log = logging.getLogger("kps.supervisor")


class AlreadyRunning(Exception):
    """Another supervisor of the same INSTANCE_NAME and user is running on this host."""


class RunDirUnusable(Exception):
    """RUN_DIR cannot be made, is not ours, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the last generation left behind."""

    owner: str
    """Its owner uuid; '' if there was none."""
    children: tuple[tuple[int, int], ...]
    """(pid, start time in clock ticks since boot)."""


class RunDir:
    """The folder of one instance's children.json and lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_fd: int | None = None
        self._written: tuple[str, list[int]] | None = None

    def take(self) -> None:
        """Lock the folder and clear it. Raises AlreadyRunning or RunDirUnusable."""
        while not self._lock():
            continue  # the file that we locked had just been removed by a supervisor that ended
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._path / TEMPORARY, ignore_errors=True)

    def _lock(self) -> bool:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._path.stat().st_uid != os.getuid():
                raise RunDirUnusable(f"RUN_DIR {self._path} belongs to another user")
            lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RunDirUnusable(f"RUN_DIR {self._path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise AlreadyRunning(f"another supervisor uses {self._path}; set INSTANCE_NAME or RUN_DIR") from error
        if os.fstat(lock).st_nlink == 0:
            os.close(lock)
            return False
        self._lock_fd = lock
        return True

    def write(self, owner: str, pids: list[int]) -> None:
        """Replace children.json; a fault is logged, it costs only the sweep of a successor."""
        # Written after every burial, so a pid that is used again has been missing in between.
        if self._written == (owner, pids):
            return
        text = json.dumps({"owner": owner, "children": [[pid, start] for pid in pids if (start := start_time(pid))]})
        fresh = self._path / "children.json.new"
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self._path / "children.json")
        except OSError as error:
            log.warning("children file cannot be written", extra={"path": str(self._path), "cause": error.strerror})
            return
        self._written = owner, pids

    def leave(self) -> None:
        """A clean end leaves nothing behind."""
        self._clear()
        for name in ("children.json", "lock"):
            with contextlib.suppress(OSError):
                (self._path / name).unlink()
        with contextlib.suppress(OSError):
            self._path.rmdir()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def left(self) -> Left:
        """What the last generation has left behind; to be asked before `write`."""
        try:
            found = json.loads((self._path / "children.json").read_text(encoding="utf-8"))
            return Left(str(found["owner"]), tuple((int(pid), int(start)) for pid, start in found["children"]))
        except FileNotFoundError:
            return Left("", ())
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("children file cannot be read", extra={"cause": str(error)})
            return Left("", ())


def start_time(pid: int) -> int:
    """Clock ticks since boot at which a process started (field 22 of its stat); 0 = there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def sweep(left: Left, grace_s: float = GRACE_S) -> bool:
    """End the children of a generation whose supervisor is dead; True = all are proven gone."""
    handles = [handle for pid, start in left.children if (handle := _handle_of(pid, start)) is not None]
    if handles:
        log.warning("children of a dead supervisor", extra={"count": len(handles)})
    try:
        remaining = _wait_gone(handles, grace_s)
        for handle in remaining:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        remaining = _wait_gone(remaining, 5.0)
    finally:
        for handle in handles:
            os.close(handle)
    if remaining:
        log.error("children of a dead supervisor will not end", extra={"count": len(remaining)})
    return not remaining


def _handle_of(pid: int, start: int) -> int | None:
    """A pidfd of exactly that process; None if it is gone and the pid perhaps reused."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return None
    if start_time(pid) != start:
        os.close(handle)
        return None
    return handle


def _wait_gone(handles: list[int], limit_s: float) -> list[int]:
    end = time.monotonic() + limit_s
    remaining = list(handles)
    while remaining and (left := end - time.monotonic()) > 0:
        poller = select.poll()
        for handle in remaining:
            poller.register(handle, select.POLLIN)
        gone = {handle for handle, _ in poller.poll(left * 1000)}
        remaining = [handle for handle in remaining if handle not in gone]
    return remaining
