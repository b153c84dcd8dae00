"""The lives of the printers: what happens to one, and what is done for it. The tables are in the core."""

from __future__ import annotations

import logging
from dataclasses import replace

from kps.core.address import DeviceAddress
from kps.core.printer_lifecycle import Action, Event, Lease, Process, Wish, advance
from kps.core.routing import Lookup, PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.printer.config import DeviceConfig
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, LeaseCell, SharedStats
from kps.supervisor.children import Child
from kps.supervisor.devices import vouched_for, vouched_for_none, wanted_devices
from kps.supervisor.lease_keeper import ToRenew
from kps.supervisor.maintenance import Maintenance
from kps.supervisor.maintenance_events import LeaseTaken, Released
from kps.supervisor.printers import NOBODY, Children, MailboxState, Printer
from kps.supervisor.tallies import Tallies
from kps.supervisor.wiring import RowsSender, Shortage

UNMADE_AGAIN_S = 1.0
"""Between tries to make a child for which there was no room."""
YIELD_AFTER_S = 15.0
"""A device that cannot be reached from here for so long is given up, if another instance lives."""

log = logging.getLogger("kps.supervisor")


class PrinterLives:
    """All printers of this instance, from the lease of each to its end."""

    def __init__(
        self,
        settings: Settings,
        shared: SharedStats,
        children: Children,
        maintenance: Maintenance,
        rows_sender: RowsSender,
        shortage: Shortage,
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._children = children
        self._maintenance = maintenance
        self._rows_sender = rows_sender
        self._shortage = shortage
        self._leases: dict[PrinterKey, LeaseTaken] = {}
        """Ours, as they were taken."""
        self._unmade_due: float | None = None
        self.configs: dict[PrinterKey, DeviceConfig] = {}
        """The devices that the printer rows want served."""
        self.rows: tuple[PrinterRow, ...] = ()
        self.retired: dict[PrinterKey, Child] = {}
        """Children of printers that are not ours now: what they have counted stays."""
        self.tallies = Tallies()
        self.released: dict[str, int] = {}
        """Claims that were given back, by the cause."""
        self.ending = False
        """The instance ends: no printer is taken any more."""

    @property
    def leases(self) -> list[PrinterKey]:
        """The printers whose leases are ours."""
        return list(self._leases)

    def happens(self, printer: Printer, event: Event) -> None:
        """Go on to what the event leads to, and do what is to be done for it."""
        printer.life, actions = advance(printer.life, event)
        for action in actions:
            self._carry_out(action, printer)

    def _carry_out(self, action: Action, printer: Printer) -> None:
        key = printer.config.key
        match action:
            case Action.TELL_TO_END:
                printer.child.tell(("stop",))
            case Action.DISCONNECT:
                printer.mailbox = MailboxState()
                self._children.dispatcher.tell(("gone", key), ("gone", key))
            case Action.RELEASE:
                self._maintenance.release_dead(key, printer.child.generation, printer.epoch, printer.blamed)
            case Action.TELL_EPOCH:
                printer.child.tell(("lease", printer.epoch))
            case Action.TELL_EPOCH_TO_ALL:
                printer.child.tell(("lease", printer.epoch))
                self._children.dispatcher.tell(("lease", key, printer.epoch), ("lease", key))
            case Action.LAPSE:
                self._maintenance.lapse([key])
            case Action.FORGET:
                self._forget(printer)

    def _forget(self, printer: Printer) -> None:
        key = printer.config.key
        printer.child.lease_cells[LeaseCell.TRUST_UNTIL] = 0.0
        printer.child.stats[Cell.UNREACHED_SINCE] = 0.0
        self.tallies.keep(printer.child)
        self.retired[key] = printer.child
        self._children.printers.pop(key, None)
        self._leases.pop(key, None)

    def replace_process(self, child: Child) -> None:
        """It finishes what it prints, gives the rest back, and exits 0; then another one is started, unless we end."""
        printer = self._children.printer_of(child)
        if printer is not None:
            self.happens(printer, Event.REPLACED)
        elif child.state in (Process.STARTING, Process.UP):
            child.happens(Event.REPLACED)
            child.tell(("stop",))

    def rows_changed(self, rows: tuple[PrinterRow, ...], addresses: dict[PrinterKey, DeviceAddress]) -> None:
        """The printer rows have been read, and are others than before."""
        self.rows = rows
        self._rows_sender.changed(rows)
        self.configs = wanted_devices(rows, addresses, self._settings)
        log.info("printer rows", extra={"count": len(rows), "devices": len(self.configs)})
        for row in rows:
            if cause := row.fault or (row.trouble if row.lookup is Lookup.FAILED else ""):
                log.warning("printer row skipped", extra={"printer": row.name, "cause": cause})
        for name in vouched_for_none(rows, self._settings):
            log.warning("proof level for no printer", extra={"cause": name})
        for key, printer in list(self._children.printers.items()):
            config = self.configs.get(key)
            if config is None:
                printer.row_gone = True
                self.happens(printer, Event.DISMISSED)
            elif printer.wish is Wish.LEAVE:
                continue
            elif self._with_knowledge(config, printer.config) != printer.config:
                proven = printer.config.abilities
                printer.config = self._with_knowledge(config, printer.config)
                if printer.config.abilities != proven or printer.child.name != f"printer-{printer.config.name}":
                    self.tallies.keep(printer.child)
                    printer.child.name = f"printer-{printer.config.name}"
                    self.happens(printer, Event.REPLACED)
                else:
                    self._reconfigure(printer)
        self._begin_missing()

    def _reconfigure(self, printer: Printer) -> None:
        """Send its process the new config. If it does not fit into a frame, a new process is given it at its start."""
        sent = replace(printer.config, names=())  # only the supervisor needs the names, and a frame is small
        if not printer.child.tell(("device", sent)) and printer.child.running:
            self.happens(printer, Event.REPLACED)

    def _with_knowledge(self, fresh: DeviceConfig, known: DeviceConfig) -> DeviceConfig:
        abilities = known.abilities
        if fresh.names != known.names:  # PROOF_LEVELS may mean it now, or not any more
            taken = self._leases.get(fresh.key)
            abilities = vouched_for(fresh, self._settings) or (taken.abilities if taken is not None else abilities)
        return replace(fresh, answers=known.answers, abilities=abilities)

    def disbelieve(self, child: Child) -> None:
        """A device has lost what the probe had found: its next process must not start with it again."""
        if (printer := self._children.printer_of(child)) is not None:
            key, lowered = printer.config.key, printer.config.abilities.disbelieved
            printer.config = replace(printer.config, abilities=lowered)
            if key in self._leases:
                self._leases[key] = replace(self._leases[key], abilities=lowered)

    def lease_taken(self, taken: LeaseTaken) -> None:
        """A printer is ours, for the first time or again."""
        self._leases[taken.key] = taken
        config = self.configs.get(taken.key)
        if config is None or self.ending:
            return
        printer = self._children.printers.get(taken.key)
        if printer is None:
            abilities = vouched_for(config, self._settings) or taken.abilities
            config = replace(config, answers=taken.answers, abilities=abilities)
            child = self.retired.pop(taken.key, None) or self._new_child(config)
            if child is None:
                return
            child.name = f"printer-{config.name}"
            child.state = Process.WAITING
            # Not only with the next renewal: its tickets wait.
            child.lease_cells[LeaseCell.TRUST_UNTIL] = taken.trusted_until
            self._children.printers[taken.key] = Printer(config, child, taken.epoch, contested_s=taken.contested_s)
            return
        printer.reported_down = False
        if printer.lease is not Lease.RELEASING:
            printer.epoch = taken.epoch
        self.happens(printer, Event.TAKEN)

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

    def make_missing(self, now: float) -> None:
        """Children for leases of ours whose child could not be made."""
        if self._unmade_due is not None and now >= self._unmade_due:
            self._unmade_due = None
            self._begin_missing()

    def _begin_missing(self) -> None:
        """Begin the lives of printers that are wanted and whose leases are ours."""
        for key, taken in list(self._leases.items()):
            if key in self.configs and key not in self._children.printers:
                self.lease_taken(taken)

    def lease_lost(self, key: PrinterKey, event: Event = Event.LOST) -> None:
        """A printer is ours no more."""
        self._leases.pop(key, None)
        if printer := self._children.printers.get(key):
            log.warning("lease lost", extra={"printer": printer.config.name})
            self.happens(printer, event)

    def borrowed(self, key: PrinterKey, by: str) -> None:
        """As if its rows were inactive; it is acquired like any other once it has been given back."""
        printer = self._children.printers.get(key)
        if printer is None or printer.wish is Wish.LEAVE or printer.lease is Lease.RELEASING:
            return
        log.warning("printer borrowed", extra={"printer": printer.config.name, "cause": f"a probe by {by}"})
        self.happens(printer, Event.DISMISSED)

    def after_release(self, released: Released) -> None:
        """What a dead process had in hand has been given back, or could not be."""
        self.count_released("death", released.count)
        printer = self._children.printers.get(released.key)
        if printer is None or printer.lease is not Lease.RELEASING:
            return
        taken = self._leases.get(released.key)
        if released.epoch is not None:
            printer.epoch = released.epoch
            self.happens(printer, Event.RELEASED)
        elif taken is not None and taken.epoch > printer.epoch:
            # The lease had lapsed and was taken again meanwhile: the dead process's work is under the new epoch now.
            printer.epoch, printer.blamed = taken.epoch, NOBODY
            self._carry_out(Action.RELEASE, printer)
        else:
            # Its next incarnation may run already. Without a lease nothing else would end it.
            self.lease_lost(released.key, Event.NOT_OURS)

    def config_of_next(self, printer: Printer) -> DeviceConfig:
        """For the next process of a printer: with what the last one has learned, without what only we need."""
        answers = next(
            (row.answers for row in self._maintenance.devices if row.printer_key == printer.config.key), None
        )
        if answers is None:
            answers = printer.config.answers
        return replace(printer.config, names=(), answers=answers, contested_s=printer.contested_s)

    def tell_lease_keeper(self) -> None:
        """Which leases to renew: those of printers whose process lives, or will in a moment."""
        now = monotonic()
        to_renew = {}
        for key, printer in self._children.printers.items():
            child = printer.child
            healthy = child.aborted_at is None and not child.deaths.crash_loop(now) and not child.unstartable
            if healthy and printer.lease is not Lease.LOST:
                to_renew[key] = ToRenew(printer.epoch, printer.child.lease_cells)
            self._watch_device(printer, now)
        unwanted = (
            frozenset(self.configs)
            if self.ending
            else frozenset(key for key, printer in self._children.printers.items() if printer.wish is Wish.LEAVE)
        )
        self._maintenance.keep(to_renew, unwanted)

    def _watch_device(self, printer: Printer, now: float) -> None:
        if printer.lease is not Lease.OURS or printer.wish is Wish.LEAVE:
            return
        self._say_why_down(printer, printer.epoch, now)
        since = printer.child.stats[Cell.UNREACHED_SINCE]
        if since and now - max(since, printer.yield_asked_at) >= YIELD_AFTER_S:
            printer.yield_asked_at = now  # asked again after as long, if nobody takes it
            self._maintenance.yield_lease(printer.config.key, printer.epoch)

    def _say_why_down(self, printer: Printer, epoch: int, now: float) -> None:
        """Have its rows say, once, why the printer cannot print: a process that does not work cannot do so itself."""
        child = printer.child
        looping = child.deaths.crash_loop(now)
        if (looping or child.unstartable) and not printer.reported_down:
            printer.reported_down = True
            why = (
                "its process crashes again and again" if looping else f"its process cannot be started: {child.refusal}"
            )
            self._maintenance.say_down(printer.config.key, epoch, why)
        elif child.state is Process.UP and not looping:
            printer.reported_down = False

    def count_released(self, cause: str, count: int) -> None:
        """So many claims were given back."""
        if count:
            self.released[cause] = self.released.get(cause, 0) + count
