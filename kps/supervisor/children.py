"""One child process: started, watched, ended; never waited for without a limit."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from kps.core.health import Counted
from kps.core.restart import Cause, Deaths
from kps.core.settings import Settings
from kps.database import names
from kps.database.schema import PosSchema
from kps.process.channels import Channel
from kps.process.child import ChildStart
from kps.process.clocks import monotonic
from kps.process.slots import Cell, Cells, make_cells

_BLOCKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


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

    @classmethod
    def new(cls, context: SpawnContext, name: str, kind: str, entry: Callable[..., None]) -> Child:
        """A child that has not been started yet."""
        return cls(name, kind, entry, make_cells(context), make_cells(context))

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid if self.process is not None else None

    @property
    def running(self) -> bool:
        """Whether there is a process that has not been reaped."""
        return self.process is not None

    def start(
        self, context: SpawnContext, settings: Settings, schema: PosSchema, owner: str, extra: tuple[Any, ...]
    ) -> None:
        """Start the next incarnation. TERM, INT and HUP are blocked meanwhile; the child unblocks them itself."""
        self.generation += 1
        for said_by_the_last in (Cell.UNREACHED_SINCE, Cell.DATABASE_TROUBLE_SINCE):
            self.cells[said_by_the_last] = 0.0
        ours, theirs = context.Pipe()
        given = ChildStart(
            self.name, self.generation, settings, schema, owner, theirs, self.cells, self.orders, names.known()
        )
        process = context.Process(target=self.entry, args=(given, *extra), name=self.name, daemon=False)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            # Our copy of the child's end would keep the pipe open after the child's death.
            _close(theirs)
        self.control = Channel(ours)
        self.control.set_nonblocking()
        self.process = process
        self.state = State.STARTING
        self.started = monotonic()
        self.started_at = datetime.now(UTC)
        self.aborted_at = None
        self.doom = None

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


def _close(connection: Connection[Any, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.close()
