"""One child process: started, watched, ended; never waited for without a limit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from kps.core.health import Counted
from kps.core.restart import START_AGAIN, UNSTARTABLE_AFTER, Cause, Deaths
from kps.core.settings import Settings
from kps.database import names
from kps.database.schema import PosSchema
from kps.process.channels import Channel
from kps.process.child import ChildStart
from kps.process.clocks import monotonic
from kps.process.slots import Cell, Cells, make_cells

_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class CannotStart(Exception):
    """The host does not let us start a process now: no descriptor, no process or no memory is left. It may pass."""


class State(Enum):
    """Where a child is in its life."""

    WAITING = "waiting"
    """Not running; started when its back-off is over."""
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    DEAD = "dead"
    """Ended as asked; not started again."""


@dataclass(slots=True)
class Child:
    """A child of this supervisor, over all its incarnations. Its slot lives as long as this object."""

    name: str
    kind: str
    entry: Callable[..., None]
    cells: Cells
    orders: Cells
    generation: int = 0
    process: SpawnProcess | None = None
    control: Channel | None = None
    state: State = State.WAITING
    started: float = 0.0
    started_at: datetime | None = None
    restart_at: float = 0.0
    aborted_at: float | None = None
    doom: Cause | None = None
    """Why we ended it ourselves."""
    deaths: Deaths = field(default_factory=Deaths)
    restarts: dict[str, int] = field(default_factory=dict)
    last_exit: str = ""
    named_at: Counted = field(default_factory=Counted)
    """What it had counted when it got its name, see kps.supervisor.tallies."""
    refused: int = 0
    """Starts in a row that the host has refused; of none a process came about."""
    refusal: str = ""
    """Why, in a few words; '' once one was started."""

    @classmethod
    def new(cls, context: SpawnContext, name: str, kind: str, entry: Callable[..., None]) -> Child:
        """A child that has not been started yet."""
        return cls(name, kind, entry, make_cells(context), make_cells(context))

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid if self.process is not None else None

    @property
    def unstarted(self) -> bool:
        """Whether its first start is still to come, and only because others boot: nobody has refused it."""
        return self.state is State.WAITING and not self.generation and not self.refused

    @property
    def running(self) -> bool:
        """Whether there is a process that has not been reaped."""
        return self.process is not None

    def start(
        self, context: SpawnContext, settings: Settings, schema: PosSchema, owner: str, extra: tuple[Any, ...]
    ) -> None:
        """Start the next incarnation. Raises CannotStart; then it is as if nothing had been tried.

        TERM, INT and HUP are blocked meanwhile; the child unblocks them itself.
        """
        generation = self.generation + 1
        for said_by_the_last in (Cell.UNREACHED_SINCE, Cell.DATABASE_TROUBLE_SINCE):
            self.cells[said_by_the_last] = 0.0
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = context.Pipe()
                # Our copy of the child's end would keep the pipe open after the child's death.
                with contextlib.closing(theirs):
                    undo.callback(ours.close)
                    control = Channel(ours)
                    undo.callback(control.close)
                    given = ChildStart(
                        self.name, generation, settings, schema, owner, theirs, self.cells, self.orders, names.known()
                    )
                    process = _started(context, self.entry, (given, *extra), self.name)
            except (OSError, MemoryError) as error:
                raise CannotStart(_words(error)) from error
            undo.pop_all()
        self.generation = generation
        self.control = control
        self.process = process
        self.state = State.STARTING
        self.started = monotonic()
        self.started_at = datetime.now(UTC)
        self.aborted_at = None
        self.doom = None
        self.refused, self.refusal = 0, ""

    def abort(self, cause: Cause) -> None:
        """SIGABRT: it leaves its stacks. SIGKILL follows, for a stopped process does not even abort."""
        self.doom = self.doom or cause
        self.aborted_at = monotonic()
        self.signal(signal.SIGABRT)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to a process that has not been reaped, so its pid is still its own."""
        if self.process is not None and self.process.pid is not None and self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def reap(self) -> int | None:
        """The exit code once it has ended (negative: the signal), else None. Frees everything of the incarnation."""
        process = self.process
        if process is None or process.exitcode is None:
            return None
        code = process.exitcode
        process.join()
        process.close()
        self.process = None
        if self.control is not None:
            self.control.close()
            self.control = None
        self.last_exit = _exit_text(code, ours=self.doom is not None)
        return code

    def note_refusal(self, why: str, chance: float) -> None:
        """The host has refused a start: plan the next one. No death, so nobody is blamed and no loop is counted."""
        self.refused += 1
        self.refusal = why
        self.restart_at = monotonic() + START_AGAIN.delay(self.refused, chance)
        self.restarts[Cause.START_FAILED.value] = self.restarts.get(Cause.START_FAILED.value, 0) + 1

    @property
    def unstartable(self) -> bool:
        """Whether the host has refused it for so long that its work should be given to others."""
        return self.refused >= UNSTARTABLE_AFTER

    def note_death(self, code: int, chance: float) -> Cause:
        """Plan the restart after an unwanted end; returns its cause."""
        now = monotonic()
        self.deaths.note(now, now - self.started)
        self.restart_at = self.deaths.restart_at(now, chance)
        self.state = State.WAITING
        cause = self.doom or (Cause.SIGNAL if code < 0 else Cause.EXIT)
        self.restarts[cause.value] = self.restarts.get(cause.value, 0) + 1
        return cause


def _exit_text(code: int, *, ours: bool) -> str:
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if -code == signal.SIGKILL and not ours else name
    return f"signal {-code}"


def _started(context: SpawnContext, entry: Callable[..., None], given: tuple[Any, ...], name: str) -> SpawnProcess:
    """A process that runs. What it is given fits into an empty pipe: nobody but the child reads it."""
    process = context.Process(target=entry, args=given, name=name, daemon=False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _words(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "no memory left"
