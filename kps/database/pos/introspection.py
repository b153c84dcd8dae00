"""What the POS's tables look like here, and what is missing for KPS to work with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kps.database.connection import Database
from kps.database.pos.adapter import PosAdapter
from kps.database.pos.tables import (
    CHECKER_TEMPLATE,
    HEALTH,
    HEALTH_COLUMNS,
    KITCHEN_TEMPLATE,
    LOG_COLUMNS,
    LOG_TABLES,
    ORDER,
    PRINTER,
    READ,
    STATION,
    TEMPLATE_COLUMNS,
    TEMPLATES,
    TICKET,
    UPDATED,
    WISHED,
)
from kps.database.pos.trigger import WAKES
from kps.database.schema import LackingRight, SchemaUnusable, refuse_lacking


class _FoundColumn(NamedTuple):
    table_name: str
    column_name: str
    type: str
    nullable: bool
    generated: bool


class _Wakes(NamedTuple):
    wakes: bool


@dataclass(frozen=True, slots=True)
class _Column:
    type: str
    nullable: bool
    generated: bool


def introspect(database: Database) -> PosAdapter:
    """Look once at the POS's tables. Raises SchemaUnusable, or DatabaseTrouble."""
    columns = _columns(database)
    _refuse_missing(columns)
    log_table = next((name for name in LOG_TABLES if name in columns), "")
    if not log_table:
        raise SchemaUnusable(f"table {LOG_TABLES[0]} (or {LOG_TABLES[1]}) is missing")
    log = _writable(columns, log_table, LOG_COLUMNS, needed=("timestamp", "action", "ticket_id"))
    health = _writable(columns, HEALTH, HEALTH_COLUMNS, needed=("printer_id",)) if HEALTH in columns else ()
    templates = {table: found for table in TEMPLATES if (found := _template(columns, table))}
    wished = frozenset(
        table for table, names in WISHED.items() if all(name in columns.get(table, {}) for name in names)
    )
    _refuse_rights(database, (log_table, log), health, tuple(templates), wished)
    return PosAdapter(
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
        {"names": [*READ, *WISHED, *LOG_TABLES, HEALTH, *TEMPLATES]},
        row=_FoundColumn,
    )
    found: dict[str, dict[str, _Column]] = {}
    for row in rows:
        found.setdefault(row.table_name, {})[row.column_name] = _Column(row.type, row.nullable, row.generated)
    return found


def _refuse_missing(columns: dict[str, dict[str, _Column]]) -> None:
    tables = [name for name in READ if name not in columns]
    if tables:
        raise SchemaUnusable(f"tables of the POS are missing: {', '.join(tables)}")
    gone = [f"{table}.{name}" for table, names in READ.items() for name in names if name not in columns[table]]
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
    return tuple(present) if all(name in present for name in TEMPLATE_COLUMNS) else ()


def _refuse_rights(
    database: Database,
    log: tuple[str, tuple[str, ...]],
    health: tuple[str, ...],
    templates: tuple[str, ...],
    wished: frozenset[str],
) -> None:
    """Rights on the columns that statements name suffice; whole rows are read of tickets and templates only."""
    wanted = [(table, name, "SELECT") for table, names in READ.items() for name in names if table != TICKET]
    wanted += [(table, name, "SELECT") for table in sorted(wished) for name in WISHED[table]]
    wanted += [(table, "", "SELECT") for table in (TICKET, *templates)]
    wanted += [(table, name, "UPDATE") for table, names in UPDATED.items() for name in names]
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
        row=LackingRight,
    )
    refuse_lacking(rows)


def _has_trigger(database: Database) -> bool:
    return database.query(f"SELECT {WAKES} AS wakes", row=_Wakes)[0].wakes
