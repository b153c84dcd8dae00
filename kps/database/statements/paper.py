"""What the paper of a ticket says, read at the moment of printing; and the same without promising anything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from kps.core.tickets import PrinterKey
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import FAMILY_LOCK, POS_BEHIND_S
from kps.database.statements.work import NEEDED, leased

TOGETHER_S = 5
"""Tickets of one bill that were written within so many seconds are one order."""
CHAIN = "chain_number, chain_day, before_number, before_at, before_place, before_key, before_name"


def _columns_of(table: str, names: str) -> str:
    return ", ".join(f"{table}.{name.strip()}" for name in names.split(","))


def place(table: str, queue: str) -> str:
    """How a cook calls a table or queue number, in SQL: T5, 12A, Q7; '' without either."""
    return f"""CASE WHEN coalesce({table}, '') ~ '^[0-9]' THEN 'T' || {table}
      WHEN coalesce({table}, '') <> '' THEN {table}
      WHEN {queue} IS NOT NULL THEN 'Q' || {queue} ELSE '' END"""


def _up(pos: PosAdapter, start: str) -> str:
    """CTE: ticket t of `start` and all that it is a reprint of."""
    return f"""up AS (
  -- from the ticket itself: the original that the claim saw may have been deleted meanwhile
  SELECT t.id, t.original_ticket_id AS above, 1 AS depth FROM {start}
  UNION ALL
  SELECT o.id, o.original_ticket_id, up.depth + 1 FROM up JOIN {pos.tickets} o ON o.id = up.above WHERE up.depth < 20
)"""


def _family(pos: PosAdapter) -> str:
    """CTEs about ticket t: its family (the original and its reprints), and what is known of their papers."""
    return f"""{_up(pos, "t")}, root AS MATERIALIZED (
  SELECT r.id, r.created_at FROM {pos.tickets} r WHERE r.id = (SELECT id FROM up ORDER BY depth DESC LIMIT 1)
), family AS (
  SELECT root.id, 1 AS depth FROM root
  UNION ALL
  SELECT c.id, family.depth + 1 FROM {pos.tickets} c JOIN family ON c.original_ticket_id = family.id
   WHERE family.depth < 20
), relatives AS (
  SELECT max(k.printed_at) AS printed_at, bool_or(coalesce(fj.sends, 0) > coalesce(fj.cleared, 0)
           OR k.printed_at IS NOT NULL OR k.status = 'printed') AS on_paper,
         (array_agg(fj.printed_on ORDER BY k.printed_at DESC NULLS LAST))[1] AS printed_on,
         array_remove(array_agg(DISTINCT m.maybe_at), NULL) AS maybe_at,
         array_remove(array_agg(DISTINCT m.moved_from), NULL) AS moved_from
    FROM family JOIN {pos.tickets} k ON k.id = family.id LEFT JOIN kps.job fj ON fj.ticket_id = k.id
    LEFT JOIN LATERAL unnest(fj.maybe_at, fj.moved_from) AS m(maybe_at, moved_from) ON true
   WHERE k.id <> {{ticket:bigint}}
)"""


_ALONE = """root AS NOT MATERIALIZED (SELECT t.id, t.created_at FROM t), relatives AS NOT MATERIALIZED (
  SELECT NULL::timestamptz AS printed_at, NULL::boolean AS on_paper, NULL::text AS printed_on,
         NULL::text[] AS maybe_at, NULL::text[] AS moved_from
)"""
"""The same of a ticket that is neither a reprint nor has one."""


def _order(pos: PosAdapter) -> str:
    """CTEs about ticket t: its items and its context, see `PosAdapter.order`."""
    return pos.order(place("tb.number", "b.queue_number"))


def _facts(pos: PosAdapter) -> str:
    """SELECT list and FROM of what the paper says about ticket t, sent as `job` says."""
    same_brand = pos.same_brand("e", "context.brand", "context.bill_brand_id")
    return f"""job.sends, job.cleared, job.maybe_at, job.moved_from, job.printer_id, job.printer_name, job.printer_key,
       job.backup_for, job.backup_reason, job.printed_on, job.process_id,
       {_columns_of("job", CHAIN)},
       job.chain_day IS DISTINCT FROM kps.local_day(clock_timestamp(), context.timezone, {{day_start:int}})
         AS other_day,
       relatives.moved_from AS family_moved_from, t.printed_at, relatives.on_paper AS family_on_paper,
       relatives.printed_at AS family_printed_at,
       relatives.printed_on AS family_printed_on, relatives.maybe_at AS family_maybe_at, t.print_attempts, t.created_at,
       clock_timestamp() AS printed_now, {POS_BEHIND_S} AS pos_behind_s, btrim(t.printer_target) AS station,
       context.timezone, context.bill_number, context.bill_type, context.table_number, context.queue_number,
       context.customer_name, context.guest_count, context.bill_notes, context.waiter,
       sp.chars_per_line, sp.paper_width_mm, sp.printer_brand, {pos.printer_address()}
         AS printer_ip, coalesce(kp.model, '') AS model,
       {pos.template()} AS template,
       (SELECT json_agg(json_build_object('quantity', i.quantity, 'name', i.name, 'notes', i.notes,
                 'modifiers', i.modifiers, 'station', i.station, 'void', i.void) ORDER BY i.id) FROM items i) AS items,
       EXISTS (SELECT 1 FROM {pos.tickets} e WHERE e.bill_id = t.bill_id AND e.id < root.id AND NOT e.is_reprint
                  AND lower(btrim(e.printer_target)) = context.station
                  AND (e.status <> 'failed' OR e.printed_at IS NOT NULL)
                  AND {same_brand}) AS add_on,
       (SELECT json_agg(json_build_object('station', s.station, 'items', s.items) ORDER BY s.station) FROM (
          SELECT lower(btrim(e.printer_target)) AS station, sum(ei.quantity) AS items
            FROM {pos.tickets} e JOIN {pos.ticket_items} ei ON ei.kitchen_ticket_id = e.id
            JOIN {pos.bill_items} eb ON eb.id = ei.bill_item_id AND NOT eb.is_void
           WHERE e.bill_id = t.bill_id AND e.id <> root.id AND NOT e.is_reprint
             AND abs(extract(epoch FROM e.created_at - root.created_at)) <= {TOGETHER_S}
             AND lower(btrim(e.printer_target)) <> 'checker'
             AND NOT (lower(btrim(e.printer_target)) = context.station AND {same_brand})
           GROUP BY 1) s) AS also_at,
       {pos.priority()} AS priority, {pos.ready_by()} AS ready_by
  FROM job CROSS JOIN t CROSS JOIN relatives CROSS JOIN context LEFT JOIN root ON true
  LEFT JOIN {pos.printers} sp ON sp.id = job.printer_id
  LEFT JOIN kps.printer kp ON kp.printer_key = job.printer_key"""


_SENT_AS = f"""ticket_id, sends, cleared, maybe_at, moved_from, printer_id, printer_name, printer_key, backup_for,
  backup_reason, printed_on, {CHAIN}"""
"""The columns of a job that a promise needs."""


def _ready(condition: str = "") -> str:
    """CTE: the job, if its promise can be kept: token, ticket and lease are what its holder thinks."""
    return f"""ready AS MATERIALIZED (
  SELECT {_columns_of("j", _SENT_AS)} FROM kps.job j JOIN t ON t.id = j.ticket_id
    JOIN kps.printer p ON {leased("j", NEEDED)}
   WHERE j.ticket_id = {{ticket:bigint}} AND j.token = {{token:bigint}} AND j.state = 'claimed'
     AND t.status = 'printing' {condition}
     FOR UPDATE OF j
)"""


def _next_number(known: str) -> str:
    """CTE: the next number of the paper chain, unless `known` (SQL) is true."""
    return f"""chain AS (
  INSERT INTO kps.chain AS c (station, brand, day, number, at, place, printer_key, printer_name)
  SELECT context.station, context.brand, kps.local_day(clock_timestamp(), context.timezone, {{day_start:int}}), 1,
         clock_timestamp(), context.place, ready.printer_key, ready.printer_name
    FROM ready CROSS JOIN context
   -- a ticket with nothing to print makes no gap
   WHERE NOT {known} AND EXISTS (SELECT 1 FROM items i WHERE NOT i.void)
  ON CONFLICT (station, brand, day) DO UPDATE
     SET number = c.number + 1, at = excluded.at, place = excluded.place, printer_key = excluded.printer_key,
         printer_name = excluded.printer_name, before_number = c.number, before_at = c.at, before_place = c.place,
         before_key = c.printer_key, before_name = c.printer_name
  RETURNING {_NEW_CHAIN}
)"""


_NEW_CHAIN = "c.number, c.day, c.before_number, c.before_at, c.before_place, c.before_key, c.before_name"
"""A row of the chain in the order of CHAIN."""


def _promised(number: str) -> str:
    """CTE: the promise itself; `number` selects the ticket's number in the chain."""
    return f"""job AS (
  UPDATE kps.job j
     SET state = 'sending', sends = j.sends + 1, sending_at = clock_timestamp(),
         process_ids = j.process_ids || nextval('kps.process_id_seq'),
         ({CHAIN}) = ({number})
    FROM ready WHERE j.ticket_id = ready.ticket_id
  RETURNING {_columns_of("j", _SENT_AS)}, j.process_ids[cardinality(j.process_ids)] AS process_id
)"""


def _noted(places: str) -> str:
    """CTE: what will be on paper; `places` are the assignments of the bill and table that an item was known at."""
    return f"""noted AS (
  INSERT INTO kps.printed_item AS pi (ticket_id, bill_item_id, station, brand, bill_id, table_number, paper_table,
                                      quantity)
  SELECT ready.ticket_id, i.bill_item_id, context.station, context.brand, min(i.bill_id),
         -- of the bill that it belongs to: one that was merged into another before the print has not moved
         min(i.table_number), context.table_number, least(sum(i.quantity), 2147483647)
    FROM ready CROSS JOIN context CROSS JOIN items i WHERE NOT i.void
   GROUP BY ready.ticket_id, i.bill_item_id, context.station, context.brand, context.table_number
  ON CONFLICT (ticket_id, bill_item_id) DO UPDATE
     SET printed_at = excluded.printed_at, told = '', quantity = excluded.quantity, paper_table = excluded.paper_table,
         {places}
)"""


class Paper(NamedTuple):
    """What the paper of a ticket says, sent as its job says."""

    sends: int
    cleared: int
    maybe_at: list[str]
    moved_from: list[str]
    printer_id: int | None
    printer_name: str
    printer_key: PrinterKey
    backup_for: str
    backup_reason: str
    printed_on: str
    process_id: int
    chain_number: int | None
    chain_day: date | None
    before_number: int | None
    before_at: datetime | None
    before_place: str | None
    before_key: PrinterKey | None
    before_name: str | None
    other_day: bool
    family_moved_from: list[str] | None
    printed_at: datetime | None
    family_on_paper: bool | None
    family_printed_at: datetime | None
    family_printed_on: str | None
    family_maybe_at: list[str] | None
    print_attempts: int
    created_at: datetime
    printed_now: datetime
    pos_behind_s: float
    station: str
    timezone: str
    bill_number: str
    bill_type: str
    table_number: str
    queue_number: int | None
    customer_name: str
    guest_count: int
    bill_notes: str
    waiter: str
    chars_per_line: int | None
    paper_width_mm: int | None
    printer_brand: str | None
    printer_ip: str | None
    model: str
    template: Mapping[str, Any] | None
    items: list[Mapping[str, Any]] | None
    add_on: bool
    also_at: list[Mapping[str, Any]] | None
    priority: str
    ready_by: datetime | None


def promise_first(pos: PosAdapter) -> Statement[Paper]:
    """`promise` of nearly every ticket: its first copy, of which no other is known. No row = `promise` has to decide.

    It promises and returns the same; what only a later copy or a reprint needs is left out, because each part of a
    statement costs time even if it has nothing to do.
    """
    return Statement(
        "promise_first",
        Paper,
        f"""WITH t AS MATERIALIZED (
  SELECT {pos.ticket_columns()} FROM {pos.tickets} t
   WHERE t.id = {{ticket:bigint}} AND t.original_ticket_id IS NULL FOR UPDATE
), {_ALONE}, {_order(pos)}, {_ready(_first(pos))}, {_next_number("false")}, {_promised("SELECT * FROM chain")},
{_noted("bill_id = excluded.bill_id, table_number = excluded.table_number")}
SELECT {_facts(pos)}""",
        prelude=f"SELECT pg_advisory_xact_lock({FAMILY_LOCK}, ({{ticket:bigint}} % 2147483647)::int)",
    )


def _first(pos: PosAdapter) -> str:
    """Of a job: nothing has left yet, and there is no reprint."""
    return f"""AND j.sends = 0 AND j.chain_number IS NULL
     AND NOT EXISTS (SELECT 1 FROM {pos.tickets} c WHERE c.original_ticket_id = {{ticket:bigint}})"""


def promise(pos: PosAdapter) -> Statement[Paper]:
    """The promise before the first byte: sends + 1, committed; returns what the paper must say.

    The first sending takes the ticket's number in the paper chain, and notes what will be on paper.
    """
    places = """-- of a copy that came to nothing nobody needs to be told anything
         bill_id = CASE WHEN (SELECT sends <= cleared FROM ready) THEN excluded.bill_id ELSE pi.bill_id END,
         table_number = CASE WHEN (SELECT sends <= cleared FROM ready) THEN excluded.table_number
                             ELSE pi.table_number END"""
    return Statement(
        "promise",
        Paper,
        f"""WITH RECURSIVE t AS MATERIALIZED (
  SELECT {pos.ticket_columns()} FROM {pos.tickets} t WHERE t.id = {{ticket:bigint}} FOR UPDATE
), {_family(pos)}, {_order(pos)}, {_ready()}, known AS MATERIALIZED (
  SELECT 1 AS place, {CHAIN} FROM ready WHERE chain_number IS NOT NULL
  UNION ALL
  (SELECT 2, {CHAIN} FROM kps.job f JOIN family ON family.id = f.ticket_id
    WHERE f.chain_number IS NOT NULL AND f.ticket_id <> {{ticket:bigint}} ORDER BY f.ticket_id LIMIT 1)
), {_next_number("EXISTS (SELECT 1 FROM known)")}, numbered AS MATERIALIZED (
  SELECT {CHAIN} FROM (SELECT * FROM known UNION ALL SELECT 3, {_NEW_CHAIN} FROM chain c) n ORDER BY place LIMIT 1
), elsewhere AS (
  -- its first paper has come to nothing: whoever looks for it looks here
  UPDATE kps.chain c SET printer_key = ready.printer_key, printer_name = ready.printer_name
    FROM ready CROSS JOIN context
   WHERE c.station = context.station AND c.brand = context.brand AND c.day = ready.chain_day
     AND c.number = ready.chain_number AND ready.sends <= ready.cleared AND c.printer_key <> ready.printer_key
), {_promised(f"SELECT {CHAIN} FROM numbered")}, {_noted(places)}, unprinted AS (
  DELETE FROM kps.printed_item pi USING ready
   WHERE pi.ticket_id = ready.ticket_id AND ready.sends <= ready.cleared
     AND NOT EXISTS (SELECT 1 FROM items i WHERE i.bill_item_id = pi.bill_item_id AND NOT i.void)
)
SELECT {_facts(pos)}""",
        prelude=f"""WITH RECURSIVE {_up(pos, f"{pos.tickets} t WHERE t.id = {{ticket:bigint}}")}
SELECT pg_advisory_xact_lock({FAMILY_LOCK}, (id % 2147483647)::int) FROM (
  SELECT id FROM up ORDER BY depth DESC LIMIT 1) root""",
    )


def preview(pos: PosAdapter) -> Statement[Paper]:
    """What the next copy of a ticket would say at the printer row `row`; promises and changes nothing."""
    return Statement(
        "preview",
        Paper,
        f"""WITH RECURSIVE t AS MATERIALIZED (
  SELECT {pos.ticket_columns()} FROM {pos.tickets} t WHERE t.id = {{ticket:bigint}}
), {_family(pos)}, {_order(pos)}, job AS MATERIALIZED (
  SELECT coalesce(j.sends, 0) + 1 AS sends, coalesce(j.cleared, 0) AS cleared, coalesce(j.maybe_at, '{{}}') AS maybe_at,
         coalesce(j.moved_from, '{{}}') AS moved_from, {{row:bigint}} AS printer_id, {{name:text}} AS printer_name,
         {{key:text}} AS printer_key, {{backup_for:text}} AS backup_for, '' AS backup_reason,
         coalesce(j.printed_on, '') AS printed_on, 0::bigint AS process_id,
         {_columns_of("j", CHAIN)}
    FROM t LEFT JOIN kps.job j ON j.ticket_id = t.id
)
SELECT {_facts(pos)}""",
    )


class Whereabouts(NamedTuple):
    """The route of a ticket, and the printer row that had it last."""

    station: str
    brand: str
    printer_id: int | None


def whereabouts(pos: PosAdapter) -> Statement[Whereabouts]:
    """Station, brand and last printer row of a ticket; no row if it does not exist."""
    return Statement(
        "whereabouts",
        Whereabouts,
        f"""SELECT lower(btrim(t.printer_target)) AS station, coalesce({pos.brand_of()}::text, '') AS brand,
       j.printer_id
  FROM {pos.tickets} t LEFT JOIN {pos.bills} b ON b.id = t.bill_id LEFT JOIN kps.job j ON j.ticket_id = t.id
 WHERE t.id = {{ticket:bigint}}""",
    )
