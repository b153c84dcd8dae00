"""The dispatcher's loop: hear what has happened, look for tickets if there may be some, act on them, wait."""

from __future__ import annotations

import logging
import time
from multiprocessing.connection import wait

from kps.core.agenda import Agenda, LookAgain, NextLook, Task, Why, next_look
from kps.core.look import Refill, when_room
from kps.core.routing import PrinterRow
from kps.core.tickets import PrinterKey
from kps.database import Database, DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue
from kps.database.listen import Listener
from kps.database.statements import CHANNEL_PRINTER
from kps.dispatcher.backlog import BacklogWorker
from kps.dispatcher.decisions import Decisions
from kps.dispatcher.devices import Devices
from kps.dispatcher.looks import Looks
from kps.dispatcher.outage import Outage
from kps.dispatcher.printers import Printers
from kps.dispatcher.rounds import Rounds
from kps.dispatcher.slip_maker import SlipMaker
from kps.dispatcher.slips import Slips
from kps.process.channels import PeerGone
from kps.process.child import ChildTools
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell

NOTHING_TO_DO_S = 2.0
"""Longest wait of the loop: whatever happens ends it, and the heart beats."""

log = logging.getLogger("kps.dispatcher")


class Stopped(Exception):
    """The supervisor is gone, or wants us to end."""


class Dispatcher:
    """One loop; `step` is one turn of it."""

    def __init__(self, tools: ChildTools) -> None:
        start = tools.start
        settings, schema, owner = start.settings, start.schema, start.owner
        self._settings = settings
        self._control = tools.control
        self._stats = stats = tools.stats
        self._log_handle = tools.log
        self._database = Database(settings.database, start.name, pulse=stats.beat)
        self._queue = queue = DispatcherQueue(self._database, schema, owner, settings.instance_name)
        self._listener = Listener(settings.database, start.name, self._database, stats.beat)
        self._agenda = agenda = Agenda()
        self._printers = printers = Printers(tools.control, queue, stats, agenda)
        self._devices = devices = Devices(queue, agenda)
        backlog = BacklogWorker(settings, schema, owner, f"{start.name}-backlog")
        self._looks = Looks(settings, queue, stats, agenda, printers, backlog)
        maker = SlipMaker(settings, schema, owner, f"{start.name}-slips")
        self._slips = Slips(queue, stats, agenda, printers, devices, maker)
        self._rounds = Rounds(settings, queue, stats, agenda, printers, devices)
        self._decisions = Decisions(
            settings, queue, stats, printers, devices, self._rounds, on_missed=self._listener.doubt
        )  # fmt: skip
        self._outage = Outage(stats)
        self._woken = False
        """Whether what the POS commits wakes us: its trigger notifies, and we hear it."""
        self._trigger_reported = schema.has_trigger
        """What the supervisor knows about that trigger."""
        self._draining = False

    def run(self) -> None:
        """Work until told to end."""
        try:
            self._control.send(("up",))
            while True:
                self.step()
        except (Stopped, PeerGone):
            self._listener.close()
            self._database.close()

    def step(self) -> None:
        """Hear what happened, look for work if there may be some, wait for the next thing to happen."""
        self._stats.beat()
        self._count()
        self._read_control()
        gained = self._read_mailboxes()
        self._hear_notifications()
        self._hear_threads()
        if self._rounds.begin():
            self._look_now()
        if gained and not self._draining:
            self._fill_room(gained)
        if self._may_work and self._is_due(Task.LOOK, Task.MAKE_SLIPS):
            if self._is_quiet:
                self._ask_slip_maker()
            else:
                self._try_to_work()
        self._printers.report_failovers()
        self._wait()

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _count(self) -> None:
        errors = self._database.errors + self._slips.maker.errors + self._looks.backlog.errors + self._listener.errors
        self._stats.count(Cell.DATABASE_ERRORS, errors)
        self._stats.count(Cell.LOG_DROPPED, self._log_handle.dropped)

    def _read_control(self) -> None:
        printers = self._printers
        while (message := self._control.receive()) is not None:
            match message:
                case ("printer", str(key), int(generation), int(epoch)):
                    printers.open(PrinterKey(key), generation, epoch)
                case ("gone", str(key)):
                    printers.close(PrinterKey(key))
                case ("lease", str(key), int(epoch)):
                    if box := printers.boxes.get(PrinterKey(key)):
                        box.epoch = epoch
                        self._look_now()
                case ("rows", int()):
                    printers.begin_rows()
                case ("row", PrinterRow() as row):
                    printers.add_row(row)
                case ("rows_end", int()):
                    printers.end_rows()
                    self._agenda.at_once(Task.READ_DEVICES)
                    self._agenda.at_once(Task.RESCUE)
                    self._look_now()
                case ("drain",):
                    self._drain()
                case ("reopen",):
                    self._log_handle.reopen()
                case ("stop",):
                    raise Stopped
                case _:
                    log.error("unknown message", extra={"text": str(message[0])})

    def _read_mailboxes(self) -> set[PrinterKey]:
        """The printers that have room again."""
        gained, unreconciled = self._printers.read()
        if unreconciled:
            self._look_now()
        return gained

    def _hear_notifications(self) -> None:
        if self._listener.step():
            self._looks.clock.missed()
            self._agenda.at_once(Task.READ_DEVICES)
            self._look_now()
        heard = self._listener.heard()
        if heard:
            self._look_now()
        if CHANNEL_PRINTER in heard:
            self._agenda.at_once(Task.READ_DEVICES)
            self._agenda.at_once(Task.RESCUE)
        self._know_whether_woken()
        self._stats.set(Cell.LISTENER_PROVEN, float(self._listener.proven))
        self._stats.count(Cell.LISTENER_RECONNECTS, max(0, self._listener.reconnects - 1))

    def _know_whether_woken(self) -> None:
        wakes = self._listener.wakes
        woken = self._listener.proven and wakes is True
        if self._woken and not woken:
            self._look_now()  # the poll may be an hour away
        self._woken = woken
        if wakes is not None and wakes != self._trigger_reported:
            self._trigger_reported = wakes
            self._control.send(("trigger",))

    def _hear_threads(self) -> None:
        """What the threads for slips and for the backlog have done."""
        asked = self._slips.maker.looks
        if self._slips.hear():
            self._look_now()
        if asked and not self._slips.maker.looks:
            self._hear_answer()
        if self._looks.hear():
            self._look_now()

    def _hear_answer(self) -> None:
        """The slip maker has looked, and knows whether a ticket is `new`."""
        wait = self._slips.maker.tickets_wait
        if self._agenda.answered(monotonic(), tickets_wait=wait, poll_s=self._settings.poll_interval_s):
            self._stats.set(Cell.LAST_POLL, time.time())

    def _look_now(self) -> None:
        """Something has happened that may have changed what a look finds."""
        self._decisions.forget_look()
        self._agenda.look_now()

    # -- working ---------------------------------------------------------------------------------------------------

    @property
    def _may_work(self) -> bool:
        return self._printers.known and not self._draining

    def _is_due(self, *tasks: Task) -> bool:
        now = monotonic()
        return any(self._agenda.due(task, now) for task in tasks)

    @property
    def _is_quiet(self) -> bool:
        """Whether nothing waits, by the last look, the next ticket would wake us, and slips are to be made."""
        left, slips = self._decisions.left, self._slips
        known = left.complete and not left.tickets and not slips.waiting and not slips.maker.open
        asking = slips.maker.looks  # begun earlier: what it answers does not count for a ticket that has come since
        return known and not asking and self._woken and not self._outage.lasts and self._agenda.may_ask(monotonic())

    def _ask_slip_maker(self) -> None:
        """A poll without a look: the statement that makes slips says as well whether a ticket is `new`."""
        try:
            self._devices.read_leases(self._printers.routes)
            self._rescue()
        except DatabaseTrouble as trouble:
            self._failed(trouble)
            return
        self._slips.make()
        if self._slips.maker.looks:
            self._agenda.ask(monotonic())
        else:
            self._look_now()

    def _rescue(self) -> None:
        if rescued := self._rounds.rescue(woken=self._woken):
            self._looks.came_back(rescued)
            self._decisions.forget_look()

    def _fill_room(self, gained: set[PrinterKey]) -> None:
        """These printers have room again: go on with what the last look found, if that may still be believed."""
        left = self._decisions.left
        # Where no notification wakes us, an older ticket may have come unseen.
        believed = self._woken and not self._outage.lasts
        believed = believed and not self._is_due(Task.LOOK, Task.MAKE_SLIPS, Task.READ_DEVICES)
        match when_room(left, believed=believed, slips_wait=self._slips.waiting):
            case Refill.NOTHING:
                return
            case Refill.LOOK:
                self._look_now()
                return
        try:
            again = self._decisions.carry_out(left)
        except DatabaseTrouble as trouble:
            self._failed(trouble)
            return
        if again is not None or (self._printers.have_room(gained) and not self._decisions.left.complete):
            self._look_now()

    def _try_to_work(self) -> None:
        try:
            again = self._work(polled=self._agenda.polls(monotonic()))
        except DatabaseTrouble as trouble:
            self._failed(trouble)
            return
        self._outage.over()
        printers, agenda = self._printers, self._agenda
        agenda.look(
            next_look(
                monotonic(),
                again,
                woken=self._woken,
                poll_s=self._settings.poll_interval_s,
                give_back_at=agenda.at(Task.GIVE_BACK) if printers.owes else None,
                survey_at=self._looks.survey_due_at(),
            )
        )

    def _failed(self, trouble: DatabaseTrouble) -> None:
        """Whether the database did what we asked for is not known: begin anew, with what it says then."""
        at = monotonic() + self._outage.failed(trouble)
        self._agenda.look(NextLook(at, Why.TROUBLE))
        self._agenda.put(Task.MAKE_SLIPS, at)
        self._decisions.forget_look()
        self._looks.clock.missed()
        if self._outage.is_long:
            self._looks.begin_anew()
        self._printers.doubt()

    def _work(self, polled: bool) -> LookAgain | None:
        """One look and what follows from it; returns when it wants another one, None = when something happens."""
        make_slips = self._is_due(Task.MAKE_SLIPS)
        self._printers.reconcile()
        self._devices.read_leases(self._printers.routes)
        self._looks.look_back()
        if self._slips.waiting or (make_slips and self._slips.maker.open):
            self._slips.hand_out()
        found = self._looks.look()
        self._stats.set(Cell.LAST_POLL, time.time())
        self._decisions.forget_all_but(found)
        if found.tickets:
            self._devices.read(self._printers.routes)
        again = self._decisions.carry_out(found, polled=polled)
        if make_slips:
            self._slips.make()
        self._rescue()
        self._rounds.know_next()
        return again

    # -- ending, waiting -------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Claim nothing more; the printers give back what they have not begun."""
        self._draining = True
        log.info("draining")
        self._control.send(("drained",))

    def _wait(self) -> None:
        timeout = min(NOTHING_TO_DO_S, self._listener.due_in())
        if self._may_work:
            timeout = min(timeout, self._agenda.due_in(monotonic()))
        sources: list[object] = [self._control, *(box.channel for box in self._printers.boxes.values())]
        sources += [self._slips.maker.fileno(), self._looks.backlog.fileno()]
        if self._listener.fileno() is not None:
            sources.append(self._listener.fileno())
        wait(sources, timeout)  # type: ignore[arg-type]


def main(tools: ChildTools) -> None:
    """The dispatcher process."""
    Dispatcher(tools).run()
