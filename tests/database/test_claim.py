"""new -> printing: what a look shows, and what a claim may take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kps.core.routing import ClaimFor, Served
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain, Unprintable
from kps.core.work import WorkKind
from kps.database.printer_queue import ClaimLost
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
REFUSED = NotPrinted(Reason.REFUSED, "connection refused")


def test_a_claim_makes_the_ticket_printing_and_says_so_in_the_log(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    row = house.ticket(ticket)
    assert (row["status"], row["print_attempts"], row["printer_ip"]) == ("printing", 1, "127.0.77.1")
    assert house.log(ticket) == [("print_start", "new", "printing")]
    start = house.last_log(ticket)
    assert start["printer_ip"] == "127.0.77.1"
    assert start["metadata"] == {
        "instance": "one", "printer_id": house.row("kitchen-1").id, "printer_name": "kitchen-1", "attempt": 1,
        "token": claimed.work.token, "failover_from": None,
    }  # fmt: skip
    job = house.job(ticket)
    assert (job["state"], job["sends"], job["round_open"], job["token"]) == ("claimed", 0, True, claimed.work.token)


@pytest.mark.parametrize("host", ["printer-one.example", "fe80::1", " 127.0.77.1 "])
def test_the_tickets_printer_ip_is_the_printer_rows_own_text(house: House, one: Instance, host: str) -> None:
    house.printer("odd", "bar", host=host)
    one.acquire(house.row("odd"))
    ticket = house.pos.ticket("bar")
    one.claim(ticket, house.row("odd"))
    assert house.ticket(ticket)["printer_ip"] == host
    assert house.last_log(ticket)["printer_ip"] == host


def test_a_round_raises_the_attempts_once_however_many_printers_it_asks(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.settle(one.claim(ticket, house.row("kitchen-1")), REFUSED)
    seen = one.seen(ticket)
    assert seen.tried == {house.row("kitchen-1").key}
    one.claim(ticket, house.row("kitchen-2"), backup_for="kitchen-1")
    assert house.ticket(ticket)["print_attempts"] == 1
    assert house.last_log(ticket)["metadata"]["failover_from"] == "kitchen-1"


def test_a_claim_without_a_live_lease_takes_nothing(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    house.let_lease_end(house.row("kitchen-1"))
    assert one.try_claim(ticket, on=house.row("kitchen-1")) == []
    assert house.status(ticket) == "new"
    assert house.job(ticket) == {}


def test_a_claim_under_an_old_epoch_takes_nothing(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.epochs[house.row("kitchen-1").key] -= 1
    assert one.try_claim(ticket, on=house.row("kitchen-1")) == []


def test_a_claim_for_a_printer_of_somebody_else_takes_nothing(house: House, one: Instance, two: Instance) -> None:
    ticket = house.pos.ticket()
    two.epochs |= one.epochs
    assert two.try_claim(ticket, on=house.row("kitchen-1")) == []


def test_a_ticket_whose_job_changed_since_the_look_is_left_out(house: House, one: Instance) -> None:
    first, second = house.pos.ticket(), house.pos.ticket()
    kitchen = house.row("kitchen-1")
    wanted = [(one.seen(ticket), ClaimFor(kitchen, ""), one.epochs[kitchen.key]) for ticket in (first, second)]
    one.settle(one.claim(first, kitchen), REFUSED)
    assert [claimed.work.id for claimed in one.queue.claim(WorkKind.TICKET, wanted)] == [second]


def test_a_claim_takes_several_tickets_and_answers_in_order_of_ids(house: House, one: Instance) -> None:
    tickets = [house.pos.ticket() for _ in range(5)]
    claimed = one.try_claim(*reversed(tickets), on=house.row("kitchen-1"))
    assert [claim.work.id for claim in claimed] == tickets
    assert len({claim.work.token for claim in claimed}) == 5


def test_a_look_shows_at_most_so_many_tickets_of_each_station_and_brand_lowest_first(
    house: House, one: Instance
) -> None:
    kitchen = [house.pos.ticket() for _ in range(4)]
    bar = [house.pos.ticket(" BAR ") for _ in range(4)]
    house.pos.add_brand("OTHER", "Other")
    other = [house.pos.ticket(brand="OTHER") for _ in range(4)]
    found = [waiting.id for waiting in one.queue.look(2)]
    assert found == sorted(kitchen[:2] + bar[:2] + other[:2])


def test_a_look_of_a_limited_instance_reads_its_own_tickets_and_those_of_its_devices(
    house: House, one: Instance
) -> None:
    other_brand = house.pos.add_brand("OTHER", "Other")
    kitchen, bar = house.pos.ticket(), house.pos.ticket(" BAR ")
    other_kitchen, other_bar = house.pos.ticket(brand="OTHER"), house.pos.ticket("bar", brand="OTHER")

    def read(stations: str = "", brands: str = "", *routes: tuple[str, str]) -> list[int]:
        served = Served(frozenset(stations.split()), frozenset(brands.split()), frozenset(routes))
        return [waiting.id for waiting in one.queue.look(20, served=served)]

    assert read() == [kitchen, bar, other_kitchen, other_bar]
    assert read("bar") == [bar, other_bar]
    assert read("bar", "other") == [other_bar]
    assert read("", other_brand) == [other_kitchen, other_bar]
    assert read("bar", "", ("kitchen", other_brand)) == [bar, other_kitchen, other_bar]
    assert read("none") == []


def test_a_look_names_the_station_trimmed_and_without_case_and_the_brand_by_code(house: House, one: Instance) -> None:
    seen = one.seen(house.pos.ticket(" BaR "))
    assert (seen.station, seen.brand_code, seen.items, seen.original_items) == ("bar", "dapur", 1, None)


def test_a_ticket_without_a_brand_has_its_bills_brand(house: House, one: Instance) -> None:
    plain, without = house.pos.ticket(), house.pos.ticket(brand_id=None)
    assert one.seen(without).brand == one.seen(plain).brand != ""


def test_a_reprint_of_a_reprint_waits_for_as_many_items_as_the_first(house: House, one: Instance) -> None:
    original = house.pos.ticket(items=[("Nasi Goreng", 1), ("Soto", 1)], status="printed")
    second = house.pos.reprint(house.pos.reprint(original))
    seen = one.seen(second)
    assert (seen.items, seen.original_items) == (2, 2)


def test_a_half_written_reprint_shows_fewer_items_than_its_original(house: House, one: Instance) -> None:
    original = house.pos.ticket(status="printed")
    seen = one.seen(house.pos.begin_reprint(original))
    assert (seen.items, seen.original_items) == (0, 1)


@pytest.mark.parametrize("promised", [False, True])
def test_a_ticket_with_a_job_under_a_live_lease_is_neither_seen_nor_claimed_whatever_a_hand_wrote(
    house: House, one: Instance, two: Instance, promised: bool
) -> None:
    ticket = house.pos.ticket()
    before = one.seen(ticket)
    claimed = one.claim(ticket, house.row("kitchen-1"))
    if promised:
        one.send(claimed)
    house.pos.reset_to_new(ticket)
    assert not one.sees(ticket)
    assert not two.sees(ticket)
    kitchen = house.row("kitchen-2")
    for token in (before.token, claimed.work.token):
        wanted = (
            replace(before, token=token),
            ClaimFor(kitchen, ""),
            one.epochs[kitchen.key],
        )
        assert one.queue.claim(WorkKind.TICKET, [wanted]) == []
    assert house.job(ticket)["state"] == ("sending" if promised else "claimed")


def test_a_printed_ticket_that_is_reset_has_a_fresh_budget_and_a_log_row(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    house.pos.execute("UPDATE kitchen_kitchenticket SET print_attempts = 3 WHERE id = %s", [ticket])
    house.pos.reset_to_new(ticket)
    one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 1
    assert ("manual_reset", "printed", "new") in house.log(ticket)
    assert house.log(ticket)[-1] == ("print_start", "new", "printing")


def test_a_failed_ticket_that_is_reset_has_a_fresh_budget_and_tries_every_printer_again(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket()
    one.settle(one.claim(ticket, house.row("kitchen-1")), Unprintable(Reason.UNRENDERABLE, "no"))
    house.pos.reset_to_new(ticket)
    assert one.seen(ticket).tried == frozenset()
    one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 1
    assert ("manual_reset", "failed", "new") in house.log(ticket)


def test_a_ticket_reset_after_it_was_cancelled_while_its_fate_was_uncertain_may_use_the_same_printer(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.mark_failed(ticket)
    one.settle(claimed, Uncertain(Reason.CONNECTION_LOST, "lost", 10, False))
    house.pos.reset_to_new(ticket)
    assert one.seen(ticket).tried == frozenset()


def test_a_ticket_that_somebody_else_has_used_up_before_we_knew_it_counts_as_reset_and_marked(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket(print_attempts=3, max_retries=3)
    claimed = one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 1
    assert ("manual_reset", "failed", "new") in house.log(ticket)
    assert one.send(claimed).ticket.marks.possible_duplicate


def test_a_ticket_in_its_second_round_before_we_knew_it_is_no_reset_but_is_marked(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(print_attempts=1)
    claimed = one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 2
    assert house.log(ticket) == [("print_start", "new", "printing")]
    assert one.send(claimed).ticket.marks.possible_duplicate


def test_a_ticket_without_a_budget_of_its_own_is_not_taken_for_a_reset(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(print_attempts=3, max_retries=0)
    one.claim(ticket, house.row("kitchen-1"))
    assert house.ticket(ticket)["print_attempts"] == 4


def test_released_tickets_come_back_unmarked_in_the_same_round(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    assert one.queue.release([claimed.work], "stopping").count == 1
    assert house.status(ticket) == "new"
    assert house.log(ticket)[-1] == ("retry", "printing", "new")
    again, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert again.work.token != claimed.work.token
    assert house.ticket(ticket)["print_attempts"] == 1
    assert not sending.ticket.marks.possible_duplicate
    assert one.queue.release([claimed.work], "again").count == 0


def test_what_has_been_promised_cannot_be_released(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert one.queue.release([claimed.work], "stopping").count == 0
    assert house.job(ticket)["state"] == "sending"


def test_releasing_a_ticket_that_was_deleted_is_no_error(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    house.pos.delete_ticket(ticket)
    one.queue.release([claimed.work], "stopping")
    assert house.job(ticket)["state"] == "failed"


def test_reconcile_gives_back_only_what_is_claimed_for_that_printer_of_mine_and_not_held(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    house.printer("bar-1", "bar")
    two.acquire(house.row("bar-1"))
    promised, held, lost, elsewhere = (house.pos.ticket() for _ in range(4))
    one.claim_and_send(promised, kitchen)
    kept = one.claim(held, kitchen)
    gone = one.claim(lost, kitchen)
    one.claim(elsewhere, backup)
    foreign = two.claim(house.pos.ticket("bar"), house.row("bar-1"))
    assert one.queue.reconcile(house.row("bar-1").key, []).released == 0
    assert one.queue.reconcile(kitchen.key, [kept.work.token]).released == 1
    states = {ticket: house.job(ticket)["state"] for ticket in (promised, held, lost, elsewhere, foreign.work.id)}
    assert states == {
        promised: "sending", held: "claimed", lost: "requeued", elsewhere: "claimed", foreign.work.id: "claimed",
    }  # fmt: skip
    assert house.status(lost) == "new"
    with pytest.raises(ClaimLost):
        one.settle(gone, PROVEN)


def test_unsent_takes_the_promise_back(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.queue.unsent(claimed.work, again_s=0.0)
    one.queue.unsent(claimed.work, again_s=0.0)
    job = house.job(ticket)
    assert (job["state"], job["sends"], job["maybe_at"], job["tried"]) == ("requeued", 0, [], [])
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert (sending.sends, sending.ticket.marks.possible_duplicate) == (1, False)


def test_unsent_of_a_ticket_that_was_only_claimed_gives_it_back_too(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    one.queue.unsent(claimed.work, again_s=0.0)
    assert (house.job(ticket)["sends"], house.status(ticket)) == (0, "new")


def test_a_token_that_a_crash_has_taken_back_is_never_given_again(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    first = one.claim(house.pos.ticket(), kitchen)
    second = one.claim(house.pos.ticket(), kitchen)
    assert second.work.token - first.work.token < 100
    # What a crash leaves of a sequence whose last numbers were not on disk.
    house.pos.execute("SELECT setval('kps.token_seq', %s)", [first.work.token - 1])
    one.database.close()

    third = one.claim(house.pos.ticket(), kitchen)

    assert third.work.token > second.work.token + 100
