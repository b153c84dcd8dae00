"""When a ticket is printed: what is known of one try to print it, as tables, and what follows from that.

Nothing here touches a printer; kps.core.confirmation turns bytes and replies into these events, kps.device.attempt
carries the steps out.

The law:

1. No byte accepted by our kernel: NotPrinted, whatever went wrong. One byte or more and no proof: Uncertain.
2. Printed needs the ticket written whole, and the proof of its level.
3. A status says how the printer is, never what became of our data: it can only speak against the ticket.
4. A proof that came when it could not be true is worth nothing, and neither is any later one of that printer.

| level | behind the ticket | proof |
|---|---|---|
| `process_id` | a number that no other try to print has | the printer says that very number, whenever it does |
| `fence` | a question that is answered in its turn | one answer, and no trouble since the first byte |
| `realtime` | the real-time status questions | none: all bytes acknowledged, and no trouble in the answers |
| `none` | nothing | none: all bytes acknowledged |

Six things are the case at a time, and each has a table of its own. An event that a table does not name changes nothing
there. What comes next follows from all six: the first line of STEPS that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, StrEnum, auto
from typing import Final, NamedTuple

from kps.core.tickets import ProofLevel
from kps.core.transitions import after


class Data(StrEnum):
    """How far the bytes are."""

    WRITING = auto()
    TAKEN = auto()
    """Our kernel took all of them."""
    ACKNOWLEDGED = auto()
    """The printer's side acknowledged all of them."""


class Proof(StrEnum):
    """Whether the answer came that proves the ticket. At a level without a proof none is ever heard."""

    AWAITED = auto()
    ASKED_AGAIN = auto()
    """A second process ID was sent; its echo proves the ticket as well."""
    CAME = auto()


class Trouble(StrEnum):
    """Whether the printer has told since the first byte that it cannot print."""

    NONE = auto()
    PRESENT = auto()
    PASSED = auto()
    """It can print again; but it may have thrown away what was inside."""


class Round(StrEnum):
    """The status questions since the last byte; each round asks all of them."""

    NONE = auto()
    OPEN = auto()
    COMPLETE = auto()


class Clearing(StrEnum):
    """Whether the printer was told to throw the ticket away."""

    NOT_ASKED = auto()
    ASKED = auto()
    CLEARED = auto()
    """It says that it has."""


class Hope(StrEnum):
    """Whether a proof can still come."""

    LEFT = auto()
    SWITCHED_ON = auto()
    """It was switched on anew: what it had not printed by then is gone."""
    WORTHLESS = auto()
    """The fence was answered, and that proves nothing."""
    FALSE = auto()
    """The fence was answered when it could not be: the printer's proofs are not to be believed any more."""
    OVERDUE = auto()
    """The proof has not come in its time, although the printer can print."""


class Event(StrEnum):
    """What happens to a ticket."""

    ALL_TAKEN = auto()
    """Our kernel took the last byte."""
    ACKNOWLEDGED = auto()
    """The printer's side acknowledged the last byte."""
    ASKED_AGAIN = auto()
    """A second process ID was sent."""
    PROOF = auto()
    """The proof of its level came."""
    TROUBLE = auto()
    """A status says that the printer cannot print."""
    NO_TROUBLE = auto()
    """A status says that it can."""
    ROUND_BEGUN = auto()
    ROUND_COMPLETE = auto()
    """The last of its questions was answered."""
    CLEAR_SENT = auto()
    """The printer was told to throw the ticket away."""
    CLEARED = auto()
    """It says that it has."""
    SWITCHED_ON = auto()
    """It says that it was switched on."""
    WORTHLESS_ANSWER = auto()
    """An answer to the fence that proves nothing."""
    FALSE_ANSWER = auto()
    """An answer to the fence that cannot be true."""
    OVERDUE = auto()
    """The proof has not come in its time, although the printer can print."""


class Step(Enum):
    """What comes next for a ticket."""

    WRITE = auto()
    """Give our kernel more of it."""
    DELIVER = auto()
    """Wait until the printer's side has acknowledged all of it."""
    ASK = auto()
    """Ask how the printer is: the answers decide."""
    CONFIRM = auto()
    """Wait for the proof."""
    HOLD = auto()
    """Wait until the printer's trouble has passed."""
    CLEAR = auto()
    """Wait until the printer says that it has thrown the ticket away."""
    HOPELESS = auto()
    """Give it up: no proof can come any more."""
    DONE = auto()
    """It is printed, as far as this level can tell."""


class State(NamedTuple):
    """What is the case with a ticket."""

    level: ProofLevel
    """Never changes."""
    data: Data = Data.WRITING
    proof: Proof = Proof.AWAITED
    trouble: Trouble = Trouble.NONE
    round: Round = Round.NONE
    clearing: Clearing = Clearing.NOT_ASKED
    hope: Hope = Hope.LEFT


def start(level: ProofLevel) -> State:
    """Before the first byte. At `realtime` the questions are part of the ticket, so a round is open from the start."""
    return State(level, round=Round.OPEN if level is ProofLevel.REALTIME else Round.NONE)


DATA: Final[Mapping[tuple[Data, Event], Data]] = {
    (Data.WRITING, Event.ALL_TAKEN): Data.TAKEN,
    (Data.TAKEN, Event.ACKNOWLEDGED): Data.ACKNOWLEDGED,
}

PROOF: Final[Mapping[tuple[Proof, Event], Proof]] = {
    (Proof.AWAITED, Event.ASKED_AGAIN): Proof.ASKED_AGAIN,
    (Proof.AWAITED, Event.PROOF): Proof.CAME,
    (Proof.ASKED_AGAIN, Event.PROOF): Proof.CAME,
}

TROUBLE: Final[Mapping[tuple[Trouble, Event], Trouble]] = {
    (Trouble.NONE, Event.TROUBLE): Trouble.PRESENT,
    (Trouble.PRESENT, Event.NO_TROUBLE): Trouble.PASSED,
    (Trouble.PASSED, Event.TROUBLE): Trouble.PRESENT,
}

ROUND: Final[Mapping[tuple[Round, Event], Round]] = {
    (Round.NONE, Event.ROUND_BEGUN): Round.OPEN,
    (Round.OPEN, Event.ROUND_COMPLETE): Round.COMPLETE,
    (Round.COMPLETE, Event.ROUND_BEGUN): Round.OPEN,
}

CLEARING: Final[Mapping[tuple[Clearing, Event], Clearing]] = {
    (Clearing.NOT_ASKED, Event.CLEAR_SENT): Clearing.ASKED,
    (Clearing.ASKED, Event.CLEARED): Clearing.CLEARED,
}
"""A printer that says it without having been asked has cleared somebody else's data."""

HOPE: Final[Mapping[tuple[Hope, Event], Hope]] = {
    (Hope.LEFT, Event.SWITCHED_ON): Hope.SWITCHED_ON,
    (Hope.LEFT, Event.WORTHLESS_ANSWER): Hope.WORTHLESS,
    (Hope.LEFT, Event.FALSE_ANSWER): Hope.FALSE,
    (Hope.LEFT, Event.OVERDUE): Hope.OVERDUE,
    (Hope.SWITCHED_ON, Event.WORTHLESS_ANSWER): Hope.WORTHLESS,
    (Hope.SWITCHED_ON, Event.FALSE_ANSWER): Hope.FALSE,
    (Hope.WORTHLESS, Event.FALSE_ANSWER): Hope.FALSE,
}
"""No event leads back to hope. What speaks against the printer's proofs outweighs what speaks against this one only."""

STEPS: Final[tuple[tuple[Step, Callable[[State], bool]], ...]] = (
    (Step.HOPELESS, lambda now: now.hope is not Hope.LEFT),
    (Step.WRITE, lambda now: now.data is Data.WRITING),
    # Its own number says that it is on paper, whatever was asked of the printer since.
    (Step.DONE, lambda now: now.proof is Proof.CAME and now.level is ProofLevel.PROCESS_ID),
    (Step.HOPELESS, lambda now: now.clearing is Clearing.CLEARED),
    (Step.CLEAR, lambda now: now.clearing is Clearing.ASKED),
    # Right behind the last byte: an answer means that all before it has arrived, so nobody waits for an acknowledgement
    # that the printer's network stack may delay.
    (Step.ASK, lambda now: now.level is ProofLevel.REALTIME and now.round is Round.OPEN),
    (Step.CONFIRM, lambda now: _proof_is_due(now) and now.trouble is not Trouble.PRESENT),
    (Step.HOLD, lambda now: _proof_is_due(now)),
    (Step.DELIVER, lambda now: now.data is Data.TAKEN),
    # A trouble that comes behind the proof says nothing about this ticket.
    (Step.HOLD, lambda now: now.trouble is Trouble.PRESENT and now.proof is not Proof.CAME),
    (Step.DONE, lambda _: True),
)
"""The step and when it comes; the first that holds."""


def _proof_is_due(now: State) -> bool:
    return now.level.proves_paper and now.proof is not Proof.CAME


def advance(state: State, event: Event) -> State:
    """What is the case after an event."""
    return State(
        state.level,
        after(DATA, state.data, event),
        after(PROOF, state.proof, event),
        after(TROUBLE, state.trouble, event),
        after(ROUND, state.round, event),
        after(CLEARING, state.clearing, event),
        after(HOPE, state.hope, event),
    )


def step(state: State) -> Step:
    """What comes next."""
    return next(step for step, holds in STEPS if holds(state))
