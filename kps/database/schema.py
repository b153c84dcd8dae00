"""What the POS's schema looks like here: its age, and what is missing for KPS to work, in schema kps too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kps.database.connection import Database

TICKET = "kitchen_kitchenticket"
ITEM = "kitchen_kitchenticketitem"
PRINTER = "kitchen_stationprinter"
HEALTH = "kitchen_printerhealthcheck"
KITCHEN_TEMPLATE = "kitchen_kitchentickettemplate"
CHECKER_TEMPLATE = "kitchen_checkertemplate"
ORDER = "kitchen_kitchenorder"
STATION = "kitchen_kitchenstation"
LOG_TABLES = ("kitchen_kitchenticketlog", "kitchen_kitchenlog")

_READ: dict[str, tuple[str, ...]] = {
    TICKET: (
        "id", "printer_target", "status", "print_attempts", "max_retries", "printer_ip", "error_message",
        "last_error_at", "created_at", "printed_at", "is_reprint", "bill_id", "original_ticket_id",
    ),
    ITEM: ("id", "quantity", "bill_item_id", "kitchen_ticket_id"),
    PRINTER: (
        "id", "station_code", "printer_name", "printer_ip", "printer_port", "printer_brand", "printer_type",
        "timeout_seconds", "priority", "is_active", "paper_width_mm", "chars_per_line", "last_print_at",
        "last_error_at", "last_error_message", "total_prints", "failed_prints", "brand_id",
    ),
    "pos_bill": (
        "id", "bill_number", "bill_type", "status", "customer_name", "guest_count", "queue_number", "notes",
        "brand_id", "created_by_id", "store_id", "table_id",
    ),
    "pos_billitem": (
        "id", "notes", "modifiers", "printer_target", "is_void", "void_reason", "bill_id", "product_id",
    ),
    "core_brand": ("id", "code", "name", "company_id"),
    "core_store": ("id", "timezone"),
    "core_company": ("id", "timezone"),
    "core_product": ("id", "name"),
    "core_user": ("id", "username", "first_name", "last_name"),
    "tables_table": ("id", "number"),
}  # fmt: skip
_WISHED: dict[str, tuple[str, ...]] = {
    ORDER: ("id", "station", "priority", "item_ids", "bill_id"),
    STATION: ("id", "code", "target_prep_time", "brand_id"),
}
"""Tables that a POS may lack; the paper then says less."""
_UPDATED: dict[str, tuple[str, ...]] = {
    TICKET: ("status", "print_attempts", "printer_ip", "error_message", "last_error_at", "printed_at"),
    PRINTER: ("last_print_at", "last_error_at", "last_error_message", "total_prints", "failed_prints"),
}
_LOG_COLUMNS = (
    "timestamp", "old_status", "new_status", "action", "actor", "printer_ip", "error_code", "error_message",
    "duration_ms", "metadata", "ticket_id",
)  # fmt: skip
_HEALTH_COLUMNS = (
    "checked_at", "is_online", "response_time_ms", "paper_status", "error_code", "error_message",
    "temperature_ok", "cutter_ok", "printer_id",
)  # fmt: skip
_TEMPLATES = (KITCHEN_TEMPLATE, CHECKER_TEMPLATE)
_TEMPLATE_COLUMNS = ("is_active", "header_line_1", "header_line_2", "feed_lines", "updated_at", "brand_id")
_OURS: dict[str, tuple[str, ...]] = {
    "chain": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "clock": ("SELECT", "INSERT", "UPDATE"),
    "instance": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "job": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "printed_item": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "printer": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "slip": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "schema_version": ("SELECT",),
    "process_id_seq": ("USAGE", "SELECT"),
    "token_seq": ("USAGE",),
}
"""What the migrations make, and the rights on it. Whatever else lies in schema kps is not ours."""


WAKES = f"""EXISTS (SELECT 1 FROM pg_trigger
             WHERE tgrelid = to_regclass('{TICKET}') AND tgname = 'kps_ticket_notify' AND tgenabled IN ('O', 'A'))"""
"""Whether the wake-up trigger is there, and fires for what the POS writes."""


class SchemaUnusable(Exception):
    """The database lacks tables, columns or rights that KPS needs; the message names them in one sentence."""


@dataclass(frozen=True, slots=True)
class PosSchema:
    """The age of the POS's schema, as far as statements depend on it."""

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

    def describe(self) -> str:
        """One sentence for the log."""
        age = "newer" if self.ticket_has_brand else "older"
        templates = "with" if self.kitchen_template else "without"
        ip = f", printer_ip {self.ticket_ip_type}"
        lacks = [table for table, there in ((ORDER, self.has_orders), (STATION, self.has_stations)) if not there]
        less = f", without {' and '.join(lacks)}" if lacks else ""
        return f"{age} POS schema, {templates} template tables, audit table {self.log_table}{ip}{less}"


class _FoundColumn(NamedTuple):
    table_name: str
    column_name: str
    type: str
    nullable: bool
    generated: bool


class _Lacking(NamedTuple):
    relation: str
    privilege: str
    columns: str | None
    """None = the whole of it."""


class _Wakes(NamedTuple):
    wakes: bool


@dataclass(frozen=True, slots=True)
class _Column:
    type: str
    nullable: bool
    generated: bool


def introspect(database: Database) -> PosSchema:
    """Look once at the POS's tables. Raises SchemaUnusable, or DatabaseTrouble."""
    columns = _columns(database)
    _refuse_missing(columns)
    log_table = next((name for name in LOG_TABLES if name in columns), "")
    if not log_table:
        raise SchemaUnusable(f"table {LOG_TABLES[0]} (or {LOG_TABLES[1]}) is missing")
    log = _writable(columns, log_table, _LOG_COLUMNS, needed=("timestamp", "action", "ticket_id"))
    health = _writable(columns, HEALTH, _HEALTH_COLUMNS, needed=("printer_id",)) if HEALTH in columns else ()
    templates = {table: found for table in _TEMPLATES if (found := _template(columns, table))}
    wished = frozenset(
        table for table, names in _WISHED.items() if all(name in columns.get(table, {}) for name in names)
    )
    _refuse_rights(database, (log_table, log), health, tuple(templates), wished)
    return PosSchema(
        ticket_has_brand="brand_id" in columns[TICKET],
        log_table=log_table,
        log_columns=log,
        health_columns=health,
        kitchen_template=templates.get(KITCHEN_TEMPLATE, ()),
        checker_template=templates.get(CHECKER_TEMPLATE, ()),
        ticket_ip_type=columns[TICKET]["printer_ip"].type,
        printer_ip_type=columns[PRINTER]["printer_ip"].type,
        log_ip_type=columns[log_table]["printer_ip"].type if "printer_ip" in log else "text",
        has_orders=ORDER in wished,
        has_stations=STATION in wished,
        has_trigger=_has_trigger(database),
    )


def _columns(database: Database) -> dict[str, dict[str, _Column]]:
    rows = database.query(
        """SELECT c.relname AS table_name, a.attname AS column_name, format_type(a.atttypid, NULL) AS type,
                  NOT a.attnotnull AS nullable,
                  a.attidentity <> '' OR a.atthasdef OR a.attgenerated <> '' AS generated
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relkind IN ('r', 'p', 'v') AND pg_table_is_visible(c.oid) AND c.relname = ANY(%(names)s)""",
        {"names": [*_READ, *_WISHED, *LOG_TABLES, HEALTH, *_TEMPLATES]},
        row=_FoundColumn,
    )
    found: dict[str, dict[str, _Column]] = {}
    for row in rows:
        found.setdefault(row.table_name, {})[row.column_name] = _Column(row.type, row.nullable, row.generated)
    return found


def _refuse_missing(columns: dict[str, dict[str, _Column]]) -> None:
    tables = [name for name in _READ if name not in columns]
    if tables:
        raise SchemaUnusable(f"tables of the POS are missing: {', '.join(tables)}")
    gone = [f"{table}.{name}" for table, names in _READ.items() for name in names if name not in columns[table]]
    if gone:
        raise SchemaUnusable(f"columns of the POS are missing: {', '.join(gone)}")


def _writable(
    columns: dict[str, dict[str, _Column]], table: str, ours: tuple[str, ...], needed: tuple[str, ...]
) -> tuple[str, ...]:
    present = columns[table]
    lacking = [name for name in needed if name not in present]
    if lacking:
        raise SchemaUnusable(f"columns of the POS are missing: {', '.join(f'{table}.{name}' for name in lacking)}")
    unknown = [
        name for name, column in present.items() if name not in ours and not column.nullable and not column.generated
    ]
    if unknown:
        raise SchemaUnusable(f"{table} has NOT NULL columns that KPS does not know: {', '.join(unknown)}")
    return tuple(name for name in ours if name in present)


def _template(columns: dict[str, dict[str, _Column]], table: str) -> tuple[str, ...]:
    present = columns.get(table, {})
    return tuple(present) if all(name in present for name in _TEMPLATE_COLUMNS) else ()


def _refuse_rights(
    database: Database,
    log: tuple[str, tuple[str, ...]],
    health: tuple[str, ...],
    templates: tuple[str, ...],
    wished: frozenset[str],
) -> None:
    """Rights on the columns that statements name suffice; whole rows are read of tickets and templates only."""
    wanted = [(table, name, "SELECT") for table, names in _READ.items() for name in names if table != TICKET]
    wanted += [(table, name, "SELECT") for table in sorted(wished) for name in _WISHED[table]]
    wanted += [(table, "", "SELECT") for table in (TICKET, *templates)]
    wanted += [(table, name, "UPDATE") for table, names in _UPDATED.items() for name in names]
    wanted += [(log[0], name, "INSERT") for name in log[1]]
    if health:
        wanted += [(HEALTH, name, "INSERT") for name in health]
        wanted += [(HEALTH, name, "SELECT") for name in ("id", "printer_id", "checked_at")]
        wanted.append((HEALTH, "", "DELETE"))
    rows = database.query(
        """SELECT w.t AS relation, w.r AS privilege,
                  CASE WHEN w.r <> 'DELETE' AND has_any_column_privilege(w.t::regclass, w.r)
                       THEN string_agg(nullif(w.c, ''), ', ' ORDER BY w.n) END AS columns
             FROM unnest(%(tables)s::text[], %(columns)s::text[], %(rights)s::text[]) WITH ORDINALITY AS w(t, c, r, n)
            WHERE NOT CASE WHEN w.c = '' THEN has_table_privilege(w.t::regclass, w.r)
                           ELSE has_column_privilege(w.t::regclass, w.c, w.r) END
            GROUP BY w.t, w.r ORDER BY min(w.n)""",
        {
            "tables": [table for table, _, _ in wanted],
            "columns": [column for _, column, _ in wanted],
            "rights": [right for _, _, right in wanted],
        },
        row=_Lacking,
    )
    if rows:
        missing = ", ".join(
            f"{row.privilege} on {row.relation}" + (f" ({row.columns})" if row.columns else "") for row in rows
        )
        raise SchemaUnusable(f"rights are missing: {missing}")


def refuse_missing_rights(database: Database) -> None:
    """A migration that an administrator has run gives no rights. Raises SchemaUnusable, or DatabaseTrouble.

    Looks at what is there of schema kps; before the first migration that is nothing.
    """
    if database.query("SELECT 1 FROM pg_namespace WHERE nspname = 'kps' AND NOT has_schema_privilege(oid, 'USAGE')"):
        raise SchemaUnusable("rights are missing: USAGE on schema kps")
    wanted = [(name, right) for name, rights in _OURS.items() for right in rights]
    rows = database.query(
        """SELECT c.relname AS relation, w.r AS privilege, lacking.columns
             FROM unnest(%(names)s::text[], %(rights)s::text[]) WITH ORDINALITY AS w(t, r, n)
             JOIN pg_class c ON c.relnamespace = to_regnamespace('kps') AND c.relname = w.t
                            AND c.relkind IN ('r', 'S')
            CROSS JOIN LATERAL (
              SELECT count(*) AS count,
                     CASE WHEN w.r NOT IN ('DELETE', 'USAGE') AND has_any_column_privilege(c.oid, w.r)
                          THEN string_agg(a.attname, ', ' ORDER BY a.attnum) END AS columns
                FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND w.r NOT IN ('DELETE', 'USAGE') AND NOT has_column_privilege(c.oid, a.attnum, w.r)
            ) lacking
            WHERE CASE w.r WHEN 'USAGE' THEN NOT has_sequence_privilege(c.oid, 'USAGE, UPDATE')
                           WHEN 'DELETE' THEN NOT has_table_privilege(c.oid, 'DELETE') ELSE lacking.count > 0 END
            ORDER BY w.n""",
        {"names": [name for name, _ in wanted], "rights": [right for _, right in wanted]},
        row=_Lacking,
    )
    if rows:
        missing = ", ".join(
            f"{row.privilege} on kps.{row.relation}" + (f" ({row.columns})" if row.columns else "") for row in rows
        )
        raise SchemaUnusable(f"rights are missing: {missing}")


def _has_trigger(database: Database) -> bool:
    return database.query(f"SELECT {WAKES} AS wakes", row=_Wakes)[0].wakes
