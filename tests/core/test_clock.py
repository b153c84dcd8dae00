"""How far the POS's clock is behind, by the ages that its tickets seem to have when they arrive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.clock import ARRIVALS, TOGETHER_S, PosClock, apart, behind
from kps.core.routing import Waiting
from kps.core.tickets import TicketId, Token

AGES = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], None),
        ([360.0], None),
        ([360.0, 360.0], None),
        ([361.0, 360.0, 362.0], 361.0),
        ([0.1, 0.0, 29.0], 0.0),
        ([-361.0, -360.0, -362.0], -361.0),
        # a till hands in what was ordered while its network was away
        ([0.0, 0.1, 900.0, 0.1], 0.1),
        ([840.0, 780.0, 720.0, 660.0, 600.0], None),
        ([0.1, 0.1, 0.1, 840.0, 780.0], 0.0),
        # the clock is set
        ([360.0, 360.0, 360.0, 0.1, 0.0], 360.0),
        ([360.0, 360.0, 0.1, 0.0, 0.1], 0.0),
        # a single ticket from the future
        ([0.1, -7200.0, 0.2, 0.1], 0.1),
    ],
)
def test_most_of_the_last_tickets_must_agree(ages: list[float], expected: float | None) -> None:
    found = behind(ages)
    if expected is None or found is None:
        assert found is expected
    else:
        assert abs(found) < 30.0 if abs(expected) < 30.0 else found == expected


def test_a_clock_within_half_a_minute_is_right() -> None:
    assert [behind([age] * 3) for age in (29.9, -29.9, 30.1, -30.1)] == [0.0, 0.0, 30.1, -30.1]


@given(right=AGES, strange=st.lists(AGES, max_size=ARRIVALS // 2), noise=st.floats(0, TOGETHER_S / 2), data=st.data())
def test_as_many_strange_tickets_as_are_not_the_most_change_nothing(
    right: float, strange: list[float], noise: float, data: st.DataObject
) -> None:
    usual = [right, right + noise, right + noise / 2]
    found = behind(data.draw(st.permutations(usual + strange)))
    assert found is not None
    # Within what the usual ones say and what counts as together with them; nearly nothing counts as nothing.
    assert found == 0.0 or right - TOGETHER_S - 1 <= found <= right + noise + TOGETHER_S + 1
    if found == 0.0:
        assert right - TOGETHER_S - 1 <= 30.0
        assert right + noise + TOGETHER_S + 1 >= -30.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(31.0, "31 s"), (-31.4, "31 s"), (90.0, "90 s"), (360.0, "6 min"), (18_060.0, "5 h 1 min"), (90_000.0, "25 h")],
)
def test_a_difference_in_words(seconds: float, words: str) -> None:
    assert apart(seconds) == words


# What the looks of a service teach.


def ticket(number: int, age_s: float, untried: bool = True) -> Waiting:
    return Waiting(
        id=TicketId(number), token=Token(0), station="kitchen", brand="b", brand_code="b", items=1, original_items=None,
        round_open=False, tried=frozenset(), age_s=age_s, untried=untried,
    )  # fmt: skip


def looks(clock: PosClock, *ages_s: float, first: int = 2) -> list[float | None]:
    """The news of looks each of which finds one ticket more, of this age."""
    return [clock.saw([ticket(number, age_s)], complete=True) for number, age_s in enumerate(ages_s, first)]


def test_a_clock_is_known_when_enough_tickets_that_have_just_come_agree() -> None:
    clock = PosClock()
    assert clock.saw([ticket(1, 900.0)], complete=True) is None, "it may have waited long before the first look"
    assert looks(clock, 360.0, 360.0, 361.0) == [None, None, 360.0]


def test_what_is_known_is_no_news() -> None:
    clock = PosClock()
    clock.saw([], complete=True)
    clock.known_s = 360.0
    assert looks(clock, 361.0, 362.0, 363.0) == [None, None, None]
    clock.known_s = 100.0
    assert looks(clock, 362.0, first=9) == [362.0]


def test_nothing_is_learned_from_tickets_that_may_have_come_unseen() -> None:
    for unseen in (PosClock.missed, lambda clock: clock.saw([], complete=False)):
        clock = PosClock()
        clock.saw([], complete=True)
        for number in range(1, 9):
            unseen(clock)
            assert clock.saw([ticket(number, 360.0)], complete=True) is None


def test_nothing_is_learned_from_a_ticket_that_was_tried_before_or_was_there_before() -> None:
    clock = PosClock()
    clock.saw([ticket(7, 900.0)], complete=True)
    for _ in range(9):
        assert clock.saw([ticket(7, 900.0), ticket(9, 900.0, untried=False)], complete=True) is None


def test_of_tickets_that_come_together_the_youngest_counts() -> None:
    clock = PosClock()
    clock.saw([], complete=True)
    news = [clock.saw([ticket(2 * n, 900.0), ticket(2 * n + 1, 0.1)], complete=True) for n in range(1, 4)]
    assert news == [None, None, 0.0]
