"""What the database keeps of proofs: IDs, copies thrown away, proofs that come late, levels that are lost."""

from __future__ import annotations

import pytest

from kps.core.process_ids import IDS, process_id_value
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.database.printer_queue import LateProof, Withdrawn
from tests.database.house import House, Instance, Sent

GIVEN_UP = Uncertain(Reason.UNPROVEN, "no proof", 500, sent_whole=True)
CLEARED = Uncertain(Reason.PAPER_OUT, "paper out, then cleared", 500, sent_whole=True, cleared=True)
PROVEN = Printed(ProofLevel.PROCESS_ID, 500)


@pytest.fixture
def kitchen(one: Instance) -> Instance:
    """An instance that owns both printers of the kitchen."""
    return one


def given_up_on(house: House, kitchen: Instance, outcome: Uncertain = GIVEN_UP) -> tuple[int, Sent]:
    """A ticket that kitchen-1 left without proof."""
    ticket = house.pos.ticket()
    claimed, sending = kitchen.claim_and_send(ticket, house.row("kitchen-1"))
    assert kitchen.settle(claimed, outcome) == "new"
    return ticket, sending


def late(house: House, kitchen: Instance, sending: Sent, text: bytes | None = None) -> LateProof | None:
    """kitchen-1 says the ID of this sending."""
    value = process_id_value(text or sending.ids.ticket)
    return kitchen.queue.late_proof(house.row("kitchen-1").key, [house.row("kitchen-1").id], value)


def test_every_sending_has_ids_of_its_own(house: House, kitchen: Instance) -> None:
    seen = []
    for _ in range(3):
        ticket = house.pos.ticket()
        claimed, sending = kitchen.claim_and_send(ticket, house.row("kitchen-1"))
        kitchen.settle(claimed, PROVEN)
        seen += [sending.ids.ticket, sending.ids.again, sending.ids.after]
        assert house.job(ticket)["process_ids"] == [sending.ids.number]

    assert len(set(seen)) == len(seen)


def test_a_new_database_does_not_begin_with_the_numbers_of_the_last_one(house: House) -> None:
    (row,) = house.pos.rows("SELECT last_value % 4 AS rest, last_value FROM kps.process_id_seq")

    assert (row["rest"], row["last_value"] > 1) == (1, True)


def test_a_copy_of_a_cleared_ticket_says_moved_and_nothing_else(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen, CLEARED)

    _, again = kitchen.claim_and_send(ticket, house.row("kitchen-2"))

    marks = again.ticket.marks
    assert (marks.moved_from, marks.possible_duplicate, marks.check_printers) == (("kitchen-1",), False, ())
    job = house.job(ticket)
    assert (job["sends"], job["cleared"], job["maybe_at"]) == (2, 1, [])
    assert house.last_log(ticket)["action"] == "print_start"


def test_one_cleared_copy_does_not_excuse_another_that_was_not(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen, CLEARED)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    kitchen.settle(claimed, GIVEN_UP)

    _, third = kitchen.claim_and_send(ticket, house.row("kitchen-1"))

    marks = third.ticket.marks
    assert (marks.possible_duplicate, marks.check_printers) == (True, ("kitchen-2",))
    assert marks.moved_from == ("kitchen-1",)


def test_a_death_after_a_cleared_copy_is_marked_as_unknown(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen, CLEARED)
    kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    kitchen.release_dead(house.row("kitchen-2"))

    _, third = kitchen.claim_and_send(ticket, house.row("kitchen-1"))

    assert third.ticket.marks.possible_duplicate
    assert third.ticket.marks.check_printers == ("kitchen-2",)


def test_a_reprint_of_a_cleared_ticket_says_moved(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen, CLEARED)
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'failed' WHERE id = %s", [ticket])
    reprint = house.pos.reprint(ticket)

    _, sending = kitchen.claim_and_send(reprint, house.row("kitchen-2"))

    assert (sending.ticket.marks.moved_from, sending.ticket.marks.possible_duplicate) == (("kitchen-1",), False)


def test_a_late_proof_prints_a_ticket_that_still_waits_for_its_copy(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=False)

    row, job = house.ticket(ticket), house.job(ticket)
    assert (row["status"], row["error_message"], row["printed_at"] is not None) == ("printed", "", True)
    assert (job["state"], job["proof"], job["printed_on"]) == ("printed", "process_id", "kitchen-1")
    assert (job["maybe_at"], job["late_proof"]) == ([], ["kitchen-1"])
    log = house.last_log(ticket)
    assert (log["action"], log["old_status"], log["new_status"]) == ("print_success", "new", "printed")
    assert (log["metadata"]["late"], log["metadata"]["twice"], log["duration_ms"] >= 1) == (True, False, True)
    assert not kitchen.sees(ticket)


def test_the_second_id_of_a_sending_proves_it_late_and_the_third_does_not(house: House, kitchen: Instance) -> None:
    _, sending = given_up_on(house, kitchen)

    assert late(house, kitchen, sending, sending.ids.after) is None
    assert late(house, kitchen, sending, sending.ids.again) is not None


def test_a_late_proof_counts_once(house: House, kitchen: Instance) -> None:
    _, sending = given_up_on(house, kitchen)

    assert late(house, kitchen, sending) is not None
    assert late(house, kitchen, sending) is None


def test_an_id_that_no_ticket_has_proves_nothing(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)

    assert (
        kitchen.queue.late_proof(
            house.row("kitchen-1").key, [house.row("kitchen-1").id], process_id_value(sending.ids.ticket) + 1000
        )
        is None
    )
    assert house.status(ticket) == "new"


def test_another_printer_cannot_prove_it(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)

    value = process_id_value(sending.ids.ticket)
    assert kitchen.queue.late_proof(house.row("kitchen-2").key, [house.row("kitchen-2").id], value) is None
    assert house.status(ticket) == "new"


def test_a_late_proof_withdraws_a_copy_that_is_claimed_and_not_begun(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    claimed = kitchen.claim(ticket, house.row("kitchen-2"))

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=False)
    with pytest.raises(Withdrawn, match="printed"):
        kitchen.send(claimed)

    assert (house.status(ticket), house.job(ticket)["state"]) == ("printed", "printed")
    assert house.job(ticket)["sends"] == 1


def test_a_late_proof_while_the_copy_is_going_out_says_so(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    claimed, copy = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    assert copy.ticket.marks.check_printers == ("kitchen-1",)

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printing", twice=False)
    assert house.last_log(ticket)["error_message"] == "it came out on kitchen-1, and another copy is under way"
    assert kitchen.settle(claimed, PROVEN) == "printed"
    assert house.job(ticket)["printed_on"] == "kitchen-2"


def test_the_id_of_a_copy_that_its_holder_left_is_no_word_of_the_one_that_was_thrown_away(
    house: House, kitchen: Instance
) -> None:
    ticket, first = given_up_on(house, kitchen, CLEARED)
    _, second = kitchen.claim_and_send(ticket, house.row("kitchen-1"))

    assert late(house, kitchen, second) is not None
    job = house.job(ticket)
    assert (job["cleared"], job["moved_from"], job["late_proof"]) == (1, ["kitchen-1"], ["kitchen-1"])

    assert late(house, kitchen, first) is not None
    assert house.job(ticket)["cleared"] == 0


def test_a_ticket_that_is_deleted_behind_its_late_proof_is_let_go(house: House, kitchen: Instance) -> None:
    for let_go in ("death", "lost promise", "retry"):
        ticket, sending = given_up_on(house, kitchen)
        claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
        assert late(house, kitchen, sending) is not None
        house.pos.execute("DELETE FROM kitchen_kitchenticketlog WHERE ticket_id = %s", [ticket])
        house.pos.execute("DELETE FROM kitchen_kitchenticketitem WHERE kitchen_ticket_id = %s", [ticket])
        house.pos.execute("DELETE FROM kitchen_kitchenticket WHERE id = %s", [ticket])

        match let_go:
            case "death":
                kitchen.release_dead(house.row("kitchen-2"))
            case "lost promise":
                kitchen.queue.unsent(claimed.work, again_s=0.0)
            case _:
                kitchen.settle(claimed, GIVEN_UP)

        assert house.job(ticket)["state"] == "failed", let_go


def test_a_late_proof_after_the_copy_says_that_there_are_two(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    kitchen.settle(claimed, PROVEN)
    printed_at = house.ticket(ticket)["printed_at"]

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=True)
    assert (house.ticket(ticket)["printed_at"], house.job(ticket)["maybe_at"]) == (printed_at, [])


def test_a_late_proof_makes_a_failed_ticket_printed(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'failed' WHERE id = %s", [ticket])
    house.pos.execute("UPDATE kps.job SET state = 'failed' WHERE ticket_id = %s", [ticket])

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=False)
    assert house.last_log(ticket)["old_status"] == "failed"


def test_a_late_proof_does_not_undo_an_operators_reset(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    house.pos.execute("UPDATE kps.job SET state = 'failed' WHERE ticket_id = %s", [ticket])

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "new", twice=False)

    assert house.status(ticket) == "new"
    _, copy = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    assert copy.ticket.marks.possible_duplicate


def test_a_late_proof_of_a_deleted_ticket_is_none(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    house.pos.delete_ticket(ticket)

    assert late(house, kitchen, sending) is None


def test_a_printer_that_comes_back_is_told_of_once_per_ticket(house: House, kitchen: Instance) -> None:
    first, _ = given_up_on(house, kitchen)
    second, _ = given_up_on(house, kitchen)
    moved, _ = given_up_on(house, kitchen, CLEARED)
    here = house.row("kitchen-1").key, [house.row("kitchen-1").id]

    assert kitchen.queue.came_back(*here) == [first, second]
    assert kitchen.queue.came_back(*here) == []

    log = house.last_log(first)
    assert (log["action"], log["error_code"]) == ("retry", "may_have_printed")
    assert (log["old_status"], log["new_status"]) == ("new", "new")
    assert log["error_message"] == "kitchen-1 can print again: a copy of this ticket may have come out there"
    assert house.last_log(moved)["error_code"] == "paper_out"


def test_a_ticket_that_is_left_there_once_more_is_told_of_once_more(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen)
    here = house.row("kitchen-1").key, [house.row("kitchen-1").id]
    kitchen.queue.came_back(*here)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-1"))
    kitchen.settle(claimed, GIVEN_UP)

    assert kitchen.queue.came_back(*here) == [ticket]


def test_contrary_evidence_takes_a_level_away_until_the_next_probe(house: House, kitchen: Instance) -> None:
    row = house.row("kitchen-1")
    house.pos.execute("UPDATE kps.printer SET proof_level = 'process_id' WHERE printer_key = %s", [row.key])

    kitchen.queue.demote(row.key, kitchen.epochs[row.key], "it lies")

    lease = house.lease(row)
    assert (lease["proof_level"], lease["demoted_text"], lease["demoted_at"] is None) == ("realtime", "it lies", False)


@pytest.mark.parametrize("level", [None, "realtime", "none"])
def test_a_level_that_proves_nothing_cannot_be_lost(house: House, kitchen: Instance, level: str | None) -> None:
    row = house.row("kitchen-1")
    house.pos.execute("UPDATE kps.printer SET proof_level = %s WHERE printer_key = %s", [level, row.key])

    kitchen.queue.demote(row.key, kitchen.epochs[row.key], "it lies")

    assert (house.lease(row)["proof_level"], house.lease(row)["demoted_at"]) == (level, None)


def test_a_stale_epoch_demotes_nobody(house: House, kitchen: Instance) -> None:
    row = house.row("kitchen-1")
    house.pos.execute("UPDATE kps.printer SET proof_level = 'fence' WHERE printer_key = %s", [row.key])

    kitchen.queue.demote(row.key, kitchen.epochs[row.key] - 1, "it lies")

    assert house.lease(row)["proof_level"] == "fence"


def test_the_log_calls_an_unproven_ticket_sent_and_names_the_level(house: House, kitchen: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-1"))
    kitchen.settle(claimed, Printed(ProofLevel.REALTIME, 500))

    metadata = house.last_log(ticket)["metadata"]
    assert (metadata["proof"], metadata["level"], metadata["proven"]) == ("sent", "realtime", False)
    assert house.job(ticket)["proof"] == "realtime"


def test_nothing_left_means_that_nothing_lies_anywhere(house: House, kitchen: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-1"))
    kitchen.settle(claimed, NotPrinted(Reason.REFUSED, "refused"))

    job = house.job(ticket)
    assert (job["sends"], job["cleared"], job["maybe_at"], job["moved_from"]) == (0, 0, [], [])


def test_a_copy_of_a_process_that_died_is_told_of_when_the_printer_is_back(house: House, kitchen: Instance) -> None:
    ticket = house.pos.ticket()
    kitchen.claim_and_send(ticket, house.row("kitchen-1"))
    kitchen.release_dead(house.row("kitchen-1"))

    assert kitchen.queue.came_back(house.row("kitchen-1").key, [house.row("kitchen-1").id]) == [ticket]


def test_what_else_the_probe_has_seen_goes_with_the_level(house: House, kitchen: Instance) -> None:
    row = house.row("kitchen-1")
    house.pos.execute("UPDATE kps.printer SET pushes = true, clears = true WHERE printer_key = %s", [row.key])

    kitchen.queue.demote(row.key, kitchen.epochs[row.key], "it lies")

    lease = house.lease(row)
    assert (lease["pushes"], lease["clears"], lease["proof_level"]) == (False, False, None)


@pytest.mark.parametrize("outcome", [GIVEN_UP, CLEARED, NotPrinted(Reason.REFUSED, "refused")])
def test_a_ticket_that_was_proven_meanwhile_needs_no_further_copy(
    house: House, kitchen: Instance, outcome: Uncertain | NotPrinted
) -> None:
    ticket, sending = given_up_on(house, kitchen)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    late(house, kitchen, sending)

    assert kitchen.settle(claimed, outcome) == "printed"

    row, job = house.ticket(ticket), house.job(ticket)
    assert (row["status"], row["error_message"], row["printed_at"] is not None) == ("printed", "", True)
    assert (job["state"], job["proof"], job["printed_on"]) == ("printed", "process_id", "kitchen-1")


def test_a_ticket_that_was_proven_meanwhile_is_not_given_back_when_the_other_printers_process_dies(
    house: House, kitchen: Instance
) -> None:
    ticket, sending = given_up_on(house, kitchen)
    kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    late(house, kitchen, sending)

    kitchen.release_dead(house.row("kitchen-2"))

    assert (house.status(ticket), house.job(ticket)["state"]) == ("printed", "printed")
    assert house.ticket(ticket)["printed_at"] is not None


def test_a_proof_of_before_a_reset_does_not_print_what_comes_after_it(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    late(house, kitchen, sending)
    house.pos.reset_to_new(ticket)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))

    assert kitchen.settle(claimed, GIVEN_UP) == "new"


@pytest.mark.parametrize("state", ["requeued", "claimed"])
def test_a_late_proof_after_mark_as_failed_makes_it_printed(house: House, kitchen: Instance, state: str) -> None:
    ticket, sending = given_up_on(house, kitchen)
    if state == "claimed":
        kitchen.claim(ticket, house.row("kitchen-2"))
    house.pos.mark_failed(ticket)

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=False)
    assert house.status(ticket) == "printed"


def test_a_late_proof_names_the_printer_that_printed(house: House, kitchen: Instance) -> None:
    house.pos.update_printer(house.row("kitchen-2").id, printer_ip="127.0.77.9")
    ticket, sending = given_up_on(house, kitchen)
    house.pos.execute("UPDATE kitchen_kitchenticket SET printer_ip = '127.0.77.9' WHERE id = %s", [ticket])

    late(house, kitchen, sending)

    assert house.ticket(ticket)["printer_ip"] == "127.0.77.1"


def test_a_renamed_printer_still_proves_and_comes_back(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen)
    here = house.row("kitchen-1")
    house.pos.update_printer(here.id, printer_name="grill")

    assert kitchen.queue.came_back(here.key, [here.id]) == [ticket]
    assert kitchen.queue.late_proof(here.key, [here.id], process_id_value(sending.ids.ticket)) is not None


def test_another_printer_of_the_same_name_is_another_printer(house: House, kitchen: Instance) -> None:
    given_up_on(house, kitchen)
    house.pos.update_printer(house.row("kitchen-2").id, printer_name="kitchen-1")
    (twin,) = [row for row in house.rows() if row.priority == 2]

    assert kitchen.queue.came_back(twin.key, [twin.id]) == []


def test_a_proof_of_what_was_said_to_be_cleared_says_so(house: House, kitchen: Instance) -> None:
    ticket, sending = given_up_on(house, kitchen, CLEARED)

    assert late(house, kitchen, sending) == LateProof(sending.ticket.id, "printed", twice=False, cleared=True)
    job = house.job(ticket)
    assert (job["cleared"], job["moved_from"], job["moved_keys"]) == (0, [], [])


def test_an_id_of_another_printers_sending_may_be_ours_and_a_foreign_one_is_not(
    house: House, kitchen: Instance
) -> None:
    _, sending = given_up_on(house, kitchen)
    value = process_id_value(sending.ids.ticket)

    assert kitchen.queue.may_be_ours(value)
    assert kitchen.queue.may_be_ours(process_id_value(sending.ids.after))
    assert not kitchen.queue.may_be_ours((value + 1_000_000) % (IDS - 1))
    assert not kitchen.queue.may_be_ours((value - 1_000_000) % (IDS - 1))


def test_coming_back_and_settling_do_not_wait_for_each_other_in_a_ring(house: House, kitchen: Instance) -> None:
    ticket, _ = given_up_on(house, kitchen)
    claimed, _ = kitchen.claim_and_send(ticket, house.row("kitchen-2"))
    other = house.instance("one")
    here = house.row("kitchen-1")
    with kitchen.transaction() as raw, raw.cursor() as cursor:
        cursor.execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [ticket])
        coming = house.in_background(lambda: other.queue.came_back(here.key, [here.id]))
        house.wait_until_blocked(other)
        cursor.execute("SELECT 1 FROM kps.job WHERE ticket_id = %s FOR UPDATE", [ticket])
    assert coming.result(20) == [ticket]
    assert kitchen.settle(claimed, PROVEN) == "printed"
