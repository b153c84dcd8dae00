"""What a look leads to."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kps.core.address import TcpAddress
from kps.core.agenda import LookAgain, Why
from kps.core.half_written import LOOKS_S, SETTLE_LIMIT_S, HalfWritten
from kps.core.plan import GRACE_LOOK_S, Plan, plan
from kps.core.routing import DeviceState, EndRound, GiveUp, PrinterRow, Routes, WaitFor, Waiting
from kps.core.settings import PrinterDownPolicy, Settings
from kps.core.tickets import PrinterKey, Reason, TicketId, Token

KITCHEN, BAR = PrinterKey("k1"), PrinterKey("k2")


def ticket(number: int, station: str = "kitchen", **changes: Any) -> Waiting:
    given: dict[str, Any] = {
        "token": Token(0), "brand": "b", "brand_code": "b", "items": 1, "original_items": None, "round_open": False,
        "tried": frozenset(),
    }  # fmt: skip
    return Waiting(id=TicketId(number), station=station, **(given | changes))


def row(number: int, station: str, key: PrinterKey, active: bool = True) -> PrinterRow:
    return PrinterRow(
        id=number, station=station, brand="b", brand_code="b", brand_name="B", name=f"P{number}",
        address=TcpAddress("10.0.0.1", 9100), kind="network", timeout_s=5.0, priority=1, active=active, key=key,
    )  # fmt: skip


ROUTES = Routes((row(1, "kitchen", KITCHEN), row(2, "bar", BAR), row(3, "grill", BAR, active=False)))


def planned(
    *tickets: Waiting,
    free: dict[PrinterKey, int] | None = None,
    states: tuple[str, str] = ("ready", "ready"),
    half_written: HalfWritten | None = None,
    now: float = 0.0,
    **settings: Any,
) -> Plan:
    devices = {key: DeviceState(key, state, "", True, -3.0) for key, state in zip((KITCHEN, BAR), states, strict=True)}
    room = {KITCHEN: 9, BAR: 9} if free is None else free
    return plan(tickets, ROUTES, devices, room, half_written or HalfWritten(), Settings(**settings), now)


def claimed(made: Plan) -> list[int]:
    return [ticket.id for ticket, _ in made.claims]


@given(st.lists(st.sampled_from(["kitchen", "bar"]), max_size=12), st.integers(0, 5), st.integers(0, 5))
def test_each_printer_is_given_its_lowest_tickets_and_no_more_than_it_has_room_for(
    stations: list[str], kitchen: int, bar: int
) -> None:
    tickets = [ticket(number, station) for number, station in enumerate(stations, 1)]
    free = {KITCHEN: kitchen, BAR: bar}
    made = planned(*tickets, free=free)
    for station, room in (("kitchen", kitchen), ("bar", bar)):
        waiting = [one.id for one in tickets if one.station == station]
        assert [number for number in claimed(made) if number in waiting] == waiting[:room]
    assert free == {KITCHEN: kitchen, BAR: bar}
    assert made.again is None, "room is notified"


def test_what_no_printer_can_print_ends_its_round_or_is_held() -> None:
    made = planned(ticket(1), ticket(2, "bar"), ticket(3, "grill"), states=("down", "ready"))
    assert claimed(made) == [2]
    assert [(one.id, end.row.id) for one, end in made.ended] == [(1, 1)]
    assert [(one.id, why) for one, why in made.held] == [(3, WaitFor.INACTIVE)]
    assert [one.id for one in made.ending] == [1]
    held = planned(ticket(1), states=("down", "ready"), printer_down_policy=PrinterDownPolicy.HOLD)
    assert [why for _, why in held.held] == [WaitFor.HELD]


def test_a_half_written_ticket_asks_for_a_look_and_one_without_items_is_given_up_in_the_end() -> None:
    seen = HalfWritten()
    made = planned(ticket(1, items=0), ticket(2, items=1, original_items=3), ticket(3), half_written=seen)
    assert claimed(made) == [3]
    assert made.again == LookAgain(LOOKS_S[0], Why.HALF_WRITTEN)
    made = planned(ticket(1, items=0), ticket(2, items=1, original_items=3), half_written=seen, now=SETTLE_LIMIT_S)
    assert claimed(made) == [2]
    assert [give_up.reason for _, give_up in made.given_up] == [Reason.NO_ITEMS]
    assert [one.id for one in made.ending] == [1]


def test_a_ticket_without_a_printer_row_is_looked_at_again_when_its_wait_ends() -> None:
    waiting = [
        ticket(1, "terrace"),
        ticket(2, "terrace", unroutable_noted=True, waited_s=50.0),
        ticket(3, "terrace", unroutable_noted=True, waited_s=60.0),
    ]
    made = planned(*waiting, unroutable_grace_s=60.0)
    assert [one.id for one in made.unroutable] == [1, 2]
    assert made.again == LookAgain(10.0, Why.NO_PRINTER_ROW)
    assert [(one.id, type(end)) for one, end in made.given_up] == [(3, GiveUp)]
    nearly = planned(ticket(1, "terrace", unroutable_noted=True, waited_s=59.99), unroutable_grace_s=60.0)
    assert nearly.again == LookAgain(GRACE_LOOK_S, Why.NO_PRINTER_ROW)


def test_the_soonest_of_what_the_tickets_ask_for_counts() -> None:
    made = planned(ticket(1, "terrace"), ticket(2, items=0), ticket(3, "terrace"))
    assert made.again is not None
    assert made.again.why is Why.HALF_WRITTEN


def test_an_instance_only_claims_what_it_does_not_serve_and_leaves_the_rest_to_others() -> None:
    bar_only = frozenset({"bar"})
    made = planned(ticket(1), ticket(2, "terrace"), stations=bar_only)
    assert claimed(made) == [1]
    assert (made.unroutable, made.again) == ([], None)
    made = planned(ticket(1), ticket(2, "bar"), states=("down", "down"), stations=bar_only)
    assert [(one.id, type(end)) for one, end in made.ended] == [(2, EndRound)]
