"""The probe: what a printer can prove is found out by having it do so, while a person stands beside it.

The law of this file:
* A level is what was seen, never what a name promises: `GS I` fills in a form and decides nothing.
* A proof counts only if it also stays away when there is no paper to prove: that is what the open cover is for.
* Whatever is not surely so counts as not so. A probe that breaks off has found out nothing.

No terminal, no SQL: a `Person` answers, a function gives process IDs, another says whether we may go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.confirmation import CLEAR, FENCE
from kps.core.patience import confirm_limit_s
from kps.core.process_ids import process_id_command
from kps.core.status import (
    AsbUnit,
    ByteAnswer,
    Cleared,
    PrinterStatus,
    ProcessIdEcho,
    Reply,
    TextBlock,
    after_asb,
    sentence,
    trouble,
)
from kps.core.status_round import StatusRound, realtime_query
from kps.core.tickets import ProofLevel, Reason
from kps.device.link import Link, LinkLost, Talkative
from kps.device.opening import open_link
from kps.device.preparing import PUSH_ALL, RESET
from kps.device.transport import Unreachable

FEED_AND_CUT = b"\x1bd\x03\x1dV\x42\x00"
LINES = 40
"""Numbered lines before the process ID: more than a mechanism can print while an answer travels."""
RULERS = (48, 42, 32)
"""Columns of 80 mm paper at 12 and 14 dots a character, and of 58 mm paper."""
OVERFLOW_LINES, OVERFLOW_COLUMNS = 640, 47
"""With their line feeds 30 KB: more than the buffers of network board and printer together (UB-E02: 16 + 4 KB)."""
_MODEL, _FIRMWARE, _MAKER, _NAME, _SERIAL = 1, 65, 66, 67, 68
"""The n of `GS I n`. Source: TM-U220 and HPRT TP80K manuals."""
_TEXT_HEAD = 0x5F
_PAPER_END = 0x0C
_PAUSE_S = 0.25
_HEARD_MOST = 10_000
"""Replies of one step; a printer has some ten to give."""

CARD_IS_HERE = "A card with the printer's name at its head comes out. Is it the printer before you?"
IS_IT_WELL = "It answers no question. Is it switched on, with paper in it, its cover closed, and no light blinking?"
OPEN_THE_COVER = "Open the cover of the printer, and leave it open. Is it open?"
CLOSE_THE_COVER = "Close the cover. Is it closed?"
FENCE_CAME_OUT = "A slip with the word FENCE: has it come out, after you closed the cover?"
LINES_CAME_OUT = "A slip with the lines 01 to 40, and another with line 41: have both come out, with every line?"
NOTHING_STRANGE = "Is there nothing else on them, such as )(H00 or other stray characters?"
NOTHING_CAME_OUT = "Has nothing been printed since you opened the cover this time?"
ALL_LINES_CAME_OUT = (
    f"Wait until it stands still. Is {OVERFLOW_LINES:04} the last number, and is none missing before it?"
)


class ProbeFailed(Exception):
    """The probe could not be carried out, so nothing is known that was not known before. The message says why."""


class Person(Protocol):
    """Who stands at the printer."""

    @property
    def present(self) -> bool:
        """False = nobody is there: what needs hands or eyes is left out, and `confirm` is not called."""

    def tell(self, text: str) -> None:
        """Say what goes on; no answer is expected."""

    def confirm(self, question: str) -> bool:
        """Ask for something to be done or looked at; True = done, or so it is. Takes as long as it takes."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the test card says besides its rulers."""

    name: str
    address: str
    date: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds."""

    connect_s: float = 10.0
    """For a connection that answers: whoever had the printer before may not quite have let go."""
    answer_s: float = 1.0
    """For an answer to a question that is not answered by paper."""
    quiet_s: float = 1.5
    """Nothing came for so long: nothing comes."""
    change_s: float = 5.0
    """Until a sensor's news is in the answers, once a person has used their hands."""
    clear_s: float = 3.0
    stalled_s: float = 15.0
    """Without a byte taken by a printer that should read."""
    proof_s: Callable[[int], float] = confirm_limit_s
    """For the proof of so many lines."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the printer has shown."""

    abilities: Abilities
    answers: bool
    """Whether it answered a status question at all."""
    maker: str
    model: str
    serial: str
    remarks: tuple[str, ...]
    """What a person should know besides, one sentence each."""


def probe(
    address: DeviceAddress,
    person: Person,
    *,
    card: Card,
    next_id: Callable[[], bytes],
    may_go_on: Callable[[], bool],
    has_answered: bool = False,
    overflow: bool = False,
    limits: Limits | None = None,
) -> Findings:
    """Find out what the printer at this address can prove. Nobody else may be connected to it.

    `next_id` gives process IDs that no other sending has; `may_go_on` is asked before every write and four times a
    second: False = the printer is not ours any more, and not a byte may follow; `has_answered`: it has answered a
    status question some day, so one that is silent now and that nobody looks at is busy rather than mute. Raises
    ProbeFailed; what the caller's functions raise goes through. However it ends, the paper is cut and the connection
    closed.
    """
    limits = limits or Limits()
    wire = _connect(address, may_go_on, limits)
    try:
        return _Probe(
            wire, person, card, next_id, limits, fresh=address.fresh, has_answered=has_answered, overflow=overflow
        ).run()
    except LinkLost as lost:
        raise ProbeFailed(f"the connection broke: {lost}") from lost
    finally:
        # Also when somebody pressed Ctrl+C: a slip that hangs in the printer would become the head of a ticket.
        wire.leave()


class _Wire:
    """The connection, and all that was heard on it since the current step began."""

    def __init__(self, link: Link, may_go_on: Callable[[], bool], limits: Limits) -> None:
        self._link = link
        self._may_go_on = may_go_on
        self._limits = limits
        self.heard: list[Reply] = []

    def begin(self) -> None:
        """Forget what was heard: a step begins."""
        self.listen(0.0)
        self.heard.clear()

    def say(self, data: bytes) -> None:
        """Write all of it. Raises LinkLost, and ProbeFailed if the printer stops reading."""
        rest = memoryview(data)
        until = time.monotonic() + self._limits.stalled_s
        while rest:
            self._check()
            count = self._link.write(rest)
            rest = rest[count:]
            if count:
                until = time.monotonic() + self._limits.stalled_s
            elif time.monotonic() >= until:
                raise ProbeFailed("the printer takes no data")
            else:
                self._link.wait(self._limits.stalled_s, writable=True)
            self._hear()

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Listen until the condition holds; False = it did not within the limit."""
        end = time.monotonic() + limit_s
        while True:
            self._check()
            self._hear()
            if condition():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._link.wait(left)

    def listen(self, seconds: float) -> None:
        """Hear whatever comes for so long."""
        self.until(lambda: False, seconds)

    def status(self) -> PrinterStatus | None:
        """One round of `DLE EOT` 1 to 4; None = a question stayed without an answer."""
        self.listen(0.0)  # an answer that comes late is not one to these questions
        questions = StatusRound()
        while (question := questions.question) is not None:
            known, answers = len(self.heard), questions.answers
            self.say(realtime_query(question))
            questions.asked()

            def answered(known: int = known, answers: int = answers) -> bool:
                if questions.answers == answers:
                    for reply in self.heard[known:]:
                        questions.hear(reply)
                return questions.answers > answers

            if not self.until(answered, self._limits.answer_s):
                return None
        return questions.status

    @property
    def unread(self) -> bool:
        """Whether something that we wrote has not even arrived."""
        return self._link.queued() > 0

    @property
    def echoes(self) -> list[bytes]:
        """The process IDs of this step, in order, each once."""
        return list(dict.fromkeys(reply.process_id for reply in self.heard if isinstance(reply, ProcessIdEcho)))

    @property
    def byte_answers(self) -> list[int]:
        """The one-byte answers of this step."""
        return [reply.value for reply in self.heard if isinstance(reply, ByteAnswer)]

    @property
    def cleared(self) -> bool:
        """Whether the printer said in this step that it threw its buffers away."""
        return any(isinstance(reply, Cleared) for reply in self.heard)

    @property
    def pushed_trouble(self) -> bool:
        """Whether a status that says why it cannot print was pushed in this step."""
        pushed = (after_asb(PrinterStatus(), reply) for reply in self.heard if isinstance(reply, AsbUnit))
        return any(trouble(status) is not None for status in pushed)

    def leave(self) -> None:
        """Cut what hangs in the printer and close; if it is not ours any more, only take back what can be."""
        if not self._may_go_on():
            self._link.abort()
            return
        try:
            # What its window does not take now, it does not get.
            self._link.write(RESET + FEED_AND_CUT)
        except LinkLost:
            self._link.drop()
            return
        self._link.close(lambda: None)

    def _hear(self) -> None:
        self.heard += self._link.read()
        if len(self.heard) > _HEARD_MOST:
            raise Talkative

    def _check(self) -> None:
        if not self._may_go_on():
            raise ProbeFailed("the printer is not borrowed any more: the database could not be told in time")


def _connect(address: DeviceAddress, may_go_on: Callable[[], bool], limits: Limits) -> _Wire:
    """A connection on which something is answered, or at least taken."""
    until = time.monotonic() + limits.connect_s
    while True:
        try:
            return _that_takes_data(address, may_go_on, limits)
        except Talkative as error:
            raise ProbeFailed(f"the device {error}") from error
        except (Unreachable, LinkLost) as error:
            if time.monotonic() >= until or error.reason is Reason.UNRESOLVABLE:
                raise ProbeFailed(f"the printer cannot be reached: {error}") from error
        # It has refused us, or hung up: nothing tells when that is over.
        time.sleep(_PAUSE_S)


def _that_takes_data(address: DeviceAddress, may_go_on: Callable[[], bool], limits: Limits) -> _Wire:
    link = open_link(address, limit_s=limits.connect_s, pulse=lambda: None)
    try:
        wire = _Wire(link, may_go_on, limits)
        if not address.fresh:
            wire.listen(limits.quiet_s)  # what is said now is for whoever was here before us
        answer = wire.status()
        if answer is None and wire.unread:
            raise LinkLost("it takes the connection and no data, perhaps because somebody else is connected")
    except BaseException:
        link.drop()
        raise
    return wire


class _Probe:
    """The steps, in order; each notes what it has shown."""

    def __init__(
        self,
        wire: _Wire,
        person: Person,
        card: Card,
        next_id: Callable[[], bytes],
        limits: Limits,
        *,
        fresh: bool,
        has_answered: bool,
        overflow: bool,
    ) -> None:
        self._wire = wire
        self._person = person
        self._card = card
        self._next_id = next_id
        self._limits = limits
        self._fresh = fresh
        self._has_answered = has_answered
        self._overflow = overflow
        self._remarks: list[str] = []
        self._answers = False
        self._real = False
        self._pushes = False
        self._fence = False
        self._process_id = False
        self._clears = False
        self._loses_data = False
        self._falls_silent = False

    def run(self) -> Findings:
        """All steps. Raises LinkLost and ProbeFailed."""
        self._answers = self._get_ready()
        self._print_card()
        identity = self._identify() if self._answers else _Identity()
        if self._person.present:
            if self._answers:
                self._switch_on_pushes()
            self._prove()
        else:
            self._real = self._answers
        self._tell_result()
        abilities = Abilities(self._level, self._pushes, self._clears, identity.firmware)
        return Findings(abilities, self._answers, identity.maker, identity.name, identity.serial, tuple(self._remarks))

    def _prove(self) -> None:
        if self._answers:
            self._prove_status_and_fence()
        if self._real:
            self._prove_process_id()
            if self._fresh:
                self._prove_clear()
        if self._fence and not self._fresh:
            self._fence = False
            if not self._process_id:
                self._remark("Its fence is not used: on this line an answer may belong to an earlier question.")
        if self._overflow:
            self._compare_much()
        if self._fence and not self._process_id and self._goes_unseen:
            self._fence = False
            self._remark("Its fence is not believed: a cover opened and closed in mid-ticket would go unseen.")

    @property
    def _goes_unseen(self) -> bool:
        """Whether trouble between two questions leaves no trace: a fence may then be answered behind a lost line."""
        return self._falls_silent and not self._pushes

    @property
    def _level(self) -> ProofLevel:
        """The best that was proven; what loses data proves nothing about a whole ticket."""
        if not self._real:
            return ProofLevel.NONE
        if self._loses_data or not (self._process_id or self._fence):
            return ProofLevel.REALTIME
        return ProofLevel.PROCESS_ID if self._process_id else ProofLevel.FENCE

    # -- before the first proof ------------------------------------------------------------------------------------

    def _get_ready(self) -> bool:
        """Until it can print; returns whether it answers status questions. Raises ProbeFailed."""
        until = time.monotonic() + self._limits.change_s
        while True:
            status = self._wire.status()
            reason = None if status is None else trouble(status)
            if status is not None and reason is None:
                return True
            if time.monotonic() < until and (reason is not None or self._answers):
                self._wire.listen(_PAUSE_S)  # a cover that has just been closed: the sensors need a moment
                continue
            if reason is None and not self._answers:
                self._answers = self._answers_after_all()
                if not self._answers:
                    self._remark("It answers no status question.")
                    return False
                continue
            what = sentence(reason) if reason is not None else "it has fallen silent"
            if not self._ask(f"The printer cannot print: {what}. Have you mended that?"):
                raise ProbeFailed(f"the printer cannot print: {what}")
            until = time.monotonic() + self._limits.change_s

    def _answers_after_all(self) -> bool:
        """It has never answered: because it is of that kind, or because it falls silent when it cannot print?"""
        if not self._person.present and self._has_answered:
            raise ProbeFailed("the printer answers nothing now, and it has before")
        if self._person.present and not self._person.confirm(IS_IT_WELL):
            raise ProbeFailed("the printer answers nothing, and is not well")
        return self._wire.status() is not None

    def _print_card(self) -> None:
        card = self._card
        lines = [card.name, card.address, card.date, ""]
        for columns in RULERS:
            lines += [f"{columns} columns, on one line:", _ruler(columns)]
        self._wire.say(_text(*lines) + FEED_AND_CUT)
        if self._person.present and not self._person.confirm(CARD_IS_HERE):
            raise ProbeFailed("no card was seen at the printer")

    def _identify(self) -> _Identity:
        """What it calls itself. Each number may be answered or not."""
        number = self._ask_identity(_MODEL)
        texts = {n: self._ask_identity(n) for n in (_FIRMWARE, _MAKER, _NAME, _SERIAL)}
        self._wire.listen(self._limits.answer_s / 4)  # an answer that came late must not be taken for another
        return _Identity(
            firmware=texts[_FIRMWARE],
            maker=texts[_MAKER],
            name=texts[_NAME] or (f"model {number}" if number else ""),
            serial=texts[_SERIAL],
        )

    def _ask_identity(self, n: int) -> str:
        """The answer to `GS I n` as text; '' = none."""
        wire = self._wire
        wire.begin()
        wire.say(b"\x1dI" + bytes((n,)))

        def found() -> str:
            if n == _MODEL:
                return "".join(f"{value:02X}" for value in wire.byte_answers[:1])
            blocks = (reply for reply in wire.heard if isinstance(reply, TextBlock) and reply.head == _TEXT_HEAD)
            return next((block.body.decode("ascii", "replace").strip() for block in blocks), "")

        wire.until(lambda: bool(found()), self._limits.answer_s)
        return found()

    def _switch_on_pushes(self) -> None:
        self._wire.begin()
        self._wire.say(RESET + PUSH_ALL)
        self._pushes = self._wire.until(
            lambda: any(isinstance(reply, AsbUnit) for reply in self._wire.heard), self._limits.answer_s
        )

    # -- proofs ----------------------------------------------------------------------------------------------------

    def _prove_status_and_fence(self) -> None:
        """Cover open: the answers must say so, and a fence must stay away; cover closed: paper, then the fence."""
        self._wire.begin()
        self._hands(OPEN_THE_COVER)
        self._real = self._tells_trouble()
        if not self._real:
            self._pushes = False
            self._remark("It says that all is well with its cover open: nothing that it says is worth anything.")
            self._hands(CLOSE_THE_COVER)
            return
        self._pushes = self._pushes and self._wire.until(lambda: self._wire.pushed_trouble, self._limits.answer_s)
        self._wire.begin()
        self._wire.say(_text("FENCE", f"of {self._card.name}") + FEED_AND_CUT + FENCE)
        self._wire.listen(self._limits.quiet_s)
        early = bool(self._wire.byte_answers)
        self._hands(CLOSE_THE_COVER)
        self._get_ready()
        if early:
            self._remark("It answers a fence with its cover open: its network board does, not the printer.")
            self._wire.listen(self._limits.quiet_s)
            return
        if not self._wire.until(lambda: bool(self._wire.byte_answers), self._limits.proof_s(2)):
            self._remark("It does not answer a fence.")
            return
        self._wire.status()  # some network boards say it again with the next bytes that reach them
        self._wire.listen(self._limits.quiet_s)
        (first, *more) = self._wire.byte_answers
        if more or first & _PAPER_END:
            self._remark("It answers a fence more than once, or with an alarm.")
        elif self._person.confirm(FENCE_CAME_OUT):
            self._fence = True

    def _tells_trouble(self) -> bool:
        """Whether its answers notice the open cover, be it by silence."""
        until = time.monotonic() + self._limits.change_s
        while True:
            status = self._wire.status()
            if status is None:
                self._falls_silent = True
                self._remark("It falls silent when it cannot print.")
                return True
            if trouble(status) is not None:
                return True
            if time.monotonic() >= until:
                return False
            self._wire.listen(_PAUSE_S)

    def _prove_process_id(self) -> None:
        """Forty lines and an ID: it must come back as it was sent; then another, in its turn."""
        wire = self._wire
        sent = [self._next_id(), self._next_id()]
        wire.begin()
        numbered = [f"{n:02} of {LINES}  {self._card.name}" for n in range(1, LINES + 1)]
        wire.say(_text(*numbered) + FEED_AND_CUT + process_id_command(sent[0]))
        if not wire.until(lambda: bool(wire.echoes), self._limits.proof_s(LINES)):
            self._remark("It does not answer a process ID.")
            return
        wire.say(_text(f"{LINES + 1}  {self._card.name}") + FEED_AND_CUT + process_id_command(sent[1]))
        wire.until(lambda: len(wire.echoes) > 1, self._limits.proof_s(1))
        wire.listen(self._limits.quiet_s)
        if wire.echoes != sent:
            self._remark("It answers process IDs that it was not given, or loses some.")
        elif self._person.confirm(LINES_CAME_OUT) and self._person.confirm(NOTHING_STRANGE):
            self._process_id = True

    def _prove_clear(self) -> None:
        """Cover open, a slip with its proof behind it, then "throw it away": no proof may come, and no paper.

        It is also the test of the process ID itself: with its cover open nothing is printed, so nothing is proven.
        """
        wire = self._wire
        doomed = self._next_id()
        self._hands(OPEN_THE_COVER)
        self._tells_trouble()
        wire.begin()
        # Short: the command must not wait behind a receive buffer that is full (TM-T88III: 45 bytes at the least).
        wire.say(_text("CLEAR") + FEED_AND_CUT + self._proof_command(doomed))
        wire.listen(self._limits.quiet_s)
        if self._proof_came:
            self._remark("It proves paper with its cover open.")
            self._lower()
        wire.say(CLEAR)
        cleared = wire.until(lambda: wire.cleared, self._limits.clear_s)
        self._hands(CLOSE_THE_COVER)
        self._get_ready()
        if not cleared:
            self._outlast()
            return
        wire.listen(self._limits.quiet_s)
        if self._proof_came:
            self._remark("It proves what it said it threw away.")
            return
        self._clears = self._person.confirm(NOTHING_CAME_OUT) and self._still_proves()

    def _proof_command(self, process_id: bytes) -> bytes:
        """The question that asks for the best proof shown so far."""
        if self._process_id:
            return process_id_command(process_id)
        return FENCE if self._fence else b""

    @property
    def _proof_came(self) -> bool:
        """Whether the best proof shown so far was heard in this step."""
        return bool(self._wire.echoes if self._process_id else self._wire.byte_answers if self._fence else ())

    def _lower(self) -> None:
        """The best proof shown so far is none."""
        if self._process_id:
            self._process_id = False
        else:
            self._fence = False

    def _outlast(self) -> None:
        """It did not say that it cleared, so the slip has come out now, and its proof must; or it did so in silence."""
        if not (self._process_id or self._fence):
            return
        if self._wire.until(lambda: self._proof_came, self._limits.proof_s(1)):
            return
        if not (self._person.confirm(NOTHING_CAME_OUT) and self._still_proves()):
            self._lower()

    def _still_proves(self) -> bool:
        """Whether all is as before behind a clear: modes set again, and a fresh proof."""
        wire = self._wire
        wire.begin()
        fresh = self._next_id()
        wire.say(RESET + (PUSH_ALL if self._pushes else b"") + self._proof_command(fresh))
        if not (self._process_id or self._fence):
            return True
        came = wire.until(lambda: self._proof_came, self._limits.proof_s(1))
        return came and (not self._process_id or wire.echoes == [fresh])

    def _compare_much(self) -> None:
        """As much as no buffer holds, as fast as it goes: a printer that drops data proves tickets it never had."""
        self._person.tell(f"{OVERFLOW_LINES} lines are printed, two metres and a half.")
        numbered = (f"{n:04} ".ljust(OVERFLOW_COLUMNS, "=") for n in range(1, OVERFLOW_LINES + 1))
        self._wire.say(_text(*numbered) + FEED_AND_CUT)
        if not self._person.confirm(ALL_LINES_CAME_OUT):
            self._loses_data = True
            self._remark("It loses data that comes faster than it prints: its proofs are not to be believed.")

    # -- the person ------------------------------------------------------------------------------------------------

    def _ask(self, question: str) -> bool:
        return self._person.present and self._person.confirm(question)

    def _hands(self, request: str) -> None:
        """Something that the next step needs done. Raises ProbeFailed if it is not."""
        if not self._person.confirm(request):
            raise ProbeFailed("a step was declined")

    def _remark(self, text: str) -> None:
        if text not in self._remarks:
            self._remarks.append(text)
            self._person.tell(text)

    def _tell_result(self) -> None:
        """The end of the card; the caller's farewell cuts it."""
        abilities = [word for word, shown in (("pushes", self._pushes), ("clears", self._clears)) if shown]
        self._wire.say(_text(self._card.name, self._card.date, f"LEVEL {self._level.value}", *abilities))


@dataclass(frozen=True, slots=True)
class _Identity:
    """What a printer calls itself, '' where it is silent."""

    firmware: str = ""
    maker: str = ""
    name: str = ""
    serial: str = ""


def _text(*lines: str) -> bytes:
    """Lines of plain ASCII: which other letters this printer has is not known."""
    clean = ("".join(char if " " <= char <= "~" else "?" for char in line) for line in lines)
    return b"".join(line.encode("ascii") + b"\n" for line in clean)


def _ruler(columns: int) -> str:
    """1234567890123... exactly that wide; a paper that is narrower breaks it."""
    return "".join(str(n % 10) for n in range(1, columns + 1))
