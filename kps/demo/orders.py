"""Writes what the POS writes, in the way it writes: orders, reprints, an operator's resets, printer rows.

In the demo and in tests:

    pos = PosWriter(dsn)
    pos.seed_reference_data([PrinterSeed("127.0.0.1", 9100, "kitchen")])
    pos.place(next(OrderBook(seed=1)))                                # a whole bill, as from the till
    ticket = pos.ticket(items=[("Nasi Goreng", 2)], table="7")        # one ticket, for a test
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Final

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json, RealDictCursor

from kps.demo.order_book import BillType, Line, Modifier, Order, OrderBook, Priority, Product
from kps.demo.pos_tables import LOG, OLDER_LOG, TICKET
from kps.demo.shop import (
    DEFAULT_BRANDS,
    MANAGER,
    SERVICE_PERCENT,
    STATIONS,
    TAX_PERCENT,
    BrandSeed,
    NoSuchRow,
    PrinterSeed,
    Row,
    brand_of,
    columns_of,
    insert,
    insert_brand,
    insert_printer,
    insert_shop,
    new_id,
    now,
    only,
    product_id,
    table_of,
    user_id,
)

__all__ = [
    "BillType",
    "BrandSeed",
    "Line",
    "Modifier",
    "NoSuchRow",
    "Order",
    "OrderBook",
    "PosWriter",
    "PrinterSeed",
    "Priority",
    "Product",
]

CHECKER: Final = "checker"
STRUCK_BEFORE_SENDING: Final = "Removed before sending to kitchen"
STRUCK_LATER: Final = "Salah pesan"
CENT: Final = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class _Bill:
    """The columns of a bill that are needed to write its tickets."""

    id: int
    number: str
    brand_id: str
    bill_type: str
    table: str | None
    """Area and number, as the audit log names it."""


@dataclass(frozen=True, slots=True)
class _BillItem:
    id: int
    line: Line


class PosWriter:
    """The POS, as far as KPS can see it, for every age of its schema.

    Every call is committed when it returns. There is one connection, opened when it is first needed and again after it
    broke: the call that notices this raises psycopg2.Error, the next one works. Not for two threads at once.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None
        self._columns: dict[str, frozenset[str]] = {}

    def __enter__(self) -> PosWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def place(self, order: Order) -> list[int]:
        """Open a bill, then send it to the kitchen: a ticket for each station that has a dish, and the checker's last.

        Returns the tickets' ids, the checker's included; none if nothing of it is made.
        """
        with self._transaction() as cursor:
            bill = self._insert_bill(cursor, order, now())
            items = self._insert_bill_items(cursor, bill, order, sent=False)
        with self._transaction() as cursor:
            return self._send_to_kitchen(cursor, bill, order, items)

    def ticket(
        self,
        station: str = "kitchen",
        items: Sequence[tuple[str, int] | Line] = (("Nasi Goreng", 1),),
        *,
        notes: str = "",
        modifiers: Sequence[str | Modifier] = (),
        table: str | None = None,
        bill_type: BillType | str | None = None,
        queue_number: int | None = None,
        customer_name: str = "",
        guest_count: int = 1,
        bill_notes: str = "",
        priority: Priority | str = Priority.NORMAL,
        waiter: str = "",
        brand: str = "",
        created_at: datetime | None = None,
        is_reprint: bool = False,
        original: int | None = None,
        status: str = "new",
        print_attempts: int = 0,
        max_retries: int = 3,
        **columns: object,
    ) -> int:
        """One ticket with a bill of its own, in one transaction; returns the ticket's id.

        `notes` and `modifiers` are those of every item that is given as (name, quantity); give a `Line` for more.
        Without `bill_type` it is dine-in with a table and takeaway without. `brand` is a brand's code, `waiter` a
        user name. `columns` are further columns of the ticket (`printed_at`, `printer_ip`, `brand_id=None` ...).
        """
        given = tuple(_line(item, "kitchen" if station == CHECKER else station, notes, modifiers) for item in items)
        order = Order(
            lines=given,
            bill_type=BillType(bill_type or (BillType.DINE_IN if table else BillType.TAKEAWAY)),
            table=table,
            queue_number=queue_number,
            customer_name=customer_name,
            guest_count=guest_count,
            notes=bill_notes,
            priority=Priority(priority),
            waiter=waiter,
            brand=brand,
        )
        written = created_at or now()
        with self._transaction() as cursor:
            bill = self._insert_bill(cursor, order, written)
            bill_items = self._insert_bill_items(cursor, bill, order, sent=True)
            self._show_in_kitchen(cursor, bill, order, bill_items)
            own: Row = {
                "status": status,
                "print_attempts": print_attempts,
                "max_retries": max_retries,
                "is_reprint": is_reprint,
                "original_ticket_id": original,
                "created_at": written,
            }
            return self._insert_whole_ticket(cursor, bill, station, bill_items, {**own, **columns})

    def reprint(self, ticket_id: int) -> int:
        """The Reprint button: the new ticket is committed first, then its items one by one, then the log row."""
        copy = self.begin_reprint(ticket_id)
        self.finish_reprint(copy)
        return copy

    def begin_reprint(self, ticket_id: int) -> int:
        """The first half of `reprint`: a committed `new` ticket without items. Returns its id."""
        original = self._existing_ticket(ticket_id)
        kept = {name: original.get(name) for name in ("printer_target", "bill_id", "brand_id", "max_retries")}
        with self._transaction() as cursor:
            return self._insert_ticket(cursor, {**kept, "is_reprint": True, "original_ticket_id": ticket_id})

    def finish_reprint(self, copy_id: int) -> None:
        """The second half of `reprint`: each item in a transaction of its own, then the log row."""
        original = self._existing_ticket(int(self._existing_ticket(copy_id)["original_ticket_id"]))
        for item in self.ticket_items(original["id"]):
            with self._transaction() as cursor:
                self._insert_ticket_item(cursor, copy_id, item["bill_item_id"], item["quantity"])
        metadata = {"reprint_of": original["id"], "original_status": original["status"]}
        with self._transaction() as cursor:
            self._insert_created(cursor, copy_id, f"admin:{MANAGER}", metadata)

    def void_item(self, bill_item_id: int, reason: str = STRUCK_LATER) -> None:
        """Void an item of a bill after it was sent; the POS writes no ticket for it."""
        with self._transaction() as cursor:
            by = user_id(cursor, MANAGER)
        self._change("pos_billitem", bill_item_id, {"is_void": True, "void_reason": reason, "void_by_id": by})

    def order_more(self, bill_id: int, lines: Sequence[Line]) -> list[int]:
        """The same guests order again: further items on their bill, sent to the kitchen. Returns the tickets' ids."""
        order = Order(lines=tuple(lines))
        with self._transaction() as cursor:
            bill = self._existing_bill(cursor, bill_id)
            items = self._insert_bill_items(cursor, bill, order, sent=False)
            return self._send_to_kitchen(cursor, bill, order, items)

    def close_bill(self, bill_id: int, status: str) -> None:
        """Close a bill as `paid` or `cancelled`; the POS writes no ticket for it."""
        self._change("pos_bill", bill_id, {"status": status, "closed_at": now()})

    def move_table(self, bill_id: int, table: str) -> None:
        """Move a bill to another table."""
        with self._transaction() as cursor:
            table_id, _ = table_of(cursor, table, self._existing_bill(cursor, bill_id).brand_id)
        self._change("pos_bill", bill_id, {"table_id": table_id})

    def merge_bills(self, source: int, into: int) -> None:
        """Move all items of a bill to another one, and cancel the empty bill."""
        with self._transaction() as cursor:
            cursor.execute("UPDATE pos_billitem SET bill_id = %s WHERE bill_id = %s", [into, source])
            cursor.execute("UPDATE pos_bill SET status = 'cancelled' WHERE id = %s", [source])

    def split_item(self, bill_item_id: int, quantity: int) -> int:
        """Move so many of an item to a new bill; returns that bill's id. The old item keeps the rest."""
        with self._transaction() as cursor:
            cursor.execute("SELECT * FROM pos_billitem WHERE id = %s", [bill_item_id])
            item = only(cursor)
            cursor.execute("SELECT * FROM pos_bill WHERE id = %s", [item["bill_id"]])
            bill = only(cursor)
            cursor.execute("SELECT nextval(pg_get_serial_sequence('pos_bill', 'id')) AS id")
            number = int(only(cursor)["id"])
            insert(cursor, "pos_bill", {**bill, "id": number, "bill_number": f"{bill['bill_number']}-{number}"})
            part = {name: value for name, value in item.items() if name != "id"}
            part |= {"bill_id": number, "quantity": quantity, "modifiers": Json(item["modifiers"])}
            insert(cursor, "pos_billitem", part)
            cursor.execute("UPDATE pos_billitem SET quantity = quantity - %s WHERE id = %s", [quantity, bill_item_id])
            return number

    def reset_to_new(self, ticket_id: int) -> None:
        """The admin's "Reset to NEW": attempts and time of printing stay, and no log row is written."""
        self._change(TICKET, ticket_id, {"status": "new", "error_message": "", "printer_ip": None})

    def mark_failed(self, ticket_id: int) -> None:
        """The admin's "Mark as FAILED", the only way in which staff can cancel a ticket."""
        self._change(TICKET, ticket_id, {"status": "failed"})

    def delete_ticket(self, ticket_id: int) -> None:
        """Delete a ticket with its items and log rows. Its reprints stay, without an original."""
        with self._transaction() as cursor:
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE ticket_id = %s").format(sql.Identifier(self._log_table(cursor))),
                [ticket_id],
            )
            cursor.execute("DELETE FROM kitchen_kitchenticketitem WHERE kitchen_ticket_id = %s", [ticket_id])
            cursor.execute(
                "UPDATE kitchen_kitchenticket SET original_ticket_id = NULL WHERE original_ticket_id = %s", [ticket_id]
            )
            cursor.execute("DELETE FROM kitchen_kitchenticket WHERE id = %s", [ticket_id])
            if cursor.rowcount != 1:
                raise NoSuchRow(f"no ticket {ticket_id}")

    def add_brand(self, code: str, name: str) -> str:
        """Add a brand with its stations; returns its id."""
        with self._transaction() as cursor:
            cursor.execute("SELECT id FROM core_company ORDER BY created_at, id LIMIT 1")
            return insert_brand(cursor, BrandSeed(code, name), only(cursor)["id"])

    def add_printer(
        self,
        host: str,
        port: int,
        station: str = "kitchen",
        priority: int = 1,
        name: str = "",
        brand: str = "",
        **columns: object,
    ) -> int:
        """A printer row; returns its id. `columns` are further columns (`timeout_seconds`, `printer_type` ...)."""
        with self._transaction() as cursor:
            return insert_printer(cursor, PrinterSeed(host, port, station, priority, name, brand, columns))

    def update_printer(self, row_id: int, **columns: object) -> None:
        """Change columns of a printer row, as the admin's form does."""
        self._change("kitchen_stationprinter", row_id, {**columns, "updated_at": now()})

    def seed_reference_data(
        self,
        printers: Sequence[PrinterSeed] = (),
        *,
        brands: Sequence[BrandSeed] = DEFAULT_BRANDS,
        timezone: str = "Asia/Jakarta",
    ) -> list[int]:
        """Company, brands, store, users, stations, tables, menu and templates, unless there is a company already.

        Then the printer rows, in any case; returns their ids.
        """
        with self._transaction() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM core_company) AS seeded")
            if not only(cursor)["seeded"]:
                insert_shop(cursor, brands, timezone)
            return [insert_printer(cursor, printer) for printer in printers]

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows of any query."""
        with self._transaction() as cursor:
            cursor.execute(statement, list(parameters) or None)
            return [dict(row) for row in cursor.fetchall()]

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> int:
        """Run and commit any statement; returns the number of rows."""
        with self._transaction() as cursor:
            cursor.execute(statement, list(parameters) or None)
            return cursor.rowcount

    def ticket_row(self, ticket_id: int) -> Row | None:
        """The ticket; None if it is gone."""
        found = self.rows("SELECT * FROM kitchen_kitchenticket WHERE id = %s", [ticket_id])
        return found[0] if found else None

    def ticket_items(self, ticket_id: int) -> list[Row]:
        """The ticket's items in order, each with `bill_item_id` and `quantity`."""
        return self.rows(
            "SELECT * FROM kitchen_kitchenticketitem WHERE kitchen_ticket_id = %s ORDER BY id", [ticket_id]
        )

    def log_rows(self, ticket_id: int) -> list[Row]:
        """The ticket's audit rows, oldest first, whatever the table is called."""
        with self._transaction() as cursor:
            query = sql.SQL("SELECT * FROM {} WHERE ticket_id = %s ORDER BY id").format(
                sql.Identifier(self._log_table(cursor))
            )
            cursor.execute(query, [ticket_id])
            return [dict(row) for row in cursor.fetchall()]

    def printer_row(self, row_id: int) -> Row | None:
        """A printer row; None if it is gone."""
        found = self.rows("SELECT * FROM kitchen_stationprinter WHERE id = %s", [row_id])
        return found[0] if found else None

    def _send_to_kitchen(
        self, cursor: RealDictCursor, bill: _Bill, order: Order, items: Sequence[_BillItem]
    ) -> list[int]:
        by_station = [
            [item for item in items if item.line.is_made and item.line.station == station] for station in order.stations
        ]
        sent = [item.id for item in items if not item.line.void]
        cursor.execute("UPDATE pos_billitem SET status = 'sent' WHERE id = ANY(%s)", [sent])
        tickets = [
            self._insert_whole_ticket(cursor, bill, station, own, {})
            for station, own in zip(order.stations, by_station, strict=True)
        ]
        made = [item for own in by_station for item in own]  # the checker reads station by station
        if made:
            tickets.append(self._insert_whole_ticket(cursor, bill, CHECKER, made, {}))
        self._show_in_kitchen(cursor, bill, order, items)
        return tickets

    def _show_in_kitchen(self, cursor: RealDictCursor, bill: _Bill, order: Order, items: Sequence[_BillItem]) -> None:
        """Write the kitchen display's rows, which the POS does for urgent orders only."""
        if order.priority is Priority.NORMAL:
            return
        for station in order.stations:
            values: Row = {
                "station": station,
                "status": "new",
                "priority": str(order.priority),
                "item_ids": Json([item.id for item in items if item.line.station == station and item.line.is_made]),
                "created_at": now(),
                "target_prep_time": STATIONS.get(station, ("", 15))[1],
                "notified_10min": False,
                "notified_overdue": False,
                "bill_id": bill.id,
            }
            insert(cursor, "kitchen_kitchenorder", values)

    def _insert_whole_ticket(
        self, cursor: RealDictCursor, bill: _Bill, station: str, items: Sequence[_BillItem], columns: Row
    ) -> int:
        """A ticket with its items and its first log row."""
        own: Row = {"printer_target": station, "bill_id": bill.id, "brand_id": bill.brand_id}
        ticket_id = self._insert_ticket(cursor, {**own, **columns})
        for item in items:
            self._insert_ticket_item(cursor, ticket_id, item.id, item.line.quantity)
        metadata: Row = {"table": bill.table, "bill_type": bill.bill_type, "bill_number": bill.number}
        metadata["items_count"] = len(items)
        if station == CHECKER:
            metadata |= {"is_checker": True, "stations_included": sorted({item.line.station for item in items})}
        self._insert_created(cursor, ticket_id, "system", metadata)
        return ticket_id

    def _insert_ticket(self, cursor: RealDictCursor, columns: Row) -> int:
        defaults: Row = {
            "status": "new",
            "print_attempts": 0,
            "max_retries": 3,
            "error_message": "",
            "created_at": now(),
            "is_reprint": False,
        }
        values = {**defaults, **columns}
        if "brand_id" not in self._columns_of(cursor, TICKET):
            values.pop("brand_id", None)  # an older POS
        return int(insert(cursor, TICKET, values))

    def _insert_ticket_item(self, cursor: RealDictCursor, ticket_id: int, bill_item_id: int, quantity: int) -> None:
        values = {"quantity": quantity, "bill_item_id": bill_item_id, "kitchen_ticket_id": ticket_id}
        insert(cursor, "kitchen_kitchenticketitem", values)

    def _insert_created(self, cursor: RealDictCursor, ticket_id: int, actor: str, metadata: Row) -> None:
        values: Row = {
            "timestamp": now(),
            "old_status": "new",
            "new_status": "new",
            "action": "created",
            "actor": actor,
            "error_code": "",
            "error_message": "",
            "metadata": Json(metadata),
            "ticket_id": ticket_id,
        }
        insert(cursor, self._log_table(cursor), values)

    def _insert_bill(self, cursor: RealDictCursor, order: Order, created_at: datetime) -> _Bill:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('pos_bill', 'id')) AS id")
        bill_id = int(only(cursor)["id"])
        brand = brand_of(cursor, order.brand)
        number = f"{brand['code']}-{created_at:%Y%m%d}-{bill_id:04d}"
        table_id, table_label = table_of(cursor, order.table, brand["id"]) if order.table else (None, None)
        cursor.execute("SELECT id FROM core_store ORDER BY store_code LIMIT 1")
        store = cursor.fetchone()
        values: Row = {
            "id": bill_id,
            "bill_number": number,
            "bill_type": str(order.bill_type),
            "status": "open",
            "customer_name": order.customer_name,
            "guest_count": order.guest_count,
            "queue_number": order.queue_number,
            "created_at": created_at,
            "notes": order.notes,
            "brand_id": brand["id"],
            "company_id": brand["company_id"],
            "created_by_id": user_id(cursor, order.waiter),
            "store_id": store["id"] if store else None,
            "table_id": table_id,
            "terminal_id": None,
            **_EMPTY_BILL_TEXTS,
            **_sums(order),
        }
        insert(cursor, "pos_bill", values)
        return _Bill(bill_id, number, brand["id"], str(order.bill_type), table_label)

    def _insert_bill_items(
        self, cursor: RealDictCursor, bill: _Bill, order: Order, *, sent: bool
    ) -> tuple[_BillItem, ...]:
        """The bill's items. Where a bill is written together with its ticket they are `sent` from the start."""
        waiter = user_id(cursor, order.waiter)
        return tuple(
            _BillItem(self._insert_bill_item(cursor, bill, line, waiter, sent=sent), line) for line in order.lines
        )

    def _insert_bill_item(self, cursor: RealDictCursor, bill: _Bill, line: Line, waiter: int, *, sent: bool) -> int:
        values: Row = {
            "quantity": line.quantity,
            "unit_price": line.unit_price,
            "modifier_price": line.modifier_price,
            "total": line.total,
            "notes": line.notes,
            "modifiers": Json([_modifier_json(modifier) for modifier in line.modifiers]),
            "printer_target": line.station,
            "status": "sent" if sent else "pending",
            "is_void": line.void,
            "void_reason": (STRUCK_LATER if sent else STRUCK_BEFORE_SENDING) if line.void else "",
            "created_at": now(),
            "split_group": 0,
            "bill_id": bill.id,
            "created_by_id": waiter,
            "product_id": product_id(cursor, Product(line.product, line.station, line.unit_price), bill.brand_id),
            "void_by_id": waiter if line.void else None,
        }
        return int(insert(cursor, "pos_billitem", values))

    @contextmanager
    def _transaction(self) -> Iterator[RealDictCursor]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg2.connect(self._dsn, application_name="kps-demo-pos")
        with self._connection, self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
            yield cursor

    def _change(self, table: str, row_id: int, values: Row) -> None:
        assignments = [sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values]
        statement = sql.SQL("UPDATE {} SET {} WHERE id = %s").format(
            sql.Identifier(table), sql.SQL(", ").join(assignments)
        )
        with self._transaction() as cursor:
            cursor.execute(statement, [*values.values(), row_id])
            if cursor.rowcount != 1:
                raise NoSuchRow(f"no row {row_id} in {table}")

    def _existing_bill(self, cursor: RealDictCursor, bill_id: int) -> _Bill:
        cursor.execute("SELECT * FROM pos_bill WHERE id = %s", [bill_id])
        row = only(cursor)
        return _Bill(bill_id, row["bill_number"], row["brand_id"], row["bill_type"], None)

    def _existing_ticket(self, ticket_id: int) -> Row:
        found = self.ticket_row(ticket_id)
        if found is None:
            raise NoSuchRow(f"no ticket {ticket_id}")
        return found

    def _log_table(self, cursor: RealDictCursor) -> str:
        return LOG if self._columns_of(cursor, LOG) else OLDER_LOG

    def _columns_of(self, cursor: RealDictCursor, table: str) -> frozenset[str]:
        """As `columns_of`, cached: the schema does not change while this object is used."""
        if table not in self._columns:
            self._columns[table] = columns_of(cursor, table)
        return self._columns[table]


_EMPTY_BILL_TEXTS: Final = dict.fromkeys(
    ("member_code", "member_name", "customer_phone", "discount_type", "discount_reference"), ""
)


def _sums(order: Order) -> Row:
    subtotal = sum((line.total for line in order.lines if not line.void), Decimal(0))
    tax = (subtotal * TAX_PERCENT / 100).quantize(CENT)
    service = (subtotal * SERVICE_PERCENT / 100).quantize(CENT)
    discounts = dict.fromkeys(("line_discount_amount", "discount_amount", "discount_percent"), Decimal(0))
    sums = {"subtotal": subtotal, "tax_amount": tax, "service_charge": service, "total": subtotal + tax + service}
    return {**discounts, **sums}


def _line(item: tuple[str, int] | Line, station: str, notes: str, modifiers: Sequence[str | Modifier]) -> Line:
    if isinstance(item, Line):
        return item
    named = tuple(Modifier(modifier) if isinstance(modifier, str) else modifier for modifier in modifiers)
    return Line(item[0], item[1], station, named, notes)


def _modifier_json(modifier: Modifier) -> Row:
    return {"id": new_id(), "name": modifier.name, "price": float(modifier.price)}
