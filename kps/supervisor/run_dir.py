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
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kps.process.child import TEMPORARY

GRACE_S = 2.0
"""Orphans of a killed supervisor notice it by EOF and end by themselves within this."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

log = logging.getLogger("kps.supervisor")


class AlreadyRunning(Exception):
    """Another supervisor of the same INSTANCE_NAME and user is running on this host."""


class RunDirUnusable(Exception):
    """RUN_DIR cannot be made, is not ours alone, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Left:
    """What the last generation left behind."""

    owner: str
    """Its owner uuid; '' if there was none."""
    children: tuple[tuple[int, int], ...]
    """(pid, start time in clock ticks since boot)."""


class RunDir:
    """The folder of one instance's children.json and lock.

    It may lie where everybody can make files, and things are removed in it: it is opened once, examined, and from then
    on used by that descriptor, so that nothing is done where a link leads.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._lock_fd: int | None = None
        self._written: tuple[str, list[int]] | None = None
        self._starts: dict[int, int] = {}
        """Pid -> start time of the children that run: read once, for with many children it adds up."""
        self._trouble = ""

    def take(self) -> None:
        """Lock the folder and clear it. Raises AlreadyRunning or RunDirUnusable."""
        while not self._lock():
            continue  # the file that we locked had just been removed by a supervisor that ended
        self._clear()

    def _clear(self) -> None:
        if self._fd is not None:
            # A link is removed as such, a folder with all that is in it.
            for name in (TEMPORARY, "children.json.new"):
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=self._fd)
            shutil.rmtree(TEMPORARY, ignore_errors=True, dir_fd=self._fd)

    def _lock(self) -> bool:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = opened(self._path)
        except OSError as error:
            raise RunDirUnusable(f"RUN_DIR {self._path} cannot be used: {error.strerror}") from error
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, folder)
            try:
                lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=folder)
            except OSError as error:
                if os.fstat(folder).st_nlink == 0:
                    return False
                raise RunDirUnusable(f"RUN_DIR {self._path} cannot be used: {error.strerror}") from error
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise AlreadyRunning(f"another supervisor uses {self._path}; set INSTANCE_NAME or RUN_DIR") from error
            if os.fstat(lock).st_nlink == 0:
                return False
            undo.pop_all()
        self._fd, self._lock_fd = folder, lock
        return True

    def write(self, owner: str, pids: list[int]) -> None:
        """Replace children.json; a fault is logged, it costs only the sweep of a successor."""
        # Written after every burial, so a pid that is used again has been missing in between.
        if self._written == (owner, pids):
            return
        try:
            self._starts = {pid: self._starts.get(pid) or _start_time(pid) for pid in pids}
            children = [[pid, start] for pid, start in self._starts.items() if start]
            text = json.dumps({"owner": owner, "children": children})
            with self._file("children.json.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "w") as fresh:
                fresh.write(text)
            os.replace("children.json.new", "children.json", src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError as error:
            if self._trouble != (cause := error.strerror or str(error)):  # it is tried again with each turn
                self._trouble = cause
                log.warning("children file cannot be written", extra={"path": str(self._path), "cause": cause})
            return
        self._written, self._trouble = (owner, pids), ""

    def leave(self) -> None:
        """A clean end leaves nothing behind."""
        if self._fd is None or self._lock_fd is None:
            return
        self._clear()
        for name in ("children.json", "lock"):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
        with contextlib.suppress(OSError):
            self._path.rmdir()
        for held in (self._lock_fd, self._fd):
            os.close(held)
        self._lock_fd = self._fd = None

    def left(self) -> Left:
        """What the last generation has left behind; to be asked before `write`."""
        try:
            with self._file("children.json", os.O_RDONLY, "r") as file:
                found = json.load(file)
            return Left(str(found["owner"]), tuple((int(pid), int(start)) for pid, start in found["children"]))
        except FileNotFoundError:
            return Left("", ())
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("children file cannot be read", extra={"cause": str(error)})
            return Left("", ())

    def _file(self, name: str, flags: int, mode: str) -> IO[str]:
        """A file of ours in the folder; never what a link leads to, and never something that keeps us waiting."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return open(os.open(name, flags, 0o600, dir_fd=self._fd), mode, encoding="utf-8")


def opened(path: Path) -> int:
    """A descriptor of a folder of ours in which nobody else can put anything. Raises RunDirUnusable or OSError."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        if path.is_symlink():
            raise RunDirUnusable(
                f"RUN_DIR {path} is a symbolic link: KPS removes files there, so name the folder itself"
            ) from None
        raise
    found = os.fstat(folder)
    if found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE:
        return folder
    os.close(folder)
    if found.st_uid != os.getuid():
        raise RunDirUnusable(f"RUN_DIR {path} belongs to another user")
    raise RunDirUnusable(f"RUN_DIR {path} can be written by other users: chmod go-w {path}, or choose another folder")


def start_time(pid: int) -> int:
    """Clock ticks since boot at which a process started (field 22 of its stat); 0 = there is none."""
    try:
        return _start_time(pid)
    except OSError:
        return 0


def _start_time(pid: int) -> int:
    """The same. Raises OSError where it cannot be read now."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return 0


def sweep(left: Left, grace_s: float = GRACE_S) -> bool:
    """End the children of a generation whose supervisor is dead; True = all are proven gone."""
    handles: list[int] = []
    unknown = 0
    for pid, start in left.children:
        try:
            handle = _handle_of(pid, start)
        except OSError:  # no descriptor left: it may live, so nothing is proven
            unknown += 1
            continue
        if handle is not None:
            handles.append(handle)
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
    if remaining or unknown:
        log.error("children of a dead supervisor will not end", extra={"count": len(remaining) + unknown})
    return not (remaining or unknown)


def _handle_of(pid: int, start: int) -> int | None:
    """A pidfd of exactly that process; None if it is gone and the pid perhaps reused. Raises OSError: not known."""
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError):
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, handle)
        if _start_time(pid) != start:
            return None
        undo.pop_all()
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
