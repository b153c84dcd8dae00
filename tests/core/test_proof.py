"""The tables of a ticket's proof: all that can be is reached, all that is reached ends, and every line is needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core import proof
from kps.core.proof import Clearing, Data, Event, Hope, Proof, Round, State, Step, Trouble, advance, start, step
from kps.core.tickets import ProofLevel

PAPER = (ProofLevel.PROCESS_ID, ProofLevel.FENCE)
TABLES = {"DATA": Data, "PROOF": Proof, "TROUBLE": Trouble, "ROUND": Round, "CLEARING": Clearing, "HOPE": Hope}
CAN_HAPPEN: dict[Event, Callable[[State], bool]] = {
    Event.ALL_TAKEN: lambda now: step(now) is Step.WRITE,
    Event.ACKNOWLEDGED: lambda now: now.data is Data.TAKEN,
    Event.ASKED_AGAIN: lambda now: (
        step(now) is Step.CONFIRM
        and (now.level, now.proof, now.trouble) == (ProofLevel.PROCESS_ID, Proof.AWAITED, Trouble.NONE)
    ),
    Event.PROOF: lambda now: (
        now.data is not Data.WRITING
        and now.level in PAPER
        and (now.level is ProofLevel.PROCESS_ID or (now.proof, now.trouble) == (Proof.AWAITED, Trouble.NONE))
    ),
    Event.TROUBLE: lambda _: True,
    Event.NO_TROUBLE: lambda now: now.round is not Round.OPEN,
    Event.ROUND_BEGUN: lambda now: (
        now.level is not ProofLevel.NONE and now.data is not Data.WRITING and now.round is not Round.OPEN
    ),
    Event.ROUND_COMPLETE: lambda now: now.data is not Data.WRITING and now.round is Round.OPEN,
    Event.CLEAR_SENT: lambda now: (
        now.data is Data.ACKNOWLEDGED and step(now) not in (Step.DONE, Step.HOPELESS, Step.CLEAR)
    ),
    Event.CLEARED: lambda _: True,
    Event.SWITCHED_ON: lambda _: True,
    Event.WORTHLESS_ANSWER: lambda now: (
        now.level is ProofLevel.FENCE and now.data is not Data.WRITING and now.proof is Proof.AWAITED
    ),
    Event.FALSE_ANSWER: lambda now: (
        now.level is ProofLevel.FENCE
        and (now.data is Data.WRITING or now.proof is Proof.CAME or now.trouble is Trouble.PRESENT)
    ),
    Event.OVERDUE: lambda now: step(now) is Step.CONFIRM,
}
"""When kps.core.confirmation can bring an event at all. Replies come in batches, so some come after the end as well."""


def can_happen(now: State) -> list[Event]:
    return [] if now.hope is Hope.OVERDUE else [event for event in Event if CAN_HAPPEN[event](now)]


def reached() -> set[State]:
    found = {start(level) for level in ProofLevel}
    left = deque(found)
    while left:
        now = left.popleft()
        for event in can_happen(now):
            if (then := advance(now, event)) not in found:
                found.add(then)
                left.append(then)
    return found


REACHED = reached()


def test_every_event_and_every_part_of_a_state_is_reached() -> None:
    assert set(CAN_HAPPEN) == set(Event)
    for place, kind in enumerate(TABLES.values(), start=1):
        assert {now[place] for now in REACHED} == set(kind)
    assert {event for now in REACHED for event in can_happen(now)} == set(Event)


def test_every_step_is_reached_at_the_levels_that_have_it() -> None:
    steps = {level: {step(now) for now in REACHED if now.level is level} for level in ProofLevel}

    everywhere = {Step.WRITE, Step.HOLD, Step.CLEAR, Step.HOPELESS, Step.DONE}
    assert steps == {
        ProofLevel.PROCESS_ID: everywhere | {Step.CONFIRM},
        ProofLevel.FENCE: everywhere | {Step.CONFIRM, Step.DELIVER},
        ProofLevel.REALTIME: everywhere | {Step.ASK, Step.DELIVER},
        ProofLevel.NONE: everywhere | {Step.DELIVER},
    }


def test_every_line_of_the_tables_is_used() -> None:
    used = {(part, event) for now in REACHED for event in can_happen(now) for part in now[1:]}
    for name in TABLES:
        assert set(getattr(proof, name)) <= used, name


def test_every_state_can_end_without_the_printer_being_switched_off_and_on() -> None:
    ended = {now for now in REACHED if step(now) in (Step.DONE, Step.HOPELESS)}
    left = REACHED - ended
    while left:
        more = {
            now
            for now in left
            if any(advance(now, event) in ended for event in can_happen(now) if event is not Event.SWITCHED_ON)
        }
        assert more, sorted(left)[0]
        ended |= more
        left -= more


def test_what_is_hopeless_stays_hopeless_and_what_came_is_not_forgotten() -> None:
    for now in REACHED:
        for event in can_happen(now):
            then = advance(now, event)
            assert then.level is now.level
            assert then.hope is not Hope.LEFT or now.hope is Hope.LEFT
            assert then.proof is Proof.CAME or now.proof is not Proof.CAME
            assert then.trouble is not Trouble.NONE or now.trouble is Trouble.NONE
            assert now.hope is not Hope.FALSE or then.hope is Hope.FALSE


@pytest.mark.parametrize("level", ProofLevel)
def test_no_step_stands_in_a_state_that_forbids_it(level: ProofLevel) -> None:
    for now in (one for one in REACHED if one.level is level):
        match step(now):
            case Step.WRITE:
                assert (now.data, now.proof, now.clearing) == (Data.WRITING, Proof.AWAITED, Clearing.NOT_ASKED)
            case Step.DELIVER:
                assert now.data is Data.TAKEN
                assert level is not ProofLevel.PROCESS_ID
                assert now.proof is Proof.CAME or level is not ProofLevel.FENCE
            case Step.ASK:
                assert now.round is Round.OPEN
            case Step.CONFIRM:
                assert now.proof is not Proof.CAME
                assert now.trouble is not Trouble.PRESENT
            case Step.HOLD:
                assert now.trouble is Trouble.PRESENT
                assert now.proof is not Proof.CAME
            case Step.CLEAR:
                assert now.clearing is Clearing.ASKED
            case Step.HOPELESS:
                assert now.hope is not Hope.LEFT or now.clearing is Clearing.CLEARED
            case Step.DONE:
                assert now.hope is Hope.LEFT
                assert now.data is Data.ACKNOWLEDGED or level is ProofLevel.PROCESS_ID
                assert now.proof is Proof.CAME or level not in PAPER
                assert now.trouble is not Trouble.PRESENT or level in PAPER
                assert now.round is Round.COMPLETE or level is not ProofLevel.REALTIME
                assert now.clearing is Clearing.NOT_ASKED or level is ProofLevel.PROCESS_ID
        if step(now) not in (Step.WRITE, Step.HOPELESS):
            assert now.data is not Data.WRITING


@given(st.sampled_from(ProofLevel), st.data())
def test_whatever_happens_printed_is_proven(level: ProofLevel, data: st.DataObject) -> None:
    now, seen = start(level), []
    for _ in range(25):
        if not (events := can_happen(now)):
            break
        seen.append(data.draw(st.sampled_from(events)))
        now = advance(now, seen[-1])
        if step(now) is Step.DONE:
            assert Event.ALL_TAKEN in seen
            assert Event.SWITCHED_ON not in seen
            assert Event.PROOF in seen or level not in PAPER
            assert Event.ACKNOWLEDGED in seen or level is ProofLevel.PROCESS_ID


# Each line of the tables is needed: without it, or with another state in it, one of these stories goes otherwise.

WRITTEN = (Event.ALL_TAKEN, Step.CONFIRM)
STORIES: dict[str, tuple[ProofLevel, list[tuple[Event, Step]], dict[str, Any]]] = {
    "its own number comes back": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.PROOF, Step.DONE)],
        {"data": Data.TAKEN, "proof": Proof.CAME},
    ),
    "its number stays away, and the second one comes": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.ACKNOWLEDGED, Step.CONFIRM), (Event.ASKED_AGAIN, Step.CONFIRM), (Event.PROOF, Step.DONE)],
        {"data": Data.ACKNOWLEDGED, "proof": Proof.CAME},
    ),
    "both numbers stay away": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.ASKED_AGAIN, Step.CONFIRM), (Event.OVERDUE, Step.HOPELESS)],
        {"data": Data.TAKEN, "proof": Proof.ASKED_AGAIN, "hope": Hope.OVERDUE},
    ),
    "paper runs out, is loaded, runs out again, and then the number comes": (
        ProofLevel.PROCESS_ID,
        [
            WRITTEN,
            (Event.TROUBLE, Step.HOLD),
            (Event.NO_TROUBLE, Step.CONFIRM),
            (Event.TROUBLE, Step.HOLD),
            (Event.PROOF, Step.DONE),
        ],
        {"data": Data.TAKEN, "proof": Proof.CAME, "trouble": Trouble.PRESENT},
    ),
    "paper runs out and is loaded": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.TROUBLE, Step.HOLD), (Event.NO_TROUBLE, Step.CONFIRM)],
        {"data": Data.TAKEN, "trouble": Trouble.PASSED},
    ),
    "it is thrown away": (
        ProofLevel.PROCESS_ID,
        [
            WRITTEN,
            (Event.TROUBLE, Step.HOLD),
            (Event.ACKNOWLEDGED, Step.HOLD),
            (Event.CLEAR_SENT, Step.CLEAR),
            (Event.CLEARED, Step.HOPELESS),
        ],
        {"data": Data.ACKNOWLEDGED, "trouble": Trouble.PRESENT, "clearing": Clearing.CLEARED},
    ),
    "it is thrown away, and came out all the same": (
        ProofLevel.PROCESS_ID,
        [
            WRITTEN,
            (Event.ACKNOWLEDGED, Step.CONFIRM),
            (Event.CLEAR_SENT, Step.CLEAR),
            (Event.CLEARED, Step.HOPELESS),
            (Event.PROOF, Step.DONE),
        ],
        {"data": Data.ACKNOWLEDGED, "proof": Proof.CAME, "clearing": Clearing.CLEARED},
    ),
    "somebody else's data is thrown away": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.CLEARED, Step.CONFIRM)],
        {"data": Data.TAKEN},
    ),
    "the printer is switched on anew behind the proof": (
        ProofLevel.PROCESS_ID,
        [WRITTEN, (Event.PROOF, Step.DONE), (Event.SWITCHED_ON, Step.HOPELESS)],
        {"data": Data.TAKEN, "proof": Proof.CAME, "hope": Hope.SWITCHED_ON},
    ),
    "the printer is switched on anew in the middle": (
        ProofLevel.PROCESS_ID,
        [(Event.SWITCHED_ON, Step.HOPELESS)],
        {"hope": Hope.SWITCHED_ON},
    ),
    "the fence is answered, and a trouble behind it changes nothing": (
        ProofLevel.FENCE,
        [
            WRITTEN,
            (Event.PROOF, Step.DELIVER),
            (Event.ACKNOWLEDGED, Step.DONE),
            (Event.TROUBLE, Step.DONE),
        ],
        {"data": Data.ACKNOWLEDGED, "proof": Proof.CAME, "trouble": Trouble.PRESENT},
    ),
    "the fence is answered, and that proves nothing": (
        ProofLevel.FENCE,
        [WRITTEN, (Event.WORTHLESS_ANSWER, Step.HOPELESS)],
        {"data": Data.TAKEN, "hope": Hope.WORTHLESS},
    ),
    "the fence proves nothing, and then lies": (
        ProofLevel.FENCE,
        [
            WRITTEN,
            (Event.TROUBLE, Step.HOLD),
            (Event.WORTHLESS_ANSWER, Step.HOPELESS),
            (Event.FALSE_ANSWER, Step.HOPELESS),
            (Event.WORTHLESS_ANSWER, Step.HOPELESS),
        ],
        {"data": Data.TAKEN, "trouble": Trouble.PRESENT, "hope": Hope.FALSE},
    ),
    "the fence is answered too early": (
        ProofLevel.FENCE,
        [(Event.FALSE_ANSWER, Step.HOPELESS)],
        {"hope": Hope.FALSE},
    ),
    "switched on anew, and the fence proves nothing": (
        ProofLevel.FENCE,
        [WRITTEN, (Event.SWITCHED_ON, Step.HOPELESS), (Event.WORTHLESS_ANSWER, Step.HOPELESS)],
        {"data": Data.TAKEN, "hope": Hope.WORTHLESS},
    ),
    "switched on anew, and the fence lies": (
        ProofLevel.FENCE,
        [(Event.SWITCHED_ON, Step.HOPELESS), (Event.FALSE_ANSWER, Step.HOPELESS)],
        {"hope": Hope.FALSE},
    ),
    "a fence does not hold against being thrown away": (
        ProofLevel.FENCE,
        [
            WRITTEN,
            (Event.ACKNOWLEDGED, Step.CONFIRM),
            (Event.CLEAR_SENT, Step.CLEAR),
            (Event.PROOF, Step.CLEAR),
            (Event.CLEARED, Step.HOPELESS),
        ],
        {"data": Data.ACKNOWLEDGED, "proof": Proof.CAME, "clearing": Clearing.CLEARED},
    ),
    "all questions are answered, and it is acknowledged": (
        ProofLevel.REALTIME,
        [(Event.ALL_TAKEN, Step.ASK), (Event.ROUND_COMPLETE, Step.DELIVER), (Event.ACKNOWLEDGED, Step.DONE)],
        {"data": Data.ACKNOWLEDGED, "round": Round.COMPLETE},
    ),
    "the answers name a trouble, which has passed at the next round": (
        ProofLevel.REALTIME,
        [
            (Event.ALL_TAKEN, Step.ASK),
            (Event.ACKNOWLEDGED, Step.ASK),
            (Event.TROUBLE, Step.ASK),
            (Event.ROUND_COMPLETE, Step.HOLD),
            (Event.ROUND_BEGUN, Step.ASK),
            (Event.ROUND_COMPLETE, Step.HOLD),
            (Event.NO_TROUBLE, Step.DONE),
        ],
        {"data": Data.ACKNOWLEDGED, "trouble": Trouble.PASSED, "round": Round.COMPLETE},
    ),
    "it is asked how it is while its proof is due": (
        ProofLevel.FENCE,
        [WRITTEN, (Event.ROUND_BEGUN, Step.CONFIRM)],
        {"data": Data.TAKEN, "round": Round.OPEN},
    ),
    "nothing is asked": (
        ProofLevel.NONE,
        [(Event.ALL_TAKEN, Step.DELIVER), (Event.ACKNOWLEDGED, Step.DONE)],
        {"data": Data.ACKNOWLEDGED},
    ),
}


def goes(level: ProofLevel, story: list[tuple[Event, Step]], end: dict[str, Any]) -> bool:
    now, steps = start(level), []
    if step(now) is not Step.WRITE:
        return False
    for event, _ in story:
        now = advance(now, event)
        steps.append(step(now))
    return steps == [wanted for _, wanted in story] and now == start(level)._replace(**end)


@pytest.mark.parametrize("name", STORIES)
def test_a_ticket(name: str) -> None:
    level, story, _ = STORIES[name]
    now = start(level)
    for event, _ in story:
        assert event in can_happen(now)
        now = advance(now, event)
    assert goes(*STORIES[name])


def mutants() -> Iterator[tuple[str, Any]]:
    """Each table without one of its lines, and with each other state in it; likewise the steps."""
    for name, kind in TABLES.items():
        table = getattr(proof, name)
        for line, target in table.items():
            yield name, {key: value for key, value in table.items() if key != line}
            for other in kind:
                if other not in (target, line[0]):
                    yield name, table | {line: other}
    for place, (step_, holds) in enumerate(proof.STEPS):
        if place < len(proof.STEPS) - 1:
            yield "STEPS", proof.STEPS[:place] + proof.STEPS[place + 1 :]
        for other_step in Step:
            if other_step is not step_:
                yield "STEPS", (*proof.STEPS[:place], (other_step, holds), *proof.STEPS[place + 1 :])


def test_every_line_of_the_tables_dies_as_a_mutant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, mutant in mutants():
        with monkeypatch.context() as changed:
            changed.setattr(proof, name, mutant)
            assert not all(goes(*story) for story in STORIES.values()), (name, mutant)
