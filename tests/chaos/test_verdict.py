"""The verdict must be able to say every bad thing that it may say: each column is made non-zero once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.chaos.paper import Piece
from tests.chaos.run import Round
from tests.chaos.shop import Design
from tests.chaos.verdict import Ticket, judge


def printed(number: int, station: str = "kitchen", *, proof: str = "process_id", waited: bool = False) -> Ticket:
    """Ticket 100 + its queue number, printed."""
    return Ticket(100 + number, number, station, "printed", proof, waited)


def piece(number: int, *, marked: bool = False, whole: bool = True) -> Piece:
    """A ticket on paper."""
    return Piece("kitchen-1", number, whole, marked)


def test_a_clean_run_has_nothing_to_tell() -> None:
    found = judge([printed(1), printed(2)], {"kitchen-1": [piece(1), piece(2)]})
    assert (found.tickets, found.lost, found.unmarked, found.marked, found.inversions) == (2, [], [], 0, [])


def test_a_printed_ticket_without_paper_is_lost_and_so_is_one_of_which_only_a_part_came_out() -> None:
    found = judge([printed(1), printed(2)], {"kitchen-1": [piece(2, whole=False)]})
    assert found.lost == [101, 102]


def test_a_ticket_that_stays_new_or_printing_is_lost_until_it_is_on_paper() -> None:
    tickets = [Ticket(101, 1, "bar", "new"), Ticket(102, 2, "bar", "printing"), Ticket(103, 3, "bar", "new")]
    assert judge(tickets, {"bar-1": [piece(3)]}).lost == [101, 102]


def test_a_failed_ticket_is_visible_and_so_not_lost() -> None:
    found = judge([Ticket(101, 1, "bar", "failed")], {})
    assert (found.failed, found.lost) == (1, [])


def test_what_was_closed_without_proof_of_paper_and_is_not_there_has_a_column_of_its_own() -> None:
    found = judge([printed(1, proof="realtime"), printed(2, proof="none"), printed(3, proof="fence")], {})
    assert (found.sent_only, found.lost) == ([101, 102], [103])


def test_a_second_unmarked_copy_counts_whole_or_torn_on_whichever_printer() -> None:
    papers = {"kitchen-1": [piece(1), piece(2)], "kitchen-2": [piece(1, whole=False), piece(2, marked=True)]}
    found = judge([printed(1), printed(2)], papers)
    assert (found.unmarked, found.marked) == ([101], 1)


def test_a_lower_id_behind_a_higher_one_is_an_inversion_unless_one_of_the_two_waited() -> None:
    papers = {"kitchen-1": [piece(1), piece(3), piece(2)]}
    assert judge([printed(1), printed(2), printed(3)], papers).inversions == [102]
    assert judge([printed(1), printed(2, waited=True), printed(3)], papers).inversions == []
    assert judge([printed(1), printed(2), printed(3, waited=True)], papers).inversions == []


def test_tickets_of_two_stations_on_one_backup_may_pass_each_other() -> None:
    papers = {"pass-1": [piece(3), piece(2)]}
    assert judge([printed(2, "bar"), printed(3, "kitchen")], papers).inversions == []


def test_a_number_on_paper_that_no_ticket_has_is_reported() -> None:
    assert judge([printed(1)], {"kitchen-1": [piece(1), piece(9)]}).strangers == [9]


def test_a_torn_ticket_that_ends_at_its_picture_was_torn_in_it() -> None:
    papers = [
        Piece("kitchen-1", 1, whole=False, marked=False, at_picture=True),
        Piece("kitchen-1", 1, whole=True, marked=True, at_picture=True),
        Piece("kitchen-1", 2, whole=False, marked=False),
        Piece("kitchen-1", 3, whole=False, marked=False, at_picture=True),
    ]
    tickets = [Ticket(100 + n, n, "kitchen", "printed", "fence", drawn=n != 3) for n in (1, 2, 3)]
    found = judge(tickets, {"kitchen-1": papers})
    assert (found.torn, found.torn_pictures) == (3, 1)


def test_a_failed_ticket_breaks_a_promise_unless_stations_were_without_a_printer() -> None:
    found = judge([Ticket(101, 1, "bar", "failed")], {})
    kept = Round(1, 1, Design.KPS, found, None, Counter(), 0, [], [])
    assert kept.broken == ["1 failed, though its station had a printer"]
    assert replace(kept, outages=True).broken == []
    assert replace(kept, verdict=judge([Ticket(101, 1, "bar", "printed", "process_id")], {})).broken == ["1 lost: 101"]
