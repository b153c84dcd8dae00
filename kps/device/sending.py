"""One ticket on its way through a connection, until it is proven or given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.proof import Confirmation, Patience, Step, patience, realtime_query
from kps.core.status import PrinterStatus
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.crash import Point, crash_point
from kps.device.link import Link, LinkLost

CHUNK = 1024
"""Bytes handed to the kernel at once; between two chunks we look whether we still may."""

ASK_AGAIN_S = 0.5
"""While a ticket is held: the pause between two rounds of questions."""

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


class Sending:
    """The try to print one ticket. `run` once; `accepted` says at any moment how many bytes have left."""

    def __init__(
        self, link: Link, data: bytes, level: ProofLevel, consent: Consent, *, timeout_s: float, hold_s: float
    ) -> None:
        self._link = link
        self._data = memoryview(data)
        self._consent = consent
        self._timeout_s = timeout_s
        self._hold_s = hold_s
        self._proof = Confirmation(level, len(data))
        self._begun = False
        self._told = False
        self._look_s = _FIRST_LOOK_S
        self._mark = (0, 0, 0)
        self._moved_at = time.monotonic()
        self._held_since: float | None = None
        self._ask_at = 0.0

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
                return self._proof.given_up(Reason.CONNECTION_LOST)
        return self._proof.proven()

    def _turn(self) -> Reason | None:
        """One look at the connection and one act; a reason = no use to go on."""
        self._consent.pulse()
        for reply in self._link.read():
            self._proof.hear(reply)
        if self._wants_to_write() and not self._consent.may_write():
            return Reason.LEASE_LOST
        match self._proof.step:
            case Step.WRITE:
                self._write()
            case Step.DELIVER:
                self._look_whether_delivered()
            case Step.ASK:
                self._ask()
            case Step.HOLD:
                self._hold()
            case Step.DONE:
                return None
        return self._lose_patience()

    def _wants_to_write(self) -> bool:
        return self._proof.step is Step.WRITE or self._proof.question is not None

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
        self._link.wait(self._look_s)
        self._look_s = min(self._look_s * _LOOK_GROWTH, _LAST_LOOK_S)

    def _ask(self) -> None:
        question = self._proof.question
        if question is not None:
            if self._link.write(realtime_query(question)) == 0:
                return self._link.wait(self._timeout_s, writable=True)
            self._proof.asked()
        return self._link.wait(self._timeout_s)

    def _hold(self) -> None:
        """A sign speaks against the ticket: tell it, and look again now and then whether somebody mended it."""
        now = time.monotonic()
        if self._held_since is None:
            self._held_since = now
        if self._ask_at <= now:
            self._ask_at = now + ASK_AGAIN_S
            self._tell()
        self._link.wait(self._ask_at - now)
        if time.monotonic() >= self._ask_at:
            self._proof.ask_again()

    def _lose_patience(self) -> Reason | None:
        """Whether the standstill is long enough to give the ticket up, and why."""
        if self._proof.step is Step.DONE:
            return None
        now = time.monotonic()
        queued = self._link.queued()
        if queued == 0 and self._proof.accepted == self._proof.total:
            self._proof.delivered()
        mark = (self._proof.accepted, queued, self._proof.progress)
        if mark != self._mark:
            self._mark, self._moved_at = mark, now
        if self._held_since is not None and now - self._held_since >= self._hold_s:
            return self._proof.complaint
        stalled = patience(now - self._moved_at, timeout_s=self._timeout_s, hold_s=self._hold_s)
        if stalled is Patience.WAITING:
            return None
        if self._peer_is_dead():
            return Reason.CONNECTION_LOST
        if stalled is Patience.OVER or self._proof.accepted == 0:
            return self._proof.complaint
        self._tell()
        return None

    def _peer_is_dead(self) -> bool:
        vitals = self._link.vitals()
        return vitals is not None and vitals.dead(self._timeout_s)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._consent.blocked(self._proof.complaint, self._proof.status)

    def _look_what_the_printer_had(self, lost: LinkLost) -> None:
        """A printer that answers nothing may close after each job: what counts is whether it had taken all of it."""
        if lost.orderly and self._proof.step is Step.DELIVER and self._link.queued() == 0:
            self._proof.delivered()
