"""One printer behind its connection: whether it can print now, and print this ticket."""

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
from kps.device.attempt import Attempt, Consent
from kps.device.link import ECHOES_KEPT, Link, LinkLost, Talkative
from kps.device.opening import open_link
from kps.device.preparing import Disbelieved, Recovery, Unanswered, prepare
from kps.device.transport import Limit, Unreachable

CONNECT_LIMIT_S = 2.0
"""A printer on a local network accepts in milliseconds; to wait longer only delays the backup printer."""

FIRST_ANSWER_LIMIT_S = 1.0
"""How long a device that never answered gets for its first answer on a new connection."""

MUTE_QUESTION_EVERY_S = 15.0
"""How often a device that never answers is asked again, without waiting: it may have been mended."""

MISSING_TIMES = 3
"""On so many connections an answer that the probe has seen did not come: then the probe is not believed."""

MISSING_AGAIN_S = 15.0
"""How long a printer that has not given such an answer is left alone before it is asked again."""

FRESH_S = 0.05
"""For so long after its last answer a printer is not asked again, unless it reports a trouble by itself."""

QUIET_S, QUIET_BYTES = 1.0, 512
"""On a new connection a device that has talked without end must say no more than so many bytes in so many seconds."""

OVERDUE_TIMES = 2
"""So many tickets in a row without their proof, though the printer can print: then the probe is not believed."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The device can print now, as far as it says."""

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
    """Whether something at that address answered, or at least accepted the connection."""
    status: PrinterStatus


class Device:
    """One physical printer and the one connection to it.

    `timeout_s` (clamped to 1..30) limits connecting and standstills. `pulse` is called at least every 0.5 s while
    anything is waited for; what it raises goes through to the caller. `shared`: other hosts print on it too, so it is
    never told to clear, which would take their data as well. An answer is good for `fresh_s` seconds.
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
        """The evidence by which it lost its proof level; empty = none."""
        self._shared = shared
        self._fresh_s = fresh_s
        self._level = ProofLevel.NONE
        self._link: Link | None = None
        self._prepared = False
        self._missing = 0
        """Connections in a row on which an answer that the probe has seen did not come."""
        self._missing_at = 0.0
        """When that happened last."""
        self._unproven = 0
        """Tickets in a row without their proof although the printer could print."""
        self._recovery = Recovery.after_unknown(self.abilities.level)
        self._echoes: deque[bytes] = deque(maxlen=ECHOES_KEPT)
        self._talked = False
        """Whether the last connection ended because it said more than any printer."""
        self._ever_connected = False
        self._unanswered_since: float | None = None
        """When it was last asked in vain on this connection; None = it answers, or was not asked yet."""
        self._answered_at = float("-inf")
        """When it last showed that it can print (`time.monotonic`), on the open connection."""
        self._known = PrinterStatus()
        """What it said of itself then."""

    @property
    def connected(self) -> bool:
        """Whether a connection is open; it may have died since it was last used."""
        return self._link is not None

    def fileno(self) -> int | None:
        """The descriptor of the open connection, to wait on while idle; None = none is open."""
        return None if self._link is None else self._link.fileno()

    def inherit(self, *, torn: bool) -> None:
        """To be called before the first connection: whether an earlier process left a torn picture or command there."""
        self._recovery = Recovery.after_unknown(self.abilities.level, torn=torn)

    def ask(self, *, whole: bool = False) -> Ready | Unable:
        """Whether it can print now. Connects if need be; callers ask before each ticket and each 20 s when idle.

        A printer that has just answered is not asked again, and one that pushes each change of its state is asked a
        single question, unless `whole`.
        """
        began = time.monotonic()
        with contextlib.ExitStack() as undo:
            # If `pulse` raises, a question may be open: its late answer would be taken for the answer to the next one.
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

        Without `ids` the level `process_id` is not used. `may_write`, `first_byte`, `blocked` and `wake`: see Consent.
        From the call of `blocked` the printer gets `hold_s` seconds to come free. After an Uncertain the connection is
        closed, and what had not left it is taken back.
        """
        if self._link is None:
            return NotPrinted(Reason.CONNECTION_LOST, "not connected")
        level = self._level
        if level is ProofLevel.PROCESS_ID and ids is None:
            level = ProofLevel.REALTIME
        proof = Confirmation(level, len(data), ids)
        attempt = Attempt(
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
            outcome = attempt.run()
            self._talked = isinstance(outcome, (NotPrinted, Uncertain)) and outcome.reason is Reason.TALKATIVE
        finally:
            self.bytes_sent += attempt.accepted
            self._judge(proof, outcome)
            if attempt.accepted and not isinstance(outcome, Printed):
                self._recovery = Recovery.after(data + proof.trailer, attempt.accepted, level, ids)
            self._leave(outcome, attempt.accepted)
        return outcome

    def _judge(self, proof: Confirmation, outcome: Printed | NotPrinted | Uncertain | None) -> None:
        """Whether its proofs are still to be believed after this ticket."""
        if isinstance(outcome, Printed):
            self._unproven = 0
            if outcome.level is ProofLevel.PROCESS_ID and self.abilities.pushes:
                self._answered_at = time.monotonic()  # the proof is an answer, and any change after it is pushed
        elif proof.proof_withheld:
            self._unproven += 1
        if proof.evidence:
            self.disbelieve(proof.evidence)
        elif self._unproven >= OVERDUE_TIMES:
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
        """It does not do what the probe has seen: from now on it is treated as one that was never probed."""
        level = self.abilities.level
        if (level is not None and level.proves_paper) or self.abilities.pushes or self.abilities.clears:
            self.disproof = evidence
            self.abilities = self.abilities.disbelieved
            self._level = level_in_force(self.abilities.level, answered=bool(self.answers))

    def close(self, *, abort: bool = False) -> None:
        """End the connection: orderly, within 1 s; or at once (`abort`), taking back what has not arrived."""
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
        if self._missing and time.monotonic() - self._missing_at >= MISSING_AGAIN_S:
            self.close()
        try:
            if self._link is not None:
                try:
                    return self._ask_on(self._link, began, whole)
                except Talkative:
                    raise
                except LinkLost:
                    self._drop()  # it died while idle, which says nothing about the printer: a new connection will tell
            return self._ask_on(self._connect(), began, whole)
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
        """Before anything is asked on this connection, the device must have been silent for a while.

        It may be one that talks without end; or what it says now answers whoever used the same file before us. Raises
        Talkative, LinkLost.
        """
        until = time.monotonic() + QUIET_S
        while (left := until - time.monotonic()) > 0:
            self._pulse()
            link.wait(left)
            link.read()
            if link.heard > QUIET_BYTES:
                raise Talkative
        self._talked = False

    def _ask_on(self, link: Link, began: float, whole: bool) -> Ready | Unable:
        """Ask on this connection what has to be asked now. Raises LinkLost if the connection cannot be used."""
        late_answer = self._read_unasked(link)
        if self._unanswered_since is not None:
            return self._ask_mute(link, began, late_answer=late_answer)
        if self.abilities.level is ProofLevel.NONE:
            return self._prepare_mute(link, began)
        if self._prepared and not whole and not (self._shared or self._missing) and trouble(link.pushed) is None:
            if began - self._answered_at < self._fresh_s:
                return self._verdict(link.pushed if self.abilities.pushes else self._known, began)
            if self.abilities.pushes and link.pushed.online is not None:
                # It pushes changes of cover, paper and cutter: one answer, that it is there and online, is enough.
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

    def _read_unasked(self, link: Link) -> bool:
        """Read what has come since the last question; returns whether an answer is in it, which is a late one.

        Raises LinkLost if the printer was switched on anew, and Talkative if it does not stop.
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
        """Once per connection, before its first ticket: modes, firmware, and what an earlier ticket left behind."""
        self._prepared = True
        try:
            prepare(link, self.abilities, self._recovery, pulse=self._pulse, limit_s=self._timeout_s)
        except Unanswered as why:
            self._note_missing_answer(str(why))
        except Disbelieved as why:
            self.disbelieve(str(why))
            raise LinkLost(str(why)) from why
        else:
            self._missing = 0
            self._recovery = Recovery()
        reason = trouble(link.pushed)
        return self._verdict(link.pushed if reason is not None else questions.status, began)

    def _note_missing_answer(self, what: str) -> None:
        """It may be busy with what it still has to print, or with another host's job; but it has to answer some time.

        Until then it prints as one that was never probed. It is asked again on later connections only: on this one the
        late answer would be taken for the answer to another question.
        """
        self._missing += 1
        self._missing_at = time.monotonic()
        if self._missing >= MISSING_TIMES:
            self.disbelieve(f"{what}, {MISSING_TIMES} times, and it has no trouble")

    def _all_answered(self, link: Link, questions: StatusRound) -> bool:
        """Ask the questions of a round one by one; False = an answer did not come within the limit."""
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
        """It did not answer. That is trouble if the device has answered before; some never answer anything."""
        if link.queued():
            return self._not_reading(link)
        if self.answers:
            self._drop()
            return _unable(Reason.SILENT, questions.status)
        self._unanswered_since = time.monotonic()
        return self._prepare_mute(link, began)

    def _prepare_mute(self, link: Link, began: float) -> Ready | Unable:
        """Once per connection: a device that cannot be asked anything gets at least what completes a torn picture."""
        if not self._prepared:
            self._prepared = True
            try:
                prepare(link, Abilities(ProofLevel.NONE), self._recovery, pulse=self._pulse, limit_s=self._timeout_s)
            except Unanswered:
                return self._not_reading(link)
            self._recovery = Recovery()
        return self._verdict(link.status(), began)

    def _ask_mute(self, link: Link, began: float, *, late_answer: bool) -> Ready | Unable:
        """A device that has not answered on this connection: it is not waited for, but a later answer is noticed."""
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
        """Not even the few bytes of a question were acknowledged: its host is dead, or it takes no data."""
        vitals = link.vitals()
        self._drop()
        if vitals is not None and vitals.dead(FIRST_ANSWER_LIMIT_S / 2):
            return Unable(Reason.CONNECTION_LOST, "host does not answer", alive=False, status=PrinterStatus())
        return _unable(Reason.BLOCKED)

    def _verdict(self, status: PrinterStatus, began: float) -> Ready | Unable:
        reason = trouble(status)
        if reason is not None:
            self._missing = 0  # that is why its answer did not come
            self._answered_at = float("-inf")
            return _unable(reason, status)
        answered = bool(self.answers) and self._unanswered_since is None
        level = ProofLevel.REALTIME if self._missing and self.abilities.level is not None else self.abilities.level
        self._level = level_in_force(level, answered=answered)
        self._known = status
        return Ready(status, max(1, round((time.monotonic() - began) * 1000)), self._level)

    def _drop(self) -> None:
        link = self._let_go()
        if link is not None:
            link.drop()

    def _let_go(self) -> Link | None:
        """Give the connection out of our hands; the process IDs that came over it are kept."""
        link, self._link = self._link, None
        self._answered_at = float("-inf")
        if link is not None:
            self._echoes += link.echoes
        return link


def _unable(reason: Reason, status: PrinterStatus | None = None) -> Unable:
    return Unable(reason, sentence(reason), alive=True, status=status or PrinterStatus())
