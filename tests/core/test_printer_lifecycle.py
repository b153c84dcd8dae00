"""The tables of a printer's life: all that can be is reached, all that is reached ends, and nothing is done twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.printer_lifecycle import LEASE, PROCESS, RUNNING, WISH, Action, Event, Lease, Life, Process, Wish, advance

START = Life()
CAN_HAPPEN: dict[Event, Callable[[Life], bool]] = {
    Event.STARTED: lambda life: life.startable,
    Event.NOT_STARTED: lambda life: life.process in (Process.STARTING, Process.STOPPING),
    Event.READY: lambda life: life.process in (Process.STARTING, Process.STOPPING),
    Event.REPLACED: lambda life: True,
    Event.ENDED: lambda life: life.running,
    Event.RELEASED: lambda life: life.lease is Lease.RELEASING,
    Event.NOT_OURS: lambda life: life.lease is Lease.RELEASING,
    Event.TAKEN: lambda life: True,
    Event.LOST: lambda life: life.lease is not Lease.LOST,
    Event.DISMISSED: lambda life: True,
}
"""When the world can bring an event at all; the loop asks nobody."""


def can_happen(life: Life) -> list[Event]:
    return [] if life.over else [event for event in Event if CAN_HAPPEN[event](life)]


def reached() -> dict[Life, list[Event]]:
    """Every state that is reached, with the events that lead there."""
    found: dict[Life, list[Event]] = {START: []}
    left = deque([START])
    while left:
        life = left.popleft()
        for event in can_happen(life):
            then, _ = advance(life, event)
            if then not in found:
                found[then] = [*found[life], event]
                left.append(then)
    return found


REACHED = reached()
ids = [f"{life.process.value}, {life.lease.value}, {life.wish.value}" for life in REACHED]
every_reached = pytest.mark.parametrize("life", REACHED, ids=ids)


def test_every_event_has_a_say_and_every_part_of_a_state_is_reached() -> None:
    assert set(CAN_HAPPEN) == set(Event)
    assert {life.process for life in REACHED} == set(Process)
    assert {life.lease for life in REACHED} == set(Lease)
    assert {life.wish for life in REACHED} == set(Wish)


def test_every_line_of_the_tables_is_used() -> None:
    used: set[tuple[object, Event]] = set()
    for life in REACHED:
        for event in can_happen(life):
            used |= {(life.process, event), (life.lease, event), (life.wish, event)}
    assert {*PROCESS, *LEASE, *WISH} <= used


def test_every_action_is_wanted_somewhere() -> None:
    assert {action for life in REACHED for event in can_happen(life) for action in advance(life, event)[1]} == set(
        Action
    )


@every_reached
def test_every_state_can_end(life: Life) -> None:
    seen, left = {life}, deque([life])
    while left:
        for event in can_happen(now := left.popleft()):
            then, _ = advance(now, event)
            if then not in seen:
                seen.add(then)
                left.append(then)
    assert any(one.over for one in seen)


@every_reached
def test_whoever_leaves_has_been_told_to_end_and_is_never_started_again(life: Life) -> None:
    if life.wish is Wish.LEAVE:
        assert life.process in (Process.STOPPING, Process.DEAD)
        assert not life.startable
        assert not life.connectable
    if life.lease is Lease.LOST:
        assert not life.startable
        assert not life.connectable


@every_reached
def test_no_action_stands_in_a_state_that_forbids_it(life: Life) -> None:
    for event in can_happen(life):
        then, actions = advance(life, event)
        assert len(set(actions)) == len(actions)
        told = Action.TELL_TO_END in actions
        assert told == (life.process in (Process.STARTING, Process.UP) and then.process is Process.STOPPING)
        assert (Action.RELEASE in actions) == (event is Event.ENDED and life.lease is Lease.OURS)
        assert (Action.FORGET in actions) == then.over
        assert (Action.LAPSE in actions) == (then.over and then.lease is not Lease.LOST)
        if actions and actions[0] in (Action.TELL_EPOCH, Action.TELL_EPOCH_TO_ALL):
            assert then.lease is Lease.OURS
        if Action.FORGET in actions:
            assert actions[-1] is Action.FORGET, "what is done for it is done while we know it"
            assert Action.DISCONNECT in actions


UP = [Event.STARTED, Event.READY]
RETAKEN = [Action.TELL_TO_END, Action.TELL_EPOCH_TO_ALL]


@pytest.mark.parametrize(
    ("events", "then", "done"),
    [
        pytest.param(
            [*UP, Event.ENDED, Event.STARTED, Event.READY, Event.RELEASED],
            Life(Process.UP, Lease.OURS, Wish.SERVE),
            [Action.DISCONNECT, Action.RELEASE, Action.TELL_EPOCH],
            id="it died: what it held is given back while its successor boots",
        ),
        pytest.param(
            [Event.STARTED, Event.REPLACED, Event.READY, Event.ENDED],
            Life(Process.WAITING, Lease.RELEASING, Wish.SERVE),
            [Action.TELL_TO_END, Action.DISCONNECT, Action.RELEASE],
            id="it is replaced while it boots",
        ),
        pytest.param(
            [*UP, Event.REPLACED, Event.ENDED, Event.RELEASED, Event.STARTED],
            Life(Process.STARTING, Lease.OURS, Wish.SERVE),
            [Action.TELL_TO_END, Action.DISCONNECT, Action.RELEASE, Action.TELL_EPOCH],
            id="it is replaced",
        ),
        pytest.param(
            [Event.STARTED, Event.NOT_STARTED],
            Life(Process.WAITING, Lease.OURS, Wish.SERVE),
            [],
            id="the host has not let it start",
        ),
        pytest.param(
            [Event.DISMISSED],
            Life(Process.DEAD, Lease.OURS, Wish.LEAVE),
            [Action.DISCONNECT, Action.LAPSE, Action.FORGET],
            id="its row has gone before it had a process",
        ),
        pytest.param(
            [Event.STARTED, Event.DISMISSED, Event.NOT_STARTED],
            Life(Process.DEAD, Lease.OURS, Wish.LEAVE),
            [Action.TELL_TO_END, Action.DISCONNECT, Action.LAPSE, Action.FORGET],
            id="its row has gone while its process was asked for in vain",
        ),
        pytest.param(
            [*UP, Event.DISMISSED, Event.TAKEN, Event.ENDED],
            Life(Process.DEAD, Lease.RELEASING, Wish.LEAVE),
            [*RETAKEN, Action.DISCONNECT, Action.RELEASE, Action.LAPSE, Action.FORGET],
            id="its row has gone, and it leaves although it was taken again",
        ),
        pytest.param(
            [*UP, Event.LOST, Event.ENDED],
            Life(Process.DEAD, Lease.LOST, Wish.LEAVE),
            [Action.TELL_TO_END, Action.DISCONNECT, Action.FORGET],
            id="another instance has its lease",
        ),
        pytest.param(
            [*UP, Event.LOST, Event.TAKEN, Event.ENDED],
            Life(Process.DEAD, Lease.RELEASING, Wish.LEAVE),
            [*RETAKEN, Action.DISCONNECT, Action.RELEASE, Action.LAPSE, Action.FORGET],
            id="the lease was lost and is ours again before it has ended",
        ),
        pytest.param(
            [*UP, Event.ENDED, Event.LOST],
            Life(Process.DEAD, Lease.LOST, Wish.LEAVE),
            [Action.DISCONNECT, Action.RELEASE, Action.DISCONNECT, Action.FORGET],
            id="the lease was lost while what it held was given back",
        ),
        pytest.param(
            [*UP, Event.ENDED, Event.STARTED, Event.NOT_OURS, Event.ENDED],
            Life(Process.DEAD, Lease.LOST, Wish.LEAVE),
            [Action.DISCONNECT, Action.RELEASE, Action.TELL_TO_END, Action.DISCONNECT, Action.FORGET],
            id="what it held was not ours to give back, and its successor boots already",
        ),
    ],
)
def test_a_life(events: list[Event], then: Life, done: list[Action]) -> None:
    life, found = START, []
    for event in events:
        assert event in can_happen(life)
        life, actions = advance(life, event)
        found += actions
    assert (life, found) == (then, done)


class World:
    """What the actions bring about, as far as the laws speak of it."""

    def __init__(self) -> None:
        self.life = START
        self.processes = 0
        self.told = False
        self.owed = False
        """What a dead process held is still to be given back."""
        self.lease_given_back = 0

    def happens(self, event: Event) -> None:
        if event is Event.STARTED:
            assert self.processes == 0, "one process at most"
            self.processes, self.told = 1, False
        if event in (Event.ENDED, Event.NOT_STARTED):
            self.processes = 0
        if event in (Event.RELEASED, Event.NOT_OURS):
            self.owed = False
        self.life, actions = advance(self.life, event)
        for action in actions:
            match action:
                case Action.TELL_TO_END:
                    assert self.processes
                    assert not self.told, "once"
                    self.told = True
                case Action.RELEASE:
                    assert not self.owed, "one at a time"
                    self.owed = True
                case Action.TELL_EPOCH:
                    assert not self.owed, "who may print, prints nothing that a dead one held"
                case Action.LAPSE:
                    self.lease_given_back += 1
        assert (self.life.process in RUNNING) == bool(self.processes)
        assert self.lease_given_back == (self.life.over and self.life.lease is not Lease.LOST)


@given(st.data())
def test_whatever_happens_the_law_holds(data: st.DataObject) -> None:
    world = World()
    for _ in range(40):
        if not (events := can_happen(world.life)):
            break
        world.happens(data.draw(st.sampled_from(events)))
