"""How statements read and write the POS's tables, by the age that was found of them.

A relation stands behind FROM or JOIN: a table where its columns are called as here, else a sub-query that calls them
so. PostgreSQL looks through such a sub-query, for its plan and for locks. Rows are changed by `update_tickets` and
`update_printers` only. An alias is that of a relation in the statement around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.database.pos.tables import (
    BILL,
    BILL_ITEM,
    BRAND,
    CANCELLED,
    CHECKER_TEMPLATE,
    COMPANY,
    HEALTH,
    KITCHEN_TEMPLATE,
    ORDER,
    PAID,
    PRINTER,
    PRODUCT,
    STATION,
    STORE,
    TABLE,
    TICKET,
    TICKET_ITEM,
    USER,
)


@dataclass(frozen=True, slots=True)
class PosAdapter:
    """The POS's tables as they are here: two that are equal make the same statements."""

    ticket_has_brand: bool
    log_table: str
    log_columns: tuple[str, ...]
    """The columns of the audit table that KPS writes and that are present."""
    health_columns: tuple[str, ...]
    """Empty if the POS has no health check table."""
    kitchen_template: tuple[str, ...]
    """Columns of the template table; empty if there is none."""
    checker_template: tuple[str, ...]
    ticket_ip_type: str
    """`inet` or a text type."""
    printer_ip_type: str
    log_ip_type: str
    has_orders: bool
    """Whether the kitchen orders are there, which know what is urgent."""
    has_stations: bool
    """Whether the stations are there, which know how long a dish may take."""
    has_trigger: bool = field(compare=False)
    """No statement depends on it."""

    @property
    def name(self) -> str:
        """The age of the tables, for people."""
        if self.ticket_has_brand:
            return "newer tables"
        return "oldest tables" if self.ticket_ip_type == "inet" else "older tables"

    def describe(self) -> str:
        """One sentence for the log."""
        age = "newer" if self.ticket_has_brand else "older"
        templates = "with" if self.kitchen_template else "without"
        ip = f", printer_ip {self.ticket_ip_type}"
        lacks = [table for table, there in ((ORDER, self.has_orders), (STATION, self.has_stations)) if not there]
        less = f", without {' and '.join(lacks)}" if lacks else ""
        return f"{age} POS schema, {templates} template tables, audit table {self.log_table}{ip}{less}"

    # Relations.

    @property
    def tickets(self) -> str:
        """Tickets of the kitchen.

        id, bill_id, original_ticket_id (of a reprint), is_reprint, printer_target (a station's code as somebody has
        typed it; `checker` = the whole order), status, print_attempts, max_retries (0 = MAX_PRINT_RETRIES),
        error_message, last_error_at, created_at (by the POS's clock), printed_at. Its brand and its address have forms
        of their own, see `brand_of` and `ticket_address`.
        """
        return TICKET

    @property
    def ticket_items(self) -> str:
        """What stands on a ticket: id, kitchen_ticket_id, bill_item_id, quantity."""
        return TICKET_ITEM

    @property
    def bills(self) -> str:
        """Bills: id, brand_id, store_id, table_id, status, bill_number, bill_type, queue_number."""
        return BILL

    @property
    def bill_items(self) -> str:
        """What was ordered: id, bill_id, product_id, quantity, is_void, void_reason."""
        return BILL_ITEM

    @property
    def tables(self) -> str:
        """Tables of the guests: id, number."""
        return TABLE

    @property
    def products(self) -> str:
        """What is sold: id, name."""
        return PRODUCT

    @property
    def brands(self) -> str:
        """Brands: id, code, name."""
        return BRAND

    @property
    def printers(self) -> str:
        """Printer rows.

        id, brand_id, station_code, printer_name, printer_type, printer_brand, printer_port, timeout_seconds, priority,
        is_active, chars_per_line, paper_width_mm, total_prints, failed_prints, last_print_at, last_error_at,
        last_error_message. Its address has a form of its own, see `printer_address`.
        """
        return PRINTER

    @property
    def health_checks(self) -> str:
        """The table of health checks, if there are `health_columns`: id, printer_id, checked_at."""
        return HEALTH

    # Words.

    @property
    def cancelled(self) -> str:
        """What the lower status of a bill may be that nobody wants any more: an SQL list."""
        return CANCELLED

    @property
    def paid(self) -> str:
        """The same of one that is done with."""
        return PAID

    # What is told apart.

    def brand_of(self, of_bill: str = "b.brand_id", *, ticket: str = "t") -> str:
        """The brand of a ticket, given that of its bill."""
        return f"coalesce({ticket}.brand_id, {of_bill})" if self.ticket_has_brand else of_bill

    def bill_brand_of(self, ticket: str) -> str:
        """The brand of a ticket where its bill is not joined."""
        return self.brand_of(f"(SELECT b.brand_id FROM {self.bills} b WHERE b.id = {ticket}.bill_id)", ticket=ticket)

    def same_brand(self, other: str, brand: str, bill_brand: str) -> str:
        """Whether another ticket of the same bill has that brand (text); `bill_brand`: that of the bill."""
        return (
            f"coalesce(coalesce({other}.brand_id, {bill_brand})::text, '') = {brand}"
            if self.ticket_has_brand
            else "true"
        )

    def ticket_address(self, ticket: str) -> str:
        """The printer's address in a ticket, as text."""
        return _as_text(self.ticket_ip_type, f"{ticket}.printer_ip")

    def ticket_address_of(self, text: str) -> str:
        """A text as the printer's address in a ticket; NULL where the column cannot hold it."""
        return _from_text(self.ticket_ip_type, text)

    def printer_address(self, printer: str = "sp") -> str:
        """The address in a printer row: its own text."""
        return _as_text(self.printer_ip_type, f"{printer}.printer_ip")

    def row_address(self, row_id: str) -> str:
        """The same of the printer row with that id."""
        return f"(SELECT {self.printer_address()} FROM {self.printers} sp WHERE sp.id = {row_id})"

    def ticket_columns(self) -> str:
        """The columns of ticket t that its paper needs: each more costs in every step of a plan."""
        columns = ["id", "status", "original_ticket_id", "bill_id", "printer_target", "created_at", "printed_at"]
        columns += ["print_attempts", *(["brand_id"] if self.ticket_has_brand else [])]
        return ", ".join(f"t.{name}" for name in columns)

    def timezone_of_bill(self, bill: str) -> str:
        """The time zone of the store of a bill."""
        return f"""coalesce((SELECT nullif(st.timezone, '') FROM {STORE} st WHERE st.id = {bill}.store_id),
         (SELECT nullif(co.timezone, '') FROM {BRAND} br JOIN {COMPANY} co ON co.id = br.company_id
           WHERE br.id = {bill}.brand_id), 'UTC')"""

    # What is written.

    def update_tickets(self, alias: str, **columns: str) -> str:
        """UPDATE of tickets up to the end of its SET.

        Of status, print_attempts, printed_at, error_message, last_error_at, and printer_ip: a `ticket_address_of`.
        """
        return _update(TICKET, alias, columns)

    def update_printers(self, alias: str, **columns: str) -> str:
        """UPDATE of printer rows up to the end of its SET.

        Of total_prints, failed_prints, last_print_at, last_error_at, last_error_message.
        """
        return _update(PRINTER, alias, columns)

    def insert_log(self, source: str, **values: str) -> str:
        """An INSERT into the audit table from `source`; columns that the POS lacks are left out. An address is text."""
        given = {
            "timestamp": "clock_timestamp()",
            "old_status": "'new'",
            "new_status": "'new'",
            "action": "'retry'",
            "actor": "'printer_service'",
            "printer_ip": "NULL",
            "error_code": "''",
            "error_message": "''",
            "duration_ms": "NULL::int",
            "metadata": "'{}'::jsonb",
        } | values
        given["printer_ip"] = _from_text(self.log_ip_type, f"({given['printer_ip']})::text")
        columns = [name for name in self.log_columns if name in given]
        names = ", ".join(f'"{name}"' for name in columns)
        picked = ", ".join(f"({given[name]})" for name in columns)
        return f"INSERT INTO {self.log_table} ({names}) SELECT {picked} FROM {source} RETURNING 1"

    def insert_health(self, source: str, **values: str) -> str:
        """An INSERT into the health checks from `source`; columns that the POS lacks are left out. '' = no table."""
        used = [name for name in self.health_columns if name in values]
        if not used:
            return ""
        return (
            f"INSERT INTO {HEALTH} ({', '.join(used)})\nSELECT {', '.join(values[name] for name in used)} FROM {source}"
        )

    # What the paper says.

    def order(self, place: str) -> str:
        """CTEs about ticket t: its items, and its context: the bill, its table, its brand and store.

        items: id, quantity, bill_item_id, bill_id, name, notes, modifiers (JSON, see `values.modifiers`), station,
        void, table_number. context: station, brand_id, brand (text), company_id, store_id, bill_brand_id, timezone,
        table_number, place, bill_number, bill_type, queue_number, customer_name, guest_count, bill_notes, waiter.
        `place`: how a cook calls table tb and bill b.
        """
        brand = self.brand_of()
        return f"""items AS MATERIALIZED (
  SELECT i.id, i.quantity, i.bill_item_id, bi.bill_id, coalesce(pr.name, '') AS name, coalesce(bi.notes, '') AS notes,
         bi.modifiers, coalesce(bi.printer_target, '') AS station,
         coalesce(bi.is_void, false) OR coalesce(lower(ib.status) IN {self.cancelled}, false) AS void,
         btrim(coalesce(it.number, '')) AS table_number
    FROM {self.ticket_items} i LEFT JOIN {self.bill_items} bi ON bi.id = i.bill_item_id
    LEFT JOIN {self.products} pr ON pr.id = bi.product_id
    LEFT JOIN {self.bills} ib ON ib.id = bi.bill_id LEFT JOIN {self.tables} it ON it.id = ib.table_id
   WHERE i.kitchen_ticket_id = {{ticket:bigint}}
), context AS MATERIALIZED (
  SELECT lower(btrim(t.printer_target)) AS station, {brand} AS brand_id,
         coalesce({brand}::text, '') AS brand, br.company_id, b.store_id, b.brand_id AS bill_brand_id,
         coalesce(nullif(st.timezone, ''), nullif(co.timezone, ''), 'UTC') AS timezone,
         btrim(coalesce(tb.number, '')) AS table_number, {place} AS place,
         coalesce(b.bill_number, '') AS bill_number, coalesce(b.bill_type, '') AS bill_type, b.queue_number,
         coalesce(b.customer_name, '') AS customer_name, coalesce(b.guest_count, 0) AS guest_count,
         coalesce(b.notes, '') AS bill_notes,
         coalesce(nullif(btrim(concat_ws(' ', u.first_name, u.last_name)), ''), u.username, '') AS waiter
    FROM t LEFT JOIN {self.bills} b ON b.id = t.bill_id LEFT JOIN {self.tables} tb ON tb.id = b.table_id
    LEFT JOIN {STORE} st ON st.id = b.store_id LEFT JOIN {BRAND} br ON br.id = {brand}
    LEFT JOIN {COMPANY} co ON co.id = br.company_id LEFT JOIN {USER} u ON u.id = b.created_by_id
)"""

    def template(self) -> str:
        """The template that applies to `context`, as JSON (see `values.template`); NULL if there is none."""
        return (
            "CASE WHEN context.station = 'checker' "
            f"THEN {_template(CHECKER_TEMPLATE, self.checker_template)} "
            f"ELSE {_template(KITCHEN_TEMPLATE, self.kitchen_template)} END"
        )

    def priority(self) -> str:
        """The most urgent of the kitchen orders that `items` belong to; a checker belongs to all of them."""
        if not self.has_orders:
            return "'normal'"
        return f"""coalesce((SELECT lower(o.priority) FROM {ORDER} o
          WHERE o.bill_id IN (SELECT i.bill_id FROM items i UNION ALL SELECT t.bill_id)
            AND (context.station = 'checker' OR lower(btrim(o.station)) = context.station)
            AND EXISTS (SELECT 1 FROM items i WHERE o.item_ids @> to_jsonb(i.bill_item_id)
                                                 OR o.item_ids @> to_jsonb(i.bill_item_id::text))
          ORDER BY array_position(ARRAY['urgent', 'rush'], lower(o.priority)) NULLS LAST, o.id DESC LIMIT 1),
         'normal')"""

    def ready_by(self) -> str:
        """When `root` was ordered + what the station may take; one without a time, and a checker, promise nothing."""
        if not self.has_stations:
            return "NULL::timestamptz"
        return f"""(SELECT root.created_at + s.target_prep_time * interval '1 minute' FROM {STATION} s
          WHERE lower(btrim(s.code)) = context.station AND s.brand_id::text = context.brand AND s.target_prep_time > 0
            AND context.station <> 'checker' ORDER BY s.id LIMIT 1)"""


def _template(table: str, columns: tuple[str, ...]) -> str:
    """The brand's own active template, else one without brand, newest first.

    One without brand counts for its company's brands only, and one of a store for that store only.
    """
    if not columns:
        return "NULL::json"
    company = " AND x.company_id = context.company_id" if "company_id" in columns else ""
    store = "AND (x.store_id IS NULL OR x.store_id = context.store_id)" if "store_id" in columns else ""
    return f"""(SELECT row_to_json(x) FROM {table} x
        WHERE x.is_active AND (x.brand_id = context.brand_id OR (x.brand_id IS NULL{company})) {store}
        ORDER BY (x.brand_id IS NULL), x.updated_at DESC, x.id DESC LIMIT 1)"""


def _update(table: str, alias: str, columns: dict[str, str]) -> str:
    return f"UPDATE {table} {alias}\n     SET " + ",\n         ".join(f"{name} = {to}" for name, to in columns.items())


def _as_text(kind: str, expression: str) -> str:
    """A column of that type as text."""
    return f"host({expression})" if kind == "inet" else f"{expression}::text"


def _from_text(kind: str, expression: str) -> str:
    """A text expression as a value of the column; a host name does not fit an inet column and becomes NULL."""
    if kind != "inet":
        return expression
    return f"CASE WHEN {expression} ~ '^[0-9a-fA-F.:]+$' THEN {expression}::inet END"
