"""What the guests change is written as the POS writes it, and read again as the verdict wants it."""

from __future__ import annotations

import random

import pytest

from kps.demo.orders import PosWriter
from tests.chaos.guests import MERGES, Change, Guests, Placed
from tests.chaos.paper import FURTHER, Kind, Piece
from tests.chaos.run import items_of
from tests.chaos.slips import due
from tests.chaos.verdict import Ticket

DUE = {
    Change.VOID: [Kind.VOID],
    Change.VOID_AT_ONCE: [Kind.VOID],
    Change.CANCEL: [Kind.CANCELLED, Kind.CANCELLED],
    Change.MOVE: [Kind.MOVED, Kind.MOVED],
    Change.MOVE_AT_ONCE: [Kind.MOVED, Kind.MOVED],
    Change.MERGE: [],
    Change.MERGE_AND_VOID: [Kind.VOID],
    Change.MERGE_AND_CANCEL: [Kind.CANCELLED] * 4,
    Change.SPLIT: [],
    Change.SPLIT_AND_VOID: [Kind.VOID],
    Change.PAY: [],
    Change.PAY_AND_VOID: [],
}


def placed(pos: PosWriter, queue: int) -> Placed:
    """An order of two dishes, which is on paper."""
    ticket = pos.ticket("kitchen", [("Soto", 2), ("Sate", 1)], queue_number=queue, table=str(queue), status="printed")
    return Placed(ticket, queue, seated=True, items=2)


@pytest.mark.parametrize("whim", Change)
def test_a_change_of_an_order_on_paper_is_due_at_its_station_as_its_name_says(whim: Change, pos: PosWriter) -> None:
    orders = [placed(pos, queue) for queue in (1, 2)]
    Guests(pos, random.Random(1)).carry_out(whim, *orders[: 2 if whim in MERGES else 1])
    tickets = {one.queue: Ticket(one.ticket, one.queue, "kitchen", "printed", sends=1) for one in orders}
    papers = {queue: [Piece("kitchen-1", queue, True, False, queue, ("Soto", "Sate"))] for queue in tickets}
    found = [due(item, tickets[item.queue], papers[item.queue]) for item in items_of(pos)]
    assert len(found) == 4
    assert [kind for kind, must in found if must] == DUE[whim]


def test_nobody_changes_an_order_twice_or_one_that_is_not_printed(pos: PosWriter) -> None:
    guests = Guests(pos, random.Random(1), share=0.8)
    for queue in range(1, 40):
        ticket = pos.ticket("kitchen", [("Soto", 1)], queue_number=queue, table=str(queue))
        guests.after(Placed(ticket, queue, seated=True, items=1))
    assert all(item.table in (item.queue, FURTHER + item.queue) and not item.void for item in items_of(pos))
    assert any(item.table > FURTHER for item in items_of(pos)), "a table may be changed at once"
    assert {item.bill for item in items_of(pos)} == {"open"}
    pos.execute("UPDATE kitchen_kitchenticket SET status = 'printed'")
    for queue in range(40, 140):
        guests.after(placed(pos, queue))
    changes = [
        (item.void, item.bill != "open", item.merged, item.table > FURTHER)
        for item in items_of(pos)
        if item.bill != "paid"
    ]
    assert all(any(change[at] for change in changes) for at in range(4))
    assert not any(void and cancelled for void, cancelled, _, _ in changes)
    assert not any(moved and (void or cancelled or merged) for void, cancelled, merged, moved in changes)
