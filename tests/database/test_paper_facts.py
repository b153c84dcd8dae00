"""What the paper is told by the database: numbers without gaps, what else was ordered, what is urgent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from kps.core.routing import PrinterRow
from kps.core.tickets import (
    Before,
    NotPrinted,
    Printed,
    Priority,
    ProofLevel,
    Reason,
    Sibling,
    Ticket,
    TicketId,
    Uncertain,
)
from kps.core.work import Work, WorkKind
from kps.database.dispatcher_queue import Claimed
from kps.database.preview import Previewed, UnknownPrinter, preview
from kps.demo.order_book import Line, Order
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
LOST = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)


def printed(house: House, one: Instance, ticket: int, on: str = "kitchen-1") -> Ticket:
    """Print a ticket; answers what its paper said."""
    claimed, sending = one.claim_and_send(ticket, house.row(on))
    one.settle(claimed, PROVEN)
    return sending.ticket


def number(ticket: Ticket) -> int:
    """Its number in the paper chain, which it must have."""
    assert ticket.chain is not None
    return ticket.chain.number


def before(ticket: Ticket) -> Before | None:
    """The ticket before it in the paper chain."""
    assert ticket.chain is not None
    return ticket.chain.before


def bill_of(house: House, ticket: int) -> int:
    """The bill of a ticket."""
    return int(house.ticket(ticket)["bill_id"])


# The paper chain.


def test_tickets_of_a_station_are_numbered_and_name_the_one_before(house: House, one: Instance) -> None:
    first = printed(house, one, house.pos.ticket(table="5"))
    second = printed(house, one, house.pos.ticket(queue_number=7))
    third = printed(house, one, house.pos.ticket(table="VIP"))
    assert [number(paper) for paper in (first, second, third)] == [1, 2, 3]
    assert before(first) is None
    assert [(one.number, one.place, one.printer) for one in (before(second), before(third)) if one] == [
        (1, "T5", ""),
        (2, "Q7", ""),
    ]
    assert before(second).at == first.printed_now or abs(before(second).at - first.printed_now) < timedelta(seconds=5)  # type: ignore[union-attr]


def test_a_number_goes_on_at_the_backup_and_names_the_printer_of_the_one_before(house: House, one: Instance) -> None:
    printed(house, one, house.pos.ticket())
    at_backup = printed(house, one, house.pos.ticket(), on="kitchen-2")
    assert (number(at_backup), before(at_backup).printer) == (2, "kitchen-1")  # type: ignore[union-attr]


def test_a_copy_keeps_the_number_of_the_first_paper(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, first = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, LOST)
    printed(house, one, house.pos.ticket())
    _, copy = one.claim_and_send(ticket, house.row("kitchen-2"))
    assert number(first.ticket) == number(copy.ticket) == 1
    assert before(copy.ticket) is None


def test_a_promise_that_came_to_nothing_keeps_its_number(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, first = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, NotPrinted(Reason.REFUSED, "refused"))
    _, again = one.claim_and_send(ticket, house.row("kitchen-2"))
    assert number(first.ticket) == number(again.ticket)


def test_a_reprint_of_the_pos_keeps_the_number_of_its_original(house: House, one: Instance) -> None:
    original = house.pos.ticket()
    paper = printed(house, one, original)
    printed(house, one, house.pos.ticket())
    assert number(printed(house, one, house.pos.reprint(original))) == number(paper) == 1
    assert number(printed(house, one, house.pos.ticket())) == 3


def test_each_station_and_each_brand_has_numbers_of_its_own(house: House, one: Instance) -> None:
    house.pos.add_brand("OTHER", "Other")
    house.printer("bar-1", "bar")
    house.printer("other-1", brand="OTHER")
    one.acquire(*house.rows())
    assert number(printed(house, one, house.pos.ticket())) == 1
    assert number(printed(house, one, house.pos.ticket(station="bar"), on="bar-1")) == 1
    assert number(printed(house, one, house.pos.ticket(brand="OTHER"), on="other-1")) == 1
    assert number(printed(house, one, house.pos.ticket(station=" Kitchen "))) == 2


def test_numbers_are_unique_and_without_gaps_over_two_instances(house: House, one: Instance, two: Instance) -> None:
    house.let_lease_end(house.row("kitchen-2"))
    two.acquire(house.row("kitchen-2"))
    mine, other = ([house.pos.ticket() for _ in range(15)] for _ in range(2))
    rows = [house.row("kitchen-1"), house.row("kitchen-2")]

    def work(who: Instance, row: PrinterRow, tickets: list[int]) -> list[Ticket]:
        papers = []
        for ticket in tickets:
            claimed, sending = who.claim_and_send(ticket, row)
            who.settle(claimed, PROVEN)
            papers.append(sending.ticket)
        return papers

    with ThreadPoolExecutor(2) as pool:
        papers = [pool.submit(work, one, rows[0], mine), pool.submit(work, two, rows[1], other)]
    found = [paper for future in papers for paper in future.result()]
    assert sorted(map(number, found)) == list(range(1, 31))
    assert all(before(paper).number == number(paper) - 1 for paper in found if number(paper) > 1)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("moment", "zone", "start", "day"),
    [
        ("2026-11-22 20:59:59+00", "Asia/Jakarta", 240, "2026-11-22"),
        ("2026-11-22 21:00:00+00", "Asia/Jakarta", 240, "2026-11-23"),
        ("2026-11-22 23:30:00+00", "UTC", 0, "2026-11-22"),
        ("2026-11-23 01:00:00+00", "UTC", 120, "2026-11-22"),
        ("2026-11-22 12:00:00+00", "Mars/Olympus", 240, "2026-11-22"),
        ("2026-11-22 12:00:00+00", "", 240, "2026-11-22"),
    ],
)
def test_the_day_begins_when_the_house_says_so_in_the_time_of_the_store(
    house: House, moment: str, zone: str, start: int, day: str
) -> None:
    (row,) = house.pos.rows("SELECT kps.local_day(%s, %s, %s)::text AS day", [moment, zone, start])
    assert row["day"] == day


def test_a_new_day_begins_at_one_and_a_copy_of_yesterdays_says_so(house: House, one: Instance) -> None:
    old = house.pos.ticket()
    claimed, _ = one.claim_and_send(old, house.row("kitchen-1"))
    one.settle(claimed, LOST)
    house.pos.execute("UPDATE kps.chain SET day = day - 1")
    house.pos.execute("UPDATE kps.job SET chain_day = chain_day - 1")
    today = printed(house, one, house.pos.ticket())
    assert (number(today), before(today)) == (1, None)
    _, copy = one.claim_and_send(old, house.row("kitchen-1"))
    assert copy.ticket.chain is not None
    assert copy.ticket.chain.day is not None
    assert copy.ticket.chain.number == 1


def test_before_names_the_printer_where_it_came_out_after_all(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, NotPrinted(Reason.REFUSED, "refused"))
    printed(house, one, ticket, on="kitchen-2")
    assert before(printed(house, one, house.pos.ticket())).printer == "kitchen-2"  # type: ignore[union-attr]


def test_a_ticket_with_nothing_to_print_makes_no_gap(house: House, one: Instance) -> None:
    printed(house, one, house.pos.ticket())
    void = house.pos.ticket()
    house.pos.void_item(house.pos.ticket_items(void)[0]["bill_item_id"])
    _, sending = one.claim_and_send(void, house.row("kitchen-1"))
    assert sending.ticket.chain is None
    one.release_dead(house.row("kitchen-1"))
    assert number(printed(house, one, house.pos.ticket())) == 2


# What else was ordered.


def test_the_paper_names_the_other_stations_of_the_order_and_their_items(house: House, one: Instance) -> None:
    lines = (Line("Soto", 2), Line("Es Teh", 3, "bar"), Line("Kopi", 1, "bar"), Line("Pisang", 1, "dessert"))
    kitchen, *_ = house.pos.place(Order(lines=lines, table="5"))
    assert house.ticket(kitchen)["printer_target"] == "kitchen"
    paper = printed(house, one, kitchen)
    assert paper.also_at == (Sibling("BAR", 4), Sibling("DESSERT", 1))
    assert not paper.add_on


def test_an_earlier_order_of_the_bill_is_no_sibling_but_makes_an_add_on(house: House, one: Instance) -> None:
    first = house.pos.place(Order(lines=(Line("Soto"), Line("Es Teh", 1, "bar")), table="5"))
    bill = bill_of(house, first[0])
    house.pos.execute("UPDATE kitchen_kitchenticket SET created_at = created_at - interval '20 minutes'")
    assert not printed(house, one, first[0]).add_on
    (more, _) = house.pos.order_more(bill, [Line("Sate")])
    paper = printed(house, one, more)
    assert (paper.add_on, paper.also_at) == (True, ())
    assert printed(house, one, house.pos.reprint(more)).add_on
    assert not printed(house, one, house.pos.reprint(first[0])).add_on


def test_a_kitchen_of_another_brand_is_a_sibling_and_makes_no_add_on(house: House, one: Instance) -> None:
    other = house.pos.add_brand("OTHER", "Other")
    house.printer("other-1", brand="OTHER")
    one.acquire(*house.rows())
    (mine, _) = house.pos.place(Order(lines=(Line("Soto", 2),), table="5"))
    (theirs, _) = house.pos.order_more(bill_of(house, mine), [Line("Sate", 3)])
    house.pos.execute("UPDATE kitchen_kitchenticket SET brand_id = %s WHERE id = %s", [other, theirs])
    paper = printed(house, one, theirs, on="other-1")
    assert (number(paper), paper.add_on, paper.also_at) == (1, False, (Sibling("KITCHEN", 2),))


def test_a_ticket_that_failed_makes_no_add_on(house: House, one: Instance) -> None:
    (first, _) = house.pos.place(Order(lines=(Line("Soto"),), table="5"))
    house.pos.mark_failed(first)
    (more, _) = house.pos.order_more(bill_of(house, first), [Line("Sate")])
    assert not printed(house, one, more).add_on


@pytest.mark.parametrize("priority", list(Priority))
def test_the_kitchen_order_tells_what_is_urgent(house: House, one: Instance, priority: Priority) -> None:
    (kitchen, checker) = house.pos.place(Order(lines=(Line("Soto"),), table="5", priority=priority.value))  # type: ignore[arg-type]
    (calm, _) = house.pos.order_more(bill_of(house, kitchen), [Line("Sate")])
    house.printer("checker-1", "checker")
    one.acquire(*house.rows())
    assert printed(house, one, kitchen).priority is priority
    assert printed(house, one, checker, on="checker-1").priority is priority
    assert printed(house, one, calm).priority is Priority.NORMAL


def test_ready_by_is_the_order_and_the_time_of_the_station(house: House, one: Instance) -> None:
    ordered = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=3)
    house.pos.execute("UPDATE kitchen_kitchenstation SET target_prep_time = 12 WHERE code = 'kitchen'")
    house.pos.execute("UPDATE kitchen_kitchenstation SET target_prep_time = 0 WHERE code = 'bar'")
    house.printer("bar-1", "bar")
    one.acquire(*house.rows())
    assert printed(house, one, house.pos.ticket(created_at=ordered)).ready_by == ordered + timedelta(minutes=12)
    assert printed(house, one, house.pos.ticket(station="bar"), on="bar-1").ready_by is None
    one.queue.learn_pos_clock(360.0)
    by_the_wall = ordered + timedelta(minutes=12 + 6)
    assert printed(house, one, house.pos.ticket(created_at=ordered)).ready_by == by_the_wall


def test_items_of_a_cancelled_bill_are_void_before_they_are_printed(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    house.pos.close_bill(bill_of(house, ticket), "cancelled")
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert [item.void for item in sending.ticket.items] == [True]


def test_the_reason_of_a_failover_is_on_the_paper(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.database.run(
        one.queue.sql.tickets.claim, ids=[ticket], tokens=[0], keys=[house.row("kitchen-2").key],
        epochs=[one.epochs[house.row("kitchen-2").key]], rows=[house.row("kitchen-2").id], names=["kitchen-2"],
        backups=["kitchen-1"], backup_keys=[house.row("kitchen-1").key], reasons=["paper_out"], me=one.me,
        instance=one.name,
    )  # fmt: skip
    work = Work(WorkKind.TICKET, ticket, house.job(ticket)["token"])
    marks = one.send(Claimed(house.row("kitchen-2").key, work)).ticket.marks
    assert (marks.backup_for, marks.backup_reason) == ("kitchen-1", "paper_out")


def test_the_make_of_the_printer_reaches_the_paper(house: House, one: Instance) -> None:
    house.pos.execute("UPDATE kps.printer SET model = 'EPSON TM-T20III'")
    _, sending = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    assert sending.paper.model == "EPSON TM-T20III"


# The preview.


def next_copy(one: Instance, ticket: int, printer: str = "") -> Previewed:
    """What the next copy would be, which must be something."""
    found = preview(one.database, one.queue.pos, TicketId(ticket), printer)
    assert found is not None
    return found


def test_a_preview_shows_the_next_copy_and_changes_nothing(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(table="5")
    assert next_copy(one, ticket).ticket.chain is None
    assert (next_copy(one, ticket).printer_name, house.job(ticket), house.status(ticket)) == ("kitchen-1", {}, "new")
    printed(house, one, ticket)
    jobs = house.job(ticket)
    shown = next_copy(one, ticket).ticket
    assert (number(shown), shown.marks.reprint is not None, house.job(ticket)) == (1, True, jobs)
    at_backup = next_copy(one, ticket, " KITCHEN-2 ")
    assert (at_backup.printer_name, at_backup.ticket.marks.backup_for) == ("kitchen-2", "kitchen-1")


def test_a_preview_of_what_is_not_there_says_so(house: House, one: Instance) -> None:
    assert preview(one.database, house.schema, TicketId(4711)) is None
    with pytest.raises(UnknownPrinter) as unknown:
        preview(one.database, house.schema, TicketId(house.pos.ticket()), "kitchen-9")
    assert unknown.value.known == ["kitchen-1", "kitchen-2"]


def test_a_preview_of_a_ticket_without_a_printer_is_on_usual_paper(house: House, one: Instance) -> None:
    assert next_copy(one, house.pos.ticket(station="grill")).printer_name == ""
