"""The paper says what the kitchen needs, whole, and marks what may be a second copy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.document import Align, Document, Line, Size, Unrenderable, columns_of, compose
from kps.core.text import columns
from kps.core.tickets import Item, Marks, PaperFormat, Reason, Reprint, Template, Ticket, TicketId

NOON = datetime(2026, 11, 22, 12, 31, tzinfo=UTC)
WIDE = PaperFormat(48, 80)
NARROW = PaperFormat(32, 58)


def a_ticket(**changes: Any) -> Ticket:
    plain = Ticket(
        id=TicketId(42),
        station="kitchen",
        checker=False,
        created_at=NOON,
        printed_now=NOON,
        timezone="Asia/Jakarta",
        bill_number="AYAM-0001",
        bill_type="dine_in",
        table="12",
        queue_number=None,
        customer_name="Bu Sari",
        guest_count=4,
        bill_notes="",
        waiter="Dewi",
        items=(Item(2, "Nasi goreng"),),
    )
    return replace(plain, **changes)


def a_template(**changes: Any) -> Template:
    return replace(Template(header_lines=("HEADER",), footer_lines=("FOOTER",)), **changes)


def texts(document: Document) -> list[str]:
    return [line.text for line in document.lines]


def lines_of(ticket: Ticket, paper: PaperFormat = WIDE) -> list[str]:
    return texts(compose(ticket, paper))


def find(document: Document, text: str) -> Line:
    (line,) = [line for line in document.lines if line.text == text]
    return line


def ink(text: str) -> str:
    return "".join(text.split())


def test_a_kitchen_ticket_reads_from_the_header_to_the_footer() -> None:
    ticket = a_ticket(
        items=(
            Item(2, "Nasi goreng", ("Level 5 – Pedas Gila", "Extra keju"), "tanpa bawang"),
            Item(1, "Es teh"),
        ),
        bill_notes="Ulang tahun",
        template=a_template(),
    )
    assert lines_of(ticket) == [
        "HEADER",
        "KITCHEN",
        "TABLE 12",
        "DINE IN",
        "-" * 48,
        "2 x Nasi goreng",
        "    + Level 5 – Pedas Gila",
        "    + Extra keju",
        "    tanpa bawang",
        "1 x Es teh",
        "-" * 48,
        "NOTE: Ulang tahun",
        "Customer: Bu Sari",
        "Guests: 4",
        "Bill: AYAM-0001",
        "Waiter: Dewi",
        "Ordered: 2026-11-22 19:31",
        "#42",
        "FOOTER",
    ]


def test_a_checker_ticket_has_boxes_and_stations() -> None:
    items = (Item(2, "Nasi goreng", ("Pedas",), station="kitchen"), Item(1, "Es teh", station="bar"))
    assert lines_of(a_ticket(checker=True, station="checker", items=items))[:9] == [
        "CHECKER",
        "TABLE 12",
        "DINE IN",
        "-" * 48,
        "[ ] 2 x Nasi goreng",
        "    (KITCHEN)",
        "    + Pedas",
        "[ ] 1 x Es teh",
        "    (BAR)",
    ]


def test_what_must_be_seen_from_afar_is_large() -> None:
    document = compose(a_ticket(items=(Item(2, "Nasi goreng", ("Pedas",)),)), WIDE)
    assert find(document, "TABLE 12") == Line("TABLE 12", Size.HUGE, bold=True, align=Align.CENTER)
    assert find(document, "DINE IN").size is Size.DOUBLE
    assert find(document, "2 x Nasi goreng").size is Size.DOUBLE
    assert find(document, "    + Pedas").bold


@pytest.mark.parametrize(
    ("bill_type", "expected"),
    [("dine_in", "DINE IN"), ("takeaway", "TAKEAWAY"), ("delivery", "DELIVERY"), ("drive_through", "DRIVE THROUGH")],
)
def test_the_order_type_is_spelt_out(bill_type: str, expected: str) -> None:
    assert find(compose(a_ticket(bill_type=bill_type), WIDE), expected).size is Size.DOUBLE


def test_an_order_without_a_table_shows_its_queue_number() -> None:
    document = compose(a_ticket(bill_type="takeaway", table="", queue_number=17), WIDE)
    assert find(document, "QUEUE 17").size is Size.HUGE
    assert not [text for text in texts(document) if "TABLE" in text]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        (Marks(), []),
        (Marks(reprint=Reprint(NOON, "KITCHEN-1")), ["REPRINT - printed 19:31 on KITCHEN-1"]),
        (Marks(reprint=Reprint(None, "KITCHEN-1")), ["REPRINT - printed on KITCHEN-1"]),
        (Marks(reprint=Reprint(NOON, "")), ["REPRINT - printed 19:31"]),
        (
            Marks(reprint=Reprint(NOON - timedelta(days=1), "BAR")),
            ["REPRINT - printed 2026-11-21 19:31 on BAR"],
        ),
        (
            Marks(possible_duplicate=True, check_printers=("KITCHEN-1", "BAR-1")),
            ["POSSIBLE DUPLICATE - CHECK KITCHEN-1, BAR-1"],
        ),
        (Marks(possible_duplicate=True), ["POSSIBLE DUPLICATE - CHECK ALL PRINTERS"]),
        (Marks(backup_for="KITCHEN-1"), ["BACKUP FOR KITCHEN-1"]),
        (Marks(late_minutes=14), ["LATE 14 MIN"]),
        (Marks(late_minutes=-1), []),
        (
            Marks(Reprint(NOON, "A"), True, ("B",), "C", 3),
            ["REPRINT - printed 19:31 on A", "POSSIBLE DUPLICATE - CHECK B", "BACKUP FOR C", "LATE 3 MIN"],
        ),
        (Marks(moved_from=("A", "B")), ["MOVED - PART MAY BE AT A, B"]),
        (
            Marks(possible_duplicate=True, check_printers=("A",), moved_from=("B",), backup_for="A"),
            ["POSSIBLE DUPLICATE - CHECK A", "MOVED - PART MAY BE AT B", "BACKUP FOR A"],
        ),
        (Marks(backup_for="K\x1b@\n1"), ["BACKUP FOR K@ 1"]),
    ],
)
def test_marks_come_first_as_inverse_headings(marks: Marks, expected: list[str]) -> None:
    document = compose(a_ticket(marks=marks), WIDE)
    assert [line.text for line in document.lines if line.inverse] == expected
    assert texts(document)[: len(expected)] == expected


def test_a_long_heading_is_wrapped_inside_its_bar() -> None:
    marks = Marks(possible_duplicate=True, check_printers=("KITCHEN-1", "KITCHEN-2"))
    headings = [line.text for line in compose(a_ticket(marks=marks), NARROW).lines if line.inverse]
    assert headings == ["POSSIBLE DUPLICATE - CHECK", "KITCHEN-1, KITCHEN-2"]


def test_a_heading_never_touches_the_edges_of_its_bar() -> None:
    marks = Marks(backup_for="KITCHEN PRINTER NUM-1")
    headings = [line.text for line in compose(a_ticket(marks=marks), NARROW).lines if line.inverse]
    assert headings == ["BACKUP FOR KITCHEN PRINTER", "NUM-1"]


@pytest.mark.parametrize("checker", [False, True])
@pytest.mark.parametrize(
    ("switch", "on_kitchen", "on_checker"),
    [
        ("show_bill_number", ["Bill: AYAM-0001"], ["Bill: AYAM-0001"]),
        ("show_table_number", ["TABLE 12"], ["TABLE 12"]),
        ("show_customer_name", ["Customer: Bu Sari", "Guests: 4"], []),
        ("show_station_name", ["KITCHEN"], []),
        ("show_date_time", ["Ordered: 2026-11-22 19:31"], ["Ordered: 2026-11-22 19:31"]),
        ("show_item_notes", ["    tanpa bawang"], ["    tanpa bawang"]),
        ("show_station_label", [], ["    (BAR)"]),
    ],
)
def test_a_template_switch_takes_out_its_lines_and_no_other(
    switch: str, on_kitchen: list[str], on_checker: list[str], checker: bool
) -> None:
    ticket = a_ticket(checker=checker, items=(Item(1, "Soto", notes="tanpa bawang", station="bar"),))
    with_it = lines_of(replace(ticket, template=a_template()))
    without = lines_of(replace(ticket, template=a_template(**{switch: False})))
    gone = on_checker if checker else on_kitchen
    assert set(gone) <= set(with_it)
    assert without == [text for text in with_it if text not in gone]


@pytest.mark.parametrize(
    ("checker", "quantity", "box", "expected"),
    [
        (False, True, True, "2 x Nasi goreng"),
        (False, False, True, "Nasi goreng"),
        (True, True, True, "[ ] 2 x Nasi goreng"),
        (True, True, False, "2 x Nasi goreng"),
        (True, False, True, "[ ] Nasi goreng"),
        (True, False, False, "Nasi goreng"),
    ],
)
def test_quantity_and_box_stand_before_the_name_where_the_template_wants_them(
    checker: bool, quantity: bool, box: bool, expected: str
) -> None:
    template = a_template(show_item_qty=quantity, show_checkbox=box)
    assert expected in lines_of(a_ticket(checker=checker, template=template))


@pytest.mark.parametrize(("asked", "fed"), [(3, 3), (0, 0), (-4, 0), (300, 255)])
def test_feed_and_cut_are_the_templates(asked: int, fed: int) -> None:
    document = compose(a_ticket(template=a_template(feed_lines=asked, auto_cut=False)), WIDE)
    assert (document.feed_lines, document.cut) == (fed, False)
    assert compose(a_ticket(), WIDE).cut


@pytest.mark.parametrize(
    ("notes", "shown", "shown_without_notes"),
    [
        (
            "+ Level 5 | + Extra keju | bungkus terpisah",
            ["    + Level 5", "    + Extra keju", "    bungkus terpisah"],
            ["    + Level 5", "    + Extra keju"],
        ),
        ("Jangan pedas!\r\nsedikit garam", ["    Jangan pedas!", "    sedikit garam"], []),
        ("half | half", ["    half | half"], []),
        ("+", [], []),
        ("  ", [], []),
    ],
)
def test_notes_of_a_qr_order_give_a_line_to_each_modifier(
    notes: str, shown: list[str], shown_without_notes: list[str]
) -> None:
    ticket = a_ticket(items=(Item(2, "Nasi goreng", notes=notes),))
    for template, expected in ((a_template(), shown), (a_template(show_item_notes=False), shown_without_notes)):
        lines = lines_of(replace(ticket, template=template))
        after = lines[lines.index("2 x Nasi goreng") + 1 :]
        assert after[: after.index("-" * 48)] == expected


def test_a_void_item_is_left_out() -> None:
    lines = lines_of(a_ticket(items=(Item(1, "Gone", void=True), Item(1, "Stays"))))
    assert "1 x Stays" in lines
    assert not [line for line in lines if "Gone" in line]


@pytest.mark.parametrize(("items", "text"), [((), "no items"), ((Item(1, "Gone", void=True),), "all items are void")])
def test_a_ticket_with_nothing_to_cook_cannot_be_put_on_paper(items: tuple[Item, ...], text: str) -> None:
    with pytest.raises(Unrenderable, match=f"^{text}$") as raised:
        compose(a_ticket(items=items), WIDE)
    assert raised.value.reason is Reason.NO_ITEMS
    assert raised.value.text == text


def test_absent_fields_leave_no_empty_lines() -> None:
    bare = a_ticket(bill_number="", bill_type="", table=" ", customer_name="", guest_count=0, waiter="", station="")
    assert lines_of(replace(bare, template=Template(header_lines=("", " ")))) == [
        "-" * 48,
        "2 x Nasi goreng",
        "-" * 48,
        "Ordered: 2026-11-22 19:31",
        "#42",
    ]


def test_an_item_without_a_name_is_still_counted() -> None:
    assert "3 x (no name)" in lines_of(a_ticket(items=(Item(3, "\x00"),)))


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("Asia/Jakarta", "Ordered: 2026-11-23 01:31"),
        ("America/New_York", "Ordered: 2026-11-22 13:31"),
        ("UTC", "Ordered: 2026-11-22 18:31"),
        ("Mars/Olympus", "Ordered: 2026-11-22 18:31 UTC"),
        ("", "Ordered: 2026-11-22 18:31 UTC"),
        ("../etc/passwd", "Ordered: 2026-11-22 18:31 UTC"),
        ("Asia", "Ordered: 2026-11-22 18:31 UTC"),
        ("a\x00b", "Ordered: 2026-11-22 18:31 UTC"),
    ],
)
def test_times_are_the_stores_or_utc_and_said_so(zone: str, expected: str) -> None:
    evening = NOON + timedelta(hours=6)
    assert expected in lines_of(a_ticket(timezone=zone, created_at=evening, printed_now=evening))


def test_a_ticket_that_waited_shows_both_times() -> None:
    lines = lines_of(a_ticket(printed_now=NOON + timedelta(minutes=14)))
    assert "Ordered: 2026-11-22 19:31" in lines
    assert "Printed: 2026-11-22 19:45" in lines


@pytest.mark.parametrize(
    ("chars", "width_mm", "expected"),
    [
        (48, 80, 48),
        (42, 80, 42),
        (32, 80, 32),
        (8, 58, 8),
        (96, 80, 96),
        (7, 80, 48),
        (97, 80, 48),
        (0, 58, 32),
        (-1, 58, 32),
        (1000, 58, 32),
    ],
)
def test_an_impossible_number_of_columns_is_replaced_by_the_usual_one(chars: int, width_mm: int, expected: int) -> None:
    assert columns_of(PaperFormat(chars, width_mm)) == expected


def test_a_large_name_is_wrapped_at_half_the_columns_under_its_quantity() -> None:
    lines = lines_of(a_ticket(items=(Item(12, "Nasi goreng spesial 宫保鸡丁"),)), NARROW)
    start = lines.index("12 x Nasi goreng")
    assert lines[start : start + 3] == ["12 x Nasi goreng", "     spesial", "     宫保鸡丁"]


def test_long_fields_are_printed_whole() -> None:
    note, header = "no peanuts " * 900 + "x" * 100, "H" * 500
    document = compose(
        a_ticket(items=(Item(1, "Soto", notes=note),), bill_notes=note, template=a_template(header_lines=(header,))),
        NARROW,
    )
    printed = ink("".join(texts(document)))
    assert printed.count(ink(note)) == 2
    assert header in printed


def test_two_hundred_items_are_all_printed() -> None:
    document = compose(a_ticket(items=tuple(Item(n, f"Dish {n}") for n in range(1, 201))), WIDE)
    assert [text for text in texts(document) if " x Dish " in text] == [f"{n} x Dish {n}" for n in range(1, 201)]


ORDER_TEXT = st.text(st.sampled_from("ab é-\n\x1b\x1d\x10\x04\u202e少辣한😀|+") | st.characters(), max_size=60)


@given(
    paper=st.builds(PaperFormat, st.integers(0, 100), st.sampled_from([58, 80])),
    checker=st.booleans(),
    name=ORDER_TEXT,
    other=ORDER_TEXT,
    quantity=st.integers(0, 1000),
)
def test_no_line_is_wider_than_the_paper_or_holds_a_control_character(
    paper: PaperFormat, checker: bool, name: str, other: str, quantity: int
) -> None:
    ticket = a_ticket(
        checker=checker,
        station=other,
        table=name,
        bill_type=other,
        customer_name=other,
        bill_notes=other,
        waiter=name,
        items=(Item(quantity, name, (other, name), other, station=name),),
        template=a_template(header_lines=(name,), footer_lines=(other,)),
        marks=Marks(Reprint(NOON, name), True, (other, name), name, 5),
    )
    for line in compose(ticket, paper).lines:
        assert columns(line.text) <= line.room(columns_of(paper))
        assert columns(line.text) * line.size.width <= columns_of(paper)
        assert all(char >= " " and not "\x7f" <= char <= "\x9f" for char in line.text)
