"""The printer process: the only one that touches its device and that writes what became of a ticket there."""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import assert_never

from kps.core.document import Unrenderable, compose
from kps.core.limits import is_shortage
from kps.core.process_ids import ProcessIds
from kps.core.retry import Backoff
from kps.core.slip_document import compose_slip
from kps.core.slips import Slip, SlipId
from kps.core.status import PrinterStatus, sentence
from kps.core.tickets import (
    NotPrinted,
    Outcome,
    PaperFormat,
    Printed,
    Reason,
    Ticket,
    TicketId,
    Token,
    Uncertain,
    Unprintable,
)
from kps.crash import Point, crash_point
from kps.database import Database, DatabaseTrouble
from kps.database.printer_queue import ClaimLost, LeaseEnded, PrinterQueue, Withdrawn
from kps.device.connection import Ready, Unable
from kps.device.preparing import PUSH_ALL
from kps.paper.escpos import render, warm_up
from kps.paper.style import style_of
from kps.printer.config import DeviceConfig
from kps.printer.device_monitor import DeviceMonitor
from kps.printer.late_proofs import LateProofs
from kps.process.channels import Channel, EndLost, PeerGone, drain
from kps.process.child import ChildTools
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import PRINTED_CELL, Cell, LeaseCell, Stage

PREFETCH = 2
"""Tickets that may be with a printer: the one that prints and the next."""
LEASE_NEED_S = 2.0
"""A ticket is promised only if the lease is ours for at least this much longer."""
TRUST_MARGIN_S = 0.25
BEAT_S = 0.5
SPOKEN_AGAIN_S = 0.1
"""So long after an idle printer has spoken by itself it is not listened to again: one that babbles is asked ten times a
second, not a thousand."""
IDLE_BEAT_S = 2.0
"""The same while there is nothing to do and nothing amiss: whatever happens wakes the loop."""
LAST_WORDS_S = 8.0
"""How long an outcome is kept for the database after the supervisor has gone."""
_SETTLE_AGAIN = Backoff(first=0.05, cap=1.0)
SLIP_AGAIN_S = 0.5
"""A slip of which no byte has left is given to the next printer after this long."""
LOCKED_AGAIN_S = 3.0
"""After so long a ticket that somebody had locked is tried again: each try may cost the others the limit of a lock."""
_PROMISE_AGAIN = Backoff(first=1.0, cap=30.0)

log = logging.getLogger("kps.printer")


class Stopped(Exception):
    """The supervisor is gone, or wants us to end, and nothing is left to record."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to print one ticket once. A later token makes it worthless."""

    ticket: TicketId
    token: Token


@dataclass(frozen=True, slots=True)
class SlipClaim:
    """The same for a slip."""

    slip: SlipId
    token: Token


Work = Claim | SlipClaim


@dataclass(frozen=True, slots=True)
class Promised:
    """What is to be put on paper, now that the database knows of it."""

    content: Ticket | Slip
    paper: PaperFormat
    ids: ProcessIds

    @property
    def marked(self) -> bool:
        """Whether the paper says that there may be another one."""
        if isinstance(self.content, Slip):
            return self.content.possible_duplicate
        return self.content.marks.possible_duplicate or bool(self.content.marks.moved_from)


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome that the database must learn of before anything else is printed."""

    claim: Work
    outcome: Outcome
    asked: bool
    duration_ms: int
    possible_duplicate: bool


class PrinterProcess:
    """One loop around one device; `step` is one turn of it."""

    def __init__(self, tools: ChildTools, config: DeviceConfig, epoch: int) -> None:
        start = tools.start
        self._settings = start.settings
        self._control = tools.control
        self._stats = tools.stats
        self._log_handle = tools.log
        self._lease_cells = tools.lease_cells
        self._database = Database(start.settings.database, start.name, pulse=self._stats.beat)
        self._queue = PrinterQueue(
            self._database,
            start.schema,
            start.owner,
            start.settings.instance_name,
            day_start_minutes=start.settings.day_start_minutes,
        )
        self._style = style_of(start.settings)
        self._monitor = DeviceMonitor(
            self._queue,
            self._stats,
            self._settings,
            config,
            epoch,
            pulse=self._pulse,
            trusted=self._trusted,
            on_disproof=lambda: self._control.send(("disbelieved",)),
        )
        self._late_proofs = LateProofs(self._queue, self._stats, self._monitor)
        self._mailbox: Channel | None = None
        self._claims: deque[Work] = deque()
        self._again_at: dict[Token, float] = {}
        """When to try those again that somebody had locked."""
        self._result: Result | None = None
        self._settle_failures = 0
        self._settle_due = 0.0
        self._refusals = 0
        self._promise_due = 0.0
        self._gone_at: float | None = None
        self._stopping = False
        self._expected = False
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
            self._plan_promise()
            self._inherit()
            while True:
                self.step()
        except (Stopped, PeerGone):
            self._monitor.device.close()
            self._database.close()

    def _plan_promise(self) -> None:
        """Have the promise planned, so that the first ticket does not wait for that (10 ms)."""
        try:
            # No ticket has the number 0: nothing is promised.
            self._queue.sending(TicketId(0), Token(0), need_s=LEASE_NEED_S, late_after_minutes=0.0)
        except ClaimLost:
            return
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})

    def _inherit(self) -> None:
        """What a predecessor has left in the device; if nobody can say, something."""
        try:
            torn = self._queue.torn(self._monitor.config.key)
        except DatabaseTrouble:
            # Counted by the connection. NULs that are not needed do no harm; a picture that waits for them would.
            torn = True
        self._monitor.device.inherit(torn=torn)

    def step(self) -> None:
        """Record what is not recorded, else print what is next, else keep the device awake; then wait."""
        self._stats.beat()
        self._read_control()
        self._read_mailbox()
        self._end_if_asked()
        if self._result is not None:
            self._settle()
        elif self._trusted() and monotonic() >= self._promise_due and (claim := self._next()) is not None:
            self._catch_up()
            self._print(claim)
            self._count()
            return
        elif not self._claims or self._refusals or self._all_locked():
            if not self._claims:
                self._forget_refusals()
            self._monitor.keep_up(expected=self._expected)
            self._expected = False
            self._catch_up()
        self._count()
        self._wait()

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _read_control(self) -> None:
        try:
            while self._gone_at is None and (message := self._control.receive()) is not None:
                self._obey(message)
        except PeerGone:
            # The supervisor is dead: what is printing is finished and recorded, nothing new begins.
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
        """A new dispatcher: what the old one had put into its mailbox still counts as ours."""
        old, self._mailbox = self._mailbox, None
        try:
            self._mailbox = self._control.receive_end()
        except EndLost:  # the supervisor logs it, and sends another one
            self._control.send(("mailbox lost", self._monitor.config.key, generation))
        if old is not None:
            drain(old, self._take, limit_s=1.0)
            old.close()
        if self._mailbox is None:
            return
        held = [claim.token for claim in self._claims]
        if self._result is not None:
            held.append(self._result.claim.token)
        self._post(("hello", held, PREFETCH - len(held)))

    def _read_mailbox(self) -> None:
        if self._mailbox is None:
            return
        try:
            while (message := self._mailbox.receive()) is not None:
                self._take(message)
        except PeerGone:
            self._mailbox.close()
            self._mailbox = None

    def _take(self, message: tuple[object, ...]) -> None:
        match message:
            case ("ticket", int(ticket), int(token)):
                self._claims.append(Claim(TicketId(ticket), Token(token)))
            case ("soon",):
                self._expected = True
                return
            case ("slip", int(slip), int(token)):
                self._claims.append(SlipClaim(SlipId(slip), Token(token)))
            case _:
                log.error("unknown message", extra={"text": str(message[0])})

    def _post(self, message: tuple[object, ...]) -> None:
        if self._mailbox is None:
            return
        try:
            self._mailbox.send(message)
        except PeerGone:
            self._mailbox.close()
            self._mailbox = None

    def _end_if_asked(self) -> None:
        gone = self._gone_at is not None
        if not (gone or self._stopping):
            return
        if self._claims and self._result is None:
            self._give_back(list(self._claims), "its printer process ends")
        if self._result is not None:
            if gone and monotonic() - (self._gone_at or 0.0) > LAST_WORDS_S:
                log.error("outcome not recorded", extra=_named(self._result.claim))
                raise Stopped
            return
        raise Stopped

    # -- printing --------------------------------------------------------------------------------------------------

    def _next(self) -> Work | None:
        """What is to be printed now: the first but for those that somebody has just had locked."""
        now = monotonic()
        return next((claim for claim in self._claims if now >= self._again_at.get(claim.token, 0.0)), None)

    def _all_locked(self) -> bool:
        return all(claim.token in self._again_at for claim in self._claims)

    def _print(self, claim: Work) -> None:
        self._stats.set(Cell.TICKET, claim.ticket if isinstance(claim, Claim) else 0)
        self._stats.set(Cell.TOKEN, claim.token)
        self._stats.set(Cell.STAGE, Stage.TAKEN)
        began = monotonic()
        match self._monitor.ask_patiently():
            case Ready():
                self._send(claim, began)
            case Unable() as answer if self._monitor.perhaps_still_held(answer):
                # No try of the ticket's: it waits until the device is free, or it is clear that it is down.
                self._give_back(list(self._claims), "its printer is perhaps still held by its last owner")
            case Unable(reason, text):
                self._claims.remove(claim)
                self._conclude(Result(claim, NotPrinted(reason, text), True, _ms(began), False))
                self._give_back(list(self._claims), f"its printer cannot print: {text}")
        self._stats.set(Cell.STAGE, Stage.IDLE)
        self._stats.set(Cell.TICKET, 0)

    def _promise(self, claim: Work) -> Promised:
        """Bytes may leave from now on. Raises ClaimLost, LeaseEnded, Withdrawn, DatabaseTrouble."""
        if isinstance(claim, SlipClaim):
            slip = self._queue.sending_slip(claim.slip, claim.token, self._monitor.config.rows, need_s=LEASE_NEED_S)
            return Promised(slip.slip, slip.paper, slip.ids)
        sending = self._queue.sending(
            claim.ticket, claim.token, need_s=LEASE_NEED_S, late_after_minutes=self._settings.late_after_minutes
        )
        return Promised(sending.ticket, sending.paper, sending.ids)

    def _send(self, claim: Work, began: float) -> None:
        try:
            promised = self._promise(claim)
        except LeaseEnded:
            # Still ours: it waits for the lease, or is given back by whoever takes it over.
            log.warning("lease not trusted", extra=_named(claim))
            self._may_promise_again()
            self._wait()
            return
        except (ClaimLost, Withdrawn) as why:
            self._may_promise_again()
            self._claims.remove(claim)
            self._forget(claim, why)
            return
        except DatabaseTrouble as trouble:
            # A slip that cannot be promised must not keep the tickets behind it.
            if trouble.locked and isinstance(claim, Claim):
                self._pass_over(claim, trouble)
            elif trouble.refused and isinstance(claim, Claim):
                self._refused_promise(claim, trouble)
            else:
                self._lost_promise(claim, trouble)
            return
        self._may_promise_again()
        self._claims.remove(claim)
        crash_point(Point.PROMISED)
        outcome = self._put_on_paper(promised)
        self._in_hold = False
        self._late_proofs.sent(promised.ids, proven=isinstance(outcome, Printed))
        if isinstance(claim, Claim):
            may_be_out = not isinstance(outcome, (NotPrinted, Unprintable))
            self._stats.add(Cell.MARKED, float(promised.marked and may_be_out))
        self._conclude(Result(claim, outcome, True, _ms(began), promised.marked))

    def _lost_promise(self, claim: Work, trouble: DatabaseTrouble) -> None:
        """Whether the promise was committed is unknown. No byte has left: that is recorded, so no mark follows."""
        log.warning("database trouble", extra={"cause": trouble.sentence} | _named(claim))
        self._claims.remove(claim)
        self._conclude(
            Result(claim, NotPrinted(Reason.RELEASED, "the database was away"), False, 1, False), at_once=False
        )

    def _pass_over(self, claim: Claim, trouble: DatabaseTrouble) -> None:
        """Nothing was promised, since somebody has the ticket locked for long: the others go first, it stays ours."""
        log.warning("database trouble", extra={"cause": trouble.sentence} | _named(claim))
        ours = {one.token for one in self._claims}
        self._again_at = {token: at for token, at in self._again_at.items() if token in ours}
        self._again_at[claim.token] = monotonic() + LOCKED_AGAIN_S

    def _refused_promise(self, claim: Claim, trouble: DatabaseTrouble) -> None:
        """Nothing was promised, and whoever gets the ticket next would meet the same: it stays ours, for a later try.

        To give it back would bring it to us again at once, with two audit rows each time.
        """
        self._refusals += 1
        self._promise_due = monotonic() + _PROMISE_AGAIN.delay(self._refusals, random.random())  # noqa: S311
        if self._refusals == 1:
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, monotonic())
        log.warning(
            "database trouble",
            extra={"cause": trouble.sentence, "failures": self._refusals} | _named(claim),
        )

    def _may_promise_again(self) -> None:
        if self._refusals:
            log.info("database back")
        self._forget_refusals()

    def _forget_refusals(self) -> None:
        if self._refusals:
            self._refusals = 0
            self._promise_due = 0.0
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)

    def _forget(self, claim: Work, why: Exception) -> None:
        if isinstance(why, ClaimLost):
            self._stats.add(Cell.STALE_TOKENS)
            log.warning("claim lost", extra={"token": claim.token} | _named(claim))
        else:
            log.info("ticket withdrawn", extra={"cause": str(why)} | _named(claim))
        self._post(("room", claim.token))

    def _put_on_paper(self, promised: Promised) -> Outcome:
        watch = self._monitor
        content, paper = promised.content, promised.paper
        try:
            if isinstance(content, Slip):
                document = compose_slip(content, paper, self._style)
            else:
                document = compose(content, paper, self._style)
            pushes = watch.device.abilities.pushes
            data = render(
                document,
                paper,
                font_dirs=self._settings.font_dirs,
                after_reset=PUSH_ALL if pushes else b"",
                pulse=self._stats.beat,
            )
        except Unrenderable as why:
            return Unprintable(why.reason, str(why))
        except (ImportError, OSError, MemoryError) as error:
            if not (is_shortage(error) or isinstance(error, ImportError)):
                raise
            # A font, a time zone, a module: the ticket is all right, and not a byte of it has left.
            return NotPrinted(Reason.HOST_FULL, sentence(Reason.HOST_FULL))
        return watch.device.send(
            data,
            may_write=self._trusted,
            first_byte=self._first_byte,
            blocked=self._blocked,
            wake=lambda: None if self._mailbox is None else self._mailbox.fileno(),
            hold_s=self._settings.hold_s,
            ids=promised.ids,
            lines=document.height,
        )

    def _first_byte(self) -> None:
        self._stats.set(Cell.STAGE, Stage.LEAVING)

    def _blocked(self, reason: Reason, status: PrinterStatus) -> None:
        """A ticket is stuck inside: say so at once, so that the printer's other tickets go elsewhere."""
        log.warning("printer blocked", extra={"cause": reason.value, "ticket": int(self._stats.get(Cell.TICKET))})
        self._monitor.blocked(reason, status)
        self._in_hold = True
        self._turn_away()

    def _turn_away(self) -> None:
        """While a ticket is stuck inside, what still comes for this printer goes elsewhere at once."""
        self._turn_away_due = monotonic() + BEAT_S
        self._read_mailbox()
        self._give_back(list(self._claims), "its printer is blocked")

    def _conclude(self, result: Result, *, at_once: bool = True) -> None:
        self._result = result
        self._settle_failures = 0
        self._settle_due = 0.0
        if isinstance(result.outcome, Uncertain):
            self._monitor.left_uncertain()
        if isinstance(result.outcome, Uncertain) or (
            self._monitor.unable is not None and isinstance(result.outcome, Printed)
        ):
            self._monitor.due = 0.0  # it was blocked with the ticket inside: what is it like now, and what does it say?
        self._tell(result)
        if at_once:
            self._settle()

    def _tell_slip(self, claim: SlipClaim, result: Result) -> None:
        fields: dict[str, object] = {"slip": claim.slip, "ms": result.duration_ms}
        match result.outcome:
            case Printed(level, sent_bytes):
                self._stats.add(Cell.SLIPS_PRINTED)
                log.info("slip printed", extra=fields | {"proof": level.value, "bytes": sent_bytes})
            case NotPrinted(reason, text) | Uncertain(reason, text) | Unprintable(reason, text):
                log.warning("slip not printed", extra=fields | {"cause": reason.value, "text": text})
            case unexpected:
                assert_never(unexpected)

    def _tell(self, result: Result) -> None:
        if isinstance(result.claim, SlipClaim):
            self._tell_slip(result.claim, result)
            return
        fields = {"ticket": result.claim.ticket, "ms": result.duration_ms}
        match result.outcome:
            case Printed(level, sent_bytes):
                self._stats.add(PRINTED_CELL[level])
                self._stats.add(Cell.BYTES, sent_bytes)
                self._stats.set(Cell.LAST_OK, monotonic())
                self._stats.observe_print(result.duration_ms / 1000)
                log.info("ticket printed", extra=fields | {"proof": level.value, "bytes": sent_bytes})
            case NotPrinted(reason, text):
                self._stats.add(Cell.NOT_PRINTED)
                log.warning("ticket not printed", extra=fields | {"cause": reason.value, "text": text})
            case Uncertain(reason, text, sent_bytes, _, cleared):
                self._stats.add(Cell.UNCERTAIN)
                self._stats.add(Cell.CLEARED, float(cleared))
                self._stats.add(Cell.BYTES, sent_bytes)
                log.error("ticket uncertain", extra=fields | {"cause": reason.value, "text": text, "bytes": sent_bytes})
            case Unprintable(reason, text):
                self._stats.add(Cell.UNPRINTABLE)
                self._stats.add(Cell.FAILED)
                log.error("ticket failed", extra=fields | {"cause": reason.value, "text": text})
            case unexpected:
                assert_never(unexpected)

    def _settle(self) -> None:
        """Write the outcome; while the database is away it is kept, and nothing new begins."""
        result = self._result
        if result is None or monotonic() < self._settle_due:
            return
        # A printer that could not print says so first: the ticket must not come back to it.
        if isinstance(result.outcome, (NotPrinted, Uncertain)):
            self._monitor.publish_wanted()
        crash_point(Point.SETTLING)
        try:
            self._write(result)
            crash_point(Point.SETTLED)
        except ClaimLost:
            self._stats.add(Cell.STALE_TOKENS)
            log.warning("claim lost", extra={"token": result.claim.token} | _named(result.claim))
        except DatabaseTrouble as trouble:
            self._settle_failures += 1
            self._settle_due = monotonic() + _SETTLE_AGAIN.delay(self._settle_failures, random.random())  # noqa: S311
            if self._settle_failures == 1:
                self._stats.set(Cell.DATABASE_TROUBLE_SINCE, monotonic())
                log.warning("database trouble", extra={"cause": trouble.sentence} | _named(result.claim))
            return
        if self._settle_failures:
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)
            log.info("database back")
        self._result = None
        self._post(("room", result.claim.token))

    def _write(self, result: Result) -> None:
        claim = result.claim
        if isinstance(claim, SlipClaim):
            unsent = isinstance(result.outcome, NotPrinted)
            delay_s = SLIP_AGAIN_S if unsent else self._settings.retry_delay_s
            self._queue.settle_slip(claim.slip, claim.token, result.outcome, delay_s=delay_s)
            return
        if not result.asked:
            self._queue.settle_unsent(claim.ticket, claim.token)
            return
        self._queue.settle(
            claim.ticket,
            claim.token,
            result.outcome,
            duration_ms=result.duration_ms,
            # A ticket that cannot be put on paper says nothing about the printer.
            asked=not isinstance(result.outcome, Unprintable),
            possible_duplicate=result.possible_duplicate,
        )

    def _give_back(self, claims: list[Work], why: str) -> None:
        """Give claims back unmarked. If the database is away they stay ours, and are tried again later."""
        if not claims:
            return
        try:
            given = self._queue.release([(one.ticket, one.token) for one in claims if isinstance(one, Claim)], why)
            self._queue.release_slips([(one.slip, one.token) for one in claims if isinstance(one, SlipClaim)])
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})
            return
        for claim in claims:
            if isinstance(claim, Claim) and claim.ticket in given.left:
                continue  # somebody has it locked: it is tried again later
            self._claims.remove(claim)
            self._stats.add(Cell.RELEASED, float(isinstance(claim, Claim)))
            log.info("released", extra={"cause": why} | _named(claim))
            self._post(("room", claim.token))

    def _catch_up(self) -> None:
        """What the printer has shown and said about earlier tickets, now that all outcomes are on record."""
        try:
            self._late_proofs.listen()
            self._monitor.tell_news()
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})

    # -- the loop --------------------------------------------------------------------------------------------------

    def _trusted(self) -> bool:
        """Whether the lease is surely ours now."""
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
        self._read_mailbox()
        # Who has just come goes elsewhere at once; what could not be given back is tried again now and then.
        if len(self._claims) > known or monotonic() >= self._turn_away_due:
            self._turn_away()

    def _count(self) -> None:
        self._stats.set(Cell.CONNECTED, float(self._monitor.device.connected))
        self._stats.count(Cell.RECONNECTS, self._monitor.device.reconnects)
        self._stats.count(Cell.DATABASE_ERRORS, self._database.errors)
        self._stats.count(Cell.LOG_DROPPED, self._log_handle.dropped)

    def _beat_s(self) -> float:
        """Longest wait; when trust in the lease ends, the socket is let go at once."""
        trusted_s = self._trusted_for_s()
        amiss = self._claims or self._result is not None or not self._database.connected
        return BEAT_S if amiss or trusted_s <= 0 else min(IDLE_BEAT_S, trusted_s)

    def _wait(self) -> None:
        now = monotonic()
        timeout = self._beat_s()
        if self._result is not None:
            timeout = min(timeout, self._settle_due - now)
        elif not self._claims:
            timeout = min(timeout, self._monitor.due - now)
            if self._settings.idle_close_s:
                timeout = min(timeout, self._settings.idle_close_s)
        sources: list[object] = [] if self._gone_at is not None else [self._control]
        if self._mailbox is not None:
            sources.append(self._mailbox)
        device = (
            self._monitor.device.fileno() if self._result is None and not self._claims and self._trusted() else None
        )
        if device is not None and now < self._listen_at:
            device, timeout = None, min(timeout, self._listen_at - now)
        if device is not None:
            sources.append(device)
        if device in wait(sources, max(0.005, timeout)):  # type: ignore[arg-type]
            # An idle printer that says something, or closes, has news: power off, or a status of its own accord.
            self._monitor.due = 0.0
            self._listen_at = monotonic() + SPOKEN_AGAIN_S


def _named(claim: Work) -> dict[str, object]:
    """The log's field for what is being printed."""
    return {"slip": claim.slip} if isinstance(claim, SlipClaim) else {"ticket": claim.ticket}


def _ms(began: float) -> int:
    return max(1, round((monotonic() - began) * 1000))


def main(tools: ChildTools, config: DeviceConfig, epoch: int) -> None:
    """A printer process."""
    PrinterProcess(tools, config, epoch).run()
