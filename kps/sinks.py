"""Where log lines go: a descriptor that is never waited for, or a thread that waits for a disk in our place."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeVar

BACKLOG_BYTES = 2 * 1024 * 1024
"""What may wait for a disk that does not answer; a burst of a healthy one's stays far below."""
FINISH_LIMIT_S = 1.0
"""How long the end of a process waits for its last lines."""

_Made = TypeVar("_Made")


class Sink(Protocol):
    """Takes lines (with their line end) and never makes the caller wait."""

    def write(self, line: bytes) -> bool:
        """False if the line, or a part of it, is lost."""

    def finish(self) -> None:
        """Give what was taken a moment to arrive, then let go. Twice is harmless."""

    @property
    def dropped(self) -> int:
        """Lines that were taken and lost afterwards."""


def sink_for(fd: int) -> Sink:
    """The way to an open descriptor, by what it is: pipe, socket, terminal, file, or nothing (closed)."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            # One write of at most PIPE_BUF bytes is then whole or nothing, also among several writers, and all
            # processes of ours that share the pipe want the same.
            os.set_blocking(fd, False)
            return _Direct(lambda line: os.write(fd, line))
        if stat.S_ISSOCK(mode):
            # The flag of the call, not of the socket: its other users may wait if they like.
            own = socket.socket(fileno=os.dup(fd))
            return _Direct(lambda line: own.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), own.close)
        if stat.S_ISCHR(mode) and not os.isatty(fd):
            return _Direct(lambda line: os.write(fd, line))
        if os.isatty(fd):
            return _terminal(fd)
    except OSError:
        # Closed: its number may soon be another file's.
        return _Nowhere()
    return Background("log-stdout", lambda: _Direct(lambda line: os.write(fd, line)))


def _terminal(fd: int) -> Sink:
    """A stopped terminal (Ctrl-S) blocks who writes. O_NONBLOCK would reach the shell too: it is opened anew."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return Background("log-stdout", lambda: _Direct(lambda line: os.write(fd, line)))
    return _Direct(lambda line: os.write(own, line), lambda: os.close(own))


class _Nowhere:
    """There is no such descriptor."""

    dropped = 0

    def write(self, line: bytes) -> bool:
        return False

    def finish(self) -> None:
        return


class _Direct:
    """One call per line, which takes what it can at once. What it leaves of a line goes out before the next one."""

    dropped = 0

    def __init__(self, call: Callable[[bytes], int], let_go: Callable[[], None] | None = None) -> None:
        self._call = call
        self._let_go = let_go
        self._rest = b""

    def write(self, line: bytes) -> bool:
        try:
            if self._rest:
                self._rest = self._rest[self._call(self._rest) :]
            if self._rest:
                return False
            taken = self._call(line)
        except (OSError, ValueError):  # full, closed, gone
            return False
        # A pipe takes a line whole or not at all; a terminal or a TCP connection may take a piece, and half a line
        # must not run into the next one.
        self._rest = line[taken:]
        return True

    def finish(self) -> None:
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go()


class Background:
    """A sink that may take for ever, a file on a dead disk for one: a thread opens and writes it.

    Lines wait in memory up to BACKLOG_BYTES; what is beyond is lost at once and counted.
    """

    def __init__(self, name: str, open_: Callable[[], Sink]) -> None:
        """`open_` may raise OSError; it runs in the thread."""
        self._open = open_
        self._chores: SimpleQueue[bytes | Callable[[Sink], None] | None] = SimpleQueue()
        self._given = self._taken = 0
        """Bytes; each is written by one side only, so that no lock is needed."""
        self._late = 0
        self._closed = False
        self._opened = threading.Event()
        self._fault: OSError | None = None
        self._thread: threading.Thread | None = None
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the host allows no further thread now
            self._fault = OSError(errno.EAGAIN, str(error))
            self._opened.set()
        else:
            self._thread = thread

    @property
    def dropped(self) -> int:
        """Lines that were taken and lost afterwards."""
        return self._late

    def fault(self, limit_s: float) -> OSError | None:
        """Why it could not be opened; None if it could, or is not known in time."""
        self._opened.wait(limit_s)
        return self._fault

    def write(self, line: bytes) -> bool:
        """False if too much waits already, or nothing could be opened."""
        if self._closed or self._fault is not None or self._given - self._taken + len(line) > BACKLOG_BYTES:
            return False
        self._given += len(line)
        self._chores.put(line)
        return True

    def ask(self, what: Callable[[Sink], None]) -> None:
        """Have something done to the sink by the thread, behind the lines so far."""
        self._chores.put(what)

    def finish(self) -> None:
        """Wait for the lines so far, FINISH_LIMIT_S at most."""
        if not self._closed:
            self._closed = True
            self._chores.put(None)
        if self._thread is not None:
            self._thread.join(FINISH_LIMIT_S)

    def _work(self) -> None:
        try:
            sink = self._open()
        except OSError as error:
            self._fault = error
            return
        finally:
            self._opened.set()
        while (chore := self._chores.get()) is not None:
            if isinstance(chore, bytes):
                self._late += not sink.write(chore)
                self._taken += len(chore)
            else:
                with contextlib.suppress(OSError):  # what closing says of a full disk has been counted with its lines
                    chore(sink)
        with contextlib.suppress(OSError):
            sink.finish()


def within(limit_s: float, call: Callable[[], _Made]) -> _Made:
    """The result of a call that may hang; its OSError passes.

    TimeoutError (an OSError too) if it does: the thread that makes it is left behind.
    """
    made: list[_Made] = []
    faults: list[OSError] = []

    def work() -> None:
        try:
            made.append(call())
        except OSError as error:
            faults.append(error)

    thread = threading.Thread(target=work, name="patience", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join(limit_s)
    if faults:
        raise faults[0]
    if not made:
        raise TimeoutError(errno.ETIMEDOUT, "does not answer")
    return made[0]
