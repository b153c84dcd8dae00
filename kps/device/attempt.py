"""One try to print one ticket on an open connection, until the ticket is proven or given up."""

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
"""Bytes handed to the kernel at once; between two chunks the caller is asked whether we may still write."""

ASK_AGAIN_S = 0.5
"""Pause between two rounds of questions while the printer is in trouble."""

LOOK_EVERY_S = 1.0
"""Pause between two rounds of questions while the proof is due."""

CLEAR_LIMIT_S = 3.0
"""How long a printer may take to say that it threw a ticket away."""

_FIRST_LOOK_S, _LAST_LOOK_S, _LOOK_GROWTH = 0.001, 0.05, 1.25
"""There is no event for an empty send queue, so we look: soon at first, then less often. Many network stacks
acknowledge after 40 ms; the pauses grow slowly enough that a look comes soon after that."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What the caller allows, and what it is called for, while a ticket is printed."""

    pulse: Callable[[], None]
    """Called at every turn; a turn takes a slice (kps.device.transport.SLICE_S) at most."""
    may_write: Callable[[], bool]
    """Asked before each portion; False = the printer is not ours any more, and not a byte may follow."""
    first_byte: Callable[[], None]
    """Called once, right before the first attempt to write."""
    blocked: Callable[[Reason, PrinterStatus], None]
    """Called once, when the printer is in trouble or nothing has moved for the limit."""
    wake: Callable[[], int | None] = lambda: None
    """A descriptor that ends a wait once `blocked` was called: `pulse` then follows at once."""


class Attempt:
    """One try to print one ticket. `run` once; `accepted` says at any moment how many bytes have left.

    A standstill may last `timeout_s`, the proof may take `confirm_s`, and a printer in trouble gets `hold_s` in which
    a person may mend it. `may_clear`: the printer may be told to throw the ticket away.
    """

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
        self._first_byte_announced = False
        self._reported_blocked = False
        self._keepalive_is_short = False
        self._wait_for_queue_s = _FIRST_LOOK_S
        self._progress = (0, 0, 0)
        """Bytes taken, bytes not acknowledged, answers: where the ticket was when it last moved."""
        self._moved_at = time.monotonic()
        self._trouble_since: float | None = None
        """Since when the printer is in trouble; None = it is in none."""
        self._earlier_troubles_s = 0.0
        """How long troubles that have passed lasted, together."""
        self._look_at: float | None = None
        """When the next round of questions begins; None = after a whole pause."""
        self._looked_at = 0.0
        self._clear_sent_at: float | None = None

    @property
    def accepted(self) -> int:
        """Bytes of the ticket that our kernel took."""
        return self._proof.accepted

    def run(self) -> Printed | NotPrinted | Uncertain:
        """Print the ticket, wait for its proof, return what became of it.

        What the caller's functions raise goes through.
        """
        try:
            while self._proof.step is not Step.DONE:
                given_up = self._turn()
                if given_up is not None:
                    return self._proof.given_up(given_up)
        except LinkLost as lost:
            self._see_whether_it_had_all(lost)
            if self._proof.step is not Step.DONE:
                return self._proof.given_up(lost.reason)
        if self._keepalive_is_short:
            self._link.expect_life(None)
        return self._proof.proven()

    def _turn(self) -> Reason | None:
        """Read what came, do the one thing that is next; a reason = the ticket is given up for it."""
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
            self._report_blocked()  # before any wait: the printer's other tickets must go elsewhere at once
        self._shorten_keepalive()
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
        if not self._first_byte_announced:
            self._first_byte_announced = True
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
        """Wait for the printer, and begin a round of questions each `pause_s`."""
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
        return self._link.wait(self._look_at - now, also=self._consent.wake() if self._reported_blocked else None)

    def _shorten_keepalive(self) -> None:
        """A host that dies behind the last byte would go unnoticed: there is no data that it would have to answer."""
        if not self._keepalive_is_short and self._proof.accepted == self._proof.total:
            self._keepalive_is_short = True
            self._link.expect_life(self._timeout_s)

    def _lose_patience(self) -> Reason | None:
        """Why the ticket is given up, if it has stood still for long enough; else None."""
        if self._proof.step is Step.DONE:
            return None
        now = time.monotonic()
        queued = self._link.queued()
        if queued == 0 and self._proof.accepted == self._proof.total:
            self._proof.delivered()
        if self._clear_sent_at is not None:
            return self._proof.complaint if now - self._clear_sent_at >= CLEAR_LIMIT_S else None
        if self._keepalive_is_short and queued == 0 and self._host_is_gone():
            return Reason.CONNECTION_LOST
        self._note_progress(queued, now)
        if self._trouble_since is not None:
            if self._peer_is_dead():
                return Reason.CONNECTION_LOST
            in_trouble_s = self._earlier_troubles_s + now - self._trouble_since
            return self._clear_or_give_up(queued) if in_trouble_s >= self._hold_s else None
        # A ticket that the printer has whole may take long to print; one that it is still taking must move.
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
                return self._ask_for_proof_again(now)
            if now - self._looked_at < self._timeout_s:
                return None  # it was asked how it is, and still has time to answer
        if stalled is Patience.OVER:
            return self._clear_or_give_up(queued)
        self._report_blocked()
        return None

    def _note_progress(self, queued: int, now: float) -> None:
        """Whether anything moved, and since when the printer is in trouble; when that has passed, time begins anew."""
        # Where a proof is due, answers about the printer's state are no progress of the ticket.
        answers = self._proof.progress if self._proof.step is Step.ASK else 0
        progress = (self._proof.accepted, queued, answers)
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        if self._proof.trouble is None:
            if self._trouble_since is not None:
                # A trouble that comes and goes does not get the whole hold time again and again.
                self._earlier_troubles_s += now - self._trouble_since
                self._trouble_since, self._moved_at = None, now
            return
        if self._trouble_since is None:
            self._trouble_since = now
            self._look_at = None

    def _ask_for_proof_again(self, now: float) -> Reason | None:
        """The proof is overdue although the printer can print: ask once more, then take it that none will come."""
        command = self._proof.ask_again()
        if command and self._link.write(command) == len(command):
            self._moved_at = now
            self._confirm_s = self._timeout_s
            return None
        self._proof.overdue()
        return self._proof.complaint

    def _clear_or_give_up(self, queued: int) -> Reason | None:
        """Why the ticket is given up; None = the printer was told to throw it away first, and is to say that it has."""
        whole = queued == 0 and self._proof.accepted == self._proof.total
        if not (self._may_clear and whole and self._consent.may_write()):
            return self._proof.complaint
        reason = self._proof.complaint
        command = self._proof.clear()
        if self._link.write(command) != len(command):
            return reason
        self._clear_sent_at = time.monotonic()
        return None

    def _peer_is_dead(self) -> bool:
        vitals = self._link.vitals()
        return vitals is not None and vitals.dead(self._timeout_s)

    def _host_is_gone(self) -> bool:
        vitals = self._link.vitals()
        return vitals is not None and vitals.gone(self._timeout_s)

    def _report_blocked(self) -> None:
        if not self._reported_blocked:
            self._reported_blocked = True
            self._consent.blocked(self._proof.complaint, self._proof.status)

    def _see_whether_it_had_all(self, lost: LinkLost) -> None:
        """A printer that answers nothing may close after each ticket: what counts is whether it had taken all of it."""
        if lost.orderly and self._proof.step is Step.DELIVER and self._link.queued() == 0:
            self._proof.delivered()
