"""The order book, and what the POS's writer leaves in the tables."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import psycopg2
import pytest

from kps.demo.order_book import ALLERGY_NOTE, MENU
from kps.demo.orders import BillType, Line, Modifier, NoSuchRow, Order, OrderBook, PosWriter, PrinterSeed, Priority
from kps.demo.pos_tables import SchemaAge
from tests.conftest import Databases
from tests.sample import load_sample


@pytest.fixture(params=list(SchemaAge))
def any_pos(databases: Databases, request: pytest.FixtureRequest) -> Iterator[PosWriter]:
    """The POS of each age in turn."""
    with databases.copy(request.param) as database, PosWriter(database.dsn) as writer:
        writer.seed_reference_data([PrinterSeed("127.0.0.1", 9100)])
        yield writer


def a_bill() -> Order:
    return Order(
        lines=(
            Line("Gado-Gado", 2),
            Line("Es Teh Tawar", 3, station="bar"),
            Line("Nasi Goreng Kampung", 1, void=True),
            Line("味噌ラーメン", 1, notes=ALLERGY_NOTE),
            Line("Kerupuk Udang", 1, station="none"),
            Line("Air Mineral", 1, station=""),
        ),
        table="12A",
        priority=Priority.RUSH,
    )


def test_the_same_seed_gives_the_same_orders() -> None:
    assert list(islice(OrderBook(7), 200)) == list(islice(OrderBook(7), 200))


def test_another_seed_gives_other_orders() -> None:
    assert list(islice(OrderBook(7), 20)) != list(islice(OrderBook(8), 20))


@pytest.mark.parametrize("seed", range(20))
def test_every_order_makes_at_least_one_ticket_and_fits_its_bill_type(seed: int) -> None:
    for order in islice(OrderBook(seed), 200):
        assert order.stations
        assert (order.table is not None) == (order.bill_type is BillType.DINE_IN)
        assert (order.queue_number is not None) == (order.bill_type is BillType.TAKEAWAY)


def test_a_book_holds_everything_that_a_kitchen_meets() -> None:
    orders = list(islice(OrderBook(1), 500))
    lines = [line for order in orders for line in order.lines]
    assert {order.bill_type for order in orders} == set(BillType)
    assert {order.priority for order in orders} == set(Priority)
    assert {line.product for line in lines} == {product.name for product in MENU}
    assert any(line.void for line in lines)
    assert any(line.notes == ALLERGY_NOTE for line in lines)
    assert any(line.modifiers for line in lines)
    assert any(not line.product.isascii() for line in lines)


def test_a_bill_becomes_a_ticket_per_station_and_one_for_the_checker(any_pos: PosWriter) -> None:
    tickets = any_pos.place(a_bill())
    rows = [any_pos.ticket_row(ticket) or {} for ticket in tickets]
    assert [row["printer_target"] for row in rows] == ["kitchen", "bar", "checker"]
    assert {row["status"] for row in rows} == {"new"}
    assert [[item["quantity"] for item in any_pos.ticket_items(ticket)] for ticket in tickets] == [
        [2, 1],
        [3],
        [2, 1, 3],
    ]


def test_each_ticket_has_a_log_row_that_says_it_was_created(any_pos: PosWriter) -> None:
    [_, _, checker] = any_pos.place(a_bill())
    [row] = any_pos.log_rows(checker)
    assert (row["action"], row["actor"], row["old_status"], row["new_status"]) == ("created", "system", "new", "new")
    assert row["metadata"]["stations_included"] == ["bar", "kitchen"]
    assert row["metadata"]["items_count"] == 3


def test_an_item_struck_before_sending_stays_on_the_bill_and_off_the_tickets(pos: PosWriter) -> None:
    pos.place(a_bill())
    found = pos.rows(
        "SELECT p.name, i.status, i.is_void, i.void_reason"
        " FROM pos_billitem i JOIN core_product p ON p.id = i.product_id"
        " WHERE NOT EXISTS (SELECT FROM kitchen_kitchenticketitem t WHERE t.bill_item_id = i.id) ORDER BY i.id"
    )
    assert found == [
        {
            "name": "Nasi Goreng Kampung",
            "status": "pending",
            "is_void": True,
            "void_reason": "Removed before sending to kitchen",
        },
        {"name": "Kerupuk Udang", "status": "sent", "is_void": False, "void_reason": ""},
        {"name": "Air Mineral", "status": "sent", "is_void": False, "void_reason": ""},
    ]


def test_an_urgent_bill_has_rows_for_the_kitchen_display(pos: PosWriter) -> None:
    pos.place(a_bill())
    found = pos.rows(
        "SELECT station, priority, jsonb_array_length(item_ids) AS n FROM kitchen_kitchenorder ORDER BY id"
    )
    assert found == [
        {"station": "kitchen", "priority": "rush", "n": 2},
        {"station": "bar", "priority": "rush", "n": 1},
    ]


def test_a_book_of_orders_can_be_placed_in_every_age(any_pos: PosWriter) -> None:
    orders = list(islice(OrderBook(3), 25))
    tickets = [any_pos.place(order) for order in orders]
    assert [len(placed) for placed in tickets] == [len(order.stations) + 1 for order in orders]
    [sums] = any_pos.rows(
        "SELECT count(*) AS n, bool_and(total = subtotal + tax_amount + service_charge) AS ok FROM pos_bill"
    )
    assert sums == {"n": 25, "ok": True}


def test_one_call_writes_one_ticket_as_asked(pos: PosWriter) -> None:
    when = datetime(2026, 2, 4, 14, 30, tzinfo=UTC)
    ticket = pos.ticket(
        "dessert",
        [("Crêpe Suzette", 2), Line("Es Campur 🍧", 1, station="dessert", notes="besar")],
        notes="tanpa gula",
        modifiers=["Extra keju", Modifier("Extra susu")],
        bill_type="takeaway",
        queue_number=17,
        bill_notes="Antar bersamaan",
        customer_name="陳大文",
        created_at=when,
        max_retries=5,
        status="failed",
        print_attempts=2,
        printed_at=when,
    )
    row = pos.ticket_row(ticket)
    assert row is not None
    assert (row["status"], row["print_attempts"], row["max_retries"]) == ("failed", 2, 5)
    assert row["created_at"] == row["printed_at"] == when
    [bill] = pos.rows("SELECT bill_type, queue_number, notes, customer_name, table_id FROM pos_bill")
    assert bill == {
        "bill_type": "takeaway",
        "queue_number": 17,
        "notes": "Antar bersamaan",
        "customer_name": "陳大文",
        "table_id": None,
    }
    items = pos.rows("SELECT notes, jsonb_path_query_array(modifiers, '$[*].name') AS m FROM pos_billitem ORDER BY id")
    assert items == [{"notes": "tanpa gula", "m": ["Extra keju", "Extra susu"]}, {"notes": "besar", "m": []}]


def test_a_table_that_the_shop_lacks_is_put_up(pos: PosWriter) -> None:
    pos.ticket(table="99")
    found = pos.rows("SELECT t.number, b.bill_type FROM pos_bill b JOIN tables_table t ON t.id = b.table_id")
    assert found == [{"number": "99", "bill_type": "dine_in"}]


def test_a_ticket_belongs_to_the_brand_that_was_named(pos: PosWriter) -> None:
    second = pos.add_brand("KOPI", "Kopi Pojok")
    row = pos.ticket_row(pos.ticket(brand="KOPI"))
    assert row is not None
    assert row["brand_id"] == second
    [bill] = pos.rows("SELECT brand_id, bill_number FROM pos_bill")
    assert bill["brand_id"] == second
    assert bill["bill_number"].startswith("KOPI-")


def test_a_ticket_may_have_no_brand_of_its_own(pos: PosWriter) -> None:
    row = pos.ticket_row(pos.ticket(brand_id=None))
    assert row is not None
    assert row["brand_id"] is None


def test_an_unknown_brand_is_an_error_and_writes_nothing(pos: PosWriter) -> None:
    with pytest.raises(NoSuchRow):
        pos.ticket(brand="NOBODY")
    assert pos.rows("SELECT count(*) AS n FROM pos_bill") == [{"n": 0}]


def test_a_reprint_is_committed_before_its_items(any_pos: PosWriter) -> None:
    [original, *_] = any_pos.place(a_bill())
    copy = any_pos.begin_reprint(original)
    row = any_pos.ticket_row(copy)
    assert row is not None
    assert (row["status"], row["is_reprint"], row["original_ticket_id"]) == ("new", True, original)
    assert any_pos.ticket_items(copy) == []
    any_pos.finish_reprint(copy)
    assert [item["quantity"] for item in any_pos.ticket_items(copy)] == [2, 1]
    [log] = any_pos.log_rows(copy)
    assert (log["actor"], log["metadata"]) == ("admin:manager1", {"reprint_of": original, "original_status": "new"})


def test_the_items_of_a_reprint_are_committed_one_by_one(pos: PosWriter) -> None:
    copy = pos.reprint(pos.ticket(items=[("A", 1), ("B", 2), ("C", 3)]))
    assert len(pos.ticket_items(copy)) == 3
    [found] = pos.rows(
        "SELECT count(DISTINCT xmin::text) AS n FROM (SELECT xmin FROM kitchen_kitchenticket WHERE id = %s"
        " UNION ALL SELECT xmin FROM kitchen_kitchenticketitem WHERE kitchen_ticket_id = %s) AS written",
        [copy, copy],
    )
    assert found == {"n": 4}


def test_a_reset_clears_the_error_and_keeps_the_attempts(any_pos: PosWriter) -> None:
    when = datetime(2026, 2, 4, 14, 30, tzinfo=UTC)
    ticket = any_pos.ticket(
        status="failed", print_attempts=3, error_message="paper out", printer_ip="127.0.0.1", printed_at=when
    )
    any_pos.reset_to_new(ticket)
    row = any_pos.ticket_row(ticket)
    assert row is not None
    assert (row["status"], row["error_message"], row["printer_ip"]) == ("new", "", None)
    assert (row["print_attempts"], row["printed_at"]) == (3, when)
    assert len(any_pos.log_rows(ticket)) == 1


def test_staff_can_cancel_a_ticket(pos: PosWriter) -> None:
    ticket = pos.ticket()
    pos.mark_failed(ticket)
    row = pos.ticket_row(ticket)
    assert row is not None
    assert row["status"] == "failed"


def test_a_deleted_ticket_takes_its_rows_along_and_leaves_its_reprint(any_pos: PosWriter) -> None:
    ticket = any_pos.ticket()
    copy = any_pos.reprint(ticket)
    any_pos.delete_ticket(ticket)
    assert any_pos.ticket_row(ticket) is None
    assert any_pos.ticket_items(ticket) == []
    assert any_pos.log_rows(ticket) == []
    row = any_pos.ticket_row(copy)
    assert row is not None
    assert row["original_ticket_id"] is None


def test_what_is_not_there_cannot_be_changed(pos: PosWriter) -> None:
    for change in (
        pos.reset_to_new,
        pos.mark_failed,
        pos.delete_ticket,
        pos.void_item,
        pos.reprint,
        pos.update_printer,
    ):
        with pytest.raises(NoSuchRow):
            change(4711)


def test_a_void_after_sending_marks_the_item_and_writes_no_ticket(pos: PosWriter) -> None:
    ticket = pos.ticket()
    [item] = pos.ticket_items(ticket)
    pos.void_item(item["bill_item_id"], "tamu pergi")
    found = pos.rows(
        "SELECT i.is_void, i.void_reason, u.username FROM pos_billitem i JOIN core_user u ON u.id = i.void_by_id"
    )
    assert found == [{"is_void": True, "void_reason": "tamu pergi", "username": "manager1"}]
    assert pos.rows("SELECT count(*) AS n FROM kitchen_kitchenticket") == [{"n": 1}]


def test_printer_rows_can_be_added_and_changed(any_pos: PosWriter) -> None:
    row_id = any_pos.add_printer("127.0.0.2", 9101, station="bar", priority=2, name="Bar kiri", timeout_seconds=1)
    before = any_pos.printer_row(row_id)
    any_pos.update_printer(row_id, is_active=False, printer_ip="127.0.0.3")
    after = any_pos.printer_row(row_id)
    assert before is not None
    assert after is not None
    assert (before["station_code"], before["priority"], before["printer_name"]) == ("bar", 2, "Bar kiri")
    assert (before["timeout_seconds"], before["is_active"], before["printer_ip"]) == (1, True, "127.0.0.2")
    assert (after["is_active"], after["printer_ip"]) == (False, "127.0.0.3")
    assert after["updated_at"] > before["updated_at"]


def test_seeding_twice_adds_printers_only(pos: PosWriter) -> None:
    before = pos.rows("SELECT count(*) AS n FROM core_user")
    [row_id] = pos.seed_reference_data([PrinterSeed("127.0.0.1", 9100, columns={"printer_type": "win32"})])
    assert pos.rows("SELECT count(*) AS n FROM core_user") == before
    row = pos.printer_row(row_id)
    assert row is not None
    assert row["printer_type"] == "win32"


@pytest.mark.parametrize("age", SchemaAge)
def test_the_writer_goes_on_where_the_sample_ends(databases: Databases, age: SchemaAge) -> None:
    with databases.copy(age) as database, PosWriter(database.dsn) as writer:
        load_sample(database.connect(), age)
        assert writer.place(a_bill()) == [87, 88, 89]
        assert writer.reprint(2) == 90


def test_the_writer_works_again_after_its_connection_was_cut(pos: PosWriter) -> None:
    ticket = pos.ticket()
    with pytest.raises(psycopg2.Error):
        pos.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert pos.ticket_row(ticket) is not None
