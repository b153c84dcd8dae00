"""A printer: is it able, and print this."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.abilities import Abilities, level_in_force
from kps.core.address import DeviceAddress
from kps.core.confirmation import Confirmation
from kps.core.patience import confirm_limit_s
from kps.core.process_ids import ProcessIds
from kps.core.status import (
    REALTIME_QUERIES,
    PrinterStatus,
    RealtimeAnswer,
    TextBlock,
    sentence,
    trouble,
)
from kps.core.status_round import StatusRound, realtime_query
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.device.link import ECHOES_KEPT, Link, LinkLost, Talkative
from kps.device.opening import open_link
from kps.device.preparing import Disbelieved, Recovery, Unanswered, prepare
from kps.device.sending import Consent, Sending
from kps.device.transport import Limit, Unreachable

CONNECT_LIMIT_S = 2.0
"""A printer on a local network accepts in milliseconds; waiting longer only delays the backup."""

FIRST_ANSWER_LIMIT_S = 1.0
"""How long a device that never answered gets for its first answer on a new connection."""

MUTE_QUESTION_EVERY_S = 15.0
"""How often a device that never answers is asked again, without waiting: it may have been mended."""

OWED_TIMES = 3
"""So many connections on which an answer that the probe has seen did not come, and the probe is not believed."""

OWED_AGAIN_S = 15.0
"""How long a printer that owes an answer is left alone before it is asked again."""

FRESH_S = 0.05
"""So long after it has answered a printer counts as asked, unless it says otherwise by itself."""

QUIET_S, QUIET_BYTES = 1.0, 512
"""A device that has talked without end must be silent for so long, but for so many bytes, before it is believed."""

OVERDUE_TIMES = 2
"""So many tickets in a row without a proof from a printer that is well, and the probe is not believed."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The device can print now, as far as it tells."""

    status: PrinterStatus
    response_ms: int
    """Time for connecting and asking, >= 1."""
    level: ProofLevel


@dataclass(frozen=True, slots=True)
class Unable:
    """The device cannot print now; not a byte of any ticket has left us."""

    reason: Reason
    text: str
    """The reason in a few words for people."""
    alive: bool
    """Whether something at that address answered, or accepted the connection at least."""
    status: PrinterStatus


class Device:
    """One physical printer and the one connection to it.

    `timeout_s` (clamped to 1..30) limits connecting and standstills. `pulse` is called at least every 0.5 s while
    anything is waited for; an exception of it goes through to the caller. `shared`: other hosts print on it too, so
    nothing of theirs may be thrown away. For `fresh_s` seconds after an answer nothing is asked again.
    """

    def __init__(
        self,
        address: DeviceAddress,
        *,
        timeout_s: float,
        pulse: Callable[[], None],
        answers: bool | None,
        abilities: Abilities | None = None,
        shared: bool = False,
        fresh_s: float = FRESH_S,
    ) -> None:
        self.answers = answers
        """Whether it has ever answered a status query; None = never yet, as far as is known. Learned."""
        self.reconnects = 0
        """Connections after the first."""
        self.bytes_sent = 0
        """Bytes of tickets that our kernel took."""
        self._address = address
        self._timeout_s = min(max(timeout_s, 1.0), 30.0)
        self._pulse = pulse
        self.abilities = (abilities or Abilities()).heard_on(fresh=address.fresh)
        """What it has proven, less what it has lost by contrary evidence."""
        self.disproof = ""
        """The contrary evidence by which it lost its rung; empty = none."""
        self._shared = shared
        self._fresh_s = fresh_s
        self._level = ProofLevel.NONE
        self._link: Link | None = None
        self._prepared = False
        self._owed = 0
        self._owed_at = 0.0
        self._overdue = 0
        self._recovery = Recovery.after_unknown(self.abilities.level)
        self._echoes: deque[bytes] = deque(maxlen=ECHOES_KEPT)
        self._talked = False
        """Whether the last connection ended because it said more than any printer."""
        self._ever_connected = False
        self._unanswered_since: float | None = None
        self._answered_at = float("-inf")
        """When it last showed that it can print (`time.monotonic`), on the connection that is held."""
        self._known = PrinterStatus()

    @property
    def connected(self) -> bool:
        """Whether a connection is held; it may have died since it was last looked at."""
        return self._link is not None

    def fileno(self) -> int | None:
        """The descriptor of the held connection, to wait on while idle; None = none is held."""
        return None if self._link is None else self._link.fileno()

    def inherit(self, *, torn: bool) -> None:
        """Before the first connection: whether a predecessor left something there without an end."""
        self._recovery = Recovery.after_unknown(self.abilities.level, torn=torn)

    def ask(self, *, whole: bool = False) -> Ready | Unable:
        """Whether it can print now. Connects if need be; callers ask before each ticket and each 20 s when idle.

        A printer that has just answered is not asked again, and one that pushes each change of its state is asked a
        single question, unless `whole`.
        """
        began = time.monotonic()
        with contextlib.ExitStack() as undo:
            # A question may be open: its late answer must not meet the next one.
            undo.callback(self._drop)
            answer = self._ask(began, whole)
            undo.pop_all()
        return answer

    def send(
        self,
        data: bytes,
        *,
        may_write: Callable[[], bool],
        first_byte: Callable[[], None],
        blocked: Callable[[Reason, PrinterStatus], None],
        hold_s: float,
        wake: Callable[[], int | None] = lambda: None,
        ids: ProcessIds | None = None,
        lines: int = 0,
    ) -> Printed | NotPrinted | Uncertain:
        """Print one ticket (at least one byte, `lines` lines high) on the connection that `ask` found ready.

        Without `ids` the rung `process_id` is not used.
        `may_write` is asked before each portion; `first_byte` is called once, right before the first attempt to write;
        `blocked` once, when the ticket is stuck for `timeout_s` or a sign speaks against it, after which it gets
        `hold_s` seconds to come free. After an Uncertain the connection is gone, and what it still held with it.
        """
        if self._link is None:
            return NotPrinted(Reason.CONNECTION_LOST, "not connected")
        level = self._level
        if level is ProofLevel.PROCESS_ID and ids is None:
            level = ProofLevel.REALTIME
        proof = Confirmation(level, len(data), ids)
        sending = Sending(
            self._link,
            data,
            proof,
            Consent(self._pulse, may_write, first_byte, blocked, wake),
            timeout_s=self._timeout_s,
            confirm_s=confirm_limit_s(lines),
            hold_s=hold_s,
            may_clear=self.abilities.clears and not self._shared,
        )
        outcome: Printed | NotPrinted | Uncertain | None = None
        self._answered_at = float("-inf")
        try:
            outcome = sending.run()
            self._talked = isinstance(outcome, (NotPrinted, Uncertain)) and outcome.reason is Reason.TALKATIVE
        finally:
            self.bytes_sent += sending.accepted
            self._judge(proof, outcome)
            if sending.accepted and not isinstance(outcome, Printed):
                self._recovery = Recovery.after(data + proof.trailer, sending.accepted, level, ids)
            self._leave(outcome, sending.accepted)
        return outcome

    def _judge(self, proof: Confirmation, outcome: Printed | NotPrinted | Uncertain | None) -> None:
        """Whether its proofs are still worth something after this ticket."""
        if isinstance(outcome, Printed):
            self._overdue = 0
            if outcome.level is ProofLevel.PROCESS_ID and self.abilities.pushes:
                self._answered_at = time.monotonic()  # by the proof; of what came after it, it tells by itself
        elif proof.proof_withheld:
            self._overdue += 1
        if proof.evidence:
            self.disbelieve(proof.evidence)
        elif self._overdue >= OVERDUE_TIMES:
            self.disbelieve(f"{OVERDUE_TIMES} tickets in a row without {proof.level.value}, and it has no trouble")

    def take_echoes(self) -> list[bytes]:
        """The process IDs that the printer has said since the last call, whatever tickets they name."""
        if self._link is not None:
            self._echoes += self._link.echoes
            self._link.echoes.clear()
        echoes = list(self._echoes)
        self._echoes.clear()
        return echoes

    def disbelieve(self, evidence: str) -> None:
        """It does not keep what the probe has seen: from now on it is treated as one that was never probed."""
        level = self.abilities.level
        if (level is not None and level.proves_paper) or self.abilities.pushes or self.abilities.clears:
            self.disproof = evidence
            self.abilities = self.abilities.disbelieved
            self._level = level_in_force(self.abilities.level, answered=bool(self.answers))

    def close(self, *, abort: bool = False) -> None:
        """End the connection: orderly, within 1 s, or at once, taking back what the printer has not yet fetched."""
        link = self._let_go()
        if link is None:
            return
        if abort:
            link.abort()
        else:
            link.close(self._pulse)

    def _leave(self, outcome: Printed | NotPrinted | Uncertain | None, accepted: int) -> None:
        """What becomes of the connection after a ticket; outcome None = an exception is on its way."""
        match outcome:
            case Uncertain(cleared=cleared):
                self.close(abort=not cleared)
            case NotPrinted(reason=Reason.CONNECTION_LOST | Reason.TALKATIVE):
                self._drop()
            case None if accepted:
                self.close(abort=True)

    def _ask(self, began: float, whole: bool) -> Ready | Unable:
        if self._owed and time.monotonic() - self._owed_at >= OWED_AGAIN_S:
            self.close()
        try:
            if self._link is not None:
                try:
                    return self._greet(self._link, began, whole)
                except Talkative:
                    raise
                except LinkLost:
                    self._drop()  # it died while idle, which says nothing about the printer: a new one decides
            return self._greet(self._connect(), began, whole)
        except Unreachable as error:
            return Unable(error.reason, error.text, alive=False, status=PrinterStatus())
        except LinkLost as lost:
            self._drop()
            self._talked = isinstance(lost, Talkative)
            return _unable(lost.reason)

    def _connect(self) -> Link:
        link = open_link(self._address, limit_s=min(self._timeout_s, CONNECT_LIMIT_S), pulse=self._pulse)
        self._prepared = False
        self.reconnects += self._ever_connected
        self._ever_connected = True
        self._link = link
        self._unanswered_since = None
        if self._talked or not self._address.fresh:
            self._wait_for_quiet(link)
        return link

    def _wait_for_quiet(self, link: Link) -> None:
        """It has talked without end, or what it says now may answer somebody who was here before us.

        What it answers counts when it has shown that it can be silent.

        Raises Talkative, LinkLost.
        """
        until = time.monotonic() + QUIET_S
        while (left := until - time.monotonic()) > 0:
            self._pulse()
            link.wait(left)
            link.read()
            if link.heard > QUIET_BYTES:
                raise Talkative
        self._talked = False

    def _greet(self, link: Link, began: float, whole: bool) -> Ready | Unable:
        """Ask what there is to ask on this connection. Raises LinkLost if it turns out to be of no use."""
        late_answer = self._hear_out(link)
        if self._unanswered_since is not None:
            return self._greet_mute(link, began, late_answer=late_answer)
        if self.abilities.level is ProofLevel.NONE:
            return self._prepare_mute(link, began)
        if self._prepared and not whole and not (self._shared or self._owed) and trouble(link.pushed) is None:
            if began - self._answered_at < self._fresh_s:
                return self._verdict(link.pushed if self.abilities.pushes else self._known, began)
            if self.abilities.pushes and link.pushed.online is not None:
                # Cover, paper and cutter it tells by itself: here it says that it is there, and online.
                one = StatusRound(link.pushed, REALTIME_QUERIES[:1])
                if not self._all_answered(link, one):
                    return self._unanswered(link, one, began)
                if trouble(one.status) is None:
                    return self._verdict(one.status, began)
        questions = StatusRound()
        if not self._all_answered(link, questions):
            return self._unanswered(link, questions, began)
        if not self._prepared and trouble(questions.status) is None:
            return self._prepare(link, questions, began)
        return self._verdict(questions.status, began)

    def _hear_out(self, link: Link) -> bool:
        """What was said while nobody asked; returns whether an answer is among it. Raises LinkLost if it is of no use.

        It ends: who never stops is Talkative.
        """
        answered = False
        while True:
            for reply in link.read():
                if isinstance(reply, TextBlock) and reply.power_on:
                    raise LinkLost("switched on anew: it has forgotten what it was told")
                answered = answered or isinstance(reply, RealtimeAnswer)
            if not link.more:
                return answered
            self._pulse()

    def _prepare(self, link: Link, questions: StatusRound, began: float) -> Ready | Unable:
        """Once per connection, before its first ticket: modes, identity, and what an earlier ticket left behind."""
        self._prepared = True
        try:
            prepare(link, self.abilities, self._recovery, pulse=self._pulse, limit_s=self._timeout_s)
        except Unanswered as why:
            self._note_owed(str(why))
        except Disbelieved as why:
            self.disbelieve(str(why))
            raise LinkLost(str(why)) from why
        else:
            self._owed = 0
            self._recovery = Recovery()
        reason = trouble(link.pushed)
        return self._verdict(link.pushed if reason is not None else questions.status, began)

    def _note_owed(self, what: str) -> None:
        """It may be busy with what it holds, or with another host's job; but it has to answer some time.

        Until then it prints as one that was never probed. It is asked again on later connections only: an answer
        that comes late must not meet a question of ours.
        """
        self._owed += 1
        self._owed_at = time.monotonic()
        if self._owed >= OWED_TIMES:
            self.disbelieve(f"{what}, {OWED_TIMES} times, and it has no trouble")

    def _all_answered(self, link: Link, questions: StatusRound) -> bool:
        """Ask the questions of a round, one at a time, each within the limit."""
        while (question := questions.question) is not None:
            link.write(realtime_query(question))
            questions.asked()
            limit = Limit(self._answer_limit_s())
            while questions.waiting:
                left = limit.left()
                if not left:
                    return False
                self._pulse()
                link.wait(left)
                for reply in link.read():
                    questions.hear(reply)
            self.answers = True
        self._answered_at = time.monotonic()
        return True

    def _answer_limit_s(self) -> float:
        return self._timeout_s if self.answers else min(self._timeout_s, FIRST_ANSWER_LIMIT_S)

    def _unanswered(self, link: Link, questions: StatusRound, began: float) -> Ready | Unable:
        """Silence of a device that answers is trouble; of one that never did, its nature."""
        if link.queued():
            return self._not_reading(link)
        if self.answers:
            self._drop()
            return _unable(Reason.SILENT, questions.status)
        self._unanswered_since = time.monotonic()
        return self._prepare_mute(link, began)

    def _prepare_mute(self, link: Link, began: float) -> Ready | Unable:
        """A device that cannot be asked anything gets at least what completes a torn picture, once per connection."""
        if not self._prepared:
            self._prepared = True
            try:
                prepare(link, Abilities(ProofLevel.NONE), self._recovery, pulse=self._pulse, limit_s=self._timeout_s)
            except Unanswered:
                return self._not_reading(link)
            self._recovery = Recovery()
        return self._verdict(link.status(), began)

    def _greet_mute(self, link: Link, began: float, *, late_answer: bool) -> Ready | Unable:
        """A device that has not answered on this connection: nobody waits for it, but an answer is noticed later."""
        if late_answer:
            self.answers = True
            raise LinkLost("a late answer: which question it belongs to cannot be told on this connection")
        now = time.monotonic()
        if self._unanswered_since is not None and now - self._unanswered_since >= MUTE_QUESTION_EVERY_S:
            if link.queued():
                return self._not_reading(link)
            link.write(realtime_query(1))
            self._unanswered_since = now
        return self._verdict(link.status(), began)

    def _not_reading(self, link: Link) -> Unable:
        """Not even the few bytes of a question were acknowledged: the host is dead, or its window closed."""
        vitals = link.vitals()
        self._drop()
        if vitals is not None and vitals.dead(FIRST_ANSWER_LIMIT_S / 2):
            return Unable(Reason.CONNECTION_LOST, "host does not answer", alive=False, status=PrinterStatus())
        return _unable(Reason.BLOCKED)

    def _verdict(self, status: PrinterStatus, began: float) -> Ready | Unable:
        reason = trouble(status)
        if reason is not None:
            self._owed = 0  # what it owed has found its reason
            self._answered_at = float("-inf")
            return _unable(reason, status)
        answered = bool(self.answers) and self._unanswered_since is None
        level = ProofLevel.REALTIME if self._owed and self.abilities.level is not None else self.abilities.level
        self._level = level_in_force(level, answered=answered)
        self._known = status
        return Ready(status, max(1, round((time.monotonic() - began) * 1000)), self._level)

    def _drop(self) -> None:
        link = self._let_go()
        if link is not None:
            link.drop()

    def _let_go(self) -> Link | None:
        """No connection is held any more; what came over it is kept."""
        link, self._link = self._link, None
        self._answered_at = float("-inf")
        if link is not None:
            self._echoes += link.echoes
        return link


def _unable(reason: Reason, status: PrinterStatus | None = None) -> Unable:
    return Unable(reason, sentence(reason), alive=True, status=status or PrinterStatus())
