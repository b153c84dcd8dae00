"""Tickets whose items are still being written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.half_written import LOOKS_S, SETTLE_LIMIT_S, SETTLED_AFTER_S, HalfWritten, Writing, how_written
from kps.core.routing import Waiting, Written
from kps.core.tickets import TicketId, Token


def ticket(items: int, original_items: int | None = None, number: int = 1) -> Waiting:
    return Waiting(
        id=TicketId(number), token=Token(0), station="kitchen", brand="b", brand_code="dapur", items=items,
        original_items=original_items, round_open=False, tried=frozenset(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("items", "of", "unchanged_s", "seen_s", "written"),
    [
        (1, None, 0.0, 0.0, Written.WHOLE),
        (3, 3, 0.0, 0.0, Written.WHOLE),
        (4, 3, 0.0, 0.0, Written.WHOLE),
        (2, 3, 0.05, 0.05, Written.IN_PART),
        (2, 3, SETTLED_AFTER_S, 0.3, Written.WHOLE),
        (2, 3, 0.01, SETTLE_LIMIT_S, Written.WHOLE),
        (0, 3, 1.0, 1.0, Written.IN_PART),
        (0, 3, 2.0, SETTLE_LIMIT_S, Written.EMPTY),
        (0, None, 1.9, 1.9, Written.IN_PART),
        (0, None, 2.0, SETTLE_LIMIT_S, Written.EMPTY),
        (0, 0, 0.0, 0.0, Written.IN_PART),
    ],
)
def test_when_a_ticket_is_whole(
    items: int, of: int | None, unchanged_s: float, seen_s: float, written: Written
) -> None:
    assert how_written(ticket(items, of), unchanged_s, seen_s) is written


@given(st.integers(0, 9), st.none() | st.integers(0, 9), st.floats(0, 3), st.floats(0, 3))
def test_every_ticket_is_decided_on_in_the_end_and_never_printed_empty(
    items: int, of: int | None, unchanged_s: float, more_s: float
) -> None:
    subject = ticket(items, of)
    written = how_written(subject, unchanged_s, unchanged_s + more_s)
    assert written is not Written.WHOLE or items > 0
    assert how_written(subject, unchanged_s, SETTLE_LIMIT_S) is not Written.IN_PART


def test_a_growing_ticket_is_looked_at_soon_and_then_less_often_until_it_settles() -> None:
    seen, now, looks = HalfWritten(), 100.0, []
    while (writing := seen.look(ticket(2, 3), now)).written is Written.IN_PART:
        looks.append(writing.look_in_s)
        now += writing.look_in_s
    assert looks == list(LOOKS_S[: len(looks)])
    assert SETTLED_AFTER_S <= now - 100.0 < SETTLED_AFTER_S + max(LOOKS_S)


def test_an_item_more_is_waited_for_anew() -> None:
    seen = HalfWritten()
    assert seen.look(ticket(1, 3), 0.0).written is Written.IN_PART
    assert seen.look(ticket(2, 3), SETTLED_AFTER_S).written is Written.IN_PART
    assert seen.look(ticket(2, 3), 2 * SETTLED_AFTER_S).written is Written.WHOLE


def test_a_ticket_that_grows_without_end_is_printed_as_it_is_in_the_end() -> None:
    seen = HalfWritten()
    assert seen.look(ticket(1, 99), 0.0).written is Written.IN_PART
    assert seen.look(ticket(2, 99), SETTLE_LIMIT_S).written is Written.WHOLE


def test_a_ticket_without_items_has_none_in_the_end() -> None:
    seen = HalfWritten()
    assert seen.look(ticket(0), 0.0).written is Written.IN_PART
    assert seen.look(ticket(0), SETTLE_LIMIT_S).written is Written.EMPTY


def test_a_ticket_that_was_whole_or_is_forgotten_begins_anew() -> None:
    seen = HalfWritten()
    for _ in range(2):
        assert seen.look(ticket(0), 0.0) == Writing(Written.IN_PART, LOOKS_S[0])
        assert seen.look(ticket(1), 0.1) == Writing(Written.WHOLE)
    for _ in range(2):
        assert seen.look(ticket(0), 0.0) == Writing(Written.IN_PART, LOOKS_S[0])
        seen.forget_all_but({TicketId(2)})
    seen.look(ticket(0), 0.0)
    seen.forget_all_but({TicketId(1)})
    assert seen.look(ticket(0), 0.0) == Writing(Written.IN_PART, LOOKS_S[1])
