"""A slip says what has changed, what to do now, and which paper it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kps.core.document import MAX_FEED_LINES, Document, Size, Unrenderable, columns_of
from kps.core.slip_document import MAX_ROWS, compose_slip
from kps.core.slips import (
    CatchUpSlip,
    ChangedItem,
    ChangeKind,
    ChangeSlip,
    ElsewhereTicket,
    OutageSlip,
    Slip,
    SlipContent,
    SlipId,
)
from kps.core.text import columns
from kps.core.tickets import PaperFormat
from kps.core.wording import PaperStyle

NOON = datetime(2026, 11, 22, 12, 31, tzinfo=UTC)
WIDE = PaperFormat(48, 80)
NARROW = PaperFormat(32, 58)
RULE = "-" * 48
END = ["Printed: 2026-11-22 19:31", "slip #7"]


def a_slip(content: SlipContent, **changes: Any) -> Slip:
    return replace(Slip(SlipId(7), content, NOON, "Asia/Jakarta"), **changes)


def a_change(kind: ChangeKind = ChangeKind.VOID, **changes: Any) -> ChangeSlip:
    plain = ChangeSlip(
        kind=kind,
        station="kitchen",
        table="5",
        new_table="8" if kind is ChangeKind.MOVED else "",
        queue_number=None,
        bill_type="dine_in",
        bill_number="AYAM-0001",
        items=(ChangedItem(2, "Nasi goreng", "Salah pesan", 42, NOON, "KITCHEN-1"),),
    )
    return replace(plain, **changes)


def elsewhere(number: int | None = 42, **changes: Any) -> ElsewhereTicket:
    return replace(ElsewhereTicket(4711, "kitchen", number, "T5", "KITCHEN-2", NOON), **changes)


def a_catch_up(**changes: Any) -> CatchUpSlip:
    return replace(CatchUpSlip("KITCHEN-1", None, (), (), ()), **changes)


def texts(document: Document) -> list[str]:
    return [line.text for line in document.lines]


def lines_of(content: SlipContent, paper: PaperFormat = WIDE, **changes: Any) -> list[str]:
    return texts(compose_slip(a_slip(content, **changes), paper))


BOXED_REASON = ["    ┌─────────────┐", "    │ Salah pesan │", "    └─────────────┘"]
DISH = ["2 x Nasi goreng", *BOXED_REASON, "    #042 19:31 KITCHEN-1"]


@pytest.mark.parametrize(
    ("kind", "heading", "place", "what_to_do"),
    [
        (ChangeKind.VOID, "VOID", ["TABLE 5", "DINE IN"], "DO NOT COOK"),
        (ChangeKind.CANCELLED, "CANCELLED", ["TABLE 5", "DINE IN"], "DO NOT COOK"),
        (ChangeKind.MOVED, "TABLE CHANGED", ["T5 -> T8"], "KEEP COOKING"),
    ],
)
def test_a_change_slip_reads_from_what_happened_to_the_papers_it_is_about(
    kind: ChangeKind, heading: str, place: list[str], what_to_do: str
) -> None:
    assert lines_of(a_change(kind)) == [
        heading, "KITCHEN", *place, what_to_do, RULE, *DISH, RULE, "Bill: AYAM-0001", *END,
    ]  # fmt: skip


def test_what_must_be_seen_from_afar_is_large() -> None:
    lines = {line.text: line for line in compose_slip(a_slip(a_change()), WIDE).lines}
    assert (lines["VOID"].size, lines["VOID"].inverse) == (Size.HUGE, True)
    assert lines["TABLE 5"].size is Size.HUGE
    assert lines["DO NOT COOK"].size is Size.DOUBLE
    assert lines["2 x Nasi goreng"].size is Size.DOUBLE
    moved = {line.text: line for line in compose_slip(a_slip(a_change(ChangeKind.MOVED)), WIDE).lines}
    assert (moved["TABLE CHANGED"].size, moved["TABLE CHANGED"].inverse) == (Size.HUGE, True)
    assert moved["T5 -> T8"].size is Size.HUGE


def test_a_heading_is_smaller_before_a_word_of_it_is_torn() -> None:
    heading = compose_slip(a_slip(a_change(ChangeKind.CANCELLED)), NARROW).lines[0]
    assert (heading.text, heading.size) == ("CANCELLED", Size.DOUBLE)


@pytest.mark.parametrize(
    ("table", "new_table", "queue_number", "expected"),
    [
        ("5", "8", None, "T5 -> T8"),
        ("VIP 1", "12A", None, "VIP 1 -> T12A"),
        ("", "8", 17, "Q17 -> T8"),
        ("5", "", 17, "T5 -> Q17"),
        ("5", "\x00", None, "T5 -> -"),
        ("", "8", None, "- -> T8"),
    ],
)
def test_a_move_names_both_places(table: str, new_table: str, queue_number: int | None, expected: str) -> None:
    moved = a_change(ChangeKind.MOVED, table=table, new_table=new_table, queue_number=queue_number)
    assert expected in lines_of(moved)


def test_a_void_takeaway_shows_its_queue_number() -> None:
    lines = lines_of(a_change(table="", queue_number=17, bill_type="takeaway"))
    assert lines[2:4] == ["QUEUE 17", "TAKEAWAY"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, DISH),
        ({"reason": " "}, ["2 x Nasi goreng", "    #042 19:31 KITCHEN-1"]),
        ({"number": None}, [*DISH[:-1], "    19:31 KITCHEN-1"]),
        ({"printer": ""}, [*DISH[:-1], "    #042 19:31"]),
        ({"name": "\x00", "quantity": -1}, ["-1 x (no name)", *DISH[1:]]),
        ({"printed_at": NOON - timedelta(days=1)}, [*DISH[:-1], "    #042 2026-11-21 19:31 KITCHEN-1"]),
    ],
)
def test_a_changed_dish_names_the_paper_that_it_is_on(changes: dict[str, Any], expected: list[str]) -> None:
    item = replace(a_change().items[0], **changes)
    lines = lines_of(a_change(items=(item,)))
    start = lines.index(RULE) + 1
    assert lines[start : lines.index(RULE, start)] == expected


@pytest.mark.parametrize(
    ("outage", "expected"),
    [
        (OutageSlip("KITCHEN-1", "out of paper", NOON), ["KITCHEN-1 CANNOT PRINT", "(out of paper)"]),
        (OutageSlip("KITCHEN-1", "paper_out", NOON), ["KITCHEN-1 CANNOT PRINT", "(out of paper)"]),
        (OutageSlip("KITCHEN-1", "", NOON), ["KITCHEN-1 CANNOT PRINT"]),
        (OutageSlip("", "", NOON), ["(no name) CANNOT PRINT"]),
    ],
)
def test_an_outage_slip_says_whose_tickets_come_out_here(outage: OutageSlip, expected: list[str]) -> None:
    since = ["Not printing since 19:31", "ITS TICKETS COME OUT", "HERE", RULE]
    assert lines_of(outage) == [*expected, *since, *END]
    assert lines_of(replace(outage, since=None)) == [*expected, *since[1:], *END]


def test_a_catch_up_slip_says_what_has_become_of_the_tickets() -> None:
    catch_up = a_catch_up(
        since=NOON - timedelta(minutes=21),
        went_elsewhere=(elsewhere(42), elsewhere(43, place="Q7")),
        maybe_twice=(elsewhere(41),),
        waiting=(elsewhere(44, printer="", place=""), elsewhere(None, printer="", at=None)),
    )
    assert lines_of(catch_up) == [
        "KITCHEN-1 PRINTS AGAIN",
        "Not printing since 19:10",
        RULE,
        "CHECK FOR DOUBLES:",
        "#041 T5 19:31 -> KITCHEN-2",
        RULE,
        "WENT ELSEWHERE:",
        "#042 T5 19:31 -> KITCHEN-2",
        "#043 Q7 19:31 -> KITCHEN-2",
        RULE,
        "WAITING NOW:",
        "#044 19:31",
        "ticket 4711 T5",
        RULE,
        *END,
    ]


def test_tickets_of_several_stations_are_told_apart() -> None:
    lines = lines_of(a_catch_up(went_elsewhere=(elsewhere(1), elsewhere(1, station="bar"))))
    assert "KITCHEN #001 T5 19:31 -> KITCHEN-2" in lines
    assert "BAR #001 T5 19:31 -> KITCHEN-2" in lines


@pytest.mark.parametrize(("tickets", "last"), [(MAX_ROWS, None), (MAX_ROWS + 1, "and 1 more"), (5000, "and 4960 more")])
@pytest.mark.parametrize("name", ["went_elsewhere", "maybe_twice", "waiting"])
def test_a_long_list_is_cut_and_says_so(name: str, tickets: int, last: str | None) -> None:
    lines = lines_of(a_catch_up(**{name: tuple(elsewhere(n + 1) for n in range(tickets))}))
    rows = [line for line in lines if line.startswith("#")]
    assert (len(rows), rows[0][:4]) == (MAX_ROWS, "#001")
    assert [line for line in lines if line.endswith(" more")] == ([last] if last else [])


CONTENTS: tuple[SlipContent, ...] = (a_change(), OutageSlip("KITCHEN-1", "", None), a_catch_up())


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: type(content).__name__)
@pytest.mark.parametrize(
    ("printers", "expected"),
    [
        (("KITCHEN-1", "BAR"), "POSSIBLE DUPLICATE - CHECK KITCHEN-1, BAR"),
        ((), "POSSIBLE DUPLICATE - CHECK ALL PRINTERS"),
    ],
)
def test_a_second_copy_is_marked(content: SlipContent, printers: tuple[str, ...], expected: str) -> None:
    first = compose_slip(a_slip(content, possible_duplicate=True, check_printers=printers), WIDE).lines[0]
    assert (first.text, first.inverse) == (expected, True)
    assert not [line for line in lines_of(content) if "DUPLICATE" in line]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: type(content).__name__)
def test_a_slip_is_cut_fed_and_heard_as_the_site_wants_its_paper(content: SlipContent) -> None:
    plain = compose_slip(a_slip(content), WIDE)
    assert (plain.cut, plain.feed_lines, plain.feed_before, plain.beep) == (True, 3, 0, False)
    loud = compose_slip(a_slip(content), WIDE, PaperStyle(top_feed_lines=1000, beep=True))
    assert (loud.feed_before, loud.beep) == (MAX_FEED_LINES, True)


def test_a_slip_speaks_the_language_of_the_kitchen() -> None:
    document = compose_slip(a_slip(a_change()), WIDE, PaperStyle(say=lambda message: f"«{message}»"))
    assert texts(document)[:5] == ["«VOID»", "KITCHEN", "«TABLE 5»", "«DINE IN»", "«DO NOT COOK»"]
    assert texts(document)[-3:] == ["«Bill»: AYAM-0001", "«Printed»: 2026-11-22 19:31", "slip #7"]


def test_times_are_utc_and_said_so_if_the_stores_zone_is_unknown() -> None:
    assert lines_of(a_change(), timezone="Mars/Olympus")[-2] == "Printed: 2026-11-22 12:31 UTC"


def test_a_slip_of_more_paper_than_anybody_reads_is_refused() -> None:
    with pytest.raises(Unrenderable, match="more than 3000 lines long"):
        compose_slip(a_slip(OutageSlip("x" * 100_000, "", None)), WIDE)


SLIP_TEXT = st.text(
    st.sampled_from("ab é-\n\x1b\x1d\x10\x04\u202e少辣한😀{}") | st.characters() | st.characters(categories=["Cs"]),
    max_size=40,
) | st.sampled_from(["x" * 10_000, " " * 50])
MOMENTS = st.datetimes(timezones=st.just(UTC))
NUMBERS = st.none() | st.integers(0, 10**6)
ELSEWHERE = st.builds(
    ElsewhereTicket, st.integers(1, 10**9), SLIP_TEXT, NUMBERS, SLIP_TEXT, SLIP_TEXT, st.none() | MOMENTS
)
LISTS = st.lists(ELSEWHERE, max_size=3).map(tuple)
ANY_CONTENT = st.one_of(
    st.builds(
        ChangeSlip,
        kind=st.sampled_from(ChangeKind),
        station=SLIP_TEXT,
        table=SLIP_TEXT,
        new_table=SLIP_TEXT,
        queue_number=NUMBERS,
        bill_type=SLIP_TEXT,
        bill_number=SLIP_TEXT,
        items=st.lists(
            st.builds(ChangedItem, st.integers(-2, 1000), SLIP_TEXT, SLIP_TEXT, NUMBERS, MOMENTS, SLIP_TEXT), max_size=3
        ).map(tuple),
    ),
    st.builds(OutageSlip, SLIP_TEXT, SLIP_TEXT, st.none() | MOMENTS),
    st.builds(CatchUpSlip, SLIP_TEXT, st.none() | MOMENTS, LISTS, LISTS, LISTS),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=ANY_CONTENT, width=st.sampled_from([8, 32, 42, 48, 64]), duplicate=st.booleans(), printer=SLIP_TEXT)
def test_whatever_a_slip_says_its_paper_fits_and_obeys_nobody(
    content: SlipContent, width: int, duplicate: bool, printer: str
) -> None:
    paper = PaperFormat(width, 80)
    slip = a_slip(content, possible_duplicate=duplicate, check_printers=(printer,))
    try:
        document = compose_slip(slip, paper)
    except Unrenderable as why:
        if "3000 lines" in why.text and "x" * 10_000 in repr(slip):
            return
        raise
    for line in document.lines:
        assert columns(line.text) <= line.room(columns_of(paper))
        assert columns(line.text) * line.size.width <= columns_of(paper)
        assert all(
            char >= " " and not "\x7f" <= char <= "\x9f" and not "\ud800" <= char <= "\udfff" for char in line.text
        )
    assert document.lines[-1].text == "slip #7"
