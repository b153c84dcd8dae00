"""Leases: who owns a printer, and what becomes of what an owner held."""

from __future__ import annotations

import uuid

import pytest
from psycopg2.extensions import connection as Connection

from kps.core.routing import Ability
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason
from kps.database.dispatcher_queue import Reconciled
from kps.database.printer_queue import ClaimLost, LeaseEnded
from kps.database.role import Released
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)


def lapse(one: Instance, *keys: str) -> set[str]:
    """End these leases of ours."""
    rows = one.database.run(one.queue.sql.lapse, me=one.me, keys=list(keys))
    return {row.printer_key for row in rows}


def give_up(one: Instance, key: str) -> bool:
    """Give a printer up that we cannot reach."""
    rows = one.database.run(
        one.queue.sql.yield_lease, me=one.me, key=key, epoch=one.epochs.get(key, 0), away=60.0  # type: ignore[call-overload]
    )  # fmt: skip
    return bool(rows)


def test_a_live_lease_of_another_is_never_taken(house: House, one: Instance, two: Instance) -> None:
    assert two.acquire(*house.rows()) == []
    assert house.lease(house.row("kitchen-1"))["owner"] == one.me


def test_a_lapsed_lease_is_taken_under_a_new_epoch(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    house.let_lease_end(kitchen)
    (taken,) = two.acquire(*house.rows())
    assert (taken.printer_key, taken.epoch) == (kitchen.key, one.epochs[kitchen.key] + 1)
    assert house.lease(kitchen)["owner_name"] == "two"


def test_the_successor_gets_the_claimed_unmarked_and_the_promised_marked(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    promised, waiting = house.pos.ticket(), house.pos.ticket()
    sent, _ = one.claim_and_send(promised, kitchen)
    claimed = one.claim(waiting, kitchen)
    house.let_lease_end(kitchen)
    (taken,) = two.acquire(kitchen)
    assert (taken.released, taken.carried) == (2, 0)
    assert (house.status(promised), house.status(waiting)) == ("new", "new")
    assert (house.job(promised)["sends"], house.job(promised)["maybe_at"]) == (1, ["kitchen-1"])
    assert house.log(promised)[-1] == ("retry", "printing", "new")
    assert house.last_log(promised)["metadata"]["possible_duplicate"] is True
    assert house.last_log(waiting)["metadata"]["possible_duplicate"] is False
    with pytest.raises(ClaimLost):
        one.settle(sent, PROVEN)
    with pytest.raises(ClaimLost):
        one.send(claimed)
    copy, second = two.claim_and_send(promised, kitchen)
    assert second.ticket.marks.possible_duplicate
    two.settle(copy, PROVEN)
    _, first = two.claim_and_send(waiting, kitchen)
    assert not first.ticket.marks.possible_duplicate


def test_re_acquiring_ones_own_lapsed_lease_carries_what_is_held_into_the_new_epoch(
    house: House, one: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    promised, waiting = house.pos.ticket(), house.pos.ticket()
    sent, _ = one.claim_and_send(promised, kitchen)
    claimed = one.claim(waiting, kitchen)
    house.let_lease_end(kitchen)
    (taken,) = one.acquire(kitchen)
    assert (taken.released, taken.carried) == (0, 2)
    assert one.settle(sent, PROVEN) == "printed"
    assert one.send(claimed).sends == 1
    assert not one.sees(waiting)


def test_a_renewal_never_revives_an_ended_lease(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    house.let_lease_end(kitchen)
    assert one.renew() == {house.row("kitchen-2").key}
    assert not house.lease(kitchen)["live"]


def test_a_renewal_under_an_old_epoch_renews_nothing(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    one.epochs[kitchen.key] -= 1
    assert kitchen.key not in one.renew()


def test_a_renewal_shows_every_device_whoever_has_it_and_says_which_leases_it_kept(
    house: House, one: Instance, two: Instance
) -> None:
    ours, theirs = house.row("kitchen-1"), house.row("kitchen-2")
    house.let_lease_end(theirs)
    two.acquire(theirs)
    rows = one.database.run(
        one.queue.sql.renew, me=one.me, instance=one.name, host="here", ttl=60.0, shown=[ours.key, theirs.key],
        keys=list(one.epochs), epochs=list(one.epochs.values()),
    )  # fmt: skip
    found = {row.printer_key: (row.owner, row.live, row.kept) for row in rows}
    assert found == {ours.key: (one.me, True, one.epochs[ours.key]), theirs.key: (two.me, True, None)}


def test_a_lease_is_not_ended_while_something_is_held_under_it(house: House, one: Instance, two: Instance) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    claimed = one.claim(house.pos.ticket(), kitchen)
    one.claim_and_send(house.pos.ticket(), backup)
    assert lapse(one, kitchen.key, backup.key) == set()
    assert not give_up(one, kitchen.key)
    one.queue.release([claimed.work], "")
    assert lapse(one, kitchen.key, backup.key) == {kitchen.key}
    assert [row.printer_key for row in two.acquire(*house.rows())] == [kitchen.key]


def test_a_printer_is_given_up_only_if_another_instance_lives(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    assert not give_up(one, kitchen.key)
    two = house.instance("two")
    two.renew()
    assert give_up(one, kitchen.key)
    assert one.acquire(kitchen) == []
    assert len(two.acquire(kitchen)) == 1


def test_what_was_given_up_is_taken_back_when_the_others_have_gone(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    assert give_up(one, kitchen.key)
    house.pos.execute("UPDATE kps.instance SET seen_at = seen_at - interval '10 seconds' WHERE owner = %s", [two.me])
    assert len(one.acquire(kitchen)) == 1


def test_a_dead_process_gives_everything_back_and_its_epoch_is_worth_nothing(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    promised, waiting, later = (house.pos.ticket() for _ in range(3))
    sent, _ = one.claim_and_send(promised, kitchen)
    claimed = one.claim(waiting, kitchen)
    old = one.epochs[kitchen.key]
    released = one.release_dead(kitchen)
    assert released is not None
    assert (released.epoch, released.released) == (old + 1, 2)
    assert (house.job(promised)["sends"], house.job(waiting)["sends"]) == (1, 0)
    assert house.lease(kitchen)["live"]
    one.epochs[kitchen.key] = old
    assert one.try_claim(later, on=kitchen) == []
    with pytest.raises(ClaimLost):
        one.settle(sent, PROVEN)
    with pytest.raises(ClaimLost):
        one.send(claimed)
    assert one.release_dead(kitchen) is None


def test_a_ticket_over_which_two_processes_died_is_poison(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    bad, good = house.pos.ticket(), house.pos.ticket()
    for expected in ("new", "failed"):
        culprit = one.claim(bad, kitchen)
        one.claim(good, kitchen)
        one.release_dead(kitchen, blamed=culprit.work.token)
        assert (house.status(bad), house.status(good)) == (expected, "new")
    assert house.job(bad)["state"] == "failed"
    assert "died twice" in house.ticket(bad)["error_message"]
    assert house.last_log(bad)["error_code"] == "poison"
    assert house.log(bad)[-1] == ("print_failed", "printing", "failed")
    assert not one.sees(bad)
    house.pos.reset_to_new(bad)
    assert one.claim(bad, kitchen)
    assert house.job(bad)["deaths"] == 0


def test_an_outcome_clears_the_blame(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    one.release_dead(kitchen, blamed=one.claim(ticket, kitchen).work.token)
    assert house.job(ticket)["deaths"] == 1
    one.settle(one.claim(ticket, kitchen), NotPrinted(Reason.REFUSED, "no"))
    assert house.job(ticket)["deaths"] == 0


def test_the_leases_of_a_generation_proven_gone_end_at_once(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, kitchen)
    rows = two.database.run(two.queue.sql.expire_owner, owner=one.me)
    assert {row.printer_key for row in rows} == {row.key for row in house.rows()}
    with pytest.raises(LeaseEnded):
        one.send(claimed)
    assert sum(row.released for row in two.acquire(*house.rows())) == 1
    assert house.status(ticket) == "new"


def test_only_the_owner_says_what_a_device_is_like(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    epoch = one.epochs[kitchen.key]
    said = {"state": "ready", "text": "", "paper": "ok", "response_ms": 3, "answers": True}
    assert not two.queue.set_state(kitchen.key, epoch, **said)  # type: ignore[arg-type]
    assert not one.queue.set_state(kitchen.key, epoch - 1, **said)  # type: ignore[arg-type]
    assert one.queue.devices([kitchen.key])[kitchen.key][0].ability is Ability.UNKNOWN
    assert one.queue.set_state(kitchen.key, epoch, **said)  # type: ignore[arg-type]
    state, owner, at = two.queue.devices([kitchen.key])[kitchen.key]
    assert (state.ability, owner, at) == (Ability.ABLE, one.me, epoch)
    since = house.lease(kitchen)["state_since"]
    one.queue.set_state(kitchen.key, epoch, **(said | {"text": "again"}))  # type: ignore[arg-type]
    assert house.lease(kitchen)["state_since"] == since


def test_a_device_whose_lease_ended_long_ago_is_unable(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    house.pos.execute("UPDATE kps.printer SET state = 'ready', expires_at = clock_timestamp() - interval '20 seconds'")
    state, _, _ = one.queue.devices([kitchen.key])[kitchen.key]
    assert (state.ability, state.live, state.sentence) == (Ability.UNABLE, False, "no instance serves it")
    house.pos.execute("UPDATE kps.printer SET expires_at = '-infinity'")
    state, _, _ = one.queue.devices([kitchen.key])[kitchen.key]
    assert state.ability is Ability.UNABLE


def test_nobody_knows_a_device_that_nobody_ever_owned(house: House) -> None:
    assert house.instance().queue.devices([house.row("kitchen-1").key]) == {}
    assert uuid.UUID(house.instance().me)


# Tickets whose rows the POS has locked meanwhile.


@pytest.mark.parametrize("promised", [False, True])
def test_a_locked_ticket_keeps_no_printer_from_its_next_owner_and_follows_when_it_is_free(
    house: House, one: Instance, two: Instance, promised: bool
) -> None:
    kitchen = house.row("kitchen-1")
    stuck, free = house.pos.ticket(), house.pos.ticket()
    held = one.claim(stuck, kitchen)
    if promised:
        one.send(held)
    one.claim(free, kitchen)
    till = lock(house, stuck)
    for row in house.rows():
        house.let_lease_end(row)
    taken = {row.printer_key: (row.released, row.left) for row in two.acquire(*house.rows())}
    assert taken == {kitchen.key: (1, 1), house.row("kitchen-2").key: (0, 0)}
    assert (house.status(free), house.status(stuck)) == ("new", "printing")
    claimed, _ = two.claim_and_send(free, kitchen)
    assert [(row.released, row.left) for row in two.requeue_left() if row.printer_key == kitchen.key] == [(0, 1)]
    till.rollback()
    assert [(row.released, row.left) for row in two.requeue_left() if row.printer_key == kitchen.key] == [(1, 0)]
    two.settle(claimed, PROVEN)
    assert house.last_log(stuck)["metadata"]["possible_duplicate"] is promised
    _, sending = two.claim_and_send(stuck, kitchen)
    assert sending.ticket.marks.possible_duplicate is promised
    with pytest.raises(ClaimLost):
        one.settle(held, PROVEN)


@pytest.mark.parametrize("promised", [False, True])
def test_a_locked_ticket_keeps_no_printer_from_its_next_process(house: House, one: Instance, promised: bool) -> None:
    kitchen = house.row("kitchen-1")
    stuck, free = house.pos.ticket(), house.pos.ticket()
    held = one.claim(stuck, kitchen)
    if promised:
        one.send(held)
    one.claim(free, kitchen)
    till = lock(house, stuck)
    buried = one.release_dead(kitchen)
    assert buried is not None
    assert (buried.released, buried.left) == (1, 1)
    claimed, _ = one.claim_and_send(free, kitchen)
    one.settle(claimed, PROVEN)
    till.rollback()
    assert sum(row.released for row in one.requeue_left()) == 1
    _, sending = one.claim_and_send(stuck, kitchen)
    assert sending.ticket.marks.possible_duplicate is promised


def test_what_a_dead_process_left_behind_a_lock_is_not_carried_along_as_if_somebody_held_it(
    house: House, one: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    stuck, alive = house.pos.ticket(), house.pos.ticket()
    one.claim(stuck, kitchen)
    till = lock(house, stuck)
    one.release_dead(kitchen)
    held = one.claim(alive, kitchen)
    house.let_lease_end(kitchen)
    (taken,) = one.acquire(kitchen)
    assert (taken.carried, taken.released, taken.left) == (1, 0, 1)
    till.rollback()
    assert sum(row.released for row in one.requeue_left()) == 1
    assert one.send(held).sends == 1


def test_a_lease_ends_although_something_that_nobody_holds_is_left_behind_a_lock(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    stuck = house.pos.ticket()
    one.claim(stuck, kitchen)
    till = lock(house, stuck)
    one.release_dead(kitchen)
    assert lapse(one, kitchen.key) == {kitchen.key}
    till.rollback()
    (taken,) = two.acquire(kitchen)
    assert taken.released == 1


def test_a_claim_that_nobody_holds_is_given_back_without_waiting_for_one_that_is_locked(
    house: House, one: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    stuck, free = house.pos.ticket(), house.pos.ticket()
    one.claim(stuck, kitchen)
    one.claim(free, kitchen)
    till = lock(house, stuck)
    assert one.queue.reconcile(kitchen.key, []) == Reconciled(1, 1)
    till.rollback()
    assert one.queue.reconcile(kitchen.key, []) == Reconciled(1, 0)
    assert (house.status(stuck), house.job(stuck)["sends"]) == ("new", 0)


def test_a_claim_is_given_back_without_waiting_for_one_that_is_locked(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    stuck, free = house.pos.ticket(), house.pos.ticket()
    claims = [one.claim(ticket, kitchen) for ticket in (stuck, free)]
    till = lock(house, stuck)
    given = one.queue.release([claim.work for claim in claims], "its printer is blocked")
    assert given == Released(1, frozenset(claim.work for claim in claims if claim.work.id == stuck))
    till.rollback()
    assert one.send(claims[0]).sends == 1


def test_a_ticket_that_was_deleted_is_left_to_nobody(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    gone = house.pos.ticket()
    one.claim(gone, kitchen)
    house.pos.delete_ticket(gone)
    house.let_lease_end(kitchen)
    (taken,) = two.acquire(kitchen)
    assert (taken.released, taken.left) == (1, 0)
    assert house.job(gone)["state"] == "failed"


def test_a_locked_printer_row_keeps_no_other_lease_of_a_generation_proven_gone(house: House, one: Instance) -> None:
    held, other = house.row("kitchen-1"), house.row("kitchen-2")
    somebody = house.target.connect(autocommit=False)
    somebody.cursor().execute("SELECT 1 FROM kps.printer WHERE printer_key = %s FOR UPDATE", [held.key])
    rows = one.database.run(one.queue.sql.expire_owner, owner=one.me)
    assert {row.printer_key for row in rows} == {other.key}


def lock(house: House, ticket: int) -> Connection:
    """A transaction of the POS that stays open."""
    till = house.target.connect(autocommit=False)
    till.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [ticket])
    return till


# `printing` without an owner.


def orphans(one: Instance, stations: str = "", brands: str = "") -> list[tuple[int, int]]:
    """Tickets that nobody accounts for, with the token of their job."""
    return [
        (row.id, row.token)
        for row in one.database.run(one.queue.sql.orphans, me=one.me, stations=stations.split(), brands=brands.split())
    ]


def adopt(one: Instance, found: list[tuple[int, int]]) -> list[int]:
    """Take them over."""
    rows = one.database.run(
        one.queue.sql.adopt, ids=[ticket for ticket, _ in found], tokens=[token for _, token in found], instance="one"
    )
    return [row.id for row in rows]


def test_a_printing_ticket_without_a_job_is_adopted_and_marked(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(status="printing", print_attempts=1, printer_ip="10.0.0.9")
    assert orphans(one) == [(ticket, 0)]
    assert adopt(one, [(ticket, 0)]) == [ticket]
    assert house.log(ticket) == [("retry", "printing", "new")]
    assert house.last_log(ticket)["printer_ip"] == "10.0.0.9"
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.marks.possible_duplicate
    assert house.ticket(ticket)["print_attempts"] == 1


@pytest.mark.parametrize("promised", [False, True])
def test_what_a_dead_lease_left_printing_is_adopted_and_marked_only_if_it_was_promised(
    house: House, one: Instance, two: Instance, promised: bool
) -> None:
    kitchen = house.row("kitchen-1")
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, kitchen)
    if promised:
        one.send(claimed)
    assert orphans(two) == []
    house.let_lease_end(kitchen)
    assert adopt(two, orphans(two)) == [ticket]
    two.acquire(kitchen)
    _, sending = two.claim_and_send(ticket, kitchen)
    assert sending.ticket.marks.possible_duplicate is promised
    with pytest.raises(ClaimLost):
        one.settle(claimed, PROVEN)


def test_a_printed_ticket_that_a_hand_made_printing_is_adopted_marked_and_may_go_anywhere(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket()
    one.settle(one.claim(ticket, house.row("kitchen-1")), NotPrinted(Reason.REFUSED, "no"))
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-2"))
    one.settle(claimed, PROVEN)
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'printing' WHERE id = %s", [ticket])
    assert adopt(one, orphans(one)) == [ticket]
    assert one.seen(ticket).tried == frozenset()
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.marks.reprint is not None


def test_a_ticket_that_we_knew_but_somebody_else_began_to_print_is_adopted_and_marked(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket()
    one.queue.wait([one.seen(ticket)])
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'printing' WHERE id = %s", [ticket])
    assert adopt(one, orphans(one)) == [ticket]
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.marks.possible_duplicate


def test_what_came_back_to_life_since_the_look_is_not_adopted(house: House, one: Instance, two: Instance) -> None:
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    house.let_lease_end(kitchen)
    found = orphans(two)
    assert len(found) == 1
    one.acquire(kitchen)
    assert adopt(two, found) == []
    assert one.settle(claimed, PROVEN) == "printed"


def test_the_jobs_of_deleted_tickets_are_swept_but_not_those_that_are_held(house: House, one: Instance) -> None:
    settled, held, kept = (house.pos.ticket() for _ in range(3))
    claimed, _ = one.claim_and_send(settled, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    sent, _ = one.claim_and_send(held, house.row("kitchen-1"))
    one.claim(kept, house.row("kitchen-2"))
    house.pos.execute(
        "INSERT INTO kps.instance (owner, name, host, seen_at) VALUES (%s, 'old', 'x', now() - interval '2 days')",
        [str(uuid.uuid4())],
    )
    house.pos.delete_ticket(settled)
    house.pos.delete_ticket(held)
    (swept,) = one.database.run(one.queue.sql.sweep, me=one.me, after=0)
    assert (swept.jobs, swept.instances) == (1, 1)
    assert (house.job(settled), house.job(held)["state"], house.job(kept)["state"]) == ({}, "sending", "claimed")
    assert one.settle(sent, PROVEN) == "gone"
    (swept,) = one.database.run(one.queue.sql.sweep, me=one.me, after=0)
    assert swept.jobs == 1
