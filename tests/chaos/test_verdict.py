"""The verdict must be able to say every bad thing that it may say: each column is made non-zero once."""

from __future__ import annotations

from tests.chaos.verdict import Piece, Ticket, judge, pieces

PAPER = "KITCHEN\nQUEUE 7\nTAKEAWAY\n----\n2 x Soto\n----\n#107"


def printed(number: int, station: str = "kitchen", *, proof: str = "process_id", waited: bool = False) -> Ticket:
    """Ticket 100 + its queue number, printed."""
    return Ticket(100 + number, number, station, "printed", proof, waited)


def piece(number: int, *, marked: bool = False, whole: bool = True) -> Piece:
    """A ticket on paper."""
    return Piece("kitchen-1", number, whole, marked)


def test_a_ticket_on_paper_is_read_by_its_number_and_is_whole_with_its_code() -> None:
    assert pieces("bar-1", [PAPER]) == [Piece("bar-1", 7, whole=True, marked=False)]


def test_a_heading_marks_the_ticket_below_it_and_no_other() -> None:
    for heading in ("POSSIBLE DUPLICATE - CHECK kitchen-1", "REPRINT - printed 19:31", "MOVED - PART MAY BE AT bar-1"):
        other = PAPER.replace("7", "8")
        found = pieces("bar-1", [f"   {heading}   \n{PAPER}\n{other}"])
        assert [(one.queue, one.marked) for one in found] == [(7, True), (8, False)]


def test_a_torn_ticket_is_a_piece_of_its_own_also_where_the_next_one_follows_on_the_same_paper() -> None:
    torn = "KITCHEN\nQUEUE 7\nTAKEAWAY"
    assert pieces("bar-1", [f"{torn}\nPOSSIBLE DUPLICATE - CHECK bar-1\n{PAPER}"]) == [
        Piece("bar-1", 7, whole=False, marked=False),
        Piece("bar-1", 7, whole=True, marked=True),
    ]
    assert pieces("bar-1", [torn]) == [Piece("bar-1", 7, whole=False, marked=False)]


def test_a_backup_or_late_heading_is_no_mark() -> None:
    (found,) = pieces("pass-1", [f"BACKUP FOR kitchen-1\nLATE 6 MIN\n{PAPER}"])
    assert not found.marked


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


def test_a_number_on_paper_that_no_ticket_has_is_told() -> None:
    assert judge([printed(1)], {"kitchen-1": [piece(1), piece(9)]}).strangers == [9]


def test_a_slip_that_names_a_queue_number_is_no_ticket_and_marks_none() -> None:
    slip = "VOID\nQUEUE 7\nDO NOT COOK\n2 x Soto\nslip #3"
    assert pieces("bar-1", [slip]) == []
    again = f"POSSIBLE DUPLICATE - CHECK bar-1\n{slip}"
    assert pieces("bar-1", [f"{again}\n{PAPER}"]) == [Piece("bar-1", 7, whole=True, marked=False)]
