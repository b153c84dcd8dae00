"""Two connections meet in the middle: one of them is held open by hand, so that every order can be had on purpose."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from kps.core.routing import ClaimFor, Waiting
from kps.core.tickets import Outcome, Printed, ProofLevel, Reason, Uncertain
from kps.core.work import WorkKind
from kps.database.connection import DatabaseTrouble
from kps.database.printer_queue import ClaimLost, LeaseEnded, Withdrawn
from tests.conftest import eventually
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
LOST = Uncertain(Reason.CONNECTION_LOST, "lost", 120, False)
PATIENCE_S = 20


@pytest.mark.parametrize("first", ["one", "two"])
def test_two_claims_of_one_ticket_the_second_skips_it_and_does_not_wait(
    house: House, one: Instance, two: Instance, first: str
) -> None:
    ticket = house.pos.ticket()
    house.let_lease_end(house.row("kitchen-2"))
    two.acquire(house.row("kitchen-2"))
    earlier, later = ((one, "kitchen-1"), (two, "kitchen-2"))[:: 1 if first == "one" else -1]
    wanted = _wanted(house, later[0], ticket, later[1])
    with earlier[0].transaction():
        earlier[0].claim(ticket, house.row(earlier[1]))
        assert later[0].queue.claim(WorkKind.TICKET, wanted) == []
    assert later[0].queue.claim(WorkKind.TICKET, wanted) == []
    assert house.job(ticket)["owner"] == earlier[0].me
    assert house.log(ticket) == [("print_start", "new", "printing")]


def test_two_claims_for_one_printer_the_second_waits_for_its_lease_and_takes_nothing(
    house: House, one: Instance
) -> None:
    """A dispatcher that is dying and its successor: the same owner, the same lease, two connections."""
    ticket, other = house.pos.ticket(), house.pos.ticket()
    successor = house.instance("one")
    successor.me = successor.queue.me = one.me
    successor.epochs = dict(one.epochs)
    wanted = _wanted(house, successor, ticket, "kitchen-1") + _wanted(house, successor, other, "kitchen-1")
    with one.transaction():
        claimed = one.claim(ticket, house.row("kitchen-1"))
        claiming = house.in_background(lambda: successor.queue.claim(WorkKind.TICKET, wanted))
        house.wait_until_blocked(successor)
    assert [found.work.id for found in claiming.result(PATIENCE_S)] == [other]
    assert house.job(ticket)["token"] == claimed.work.token
    assert house.log(ticket) == [("print_start", "new", "printing")]


def _wanted(house: House, instance: Instance, ticket: int, name: str) -> list[tuple[Waiting, ClaimFor, int]]:
    """What a claim of this instance asks for, decided on a look of now."""
    row = house.row(name)
    return [(instance.seen(ticket), ClaimFor(row, ""), instance.epochs[row.key])]


def test_a_claim_that_rolls_back_leaves_the_ticket_to_the_other(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    with one.transaction() as raw:
        one.claim(ticket, house.row("kitchen-1"))
        raw.rollback()
    assert house.job(ticket) == {}
    assert one.claim(ticket, house.row("kitchen-2"))


def test_a_take_over_that_waited_for_a_claim_gives_back_what_that_claim_took(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    with one.transaction() as raw:
        claimed = one.claim(ticket, kitchen)
        _end_lease_within(raw, kitchen.key)
        taking = house.in_background(lambda: two.acquire(kitchen))
        house.wait_until_blocked(two)
    (taken,) = taking.result(PATIENCE_S)
    assert taken.released == 1
    assert (house.status(ticket), house.job(ticket)["state"]) == ("new", "requeued")
    with pytest.raises(ClaimLost):
        one.send(claimed)
    _, sending = two.claim_and_send(ticket, kitchen)
    assert not sending.ticket.marks.possible_duplicate


def test_re_acquiring_ones_own_lease_carries_a_claim_that_was_under_way(house: House, one: Instance) -> None:
    """The dispatcher's connection claims, while the supervisor's takes the lapsed lease anew."""
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    other = house.instance("one")
    other.me = one.me
    with one.transaction() as raw:
        claimed = one.claim(ticket, kitchen)
        _end_lease_within(raw, kitchen.key)
        taking = house.in_background(lambda: other.acquire(kitchen))
        house.wait_until_blocked(other)
    (taken,) = taking.result(PATIENCE_S)
    assert (taken.carried, taken.released) == (1, 0)
    assert one.send(claimed).sends == 1


def _end_lease_within(raw: Any, key: str) -> None:
    """The lease that a claim has locked ends before the claim is committed."""
    with raw.cursor() as cursor:
        cursor.execute(
            "UPDATE kps.printer SET expires_at = clock_timestamp() - interval '1 ms' WHERE printer_key = %s", [key]
        )


def test_a_claim_that_waited_for_a_take_over_takes_nothing(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    with two.transaction() as raw:
        _end_lease_within(raw, kitchen.key)
        assert len(two.acquire(kitchen)) == 1
        claiming = house.in_background(lambda: one.try_claim(ticket, on=kitchen))
        house.wait_until_blocked(one)
    assert claiming.result(PATIENCE_S) == []
    assert house.status(ticket) == "new"


def test_a_death_that_waited_for_a_claim_gives_back_what_that_claim_took(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    other = house.instance("one")
    other.me, other.epochs = one.me, dict(one.epochs)
    with one.transaction():
        claimed = one.claim(ticket, kitchen)
        burying = house.in_background(lambda: other.release_dead(kitchen))
        house.wait_until_blocked(other)
    assert burying.result(PATIENCE_S).released == 1
    assert house.status(ticket) == "new"
    with pytest.raises(ClaimLost):
        one.send(claimed)


def test_ending_a_lease_waits_for_a_claim_and_then_leaves_it(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    other = house.instance("one")
    keys = [row.key for row in house.rows()]
    with one.transaction():
        one.claim(ticket, kitchen)
        ending = house.in_background(lambda: other.database.run(other.queue.sql.lapse, me=one.me, keys=keys))
        house.wait_until_blocked(other)
    assert [row.printer_key for row in ending.result(PATIENCE_S)] == [house.row("kitchen-2").key]
    assert house.lease(kitchen)["live"]
    with one.transaction():
        one.claim(house.pos.ticket(), kitchen)
        yielding = house.in_background(
            lambda: other.database.run(
                other.queue.sql.yield_lease, me=one.me, key=kitchen.key, epoch=one.epochs[kitchen.key], away=60.0
            )
        )
        house.wait_until_blocked(other)
    assert yielding.result(PATIENCE_S) == []


def left(two: Instance) -> list[int]:
    """Try to take back what a take-over has left behind a lock; how much, and how much is still left."""
    rows = two.requeue_left()
    return [sum(row.released for row in rows), sum(row.left for row in rows)]


def test_a_take_over_leaves_a_promise_under_way_and_marks_the_ticket_later(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, kitchen)
    with one.transaction():
        one.send(claimed)
        house.let_lease_end(kitchen)
        (taken,) = two.acquire(kitchen)
        assert (taken.released, taken.left) == (0, 1)
    assert left(two) == [1, 0]
    assert (house.job(ticket)["sends"], house.job(ticket)["maybe_at"]) == (1, ["kitchen-1"])
    _, second = two.claim_and_send(ticket, kitchen)
    assert second.ticket.marks.possible_duplicate


def test_a_promise_that_waited_for_a_take_over_is_refused(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, kitchen)
    with two.transaction() as raw:
        _end_lease_within(raw, kitchen.key)
        two.acquire(kitchen)
        promising = house.in_background(lambda: one.send(claimed))
        house.wait_until_blocked(one)
    with pytest.raises((ClaimLost, LeaseEnded)):
        promising.result(PATIENCE_S)
    assert house.job(ticket)["sends"] == 0
    _, sending = two.claim_and_send(ticket, kitchen)
    assert not sending.ticket.marks.possible_duplicate


def test_a_take_over_leaves_a_settle_under_way_and_the_ticket_settled(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    with one.transaction():
        one.settle(claimed, PROVEN)
        house.let_lease_end(kitchen)
        (taken,) = two.acquire(kitchen)
        assert (taken.released, taken.left) == (0, 1)
    assert left(two) == [0, 0]
    assert (house.status(claimed.work.id), house.job(claimed.work.id)["state"]) == ("printed", "printed")


def test_a_take_over_leaves_a_settle_under_way_that_is_undone_and_marks_the_ticket_later(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    with one.transaction() as raw:
        one.settle(claimed, PROVEN)
        house.let_lease_end(kitchen)
        two.acquire(kitchen)
        raw.rollback()
    assert left(two) == [1, 0]
    _, second = two.claim_and_send(claimed.work.id, kitchen)
    assert second.ticket.marks.possible_duplicate
    assert second.ticket.marks.check_printers == ("kitchen-1",)


def test_who_settles_first_behind_a_lock_that_a_take_over_has_passed_by_keeps_the_ticket(
    house: House, one: Instance, two: Instance
) -> None:
    """Its owner was slow, not dead: the paper is out, and no further copy is needed."""
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    till = house.target.connect(autocommit=False)
    till.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [claimed.work.id])
    settling = house.in_background(lambda: one.settle(claimed, PROVEN))
    house.wait_until_blocked(one)
    house.let_lease_end(kitchen)
    (taken,) = two.acquire(kitchen)
    assert (taken.released, taken.left) == (0, 1)
    till.rollback()
    assert settling.result(PATIENCE_S) == "printed"
    assert left(two) == [0, 0]


def test_a_settle_that_waited_for_a_take_over_has_lost_its_claim(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    with two.transaction() as raw:
        _end_lease_within(raw, kitchen.key)
        two.acquire(kitchen)
        settling = house.in_background(lambda: one.settle(claimed, PROVEN))
        house.wait_until_blocked(one)
    with pytest.raises(ClaimLost):
        settling.result(PATIENCE_S)
    assert (house.status(claimed.work.id), house.job(claimed.work.id)["sends"]) == ("new", 1)


@pytest.mark.parametrize(("written", "expected"), [("new", "new"), ("failed", "printed"), ("printed", "printed")])
def test_a_settle_that_waited_for_an_operator_goes_by_what_the_operator_wrote(
    house: House, one: Instance, written: str, expected: str
) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    admin = house.target.connect(autocommit=False)
    admin.cursor().execute("UPDATE kitchen_kitchenticket SET status = %s WHERE id = %s", [written, claimed.work.id])
    settling = house.in_background(lambda: one.settle(claimed, PROVEN))
    house.wait_until_blocked(one)
    admin.commit()
    assert settling.result(PATIENCE_S) == expected
    assert house.status(claimed.work.id) == expected
    assert house.log(claimed.work.id)[-1] == ("print_success", written, expected)


@pytest.mark.parametrize("outcome", [PROVEN, LOST], ids=["proven", "lost"])
def test_an_operators_reset_that_waited_for_a_settle_prints_again_with_a_mark(
    house: House, one: Instance, outcome: Outcome
) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    with one.transaction():
        one.settle(claimed, outcome)
        resetting = _in_the_pos(
            house, "UPDATE kitchen_kitchenticket SET status = 'new' WHERE id = %s", [claimed.work.id]
        )
    resetting.result(PATIENCE_S)
    assert house.status(claimed.work.id) == "new"
    _, second = one.claim_and_send(claimed.work.id, house.row("kitchen-1"))
    assert (second.ticket.marks.reprint is not None) == (outcome is PROVEN)
    assert second.ticket.marks.possible_duplicate == (outcome is LOST)


def test_an_operators_reset_before_a_settle_leaves_the_ticket_to_be_printed_again_with_a_mark(
    house: House, one: Instance
) -> None:
    """The copy that was under way has been proven meanwhile; the next one says so."""
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    admin = house.target.connect(autocommit=False)
    admin.cursor().execute("UPDATE kitchen_kitchenticket SET status = 'new' WHERE id = %s", [claimed.work.id])
    settling = house.in_background(lambda: one.settle(claimed, PROVEN))
    house.wait_until_blocked(one)
    admin.commit()
    assert settling.result(PATIENCE_S) == "new"
    _, second = one.claim_and_send(claimed.work.id, house.row("kitchen-1"))
    assert second.sends == 2
    assert second.ticket.marks.possible_duplicate or second.ticket.marks.reprint is not None


def _in_the_pos(house: House, statement: str, values: list[Any]) -> Future[Any]:
    """Run a statement of the POS on a connection of its own; returns once it waits for a lock of ours."""
    connection = house.target.connect()
    running = house.in_background(lambda: connection.cursor().execute(statement, values))
    eventually(
        lambda: house.pos.rows(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", [connection.info.backend_pid]
        ),
        what="the POS to wait for a lock",
    )
    return running


def test_a_promise_that_waited_for_mark_as_failed_is_refused(house: House, one: Instance) -> None:
    claimed = one.claim(house.pos.ticket(), house.row("kitchen-1"))
    admin = house.target.connect(autocommit=False)
    admin.cursor().execute("UPDATE kitchen_kitchenticket SET status = 'failed' WHERE id = %s", [claimed.work.id])
    promising = house.in_background(lambda: one.send(claimed))
    house.wait_until_blocked(one)
    admin.commit()
    with pytest.raises(Withdrawn, match="failed"):
        promising.result(PATIENCE_S)
    assert house.job(claimed.work.id)["sends"] == 0


def test_a_settle_that_waited_for_a_delete_finds_the_ticket_gone(house: House, one: Instance) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    admin = house.target.connect(autocommit=False)
    cursor = admin.cursor()
    cursor.execute("DELETE FROM kitchen_kitchenticketlog WHERE ticket_id = %s", [claimed.work.id])
    cursor.execute("DELETE FROM kitchen_kitchenticketitem WHERE kitchen_ticket_id = %s", [claimed.work.id])
    cursor.execute("DELETE FROM kitchen_kitchenticket WHERE id = %s", [claimed.work.id])
    settling = house.in_background(lambda: one.settle(claimed, LOST))
    house.wait_until_blocked(one)
    admin.commit()
    assert settling.result(PATIENCE_S) == "gone"


def test_a_ticket_whose_items_are_just_being_written_is_left_for_the_next_look(house: House, one: Instance) -> None:
    original = house.pos.ticket(status="printed")
    copy = house.pos.begin_reprint(original)
    (item,) = house.pos.ticket_items(original)
    till = house.target.connect(autocommit=False)
    till.cursor().execute(
        "INSERT INTO kitchen_kitchenticketitem (quantity, bill_item_id, kitchen_ticket_id) VALUES (1, %s, %s)",
        [item["bill_item_id"], copy],
    )
    # The foreign key is checked at commit: until then nothing is locked, and the statement at the end is.
    till.cursor().execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert one.try_claim(copy, on=house.row("kitchen-1")) == []
    till.commit()
    assert one.try_claim(copy, on=house.row("kitchen-1")) != []


def test_an_item_that_is_written_while_its_ticket_is_claimed_waits_and_is_printed(house: House, one: Instance) -> None:
    original = house.pos.ticket(status="printed", items=[("Dish1", 1), ("Dish2", 1)])
    copy = house.pos.begin_reprint(original)
    first, second = (item["bill_item_id"] for item in house.pos.ticket_items(original))
    item = "INSERT INTO kitchen_kitchenticketitem (quantity, bill_item_id, kitchen_ticket_id) VALUES (1, %s, %s)"
    house.pos.execute(item, [first, copy])
    with one.transaction():
        claimed = one.claim(copy, house.row("kitchen-1"))
        writing = _in_the_pos(house, item, [second, copy])
    writing.result(PATIENCE_S)
    assert [line.name for line in one.send(claimed).ticket.items] == ["Dish1", "Dish2"]


def test_an_open_transaction_on_a_brand_or_a_bill_hides_no_ticket(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    admin = house.target.connect(autocommit=False)
    admin.cursor().execute("SELECT 1 FROM core_brand FOR UPDATE")
    admin.cursor().execute("SELECT 1 FROM pos_bill FOR UPDATE")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert one.settle(claimed, PROVEN) == "printed"
    admin.rollback()


@pytest.mark.parametrize("first", ["original", "reprint"])
def test_an_original_and_its_reprint_at_the_same_moment_one_of_them_is_marked(
    house: House, one: Instance, first: str
) -> None:
    original = house.pos.ticket()
    copy = house.pos.reprint(original)
    other = house.instance("one")
    claims = [one.claim(original, house.row("kitchen-1")), one.claim(copy, house.row("kitchen-2"))]
    if first == "reprint":
        claims.reverse()
    with one.transaction():
        earlier = one.send(claims[0])
        promising = house.in_background(lambda: other.send(claims[1]))
        house.wait_until_blocked(other)
    later = promising.result(PATIENCE_S)
    assert not earlier.ticket.marks.possible_duplicate
    assert later.ticket.marks.possible_duplicate


def test_a_reprint_of_a_reprint_is_marked_although_the_original_was_deleted_behind_its_claim(
    house: House, one: Instance
) -> None:
    original = house.pos.ticket()
    reprint = house.pos.reprint(original)
    again = house.pos.reprint(reprint)
    printed, _ = one.claim_and_send(reprint, house.row("kitchen-1"))
    one.settle(printed, LOST)
    claimed = one.claim(again, house.row("kitchen-1"))
    house.pos.delete_ticket(original)
    sending = one.send(claimed)
    assert sending.ticket.marks.possible_duplicate


@pytest.mark.parametrize("first", ["reprint", "again"])
def test_two_reprints_at_the_same_moment_one_of_them_is_marked_although_their_original_is_gone(
    house: House, one: Instance, first: str
) -> None:
    """One was claimed before the original was deleted, the other behind it."""
    original = house.pos.ticket()
    reprint = house.pos.reprint(original)
    again = house.pos.reprint(reprint)
    early = one.claim(again, house.row("kitchen-2"))
    house.pos.delete_ticket(original)
    late = one.claim(reprint, house.row("kitchen-1"))
    other = house.instance("one")
    pairs = [late, early]
    if first == "again":
        pairs.reverse()
    with one.transaction():
        earlier = one.send(pairs[0])
        promising = house.in_background(lambda: other.send(pairs[1]))
        house.wait_until_blocked(other)
    assert not earlier.ticket.marks.possible_duplicate
    assert promising.result(PATIENCE_S).ticket.marks.possible_duplicate


def test_a_claim_over_a_sending_whose_lease_has_ended_says_where_that_copy_may_lie(house: House, one: Instance) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    house.pos.reset_to_new(claimed.work.id)
    house.let_lease_end(house.row("kitchen-1"))
    _, second = one.claim_and_send(claimed.work.id, house.row("kitchen-2"))
    assert second.ticket.marks.check_printers == ("kitchen-1",)


def test_a_round_does_not_end_for_a_ticket_that_is_just_being_claimed(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    other = house.instance("two")
    seen = other.seen(ticket)
    with one.transaction():
        one.claim(ticket, house.row("kitchen-1"))
        ended = other.queue.end_round([seen], ip="", code="x", error="x", delay_s=0, budget=1)
        assert ended == []
    assert other.queue.end_round([seen], ip="", code="x", error="x", delay_s=0, budget=1) == []
    assert house.status(ticket) == "printing"


def test_two_instances_that_see_a_round_end_end_it_once(house: House, one: Instance, two: Instance) -> None:
    ticket = house.pos.ticket()
    seen = two.seen(ticket)
    with one.transaction():
        one.queue.end_round([one.seen(ticket)], ip="", code="x", error="x", delay_s=0, budget=3)
        assert two.queue.end_round([seen], ip="", code="x", error="x", delay_s=0, budget=3) == []
    assert two.queue.end_round([seen], ip="", code="x", error="x", delay_s=0, budget=3) == []
    assert house.ticket(ticket)["print_attempts"] == 1


def test_one_device_never_has_two_promises(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    one.claim_and_send(house.pos.ticket(), kitchen)
    second = one.claim(house.pos.ticket(), kitchen)
    with pytest.raises(DatabaseTrouble) as trouble:
        one.send(second)
    assert trouble.value.sqlstate == "23505"
