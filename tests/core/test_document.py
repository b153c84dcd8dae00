"""The paper says what the kitchen needs, whole, and marks what may be a second copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kps.core.document import (
    MAX_FEED_LINES,
    MAX_HEIGHT,
    Align,
    Document,
    Line,
    Size,
    Unrenderable,
    columns_of,
    compose,
)
from kps.core.text import clean, columns
from kps.core.tickets import (
    Before,
    Chain,
    Item,
    Marks,
    PaperFormat,
    Priority,
    Reason,
    Reprint,
    Sibling,
    Template,
    Ticket,
    TicketId,
)
from kps.core.wording import PaperStyle

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


def bars(document: Document) -> list[str]:
    return [line.text for line in document.lines if line.inverse]


def between_the_rules(lines: list[str]) -> list[str]:
    """What a ticket says of its dishes."""
    rule = next(line for line in lines if not line.strip("-"))
    start = lines.index(rule) + 1
    return lines[start : lines.index(rule, start)]


def unframed(line: str) -> str:
    """The words of a line without the frame around them."""
    bare = line.strip()
    if bare.startswith(("┌", "└")):
        return ""
    return bare[1:-1] if bare.startswith("│") and bare.endswith("│") else bare


def ink(text: str) -> str:
    return "".join(text.split())


def ink_of(document: Document) -> str:
    """All that is written, without white space and frames."""
    return "".join(ink(unframed(line.text)) for line in document.lines)


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
        "┌───────────────────┐",
        "│ NOTE: Ulang tahun │",
        "└───────────────────┘",
        "2 x Nasi goreng",
        "    + Level 5 – Pedas Gila",
        "    + Extra keju",
        "    ┌──────────────┐",
        "    │ tanpa bawang │",
        "    └──────────────┘",
        "1 x Es teh",
        "-" * 48,
        "Customer: Bu Sari",
        "Guests: 4",
        "Bill: AYAM-0001",
        "Waiter: Dewi",
        "Ordered: 2026-11-22 19:31",
        "FOOTER",
        "#42",
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
        (Marks(reprint=Reprint(None, "\x00")), ["REPRINT - printed"]),
        (Marks(possible_duplicate=True, check_printers=("\x00", " ")), ["POSSIBLE DUPLICATE - CHECK ALL PRINTERS"]),
        (Marks(backup_for="KITCHEN-1", backup_reason="lid torn off"), ["BACKUP FOR KITCHEN-1 (lid torn off)"]),
        (Marks(backup_for="KITCHEN-1", backup_reason="paper_out"), ["BACKUP FOR KITCHEN-1 (out of paper)"]),
        (Marks(backup_for="\x00"), ["BACKUP FOR (no name)"]),
        (Marks(moved_from=("\x00",)), ["MOVED - PART MAY BE AT (no name)"]),
        (
            Marks(Reprint(NOON, "A"), True, ("B",), "C", "", 3),
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
    assert bars(document) == texts(document)[: len(expected)] == expected


def test_a_long_heading_is_wrapped_inside_its_bar() -> None:
    marks = Marks(possible_duplicate=True, check_printers=("KITCHEN-1", "KITCHEN-2"))
    headings = [line.text for line in compose(a_ticket(marks=marks), NARROW).lines if line.inverse]
    assert headings == ["POSSIBLE DUPLICATE - CHECK", "KITCHEN-1, KITCHEN-2"]


def test_a_heading_never_touches_the_edges_of_its_bar() -> None:
    marks = Marks(backup_for="KITCHEN PRINTER NUM-1")
    headings = [line.text for line in compose(a_ticket(marks=marks), NARROW).lines if line.inverse]
    assert headings == ["BACKUP FOR KITCHEN PRINTER", "NUM-1"]


BOXED_NOTE = ["    ┌──────────────┐", "    │ tanpa bawang │", "    └──────────────┘"]


@pytest.mark.parametrize("checker", [False, True])
@pytest.mark.parametrize(
    ("switch", "on_kitchen", "on_checker"),
    [
        ("show_bill_number", ["Bill: AYAM-0001"], ["Bill: AYAM-0001"]),
        ("show_table_number", ["TABLE 12"], ["TABLE 12"]),
        ("show_customer_name", ["Customer: Bu Sari", "Guests: 4"], []),
        ("show_station_name", ["KITCHEN"], []),
        ("show_date_time", ["Ordered: 2026-11-22 19:31"], ["Ordered: 2026-11-22 19:31"]),
        ("show_item_notes", BOXED_NOTE, BOXED_NOTE),
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
            ["    + Level 5", "    + Extra keju", "bungkus terpisah"],
            ["    + Level 5", "    + Extra keju"],
        ),
        ("Jangan pedas!\r\nsedikit garam", ["Jangan pedas!", "sedikit garam"], []),
        ("half | half", ["half | half"], []),
        ("+", [], []),
        ("  ", [], []),
    ],
)
def test_notes_of_a_qr_order_give_a_line_to_each_modifier(
    notes: str, shown: list[str], shown_without_notes: list[str]
) -> None:
    ticket = a_ticket(items=(Item(2, "Nasi goreng", notes=notes),))
    for template, expected in ((a_template(), shown), (a_template(show_item_notes=False), shown_without_notes)):
        dishes = between_the_rules(lines_of(replace(ticket, template=template)))
        assert [unframed(line).strip() for line in dishes[1:] if unframed(line)] == [line.strip() for line in expected]


@pytest.mark.parametrize(
    ("columns_of_paper", "expected"),
    [
        (
            24,
            [
                "    ┌────────────────┐",
                "    │ sambal dipisah │",
                "    │ dan 少辣 tanpa │",
                "    │ bawang         │",
                "    └────────────────┘",
            ],
        ),
        (
            16,
            [
                "    ┌──────────┐",
                "    │ sambal   │",
                "    │ dipisah  │",
                "    │ dan 少辣 │",
                "    │ tanpa    │",
                "    │ bawang   │",
                "    └──────────┘",
            ],
        ),
        (15, ["    sambal", "    dipisah dan", "    少辣 tanpa", "    bawang"]),
    ],
)
def test_a_note_is_framed_where_there_is_room_for_a_frame(columns_of_paper: int, expected: list[str]) -> None:
    ticket = a_ticket(items=(Item(1, "So", notes="sambal dipisah dan 少辣 tanpa bawang"),))
    document = compose(ticket, PaperFormat(columns_of_paper, 80))
    lines = between_the_rules(texts(document))[1:]
    assert [line.rstrip() for line in lines] == expected
    assert all(find(document, line).size is Size.TALL for line in lines if unframed(line))
    if "┌" in lines[0]:
        assert len({columns(line) for line in lines}) == 1


def test_the_note_of_the_bill_is_read_before_the_first_dish() -> None:
    dishes = between_the_rules(lines_of(a_ticket(bill_notes="Ulang tahun\ntolong lilin")))
    assert [unframed(line).strip() for line in dishes] == [
        "",
        "NOTE: Ulang tahun",
        "tolong lilin",
        "",
        "2 x Nasi goreng",
    ]


SOTO = Item(1, "Soto", ("Pedas", "Telur"), "tanpa bawang", "kitchen")


@pytest.mark.parametrize(
    ("items", "quantities"),
    [
        ((SOTO, SOTO), ["2 x Soto"]),
        ((SOTO, replace(SOTO, quantity=3), SOTO), ["5 x Soto"]),
        ((SOTO, replace(SOTO, name=" Soto\x00 ")), ["2 x Soto"]),
        ((SOTO, replace(SOTO, station=" KITCHEN ")), ["2 x Soto"]),
        ((SOTO, replace(SOTO, modifiers=("+ Pedas", " Telur"))), ["2 x Soto"]),
        ((SOTO, replace(SOTO, modifiers=(), notes="+ Pedas | + Telur | tanpa bawang")), ["2 x Soto"]),
        ((SOTO, replace(SOTO, name="soto")), ["1 x Soto", "1 x soto"]),
        ((SOTO, replace(SOTO, modifiers=("Telur", "Pedas"))), ["1 x Soto", "1 x Soto"]),
        ((SOTO, replace(SOTO, modifiers=("Pedas",))), ["1 x Soto", "1 x Soto"]),
        ((SOTO, replace(SOTO, notes="")), ["1 x Soto", "1 x Soto"]),
        ((SOTO, replace(SOTO, notes="tanpa garam")), ["1 x Soto", "1 x Soto"]),
        ((SOTO, replace(SOTO, station="bar")), ["1 x Soto", "1 x Soto"]),
        ((SOTO, replace(SOTO, void=True)), ["1 x Soto"]),
        ((SOTO, replace(SOTO, quantity=0), SOTO), ["2 x Soto", "0 x Soto"]),
        ((SOTO, replace(SOTO, quantity=-1)), ["1 x Soto", "-1 x Soto"]),
        ((replace(SOTO, quantity=0), replace(SOTO, quantity=0)), ["0 x Soto", "0 x Soto"]),
    ],
)
def test_dishes_made_in_the_same_way_are_one_line(items: tuple[Item, ...], quantities: list[str]) -> None:
    lines = lines_of(a_ticket(items=items))
    assert [line for line in lines if " x " in line] == quantities


def test_a_merged_dish_stands_at_the_place_of_the_first() -> None:
    lines = lines_of(a_ticket(items=(Item(1, "A"), Item(1, "B"), Item(2, "A"))))
    assert between_the_rules(lines) == ["3 x A", "1 x B"]


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
        (53, 80, 53),
        (54, 80, 48),
        (56, 80, 48),
        (64, 80, 48),
        (40, 76, 40),
        (36, 58, 36),
        (37, 58, 32),
        (42, 58, 32),
        (48, 58, 32),
        (7, 80, 48),
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
    printed = ink_of(document)
    assert printed.count(ink(note)) == 2
    assert header in printed


def test_two_hundred_items_are_all_printed() -> None:
    document = compose(a_ticket(items=tuple(Item(n, f"Dish {n}") for n in range(1, 201))), WIDE)
    assert [text for text in texts(document) if " x Dish " in text] == [f"{n} x Dish {n}" for n in range(1, 201)]


@pytest.mark.parametrize(
    "changes",
    [
        {"bill_notes": "少" * 60_000},
        {"bill_notes": "mild\n" * 3000},
        {"bill_notes": "alergi " * 30_000},
        {"bill_notes": "ก" + "\u0e48" * 40_000},
        {"customer_name": "x" * 3000 * 48},
        {"items": tuple(Item(1, f"Dish {n}") for n in range(1600))},
        {"table": "x" * 80_000},
    ],
)
def test_a_ticket_of_more_paper_than_anybody_reads_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unrenderable, match="more than 3000 lines long") as refused:
        compose(a_ticket(**changes), WIDE)
    assert refused.value.reason is Reason.UNRENDERABLE


def test_a_ticket_that_is_just_not_too_long_is_printed_whole() -> None:
    rest = compose(a_ticket(bill_notes="mild"), WIDE).height
    most = (MAX_HEIGHT - rest) // 2
    lines = compose(a_ticket(bill_notes="mild\n" * (most + 1)), WIDE).lines
    assert [line.text for line in lines].count("│       mild │") == most
    with pytest.raises(Unrenderable):
        compose(a_ticket(bill_notes="mild\n" * (most + 4)), WIDE)


def test_where_no_quantity_is_printed_no_dish_stands_for_two() -> None:
    items = (Item(1, "Nasi"), Item(1, "Soto"), Item(1, "Nasi"), Item(2, "Nasi"))
    ticket = a_ticket(items=items, template=a_template(show_item_qty=False))
    assert between_the_rules(lines_of(ticket)) == ["Nasi", "Soto", "Nasi", "Nasi"]
    assert between_the_rules(lines_of(a_ticket(items=items))) == ["4 x Nasi", "1 x Soto"]


ALLERGIC = Item(1, "Soto", notes="alergi kacang")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"items": (ALLERGIC,)}, ["ALLERGY", "Soto: alergi kacang", "alergi kacang"]),
        (
            {"items": (Item(1, "Soto", notes="ALERGI KACANG!\nJangan pakai minyak kacang"),)},
            [
                "ALLERGY",
                "Soto: ALERGI KACANG! / Jangan pakai minyak",
                "kacang",
                "ALERGI KACANG!",
                "Jangan pakai minyak kacang",
            ],
        ),
        ({"items": (Item(1, "Soto", ("Gluten-free",)),)}, ["ALLERGY", "Soto: Gluten-free", "+ Gluten-free"]),
        (
            {"items": (Item(1, "Sate", ("Allergy", "Peanuts")),)},
            ["ALLERGY", "Sate: Allergy / Peanuts", "+ Allergy", "+ Peanuts"],
        ),
        (
            {"items": (Item(1, "Soto", ("Pedas", "Allergy"), "peanuts"),)},
            ["ALLERGY", "Soto: Pedas / Allergy / peanuts", "+ Pedas", "+ Allergy", "peanuts"],
        ),
        (
            {"items": (Item(1, "Soto", notes="+ Alergi udang | + Pedas | dibungkus"),)},
            ["ALLERGY", "Soto: Alergi udang / Pedas / dibungkus", "+ Alergi udang", "+ Pedas", "dibungkus"],
        ),
        ({"bill_notes": "対応: えびアレルギー"}, ["ALLERGY", "対応: えびアレルギー", "対応: えびアレルギー"]),
        (
            {"items": (ALLERGIC, Item(1, "Teh"), Item(1, "Soto", ("Pedas",), "alergi kacang"))},
            ["ALLERGY", "Soto: alergi kacang", "alergi kacang", "alergi kacang"],
        ),
        ({"items": (Item(1, "", notes="alergi"),)}, ["ALLERGY", "(no name): alergi", "alergi"]),
        ({"items": (Item(1, "Soto", notes="banyak kacang"),)}, []),
        ({"items": (Item(1, "Soto kacang", notes="pedas"),), "bill_notes": "kacang dipisah"}, []),
        ({"items": (replace(ALLERGIC, void=True), Item(1, "Teh"))}, []),
    ],
)
def test_an_allergy_is_a_bar_at_the_top_and_at_its_dish(changes: dict[str, Any], expected: list[str]) -> None:
    assert bars(compose(a_ticket(**changes), WIDE)) == expected


def test_the_allergy_is_above_every_other_heading() -> None:
    document = compose(a_ticket(items=(ALLERGIC,), marks=Marks(late_minutes=3), template=a_template()), WIDE)
    assert texts(document)[:5] == ["ALLERGY", "Soto: alergi kacang", "", "LATE 3 MIN", "HEADER"]
    assert document.lines[0] == Line("ALLERGY", Size.DOUBLE, bold=True, inverse=True, align=Align.CENTER)


@pytest.mark.parametrize("checker", [False, True])
@pytest.mark.parametrize("item", [ALLERGIC, Item(1, "Soto", ("Allergy",), "alergi kacang")])
def test_a_template_that_hides_notes_does_not_hide_an_allergy(item: Item, checker: bool) -> None:
    shown = a_ticket(items=(item,), checker=checker)
    hidden = replace(shown, template=Template(show_item_notes=False))
    assert lines_of(hidden) == lines_of(shown)
    assert lines_of(hidden).count("alergi kacang") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"items": (Item(1, "Soto", notes="Kéine Nüsse"),)},
        {"items": (Item(1, "Soto", ("Kéine Nüsse",)),)},
        {"bill_notes": "Kéine Nüsse"},
    ],
)
def test_an_operators_own_word_is_an_allergy_too(changes: dict[str, Any]) -> None:
    ticket = a_ticket(**changes)
    assert bars(compose(ticket, WIDE)) == []
    assert bars(compose(ticket, WIDE, PaperStyle(allergy_words=("KEINE nuss",))))[0] == "ALLERGY"


def test_every_heading_has_its_place() -> None:
    ticket = a_ticket(
        items=(ALLERGIC,),
        marks=Marks(Reprint(NOON, "A"), True, ("B",), "C", "cover_open", 7, ("D",)),
        priority=Priority.RUSH,
        add_on=True,
        ready_by=NOON + timedelta(minutes=14),
    )
    document = compose(ticket, WIDE)
    assert texts(document)[: texts(document).index("-" * 48)] == [
        "ALLERGY",
        "Soto: alergi kacang",
        "",
        "REPRINT - printed 19:31 on A",
        "POSSIBLE DUPLICATE - CHECK B",
        "MOVED - PART MAY BE AT D",
        "BACKUP FOR C (cover open)",
        "LATE 7 MIN",
        "RUSH",
        "ADD-ON",
        "KITCHEN",
        "TABLE 12",
        "DINE IN",
        "READY BY 19:45",
    ]
    assert find(document, "READY BY 19:45") == Line("READY BY 19:45", Size.DOUBLE, bold=True, align=Align.CENTER)


@pytest.mark.parametrize(
    ("priority", "expected"), [(Priority.NORMAL, []), (Priority.RUSH, ["RUSH"]), (Priority.URGENT, ["URGENT"])]
)
def test_a_hurried_order_says_so(priority: Priority, expected: list[str]) -> None:
    assert bars(compose(a_ticket(priority=priority), WIDE)) == expected


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(14, "READY BY 19:45"), (5 * 60, "READY BY 00:31"), (24 * 60, "READY BY 2026-11-23 19:31")],
)
def test_ready_by_names_the_day_only_if_the_clock_alone_could_mislead(minutes: int, expected: str) -> None:
    assert expected in " ".join(lines_of(a_ticket(ready_by=NOON + timedelta(minutes=minutes))))


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        (Chain(1), "#001, first today"),
        (Chain(42, Before(41, NOON, "T5", "")), "#042, before: #041 19:31 T5"),
        (Chain(42, Before(41, NOON, "T5", "BAR-2")), "#042, before: #041 19:31 T5 at BAR-2"),
        (Chain(42, Before(41, NOON, "", "")), "#042, before: #041 19:31"),
        (Chain(1042, Before(1041, NOON, "Q7\n", "\x00")), "#1042, before: #1041 19:31 Q7"),
        (Chain(42, Before(41, NOON, "T5", ""), NOON.date()), "#042 of 2026-11-22, before: #041 19:31 T5"),
        (Chain(1, None, NOON.date()), "#001 of 2026-11-22, first of that day"),
    ],
)
def test_the_paper_chain_names_this_number_and_the_one_before(chain: Chain, expected: str) -> None:
    document = compose(a_ticket(chain=chain), WIDE)
    assert find(document, expected).bold
    assert texts(document)[-2:] == [expected, "#42"]


@pytest.mark.parametrize("columns_of_paper", [32, 42, 48, 64])
def test_no_line_of_the_paper_chain_can_be_taken_for_the_tickets_own(columns_of_paper: int) -> None:
    chain = Chain(7042, Before(7041, NOON, "T5 next to the door", "KITCHEN PRINTER 2"))
    lines = lines_of(a_ticket(chain=chain), PaperFormat(columns_of_paper, 80))
    assert [line for line in lines if line.startswith("#") and line[1:].isdigit()] == ["#42"]
    assert lines[-1] == "#42"


@pytest.mark.parametrize(
    ("siblings", "expected"),
    [
        ((Sibling("bar", 2), Sibling("dessert", 1)), ["Also at: BAR 2, DESSERT 1"]),
        ((Sibling(" Bar\n", 2), Sibling("\x00", 1)), ["Also at: BAR 2"]),
        ((Sibling("\x00", 1),), []),
        ((), []),
    ],
)
def test_a_cook_sees_who_else_cooks_for_the_order(siblings: tuple[Sibling, ...], expected: list[str]) -> None:
    ticket = a_ticket(also_at=siblings)
    assert [line for line in lines_of(ticket) if line.startswith("Also at")] == expected
    assert not [line for line in lines_of(replace(ticket, checker=True)) if line.startswith("Also at")]


@pytest.mark.parametrize(("asked", "fed"), [(0, 0), (4, 4), (-1, 0), (1000, MAX_FEED_LINES)])
def test_a_site_may_feed_before_the_heading(asked: int, fed: int) -> None:
    document = compose(a_ticket(), WIDE, PaperStyle(top_feed_lines=asked))
    assert document.feed_before == fed
    assert document.height == fed + sum(line.size.height for line in document.lines) + document.feed_lines


def test_a_beep_is_the_sites_choice() -> None:
    assert not compose(a_ticket(), WIDE).beep
    assert compose(a_ticket(), WIDE, PaperStyle(beep=True)).beep


@pytest.mark.parametrize("show", [True, False])
def test_a_takeaway_keeps_its_queue_number_whatever_the_template_shows(show: bool) -> None:
    ticket = a_ticket(table="", queue_number=17, template=Template(show_table_number=show))
    assert "QUEUE 17" in lines_of(ticket)


@pytest.mark.parametrize(
    ("table", "columns_of_paper", "expected"),
    [
        ("12", 48, [("TABLE 12", Size.HUGE)]),
        ("12", 32, [("TABLE 12", Size.HUGE)]),
        ("VIP-ROOM-12", 48, [("TABLE", Size.HUGE), ("VIP-ROOM-12", Size.HUGE)]),
        ("VIP-ROOM-12", 32, [("TABLE", Size.DOUBLE), ("VIP-ROOM-12", Size.DOUBLE)]),
        ("VIP-ROOM-NUMBER-12", 32, [("TABLE VIP-ROOM-NUMBER-12", Size.TALL)]),
    ],
)
def test_the_number_of_a_table_is_never_torn_for_the_sake_of_its_size(
    table: str, columns_of_paper: int, expected: list[tuple[str, Size]]
) -> None:
    document = compose(a_ticket(table=table), PaperFormat(columns_of_paper, 80))
    texts_and_sizes = [(line.text, line.size) for line in document.lines]
    start = texts_and_sizes.index(expected[0])
    assert texts_and_sizes[start : start + len(expected)] == expected


def test_our_own_words_are_said_in_the_language_of_the_kitchen_and_data_is_not() -> None:
    ticket = a_ticket(
        table="TABLE", items=(Item(1, "Customer", ("RUSH",)),), priority=Priority.RUSH, chain=Chain(1), station="bill"
    )
    lines = lines_of(ticket), texts(compose(ticket, WIDE, PaperStyle(say=lambda message: f"«{message}»")))
    changed = [(english, said) for english, said in zip(*lines, strict=True) if english != said]
    assert changed == [
        ("RUSH", "«RUSH»"),
        ("TABLE TABLE", "«TABLE TABLE»"),
        ("DINE IN", "«DINE IN»"),
        ("Customer: Bu Sari", "«Customer»: Bu Sari"),
        ("Guests: 4", "«Guests»: 4"),
        ("Bill: AYAM-0001", "«Bill»: AYAM-0001"),
        ("Waiter: Dewi", "«Waiter»: Dewi"),
        ("Ordered: 2026-11-22 19:31", "«Ordered»: 2026-11-22 19:31"),
        ("#001, first today", "«#001, first today»"),
    ]


@pytest.mark.parametrize("year", [1, 9999])
@pytest.mark.parametrize("zone", ["Asia/Jakarta", "America/New_York"])
def test_the_ends_of_the_calendar_do_not_stop_a_ticket(year: int, zone: str) -> None:
    edge = datetime.min.replace(tzinfo=UTC) if year == 1 else datetime.max.replace(tzinfo=UTC)
    ticket = a_ticket(created_at=edge, timezone=zone, ready_by=edge)
    assert any(line.startswith(f"Ordered: {year:04}") for line in lines_of(ticket))


ORDER_TEXT = st.text(
    st.sampled_from("ab é-\n\x1b\x1d\x10\x04\u202e少辣한😀|+{}│┌") | st.characters() | st.characters(categories=["Cs"]),
    max_size=60,
) | st.sampled_from(["alergi", "x" * 10_000, " " * 50, "0"])
PAPERS = st.sampled_from([32, 42, 48, 64]).map(lambda width: PaperFormat(width, 80))
MOMENTS = st.datetimes(timezones=st.just(UTC))
ITEMS = st.builds(
    Item,
    quantity=st.integers(-2, 1000),
    name=ORDER_TEXT,
    modifiers=st.lists(ORDER_TEXT, max_size=3).map(tuple),
    notes=ORDER_TEXT,
    station=ORDER_TEXT,
    void=st.booleans(),
)
MARKS = st.builds(
    Marks,
    reprint=st.none() | st.builds(Reprint, st.none() | MOMENTS, ORDER_TEXT),
    possible_duplicate=st.booleans(),
    check_printers=st.lists(ORDER_TEXT, max_size=2).map(tuple),
    backup_for=ORDER_TEXT,
    backup_reason=ORDER_TEXT | st.sampled_from(Reason),
    late_minutes=st.integers(-1, 10**6),
    moved_from=st.lists(ORDER_TEXT, max_size=2).map(tuple),
)
CHAINS = st.builds(
    Chain,
    st.integers(1, 10**5),
    st.none() | st.builds(Before, st.integers(1, 10**5), MOMENTS, ORDER_TEXT, ORDER_TEXT),
    st.none() | st.dates(),
)
TICKETS = st.builds(
    Ticket,
    id=st.integers(1, 10**9).map(TicketId),
    station=ORDER_TEXT,
    checker=st.booleans(),
    created_at=MOMENTS,
    printed_now=MOMENTS,
    timezone=st.sampled_from(["Asia/Jakarta", "Mars/Olympus", "", "America/New_York"]),
    bill_number=ORDER_TEXT,
    bill_type=ORDER_TEXT,
    table=ORDER_TEXT,
    queue_number=st.none() | st.integers(0, 10**6),
    customer_name=ORDER_TEXT,
    guest_count=st.integers(-1, 100),
    bill_notes=ORDER_TEXT,
    waiter=ORDER_TEXT,
    items=st.lists(ITEMS, max_size=5).map(tuple),
    template=st.builds(
        Template,
        header_lines=st.lists(ORDER_TEXT, max_size=2).map(tuple),
        footer_lines=st.lists(ORDER_TEXT, max_size=2).map(tuple),
        show_item_notes=st.booleans(),
    ),
    marks=MARKS,
    chain=st.none() | CHAINS,
    also_at=st.lists(st.builds(Sibling, ORDER_TEXT, st.integers(0, 99)), max_size=3).map(tuple),
    add_on=st.booleans(),
    priority=st.sampled_from(Priority),
    ready_by=st.none() | MOMENTS,
)


def unless_too_long(composed: Callable[[], Document], said: str) -> Document | None:
    """The document; None if it is refused for its length, which only a text of 10,000 characters can cause."""
    try:
        return composed()
    except Unrenderable as why:
        if "3000 lines" in why.text and "x" * 10_000 in said:
            return None
        raise


def fits(document: Document, paper: PaperFormat) -> bool:
    """Whether no line is wider than the paper or holds anything that a device could obey."""
    return all(
        columns(line.text) <= line.room(columns_of(paper))
        and columns(line.text) * line.size.width <= columns_of(paper)
        and all(char >= " " and not "\x7f" <= char <= "\x9f" and not "\ud800" <= char <= "\udfff" for char in line.text)
        for line in document.lines
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(paper=PAPERS | st.builds(PaperFormat, st.integers(0, 100), st.sampled_from([58, 80])), ticket=TICKETS)
def test_whatever_the_order_says_its_paper_fits_and_obeys_nobody(paper: PaperFormat, ticket: Ticket) -> None:
    if all(item.void for item in ticket.items):
        with pytest.raises(Unrenderable):
            compose(ticket, paper)
        return
    document = unless_too_long(lambda: compose(ticket, paper), repr(ticket))
    if document is None:
        return
    assert fits(document, paper)
    assert document.height <= MAX_HEIGHT + 2 * MAX_FEED_LINES
    assert document.lines[-1].text.endswith(str(ticket.id)[-1])


WORDS = st.text(st.sampled_from("ab é少辣ก็|\n. alergi"), max_size=40)
DISHES = st.builds(
    Item, st.integers(-1, 9), WORDS, st.lists(WORDS, max_size=2).map(tuple), WORDS, WORDS, void=st.booleans()
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(paper=PAPERS, items=st.lists(DISHES, max_size=5).map(tuple), bill_notes=WORDS)
def test_every_word_of_every_dish_is_on_the_paper(paper: PaperFormat, items: tuple[Item, ...], bill_notes: str) -> None:
    items = (*items, Item(1, "Soto"))
    printed = ink_of(compose(a_ticket(items=items, bill_notes=bill_notes), paper))
    for item in items:
        for text in (item.name, *item.modifiers, *item.notes.splitlines()):
            assert item.void or ink(clean(text)) in printed
    assert ink(clean(bill_notes)) in printed


FEW = st.sampled_from(["Soto", "Teh"])


@given(items=st.lists(st.builds(Item, st.integers(1, 9), FEW, st.lists(FEW, max_size=1).map(tuple)), min_size=1))
def test_merging_keeps_the_sum_of_what_is_to_be_cooked(items: list[Item]) -> None:
    lines = [line for line in lines_of(a_ticket(items=tuple(items))) if " x " in line]
    assert sum(int(line.split(" x ")[0]) for line in lines) == sum(item.quantity for item in items)
    assert len(lines) == len({(item.name, item.modifiers) for item in items})
