"""Tickets and slips are recognised on paper, whole or torn, also where one follows the other without a cut."""

from __future__ import annotations

import pytest

from tests.chaos.paper import Kind, Piece, SlipPiece, read

HEAD = "KITCHEN TICKET\nKITCHEN\nQUEUE 7\nTAKEAWAY\nREADY BY 19:44"
PAPER = f"{HEAD}\n----\n2 x Soto\n----\nGuests: 1\n#042, before: #041 19:31 T5\n#107"
TICKET = Piece("bar-1", 7, whole=True, marked=False, dishes=("Soto",))
VOID_HEAD = "     VOID     \nKITCHEN\nQUEUE 8\nTAKEAWAY"
VOID = (
    f"{VOID_HEAD}\nDO NOT COOK\n----\n2 x Soto\n    │ Salah pesan │\n    #042 19:31 kitchen-1\n----\nBill: A-8\nslip #3"
)
VOIDED = SlipPiece("bar-1", Kind.VOID, "kitchen", 8, marked=False, id=3, numbers=(42,))
MOVED = "TABLE CHANGED\nBAR\nT8 -> T100008\nKEEP COOKING\n----\n[image 576 x 48]\n    #042 19:31 bar-1\n----\nslip #4"
OUTAGE = "checker-1 CANNOT PRINT\n(no connection)\nITS TICKETS COME OUT\nHERE\n----\nslip #5"
CATCH_UP = "bar-1 PRINTS AGAIN\n----\nWENT ELSEWHERE:\n#035 T8 19:31 -> bar-2\n----\nslip #6"
DUPLICATE = "   POSSIBLE DUPLICATE - CHECK kitchen-1   "


def test_a_ticket_is_read_by_its_number_and_is_whole_with_its_code() -> None:
    assert read("bar-1", [PAPER]) == [TICKET]


def test_a_ticket_names_its_table_its_dishes_and_says_whether_anything_is_drawn() -> None:
    checker = "CHECKER\nTABLE 9\nQUEUE 9\nDINE IN\n----\n[image 576 x 48]\n    (KITCHEN)\n[ ] 3 x Es Teh\n----\n#109"
    (found,) = read("checker-1", [checker])
    assert found == Piece("checker-1", 9, True, False, table=9, dishes=("Es Teh",), drawn=True)
    (moved,) = read("bar-1", [checker.replace("TABLE 9", "TABLE 100009")])
    assert isinstance(moved, Piece)
    assert moved.table == 100_009


@pytest.mark.parametrize("heading", [DUPLICATE, "REPRINT - printed 19:31", "MOVED - PART MAY BE AT bar-1"])
def test_a_heading_marks_the_ticket_below_it_and_no_other(heading: str) -> None:
    found = read("bar-1", [f"{heading}\n{PAPER}\n{PAPER}"])
    assert [one.marked for one in found] == [True, False]


def test_a_backup_or_late_heading_is_no_mark() -> None:
    assert read("bar-1", [f"BACKUP FOR kitchen-1\nLATE 6 MIN\n{PAPER}"]) == [TICKET]


def test_a_torn_ticket_is_a_piece_of_its_own_also_where_the_next_one_follows_on_the_same_paper() -> None:
    torn = Piece("bar-1", 7, whole=False, marked=False)
    assert read("bar-1", [HEAD]) == [torn]
    assert read("bar-1", [f"{HEAD}\n{PAPER}"]) == [torn, TICKET]
    found = read("bar-1", [f"{HEAD}\n{DUPLICATE}\n{PAPER}"])
    assert [(one.whole, one.marked) for one in found if isinstance(one, Piece)] == [(False, False), (True, True)]


def test_slips_of_every_kind_are_read_and_are_no_tickets() -> None:
    assert read("bar-1", [VOID]) == [VOIDED]
    assert read("bar-1", [MOVED]) == [SlipPiece("bar-1", Kind.MOVED, "bar", 8, marked=False, id=4, numbers=(42,))]
    (outage,) = read("bar-1", [OUTAGE])
    (back,) = read("bar-1", [CATCH_UP])
    assert isinstance(outage, SlipPiece)
    assert isinstance(back, SlipPiece)
    assert [(one.kind, one.id, one.place) for one in (outage, back)] == [(Kind.OUTAGE, 5, 0), (Kind.CATCH_UP, 6, 0)]


def test_a_mark_belongs_to_the_slip_below_it_and_not_to_the_ticket_behind_that() -> None:
    assert [one.marked for one in read("bar-1", [f"{DUPLICATE}\n{VOID}\n{PAPER}"])] == [True, False]
    assert [one.marked for one in read("bar-1", [f"{DUPLICATE}\n{OUTAGE}\n{PAPER}"])] == [True, False]


@pytest.mark.parametrize("lines", range(1, 9))
@pytest.mark.parametrize("slip", [VOID, MOVED, OUTAGE, CATCH_UP])
def test_a_torn_slip_never_hides_the_ticket_that_follows_it(slip: str, lines: int) -> None:
    torn = "\n".join(slip.splitlines()[:lines])
    if not torn.endswith(("slip #5", "slip #6")):
        found = read("bar-1", [f"{torn}\n{PAPER}"])
        assert found[-1] == TICKET
        assert [type(one) for one in found] == [SlipPiece, Piece]
        assert isinstance(found[0], SlipPiece)
        assert found[0].id == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("----", True),
        ("----\n[image 576 x 48]", True),
        ("----\n[image 576 x 48]\nKITCHEN TICKET\nKITCHEN\nQUEUE 8", True),
        ("----\n[image 576 x 48]\n2 x Soto", False),
        ("----\n2 x Soto\n[image 576 x 48]", True),
        ("----\n[image 576 x 48]\n----\nGuests: 1", False),
    ],
)
@pytest.mark.parametrize("before", ["", "VOID\n"])
def test_a_torn_ticket_says_whether_it_ends_where_a_picture_may_be(before: str, text: str, expected: bool) -> None:
    found = [one for one in read("bar-1", [f"{before}{HEAD}\n{text}"]) if isinstance(one, Piece)]
    assert [one.at_picture for one in found][:1] == ([expected] if text or not before else [])


def test_a_slip_that_was_torn_below_its_title_does_not_take_the_place_of_a_ticket_without_a_headline() -> None:
    plain = PAPER.removeprefix("KITCHEN TICKET\n").replace("READY BY 19:44\n", "")
    assert read("bar-1", [f"VOID\n{plain}"]) == [SlipPiece("bar-1", Kind.VOID, "", 0, marked=False), TICKET]


def test_a_table_that_a_torn_head_named_is_not_that_of_the_next_ticket() -> None:
    assert read("bar-1", [f"KITCHEN\nTABLE 6\n{PAPER}"]) == [TICKET]


def test_a_slip_of_which_only_the_end_came_out_is_one_of_no_kind_and_no_part_of_a_torn_ticket() -> None:
    torn, end = read("bar-1", [f"{HEAD}\nBill: A-8\nslip #3"])
    assert torn == Piece("bar-1", 7, whole=False, marked=False)
    assert end == SlipPiece("bar-1", None, "", 0, marked=False, id=3)


def test_a_slip_that_was_torn_below_its_place_keeps_it() -> None:
    slip = SlipPiece("bar-1", Kind.VOID, "kitchen", 8, marked=False)
    assert read("bar-1", [VOID_HEAD]) == [slip]
    assert read("bar-1", [f"{VOID_HEAD}\n{PAPER}"]) == [slip, TICKET]


def test_a_slip_behind_a_torn_ticket_is_no_end_of_it() -> None:
    assert read("bar-1", [f"{HEAD}\n{VOID}"]) == [Piece("bar-1", 7, whole=False, marked=False), VOIDED]
