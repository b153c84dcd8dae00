"""One child process: started, watched, ended; never waited for without a limit."""

from __future__ import annotations

import contextlib
import logging
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import Pipe
from typing import Any

from kps.core.health import Counted
from kps.core.printer_lifecycle import PROCESS, Event, Process
from kps.core.restart import START_AGAIN, UNSTARTABLE_AFTER, Cause, Deaths
from kps.core.settings import Settings
from kps.core.transitions import after
from kps.database import names
from kps.database.pos import PosAdapter
from kps.process.channels import Channel, FrameTooBig, PeerGone, PeerStuck
from kps.process.child import ChildStart
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Cells, SharedStats
from kps.supervisor.template import CannotStart, Forked, Template, exit_text, words

log = logging.getLogger("kps.supervisor")


@dataclass(slots=True)
class Child:
    """A child of this supervisor, over all its incarnations. Its cells live as long as this object."""

    name: str
    kind: str
    """What its process does, see ENTRIES in kps.supervisor.child_main."""
    cells: int
    """The number of its cells in the shared memory."""
    stats: Cells
    lease_cells: Cells
    generation: int = 0
    request: int | None = None
    """What the template was asked for, and has not answered yet."""
    process: Forked | None = None
    control: Channel | None = None
    state: Process = Process.WAITING
    started: float = 0.0
    started_at: datetime | None = None
    restart_at: float = 0.0
    aborted_at: float | None = None
    ended_for: Cause | None = None
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
    def new(cls, shared: SharedStats, name: str, kind: str) -> Child:
        """A child that has not been started yet. Raises OSError where there is no room left for them."""
        number = shared.take()
        return cls(name, kind, number, *shared.pair(number))

    def happens(self, event: Event) -> None:
        """Go on to the state that the event leads to."""
        self.state = after(PROCESS, self.state, event)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid if self.process is not None else None

    @property
    def unstarted(self) -> bool:
        """Whether its first start is still to come, and only because others boot: nobody has refused it."""
        return self.state is Process.WAITING and not self.generation and not self.refused

    @property
    def running(self) -> bool:
        """Whether there is a process that has not been reaped, or will be one in a moment."""
        return self.process is not None or self.request is not None

    def start(
        self, template: Template, settings: Settings, schema: PosAdapter, owner: str, extra: tuple[Any, ...]
    ) -> None:
        """Ask for the next incarnation. Raises CannotStart; then it is as if nothing had been tried."""
        generation = self.generation + 1
        for said_by_the_last in (Cell.UNREACHED_SINCE, Cell.DATABASE_TROUBLE_SINCE):
            self.stats[said_by_the_last] = 0.0
        given = ChildStart(self.name, generation, settings, schema, owner, self.cells, names.known())
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = Pipe()
                undo.callback(theirs.close)
                undo.callback(ours.close)
                control = Channel(ours)
            except (OSError, MemoryError) as error:
                raise CannotStart(words(error)) from error
            undo.callback(control.close)
            self.request = template.fork(self.kind, given, extra, theirs)
            undo.pop_all()
        self.generation = generation
        self.control = control
        self.started = monotonic()
        self.started_at = datetime.now(UTC)
        self.aborted_at = None
        self.ended_for = None

    def forked(self, pid: int) -> None:
        """The template has forked it."""
        self.request = None
        self.process = Forked(pid)
        self.refused, self.refusal = 0, ""
        if self.aborted_at is not None:
            self.kill()

    def tell(self, message: tuple[object, ...], topic: object = None) -> bool:
        """Send a message, at once or when it reads again; one that is gone is noticed by its end.

        Whether a child that does not read hangs is for its heartbeat to say, and for how long its pipe has been full.
        """
        if self.control is None:
            return False
        try:
            self.control.send(message, topic=topic or message[0])
        except PeerStuck:
            log.warning("child does not listen", extra={"child": self.name})
            self.abort(Cause.HUNG)
            return False
        except PeerGone:
            return False
        except FrameTooBig as error:
            log.error("message too big", extra={"child": self.name, "text": str(error)})
            return False
        return True

    def flush(self) -> None:
        """Send on what waits for it to read."""
        if self.control is not None and self.control.waiting:
            with contextlib.suppress(PeerGone):  # its end will be noticed
                self.control.flush()

    def not_forked(self) -> None:
        """The template has not forked it; or if it has, the copy finds its control pipe closed and ends."""
        self.request = None
        self._hang_up()

    def _hang_up(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None

    def abort(self, cause: Cause) -> None:
        """SIGABRT: it leaves its stacks. SIGKILL follows, for a stopped process does not even abort."""
        self.ended_for = self.ended_for or cause
        self.aborted_at = monotonic()
        self.signal(signal.SIGABRT)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to its process, if there is one."""
        if self.process is not None:
            self.process.signal(number)

    @property
    def ended(self) -> bool:
        """Whether its process has ended; `reap` frees what is left of it."""
        return self.process is not None and self.process.poll() is not None

    def reap(self) -> int | None:
        """The exit code once it has ended (negative: the signal), else None. Frees everything of the incarnation."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.process = None
        self._hang_up()
        self.last_exit = exit_text(code, ours=self.ended_for is not None)
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
        cause = self.ended_for or (Cause.SIGNAL if code < 0 else Cause.EXIT)
        self.restarts[cause.value] = self.restarts.get(cause.value, 0) + 1
        return cause
