"""One ticket on its way through a connection, until it is proven or given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.confirmation import Confirmation
from kps.core.patience import Patience, patience
from kps.core.proof import Step
from kps.core.status import PrinterStatus
from kps.core.status_round import realtime_query
from kps.core.tickets import NotPrinted, Printed, Reason, Uncertain
from kps.crash import Point, crash_point
from kps.device.link import Link, LinkLost

CHUNK = 1024
"""Bytes handed to the kernel at once; between two chunks we look whether we still may."""

ASK_AGAIN_S = 0.5
"""While a ticket is held: the pause between two rounds of questions."""

LOOK_EVERY_S = 1.0
"""While the proof of a ticket is due: the pause between two rounds of questions."""

CLEAR_LIMIT_S = 3.0
"""How long a printer may take to say that it threw a ticket away."""

_FIRST_LOOK_S, _LAST_LOOK_S, _LOOK_GROWTH = 0.001, 0.05, 1.25
"""No event tells that the send queue is empty, so we look: soon at first, then less often. Many network stacks
acknowledge after 40 ms; the growth is slow enough to be near when that happens."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What the caller allows and wants to hear while a ticket is sent."""

    pulse: Callable[[], None]
    may_write: Callable[[], bool]
    first_byte: Callable[[], None]
    blocked: Callable[[Reason, PrinterStatus], None]
    wake: Callable[[], int | None] = lambda: None
    """A descriptor that ends a wait for a blocked printer: `pulse` is then called at once."""


class Sending:
    """The try to print one ticket. `run` once; `accepted` says at any moment how many bytes have left."""

    def __init__(
        self,
        link: Link,
        data: bytes,
        proof: Confirmation,
        consent: Consent,
        *,
        timeout_s: float,
        confirm_s: float,
        hold_s: float,
        may_clear: bool,
    ) -> None:
        self._link = link
        self._data = memoryview(data + proof.trailer)
        self._consent = consent
        self._timeout_s = timeout_s
        self._confirm_s = max(timeout_s, confirm_s)
        self._hold_s = hold_s
        self._may_clear = may_clear
        self._proof = proof
        self._begun = False
        self._told = False
        self._watching = False
        self._wait_for_queue_s = _FIRST_LOOK_S
        self._mark = (0, 0, 0)
        self._moved_at = time.monotonic()
        self._held_since: float | None = None
        self._held_before_s = 0.0
        self._look_at: float | None = None
        self._looked_at = 0.0
        self._cleared_at: float | None = None

    @property
    def accepted(self) -> int:
        """Bytes of the ticket that our kernel took."""
        return self._proof.accepted

    def run(self) -> Printed | NotPrinted | Uncertain:
        """Send, wait for the proof, say what became of it. What the caller's functions raise goes through."""
        try:
            while self._proof.step is not Step.DONE:
                given_up = self._turn()
                if given_up is not None:
                    return self._proof.given_up(given_up)
        except LinkLost as lost:
            self._look_what_the_printer_had(lost)
            if self._proof.step is not Step.DONE:
                return self._proof.given_up(lost.reason)
        if self._watching:
            self._link.expect_life(None)
        return self._proof.proven()

    def _turn(self) -> Reason | None:
        """One look at the connection and one act; a reason = no use to go on."""
        self._consent.pulse()
        for reply in self._link.read():
            self._proof.hear(reply)
        if self._proof.step is Step.DONE:
            return None
        if self._wants_to_write() and not self._consent.may_write():
            return Reason.LEASE_LOST
        if self._proof.trouble is not None and self._proof.accepted == 0:
            return self._proof.complaint
        if self._proof.cause_known:
            self._tell()  # before any wait: the printer's other tickets must not sit through it
        self._watch_closely()
        match self._proof.step:
            case Step.WRITE:
                self._write()
            case Step.DELIVER:
                self._look_whether_delivered()
            case Step.ASK:
                self._ask()
            case Step.CONFIRM:
                self._look_after(LOOK_EVERY_S)
            case Step.HOLD:
                self._look_after(ASK_AGAIN_S)
            case Step.CLEAR:
                self._link.wait(CLEAR_LIMIT_S)
            case Step.HOPELESS:
                return self._proof.complaint
        return self._lose_patience()

    def _wants_to_write(self) -> bool:
        return self._proof.step is Step.WRITE or (self._proof.step is Step.ASK and self._proof.question is not None)

    def _write(self) -> None:
        if not self._begun:
            self._begun = True
            self._consent.first_byte()
        start = self._proof.accepted
        count = self._link.write(self._data[start : start + CHUNK])
        self._proof.wrote(count)
        if self._proof.accepted == self._proof.total:
            crash_point(Point.ALL_SENT)
        elif 2 * self._proof.accepted >= self._proof.total:
            crash_point(Point.HALF_SENT)
        if count == 0:
            self._link.wait(self._timeout_s, writable=True)

    def _look_whether_delivered(self) -> None:
        if self._link.queued() == 0:
            self._proof.delivered()
            return
        self._link.wait(self._wait_for_queue_s)
        self._wait_for_queue_s = min(self._wait_for_queue_s * _LOOK_GROWTH, _LAST_LOOK_S)

    def _ask(self) -> None:
        question = self._proof.question
        if question is not None:
            if self._link.write(realtime_query(question)) == 0:
                return self._link.wait(self._timeout_s, writable=True)
            self._proof.asked()
        return self._link.wait(self._timeout_s)

    def _look_after(self, pause_s: float) -> None:
        """Nothing can be done but wait for the printer; now and then it is asked how it is."""
        now = time.monotonic()
        if self._look_at is None:
            self._look_at = now + pause_s
        if self._proof.question is not None and self._consent.may_write():
            return self._ask()
        if now >= self._look_at:
            self._look_at = now + pause_s
            if self._proof.look():
                self._looked_at = now
            return None
        return self._link.wait(self._look_at - now, also=self._consent.wake() if self._told else None)

    def _watch_closely(self) -> None:
        """A host that dies with everything acknowledged leaves nothing on its way that would tell."""
        if not self._watching and self._proof.accepted == self._proof.total:
            self._watching = True
            self._link.expect_life(self._timeout_s)

    def _lose_patience(self) -> Reason | None:
        """Whether the standstill is long enough to give the ticket up, and why."""
        if self._proof.step is Step.DONE:
            return None
        now = time.monotonic()
        queued = self._link.queued()
        if queued == 0 and self._proof.accepted == self._proof.total:
            self._proof.delivered()
        if self._cleared_at is not None:
            return self._proof.complaint if now - self._cleared_at >= CLEAR_LIMIT_S else None
        if self._watching and queued == 0 and self._host_is_gone():
            return Reason.CONNECTION_LOST
        self._note_progress(queued, now)
        if self._held_since is not None:
            if self._peer_is_dead():
                return Reason.CONNECTION_LOST
            held_s = self._held_before_s + now - self._held_since
            return self._leave(queued) if held_s >= self._hold_s else None
        # What it has all of may take its time to print; what it does not take must move.
        printing = self._proof.step is Step.CONFIRM and queued == 0
        limit_s = self._confirm_s if printing else self._timeout_s
        stalled = patience(now - self._moved_at, timeout_s=limit_s, hold_s=self._hold_s)
        if stalled is Patience.WAITING:
            return None
        if self._peer_is_dead():
            return Reason.CONNECTION_LOST
        if self._proof.accepted == 0:
            return self._proof.complaint
        if printing:
            if self._proof.without_trouble:
                return self._insist(now)
            if now - self._looked_at < self._timeout_s:
                return None  # it has just been asked how it is
        if stalled is Patience.OVER:
            return self._leave(queued)
        self._tell()
        return None

    def _note_progress(self, queued: int, now: float) -> None:
        """What moved, and since when a sign speaks against the ticket; when that has passed, time begins anew."""
        # Answers about the printer are no progress of a ticket whose proof is due.
        answers = self._proof.progress if self._proof.step is Step.ASK else 0
        mark = (self._proof.accepted, queued, answers)
        if mark != self._mark:
            self._mark, self._moved_at = mark, now
        if self._proof.trouble is None:
            if self._held_since is not None:
                # A sign that comes and goes does not get the whole hold time again and again.
                self._held_before_s += now - self._held_since
                self._held_since, self._moved_at = None, now
            return
        if self._held_since is None:
            self._held_since = now
            self._look_at = None

    def _insist(self, now: float) -> Reason | None:
        """The proof is overdue although nothing is wrong: ask once more, then take it that none will come."""
        command = self._proof.ask_again()
        if command and self._link.write(command) == len(command):
            self._moved_at = now
            self._confirm_s = self._timeout_s
            return None
        self._proof.overdue()
        return self._proof.complaint

    def _leave(self, queued: int) -> Reason | None:
        """Give the ticket up; first take it back, where the printer can do that and has all of it."""
        whole = queued == 0 and self._proof.accepted == self._proof.total
        if not (self._may_clear and whole and self._consent.may_write()):
            return self._proof.complaint
        reason = self._proof.complaint
        command = self._proof.clear()
        if self._link.write(command) != len(command):
            return reason
        self._cleared_at = time.monotonic()
        return None

    def _peer_is_dead(self) -> bool:
        vitals = self._link.vitals()
        return vitals is not None and vitals.dead(self._timeout_s)

    def _host_is_gone(self) -> bool:
        vitals = self._link.vitals()
        return vitals is not None and vitals.gone(self._timeout_s)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._consent.blocked(self._proof.complaint, self._proof.status)

    def _look_what_the_printer_had(self, lost: LinkLost) -> None:
        """A printer that answers nothing may close after each job: what counts is whether it had taken all of it."""
        if lost.orderly and self._proof.step is Step.DELIVER and self._link.queued() == 0:
            self._proof.delivered()
