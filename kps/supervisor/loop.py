"""The supervisor's main loop: it starts, watches and restarts the children, and does no blocking work."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import logging
import math
import os
import random
import select
import signal
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from kps import logs
from kps.core.address import DeviceAddress
from kps.core.health import Snapshot
from kps.core.limits import Limit, too_low
from kps.core.printer_lifecycle import Action, Event, Lease, Process, Wish, advance
from kps.core.restart import Cause, Verdict, judge
from kps.core.routing import Lookup, PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, Token
from kps.database.pos import PosAdapter
from kps.paper.fonts import undrawable
from kps.printer.config import DIED_S, DeviceConfig
from kps.process.channels import FrameTooBig, PeerGone, PeerStuck
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, LeaseCell, SharedStats, Stage
from kps.sinks import within
from kps.supervisor.children import Child
from kps.supervisor.devices import vouched_for, vouched_for_none, wanted_devices
from kps.supervisor.lease_keeper import Borrowed, LeaseLost, Well
from kps.supervisor.maintenance import (
    LeaseTaken,
    Maintenance,
    Reclaimed,
    Released,
    RowsRead,
    SchemaKnown,
    wakeup_pipe,
)
from kps.supervisor.printers import NOBODY, MailboxState, Printer
from kps.supervisor.publisher import Publisher
from kps.supervisor.run_dir import RunDir
from kps.supervisor.snapshot import Facts, build
from kps.supervisor.tallies import Tallies
from kps.supervisor.template import Answer, CannotStart, Template, reap_orphans
from kps.supervisor.wiring import Mailboxes, RowsSender, Shortage

TICK_S = 0.5
"""Longest wait while something must be done in time: children end, or we do."""
IDLE_TICK_S = 2.0
"""The same otherwise. What happens to a child, what maintenance learns, and who asks for a snapshot wake it at once."""
LATE_S = 1.0
"""A turn that came so much later than it should gives no hang verdicts: the host stood still, not the children."""
BOOT_TOGETHER = 8
"""Printer processes that start at the same time: more would only make each of them miss its boot limit."""
UNMADE_AGAIN_S = 1.0
"""Between tries to make a child for which there was no room."""
MAILBOX_AGAIN_S = 0.25
"""Between looks whether dispatcher and printer process read again, so that a mailbox can be made."""
YIELD_AFTER_S = 15.0
DOUBT_EVERY_S = 2.0
KILL_AFTER_S = 2.0
"""Between the abort of those that did not drain in time and their end."""
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
        self._reader, self._writer = wakeup_pipe()
        self._maintenance = Maintenance(settings, self.owner, self._wake)
        self._undrawable = undrawable(settings.font_dirs)
        self._dispatcher = Child.new(self._shared, "dispatcher", "dispatcher")
        self._printers: dict[PrinterKey, Printer] = {}
        self._configs: dict[PrinterKey, DeviceConfig] = {}
        self._rows: tuple[PrinterRow, ...] = ()
        self._shortage = Shortage()
        self._mailboxes = Mailboxes(self._dispatcher, self._shortage)
        self._rows_sender = RowsSender(self._dispatcher)
        self._addresses: dict[PrinterKey, DeviceAddress] = {}
        self._leases: dict[PrinterKey, LeaseTaken] = {}
        self._schema: PosAdapter | None = None
        self._retired: dict[PrinterKey, Child] = {}
        self._tallies = Tallies()
        self._signals: list[int] = []
        self._last = monotonic()
        self._beats_count_from = monotonic()
        self._started = monotonic()
        self._doubt_due = 0.0
        self._lag_s = 0.0
        self._draining_since: float | None = None
        self._drained = False
        self._stop_now = False
        self._exit_code = EXIT_STOPPED
        self._released: dict[str, int] = {}
        self._failovers: dict[tuple[str, str], int] = {}
        self._each_turn: list[Callable[[], None]] = []
        self._ended = False
        self._ready: set[int] = set()
        """Descriptors that were ready when the loop woke up."""
        self._limits = tuple(limits)
        self._unmade_due: float | None = None
        self.tick = monotonic()
        self._publisher = Publisher(self._picture, self._wake)

    def each_turn(self, turn: Callable[[], None]) -> None:
        """Something short that the main loop does each turn: watching the HTTP threads, say."""
        self._each_turn.append(turn)

    @property
    def printers(self) -> int:
        """Devices that the printer rows name, or that still have a process: how many there is room needed for."""
        return max(len(self._configs), len(self._printers))

    @property
    def short_of_descriptors(self) -> bool:
        """Whether something that printing needs could not be opened, and has not been since."""
        return bool(self._shortage)

    @property
    def all_up(self) -> bool:
        """Whether there are printers, and every child is up: nothing waits for our processor time any more."""
        return bool(self._printers) and all(child.state is Process.UP for child in self._all())

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self, dead_owner: str = "") -> int:
        """Work until stopped; children, leases and files are gone when it returns."""
        reap_orphans()
        self._maintenance.start(dead_owner)
        try:
            while not self._finished():
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
            self._beats_count_from = now
            self._template.forgive(now)
        self._act_on_signals()
        self._take_events()
        self._hear_template()
        self._read_children()
        self._flush_children()
        self._bury()
        if not late:
            self._judge(now)
        self._make_missing(now)
        self._start_due(now)
        if self._draining_since is None:
            self._mailboxes.make(self._printers.values(), now)
        self._rows_sender.send()
        self._tell_maintenance()
        self._drain_on(now)
        for turn in self._each_turn:
            turn()
        self._watch_maintenance()
        self._doubt_schema(now)
        self._publisher.turn()

    def _doubt_schema(self, now: float) -> None:
        """A child that fails in the database, while maintenance does not, may have lost a table or a right."""
        if self._maintenance.trouble or now < self._doubt_due:
            return
        if any(child.running and child.stats[Cell.DATABASE_TROUBLE_SINCE] for child in self._all()):
            self._doubt_due = now + DOUBT_EVERY_S
            self._maintenance.look_again()

    def _watch_maintenance(self) -> None:
        """Without its thread an instance keeps no lease and can say nothing true: only a fresh process tree helps."""
        if not self._maintenance.alive and self._draining_since is None:
            log.critical("clerk died")
            self._exit_code = EXIT_ESCALATED
            self.stop()

    def _tick_s(self) -> float:
        hurry = self._draining_since is not None or any(child.aborted_at is not None for child in self._all())
        return TICK_S if hurry else IDLE_TICK_S

    def _wait(self, due: float) -> None:
        """Until something happens, or it is time for something."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        full = self._booting() >= BOOT_TOGETHER  # the first that is up wakes us
        if self._template.control is not None:
            poll.register(self._template.control, self._template.control.awaited)
        if self._template.sentinel is not None:
            poll.register(self._template.sentinel, select.POLLIN)
        if (look := self._template.due(self._last)) is not None:
            due = min(due, max(look, self._last + TICK_S))
        for child in self._all():
            if child.control is not None and child.request is None:
                poll.register(child.control, child.control.awaited)
            if child.process is not None and child.process.sentinel is not None:
                poll.register(child.process.sentinel, select.POLLIN)
        for child in self._startable():
            if not (full and child.kind == "printer"):
                due = min(due, child.restart_at)
        if self._draining_since is None:
            for printer in self._mailboxes.missing(self._printers.values()):
                due = min(due, max(printer.mailbox.due, self._last + MAILBOX_AGAIN_S))
        self._ready = _polled(poll, max(0.0, due - monotonic()))
        self._empty_bell()

    def _empty_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._writer, b"!")

    def _all(self) -> list[Child]:
        return [self._dispatcher, *(printer.child for printer in self._printers.values())]

    # -- signals ---------------------------------------------------------------------------------------------------

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
                for child in self._all():
                    self._tell(child, ("reopen",))
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
        if self._draining_since is not None:
            self._stop_now = True
            return
        self._draining_since = monotonic()
        log.info("draining")
        self._tell(self._dispatcher, ("drain",))
        if self._dispatcher.state is not Process.UP:
            self._drained = True

    def _dump(self) -> None:
        """All stacks go to the stack files, the state to the log."""
        if self._stacks is not None:
            with contextlib.suppress(OSError):
                within(logs.OPEN_LIMIT_S, functools.partial(_dump_stacks, self._stacks))
        for child in self._all():
            child.signal(signal.SIGUSR2)
        snapshot = self._picture()
        for view in snapshot.children:
            log.info(
                "child state", extra={"text": f"{view.name} {view.state}", "pid_of": view.pid, "ticket": view.ticket}
            )
        for printer in snapshot.printers:
            log.info("printer state", extra={"printer": printer.name, "state": printer.state, "cause": printer.reason})

    # -- the lives of printers -------------------------------------------------------------------------------------

    def _happens(self, printer: Printer, event: Event) -> None:
        """Go on to what the event leads to, and do what is to be done for it."""
        printer.life, actions = advance(printer.life, event)
        for action in actions:
            self._carry_out(action, printer)

    def _carry_out(self, action: Action, printer: Printer) -> None:
        key = printer.config.key
        match action:
            case Action.TELL_TO_END:
                self._tell(printer.child, ("stop",))
            case Action.DISCONNECT:
                printer.mailbox = MailboxState()
                self._tell(self._dispatcher, ("gone", key), ("gone", key))
            case Action.RELEASE:
                self._maintenance.release_dead(key, printer.child.generation, printer.epoch, printer.blamed)
            case Action.TELL_EPOCH:
                self._tell(printer.child, ("lease", printer.epoch))
            case Action.TELL_EPOCH_TO_ALL:
                self._tell(printer.child, ("lease", printer.epoch))
                self._tell(self._dispatcher, ("lease", key, printer.epoch), ("lease", key))
            case Action.LAPSE:
                self._maintenance.lapse([key])
            case Action.FORGET:
                self._forget(printer)

    def _forget(self, printer: Printer) -> None:
        key = printer.config.key
        printer.child.lease_cells[LeaseCell.TRUST_UNTIL] = 0.0
        printer.child.stats[Cell.UNREACHED_SINCE] = 0.0
        self._tallies.keep(printer.child)
        self._retired[key] = printer.child
        self._printers.pop(key, None)
        self._leases.pop(key, None)

    def _replace_process(self, child: Child) -> None:
        """It finishes what it prints, gives the rest back, and exits 0; then another one is started, unless we end."""
        printer = self._printer_of(child)
        if printer is not None:
            self._happens(printer, Event.REPLACED)
        elif child.state in (Process.STARTING, Process.UP):
            child.happens(Event.REPLACED)
            self._tell(child, ("stop",))

    def _printer_of(self, child: Child) -> Printer | None:
        return next((printer for printer in self._printers.values() if printer.child is child), None)

    # -- events of the maintenance thread ----------------------------------------------------------------------------

    def _take_events(self) -> None:
        while self._maintenance.events:
            match self._maintenance.events.popleft():
                case SchemaKnown(schema):
                    self._schema_changed(schema)
                case RowsRead(rows, addresses):
                    self._rows_changed(rows, addresses)
                case LeaseTaken() as taken:
                    self._lease_taken(taken)
                case LeaseLost(key):
                    self._lease_lost(key)
                case Borrowed(key, by):
                    self._borrowed(key, by)
                case Released() as released:
                    self._after_release(released)
                case Reclaimed(count):
                    self._count_released("reclaim", count)

    def _schema_changed(self, schema: PosAdapter) -> None:
        known, self._schema = self._schema, schema
        if known is not None and known != schema:
            log.warning("restarting children", extra={"cause": "database schema changed"})
            for child in self._all():
                self._replace_process(child)

    def _rows_changed(self, rows: tuple[PrinterRow, ...], addresses: dict[PrinterKey, DeviceAddress]) -> None:
        self._rows, self._addresses = rows, addresses
        self._rows_sender.changed(rows)
        self._configs = wanted_devices(rows, addresses, self._settings)
        log.info("printer rows", extra={"count": len(rows), "devices": len(self._configs)})
        for row in rows:
            if cause := row.fault or (row.trouble if row.lookup is Lookup.FAILED else ""):
                log.warning("printer row skipped", extra={"printer": row.name, "cause": cause})
        for name in vouched_for_none(rows, self._settings):
            log.warning("proof level for no printer", extra={"cause": name})
        for key, printer in list(self._printers.items()):
            config = self._configs.get(key)
            if config is None:
                printer.row_gone = True
                self._happens(printer, Event.DISMISSED)
            elif printer.wish is Wish.LEAVE:
                continue
            elif self._with_knowledge(config, printer.config) != printer.config:
                proven = printer.config.abilities
                printer.config = self._with_knowledge(config, printer.config)
                if printer.config.abilities != proven or printer.child.name != f"printer-{printer.config.name}":
                    self._tallies.keep(printer.child)
                    printer.child.name = f"printer-{printer.config.name}"
                    self._happens(printer, Event.REPLACED)
                else:
                    self._reconfigure(printer)
        for key, taken in list(self._leases.items()):
            if key in self._configs and key not in self._printers:
                self._lease_taken(taken)

    def _reconfigure(self, printer: Printer) -> None:
        """Tell it; a device with more rows than a frame holds gets a new process, which is given them at its start."""
        told = replace(printer.config, names=())  # they are for us, and a frame is small
        if not self._tell(printer.child, ("device", told)) and printer.child.running:
            self._happens(printer, Event.REPLACED)

    def _with_knowledge(self, fresh: DeviceConfig, known: DeviceConfig) -> DeviceConfig:
        abilities = known.abilities
        if fresh.names != known.names:  # PROOF_LEVELS may mean it now, or not any more
            taken = self._leases.get(fresh.key)
            abilities = vouched_for(fresh, self._settings) or (taken.abilities if taken is not None else abilities)
        return replace(fresh, answers=known.answers, abilities=abilities)

    def _disbelieve(self, child: Child) -> None:
        """A device has lost what the probe had found: its next process must not start with it again."""
        if (printer := self._printer_of(child)) is not None:
            key, lowered = printer.config.key, printer.config.abilities.disbelieved
            printer.config = replace(printer.config, abilities=lowered)
            if key in self._leases:
                self._leases[key] = replace(self._leases[key], abilities=lowered)

    def _lease_taken(self, taken: LeaseTaken) -> None:
        self._leases[taken.key] = taken
        config = self._configs.get(taken.key)
        if config is None or self._draining_since is not None:
            return
        printer = self._printers.get(taken.key)
        if printer is None:
            abilities = vouched_for(config, self._settings) or taken.abilities
            config = replace(config, answers=taken.answers, abilities=abilities)
            child = self._retired.pop(taken.key, None) or self._new_child(config)
            if child is None:
                return
            child.name = f"printer-{config.name}"
            child.state = Process.WAITING
            # Not only with the next renewal: its tickets wait.
            child.lease_cells[LeaseCell.TRUST_UNTIL] = taken.trusted_until
            self._printers[taken.key] = Printer(config, child, taken.epoch, contested_s=taken.contested_s)
            return
        printer.told_down = False
        if printer.lease is not Lease.RELEASING:
            printer.epoch = taken.epoch
        self._happens(printer, Event.TAKEN)

    def _new_child(self, config: DeviceConfig) -> Child | None:
        """A printer's child that has not been started; None if there is no room for its cells: made again later."""
        try:
            return Child.new(self._shared, f"printer-{config.name}", "printer")
        except (OSError, MemoryError) as error:
            self._shortage.note(error)
            self._unmade_due = monotonic() + UNMADE_AGAIN_S
            log.error(
                "child cannot be started", extra={"child": f"printer-{config.name}", "cause": str(error), "failures": 1}
            )
            return None

    def _make_missing(self, now: float) -> None:
        """Children for leases of ours whose child could not be made."""
        if self._unmade_due is None or now < self._unmade_due:
            return
        self._unmade_due = None
        for key, taken in list(self._leases.items()):
            if key in self._configs and key not in self._printers:
                self._lease_taken(taken)

    def _lease_lost(self, key: PrinterKey, event: Event = Event.LOST) -> None:
        self._leases.pop(key, None)
        if printer := self._printers.get(key):
            log.warning("lease lost", extra={"printer": printer.config.name})
            self._happens(printer, event)

    def _borrowed(self, key: PrinterKey, by: str) -> None:
        """As if its rows were inactive; it is acquired like any other once it has been given back."""
        printer = self._printers.get(key)
        if printer is None or printer.wish is Wish.LEAVE or printer.lease is Lease.RELEASING:
            return
        log.warning("printer borrowed", extra={"printer": printer.config.name, "cause": f"a probe by {by}"})
        self._happens(printer, Event.DISMISSED)

    def _after_release(self, released: Released) -> None:
        self._count_released("death", released.count)
        printer = self._printers.get(released.key)
        if printer is None or printer.lease is not Lease.RELEASING:
            return
        taken = self._leases.get(released.key)
        if released.epoch is not None:
            printer.epoch = released.epoch
            self._happens(printer, Event.RELEASED)
        elif taken is not None and taken.epoch > printer.epoch:
            # The lease had lapsed and was taken again meanwhile: what the dead process held came along.
            printer.epoch, printer.blamed = taken.epoch, NOBODY
            self._carry_out(Action.RELEASE, printer)
        else:
            # Its next incarnation may run already, and without a lease nobody would ever tell it to end.
            self._lease_lost(released.key, Event.NOT_OURS)

    def _count_released(self, cause: str, count: int) -> None:
        if count:
            self._released[cause] = self._released.get(cause, 0) + count

    # -- children --------------------------------------------------------------------------------------------------

    def _tell(self, child: Child, message: tuple[object, ...], topic: object = None) -> bool:
        """Send a message, at once or when it reads again; one that is gone will be buried.

        Whether a child that does not read hangs is for its heartbeat to say, and for how long its pipe has been full.
        """
        if child.control is None:
            return False
        try:
            child.control.send(message, topic=topic or message[0])
        except PeerStuck:
            log.warning("child does not listen", extra={"child": child.name})
            child.abort(Cause.HUNG)
            return False
        except PeerGone:
            return False
        except FrameTooBig as error:
            log.error("message too big", extra={"child": child.name, "text": str(error)})
            return False
        return True

    def _flush_children(self) -> None:
        for child in self._all():
            if child.control is not None and child.control.waiting:
                with contextlib.suppress(PeerGone):  # it will be buried
                    child.control.flush()

    def _read_children(self) -> None:
        for child in self._all():
            # One that we do not know yet to be born is heard later.
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
                self._drained = True
            case ("trigger",):  # it came or went
                self._maintenance.look_again()
            case ("disbelieved",):
                self._disbelieve(child)
            case ("failover", str(primary), str(backup), int(count)):
                self._failovers[primary, backup] = self._failovers.get((primary, backup), 0) + count
            case ("mailbox lost", str(key), int(generation)):
                self._mailboxes.lost(self._printers.values(), child, PrinterKey(key), generation)
            case _:
                log.error("unknown message", extra={"child": child.name, "text": str(message[0])})

    def _bury(self) -> None:
        if self._dispatcher.ended:
            self._bury_dispatcher()
        for printer in list(self._printers.values()):
            if printer.child.ended:
                self._bury_printer(printer)
        ours = [pid for pid in (self._template.pid, *(child.pid for child in self._all())) if pid]
        self._template.bury_orphans(ours)
        self._run_dir.write(self.owner, ours)

    def _bury_dispatcher(self) -> None:
        code = self._death(self._dispatcher)
        self._dispatcher.happens(Event.ENDED)
        self._drained = True
        for printer in self._printers.values():
            printer.mailbox.pair = (0, 0)
        if code != 0 and self._dispatcher.deaths.hopeless(monotonic()):
            log.critical("dispatcher will not live")
            self._exit_code = EXIT_ESCALATED
            self.stop()

    def _bury_printer(self, printer: Printer) -> None:
        child = printer.child
        stage = Stage(int(child.stats[Cell.STAGE]))
        token = Token(int(child.stats[Cell.TOKEN]))
        ours = child.doom not in (None, Cause.HUNG)
        connected = bool(child.stats[Cell.CONNECTED]) or stage is not Stage.IDLE
        code = self._death(child)
        if code == 0:
            printer.contested_s = 0.0
        elif connected:
            printer.contested_s = DIED_S
        blamed = stage is Stage.TAKEN and code not in (0, -signal.SIGKILL) and not ours
        child.stats[Cell.STAGE] = child.stats[Cell.TICKET] = child.stats[Cell.CONNECTED] = 0.0
        printer.blamed = token if blamed else NOBODY
        self._happens(printer, Event.ENDED)
        if printer.life.over and printer.row_gone and printer.config.key in self._configs:
            log.info("printer row back", extra={"printer": printer.config.name})

    def _death(self, child: Child) -> int:
        """Reap a child, log its end, plan its restart; that it has ended is still to be said to its state."""
        self._read_child(child)  # its last words
        code = child.reap()
        assert code is not None
        if code == 0 and child.state is Process.STOPPING:
            log.info("child ended", extra={"child": child.name})
            child.restart_at = monotonic()
            child.last_exit = "exit 0"
            return code
        looping = child.deaths.crash_loop(monotonic())
        cause = child.note_death(code, random.random())  # noqa: S311 - jitter
        log.error("child died", extra={"child": child.name, "exit": child.last_exit, "cause": cause.value})
        if child.deaths.crash_loop(monotonic()) and not looping:
            log.critical("crash loop", extra={"child": child.name})
        return code

    def _judge(self, now: float) -> None:
        for child in self._all():
            if child.process is None:
                continue
            verdict, cause = judge(
                now=now,
                started=child.started,
                up=child.state is not Process.STARTING,
                beat=child.stats[Cell.BEAT],
                beats_count_from=self._beats_count_from,
                aborted_at=child.aborted_at,
                unread_since=child.control.unread_since if child.control is not None else None,
            )
            if verdict is Verdict.ABORT:
                log.error("child hung", extra={"child": child.name, "cause": cause.value})
                child.abort(cause)
            elif verdict is Verdict.KILL:
                child.kill()

    def _hear_template(self) -> None:
        """Children are born, or not."""
        lacking = self._template.state != "up"
        heard = [*self._template.answers(), *self._template.look_after(monotonic())]
        if lacking and self._template.state == "up":
            self._start_refused()
        if not heard:
            return
        asked = {child.request: child for child in self._all() if child.request is not None}
        for number, answer, value in heard:
            child = asked.get(number)
            if child is None:
                continue
            if answer is Answer.FORKED:
                child.born(value)
                self._shortage.over()
            else:
                self._unborn(child, answer, value)

    def _start_refused(self) -> None:
        """There is a template again: who was refused for want of it need not wait for the end of a back-off."""
        for child in self._all():
            if child.refused:
                child.restart_at = min(child.restart_at, monotonic())

    def _unborn(self, child: Child, answer: Answer, error: int) -> None:
        child.unborn()
        if answer is Answer.REFUSED:
            self._refused(child, OSError(error, os.strerror(error)), os.strerror(error))
        else:
            self._refused(child, None, "its template process is gone")
        if (printer := self._printer_of(child)) is not None:
            self._happens(printer, Event.NOT_STARTED)
        else:
            child.happens(Event.NOT_STARTED)

    def _startable(self) -> Iterator[Child]:
        """The children that are to be started when their back-off is over."""
        if self._schema is None or self._draining_since is not None or self._template.booting:
            return
        if self._dispatcher.state is Process.WAITING:
            yield self._dispatcher
        for printer in self._printers.values():
            if printer.life.startable:
                yield printer.child

    def _start_due(self, now: float) -> None:
        if self._schema is None:
            return
        booting = self._booting()
        configs = {id(printer.child): printer for printer in self._printers.values()}
        for child in list(self._startable()):
            if now < child.restart_at:
                continue
            printer = configs.get(id(child))
            if printer is None:
                self._start(child, self._schema, ())
            elif booting < BOOT_TOGETHER:
                booting += 1
                epoch = printer.epoch if printer.lease is Lease.OURS else -1
                self._start(child, self._schema, (self._given(printer), epoch))

    def _given(self, printer: Printer) -> DeviceConfig:
        """What its next process is told, with what the last one has learned; the names are for us, a pipe is small."""
        answers = next(
            (row.answers for row in self._maintenance.devices if row.printer_key == printer.config.key), None
        )
        if answers is None:
            answers = printer.config.answers
        return replace(printer.config, names=(), answers=answers, contested_s=printer.contested_s)

    def _start(self, child: Child, schema: PosAdapter, given: tuple[object, ...]) -> None:
        """Start it, or plan the next try: what the host refuses now it may allow in a moment."""
        try:
            child.start(self._template, self._settings, schema, self.owner, given)
        except CannotStart as why:
            self._refused(child, why.__cause__, str(why))
        else:
            child.happens(Event.STARTED)

    def _refused(self, child: Child, error: BaseException | None, why: str) -> None:
        """The host has not let us start it."""
        child.note_refusal(why, random.random())  # noqa: S311 - jitter
        self._shortage.note(error)
        if child.refused in (1, 10) or child.refused % 100 == 0:
            log.error("child cannot be started", extra={"child": child.name, "cause": why, "failures": child.refused})

    def _booting(self) -> int:
        return sum(printer.child.state is Process.STARTING for printer in self._printers.values())

    def _tell_maintenance(self) -> None:
        """Which leases to renew: those of printers whose process lives, or will in a moment."""
        now = monotonic()
        well = {}
        for key, printer in self._printers.items():
            child = printer.child
            healthy = child.aborted_at is None and not child.deaths.crash_loop(now) and not child.unstartable
            if healthy and printer.lease is not Lease.LOST:
                well[key] = Well(printer.epoch, printer.child.lease_cells)
            self._watch_device(printer, now)
        unwanted = (
            frozenset(self._configs)
            if self._draining_since is not None
            else frozenset(key for key, printer in self._printers.items() if printer.wish is Wish.LEAVE)
        )
        self._maintenance.keep(well, unwanted)

    def _watch_device(self, printer: Printer, now: float) -> None:
        if printer.lease is not Lease.OURS or printer.wish is Wish.LEAVE:
            return
        self._say_why_down(printer, printer.epoch, now)
        since = printer.child.stats[Cell.UNREACHED_SINCE]
        if since and now - max(since, printer.yield_asked_at) >= YIELD_AFTER_S:
            printer.yield_asked_at = now  # asked again after as long, if nobody takes it
            self._maintenance.yield_lease(printer.config.key, printer.epoch)

    def _say_why_down(self, printer: Printer, epoch: int, now: float) -> None:
        """What a process that does not work cannot say itself, once."""
        child = printer.child
        looping = child.deaths.crash_loop(now)
        if (looping or child.unstartable) and not printer.told_down:
            printer.told_down = True
            why = (
                "its process crashes again and again" if looping else f"its process cannot be started: {child.refusal}"
            )
            self._maintenance.say_down(printer.config.key, epoch, why)
        elif child.state is Process.UP and not looping:
            printer.told_down = False

    # -- the end ---------------------------------------------------------------------------------------------------

    def _drain_on(self, now: float) -> None:
        """T0 the dispatcher stops claiming; then the printers finish and end; then the dispatcher ends."""
        since = self._draining_since
        if since is None:
            return
        if self._stop_now or now - since > self._settings.drain_s:
            self._stop_now = True
            for child in self._all():
                if child.running and child.aborted_at is None:
                    log.warning("child did not drain in time", extra={"child": child.name})
                    child.abort(Cause.RELOAD)
                elif child.aborted_at is not None and now - child.aborted_at > KILL_AFTER_S:
                    child.kill()
            return
        if self._drained or now - since > self._settings.drain_s / 4:
            for printer in list(self._printers.values()):
                self._replace_process(printer.child)
            none_left = not any(printer.child.running for printer in self._printers.values())
            if none_left:
                self._replace_process(self._dispatcher)

    def _finished(self) -> bool:
        return self._draining_since is not None and not any(child.running for child in self._all())

    def _end(self) -> None:
        """Nothing of us is left: children, leases, files."""
        self._ended = True
        for child in self._all():
            if child.control is not None:
                child.control.close()
        deadline = monotonic() + 3.0
        while any(child.running for child in self._all()):
            self._hear_template()
            for child in self._all():
                if monotonic() > deadline:
                    child.kill()
                child.reap()
            poll = select.poll()
            for handle in (child.process.sentinel for child in self._all() if child.process is not None):
                if handle is not None:
                    poll.register(handle, select.POLLIN)
            poll.poll(200)
        self._template.close()
        if self._maintenance.thread.is_alive():
            self._maintenance.lapse(list(self._leases))
            self._maintenance.quit(4.0)
        self._run_dir.leave()
        signal.set_wakeup_fd(-1)
        log.info("stopped", extra={"exit": self._exit_code})

    # -- views -----------------------------------------------------------------------------------------------------

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
            snapshot_age_s=now - self._maintenance.counts_at,
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
            draining=self._draining_since is not None,
            maintenance=self._maintenance,
            dispatcher=self._dispatcher,
            printers={
                # Of those with one name, the one that is wanted is the first.
                key: (printer.config, printer.child)
                for key, printer in sorted(self._printers.items(), key=lambda item: item[1].wish is Wish.LEAVE)
            },
            retired=list(self._retired.values()),
            tallies=self._tallies,
            rows=self._rows,
            released=dict(self._released),
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
