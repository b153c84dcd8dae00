"""Rounds, giving up, waiting for a row, yesterday's backlog, rescue."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from kps.core.routing import Waiting
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.core.work import WorkKind
from kps.database.dispatcher_queue import Ended
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
REFUSED = NotPrinted(Reason.REFUSED, "connection refused")
LOST = Uncertain(Reason.CONNECTION_LOST, "lost", 120, False)
YESTERDAY = timedelta(hours=20)


def end_round(one: Instance, *tickets: Waiting, delay_s: float = 0.0, budget: int = 3) -> list[Ended]:
    """No printer is left for them."""
    return one.queue.end_round(
        tickets, ip="127.0.77.1", code="none_able", error="no printer can print", delay_s=delay_s, budget=budget
    )


def test_a_round_in_which_nobody_was_asked_counts_and_is_retried_after_the_delay(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    (ended,) = end_round(one, one.seen(ticket), delay_s=3600)
    assert (ended.status, ended.attempts) == ("new", 1)
    row = house.ticket(ticket)
    assert (row["status"], row["print_attempts"], row["printer_ip"], row["error_message"]) == (
        "new", 1, "127.0.77.1", "no printer can print",
    )  # fmt: skip
    assert row["last_error_at"] is not None
    assert house.log(ticket) == [("retry", "new", "new")]
    assert house.last_log(ticket)["printer_ip"] == "127.0.77.1"
    assert not one.sees(ticket)
    house.pos.execute("UPDATE kps.job SET not_before = clock_timestamp()")
    assert one.seen(ticket).tried == frozenset()


def test_a_round_in_which_a_printer_was_asked_is_counted_once_and_keeps_its_error(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.settle(one.claim(ticket, house.row("kitchen-2")), REFUSED)
    (ended,) = end_round(one, one.seen(ticket))
    assert (ended.status, ended.attempts) == ("new", 1)
    row = house.ticket(ticket)
    assert row["error_message"] == "connection refused"
    assert (one.seen(ticket).tried, one.seen(ticket).round_open) == (frozenset(), False)


@pytest.mark.parametrize(("own", "budget", "rounds"), [(3, 9, 3), (1, 9, 1), (0, 2, 2), (0, 1, 1)])
def test_the_tickets_own_max_retries_wins_over_the_budget(
    house: House, one: Instance, own: int, budget: int, rounds: int
) -> None:
    ticket = house.pos.ticket(max_retries=own)
    statuses = []
    for _ in range(rounds):
        statuses += [ended.status for ended in end_round(one, one.seen(ticket), budget=budget)]
    assert statuses == ["new"] * (rounds - 1) + ["failed"]
    row = house.ticket(ticket)
    assert (row["status"], row["print_attempts"]) == ("failed", rounds)
    assert house.log(ticket)[-1] == ("print_failed", "new", "failed")
    assert not one.sees(ticket)


def test_a_ticket_that_changed_since_the_look_is_left_out(house: House, one: Instance) -> None:
    changed, same = house.pos.ticket(), house.pos.ticket()
    seen = [one.seen(changed), one.seen(same)]
    one.claim(changed, house.row("kitchen-1"))
    assert [ended.ticket for ended in end_round(one, *seen)] == [same]
    house.pos.mark_failed(same)
    assert one.queue.give_up(WorkKind.TICKET, [seen[1]], code="x", error="x", rescue=False) == []


def test_a_reset_has_its_whole_budget_although_no_printer_can_print_and_is_logged(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(max_retries=2)
    for _ in range(2):
        end_round(one, one.seen(ticket))
    assert house.status(ticket) == "failed"
    house.pos.reset_to_new(ticket)
    (ended,) = end_round(one, one.seen(ticket))
    assert (ended.status, ended.attempts) == ("new", 1)
    assert house.log(ticket)[-2:] == [("manual_reset", "failed", "new"), ("retry", "new", "new")]


def test_a_reset_of_a_ticket_that_had_failed_at_once_is_seen_at_once(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(max_retries=1)
    end_round(one, one.seen(ticket), delay_s=3600)
    assert house.status(ticket) == "failed"
    house.pos.reset_to_new(ticket)
    assert one.sees(ticket)


def test_giving_up_fails_the_ticket_at_once(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    assert one.queue.give_up(WorkKind.TICKET, [one.seen(ticket)], code="no_items", error="no items") == [ticket]
    row = house.ticket(ticket)
    assert (row["status"], row["error_message"], row["print_attempts"]) == ("failed", "no items", 0)
    assert house.log(ticket) == [("print_failed", "new", "failed")]
    assert house.last_log(ticket)["error_code"] == "no_items"
    assert one.queue.rescuable(30) == []


def test_the_wait_for_a_printer_row_is_kept_in_the_database(house: House, one: Instance, two: Instance) -> None:
    ticket = house.pos.ticket("grill")
    assert not one.seen(ticket).unroutable_noted
    one.queue.wait([one.seen(ticket)])
    house.pos.execute("UPDATE kps.job SET unrouted_at = unrouted_at - interval '70 seconds'")
    one.queue.wait([one.seen(ticket)])
    seen = two.seen(ticket)
    assert seen.unroutable_noted
    assert seen.waited_s >= 70
    assert two.queue.give_up(WorkKind.TICKET, [seen], code="no_printer", error="no printer for grill", rescue=True) == [
        ticket
    ]
    assert [found[0] for found in two.queue.rescuable(30)] == [ticket]


def test_a_ticket_that_waited_for_a_row_is_printed_unmarked(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.queue.wait([one.seen(ticket)])
    claimed, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert not sending.ticket.marks.possible_duplicate
    one.settle(claimed, PROVEN)
    assert house.ticket(ticket)["print_attempts"] == 1


@pytest.mark.parametrize("how", ["reset", "retried"])
def test_a_ticket_with_a_past_waits_for_a_row_anew_when_its_rows_are_gone(
    house: House, one: Instance, how: str
) -> None:
    ticket = house.pos.ticket()
    if how == "reset":
        one.queue.wait([one.seen(ticket)])
        one.queue.give_up(WorkKind.TICKET, [one.seen(ticket)], code="no_printer", error="none", rescue=True)
        house.pos.reset_to_new(ticket)
    else:
        one.settle(one.claim(ticket, house.row("kitchen-1")), REFUSED)
        end_round(one, one.seen(ticket))
    assert not one.seen(ticket).unroutable_noted
    one.queue.wait([one.seen(ticket)])
    seen = one.seen(ticket)
    assert seen.unroutable_noted
    assert seen.waited_s < 60


def test_a_wait_does_not_undo_a_reset(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    house.pos.reset_to_new(ticket)
    one.queue.wait([one.seen(ticket)])
    one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 1
    assert ("manual_reset", "printed", "new") in house.log(ticket)


# Yesterday's backlog.


def _fail_stale(one: Instance, stations: str = "", brands: str = "") -> list[int]:
    horizon, any_old = one.queue.horizon(240)
    page = one.queue.stale(
        horizon, 500, since=-math.inf, passed=(), stations=frozenset(stations.split()),
        brands=frozenset(brands.split()),
    )  # fmt: skip
    assert bool(page) == any_old
    stale = [old for old in page if old.stale]
    return list(one.queue.give_up(WorkKind.TICKET, stale, code="stale", error="older than 240 minutes"))


def test_an_old_backlog_fails_with_a_clear_text(house: House, one: Instance) -> None:
    old = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    fresh = house.pos.ticket(created_at=datetime.now(UTC) - timedelta(minutes=200))
    assert _fail_stale(one) == [old]
    assert (house.status(old), house.ticket(old)["error_message"]) == ("failed", "older than 240 minutes")
    assert (house.last_log(old)["error_code"], house.log(old)) == ("stale", [("print_failed", "new", "failed")])
    assert house.status(fresh) == "new"
    assert one.queue.rescuable(100_000) == []


def test_an_old_ticket_that_waited_for_its_next_round_is_stale_too(house: House, one: Instance) -> None:
    old = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    end_round(one, one.seen(old), delay_s=3600)
    assert _fail_stale(one) == [old]


@pytest.mark.parametrize("known", [True, False])
def test_a_reset_of_an_old_ticket_is_never_stale(house: House, one: Instance, known: bool) -> None:
    old = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY, print_attempts=0 if known else 3)
    if known:
        one.queue.give_up(WorkKind.TICKET, [one.seen(old)], code="x", error="x", rescue=False)
        house.pos.reset_to_new(old)
    assert _fail_stale(one) == []


def test_an_old_ticket_that_a_live_printer_holds_is_never_stale(house: House, one: Instance) -> None:
    old = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    one.claim_and_send(old, house.row("kitchen-1"))
    house.pos.reset_to_new(old)
    assert _fail_stale(one) == []


def test_an_instance_fails_only_the_old_tickets_of_its_own_stations_and_brands(house: House, one: Instance) -> None:
    written = datetime.now(UTC) - YESTERDAY
    other_brand = house.pos.add_brand("OTHER", "Other")
    bar = house.pos.ticket(" BAR", created_at=written)
    kitchen = house.pos.ticket(created_at=written)
    other = house.pos.ticket(created_at=written, brand="OTHER")
    assert _fail_stale(one, "bar") == [bar]
    assert _fail_stale(one, brands=other_brand) == [other]
    assert _fail_stale(one, "kitchen", "dapur") == [kitchen]


# Rescue.


def _failed_unreached(house: House, one: Instance) -> int:
    ticket = house.pos.ticket(max_retries=1)
    end_round(one, one.seen(ticket))
    assert house.status(ticket) == "failed"
    return ticket


def test_a_ticket_that_no_printer_could_be_reached_for_is_rescued_for_one_more_round(
    house: House, one: Instance
) -> None:
    ticket = _failed_unreached(house, one)
    ((found, token, station, _),) = one.queue.rescuable(30)
    assert (found, station) == (ticket, "kitchen")
    assert one.queue.rescue([(found, token)]) == [ticket]
    assert one.queue.rescue([(found, token)]) == []
    assert (house.status(ticket), house.ticket(ticket)["print_attempts"]) == ("new", 1)
    assert house.log(ticket)[-1] == ("retry", "failed", "new")
    claimed, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert (house.ticket(ticket)["print_attempts"], sending.ticket.marks.possible_duplicate) == (2, False)
    assert "manual_reset" not in [action for action, _, _ in house.log(ticket)]
    assert one.settle(claimed, PROVEN) == "printed"


def test_a_rescue_is_one_round_only(house: House, one: Instance) -> None:
    ticket = _failed_unreached(house, one)
    one.queue.rescue([(found, token) for found, token, _, _ in one.queue.rescuable(30)])
    one.settle(one.claim(ticket, house.row("kitchen-1")), REFUSED)
    (ended,) = end_round(one, one.seen(ticket))
    assert ended.status == "failed"


def test_a_ticket_that_was_refused_by_every_printer_is_rescued_too(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(max_retries=1)
    one.settle(one.claim(ticket, house.row("kitchen-1")), REFUSED)
    end_round(one, one.seen(ticket))
    assert [found[0] for found in one.queue.rescuable(30)] == [ticket]


@pytest.mark.parametrize("touch", ["reset", "attempts", "reprint", "bytes", "age", "deleted", "cancelled"])
def test_what_somebody_has_touched_or_what_may_be_on_paper_is_not_rescued(
    house: House, one: Instance, touch: str
) -> None:
    if touch == "bytes":
        ticket = house.pos.ticket(max_retries=1)
        claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
        one.settle(claimed, LOST)
        end_round(one, one.seen(ticket))
    elif touch == "cancelled":
        ticket = house.pos.ticket(max_retries=3)
        end_round(one, one.seen(ticket))
        house.pos.mark_failed(ticket)
    else:
        ticket = _failed_unreached(house, one)
    before = [(found, token) for found, token, _, _ in one.queue.rescuable(30)]
    match touch:
        case "reset":
            house.pos.reset_to_new(ticket)
        case "attempts":
            house.pos.execute("UPDATE kitchen_kitchenticket SET print_attempts = 0 WHERE id = %s", [ticket])
        case "reprint":
            house.pos.begin_reprint(ticket)
        case "age":
            house.pos.execute("UPDATE kps.job SET rescue_from = rescue_from - interval '31 minutes'")
            before = []
        case "deleted":
            house.pos.delete_ticket(ticket)
        case "cancelled" | "bytes":
            assert before == []
    assert one.queue.rescuable(30) == []
    assert one.queue.rescue(before) == []


def test_a_rescue_that_fails_again_does_not_begin_a_new_window(house: House, one: Instance) -> None:
    ticket = _failed_unreached(house, one)
    house.pos.execute("UPDATE kps.job SET rescue_from = rescue_from - interval '20 minutes'")
    ((found, token, _, _),) = one.queue.rescuable(30)
    one.queue.rescue([(found, token)])
    end_round(one, one.seen(ticket))
    assert house.status(ticket) == "failed"
    assert [found for found, *_ in one.queue.rescuable(30)] == [ticket]
    assert one.queue.rescuable(19) == []
