"""Which tickets a look considers beside a backlog, and the way through the old ones."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kps.core.backlog import (
    AT_ONCE,
    COMMITTED_WITHIN_S,
    LONGEST_PAUSE_S,
    PAUSE_S,
    Among,
    Horizon,
    OldTicket,
    Survey,
    Walk,
)
from kps.core.tickets import TicketId, Token

HORIZON = Horizon(1000.0, TicketId(99))
PAGE = 3


def old(number: int, at: float = 0.0, stale: bool = True) -> OldTicket:
    return OldTicket(TicketId(number), Token(0), at, stale, reset=not stale)


def page(new: list[OldTicket], walk: Walk) -> list[OldTicket]:
    """What the database answers: the oldest few from a moment on, without those that were passed."""
    left = [one for one in new if one.at >= walk.since and one.id not in walk.passed]
    return sorted(left, key=lambda one: (one.at, one.id))[:PAGE]


# Few moments, so that many tickets share one.
old_tickets = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=14).map(
    lambda given: [old(number, float(at), stale) for number, (at, stale) in enumerate(given, 1)]
)


@given(old_tickets, st.sets(st.integers(1, 14)))
def test_a_pass_meets_every_old_ticket_once_and_what_it_cannot_fail_has_another_pass(
    tickets: list[OldTicket], locked: set[int]
) -> None:
    walk, new, met = Walk(HORIZON), list(tickets), Counter[int]()
    while read := page(new, walk):
        failed = {one.id for one in read if one.stale and one.id not in locked}
        met.update(one.id for one in read)
        new = [one for one in new if one.id not in failed]
        walk.go_on(read, failed)
    assert met == Counter(one.id for one in tickets)
    left = [one for one in new if one.stale]
    assert (walk.again() is None) == (not left)
    if left:
        assert page(new, walk)[0] == min(new, key=lambda one: (one.at, one.id)), "it begins with the oldest again"


def test_passes_come_less_and_less_often_while_a_ticket_cannot_be_failed() -> None:
    walk, pauses = Walk(HORIZON), []
    for _ in range(8):
        walk.go_on([old(1)], set())
        pauses.append(walk.again())
    assert pauses[:3] == [PAUSE_S, PAUSE_S * 2, PAUSE_S * 4]
    assert pauses[-1] == LONGEST_PAUSE_S
    walk.go_on([old(1)], {TicketId(1)})
    assert walk.again() is None


def test_fewer_are_failed_at_once_where_that_takes_long_down_to_one() -> None:
    walk = Walk(HORIZON)
    walk.was_slow(AT_ONCE)
    assert walk.size == AT_ONCE // 2
    walk.was_slow(1)
    assert walk.size == 1
    for _ in range(20):
        walk.was_quick()
    assert walk.size == AT_ONCE


def test_a_look_beside_a_survey_considers_what_may_have_been_committed_late() -> None:
    survey = Survey(TicketId(7), 500.0, frozenset({TicketId(3)}))
    more = frozenset({TicketId(5)})
    assert survey.among(more) == Among(500.0 - COMMITTED_WITHIN_S, TicketId(7), frozenset({TicketId(3), TicketId(5)}))


def test_a_look_beside_old_tickets_considers_all_others_and_what_is_spared() -> None:
    spared = frozenset({TicketId(3)})
    assert HORIZON.without_old(spared) == Among(1000.0, TicketId(99), spared)
