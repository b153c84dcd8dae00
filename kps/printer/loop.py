"""The printer process: the only one that talks to its device, and that writes down what became of a ticket there."""

from __future__ import annotations

import logging
from multiprocessing.connection import wait

from kps.core.status import PrinterStatus
from kps.core.tickets import NotPrinted, Printed, Reason, Token
from kps.core.work import Promised, Work, WorkKind
from kps.crash import Point, crash_point
from kps.database import Database, DatabaseTrouble
from kps.database.printer_queue import ClaimLost, LeaseEnded, PrinterQueue, Withdrawn
from kps.device.connection import Ready, Unable
from kps.paper.escpos import warm_up
from kps.paper.style import style_of
from kps.printer.claims import Claims
from kps.printer.config import DeviceConfig
from kps.printer.copies import Copier, Copy
from kps.printer.device_monitor import DeviceMonitor
from kps.printer.late_proofs import LateProofs
from kps.printer.mailbox import PrinterMailbox
from kps.printer.promising import Promises
from kps.printer.settling import Result, Settling, claim_lost
from kps.process.channels import EndLost, PeerGone
from kps.process.child import ChildTools
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import Cell, LeaseCell, Stage

PREFETCH = 2
"""Pieces of work that may be with a printer: the one that prints and the next."""
TRUST_MARGIN_S = 0.25
"""The lease is not trusted for its last so many seconds: what is written then may arrive later."""
BEAT_S = 0.5
"""Longest wait while there is work, an outcome to write, or no database."""
SPOKEN_AGAIN_S = 0.1
"""After an idle printer has sent something unasked, it is not listened to for so long: one that never stops is asked
how it is ten times a second and not a thousand times."""
IDLE_BEAT_S = 4.0
"""Longest wait while there is nothing to do: whatever happens ends it."""
LAST_WORDS_S = 8.0
"""After the supervisor has gone: how long an outcome waits for a database that is away."""

log = logging.getLogger("kps.printer")


class Stopped(Exception):
    """The supervisor is gone, or has told us to end, and no outcome is left to write."""


class PrinterProcess:
    """One loop around one device; `step` is one turn of it."""

    def __init__(self, tools: ChildTools, config: DeviceConfig, epoch: int) -> None:
        start = tools.start
        settings = self._settings = start.settings
        self._control = tools.control
        self._stats = tools.stats
        self._log_handle = tools.log
        self._lease_cells = tools.lease_cells
        self._database = Database(settings.database, start.name, pulse=self._stats.beat)
        self._queue = PrinterQueue(
            self._database,
            start.schema,
            start.owner,
            settings.instance_name,
            day_start_minutes=settings.day_start_minutes,
        )
        self._monitor = DeviceMonitor(
            self._queue,
            self._stats,
            settings,
            config,
            epoch,
            pulse=self._pulse,
            trusted=self._trusted,
            on_disproof=lambda: self._control.send(("disbelieved",)),
        )
        self._late_proofs = LateProofs(self._queue, self._stats, self._monitor)
        self._mailbox = PrinterMailbox(lambda work: self._claims.add(work))
        self._claims = Claims(self._queue, self._stats, self._mailbox.room_for_one)
        self._promises = Promises(self._queue, self._stats, settings.late_after_minutes)
        self._copier = Copier(
            style_of(settings),
            settings.font_dirs,
            settings.hold_s,
            pulse=self._stats.beat,
            may_write=self._trusted,
            first_byte=lambda: self._stats.set(Cell.STAGE, Stage.LEAVING),
            blocked=self._blocked,
            wake=self._mailbox.fileno,
        )
        self._settling = Settling(
            self._queue, self._stats, self._monitor, settings.retry_delay_s, self._mailbox.room_for_one
        )  # fmt: skip
        self._gone_at: float | None = None
        self._stopping = False
        self._printing = Work(WorkKind.TICKET, 0, Token(0))
        """The work that was begun last."""
        self._in_hold = False
        self._turn_away_due = 0.0
        self._listen_at = 0.0

    def run(self) -> None:
        """Work until told to end."""
        self._stats.set(Cell.STAGE, Stage.IDLE)
        warm_up()
        try:
            self._control.send(("up",))
            # A database that is away keeps no process from being up.
            self._promises.plan()
            self._inherit()
            while True:
                self.step()
        except (Stopped, PeerGone):
            self._monitor.device.close()
            self._database.close()

    def _inherit(self) -> None:
        """Tell the device whether an earlier process left a torn copy in it; if the database does not say: yes."""
        try:
            torn = self._queue.torn(self._monitor.config.key)
        except DatabaseTrouble:
            # The connection counts it. NULs do no harm where none is needed; a torn picture without them would.
            torn = True
        self._monitor.device.inherit(torn=torn)

    def step(self) -> None:
        """Write the last outcome, else print what is next, else look after the idle device; then wait."""
        self._stats.beat()
        self._read_control()
        self._mailbox.read()
        self._end_if_asked()
        if self._settling.work is not None:
            self._settling.settle()
        elif self._trusted() and self._promises.due and (work := self._claims.next()) is not None:
            self._catch_up()
            self._print(work)
            self._count()
            return
        elif not self._claims or self._promises.refused or self._claims.all_locked:
            if not self._claims:
                self._promises.forget_refusals()
            self._monitor.keep_up(expected=self._mailbox.expected)
            self._mailbox.expected = False
            self._catch_up()
        self._count()
        self._wait()

    # -- messages ---------------------------------------------------------------------------------------------------

    def _read_control(self) -> None:
        try:
            while self._gone_at is None and (message := self._control.receive()) is not None:
                self._obey(message)
        except PeerGone:
            # The supervisor is dead: the last outcome is still written, nothing new begins.
            self._gone_at = monotonic()
            log.warning("supervisor gone")

    def _obey(self, message: tuple[object, ...]) -> None:
        match message:
            case ("mailbox", int(generation)):
                self._new_mailbox(generation)
            case ("lease", int(epoch)):
                self._monitor.new_epoch(epoch)
            case ("device", DeviceConfig() as config):
                self._monitor.reconfigure(config)
            case ("reopen",):
                self._log_handle.reopen()
            case ("stop",):
                self._stopping = True
            case _:
                log.error("unknown message", extra={"text": str(message[0])})

    def _new_mailbox(self, generation: int) -> None:
        try:
            channel = self._control.receive_end()
        except EndLost:  # the supervisor logs it, and sends another one
            self._control.send(("mailbox lost", self._monitor.config.key, generation))
            self._mailbox.replace(None)
            return
        self._mailbox.replace(channel)
        held = [work.token for work in self._claims]
        if self._settling.work is not None:
            held.append(self._settling.work.token)
        self._mailbox.hello(held, PREFETCH - len(held))

    def _end_if_asked(self) -> None:
        gone = self._gone_at is not None
        if not (gone or self._stopping):
            return
        unrecorded = self._settling.work
        if unrecorded is None:
            self._claims.give_back("its printer process ends")
            raise Stopped
        if gone and monotonic() - (self._gone_at or 0.0) > LAST_WORDS_S:
            log.error("outcome not recorded", extra=unrecorded.log_field)
            raise Stopped

    # -- printing --------------------------------------------------------------------------------------------------

    def _print(self, work: Work) -> None:
        self._stats.set(Cell.TICKET, work.id if work.kind is WorkKind.TICKET else 0)
        self._stats.set(Cell.TOKEN, work.token)
        self._printing = work
        self._stats.set(Cell.STAGE, Stage.TAKEN)
        began = monotonic()
        match self._monitor.ask_patiently():
            case Ready():
                self._promise_and_send(work, began)
            case Unable() as answer if self._monitor.perhaps_still_held(answer):
                # This does not count as a try: the work waits until the device answers, or is known to be down.
                self._claims.give_back("its printer is perhaps still held by its last owner")
            case Unable(reason, text):
                self._claims.remove(work)
                self._settling.keep(Result(work, NotPrinted(reason, text), _ms(began)))
                self._settling.settle()
                self._claims.give_back(f"its printer cannot print: {text}")
        self._stats.set(Cell.STAGE, Stage.IDLE)
        self._stats.set(Cell.TICKET, 0)

    def _promise_and_send(self, work: Work, began: float) -> None:
        try:
            promised = self._promises.make(work, self._monitor.config)
        except LeaseEnded:
            # The work stays here: either the lease is renewed, or the next owner of the device takes the work over.
            log.warning("lease not trusted", extra=work.log_field)
            self._wait()
        except ClaimLost:
            claim_lost(work, self._stats)
            self._forget(work)
        except Withdrawn as why:
            log.info("ticket withdrawn", extra={"cause": str(why)} | work.log_field)
            self._forget(work)
        except DatabaseTrouble as trouble:
            self._not_promised(work, trouble)
        else:
            self._claims.remove(work)
            crash_point(Point.PROMISED)
            self._settling.keep(self._send(work, promised, began))
            self._settling.settle()

    def _forget(self, work: Work) -> None:
        self._claims.remove(work)
        self._mailbox.room_for_one(work.token)

    def _not_promised(self, work: Work, trouble: DatabaseTrouble) -> None:
        if trouble.locked and work.kind.may_keep_others_waiting:
            self._claims.pass_over(work, trouble)
        elif trouble.refused and work.kind.may_keep_others_waiting:
            self._promises.put_off(work, trouble)
        else:
            # Whether the promise was committed is not known. But no byte has left, and once that is written down, the
            # next copy needs no mark.
            log.warning("database trouble", extra={"cause": trouble.sentence} | work.log_field)
            self._claims.remove(work)
            nothing = NotPrinted(Reason.RELEASED, "the database was away")
            self._settling.keep(Result(work, nothing, 1, promise_unknown=True))

    def _send(self, work: Work, promised: Promised, began: float) -> Result:
        device = self._monitor.device
        made = self._copier.make(promised.content, promised.paper, device)
        outcome = self._copier.send(made, promised.ids, device) if isinstance(made, Copy) else made
        self._in_hold = False
        self._late_proofs.sent(promised.ids, proven=isinstance(outcome, Printed))
        return Result(work, outcome, _ms(began), promised.marked)

    def _blocked(self, reason: Reason, status: PrinterStatus) -> None:
        """A ticket is stuck in the printer: publish that at once, so that its other tickets go elsewhere."""
        log.warning("printer blocked", extra={"cause": reason.value} | self._printing.log_field)
        self._monitor.blocked(reason, status)
        self._in_hold = True
        self._turn_away()

    def _turn_away(self) -> None:
        """While a ticket is stuck in the printer: give back at once what the dispatcher still hands over."""
        self._turn_away_due = monotonic() + BEAT_S
        self._mailbox.read()
        self._claims.give_back("its printer is blocked")

    def _catch_up(self) -> None:
        """Write down what the printer has shown about earlier tickets, now that their outcomes are written."""
        try:
            self._late_proofs.listen()
            self._monitor.tell_news()
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})

    # -- the loop --------------------------------------------------------------------------------------------------

    def _trusted(self) -> bool:
        """Whether the lease is certainly ours now."""
        return self._trusted_for_s() > 0

    def _trusted_for_s(self) -> float:
        return (
            0.0 if self._gone_at is not None else self._lease_cells[LeaseCell.TRUST_UNTIL] - TRUST_MARGIN_S - boottime()
        )

    def _pulse(self) -> None:
        self._stats.beat()
        if not self._in_hold:
            return
        known = len(self._claims)
        self._mailbox.read()
        # New work goes elsewhere at once; what could not be given back is tried again each BEAT_S.
        if len(self._claims) > known or monotonic() >= self._turn_away_due:
            self._turn_away()

    def _count(self) -> None:
        self._stats.set(Cell.CONNECTED, float(self._monitor.device.connected))
        self._stats.count(Cell.RECONNECTS, self._monitor.device.reconnects)
        self._stats.count(Cell.DATABASE_ERRORS, self._database.errors)
        self._stats.count(Cell.LOG_DROPPED, self._log_handle.dropped)

    def _beat_s(self) -> float:
        """Longest wait. It ends when the lease is not trusted any more, for then the connection is closed at once."""
        trusted_s = self._trusted_for_s()
        amiss = self._claims or self._settling.work is not None or not self._database.connected
        return BEAT_S if amiss or trusted_s <= 0 else min(IDLE_BEAT_S, trusted_s)

    def _wait(self) -> None:
        now = monotonic()
        timeout = self._beat_s()
        if self._settling.work is not None:
            timeout = min(timeout, self._settling.due - now)
        elif not self._claims:
            timeout = min(timeout, self._monitor.due - now)
            if self._settings.idle_close_s:
                timeout = min(timeout, self._settings.idle_close_s)
        sources: list[object] = [] if self._gone_at is not None else [self._control]
        if self._mailbox.channel is not None:
            sources.append(self._mailbox.channel)
        idle = self._settling.work is None and not self._claims
        device = self._monitor.device.fileno() if idle and self._trusted() else None
        if device is not None and now < self._listen_at:
            device, timeout = None, min(timeout, self._listen_at - now)
        if device is not None:
            sources.append(device)
        if device in wait(sources, max(0.005, timeout)):  # type: ignore[arg-type]
            # An idle printer that sends something, or closes, has changed: it is asked how it is.
            self._monitor.due = 0.0
            self._listen_at = monotonic() + SPOKEN_AGAIN_S


def _ms(began: float) -> int:
    return max(1, round((monotonic() - began) * 1000))


def main(tools: ChildTools, config: DeviceConfig, epoch: int) -> None:
    """A printer process."""
    PrinterProcess(tools, config, epoch).run()
