"""The supervisor's main loop: it starts, watches and restarts the children, and does no blocking work."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import math
import os
import select
import signal
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import FrameType

from kps import logs
from kps.core.health import Snapshot
from kps.core.limits import Limit, too_low
from kps.core.printer_lifecycle import Event, Process, Wish
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.database.pos import PosAdapter
from kps.paper.fonts import undrawable
from kps.process.channels import PeerGone
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, SharedStats
from kps.sinks import within
from kps.supervisor.child_ends import Ends
from kps.supervisor.child_starts import Starts
from kps.supervisor.children import Child
from kps.supervisor.drain import Drain
from kps.supervisor.lease_keeper import Borrowed, LeaseLost
from kps.supervisor.maintenance import Maintenance
from kps.supervisor.maintenance_events import LeaseTaken, Reclaimed, Released, RowsRead, SchemaKnown
from kps.supervisor.printer_lives import PrinterLives
from kps.supervisor.printers import Children
from kps.supervisor.publisher import Publisher
from kps.supervisor.run_dir import RunDir
from kps.supervisor.snapshot import Facts, build
from kps.supervisor.template import Template, reap_orphans
from kps.supervisor.wiring import Mailboxes, RowsSender, Shortage

TICK_S = 0.5
"""Longest wait while something must be done in time: children end, or we do."""
IDLE_TICK_S = 2.0
"""The same otherwise. A change of a child, news of the maintenance and a question for a snapshot wake it."""
LATE_S = 1.0
"""A turn that came so much later than it should gives no hang verdicts: the host stood still, not the children."""
MAILBOX_AGAIN_S = 0.25
"""Between looks whether dispatcher and printer process read again, so that a mailbox can be made."""
DOUBT_EVERY_S = 2.0
"""Between two wishes that maintenance look whether a table or a right is missing, while a child has trouble."""
EXIT_STOPPED = 0
EXIT_ESCALATED = 70

log = logging.getLogger("kps.supervisor")


class Supervisor:
    """One instance. `run` returns the exit code."""

    def __init__(
        self,
        settings: Settings,
        run_dir: RunDir,
        log_handle: logs.LogHandle,
        stacks: Path | None = None,
        limits: Collection[Limit] = (),
        template: Template | None = None,
    ) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._log_handle = log_handle
        self._stacks = stacks
        self._shared = template.shared if template is not None else SharedStats()
        self._template = template or Template(self._shared)
        self.owner = str(uuid.uuid4())
        self._reader, self._writer = _wakeup_pipe()
        self._maintenance = Maintenance(settings, self.owner, self._wake)
        self._undrawable = undrawable(settings.font_dirs)
        self._shortage = Shortage()
        self._children = children = Children(Child.new(self._shared, "dispatcher", "dispatcher"))
        self._mailboxes = Mailboxes(children.dispatcher, self._shortage)
        self._rows_sender = RowsSender(children.dispatcher)
        self._lives = lives = PrinterLives(
            settings, self._shared, children, self._maintenance, self._rows_sender, self._shortage
        )
        self._starts = Starts(settings, self.owner, self._template, children, lives, self._shortage)
        self._ends = Ends(children, lives, self._read_child)
        self._drain = Drain(children, lives, settings.drain_s)
        self._signals: list[int] = []
        self._last = monotonic()
        self._started = monotonic()
        self._doubt_due = 0.0
        self._lag_s = 0.0
        self._exit_code = EXIT_STOPPED
        self._failovers: dict[tuple[str, str], int] = {}
        self._each_turn: list[Callable[[], None]] = []
        self._ready: set[int] = set()
        """Descriptors that were ready when the loop woke up."""
        self._limits = tuple(limits)
        self.tick = monotonic()
        self._publisher = Publisher(self._picture, self._wake)

    def each_turn(self, turn: Callable[[], None]) -> None:
        """Something short that the main loop does each turn: watching the HTTP threads, say."""
        self._each_turn.append(turn)

    @property
    def printers(self) -> int:
        """Devices that the printer rows name, or that still have a process: how many there is room needed for."""
        return max(len(self._lives.configs), len(self._children.printers))

    @property
    def short_of_descriptors(self) -> bool:
        """Whether something that printing needs could not be opened, and has not been since."""
        return bool(self._shortage)

    @property
    def all_up(self) -> bool:
        """Whether there are printers, and every child is up: nothing waits for our processor time any more."""
        return bool(self._children.printers) and all(child.state is Process.UP for child in self._children.all())

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self, dead_owner: str = "") -> int:
        """Work until stopped; children, leases and files are gone when it returns."""
        reap_orphans()
        self._maintenance.start(dead_owner)
        try:
            while not self._drain.finished:
                self._turn()
        finally:
            self._end()
        return self._exit_code

    def _turn(self) -> None:
        due = self._last + self._tick_s()
        self._wait(due)
        now = monotonic()
        self._lag_s = max(0.0, now - due)
        late = self._lag_s > LATE_S
        self._last = self.tick = now
        if late:
            self._ends.beats_count_from = now
            self._template.forgive(now)
        self._act_on_signals()
        self._take_events()
        self._starts.hear_template()
        self._read_children()
        self._flush_children()
        self._reap()
        if not late:
            self._ends.judge(now)
        self._lives.make_missing(now)
        self._starts.start_due(now)
        if not self._drain.begun:
            self._mailboxes.make(self._children.printers.values(), now)
        self._rows_sender.send()
        self._lives.tell_lease_keeper()
        self._drain.go_on(now)
        for turn in self._each_turn:
            turn()
        self._watch_maintenance()
        self._doubt_schema(now)
        self._publisher.turn()

    def _doubt_schema(self, now: float) -> None:
        """A child that fails in the database, while maintenance does not, may have lost a table or a right."""
        if self._maintenance.trouble or now < self._doubt_due:
            return
        if any(child.running and child.stats[Cell.DATABASE_TROUBLE_SINCE] for child in self._children.all()):
            self._doubt_due = now + DOUBT_EVERY_S
            self._maintenance.look_again()

    def _watch_maintenance(self) -> None:
        """Without its thread an instance keeps no lease and can say nothing true: only a fresh process tree helps."""
        if not self._maintenance.alive and not self._drain.begun:
            log.critical("clerk died")  # an old name of both threads; people search their logs for it
            self._exit_code = EXIT_ESCALATED
            self.stop()

    def _tick_s(self) -> float:
        hurry = self._drain.begun or any(child.aborted_at is not None for child in self._children.all())
        return TICK_S if hurry else IDLE_TICK_S

    def _wait(self, due: float) -> None:
        """Until something happens, or it is time for something."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if self._template.control is not None:
            poll.register(self._template.control, self._template.control.awaited)
        if self._template.sentinel is not None:
            poll.register(self._template.sentinel, select.POLLIN)
        if (look := self._template.due(self._last)) is not None:
            due = min(due, max(look, self._last + TICK_S))
        for child in self._children.all():
            if child.control is not None and child.request is None:
                poll.register(child.control, child.control.awaited)
            if child.process is not None and child.process.sentinel is not None:
                poll.register(child.process.sentinel, select.POLLIN)
        due = min(due, self._starts.due())
        if not self._drain.begun:
            for printer in self._mailboxes.missing(self._children.printers.values()):
                due = min(due, max(printer.mailbox.due, self._last + MAILBOX_AGAIN_S))
        self._ready = _polled(poll, max(0.0, due - monotonic()))
        self._empty_bell()

    def _empty_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._writer, b"!")

    # -- signals -------------------------------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """From now on signals are noted, and acted on by the loop."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._note_signal)

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(number)

    def _act_on_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            log.info("signal", extra={"text": signal.Signals(number).name})
            if number in (signal.SIGTERM, signal.SIGINT):
                self.stop()
            elif number == signal.SIGHUP:
                self._maintenance.reload()
            elif number == signal.SIGUSR1:
                self._log_handle.reopen()
                for child in self._children.all():
                    child.tell(("reopen",))
            elif number == signal.SIGUSR2:
                self._dump()

    def told_to_stop(self, within_s: float) -> bool:
        """Before the loop runs: wait for a signal; True = it was one that ends us."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        _polled(poll, within_s)
        self._empty_bell()
        return any(number in (signal.SIGTERM, signal.SIGINT) for number in self._signals)

    def stop(self) -> None:
        """Drain; a second call ends at once."""
        self._drain.begin()

    def _dump(self) -> None:
        """All stacks go to the stack files, the state to the log."""
        if self._stacks is not None:
            with contextlib.suppress(OSError):
                within(logs.OPEN_LIMIT_S, functools.partial(_dump_stacks, self._stacks))
        for child in self._children.all():
            child.signal(signal.SIGUSR2)
        snapshot = self._picture()
        for view in snapshot.children:
            log.info(
                "child state", extra={"text": f"{view.name} {view.state}", "pid_of": view.pid, "ticket": view.ticket}
            )
        for printer in snapshot.printers:
            log.info("printer state", extra={"printer": printer.name, "state": printer.state, "cause": printer.reason})

    # -- what maintenance and the children say -------------------------------------------------------------------------

    def _take_events(self) -> None:
        while self._maintenance.events:
            match self._maintenance.events.popleft():
                case SchemaKnown(schema):
                    self._schema_changed(schema)
                case RowsRead(rows, addresses):
                    self._lives.rows_changed(rows, addresses)
                case LeaseTaken() as taken:
                    self._lives.lease_taken(taken)
                case LeaseLost(key):
                    self._lives.lease_lost(key)
                case Borrowed(key, by):
                    self._lives.borrowed(key, by)
                case Released() as released:
                    self._lives.after_release(released)
                case Reclaimed(count):
                    self._lives.count_released("reclaim", count)

    def _schema_changed(self, schema: PosAdapter) -> None:
        known, self._starts.schema = self._starts.schema, schema
        if known is not None and known != schema:
            log.warning("restarting children", extra={"cause": "database schema changed"})
            for child in self._children.all():
                self._lives.replace_process(child)

    def _flush_children(self) -> None:
        for child in self._children.all():
            child.flush()

    def _read_children(self) -> None:
        for child in self._children.all():
            # Until the template has reported the fork, what the child says is left in its pipe.
            if child.control is not None and child.request is None and child.control.fileno() in self._ready:
                self._read_child(child)

    def _read_child(self, child: Child) -> None:
        if child.control is None:
            return
        try:
            while (message := child.control.receive()) is not None:
                self._heard(child, message)
        except PeerGone:
            return

    def _heard(self, child: Child, message: tuple[object, ...]) -> None:
        match message:
            case ("up",):
                child.happens(Event.READY)
                log.info(
                    "child started", extra={"child": child.name, "pid_of": child.pid, "generation": child.generation}
                )
            case ("drained",):
                self._drain.no_more_claims()
            case ("trigger",):  # it came or went
                self._maintenance.look_again()
            case ("disbelieved",):
                self._lives.disbelieve(child)
            case ("failover", str(primary), str(backup), int(count)):
                self._failovers[primary, backup] = self._failovers.get((primary, backup), 0) + count
            case ("mailbox lost", str(key), int(generation)):
                self._mailboxes.lost(self._children.printers.values(), child, PrinterKey(key), generation)
            case _:
                log.error("unknown message", extra={"child": child.name, "text": str(message[0])})

    def _reap(self) -> None:
        if self._children.dispatcher.ended:
            self._reap_dispatcher()
        for printer in list(self._children.printers.values()):
            if printer.child.ended:
                self._ends.reap_printer(printer)
        ours = [pid for pid in (self._template.pid, *(child.pid for child in self._children.all())) if pid]
        self._template.reap_others(ours)
        self._run_dir.write(self.owner, ours)

    def _reap_dispatcher(self) -> None:
        code = self._ends.death(self._children.dispatcher)
        self._children.dispatcher.happens(Event.ENDED)
        self._drain.no_more_claims()
        for printer in self._children.printers.values():
            printer.mailbox.pair = (0, 0)
        if code != 0 and self._children.dispatcher.deaths.hopeless(monotonic()):
            log.critical("dispatcher will not live")
            self._exit_code = EXIT_ESCALATED
            self.stop()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """Nothing of us is left: children, leases, files."""
        for child in self._children.all():
            if child.control is not None:
                child.control.close()
        deadline = monotonic() + 3.0
        while any(child.running for child in self._children.all()):
            self._starts.hear_template()
            for child in self._children.all():
                if monotonic() > deadline:
                    child.kill()
                child.reap()
            poll = select.poll()
            for handle in (child.process.sentinel for child in self._children.all() if child.process is not None):
                if handle is not None:
                    poll.register(handle, select.POLLIN)
            poll.poll(200)
        self._template.close()
        if self._maintenance.thread.is_alive():
            self._maintenance.lapse(self._lives.leases)
            self._maintenance.quit(4.0)
        self._run_dir.leave()
        signal.set_wakeup_fd(-1)
        log.info("stopped", extra={"exit": self._exit_code})

    # -- views ---------------------------------------------------------------------------------------------------------

    def _picture(self) -> Snapshot:
        return build(self._facts())

    def fresh_snapshot(self) -> Snapshot:
        """A snapshot with its ages as of now; for other threads."""
        snapshot = self._publisher.latest()
        now = monotonic()
        return replace(
            snapshot,
            uptime_s=now - self._started,
            tick_age_s=now - self.tick,
            snapshot_age_s=now - self._maintenance.counting.at,
        )

    def _facts(self) -> Facts:
        return Facts(
            settings=self._settings,
            owner=self.owner,
            started=self._started,
            now=monotonic(),
            wall=time.time(),
            tick=self.tick,
            lag_s=self._lag_s,
            draining=self._drain.begun,
            maintenance=self._maintenance,
            dispatcher=self._children.dispatcher,
            printers={
                # Of those with one name, the one that is wanted is the first.
                key: (printer.config, printer.child)
                for key, printer in sorted(self._children.printers.items(), key=lambda item: item[1].wish is Wish.LEAVE)
            },
            retired=list(self._lives.retired.values()),
            tallies=self._lives.tallies,
            rows=self._lives.rows,
            released=dict(self._lives.released),
            failovers=dict(self._failovers),
            log_dropped=self._log_handle.dropped,
            undrawable=self._undrawable,
            too_low=tuple(too_low(self._limits, self.printers)),
            template=self._template,
        )


def _dump_stacks(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        faulthandler.dump_traceback(file, all_threads=True)


def _polled(poll: select.poll, limit_s: float) -> set[int]:
    """The descriptors that are ready within the limit."""
    return {descriptor for descriptor, _ in poll.poll(math.ceil(limit_s * 1000))}


def _wakeup_pipe() -> tuple[int, int]:
    """A non-blocking pipe (read end, write end) that wakes the main loop."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
