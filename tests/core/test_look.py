"""What a look has found, and which tickets may be printed next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from kps.core.address import TcpAddress
from kps.core.backlog import Survey
from kps.core.look import CROWDED_S, NOTHING, Found, Refill, depth_of, is_crowded, what_was_found, when_room
from kps.core.routing import PrinterRow, Routes, Waiting
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, TicketId, Token

STATIONS = ("kitchen", "bar", "grill")
DEPTH = 3


def ticket(number: int, station: str = "kitchen") -> Waiting:
    return Waiting(
        id=TicketId(number), token=Token(0), station=station, brand="b", brand_code="b", items=1, original_items=None,
        round_open=False, tried=frozenset(),
    )  # fmt: skip


def row(number: int, station: str, key: str, active: bool = True) -> PrinterRow:
    return PrinterRow(
        id=number, station=station, brand="b", brand_code="b", brand_name="B", name=f"P{number}",
        address=TcpAddress("10.0.0.1", 9100), kind="network", timeout_s=5.0, priority=1, active=active,
        key=PrinterKey(key),
    )  # fmt: skip


ROUTES = Routes((row(1, "kitchen", "k1"), row(2, "bar", "k1"), row(3, "grill", "k2")))
"""Kitchen and bar share a printer."""


def ids(tickets: Iterable[Waiting]) -> list[int]:
    return [one.id for one in tickets]


def looked(waiting: Iterable[Waiting], depth: int = DEPTH) -> list[Waiting]:
    """What the database answers: the oldest few of each route, in order of their numbers."""
    by_station = groupby(sorted(waiting, key=lambda one: (one.station, one.id)), key=lambda one: one.station)
    return sorted((one for _, same in by_station for one in list(same)[:depth]), key=lambda one: one.id)


def test_a_look_that_finds_few_tickets_has_seen_all() -> None:
    assert what_was_found([ticket(1), ticket(2, "bar")], DEPTH, ROUTES, None) == Found(
        (ticket(1), ticket(2, "bar")), complete=True
    )
    assert not what_was_found([ticket(1), ticket(2), ticket(3)], DEPTH, ROUTES, None).complete


def test_a_route_that_was_cut_ends_what_its_printer_may_be_given_next() -> None:
    seen = [ticket(1), ticket(2), ticket(3), ticket(4, "bar"), ticket(5, "grill")]
    found = what_was_found(seen, DEPTH, ROUTES, None)
    assert found.ends == {PrinterKey("k1"): 3}
    assert ids(found.without(set(), ROUTES).tickets) == [1, 2, 3, 5]
    assert ids(found.without({TicketId(1), TicketId(5)}, ROUTES).tickets) == [2, 3]


waiting_tickets = st.lists(st.sampled_from(STATIONS), max_size=15).map(
    lambda stations: [ticket(number, station) for number, station in enumerate(stations, 1)]
)


@given(waiting_tickets, st.sets(st.integers(1, 15)))
def test_what_is_left_of_a_look_lets_no_ticket_of_a_printer_be_overtaken(
    waiting: list[Waiting], taken: set[int]
) -> None:
    found = what_was_found(looked(waiting), DEPTH, ROUTES, None)
    left_out = set(ids(waiting)) - set(ids(found.tickets))
    assert not (found.complete and left_out)
    for one in found.without({TicketId(number) for number in taken}, ROUTES).tickets:
        keys = {row.key for row in ROUTES.of(one.station, one.brand)}
        of_same_printers = [
            other.id for other in waiting if keys & {row.key for row in ROUTES.of(other.station, other.brand)}
        ]
        assert one.id not in taken
        assert not [number for number in of_same_printers if number in left_out and number < one.id]


@given(waiting_tickets, st.integers(1, 4), st.integers(1, 4))
def test_a_survey_lets_no_ticket_be_overtaken_that_it_did_not_reach(
    waiting: list[Waiting], reach: int, depth: int
) -> None:
    surveyed = looked(waiting, reach)
    cut = {
        (station, "b"): same[reach - 1].id
        for station in STATIONS
        if len(same := [one for one in waiting if one.station == station]) >= reach
    }
    survey = Survey(TicketId(99), 0.0, frozenset(one.id for one in surveyed), cut, len(waiting))
    newer = [ticket(100, station) for station in STATIONS]
    found = what_was_found(looked([*surveyed, *newer], depth), depth, ROUTES, survey)
    assert not found.complete
    unreached = [one for one in waiting if one not in surveyed]
    for one in found.without(set(), ROUTES).tickets:
        keys = {row.key for row in ROUTES.of(one.station, one.brand)}
        for other in unreached:
            if keys & {row.key for row in ROUTES.of(other.station, other.brand)}:
                assert one.id < other.id


def test_a_route_whose_survey_is_used_up_keeps_only_its_own_printers_waiting() -> None:
    survey = Survey(TicketId(9), 0.0, frozenset({TicketId(1)}), {("kitchen", "b"): TicketId(1)}, 9000)
    seen = [ticket(1), ticket(10), ticket(11, "bar"), ticket(12, "grill")]
    assert ids(what_was_found(seen, DEPTH, ROUTES, survey).tickets) == [1, 12]
    switched_off = Routes(tuple(replace(one, active=one.station != "bar") for one in ROUTES.rows))
    assert ids(what_was_found(seen, DEPTH, switched_off, survey).tickets) == [1, 11, 12]


def test_a_look_is_crowded_only_if_it_is_slow_and_cut() -> None:
    cut, few, slow = [ticket(1), ticket(2), ticket(3)], [ticket(1)], CROWDED_S * 2
    assert is_crowded(cut, DEPTH, slow)
    assert not is_crowded(cut, DEPTH, CROWDED_S / 2)
    assert not is_crowded(few, DEPTH, slow)


def test_nothing_is_known_after_anything_has_happened() -> None:
    assert not NOTHING.complete
    assert NOTHING.tickets == ()


def test_room_is_filled_from_what_is_left_of_a_look_only_while_that_may_be_believed() -> None:
    left, none_left = Found((ticket(1),), complete=True), Found(complete=True)
    assert when_room(left, believed=True, slips_wait=False) is Refill.GO_ON
    assert when_room(left, believed=False, slips_wait=False) is Refill.LOOK
    assert when_room(none_left, believed=False, slips_wait=False) is Refill.NOTHING
    assert when_room(NOTHING, believed=True, slips_wait=False) is Refill.LOOK
    for found in (left, none_left, NOTHING):
        assert when_room(found, believed=True, slips_wait=True) is Refill.LOOK, "a slip goes first"


def test_a_look_is_as_deep_as_what_may_be_claimed_at_once() -> None:
    assert depth_of(Settings(max_tickets_per_poll=3)) == 20
    assert depth_of(Settings(max_tickets_per_poll=50)) == 50
