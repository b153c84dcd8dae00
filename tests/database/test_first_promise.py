"""The short way to a promise is the long way's twin, and is taken for a first copy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Token, Uncertain
from kps.database.connection import Statement
from kps.database.dispatcher_queue import Claimed
from kps.database.statements.paper import Paper
from kps.demo.order_book import Line
from tests.database.house import House, Instance, named

PROVEN = Printed(ProofLevel.FENCE, 300)
LOST = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)
MOMENTS = {"printed_now", "process_id", "sending_at", "process_ids", "printed_at", "at"}
"""What may differ between two promises of the same ticket: times, and numbers of which no two are the same."""

Story = Callable[[House, Instance], int]


def promise(one: Instance, statement: Statement[Paper], claimed: Claimed) -> list[Paper]:
    """Run one of the two statements, as it is."""
    return one.database.run(statement, ticket=claimed.work.id, token=claimed.work.token, need=2.0, day_start=240)


def left(one: Instance) -> dict[str, list[dict[str, Any]]]:
    """All that a promise may have changed, but for the moments."""
    tables = {
        "kps.job": "ticket_id",
        "kps.chain": "station, brand, day",
        "kps.printed_item": "ticket_id, bill_item_id",
        "kitchen_kitchenticket": "id",
    }
    return {
        table: [known(row) for row in named(one.database, f"SELECT * FROM {table} ORDER BY {order}")]
        for table, order in tables.items()
    }


def known(row: Any) -> dict[str, Any]:
    """A row without its moments."""
    return {name: value for name, value in row._asdict().items() if name not in MOMENTS}


def plain(house: House, _: Instance) -> int:
    return house.pos.ticket(table="5")


def takeaway(house: House, _: Instance) -> int:
    return house.pos.ticket(queue_number=42)


def checker(house: House, _: Instance) -> int:
    return house.pos.ticket("checker", items=[Line("Soto", 1, "kitchen"), Line("Es Teh", 1, "bar")])


def second_of_the_day(house: House, one: Instance) -> int:
    claimed, _ = one.claim_and_send(house.pos.ticket(table="4"), house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    return house.pos.ticket(table="5")


def with_a_void_item(house: House, _: Instance) -> int:
    ticket = house.pos.ticket(items=[Line("Soto", 1, "kitchen"), Line("Sate", 2, "kitchen")])
    house.pos.execute(
        "UPDATE pos_billitem SET is_void = true WHERE id = (SELECT min(bill_item_id) FROM kitchen_kitchenticketitem"
        " WHERE kitchen_ticket_id = %s)",
        [ticket],
    )
    return ticket


def all_void(house: House, _: Instance) -> int:
    ticket = house.pos.ticket()
    house.pos.execute("UPDATE pos_billitem SET is_void = true")
    return ticket


def added_to_an_order(house: House, one: Instance) -> int:
    first, second = house.pos.ticket(table="5"), house.pos.ticket(table="5")
    claimed, _ = one.claim_and_send(first, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    house.pos.execute(
        "UPDATE kitchen_kitchenticket SET bill_id = (SELECT bill_id FROM kitchen_kitchenticket WHERE id = %s)"
        " WHERE id = %s",
        [first, second],
    )
    return second


@pytest.mark.parametrize(
    "story", [plain, takeaway, checker, second_of_the_day, with_a_void_item, all_void, added_to_an_order]
)
def test_both_ways_say_and_leave_the_same(house: House, one: Instance, story: Story) -> None:
    claimed = one.claim(story(house, one), house.row("kitchen-1"))
    seen = []
    for statement in (one.queue.sql.tickets.promise_first, one.queue.sql.tickets.promise):
        one.database.query("BEGIN")
        (said,) = promise(one, statement, claimed)
        seen.append((known(said), left(one)))
        one.database.query("ROLLBACK")

    short, long = seen

    assert short[0] == long[0]
    assert short[1] == long[1]
    assert [job["state"] for job in short[1]["kps.job"] if job["ticket_id"] == claimed.work.id] == ["sending"]


def second_copy(house: House, one: Instance) -> int:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-2"))
    one.settle(claimed, LOST)
    return ticket


def copy_after_one_that_came_to_nothing(house: House, one: Instance) -> int:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-2"))
    one.settle(claimed, NotPrinted(Reason.CONNECTION_LOST, "closed"))
    return ticket


def tried_by_others(house: House, _: Instance) -> int:
    ticket = house.pos.ticket()
    house.pos.execute("UPDATE kitchen_kitchenticket SET print_attempts = 1 WHERE id = %s", [ticket])
    return ticket


def reprint(house: House, one: Instance) -> int:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-2"))
    one.settle(claimed, PROVEN)
    return house.pos.reprint(ticket)


def reprinted(house: House, one: Instance) -> int:
    ticket = house.pos.ticket()
    house.pos.reprint(ticket)
    return ticket


@pytest.mark.parametrize(
    "story", [second_copy, copy_after_one_that_came_to_nothing, tried_by_others, reprint, reprinted]
)
def test_the_short_way_is_for_a_first_copy_only(house: House, one: Instance, story: Story) -> None:
    claimed = one.claim(story(house, one), house.row("kitchen-1"))
    before = left(one)

    assert promise(one, one.queue.sql.tickets.promise_first, claimed) == []
    assert left(one) == before
    assert one.send(claimed).ticket.id == claimed.work.id


def test_the_short_way_wants_token_and_lease_too(house: House, one: Instance) -> None:
    claimed = one.claim(house.pos.ticket(), house.row("kitchen-1"))
    before = left(one)

    def refused(claimed: Claimed) -> bool:
        return promise(one, one.queue.sql.tickets.promise_first, claimed) == []

    assert refused(replace(claimed, work=replace(claimed.work, token=Token(claimed.work.token + 1))))
    assert refused(replace(claimed, work=replace(claimed.work, id=claimed.work.id + 1)))
    house.pos.execute("UPDATE kps.printer SET expires_at = clock_timestamp() + interval '1 second'")
    assert refused(claimed)
    house.pos.execute("UPDATE kps.printer SET expires_at = clock_timestamp() + interval '1 minute', epoch = epoch + 1")
    assert refused(claimed)
    assert left(one) == before
