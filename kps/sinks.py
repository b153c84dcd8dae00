"""Where log lines go: a descriptor that is written without waiting, or a thread that waits for a disk."""

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
"""Most bytes that wait for a disk. While a disk works, far fewer do."""
FINISH_LIMIT_S = 1.0
"""How long the end of a process waits for its last lines."""

_Made = TypeVar("_Made")


class Sink(Protocol):
    """Takes lines (with their line end) and never makes the caller wait."""

    def write(self, line: bytes) -> bool:
        """False if the line, or a part of it, is lost."""

    def finish(self) -> None:
        """Wait a moment for lines on their way, then close. May be called twice."""

    @property
    def dropped(self) -> int:
        """Lines that `write` accepted and that were lost later."""


def sink_for(fd: int) -> Sink:
    """The sink for a descriptor, by what it is: pipe, socket, terminal, file, or closed."""
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode):
            # A write of at most PIPE_BUF bytes is then whole or nothing, also with several writers. The flag is the
            # pipe's, and so holds for all processes of the service that share it, which all want it.
            os.set_blocking(fd, False)
            return _Direct(lambda line: os.write(fd, line))
        if stat.S_ISSOCK(mode):
            # The flag of the call, not of the socket: other users of the socket are not affected.
            own = socket.socket(fileno=os.dup(fd))
            return _Direct(lambda line: own.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), own.close)
        if stat.S_ISCHR(mode) and not os.isatty(fd):
            return _Direct(lambda line: os.write(fd, line))
        if os.isatty(fd):
            return _terminal(fd)
    except OSError:
        # Closed. The number may soon belong to another file, so nothing is written to it later either.
        return _Closed()
    return Background("log-stdout", lambda: _Direct(lambda line: os.write(fd, line)))


def _terminal(fd: int) -> Sink:
    """A stopped terminal (Ctrl-S) blocks writers. It is opened again, because O_NONBLOCK would affect the shell too."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return Background("log-stdout", lambda: _Direct(lambda line: os.write(fd, line)))
    return _Direct(lambda line: os.write(own, line), lambda: os.close(own))


class _Closed:
    """The descriptor is closed: every line is lost."""

    dropped = 0

    def write(self, line: bytes) -> bool:
        return False

    def finish(self) -> None:
        return


class _Direct:
    """Writes each line with one call that does not wait. The rest of a partly written line goes out before the next."""

    dropped = 0

    def __init__(self, call: Callable[[bytes], int], close: Callable[[], None] | None = None) -> None:
        self._call = call
        self._close = close
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
        # A pipe takes a line whole or not at all. A terminal or TCP connection may take a part; the rest must be
        # written before the next line.
        self._rest = line[taken:]
        return True

    def finish(self) -> None:
        close, self._close = self._close, None
        if close is not None:
            close()


class Background:
    """A sink that may block for ever, such as a file on a failed disk: a thread opens and writes it.

    Lines wait in memory up to BACKLOG_BYTES; further ones are lost and counted.
    """

    def __init__(self, name: str, open_: Callable[[], Sink]) -> None:
        """`open_` may raise OSError; it runs in the thread."""
        self._open = open_
        self._tasks: SimpleQueue[bytes | Callable[[Sink], None] | None] = SimpleQueue()
        self._queued = self._handled = 0
        """Bytes put into the queue and taken from it. Each is changed by one thread only, so no lock is needed."""
        self._lost_later = 0
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
        """Lines that `write` accepted and that were lost later."""
        return self._lost_later

    def fault(self, limit_s: float) -> OSError | None:
        """Why the sink could not be opened; None if it could, or is not known in time."""
        self._opened.wait(limit_s)
        return self._fault

    def write(self, line: bytes) -> bool:
        """False if too much waits already, or the sink could not be opened."""
        if self._closed or self._fault is not None or self._queued - self._handled + len(line) > BACKLOG_BYTES:
            return False
        self._queued += len(line)
        self._tasks.put(line)
        return True

    def ask(self, what: Callable[[Sink], None]) -> None:
        """Let the thread call `what` with the sink, after the lines so far."""
        self._tasks.put(what)

    def finish(self) -> None:
        """Wait for the lines so far, FINISH_LIMIT_S at most."""
        if not self._closed:
            self._closed = True
            self._tasks.put(None)
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
        while (task := self._tasks.get()) is not None:
            if isinstance(task, bytes):
                self._lost_later += not sink.write(task)
                self._handled += len(task)
            else:
                # A full disk is reported again at closing; its lines are counted already.
                with contextlib.suppress(OSError):
                    task(sink)
        with contextlib.suppress(OSError):
            sink.finish()


def within(limit_s: float, call: Callable[[], _Made]) -> _Made:
    """The result of a call that may block. Its OSError is raised here.

    Raises TimeoutError (an OSError too) after `limit_s`; the thread that makes the call is then left behind.
    """
    made: list[_Made] = []
    faults: list[OSError] = []

    def work() -> None:
        try:
            made.append(call())
        except OSError as error:
            faults.append(error)

    thread = threading.Thread(target=work, name="call-with-limit", daemon=True)
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
