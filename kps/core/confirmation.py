"""One try to print one ticket: what was written and heard -> what comes next, and the outcome.

What each event means stands in kps.core.proof.
"""

from __future__ import annotations

from kps.core.process_ids import ProcessIds, process_id_command
from kps.core.proof import Clearing, Data, Event, Hope, Proof, Round, Step, Trouble, advance, start, step
from kps.core.status import (
    AsbUnit,
    ByteAnswer,
    Cleared,
    PrinterStatus,
    ProcessIdEcho,
    RealtimeAnswer,
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
"""The bits of a fence's answer that say "no paper"."""

_WHY_HOPELESS = {
    Hope.SWITCHED_ON: Reason.CONNECTION_LOST,
    Hope.WORTHLESS: Reason.UNPROVEN,
    Hope.FALSE: Reason.UNPROVEN,
    Hope.OVERDUE: Reason.UNPROVEN,
}


class Confirmation:
    """The try to print a ticket of `size` bytes (>= 1). The caller reports what happens and does what `step` says.

    `ids` are needed at `process_id`.
    """

    def __init__(self, level: ProofLevel, size: int, ids: ProcessIds | None = None) -> None:
        if size < 1:
            raise ValueError("a ticket has at least one byte")
        if level is ProofLevel.PROCESS_ID and ids is None:
            raise ValueError("a ticket at process_id has process IDs")
        self.level = level
        self.trailer = _trailer(level, ids)
        """The question behind the ticket; it is sent with it."""
        self.total = size + len(self.trailer)
        self.accepted = 0
        """Bytes of ticket and trailer that our kernel took."""
        self.trouble: Reason | None = None
        """Why the printer cannot print now, if it says so."""
        self.step = Step.WRITE
        """What comes next."""
        self._state = start(level)
        self._ids = ids
        self._round = StatusRound()

    @property
    def status(self) -> PrinterStatus:
        """What the printer has said of itself since the first byte."""
        return self._round.status

    @property
    def without_trouble(self) -> bool:
        """Whether the printer has answered a whole round of questions since the last byte, and can print."""
        return self._state.round is Round.COMPLETE and self.trouble is None

    @property
    def cause_known(self) -> bool:
        """Whether `trouble` is the cause: in mid-round a printer is "offline", and why is in the answers to come."""
        return self.trouble is not None and self._state.round is not Round.OPEN

    @property
    def proof_withheld(self) -> bool:
        """Whether the proof has not come in its time although the printer was never in trouble."""
        return self._state.hope is Hope.OVERDUE and self._state.trouble is Trouble.NONE

    @property
    def evidence(self) -> str:
        """Why the printer's proofs are not to be believed any more; '' = they are."""
        return "the fence was answered when it could not be" if self._state.hope is Hope.FALSE else ""

    @property
    def complaint(self) -> Reason:
        """Why the ticket does not get on: the printer's trouble, else what has not come."""
        if self._state.hope is not Hope.LEFT:
            return _WHY_HOPELESS[self._state.hope]
        if self.trouble is not None:
            return self.trouble
        if self._state.data is not Data.ACKNOWLEDGED:
            return Reason.BLOCKED
        return Reason.UNPROVEN if self.level.proves_paper and self.without_trouble else Reason.SILENT

    @property
    def question(self) -> int | None:
        """The `DLE EOT` to send now; None = none, or one is not answered yet."""
        if self._state.round is not Round.OPEN or self._round.waiting:
            return None
        return self._round.question if self.step in (Step.ASK, Step.CONFIRM, Step.HOLD) else None

    @property
    def progress(self) -> int:
        """A number that changes with every answer to a question of ours."""
        return self._round.answers

    def wrote(self, count: int) -> None:
        """Our kernel took so many more bytes of the ticket."""
        self.accepted += count
        if self.accepted == self.total:
            self._happened(Event.ALL_TAKEN)

    def delivered(self) -> None:
        """The printer's side acknowledged every byte of the ticket. It was written whole."""
        self._happened(Event.ACKNOWLEDGED)

    def asked(self) -> None:
        """The question was sent."""
        self._round.asked()

    def hear(self, reply: Reply) -> None:
        """Take any reply that came since the first byte."""
        match reply:
            case ProcessIdEcho(process_id):
                self._hear_echo(process_id)
            case ByteAnswer(value) if self.level is ProofLevel.FENCE:
                self._happened(self._what_the_fence_says(value))
            case Cleared():
                self._happened(Event.CLEARED)
            case TextBlock() if reply.power_on:
                self._happened(Event.SWITCHED_ON)
            case AsbUnit() | RealtimeAnswer():
                self._hear_status(reply)

    def look(self) -> bool:
        """Begin a round of status questions; False = one is open, or it is too early, or nothing is asked at `none`."""
        state = self._state
        if self.level is ProofLevel.NONE or state.data is Data.WRITING or state.round is Round.OPEN:
            return False
        self._round = StatusRound(self._round.status)
        self._happened(Event.ROUND_BEGUN)
        return True

    def ask_again(self) -> bytes:
        """The proof is overdue and the printer can print: what to send once more; empty = nothing is left to try."""
        if self._ids is None or self.level is not ProofLevel.PROCESS_ID or self.step is not Step.CONFIRM:
            return b""
        if self._state.proof is not Proof.AWAITED:
            return b""
        if self._state.trouble is not Trouble.NONE:
            return b""  # what was inside may have been thrown away meanwhile, and a new ID would say nothing about it
        self._happened(Event.ASKED_AGAIN)
        return process_id_command(self._ids.again)

    def overdue(self) -> None:
        """The printer can print and does not prove: the ticket is given up. Raises ValueError where none is due."""
        if self.step is not Step.CONFIRM:
            raise ValueError(f"no proof is due while the ticket is in {self.step.name}")
        self._happened(Event.OVERDUE)

    def clear(self) -> bytes:
        """The command that throws the ticket away. Only for one that was written and acknowledged whole."""
        if self._state.data is Data.WRITING:
            raise ValueError("the command would stand inside of the ticket")
        self._happened(Event.CLEAR_SENT)
        return CLEAR

    def proven(self) -> Printed:
        """The outcome of a ticket that is DONE. Raises ValueError at any other step."""
        if self.step is not Step.DONE:
            raise ValueError(f"no proof while the ticket is in {self.step.name}")
        return Printed(self.level, self.accepted)

    def given_up(self, reason: Reason) -> NotPrinted | Uncertain:
        """The outcome of a ticket that is left without proof, at whatever step."""
        if self.accepted == 0:
            return NotPrinted(reason, sentence(reason))
        cleared = self._state.clearing is Clearing.CLEARED
        text = f"{sentence(reason)}, {self.accepted} of {self.total} bytes sent"
        if cleared:
            text += ", then cleared"
        whole = self.accepted == self.total
        # Without an ID that stayed away nobody knows whether all of it had come out before.
        gone = cleared and self.level is ProofLevel.PROCESS_ID
        return Uncertain(reason, text, self.accepted, sent_whole=whole, cleared=gone)

    def _happened(self, event: Event) -> None:
        self._state = advance(self._state, event)
        self.step = step(self._state)

    def _hear_echo(self, process_id: bytes) -> None:
        ids, state = self._ids, self._state
        if ids is None or self.level is not ProofLevel.PROCESS_ID or state.data is Data.WRITING:
            return
        # Any other number may be that of an earlier ticket; Device.take_echoes hands all of them to the caller.
        if process_id == ids.ticket or (state.proof is Proof.ASKED_AGAIN and process_id == ids.again):
            self._happened(Event.PROOF)

    def _what_the_fence_says(self, value: int) -> Event:
        """An answer counts once, behind the whole ticket, and while no trouble is known."""
        state = self._state
        if state.data is Data.WRITING or state.proof is Proof.CAME:
            return Event.FALSE_ANSWER
        if state.trouble is Trouble.PRESENT:
            # A trouble may be kept only because a round is open: then the newest status does not name it any more, and
            # the answer is no lie.
            return Event.FALSE_ANSWER if trouble(self._round.status) is not None else Event.WORTHLESS_ANSWER
        if value & _FENCE_PAPER_END or state.trouble is Trouble.PASSED:
            # Whether a line was lost during a trouble that has passed, the answer does not say.
            return Event.WORTHLESS_ANSWER
        return Event.PROOF

    def _hear_status(self, reply: AsbUnit | RealtimeAnswer) -> None:
        self._round.hear(reply)
        if self._round.question is None:
            self._happened(Event.ROUND_COMPLETE)
        reason = trouble(self._round.status)
        if reason is not None:
            self.trouble = reason
            self._happened(Event.TROUBLE)
        elif self._state.round is not Round.OPEN:
            # In the middle of a round old and new facts stand side by side: only a whole one takes a trouble back.
            self.trouble = None
            self._happened(Event.NO_TROUBLE)


def _trailer(level: ProofLevel, ids: ProcessIds | None) -> bytes:
    if level is ProofLevel.PROCESS_ID and ids is not None:
        return process_id_command(ids.ticket)
    return FENCE if level is ProofLevel.FENCE else b""
