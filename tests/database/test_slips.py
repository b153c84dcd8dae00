"""What a station must know of what is on its paper already: told once, whoever sees it, never for nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from kps.core.routing import ClaimFor
from kps.core.slips import CatchUpSlip, ChangeKind, ChangeSlip, OutageSlip, Slip
from kps.core.tickets import NotPrinted, Outcome, Printed, ProofLevel, Reason, Token, Uncertain
from kps.core.work import Work, WorkKind
from kps.database.dispatcher_queue import WaitingSlip
from kps.database.printer_queue import ClaimLost, LeaseEnded
from kps.demo.order_book import Line, Order
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
LOST = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)
MINUTES = 45.0


def make(one: Instance, minutes: float = MINUTES, stations: frozenset[str] | None = None) -> int:
    """Look for what has happened; answers how many slips that has made."""
    return one.queue.make_slips(minutes=minutes, stations=stations).count


def claim(house: House, one: Instance, slip: WaitingSlip, on: str = "kitchen-1") -> list[Work]:
    """Take a slip for a printer; [] = somebody else has it."""
    row = house.row(on)
    taken = one.queue.claim(WorkKind.SLIP, [(slip, ClaimFor(row, ""), one.epochs[row.key])])
    return [claimed.work for claimed in taken]


def promise(house: House, one: Instance, work: Work, on: str = "kitchen-1") -> Slip:
    """Promise that bytes may leave; answers what the paper says."""
    content = one.queue.promise(work, [house.row(on).id], need_s=1.0, late_after_minutes=5.0).content
    assert isinstance(content, Slip)
    return content


def take(house: House, one: Instance, on: str = "kitchen-1") -> tuple[Work, Slip]:
    """The oldest open slip, promised at a printer."""
    (work,) = claim(house, one, one.queue.look_slips()[0], on)
    return work, promise(house, one, work, on)


def settle(one: Instance, work: Work, outcome: Outcome, again_s: float = 1.0) -> None:
    """Write what became of it."""
    one.queue.settle(work, outcome, duration_ms=40, again_s=again_s)


def told(house: House, one: Instance, on: str = "kitchen-1") -> Any:
    """Print the oldest open slip; answers what it said."""
    work, slip = take(house, one, on)
    settle(one, work, PROVEN)
    return slip.content


def printed(house: House, one: Instance, ticket: int, on: str = "kitchen-1", backup_for: str = "") -> None:
    """Print a ticket."""
    row = house.row(on)
    first = house.row(backup_for).key if backup_for else None
    claim = ClaimFor(row, backup_for, first, "paper_out" if backup_for else "")
    (claimed,) = one.queue.claim(WorkKind.TICKET, [(one.seen(ticket), claim, one.epochs[row.key])])
    one.send(claimed)
    one.settle(claimed, PROVEN)


def order(house: House, one: Instance, *dishes: tuple[str, int], table: str | None = "5") -> tuple[int, list[int]]:
    """A printed ticket of these dishes; answers its bill and its bill items."""
    ticket = house.pos.ticket(items=list(dishes) or [("Soto", 2)], table=table, queue_number=None if table else 9)
    printed(house, one, ticket)
    return int(house.ticket(ticket)["bill_id"]), [row["bill_item_id"] for row in house.pos.ticket_items(ticket)]


def slips(house: House) -> list[dict[str, Any]]:
    """All slips, oldest first."""
    return [dict(row) for row in house.pos.rows("SELECT * FROM kps.slip ORDER BY id")]


# VOID.


def test_an_item_that_is_voided_after_its_print_is_told_once(house: House, one: Instance) -> None:
    _, (soto, _) = order(house, one, ("Soto", 2), ("Sate", 1))
    assert make(one) == 0
    house.pos.void_item(soto, "Salah pesan")
    assert make(one) == 1
    assert make(one) == 0
    said = told(house, one)
    assert isinstance(said, ChangeSlip)
    assert (said.kind, said.station, said.table, said.new_table) == (ChangeKind.VOID, "kitchen", "5", "")
    ((item,)) = said.items
    assert (item.quantity, item.name, item.reason, item.number, item.printer) == (
        2, "Soto", "Salah pesan", 1, "kitchen-1",
    )  # fmt: skip
    assert one.queue.look_slips() == []
    assert make(one) == 0


def test_slips_are_asked_for_as_long_as_one_is_open(house: House, one: Instance) -> None:
    def look() -> tuple[int, bool]:
        found = one.queue.make_slips(minutes=MINUTES, stations=None)
        return found.count, found.any_open

    _, items = order(house, one)
    assert look() == (0, False)
    house.pos.void_item(items[0])
    assert look() == (1, True)
    work, _ = take(house, one)
    assert look() == (0, True)
    settle(one, work, PROVEN)
    assert look() == (0, False)


def test_items_voided_together_are_on_one_slip(house: House, one: Instance) -> None:
    _, items = order(house, one, ("Soto", 2), ("Sate", 1), ("Nasi", 1))
    for item in items[:2]:
        house.pos.void_item(item)
    assert make(one) == 1
    assert [item.name for item in told(house, one).items] == ["Soto", "Sate"]
    house.pos.void_item(items[2])
    assert make(one) == 1
    assert [item.name for item in told(house, one).items] == ["Nasi"]


def test_an_item_that_was_voided_before_its_print_is_never_told(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(items=[("Soto", 2), ("Sate", 1)], table="5")
    house.pos.void_item(house.pos.ticket_items(ticket)[0]["bill_item_id"])
    printed(house, one, ticket)
    assert make(one) == 0


def test_an_item_on_two_papers_of_a_station_is_told_once_and_at_each_station(house: House, one: Instance) -> None:
    house.printer("checker-1", "checker")
    one.acquire(*house.rows())
    kitchen, checker = house.pos.place(Order(lines=(Line("Soto", 2),), table="5"))
    printed(house, one, kitchen)
    printed(house, one, house.pos.reprint(kitchen))
    printed(house, one, checker, on="checker-1")
    house.pos.void_item(house.pos.ticket_items(kitchen)[0]["bill_item_id"])
    assert make(one) == 2
    assert [slip["station"] for slip in slips(house)] == ["checker", "kitchen"]
    assert all(len(slip["content"]["items"]) == 1 for slip in slips(house))


def test_a_void_is_told_only_when_no_copy_is_under_way(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(items=[("Soto", 2), ("Sate", 1)], table="5")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.void_item(house.pos.ticket_items(ticket)[0]["bill_item_id"])
    assert make(one) == 0
    one.settle(claimed, LOST)
    assert make(one) == 0
    again, sending = one.claim_and_send(ticket, house.row("kitchen-2"))
    assert [item.void for item in sending.ticket.items] == [True, False]
    one.settle(again, PROVEN)
    assert make(one) == 1


def test_nothing_is_told_of_a_ticket_that_never_reached_paper(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(table="5")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, NotPrinted(Reason.REFUSED, "refused"))
    house.pos.mark_failed(ticket)
    house.pos.execute("UPDATE kps.job SET state = 'failed'")
    house.pos.void_item(house.pos.ticket_items(ticket)[0]["bill_item_id"])
    assert make(one) == 0


def test_a_void_after_too_long_is_not_told(house: House, one: Instance) -> None:
    _, (soto,) = order(house, one)
    house.pos.execute("UPDATE kps.printed_item SET printed_at = printed_at - interval '46 minutes'")
    house.pos.void_item(soto)
    assert make(one) == 0
    assert make(one, minutes=60.0) == 1


def test_a_switched_off_station_is_not_told_by_that_instance(house: House, one: Instance, two: Instance) -> None:
    _, (soto,) = order(house, one)
    house.pos.void_item(soto)
    assert make(two, stations=frozenset({"bar"})) == 0
    assert make(two, stations=frozenset()) == 0
    assert make(one) == 1


@pytest.mark.parametrize(
    ("own", "made"),
    [
        ({"own_stations": frozenset({"bar"})}, 0),
        ({"own_brands": frozenset({"other"})}, 0),
        ({"own_stations": frozenset({"kitchen"}), "own_brands": frozenset({"dapur"})}, 1),
    ],
)
def test_an_instance_tells_only_what_it_serves(
    house: House, one: Instance, own: dict[str, frozenset[str]], made: int
) -> None:
    _, (soto,) = order(house, one)
    house.pos.void_item(soto)
    assert one.queue.make_slips(minutes=MINUTES, stations=None, **own).count == made
    assert make(one) == 1 - made, "the others tell it"


def test_no_change_is_told_when_slips_are_off(house: House, one: Instance) -> None:
    _, (soto,) = order(house, one)
    house.pos.void_item(soto)
    assert make(one, minutes=0.0) == 0


@pytest.mark.parametrize("status", ["paid", "completed", "closed"])
def test_a_paid_bill_is_never_told(house: House, one: Instance, status: str) -> None:
    bill, (soto,) = order(house, one)
    house.pos.close_bill(bill, status)
    house.pos.void_item(soto)
    house.pos.move_table(bill, "8")
    assert make(one) == 0


def test_rows_that_vanished_are_never_told(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(table="5")
    printed(house, one, ticket)
    house.pos.void_item(house.pos.ticket_items(ticket)[0]["bill_item_id"])
    house.pos.delete_ticket(ticket)
    one.database.run(one.queue.sql.sweep, me=one.me, after=0)
    assert make(one) == 0


# CANCELLED and TABLE CHANGED.


def test_a_cancelled_bill_is_told_to_every_station_that_has_it_on_paper(house: House, one: Instance) -> None:
    house.printer("bar-1", "bar")
    house.printer("dessert-1", "dessert")
    one.acquire(*house.rows())
    lines = (Line("Soto", 2), Line("Teh", 1, "bar"), Line("Es", 1, "dessert"))
    kitchen, bar, *_ = house.pos.place(Order(lines=lines, table="5"))
    printed(house, one, kitchen)
    printed(house, one, bar, on="bar-1")
    house.pos.close_bill(int(house.ticket(kitchen)["bill_id"]), "cancelled")
    assert make(one) == 2
    assert [(slip["kind"], slip["station"]) for slip in slips(house)] == [
        ("cancelled", "bar"),
        ("cancelled", "kitchen"),
    ]
    assert make(one) == 0


def test_a_moved_bill_is_told_with_both_tables_each_time(house: House, one: Instance) -> None:
    bill, _ = order(house, one, ("Soto", 2), ("Sate", 1))
    house.pos.move_table(bill, "8")
    assert make(one) == 1
    said = told(house, one)
    assert (said.kind, said.table, said.new_table, len(said.items)) == (ChangeKind.MOVED, "5", "8", 2)
    house.pos.move_table(bill, "5")
    assert make(one) == 1
    house.pos.move_table(bill, "8")
    assert make(one) == 1
    assert [(slip["content"]["table"], slip["content"]["new_table"]) for slip in slips(house)] == [
        ("5", "8"), ("8", "5"), ("5", "8"),
    ]  # fmt: skip
    house.pos.close_bill(bill, "cancelled")
    assert make(one) == 1, "a bill that has moved may still be cancelled"


def test_a_takeaway_that_gets_a_table_has_not_moved(house: House, one: Instance) -> None:
    bill, (soto,) = order(house, one, table=None)
    house.pos.move_table(bill, "8")
    assert make(one) == 0
    house.pos.void_item(soto)
    assert make(one) == 1
    assert told(house, one).table == "8"


def test_merged_bills_are_no_change_and_are_judged_by_where_the_items_are_now(house: House, one: Instance) -> None:
    source, (soto,) = order(house, one, table="5")
    into, _ = order(house, one, ("Sate", 1), table="8")
    house.pos.merge_bills(source, into)
    assert make(one) == 0
    house.pos.move_table(into, "9")
    assert make(one) == 1
    assert len(told(house, one).items) == 2
    house.pos.void_item(soto)
    assert make(one) == 1


def test_bills_that_were_merged_before_the_print_have_not_moved(house: House, one: Instance) -> None:
    source = house.pos.ticket(items=[("Soto", 1)], table="5")
    into = house.pos.ticket(items=[("Sate", 1)], table="8")
    house.pos.merge_bills(int(house.ticket(source)["bill_id"]), int(house.ticket(into)["bill_id"]))
    printed(house, one, source)
    assert make(one) == 0
    house.pos.void_item(house.pos.ticket_items(source)[0]["bill_item_id"])
    assert make(one) == 1
    assert told(house, one).table == "5 -> 8"


def test_a_split_is_no_void_and_a_void_after_it_names_what_is_left(house: House, one: Instance) -> None:
    _, (soto,) = order(house, one, ("Soto", 3))
    house.pos.split_item(soto, 2)
    assert make(one) == 0
    house.pos.void_item(soto)
    assert make(one) == 1
    assert [item.quantity for item in told(house, one).items] == [1]


def test_changes_that_differ_never_get_the_same_key(house: House, one: Instance) -> None:
    into, (x,) = order(house, one, ("X", 1), table="8")
    source, (y,) = order(house, one, ("Y", 1), table="5")
    house.pos.merge_bills(source, into)
    assert make(one) == 0
    (z, _) = house.pos.order_more(into, [Line("Z")])
    printed(house, one, z)
    house.pos.move_table(into, "9")
    assert make(one) == 1
    house.pos.void_item(y)
    house.pos.move_table(into, "10")
    assert make(one) == 2
    assert len({slip["dedupe_key"] for slip in slips(house)}) == 3
    assert x != y


def test_a_promise_that_came_to_nothing_is_no_paper(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(items=[("Soto", 2), ("Sate", 1)], table="5")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, NotPrinted(Reason.CONNECTION_LOST, "lost"))
    soto, sate = (row["bill_item_id"] for row in house.pos.ticket_items(ticket))
    house.pos.void_item(soto)
    house.pos.move_table(int(house.ticket(ticket)["bill_id"]), "8")
    house.pos.execute("UPDATE kps.printed_item SET printed_at = printed_at - interval '50 minutes'")
    printed(house, one, ticket, on="kitchen-2")
    assert make(one) == 0, "the only paper says table 8, and no soto"
    house.pos.void_item(sate)
    assert make(one) == 1, "the time begins with the paper"


def test_what_was_voided_and_wanted_again_is_told_again(house: House, one: Instance) -> None:
    _, (soto,) = order(house, one)
    house.pos.void_item(soto)
    assert make(one) == 1
    told(house, one)
    house.pos.execute("UPDATE pos_billitem SET is_void = false WHERE id = %s", [soto])
    (ticket,) = (row["id"] for row in house.pos.rows("SELECT id FROM kitchen_kitchenticket"))
    house.pos.reset_to_new(ticket)
    printed(house, one, ticket)
    house.pos.void_item(soto)
    assert make(one) == 1


def test_a_void_names_the_table_of_the_paper_and_the_one_of_now(house: House, one: Instance) -> None:
    bill, (soto,) = order(house, one, table="5")
    house.pos.move_table(bill, "8")
    house.pos.void_item(soto)
    assert make(one) == 1
    assert told(house, one).table == "5 -> 8"


def test_a_table_that_is_taken_away_for_a_while_is_a_move_all_the_same(house: House, one: Instance) -> None:
    bill, _ = order(house, one, table="5")
    house.pos.execute("UPDATE pos_bill SET table_id = NULL WHERE id = %s", [bill])
    assert make(one) == 0
    house.pos.move_table(bill, "8")
    assert make(one) == 1
    said = told(house, one)
    assert (said.table, said.new_table) == ("5", "8")


def test_a_bill_that_has_lost_its_table_is_not_written_down_at_each_look(house: House, one: Instance) -> None:
    bill, _ = order(house, one, table="5")
    before = house.pos.rows("SELECT xmin, moves FROM kps.printed_item")
    house.pos.execute("UPDATE pos_bill SET table_id = NULL WHERE id = %s", [bill])
    assert make(one) == 0
    assert house.pos.rows("SELECT xmin, moves FROM kps.printed_item") == before


def test_blanks_around_a_table_number_are_no_move(house: House, one: Instance) -> None:
    order(house, one, table="5")
    house.pos.execute("UPDATE tables_table SET number = ' 5 ' WHERE number = '5'")
    assert make(one) == 0


def test_an_item_on_two_tickets_is_told_with_both(house: House, one: Instance) -> None:
    first = house.pos.ticket(items=[("Soto", 1)], table="5")
    printed(house, one, first)
    (item,) = house.pos.ticket_items(first)
    second = house.pos.ticket(items=[("Sate", 1)], table="5")
    house.pos.execute(
        "UPDATE kitchen_kitchenticketitem SET bill_item_id = %s WHERE kitchen_ticket_id = %s",
        [item["bill_item_id"], second],
    )
    printed(house, one, second)
    house.pos.void_item(item["bill_item_id"])
    assert make(one) == 1
    assert [found.number for found in told(house, one).items] == [1, 2]


def test_several_instances_tell_a_change_once(house: House, one: Instance, two: Instance) -> None:
    bills = [order(house, one, ("Soto", 1), ("Sate", 1)) for _ in range(12)]
    for number, (bill, (soto, _)) in enumerate(bills):
        if number % 3 == 0:
            house.pos.void_item(soto)
        elif number % 3 == 1:
            house.pos.close_bill(bill, "cancelled")
        else:
            house.pos.move_table(bill, "77")
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            list(pool.map(make, (one, two)))
    assert len(slips(house)) == 12


# Outage and catch-up.


def down(house: House, one: Instance, name: str, state: str = "paper_out") -> None:
    """The printer says what it is like."""
    row = house.row(name)
    assert one.queue.set_state(
        row.key, one.epochs[row.key], state=state, text="", paper="unknown", response_ms=1, answers=True
    )


def test_an_outage_is_told_once_at_the_backup_and_the_return_once_at_the_printer(house: House, one: Instance) -> None:
    for name in ("kitchen-1", "kitchen-2"):
        down(house, one, name, "ready")
    down(house, one, "kitchen-1")
    assert make(one) == 0
    tickets = [house.pos.ticket(table=table) for table in ("5", "6")]
    printed(house, one, tickets[0], on="kitchen-2", backup_for="kitchen-1")
    assert make(one) == 1
    printed(house, one, tickets[1], on="kitchen-2", backup_for="kitchen-1")
    assert make(one) == 0
    slip = one.queue.look_slips()[0]
    assert slip.target == house.row("kitchen-2").key
    outage = told(house, one, on="kitchen-2")
    assert isinstance(outage, OutageSlip)
    assert (outage.printer, outage.reason, outage.since is not None) == ("kitchen-1", "paper_out", True)
    down(house, one, "kitchen-1", "ready")
    waiting = house.pos.ticket(table="7")
    assert make(one) == 1
    assert make(one) == 0
    assert one.queue.look_slips()[0].target == house.row("kitchen-1").key
    back = told(house, one)
    assert isinstance(back, CatchUpSlip)
    assert [(gone.ticket, gone.number, gone.place, gone.printer) for gone in back.went_elsewhere] == [
        (tickets[0], 1, "T5", "kitchen-2"), (tickets[1], 2, "T6", "kitchen-2"),
    ]  # fmt: skip
    assert back.maybe_twice == ()
    assert [(one.ticket, one.place) for one in back.waiting] == [(waiting, "T7")]
    down(house, one, "kitchen-1", "cover_open")
    printed(house, one, house.pos.ticket(), on="kitchen-2", backup_for="kitchen-1")
    assert make(one) == 1, "another outage"


def test_the_catch_up_slip_names_what_may_be_on_the_rail_twice(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(table="5")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, LOST)
    printed(house, one, ticket, on="kitchen-2", backup_for="kitchen-1")
    down(house, one, "kitchen-1", "ready")
    assert make(one) == 1
    back = told(house, one)
    assert (len(back.went_elsewhere), [gone.ticket for gone in back.maybe_twice]) == (0, [ticket])


def test_the_catch_up_slip_waits_for_tickets_that_are_under_way_elsewhere(house: House, one: Instance) -> None:
    printed(house, one, house.pos.ticket(), on="kitchen-2", backup_for="kitchen-1")
    row = house.row("kitchen-2")
    claim = ClaimFor(row, "kitchen-1", house.row("kitchen-1").key)
    (claimed,) = one.queue.claim(WorkKind.TICKET, [(one.seen(house.pos.ticket()), claim, one.epochs[row.key])])
    down(house, one, "kitchen-1", "ready")
    assert make(one) == 0
    one.send(claimed)
    one.settle(claimed, PROVEN)
    assert make(one) == 1
    assert len(told(house, one).went_elsewhere) == 2


# Printing them.


def a_slip(house: House, one: Instance) -> None:
    """One open slip."""
    _, (soto,) = order(house, one)
    house.pos.void_item(soto)
    assert make(one) == 1


def test_a_slip_is_claimed_by_one_printer_only(house: House, one: Instance, two: Instance) -> None:
    a_slip(house, one)
    house.let_lease_end(house.row("kitchen-2"))
    two.acquire(house.row("kitchen-2"))
    slip = one.queue.look_slips()[0]
    assert claim(house, one, slip) != []
    assert claim(house, two, slip, "kitchen-2") == []
    assert two.queue.look_slips() == []


def test_a_slip_that_may_be_out_already_is_marked(house: House, one: Instance) -> None:
    a_slip(house, one)
    work, slip = take(house, one)
    assert not slip.possible_duplicate
    settle(one, work, LOST, again_s=0.0)
    _, again = take(house, one, "kitchen-2")
    assert (again.possible_duplicate, again.check_printers) == (True, ("kitchen-1",))


def test_a_slip_of_which_no_byte_left_is_not_marked(house: House, one: Instance) -> None:
    a_slip(house, one)
    work, _ = take(house, one)
    settle(one, work, NotPrinted(Reason.REFUSED, "refused"), again_s=0.0)
    assert not take(house, one, "kitchen-2")[1].possible_duplicate


def test_a_slip_whose_printer_died_in_mid_sending_is_marked(house: House, one: Instance) -> None:
    a_slip(house, one)
    take(house, one)
    assert one.queue.look_slips() == []
    one.release_dead(house.row("kitchen-1"))
    _, again = take(house, one, "kitchen-2")
    assert (again.possible_duplicate, again.check_printers) == (True, ("kitchen-1",))


def test_a_slip_that_was_only_claimed_goes_back_unmarked(house: House, one: Instance) -> None:
    a_slip(house, one)
    row = house.row("kitchen-1")
    (work,) = claim(house, one, one.queue.look_slips()[0])
    assert one.queue.reconcile(row.key, [work.token]).released == 0
    assert one.queue.reconcile(row.key, []).released == 1
    (again,) = one.queue.look_slips()
    (work,) = claim(house, one, again)
    assert one.queue.release([work], "stopping").count == 1
    with pytest.raises(ClaimLost):
        promise(house, one, work)
    assert not take(house, one)[1].possible_duplicate


def test_a_lease_that_has_ended_forbids_the_first_byte_of_a_slip(house: House, one: Instance) -> None:
    a_slip(house, one)
    (work,) = claim(house, one, one.queue.look_slips()[0])
    house.let_lease_end(house.row("kitchen-1"))
    with pytest.raises(LeaseEnded):
        promise(house, one, work)


def test_an_outcome_that_is_written_twice_counts_once(house: House, one: Instance) -> None:
    a_slip(house, one)
    work, _ = take(house, one)
    settle(one, work, PROVEN)
    settle(one, work, PROVEN)
    with pytest.raises(ClaimLost):
        settle(one, replace(work, token=Token(1)), PROVEN)
    assert slips(house)[0]["state"] == "printed"


def test_a_slip_waits_a_moment_after_a_failed_try_and_ends_in_time(house: House, one: Instance) -> None:
    a_slip(house, one)
    work, _ = take(house, one)
    settle(one, work, LOST, again_s=30.0)
    (waiting,) = one.queue.look_slips()
    assert (waiting.waits, waiting.over) == (True, False)
    house.pos.execute("UPDATE kps.slip SET expires_at = clock_timestamp()")
    (over,) = one.queue.look_slips()
    assert over.over
    assert one.queue.give_up(WorkKind.SLIP, [over], error="too old") == [over.id]
    assert one.queue.give_up(WorkKind.SLIP, [over], error="too old") == []
    assert one.queue.look_slips() == []


def test_slips_that_nobody_can_print_keep_no_other(house: House, one: Instance) -> None:
    house.printer("bar-1", "bar")
    one.acquire(*house.rows())
    ticket = house.pos.ticket(items=[(f"Dish{n}", 1) for n in range(60)], table="5")
    printed(house, one, ticket)
    drink = house.pos.ticket("bar", [("Teh", 1)], table="5")
    printed(house, one, drink, on="bar-1")
    for item in house.pos.ticket_items(ticket):
        house.pos.void_item(item["bill_item_id"])
        make(one)
    house.pos.void_item(house.pos.ticket_items(drink)[0]["bill_item_id"])
    assert make(one) == 1
    assert [slip.station for slip in one.queue.look_slips()] == ["kitchen"] * 5 + ["bar"]


def test_a_slip_is_sent_three_times_at_most(house: House, one: Instance) -> None:
    a_slip(house, one)
    for _ in range(3):
        assert not one.queue.look_slips()[0].over
        work, _ = take(house, one)
        settle(one, work, LOST, again_s=0.0)
    assert one.queue.look_slips()[0].over


def test_a_slip_under_way_goes_on_when_its_own_lapsed_lease_is_taken_again(house: House, one: Instance) -> None:
    a_slip(house, one)
    work, _ = take(house, one)
    row = house.row("kitchen-1")
    house.let_lease_end(row)
    one.acquire(row)
    assert one.queue.look_slips() == []
    settle(one, work, PROVEN)
    assert slips(house)[0]["state"] == "printed"


def test_a_printer_is_not_let_go_with_a_slip_in_hand(house: House, one: Instance, two: Instance) -> None:
    a_slip(house, one)
    work, _ = take(house, one)
    row = house.row("kitchen-1")
    for statement in (
        lambda: one.database.run(
            one.queue.sql.yield_lease, me=one.me, key=row.key, epoch=one.epochs[row.key], away=60.0
        ),
        lambda: one.database.run(one.queue.sql.lapse, me=one.me, keys=[row.key]),
    ):
        assert statement() == []
    settle(one, work, PROVEN)
    assert one.database.run(one.queue.sql.lapse, me=one.me, keys=[row.key])
    assert two.me != one.me


def test_what_is_left_in_a_device_is_known_by_device(house: House, one: Instance) -> None:
    first, second = house.row("kitchen-1").key, house.row("kitchen-2").key
    a_slip(house, one)
    assert not one.queue.torn(first)
    work, _ = take(house, one)
    assert one.queue.torn(first)
    settle(one, work, LOST, again_s=0.0)
    work, _ = take(house, one, "kitchen-2")
    settle(one, work, PROVEN, again_s=0.0)
    assert (one.queue.torn(first), one.queue.torn(second)) == (True, False)
    house.pos.execute("UPDATE kps.slip SET created_at = created_at - interval '25 hours'")
    assert not one.queue.torn(first)


def test_what_a_dead_process_was_sending_is_left_in_its_device_before_it_is_given_back(
    house: House, one: Instance
) -> None:
    first, second = house.row("kitchen-1"), house.row("kitchen-2")
    ticket = house.pos.ticket()
    one.claim_and_send(ticket, first)
    assert (one.queue.torn(first.key), one.queue.torn(second.key)) == (True, False)
    one.release_dead(first)
    assert (one.queue.torn(first.key), one.queue.torn(second.key)) == (True, False)


def test_making_slips_and_the_return_of_a_printer_do_not_wait_for_each_other(house: House, one: Instance) -> None:
    tickets = [house.pos.ticket() for _ in range(60)]
    for ticket in tickets:
        claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
        one.settle(claimed, LOST)
        printed(house, one, ticket, on="kitchen-2", backup_for="kitchen-1")
    other = house.instance("other")
    down(house, one, "kitchen-1", "ready")
    for _ in range(6):
        # rows in another physical order than their ids
        house.pos.execute(
            "UPDATE kps.job SET elsewhere_told = false, told_back = '{}' WHERE ticket_id = ANY (%s)", [tickets[::-1]]
        )
        with ThreadPoolExecutor(2) as pool:
            made = pool.submit(make, other)
            back = pool.submit(one.queue.came_back, house.row("kitchen-1").key, [house.row("kitchen-1").id])
            assert (made.result(), len(back.result())) == (1, 60)


def test_a_slip_that_was_tried_too_often_is_over(house: House, one: Instance) -> None:
    a_slip(house, one)
    house.pos.execute("UPDATE kps.slip SET tries = 20")
    assert one.queue.look_slips()[0].over


def test_a_slip_in_the_hands_of_dying_processes_is_over_after_a_few_of_them(house: House, one: Instance) -> None:
    a_slip(house, one)
    for _ in range(5):
        slip = one.queue.look_slips()[0]
        assert not slip.over
        assert claim(house, one, slip) != []
        one.release_dead(house.row("kitchen-1"))
    assert one.queue.look_slips()[0].over


def test_a_slip_that_only_a_newer_instance_knows_is_left_to_it(house: House, one: Instance) -> None:
    house.pos.execute("ALTER TABLE kps.slip DROP CONSTRAINT slip_kind_check")
    house.pos.execute(
        "INSERT INTO kps.slip (dedupe_key, kind, station, content, expires_at)"
        " VALUES ('x', 'of tomorrow', 'kitchen', '{}', clock_timestamp() + interval '1 hour')"
    )

    assert one.queue.look_slips() == []
