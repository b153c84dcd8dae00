"""The supervisor's side of the template process (kps.process.template): made, asked, made anew when it is gone."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from multiprocessing.connection import Connection
from typing import Any, Final

from kps.core.restart import (
    HEALTHY_AFTER_S,
    START_AGAIN,
    TEMPLATE_ANSWERS_S,
    TEMPLATE_BOOT_LIMIT_S,
    Cause,
)
from kps.process.channels import Channel, FrameTooBig, PeerGone, PeerStuck
from kps.process.child import ChildStart
from kps.process.clocks import monotonic
from kps.process.shared_stats import SharedStats
from kps.process.template import START_FRAME_LIMIT, freeze, serve

_PR_SET_CHILD_SUBREAPER: Final = 36
"""linux/prctl.h"""
_LAUNCH: Final = (
    "import json, sys\n"
    "sys.path[:] = json.loads(sys.argv[3])\n"
    "from kps.supervisor.child_main import template_main\n"
    "template_main(int(sys.argv[1]), int(sys.argv[2]))\n"
)

GONE_LIMIT_S = 2.0

log = logging.getLogger("kps.supervisor")


def words(error: OSError | MemoryError) -> str:
    """Why the host refuses, as a short text."""
    return (error.strerror if isinstance(error, OSError) else None) or "no memory left"


class CannotStart(Exception):
    """The host does not let us start a process now: no descriptor, no process or no memory is left. It may pass."""


class Forked:
    """A process that was forked for us: ours to signal, and ours to reap."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._handle: int | None = None
        with contextlib.suppress(OSError):  # no descriptor is left, or it is gone: then a turn of the loop finds out
            self._handle = os.pidfd_open(pid)

    @property
    def sentinel(self) -> int | None:
        """A descriptor that is ready when it has ended; None = there was none left for it."""
        return self._handle

    def poll(self) -> int | None:
        """Its exit code once it has ended (negative: the signal), else None. Reaps it."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else in this process has waited for it; what it ended with nobody will ever know.
                self._end(os.EX_SOFTWARE)
            else:
                if pid:
                    self._end(os.waitstatus_to_exitcode(status))
        return self._code

    def _end(self, code: int) -> None:
        self._code = code
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def signal(self, number: int) -> None:
        """Send a signal. Until it is reaped its pid is its own."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(slots=True)
class Running:
    """A template process, and our end of its pipe."""

    process: Forked
    control: Channel
    since: float
    since_at: datetime


def reap_orphans() -> None:
    """Become the parent of what our descendants leave behind. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def first() -> Template:
    """The first template, a copy of this process: it must have one thread, and no lock or pipe yet.

    What has been imported so far is in memory once, for the template, its children and us. Where the host
    has no room for a process now, one is launched later. Raises OSError where shared memory has none either.
    """
    from kps.supervisor.child_main import ENTRIES, STEPS

    freeze()
    shared = SharedStats()
    ours, theirs = socket.socketpair()
    try:
        pid = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        return Template(shared, refused=error)
    if pid == 0:
        ours.close()
        serve(Channel.of_descriptor(theirs.detach()), shared, ENTRIES, STEPS)
    theirs.close()
    return Template(shared, _running(pid, ours))


def launched(shared: SharedStats) -> Running:
    """A template in a fresh interpreter: this process has threads by now, and a copy of it would have their locks.

    Raises OSError.
    """
    ours, theirs = socket.socketpair()
    given = (theirs.fileno(), shared.descriptor)
    command = [sys.executable, *_flags(), "-c", _LAUNCH, *map(str, given), json.dumps(sys.path)]
    with theirs, contextlib.ExitStack() as undo:
        undo.enter_context(ours)
        try:
            for descriptor in given:  # nothing else in this process starts programs
                os.set_inheritable(descriptor, True)
            pid = os.posix_spawn(sys.executable, command, os.environ, setsigmask=())
        finally:
            os.set_inheritable(shared.descriptor, False)
        undo.pop_all()
    return _running(pid, ours)


def _flags() -> list[str]:
    """The options of this interpreter, for another one."""
    warnings = [f"-W{option}" for option in sys.warnoptions]
    return [
        *warnings,
        *("-I",) * sys.flags.isolated,
        *("-O",) * sys.flags.optimize,
        *("-X", "utf8") * sys.flags.utf8_mode,
    ]


def _running(pid: int, ours: socket.socket) -> Running:
    control = Channel.of_descriptor(ours.detach())
    control.frame_limit = START_FRAME_LIMIT
    return Running(Forked(pid), control, monotonic(), datetime.now(UTC))


class Answer(Enum):
    """What became of a request."""

    FORKED = "forked"
    REFUSED = "refused"
    LOST = "lost"
    """The template was gone before it answered. If there is a copy, it finds its control pipe closed and ends."""


class Template:
    """The template of one supervisor, over all its incarnations."""

    def __init__(self, shared: SharedStats, first: Running | None = None, refused: OSError | None = None) -> None:
        """`first` is the one that runs already, `refused` why there is none."""
        self.shared = shared
        self._running = first
        self._ready = False
        self._due = 0.0
        self._failures = 0
        self._numbers = 0
        self._asked: dict[int, float] = {}
        """Number of a request -> when it was made."""
        self._forgiven = 0.0
        self._refused: OSError | MemoryError | None = None
        """Why the host has not let us make it."""
        self._refusals = 0
        self._trouble = ""
        """Why there is none; '' once one is ready."""
        self.generation = 1 if first is not None else 0
        self.restarts: dict[str, int] = {}
        self.last_exit = ""
        if refused is not None:
            self._note_refused(refused)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._running.process.pid if self._running is not None else None

    @property
    def sentinel(self) -> int | None:
        """A descriptor that is ready when its process has ended; None = there is none."""
        return self._running.process.sentinel if self._running is not None else None

    @property
    def started_at(self) -> datetime | None:
        """When the one that runs was made."""
        return self._running.since_at if self._running is not None else None

    @property
    def state(self) -> str:
        """Like the state of a child: up, starting or dead."""
        if self._ready:
            return "up"
        return "starting" if self._running is not None or self.booting else "dead"

    @property
    def refusal(self) -> str:
        """Why there is none for more than a moment; '' if there is one, or will be at once."""
        return "" if self._ready or self.booting else self._trouble

    @property
    def control(self) -> Channel | None:
        """The pipe to wait on."""
        return self._running.control if self._running is not None else None

    @property
    def booting(self) -> bool:
        """Whether it will fork in a moment: it is being made, or about to be."""
        return not self._ready and self._failures <= 1

    def due(self, now: float) -> float | None:
        """When `look_after` has something to do without being woken; None = never."""
        if self._running is None:
            return self._due
        if not self._ready:
            return max(self._running.since, self._forgiven) + TEMPLATE_BOOT_LIMIT_S
        return max(min(self._asked.values()), self._forgiven) + TEMPLATE_ANSWERS_S if self._asked else None

    def forgive(self, now: float) -> None:
        """The host, or we, stood still: it has all its time from now on."""
        self._forgiven = now

    def fork(self, kind: str, start: ChildStart, more: tuple[Any, ...], end: Connection[Any, Any]) -> int:
        """Ask for a child; the number of the request. `end` is ours no more. Raises CannotStart."""
        self._numbers += 1
        running = self._running
        if running is None or not self._ready:
            end.close()
            why = f"its template process is gone: {self._trouble}" if self._trouble else "its template process starts"
            raise CannotStart(why) from self._refused
        try:
            running.control.send_end(("fork", self._numbers, kind, start, more), end)
        except (PeerGone, PeerStuck) as error:
            raise CannotStart("its template process is gone") from error
        except FrameTooBig as error:
            raise CannotStart(f"what it is to be given is too much: {error}") from error
        except (OSError, MemoryError) as error:
            raise CannotStart(words(error)) from error
        self._asked[self._numbers] = monotonic()
        return self._numbers

    def answers(self) -> Iterator[tuple[int, Answer, int]]:
        """(number of a request, what became of it, pid or error number): all that have come, those lost as well."""
        running = self._running
        if running is None:
            return
        try:
            while (message := running.control.receive()) is not None:
                match message:
                    case ("ready",):
                        self._ready, self._trouble, self._refused = True, "", None
                        log.info("template ready", extra={"pid_of": running.process.pid})
                    case ("forked", int(number), int(pid)):
                        self._asked.pop(number, None)
                        self._failures = 0
                        yield number, Answer.FORKED, pid
                    case ("refused", int(number), int(error)):
                        self._asked.pop(number, None)
                        yield number, Answer.REFUSED, error
        except PeerGone:
            yield from self._gone(None)

    def look_after(self, now: float) -> Iterator[tuple[int, Answer, int]]:
        """Make it when there is none and it is time; end one that does not answer. Answers as `answers` does."""
        if self._running is None:
            if now >= self._due:
                self._make()
            return
        with contextlib.suppress(PeerGone):  # `answers` finds out
            self._running.control.flush()
        if self._running.process.poll() is not None:  # a process between that is stopped may keep its pipe open
            yield from self._gone(None)
            return
        due = self.due(now)
        if due is not None and now >= due:
            yield from self._gone(Cause.HUNG if self._ready else Cause.BOOT_TIMEOUT)

    def _make(self) -> None:
        try:
            self._running = launched(self.shared)
        except (OSError, MemoryError) as error:
            self._note_refused(error)
        else:
            self.generation += 1
            self._refusals = 0

    def _note_refused(self, error: OSError | MemoryError) -> None:
        self._refused = error
        self._plan(words(error), Cause.START_FAILED)
        self._refusals += 1
        if self._refusals in (1, 10) or self._refusals % 100 == 0:
            log.error("template cannot be started", extra={"cause": self._trouble, "failures": self._refusals})

    def _plan(self, why: str, cause: Cause) -> None:
        """At once after the first failure, for its children wait; then as with a child that the host refuses."""
        self._failures += 1
        again = self._failures > 1
        self._due = monotonic() + (START_AGAIN.delay(self._failures - 1, random.random()) if again else 0.0)  # noqa: S311
        self._trouble = why
        self.restarts[cause.value] = self.restarts.get(cause.value, 0) + 1

    def _gone(self, doom: Cause | None) -> Iterator[tuple[int, Answer, int]]:
        """Kill what there still is of it, and give up what it has not answered. `doom`: why we end it ourselves."""
        running, self._running = self._running, None
        assert running is not None
        running.control.close()
        code = _killed(running.process)
        self.last_exit = exit_text(code, ours=doom is not None) if code is not None else ""
        cause = doom or (Cause.SIGNAL if code is not None and code < 0 else Cause.EXIT)
        log.error("template gone", extra={"pid_of": running.process.pid, "cause": cause.value, "exit": self.last_exit})
        self._ready = False
        if monotonic() - running.since >= HEALTHY_AFTER_S:
            self._failures = 0
        self._plan("it does not answer" if doom is not None else self.last_exit, cause)
        lost, self._asked = list(self._asked), {}
        for number in lost:
            yield number, Answer.LOST, 0

    def reap_others(self, known: Collection[int]) -> None:
        """Reap what has been left to us and is none of ours: a process between, a child whose template died too early.

        Not while there may be a child of whose birth we have not heard: its exit code would be lost.
        """
        if not self._asked:
            _reap_others(known)

    def close(self) -> None:
        """It ends when its pipe does; and is not waited for without a limit."""
        running, self._running = self._running, None
        if running is not None:
            running.control.close()
            _killed(running.process)
        self.shared.close()


def _killed(process: Forked) -> int | None:
    """SIGKILL, then the exit code. It prints nothing and has nothing in hand, so nothing is left undone.

    None = it has not gone in time; then it is reaped with the orphans.
    """
    process.signal(signal.SIGKILL)
    if process.sentinel is not None:
        poll = select.poll()
        poll.register(process.sentinel, select.POLLIN)
        poll.poll(GONE_LIMIT_S * 1000)
    return process.poll()


def exit_text(code: int, *, ours: bool) -> str:
    """An exit code (negative: a signal) in words; `ours`: it was we who ended it."""
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if -code == signal.SIGKILL and not ours else name
    return f"signal {-code}"


def _reap_others(known: Collection[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid in known:
                return  # its turn comes, and then that of those behind it
            os.waitpid(found.si_pid, os.WNOHANG)
