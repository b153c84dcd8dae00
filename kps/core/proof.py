"""The confirmation ladder: what to ask around a ticket, and what makes it printed, not printed or uncertain.

The law of this file:
* Zero bytes accepted by our kernel: NotPrinted, whatever went wrong.
* One byte or more and no proof: Uncertain, whatever went wrong.
* Printed wants the ticket written whole, and the proof of its rung.
* A status says how the printer is, never what became of our data: it can only speak against.

| rung | behind the ticket | proof |
|---|---|---|
| `process_id` | a number that this sending alone has | the printer says that very number, whenever it does |
| `fence` | a question that is answered in order | one answer, and nothing spoke against it since the first byte |
| `realtime` | the real-time status questions | none: all bytes acknowledged, and no contrary sign |
| `none` | nothing | none: all bytes acknowledged |
"""

from __future__ import annotations

from enum import Enum, auto

from kps.core.process_ids import ProcessIds, process_id_command
from kps.core.status import (
    ByteAnswer,
    Cleared,
    PrinterStatus,
    ProcessIdEcho,
    Reply,
    TextBlock,
    sentence,
    trouble,
)
from kps.core.status_round import StatusRound
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain

FENCE = b"\x1d\x72\x01"
"""`GS r 1`: answered when it is reached, not before. Source: TM-T88III guide; TM-T81 guide, appendix G."""
CLEAR = b"\x10\x14\x08\x01\x03\x14\x01\x06\x02\x08"
"""`DLE DC4` function 8: throw both buffers away. Source: TM-T88III and T90 guides, HPRT TP80K manual."""
_FENCE_PAPER_END = 0x0C


class Step(Enum):
    """What a ticket waits for on its way to a verdict."""

    WRITE = auto()
    """Our kernel has not yet taken all of it."""
    DELIVER = auto()
    """The printer's side has not yet acknowledged all of it."""
    ASK = auto()
    """A status question after the ticket is open, and its answer decides."""
    CONFIRM = auto()
    """The printer owes the proof."""
    HOLD = auto()
    """All is asked, and a sign speaks against the ticket: it may pass."""
    CLEAR = auto()
    """The printer was asked to throw the ticket away."""
    HOPELESS = auto()
    """No proof can come any more."""
    DONE = auto()
    """Printed, as far as this rung can tell."""


class Confirmation:
    """The way of one ticket of `size` bytes (>= 1) to its outcome. Told what happened, it says what comes next.

    `ids` are wanted at `process_id`.
    """

    def __init__(self, level: ProofLevel, size: int, ids: ProcessIds | None = None) -> None:
        if size < 1:
            raise ValueError("a ticket has at least one byte")
        if level is ProofLevel.PROCESS_ID and ids is None:
            raise ValueError("a ticket at process_id has process IDs")
        self.level = level
        self.trailer = _trailer(level, ids)
        """Stands behind the ticket, and belongs to it."""
        self.total = size + len(self.trailer)
        self.accepted = 0
        """Bytes of ticket and trailer that our kernel took."""
        self.contrary: Reason | None = None
        """The sign that speaks against the ticket, if there is one."""
        self.evidence = ""
        """Why the printer's proofs are not to be believed any more; empty = they are."""
        self.owed = False
        """The proof never came although nothing was wrong."""
        self.cleared = False
        """The printer said that it threw the ticket away."""
        self._ids = ids
        self._delivered = False
        self._round = StatusRound()
        self._asking = level is ProofLevel.REALTIME
        self._troubled = False
        self._echoed = False
        self._fenced = False
        self._clearing = False
        self._over: Reason | None = None
        self._asked_again = False

    @property
    def step(self) -> Step:
        """What comes next."""
        if self._over is not None:
            return Step.HOPELESS
        if self.accepted < self.total:
            return Step.WRITE
        if self._echoed:
            return Step.DONE
        if self._clearing:
            return Step.HOPELESS if self.cleared else Step.CLEAR
        if self.level is ProofLevel.REALTIME and self._round.question is not None:
            # Right behind the last byte: an answer means that all before it has arrived, and no acknowledgement that
            # the printer's network stack delays is waited for.
            return Step.ASK
        if self.level.proves_paper and not self._fenced:
            return Step.CONFIRM if self.contrary is None else Step.HOLD
        if not self._delivered:
            return Step.DELIVER
        return Step.DONE if self.contrary is None or self._fenced else Step.HOLD

    @property
    def status(self) -> PrinterStatus:
        """What the printer told since the first byte."""
        return self._round.status

    @property
    def well(self) -> bool:
        """Whether a whole round of answers since the last byte had no contrary sign, and none came since."""
        return self.accepted == self.total and self._round.question is None and self.contrary is None

    @property
    def telling(self) -> bool:
        """Whether the sign is the whole truth: in the middle of a round a printer is "offline" and no more is known."""
        return self.contrary is not None and (not self._asking or self._round.question is None)

    @property
    def complaint(self) -> Reason:
        """Why the ticket does not come on: a sign, else what is overdue."""
        if self._over is not None:
            return self._over
        if self.contrary is not None:
            return self.contrary
        if not self._delivered:
            return Reason.BLOCKED
        return Reason.UNPROVEN if self.level.proves_paper and self.well else Reason.SILENT

    @property
    def question(self) -> int | None:
        """The `DLE EOT` to send now; None = none, or one is still unanswered."""
        if not self._asking or self._round.waiting or self.step not in (Step.ASK, Step.CONFIRM, Step.HOLD):
            return None
        return self._round.question

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
        match reply:
            case ProcessIdEcho(process_id):
                self._hear_echo(process_id)
            case ByteAnswer(value) if self.level is ProofLevel.FENCE:
                self._hear_fence(value)
            case Cleared() if self._clearing:
                self.cleared = True
            case TextBlock() if reply.power_on:
                # Whatever it had not printed by then is gone, and so are its modes.
                self._over = self._over or Reason.CONNECTION_LOST
            case _:
                self._hear_status(reply)

    def look(self) -> bool:
        """Begin a new round of status questions; False = one is still open, or at `none`, where nothing is asked."""
        if self.level is ProofLevel.NONE or self.accepted < self.total:
            return False
        if self._asking and self._round.question is not None:
            return False
        self._round = StatusRound(self._round.status)
        self._asking = True
        return True

    def ask_again(self) -> bytes:
        """The proof is overdue and the printer is well: what to send once more; empty = nothing is left to try."""
        if self._ids is None or self.level is not ProofLevel.PROCESS_ID or self._asked_again:
            return b""
        if self._troubled:
            return b""  # what was inside may have been thrown away meanwhile, and a new ID would say nothing about it
        self._asked_again = True
        return process_id_command(self._ids.again)

    def overdue(self) -> None:
        """The printer is well and does not prove: the ticket is given up, whatever the reason."""
        self._over = Reason.UNPROVEN
        self.owed = not self._troubled

    def clear(self) -> bytes:
        """Ask the printer to throw the ticket away. Only for a ticket that was written and delivered whole."""
        if self.accepted < self.total:
            raise ValueError("the command would stand inside of the ticket")
        self._clearing = True
        return CLEAR

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
        if self.cleared:
            text += ", then cleared"
        whole = self.accepted == self.total
        # Without an ID that stayed away nobody knows whether all of it had come out before.
        gone = self.cleared and self.level is ProofLevel.PROCESS_ID
        return Uncertain(reason, text, self.accepted, sent_whole=whole, cleared=gone)

    def _hear_echo(self, process_id: bytes) -> None:
        ids = self._ids
        if ids is None or self.level is not ProofLevel.PROCESS_ID or self.accepted < self.total:
            return
        # One that is not ours may be an earlier ticket's: that is for others to know.
        if process_id == ids.ticket or (self._asked_again and process_id == ids.again):
            self._echoed = True

    def _hear_fence(self, value: int) -> None:
        """An answer counts once, behind the whole ticket, and while nothing is known to be wrong."""
        if self.accepted < self.total or self._fenced or self.contrary is not None:
            self._over = Reason.UNPROVEN
            # An old sign may still stand because a round is open; only one that holds now makes the answer a lie.
            if self.accepted < self.total or self._fenced or trouble(self._round.status) is not None:
                self.evidence = "the fence was answered when it could not be"
        elif value & _FENCE_PAPER_END or self._troubled:
            # Reached after a trouble that has passed: whether a line was lost meanwhile, it does not say.
            self._over = Reason.UNPROVEN
        else:
            self._fenced = True

    def _hear_status(self, reply: Reply) -> None:
        self._round.hear(reply)
        sign = trouble(self._round.status)
        # In the middle of a round old and new facts stand side by side: only a whole one takes a sign back.
        if sign is not None or not self._asking or self._round.question is None:
            self.contrary = sign
        self._troubled = self._troubled or sign is not None


def _trailer(level: ProofLevel, ids: ProcessIds | None) -> bytes:
    if level is ProofLevel.PROCESS_ID and ids is not None:
        return process_id_command(ids.ticket)
    return FENCE if level is ProofLevel.FENCE else b""
