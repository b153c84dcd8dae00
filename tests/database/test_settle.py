"""What became of a ticket: its row, its log, its printer's statistics, its job."""

from __future__ import annotations

import pytest

from kps.core.tickets import NotPrinted, Outcome, Printed, ProofLevel, Reason, Uncertain, Unprintable
from kps.database.printer_queue import ClaimLost
from tests.conftest import eventually
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
SENT_ONLY = Printed(ProofLevel.NONE, 300)
REFUSED = NotPrinted(Reason.REFUSED, "connection refused")
LOST = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)
BROKEN = Unprintable(Reason.UNRENDERABLE, "cannot be rendered")


@pytest.mark.parametrize("outcome", [PROVEN, SENT_ONLY])
def test_a_proof_makes_the_ticket_printed_and_the_log_says_which_proof(
    house: House, one: Instance, outcome: Printed
) -> None:
    ticket = house.pos.ticket(error_message="an older error")
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert one.settle(claimed, outcome, duration_ms=87) == "printed"
    row = house.ticket(ticket)
    assert (row["status"], row["error_message"], row["print_attempts"]) == ("printed", "", 1)
    assert row["printed_at"] is not None
    log = house.last_log(ticket)
    assert (log["action"], log["old_status"], log["new_status"]) == ("print_success", "printing", "printed")
    assert (log["error_code"], log["error_message"], log["duration_ms"]) == ("", "", 87)
    assert log["printer_ip"] == "127.0.77.1"
    assert log["metadata"]["proof"] == ("fence" if outcome is PROVEN else "sent")
    assert log["metadata"]["level"] == outcome.level.value
    assert log["metadata"]["proven"] is outcome.level.proves_paper
    assert log["metadata"] | {"instance": "one", "bytes": 300, "attempt": 1} == log["metadata"]
    job = house.job(ticket)
    assert (job["state"], job["proof"], job["printed_on"], job["sends"]) == (
        "printed", outcome.level.value, "kitchen-1", 1,
    )  # fmt: skip


def test_a_duration_is_at_least_one_millisecond(house: House, one: Instance) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    one.settle(claimed, PROVEN, duration_ms=0)
    assert house.last_log(claimed.work.id)["duration_ms"] == 1


@pytest.mark.parametrize(("outcome", "sends", "maybe"), [(REFUSED, 0, []), (LOST, 1, ["kitchen-1"])])
def test_without_a_proof_the_ticket_goes_to_the_next_printer(
    house: House, one: Instance, outcome: NotPrinted | Uncertain, sends: int, maybe: list[str]
) -> None:
    ticket = house.pos.ticket()
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(ticket, kitchen)
    assert one.settle(claimed, outcome) == "new"
    row = house.ticket(ticket)
    assert (row["status"], row["error_message"], row["printed_at"]) == ("new", outcome.text, None)
    assert row["last_error_at"] is not None
    log = house.last_log(ticket)
    assert (log["action"], log["old_status"], log["new_status"]) == ("print_failed", "printing", "new")
    assert (log["error_code"], log["error_message"], log["duration_ms"]) == (outcome.reason.value, outcome.text, None)
    job = house.job(ticket)
    assert (job["state"], job["sends"], job["maybe_at"], job["tried"]) == ("requeued", sends, maybe, [kitchen.key])
    assert job["round_open"]


def test_an_unprintable_ticket_fails_at_once_and_leaves_no_mark(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert one.settle(claimed, BROKEN) == "failed"
    row, job = house.ticket(ticket), house.job(ticket)
    assert (row["status"], row["error_message"]) == ("failed", "cannot be rendered")
    assert (job["state"], job["sends"], job["unreached"]) == ("failed", 0, False)
    assert house.last_log(ticket)["new_status"] == "failed"


@pytest.mark.parametrize(("outcome", "failed"), [(PROVEN, 0), (REFUSED, 1), (LOST, 1), (BROKEN, 1)])
def test_every_try_counts_in_the_printers_statistics(
    house: House, one: Instance, outcome: Outcome, failed: int
) -> None:
    kitchen = house.row("kitchen-1")
    before = house.pos.printer_row(kitchen.id)
    claimed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    one.settle(claimed, outcome)
    row = house.pos.printer_row(kitchen.id)
    assert before is not None
    assert row is not None
    assert (row["total_prints"], row["failed_prints"]) == (before["total_prints"] + 1, before["failed_prints"] + failed)
    assert (row["last_print_at"] is not None, row["last_error_at"] is not None) == (not failed, bool(failed))
    assert bool(row["last_error_message"]) == bool(failed)
    assert row["updated_at"] == before["updated_at"]


def test_a_printer_that_was_not_asked_has_no_try(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    claimed = one.claim(house.pos.ticket(), kitchen)
    one.settle(claimed, REFUSED, asked=False)
    row = house.pos.printer_row(kitchen.id)
    assert row is not None
    assert row["total_prints"] == 0


def test_proof_after_mark_as_failed_makes_the_ticket_printed(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.mark_failed(ticket)
    assert one.settle(claimed, PROVEN) == "printed"
    assert house.log(ticket)[-1] == ("print_success", "failed", "printed")
    assert house.ticket(ticket)["printed_at"] is not None


@pytest.mark.parametrize("outcome", [LOST, REFUSED, BROKEN])
def test_no_proof_after_mark_as_failed_leaves_it_failed_without_failover(
    house: House, one: Instance, outcome: Outcome
) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.mark_failed(ticket)
    assert one.settle(claimed, outcome) == "failed"
    assert (house.status(ticket), house.job(ticket)["state"]) == ("failed", "failed")
    assert not one.sees(ticket)
    assert one.queue.rescuable(30) == []


@pytest.mark.parametrize("outcome", [PROVEN, LOST])
def test_a_ticket_set_to_new_by_hand_while_it_was_sent_stays_new_and_its_next_copy_is_marked(
    house: House, one: Instance, outcome: Outcome
) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.reset_to_new(ticket)
    assert one.settle(claimed, outcome) == "new"
    assert house.status(ticket) == "new"
    _, sending = one.claim_and_send(ticket, house.row("kitchen-2"))
    marks = sending.ticket.marks
    assert sending.sends == 2
    assert marks.possible_duplicate or marks.reprint is not None


def test_a_ticket_deleted_while_it_was_sent_is_gone_and_no_error(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    house.pos.delete_ticket(ticket)
    assert one.settle(claimed, PROVEN) == "gone"
    assert one.settle(claimed, PROVEN) == "gone"
    assert house.pos.log_rows(ticket) == []
    row = house.pos.printer_row(house.row("kitchen-1").id)
    assert row is not None
    assert row["total_prints"] == 1


@pytest.mark.parametrize("outcome", [PROVEN, REFUSED, LOST, BROKEN])
def test_a_settle_that_is_repeated_after_a_lost_reply_answers_the_same_and_doubles_nothing(
    house: House, one: Instance, outcome: Outcome
) -> None:
    ticket = house.pos.ticket()
    kitchen = house.row("kitchen-1")
    claimed, _ = one.claim_and_send(ticket, kitchen)
    first = one.settle(claimed, outcome)
    job, log, stats = house.job(ticket), house.pos.log_rows(ticket), house.pos.printer_row(kitchen.id)
    assert one.settle(claimed, outcome) == first
    assert (house.job(ticket), house.pos.log_rows(ticket), house.pos.printer_row(kitchen.id)) == (job, log, stats)


def test_a_stale_token_changes_nothing(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.release_dead(house.row("kitchen-1"))
    successor, _ = one.claim_and_send(ticket, house.row("kitchen-2"))
    state = house.ticket(ticket), house.job(ticket), house.pos.log_rows(ticket), house.pos.printer_row(1)
    for outcome in (PROVEN, LOST, BROKEN):
        with pytest.raises(ClaimLost):
            one.settle(claimed, outcome)
    assert (house.ticket(ticket), house.job(ticket), house.pos.log_rows(ticket), house.pos.printer_row(1)) == state
    assert one.settle(successor, PROVEN) == "printed"


def test_two_uncertain_copies_name_both_printers_once(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    for name in ("kitchen-1", "kitchen-2", "kitchen-1"):
        claimed, _ = one.claim_and_send(ticket, house.row(name))
        one.settle(claimed, LOST)
    assert house.job(ticket)["maybe_at"] == ["kitchen-1", "kitchen-2"]
    assert house.job(ticket)["sends"] == 3


def test_what_comes_back_wakes_the_dispatchers(house: House, one: Instance) -> None:
    house.pos.execute("DROP TRIGGER kps_ticket_notify ON kitchen_kitchenticket")
    listener = house.target.connect()
    listener.cursor().execute("LISTEN kps_ticket_new")
    first, second = house.pos.ticket(), house.pos.ticket()
    claimed, _ = one.claim_and_send(first, house.row("kitchen-1"))
    other = one.claim(second, house.row("kitchen-1"))

    def heard() -> int:
        listener.poll()
        return len(listener.notifies)

    one.settle(claimed, LOST)
    eventually(lambda: heard() == 1, what="the notification of what was settled")
    one.queue.release([other.work], "stopping")
    eventually(lambda: heard() == 2, what="the notification of what was released")
