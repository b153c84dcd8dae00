"""The probe: what a printer can prove is found out by having it prove something, while a person stands beside it.

The law of this file:
* A level is what was seen, never what a model is known for: what `GS I` says is stored, and decides nothing.
* A proof counts only if it also stays away while nothing can be printed: that is what the open cover is for.
* What is not certain counts as not shown. A probe that breaks off has shown nothing.

It knows no terminal and no database: the caller gives a `Person`, process IDs, and says whether it may go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.confirmation import CLEAR, FENCE
from kps.core.process_ids import process_id_command
from kps.core.status import AsbUnit, sentence, trouble
from kps.core.tickets import ProofLevel
from kps.device.identity import Identity, identify
from kps.device.link import LinkLost
from kps.device.preparing import PUSH_ALL, RESET
from kps.device.probe_wire import FEED_AND_CUT, Limits, ProbeFailed, Wire, connect

LINES = 40
"""Numbered lines before the process ID: more than can be printed while an answer travels, so an early one shows."""
RULERS = (48, 42, 32)
"""Characters in a line: 80 mm paper at 12 and 14 dots a character, and 58 mm paper."""
OVERFLOW_LINES, OVERFLOW_COLUMNS = 640, 47
"""With line feeds 30 KB: more than network board and printer can buffer together (Epson UB-E02: 16 + 4 KB)."""
_PAPER_END = 0x0C
"""The bits of a fence's answer that say "no paper"."""
_PAUSE_S = 0.25
"""Pause before a question is asked again."""

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


class Person(Protocol):
    """Who stands at the printer."""

    @property
    def present(self) -> bool:
        """False = nobody is there: steps that need hands or eyes are left out, and `confirm` is not called."""

    def tell(self, text: str) -> None:
        """Show a sentence; no answer is expected."""

    def confirm(self, question: str) -> bool:
        """Ask the person to do or to look at something; True = done, or yes. There is no limit of time."""


@dataclass(frozen=True, slots=True)
class Card:
    """What the test card says above its rulers."""

    name: str
    address: str
    date: str


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

    `next_id` gives process IDs that nothing else has. `may_go_on` is asked before every write and four times a second:
    False = the printer is not ours any more, and not a byte may follow. `has_answered`: it has answered a status
    question before, so if it is silent now and nobody stands there, it is taken for busy and not for one that never
    answers. Raises ProbeFailed; what the caller's functions raise goes through. However it ends, the paper is cut and
    the connection closed.
    """
    limits = limits or Limits()
    wire = connect(address, may_go_on, limits)
    try:
        return _Probe(
            wire, person, card, next_id, limits, fresh=address.fresh, has_answered=has_answered, overflow=overflow
        ).run()
    except LinkLost as lost:
        raise ProbeFailed(f"the connection broke: {lost}") from lost
    finally:
        # Also after Ctrl+C: paper that is not cut off would become the head of the next ticket.
        wire.leave()


class _Probe:
    """The steps, in order; each notes what the printer has shown."""

    def __init__(
        self,
        wire: Wire,
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
        """It answers status questions."""
        self._real = False
        """Its answers change with its state; without a person that is assumed."""
        self._pushes = False
        self._fence = False
        """It has proven by a fence, and in no way that may not be believed."""
        self._process_id = False
        """The same by a process ID."""
        self._clears = False
        self._loses_data = False
        self._falls_silent = False
        """It answers nothing while it cannot print."""

    def run(self) -> Findings:
        """All steps. Raises LinkLost and ProbeFailed."""
        self._answers = self._get_ready()
        self._print_card()
        identity = identify(self._wire, self._limits.answer_s) if self._answers else Identity()
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
        """Whether a trouble between two questions leaves no trace, so that a fence may follow a lost line."""
        return self._falls_silent and not self._pushes

    @property
    def _level(self) -> ProofLevel:
        """The best that was proven. A printer that loses data proves nothing about a whole ticket."""
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
        """It has answered nothing so far. Does it answer once it can print? Raises ProbeFailed if it cannot print."""
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

    def _switch_on_pushes(self) -> None:
        self._wire.begin()
        self._wire.say(RESET + PUSH_ALL)
        self._pushes = self._wire.until(
            lambda: any(isinstance(reply, AsbUnit) for reply in self._wire.heard), self._limits.answer_s
        )

    # -- proofs ----------------------------------------------------------------------------------------------------

    def _prove_status_and_fence(self) -> None:
        """Cover open: the answers must say so, and no fence may come. Closed: the slip comes out, then the fence."""
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
        self._wire.status()  # some network boards repeat an answer when the next bytes reach them
        self._wire.listen(self._limits.quiet_s)
        (first, *more) = self._wire.byte_answers
        if more or first & _PAPER_END:
            self._remark("It answers a fence more than once, or with an alarm.")
        elif self._person.confirm(FENCE_CAME_OUT):
            self._fence = True

    def _tells_trouble(self) -> bool:
        """Whether its answers show the open cover, or it answers nothing."""
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
        """Forty lines and an ID, which must come back unchanged; then one line and another ID, in this order."""
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
        """Cover open, a slip with a proof behind it, then the command to clear: neither paper nor proof may come.

        This tests the process ID as well: with its cover open nothing is printed, so nothing may be proven.
        """
        wire = self._wire
        of_cleared = self._next_id()
        self._hands(OPEN_THE_COVER)
        self._tells_trouble()
        wire.begin()
        # Short, so that the receive buffer (TM-T88III: 45 bytes at least) has room for the command to clear.
        wire.say(_text("CLEAR") + FEED_AND_CUT + self._proof_command(of_cleared))
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
        """The command that asks for the best proof shown so far."""
        if self._process_id:
            return process_id_command(process_id)
        return FENCE if self._fence else b""

    @property
    def _proof_came(self) -> bool:
        """Whether the best proof shown so far was heard in this step."""
        return bool(self._wire.echoes if self._process_id else self._wire.byte_answers if self._fence else ())

    def _lower(self) -> None:
        """The best proof shown so far is not to be believed."""
        if self._process_id:
            self._process_id = False
        else:
            self._fence = False

    def _outlast(self) -> None:
        """It has not said that it cleared: so the slip comes out now with its proof, unless it cleared in silence."""
        if not (self._process_id or self._fence):
            return
        if self._wire.until(lambda: self._proof_came, self._limits.proof_s(1)):
            return
        if not (self._person.confirm(NOTHING_CAME_OUT) and self._still_proves()):
            self._lower()

    def _still_proves(self) -> bool:
        """Whether it still proves after a clear: the modes are set again, and another proof is asked for."""
        wire = self._wire
        wire.begin()
        fresh = self._next_id()
        wire.say(RESET + (PUSH_ALL if self._pushes else b"") + self._proof_command(fresh))
        if not (self._process_id or self._fence):
            return True
        came = wire.until(lambda: self._proof_came, self._limits.proof_s(1))
        return came and (not self._process_id or wire.echoes == [fresh])

    def _compare_much(self) -> None:
        """Send more than all buffers hold, at once: a printer that drops data would prove tickets that it never got."""
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
        """Have the person do what the next step needs. Raises ProbeFailed if they do not."""
        if not self._person.confirm(request):
            raise ProbeFailed("a step was declined")

    def _remark(self, text: str) -> None:
        if text not in self._remarks:
            self._remarks.append(text)
            self._person.tell(text)

    def _tell_result(self) -> None:
        """Print the result. `Wire.leave` cuts it off."""
        abilities = [word for word, shown in (("pushes", self._pushes), ("clears", self._clears)) if shown]
        self._wire.say(_text(self._card.name, self._card.date, f"LEVEL {self._level.value}", *abilities))


def _text(*lines: str) -> bytes:
    """Lines in plain ASCII, because it is not known which other letters this printer has."""
    clean = ("".join(char if " " <= char <= "~" else "?" for char in line) for line in lines)
    return b"".join(line.encode("ascii") + b"\n" for line in clean)


def _ruler(columns: int) -> str:
    """1234567890123... so many characters; on narrower paper it takes two lines."""
    return "".join(str(n % 10) for n in range(1, columns + 1))
