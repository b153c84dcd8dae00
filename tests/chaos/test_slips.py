"""Every bad thing that may be said about slips is said once, and nothing of it about a clean run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.chaos.paper import FURTHER, Kind, Piece, SlipPiece
from tests.chaos.slips import Item, Slip, SlipVerdict, judge_slips
from tests.chaos.verdict import Ticket

ROUTES = {"kitchen": frozenset({"kitchen-1", "kitchen-2"}), "bar": frozenset({"bar-1"})}
TICKET = Ticket(107, 7, "kitchen", "printed", "fence", sends=1)
PAPER = Piece("kitchen-1", 7, whole=True, marked=False, table=7, dishes=("Soto", "Rendang"))
SOTO = Item(7, "Soto", table=7)
RENDANG = Item(7, "Rendang", table=7)
VOIDED = replace(SOTO, void=True)
MOVED = replace(SOTO, table=FURTHER + 7)
CANCELLED = replace(SOTO, bill="cancelled")
SLIP = Slip(3, Kind.VOID, "printed", "kitchen", 7, ((7, "Soto"),), (42,))
COPY = SlipPiece("kitchen-1", Kind.VOID, "kitchen", 7, marked=False, id=3, numbers=(42,))
TORN = replace(COPY, id=0, numbers=())


def judged(
    items: Sequence[Item],
    slips: Sequence[Slip] = (),
    copies: Sequence[SlipPiece] = (),
    *,
    papers: Sequence[Piece] = (PAPER,),
    ticket: Ticket = TICKET,
) -> SlipVerdict:
    return judge_slips(items, [ticket], papers, slips, copies, ROUTES)


def of(kind: Kind) -> tuple[Slip, SlipPiece]:
    """A slip of this kind about the Soto, and its paper."""
    return replace(SLIP, kind=kind), replace(COPY, kind=kind)


def faults(found: SlipVerdict) -> tuple[int, int, int]:
    """Numbers of missing slips, unmarked copies and false alarms."""
    return len(found.missing), len(found.unmarked), len(found.false_alarms)


def test_an_order_in_which_nothing_changed_needs_no_slip() -> None:
    assert judged([SOTO, RENDANG]) == SlipVerdict()


@pytest.mark.parametrize(
    ("item", "kind"), [(VOIDED, Kind.VOID), (CANCELLED, Kind.CANCELLED), (MOVED, Kind.MOVED)]
)  # fmt: skip
def test_a_change_of_what_is_on_paper_needs_exactly_one_slip(item: Item, kind: Kind) -> None:
    slip, copy = of(kind)
    assert faults(judged([item, RENDANG])) == (1, 0, 0)
    assert faults(judged([item, RENDANG], [slip], [copy])) == (0, 0, 0)


@pytest.mark.parametrize(
    "item",
    [
        SOTO,
        replace(SOTO, merged=True, table=9),
        replace(SOTO, merged=True, table=FURTHER + 9),
        replace(VOIDED, bill="paid"),
        replace(MOVED, bill="paid"),
    ],
    ids=["nothing", "merged", "merged, then moved", "paid, then voided", "paid, then moved"],
)
def test_what_did_not_happen_to_a_dish_must_not_have_a_slip(item: Item) -> None:
    assert faults(judged([item])) == (0, 0, 0)
    for kind in (Kind.VOID, Kind.CANCELLED, Kind.MOVED):
        slip, copy = of(kind)
        assert faults(judged([item], [slip], [copy])) == (0, 0, 1)


def test_a_merged_item_that_is_voided_or_cancelled_has_a_slip_but_none_about_a_move() -> None:
    merged = replace(SOTO, merged=True, table=9)
    assert faults(judged([replace(merged, void=True)])) == (1, 0, 0)
    assert faults(judged([replace(merged, bill="cancelled")])) == (1, 0, 0)


def test_a_slip_of_the_wrong_kind_is_a_false_alarm_and_no_slip_about_the_change() -> None:
    slip, copy = of(Kind.CANCELLED)
    assert faults(judged([VOIDED], [slip], [copy])) == (1, 0, 1)


def test_a_slip_about_a_dish_of_no_ticket_is_a_false_alarm() -> None:
    slip = replace(SLIP, items=((7, "Soto"), (0, "Rendang")), numbers=(42, 42))
    assert faults(judged([VOIDED], [slip], [replace(COPY, numbers=(42, 42))])) == (0, 0, 1)


def test_what_was_voided_before_its_print_needs_no_slip() -> None:
    without = replace(PAPER, dishes=("Rendang",))
    assert faults(judged([VOIDED], papers=[without])) == (0, 0, 0)
    assert faults(judged([VOIDED], [SLIP], [COPY], papers=[without])) == (0, 0, 1)


def test_a_ticket_that_was_printed_at_the_new_table_needs_no_word_of_it() -> None:
    slip, copy = of(Kind.MOVED)
    there = replace(PAPER, table=FURTHER + 7)
    assert faults(judged([MOVED], papers=[there])) == (0, 0, 0)
    assert faults(judged([MOVED], [slip], [copy], papers=[there])) == (0, 0, 1)


def test_of_a_copy_that_vanished_or_was_torn_a_change_may_have_a_slip_or_not() -> None:
    twice = replace(TICKET, sends=2)
    without = replace(PAPER, dishes=("Rendang",), marked=True)
    assert faults(judged([VOIDED], papers=[without], ticket=twice)) == (0, 0, 0)
    assert faults(judged([VOIDED], [SLIP], [COPY], papers=[without], ticket=twice)) == (0, 0, 0)
    torn = replace(PAPER, dishes=(), whole=False)
    assert faults(judged([VOIDED], [SLIP], [COPY], papers=[torn, without], ticket=twice)) == (0, 0, 0)
    slip, copy = of(Kind.MOVED)
    there = replace(PAPER, table=FURTHER + 7, marked=True)
    assert faults(judged([MOVED], [slip], [copy], papers=[there], ticket=twice)) == (0, 0, 0)
    assert faults(judged([SOTO], [SLIP], [COPY], papers=[without], ticket=twice)) == (0, 0, 1), "it never changed"


def test_a_torn_copy_that_shows_the_dish_needs_a_slip_about_its_void() -> None:
    torn = replace(PAPER, whole=False)
    without = replace(PAPER, dishes=("Rendang",), marked=True)
    assert faults(judged([VOIDED], papers=[torn, without], ticket=replace(TICKET, sends=2))) == (1, 0, 0)


def test_a_failed_ticket_needs_no_slip_because_the_pos_shows_it() -> None:
    torn = replace(PAPER, whole=False)
    failed = replace(TICKET, status="failed")
    assert faults(judged([VOIDED], papers=[torn], ticket=failed)) == (0, 0, 0)
    assert faults(judged([VOIDED], [SLIP], [COPY], papers=[torn], ticket=failed)) == (0, 0, 0)


def test_a_drawn_dish_is_on_paper_where_a_picture_is() -> None:
    drawn = Item(7, "宫保鸡丁", drawn=True, void=True, table=7)
    assert faults(judged([drawn])) == (0, 0, 0)
    assert faults(judged([drawn], papers=[replace(PAPER, drawn=True)])) == (1, 0, 0)


def test_a_change_whose_slip_has_failed_is_visible() -> None:
    found = judged([VOIDED], [replace(SLIP, state="failed")])
    assert (faults(found), found.failed) == ((0, 0, 0), 1)


@pytest.mark.parametrize("kind", [Kind.VOID, Kind.OUTAGE, Kind.CATCH_UP])
def test_a_printed_slip_that_is_on_no_paper_or_only_torn_is_missing(kind: Kind) -> None:
    change = kind is Kind.VOID
    slip = SLIP if change else Slip(3, kind, "printed")
    items = [VOIDED] if change else []
    assert faults(judged(items, [slip])) == (1, 0, 0)
    assert faults(judged(items, [slip], [TORN] if change else [SlipPiece("bar-1", kind, "", 0, False)])) == (1, 0, 0)


def test_a_slip_that_is_still_open_in_the_end_tells_nothing() -> None:
    assert faults(judged([VOIDED], [replace(SLIP, state="new")])) == (1, 0, 0)


def test_a_second_copy_counts_unless_it_is_marked_whole_or_torn() -> None:
    marked = replace(COPY, marked=True)
    assert faults(judged([VOIDED], [SLIP], [COPY, COPY])) == (0, 1, 0)
    assert faults(judged([VOIDED], [SLIP], [TORN, COPY])) == (0, 1, 0)
    assert faults(judged([VOIDED], [SLIP], [TORN, TORN, marked])) == (0, 1, 0)
    found = judged([VOIDED], [SLIP], [TORN, marked])
    assert (faults(found), found.marked) == ((0, 0, 0), 1)


def test_two_slips_of_one_bill_may_each_be_torn_once() -> None:
    other = replace(SLIP, id=4, items=((7, "Rendang"),))
    again = [replace(COPY, marked=True), replace(COPY, id=4, marked=True)]
    items = [VOIDED, replace(RENDANG, void=True)]
    assert faults(judged(items, [SLIP, other], [TORN, TORN, *again])) == (0, 0, 0)
    assert faults(judged(items, [SLIP, other], [TORN, COPY, again[1]])) == (0, 0, 0)
    assert faults(judged(items, [SLIP, other], [TORN, TORN, TORN, *again])) == (0, 1, 0)


def test_a_change_with_two_slips_has_one_too_many() -> None:
    other = replace(SLIP, id=4)
    assert faults(judged([VOIDED], [SLIP, other], [COPY, replace(COPY, id=4)])) == (0, 1, 0)


def test_an_outage_slip_that_comes_out_twice_is_unmarked_too() -> None:
    outage = Slip(5, Kind.OUTAGE, "printed")
    copy = SlipPiece("bar-1", Kind.OUTAGE, "", 0, marked=False, id=5)
    assert faults(judged([], [outage], [copy])) == (0, 0, 0)
    assert faults(judged([], [outage], [copy, copy])) == (0, 1, 0)


@pytest.mark.parametrize(
    "copy",
    [
        replace(COPY, id=9),
        replace(COPY, kind=Kind.MOVED),
        replace(COPY, station="bar"),
        replace(COPY, place=8),
        replace(COPY, numbers=(42, 42)),
        replace(COPY, printer="bar-1"),
        replace(TORN, place=8),
    ],
    ids=[
        "unknown",
        "headed otherwise",
        "other station",
        "other place",
        "other items",
        "other printer",
        "torn, unknown",
    ],
)
def test_a_paper_that_says_otherwise_than_its_slip_is_a_false_alarm(copy: SlipPiece) -> None:
    assert judged([VOIDED], [SLIP], [COPY, copy]).false_alarms


def test_a_slip_that_was_torn_above_its_place_is_nobodys() -> None:
    nameless = SlipPiece("kitchen-1", Kind.VOID, "", 0, marked=False)
    assert faults(judged([VOIDED], [SLIP], [nameless, COPY])) == (0, 0, 0)
