"""The confirmation ladder: what to ask around a ticket, and what makes it printed, not printed or uncertain.

The law of this file:
* Zero bytes accepted by our kernel: NotPrinted, whatever went wrong.
* One byte or more and no proof: Uncertain, whatever went wrong.
* Printed wants the ticket written whole, acknowledged by the printer's TCP, and no contrary sign.
* A status says how the printer is, never what became of our data: at `realtime` an answer can only speak against.

Two rungs are in force, `realtime` and `none`. A higher one asks a further question after the ticket and has its own
proof; it becomes one more `Step` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from kps.core.status import (
    REALTIME_QUERIES,
    AsbUnit,
    PrinterStatus,
    RealtimeAnswer,
    Reply,
    after_asb,
    after_realtime,
    sentence,
    trouble,
)
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a device has shown a probe that it can do. What it has not shown is never sent with a ticket."""

    level: ProofLevel | None = None
    """The best rung that it has proven; None = it was never probed."""
    pushes: bool = False
    """It tells every change of its state by itself once asked to (`GS a`, automatic status back)."""
    clears: bool = False
    """It throws away what it has not printed, and says so (`DLE DC4` function 8)."""
    firmware: str = ""
    """Its firmware's text at the probe (`GS I` 65); another text means another device. Empty = it told none."""


def level_in_force(probed: ProofLevel | None, *, answered: bool) -> ProofLevel:
    """The rung that a device gets now: `realtime` at best, and only if it answers (`probed` None = never probed)."""
    if probed is ProofLevel.NONE or not answered:
        return ProofLevel.NONE
    return ProofLevel.REALTIME


def realtime_query(query: int) -> bytes:
    """The bytes of `DLE EOT query`, query 1..4."""
    return bytes((0x10, 0x04, query))


class StatusRound:
    """One round of `DLE EOT` 1 to 4, one question at a time: the answers do not say which question they answer."""

    def __init__(self, status: PrinterStatus | None = None) -> None:
        self.status = status or PrinterStatus()
        """What is known so far; after a whole round nothing older is in it."""
        self.answers = 0
        self.waiting = False
        """Whether a question is out and unanswered."""

    @property
    def question(self) -> int | None:
        """The question to ask, or to await, next; None = the round is complete."""
        return REALTIME_QUERIES[self.answers] if self.answers < len(REALTIME_QUERIES) else None

    def asked(self) -> None:
        """The question went out."""
        self.waiting = True

    def hear(self, reply: Reply) -> None:
        """Take any reply; what answers nothing of ours is ignored."""
        if isinstance(reply, AsbUnit):
            self.status = after_asb(self.status, reply)
        elif isinstance(reply, RealtimeAnswer) and self.waiting and self.question is not None:
            self.status = after_realtime(self.status, self.question, reply)
            self.answers += 1
            self.waiting = False


class Step(Enum):
    """What a ticket waits for on its way to a verdict."""

    WRITE = auto()
    """Our kernel has not yet taken all of it."""
    DELIVER = auto()
    """The printer's side has not yet acknowledged all of it."""
    ASK = auto()
    """A question after the ticket is open."""
    HOLD = auto()
    """All is asked, and a sign speaks against the ticket: it may clear."""
    DONE = auto()
    """Nothing speaks against it: printed, as far as this level can tell."""


class Confirmation:
    """The way of one ticket of `total` bytes (>= 1) to its outcome. Told what happened, it says what comes next."""

    def __init__(self, level: ProofLevel, total: int) -> None:
        if level not in (ProofLevel.REALTIME, ProofLevel.NONE):
            raise ValueError(f"proof level {level} is not in force")
        if total < 1:
            raise ValueError("a ticket has at least one byte")
        self.level = level
        self.total = total
        self.accepted = 0
        """Bytes that our kernel took."""
        self._delivered = False
        self._round = StatusRound()

    @property
    def step(self) -> Step:
        """What comes next."""
        if self.accepted < self.total:
            return Step.WRITE
        if self.level is ProofLevel.REALTIME and self._round.question is not None:
            # Right behind the last byte: an answer means that all before it has arrived, and no acknowledgement that
            # the printer's network stack delays is waited for.
            return Step.ASK
        if not self._delivered:
            return Step.DELIVER
        return Step.DONE if self.contrary is None else Step.HOLD

    @property
    def status(self) -> PrinterStatus:
        """What the printer told since the first byte."""
        return self._round.status

    @property
    def contrary(self) -> Reason | None:
        """The sign that speaks against the ticket, if there is one."""
        return trouble(self.status)

    @property
    def complaint(self) -> Reason:
        """Why the ticket does not come on: a sign, else what is overdue."""
        if self.contrary is not None:
            return self.contrary
        return Reason.SILENT if self._delivered else Reason.BLOCKED

    @property
    def question(self) -> int | None:
        """The `DLE EOT` to send now; None = none, or one is still unanswered."""
        return self._round.question if self.step is Step.ASK and not self._round.waiting else None

    @property
    def progress(self) -> int:
        """A number that changes with every answer to a question of ours."""
        return self._round.answers

    def wrote(self, count: int) -> None:
        """Our kernel took so many more bytes of the ticket."""
        self.accepted += count

    def delivered(self) -> None:
        """The printer's side acknowledged every byte of the ticket."""
        self._delivered = True

    def asked(self) -> None:
        """The question went out."""
        self._round.asked()

    def hear(self, reply: Reply) -> None:
        """Take any reply that came since the first byte."""
        self._round.hear(reply)

    def ask_again(self) -> None:
        """While held: begin a new round. Without questions at this level there is none, only a pushed status helps."""
        if self.step is Step.HOLD and self.level is ProofLevel.REALTIME:
            self._round = StatusRound(self.status)

    def proven(self) -> Printed:
        """The outcome of a ticket that is DONE."""
        if self.step is not Step.DONE:
            raise ValueError(f"no proof while the ticket is in {self.step.name}")
        return Printed(self.level, self.accepted)

    def given_up(self, reason: Reason) -> NotPrinted | Uncertain:
        """The outcome of a ticket that is left without proof, at whatever step."""
        if self.accepted == 0:
            return NotPrinted(reason, sentence(reason))
        text = f"{sentence(reason)}, {self.accepted} of {self.total} bytes sent"
        return Uncertain(reason, text, self.accepted, sent_whole=self.accepted == self.total)


class Patience(Enum):
    """How long a ticket without progress has waited."""

    WAITING = auto()
    BLOCKED = auto()
    """Over the limit: others should know, and a person may mend it."""
    OVER = auto()
    """Over the hold time too: give it up."""


def patience(stalled_s: float, *, timeout_s: float, hold_s: float) -> Patience:
    """What a standstill of so many seconds means."""
    if stalled_s < timeout_s:
        return Patience.WAITING
    return Patience.BLOCKED if stalled_s < timeout_s + hold_s else Patience.OVER
