"""Slips: what KPS tells a station of its own accord. Made once whoever sees the event, printed like a ticket."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from kps.core.slips import SlipId, SlipKind
from kps.core.tickets import PrinterKey, Token
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import CHANNEL_TICKET, WOKEN
from kps.database.statements.paper import place
from kps.database.statements.work import (
    NEEDED,
    ClaimedWork,
    GivenBack,
    OneWork,
    Settled,
    Standing,
    Unsent,
    leased,
    left_at,
    live,
    taken_back,
    wanted,
)

MOST_TRIES = 20
"""A slip that was given to printers so often is not tried any more."""
MOST_COPIES = 3
"""So many copies of a slip may be out at most; whoever missed the first two will not read the fourth."""
EACH = 5
"""Slips of one route that a look returns."""
DEATH = 5
"""So many tries is one worth that ended with the death of its process: perhaps it died of this slip."""
MOST_WAITING = 2000
"""Tickets that are looked through for those that wait for a printer; no slip lists so many."""
OUTAGE_HOURS = 24
"""What went elsewhere longer ago is not told any more."""

_ABLE = "(p.state = 'ready' AND p.expires_at > clock_timestamp())"


class SlipCounts(NamedTuple):
    """How many were made, whether any waits, and whether a ticket does."""

    made: int
    waiting: bool
    tickets_wait: bool


def make(pos: PosAdapter) -> Statement[SlipCounts]:
    """Look for events that stations must know of, and make a slip of each; returns how many were made.

    `waiting`: whether any slip is not told yet, be it one that was made earlier. `tickets_wait`: whether any ticket is
    `new`. It has nothing to do with slips, but spares an idle dispatcher a look of its own.

    A change of an item is judged by the bill that it belongs to now. Which bill and table it had is remembered with
    the item: merging bills only changes that. Rows that the POS has deleted, and paid bills, tell nothing.
    """
    zone = pos.timezone_of_bill("b")
    elsewhere = f"""json_build_object('ticket', j.ticket_id, 'station', btrim(t.printer_target),
            'number', j.chain_number, 'place', {place("tb.number", "b.queue_number")},
            'printer', coalesce(nullif(j.printed_on, ''), j.printer_name), 'at', j.finished_at)"""
    return Statement(
        "make_slips",
        SlipCounts,
        f"""WITH watched AS MATERIALIZED (
  SELECT pi.ticket_id, pi.bill_item_id, coalesce(pi.bill_id, 0) AS bill_id, pi.table_number
    FROM kps.printed_item pi
   WHERE pi.told = '' AND pi.printed_at > statement_timestamp() - {{minutes:float8}} * interval '1 minute'
     AND (NOT {{limited:boolean}} OR pi.station = ANY ({{stations:text[]}}))
     AND (cardinality({{own_stations:text[]}}) = 0 OR pi.station = ANY ({{own_stations:text[]}}))
     AND (cardinality({{own_brands:text[]}}) = 0 OR pi.brand IN (SELECT br.id::text FROM {pos.brands} br
           WHERE br.id::text = ANY ({{own_brands:text[]}}) OR lower(br.code) = ANY ({{own_brands:text[]}})))
), suspects AS MATERIALIZED (
  -- Thousands of papers are watched and hardly one has changed: who is still as it was needs one index each for items
  -- and bills, and no join. Rows that are gone stay suspects, until they are too old.
  SELECT w.ticket_id, w.bill_item_id FROM watched w
   WHERE (w.bill_item_id, w.bill_id) NOT IN (
           SELECT bi.id, coalesce(bi.bill_id, 0) FROM {pos.bill_items} bi
            WHERE bi.id = ANY (ARRAY(SELECT x.bill_item_id FROM watched x)) AND NOT bi.is_void)
      OR (w.bill_id, w.table_number) NOT IN (
           SELECT b.id, btrim(coalesce(tb.number, '')) FROM {pos.bills} b
             LEFT JOIN {pos.tables} tb ON tb.id = b.table_id
            WHERE b.id = ANY (ARRAY(SELECT DISTINCT x.bill_id FROM watched x))
              AND lower(b.status) NOT IN {pos.cancelled})
), changed AS MATERIALIZED (
  SELECT pi.ticket_id, pi.bill_item_id, pi.station, pi.brand, pi.table_number AS old_table, pi.paper_table, pi.moves,
         -- a split leaves less of the item on its bill
         least(pi.quantity, bi.quantity) AS quantity, b.id = pi.bill_id AS same_bill,
         pi.printed_at, b.id AS bill_id, btrim(coalesce(tb.number, '')) AS new_table, b.queue_number, b.bill_type,
         b.bill_number, bi.void_reason, coalesce(pr.name, '') AS name, j.chain_number, j.chain_day,
         coalesce(nullif(j.printed_on, ''), j.printer_name) AS printer, {zone} AS timezone,
         CASE WHEN lower(b.status) IN {pos.cancelled} THEN 'cancelled' WHEN bi.is_void THEN 'void'
              WHEN b.id = pi.bill_id AND pi.table_number <> '' AND btrim(coalesce(tb.number, '')) <> '' THEN 'moved'
              ELSE '' END AS kind
    FROM unnest(ARRAY(SELECT ticket_id FROM suspects), ARRAY(SELECT bill_item_id FROM suspects)) s (ticket, item)
    JOIN kps.printed_item pi ON pi.ticket_id = s.ticket AND pi.bill_item_id = s.item
    JOIN kps.job j ON j.ticket_id = pi.ticket_id
    JOIN {pos.bill_items} bi ON bi.id = pi.bill_item_id
    JOIN {pos.bills} b ON b.id = bi.bill_id
    LEFT JOIN {pos.tables} tb ON tb.id = b.table_id
    LEFT JOIN {pos.products} pr ON pr.id = bi.product_id
   WHERE pi.told = ''
     -- a copy that is still under way leaves the item out by itself
     AND (j.state = 'printed' OR (j.state = 'failed' AND j.sends > j.cleared))
     AND lower(b.status) NOT IN {pos.paid}
     AND (bi.is_void OR lower(b.status) IN {pos.cancelled} OR b.id IS DISTINCT FROM pi.bill_id
          -- that it has no table any more changes nothing until it has another one
          OR btrim(coalesce(tb.number, '')) NOT IN ('', pi.table_number))
   ORDER BY pi.ticket_id, pi.bill_item_id FOR UPDATE OF pi SKIP LOCKED
), remembered AS (
  UPDATE kps.printed_item pi
     SET told = CASE WHEN c.kind IN ('void', 'cancelled') THEN c.kind ELSE '' END, bill_id = c.bill_id,
         -- without a table for a while, and then at another one: that is a move
         table_number = CASE WHEN c.new_table = '' AND c.same_bill THEN pi.table_number ELSE c.new_table END,
         moves = pi.moves + 1
    FROM changed c WHERE pi.ticket_id = c.ticket_id AND pi.bill_item_id = c.bill_item_id
  RETURNING 1
), once AS MATERIALIZED (
  -- a ticket and its reprints have one number: their item is told once, by the newest paper
  SELECT DISTINCT ON (station, brand, bill_item_id, chain_day, chain_number) * FROM changed
   WHERE kind <> '' ORDER BY station, brand, bill_item_id, chain_day, chain_number, printed_at DESC
), changes AS (
  INSERT INTO kps.slip (dedupe_key, kind, station, brand, timezone, content, expires_at)
  SELECT concat_ws(':', o.kind, o.station, o.brand, o.bill_id, md5(string_agg(
           concat_ws(':', o.ticket_id, o.bill_item_id, o.moves), ',' ORDER BY o.ticket_id, o.bill_item_id))),
         o.kind, o.station, o.brand, max(o.timezone),
         json_build_object('table', max(CASE WHEN o.kind = 'moved' THEN o.old_table
             WHEN o.paper_table = '' OR o.paper_table = o.new_table THEN o.new_table
             WHEN o.new_table = '' THEN o.paper_table ELSE o.paper_table || ' -> ' || o.new_table END),
           'new_table', CASE WHEN o.kind = 'moved' THEN max(o.new_table) ELSE '' END,
           'queue_number', max(o.queue_number), 'bill_type', max(o.bill_type), 'bill_number', max(o.bill_number),
           'items', json_agg(json_build_object('quantity', o.quantity, 'name', o.name, 'reason', o.void_reason,
              'number', o.chain_number, 'printed_at', o.printed_at, 'printer', o.printer)
              ORDER BY o.ticket_id, o.bill_item_id)),
         clock_timestamp() + {{minutes:float8}} * interval '1 minute'
    FROM once o GROUP BY o.kind, o.station, o.brand, o.bill_id,
         CASE WHEN o.kind = 'moved' THEN o.old_table ELSE o.paper_table END
  ON CONFLICT (dedupe_key) DO NOTHING
  RETURNING id
), moved AS MATERIALIZED (
  SELECT j.ticket_id, j.backup_for_key, j.backup_for, j.printer_key
    FROM kps.job j
   WHERE j.backup_for_key <> '' AND NOT j.elsewhere_told AND j.printer_key <> j.backup_for_key AND j.state = 'printed'
     AND j.finished_at > statement_timestamp() - interval '{OUTAGE_HOURS} hours'
), outages AS (
  INSERT INTO kps.slip (dedupe_key, kind, target, timezone, content, expires_at)
  SELECT DISTINCT ON (m.backup_for_key, m.printer_key)
         concat_ws('|', 'outage', m.backup_for_key, m.printer_key, p.outages), 'outage', m.printer_key,
         coalesce({zone}, 'UTC'),
         json_build_object('printer', m.backup_for, 'reason', jr.backup_reason, 'since', p.unable_since),
         clock_timestamp() + interval '30 minutes'
    FROM moved m JOIN kps.printer p ON p.printer_key = m.backup_for_key AND NOT {_ABLE}
    JOIN kps.job jr ON jr.ticket_id = m.ticket_id
    JOIN {pos.tickets} t ON t.id = m.ticket_id LEFT JOIN {pos.bills} b ON b.id = t.bill_id
   WHERE NOT EXISTS (SELECT 1 FROM kps.slip s
                      WHERE s.dedupe_key = concat_ws('|', 'outage', m.backup_for_key, m.printer_key, p.outages))
   ORDER BY m.backup_for_key, m.printer_key, m.ticket_id
  ON CONFLICT (dedupe_key) DO NOTHING
  RETURNING id
), back AS MATERIALIZED (
  -- it can print again, and none of its tickets is still under way elsewhere
  SELECT p.printer_key, p.outages, p.unable_since, p.able_since FROM kps.printer p
   WHERE {_ABLE} AND p.printer_key IN (SELECT backup_for_key FROM moved)
     AND NOT EXISTS (SELECT 1 FROM kps.job o WHERE o.backup_for_key = p.printer_key AND NOT o.elsewhere_told
                        AND o.state IN ('claimed', 'sending'))
   ORDER BY p.printer_key FOR NO KEY UPDATE SKIP LOCKED
), over AS (
  UPDATE kps.printer p SET outages = p.outages + 1 FROM back WHERE p.printer_key = back.printer_key RETURNING 1
), due AS MATERIALIZED (
  SELECT j.ticket_id FROM kps.job j
   WHERE j.ticket_id IN (SELECT m.ticket_id FROM moved m JOIN back ON back.printer_key = m.backup_for_key)
     AND NOT j.elsewhere_told AND j.state = 'printed' ORDER BY j.ticket_id FOR UPDATE
), told AS (
  UPDATE kps.job j SET elsewhere_told = true FROM due WHERE j.ticket_id = due.ticket_id
  RETURNING j.*
), caught_up AS (
  INSERT INTO kps.slip (dedupe_key, kind, target, timezone, content, expires_at)
  SELECT concat_ws('|', 'catch_up', back.printer_key, back.outages), 'catch_up', back.printer_key,
         coalesce(max({zone}), 'UTC'),
         json_build_object('printer', max(j.backup_for), 'since',
           -- it may have been able all the time, but for a single ticket
           CASE WHEN back.able_since >= min(j.claimed_at) THEN back.unable_since END,
           'went_elsewhere', coalesce(json_agg({elsewhere} ORDER BY j.finished_at)
             FILTER (WHERE back.printer_key <> ALL (j.maybe_keys)), '[]'),
           'maybe_twice', coalesce(json_agg({elsewhere} ORDER BY j.finished_at)
             FILTER (WHERE back.printer_key = ANY (j.maybe_keys)), '[]')),
         clock_timestamp() + interval '30 minutes'
    FROM back JOIN told j ON j.backup_for_key = back.printer_key
    JOIN {pos.tickets} t ON t.id = j.ticket_id LEFT JOIN {pos.bills} b ON b.id = t.bill_id
    LEFT JOIN {pos.tables} tb ON tb.id = b.table_id
   GROUP BY back.printer_key, back.outages, back.unable_since, back.able_since
  ON CONFLICT (dedupe_key) DO NOTHING
  RETURNING id
)
SELECT (SELECT count(*) FROM changes) + (SELECT count(*) FROM outages) + (SELECT count(*) FROM caught_up) AS made,
       EXISTS (SELECT 1 FROM kps.slip s WHERE s.state IN ('new', 'claimed', 'sending')) AS waiting,
       EXISTS (SELECT 1 FROM {pos.tickets} t WHERE t.status = 'new') AS tickets_wait""",
    )


class LookedSlip(NamedTuple):
    """A slip that nobody prints now."""

    id: SlipId
    token: Token
    kind: str
    station: str
    brand: str
    target: PrinterKey
    over: bool
    waits: bool | None
    """None = it never waited."""


_KNOWN_KINDS = ", ".join(f"'{kind}'" for kind in SlipKind)
"""Another instance may be newer: what it alone knows is left to it."""

LOOK = Statement(
    "look_slips",
    LookedSlip,
    f"""SELECT s.id, s.token, s.kind, s.station, s.brand, s.target,
       s.tries >= {MOST_TRIES} OR s.sends >= {MOST_COPIES}
         OR (s.expires_at <= clock_timestamp() AND s.created_at <= clock_timestamp()) AS over,
       s.not_before > clock_timestamp()
         AND s.not_before < clock_timestamp() + interval '1 hour' AS waits
  FROM (SELECT s.*, row_number() OVER (PARTITION BY s.target, s.station, s.brand ORDER BY s.id) AS place
          FROM kps.slip s WHERE s.state IN ('new', 'claimed', 'sending') AND s.kind IN ({_KNOWN_KINDS})
           AND NOT (s.state IN ('claimed', 'sending') AND {live("s")})) s
 WHERE s.place <= {EACH} ORDER BY s.id LIMIT 500""",
)
"""Slips that nobody prints now, the oldest of each route: many of one that nobody can print keep none of another."""


_OPEN = f"""s.token = w.token AND s.state IN ('new', 'claimed', 'sending')
     AND NOT (s.state IN ('claimed', 'sending') AND {live("s")})"""
"""Whether slip s is still as a look saw it, and nobody prints it."""


CLAIM = Statement(
    "claim_slips",
    ClaimedWork,
    f"""WITH {wanted()}, pick AS MATERIALIZED (
  SELECT w.* FROM want w JOIN mine m ON m.printer_key = w.printer_key AND m.epoch = w.epoch
    JOIN kps.slip s ON s.id = w.id
   WHERE {_OPEN}
   ORDER BY s.id FOR UPDATE OF s
)
UPDATE kps.slip s
   SET state = 'claimed', token = nextval('kps.token_seq'), epoch = pick.epoch, owner = {{me:uuid}},
       printer_key = pick.printer_key, printer_id = pick.row_id, printer_name = pick.name,
       tries = s.tries + CASE WHEN s.state = 'new' THEN 1 ELSE {DEATH} END,
       not_before = NULL,
       {left_at("s", "s.state = 'sending'")}
  FROM pick WHERE s.id = pick.id
RETURNING s.printer_key, s.id, s.token""",
)
"""Printers of mine get slips that nobody else has."""


GIVE_UP = Statement(
    "give_up_slips",
    OneWork,
    f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT s.id FROM want w JOIN kps.slip s ON s.id = w.id
   WHERE {_OPEN}
   ORDER BY s.id FOR UPDATE OF s
)
UPDATE kps.slip s
   SET state = 'failed', token = nextval('kps.token_seq'), finished_at = clock_timestamp(), error = {{error:text}}
  FROM pick WHERE s.id = pick.id
RETURNING s.id""",
)
"""Nobody needs them any more, or no printer takes them."""


class SlipPaper(NamedTuple):
    """What the paper of a slip says."""

    id: SlipId
    kind: str
    station: str
    content: Mapping[str, Any]
    timezone: str
    sends: int
    maybe_at: list[str]
    printer_name: str
    process_id: int
    printed_now: datetime
    model: str | None
    chars_per_line: int | None
    paper_width_mm: int | None
    printer_brand: str | None
    printer_ip: str | None
    waiting: list[Mapping[str, Any]] | None


def promise(pos: PosAdapter) -> Statement[SlipPaper]:
    """The promise before the first byte of a slip: sends + 1, committed; returns what it says."""
    waiting = f"""(SELECT json_agg(w ORDER BY w.ticket) FROM (
         SELECT t.id AS ticket, btrim(t.printer_target) AS station, j.chain_number AS number,
                {place("tb.number", "b.queue_number")} AS place, '' AS printer, t.created_at AS at
           FROM (SELECT x.* FROM {pos.tickets} x WHERE x.status = 'printing'
                 UNION ALL (SELECT x.* FROM {pos.tickets} x WHERE x.status = 'new' LIMIT {MOST_WAITING})) t
           LEFT JOIN kps.job j ON j.ticket_id = t.id LEFT JOIN {pos.bills} b ON b.id = t.bill_id
           LEFT JOIN {pos.tables} tb ON tb.id = b.table_id
          WHERE (j.printer_key = s.printer_key AND j.state = 'claimed'
                OR t.status = 'new' AND EXISTS (SELECT 1 FROM {pos.printers} r WHERE r.id = ANY ({{rows:bigint[]}})
                     AND lower(btrim(r.station_code)) = lower(btrim(t.printer_target))
                     AND r.brand_id = {pos.brand_of()}))
          ORDER BY t.id LIMIT 100) w)"""
    return Statement(
        "promise_slip",
        SlipPaper,
        f"""WITH s AS (
  UPDATE kps.slip s SET state = 'sending', sends = s.sends + 1
    FROM kps.printer p
   WHERE s.id = {{id:bigint}} AND s.token = {{token:bigint}} AND s.state = 'claimed'
     AND {leased("s", NEEDED)}
  RETURNING s.*, p.model
)
SELECT s.id, s.kind, s.station, s.content, s.timezone, s.sends, s.maybe_at, s.printer_name,
       nextval('kps.process_id_seq') AS process_id, clock_timestamp() AS printed_now, s.model,
       sp.chars_per_line, sp.paper_width_mm, sp.printer_brand, {pos.printer_address()}
         AS printer_ip,
       CASE WHEN s.kind = 'catch_up' THEN {waiting} END AS waiting
  FROM s LEFT JOIN {pos.printers} sp ON sp.id = s.printer_id""",
    )


STANDING = Statement(
    "standing_slip",
    Standing,
    """SELECT s.state, coalesce(s.token = {token:bigint}, false) AS mine,
       coalesce(s.settled_token = {token:bigint}, false) AS settled, true AS wanted, s.state AS status
  FROM (SELECT {id:bigint} AS id) x LEFT JOIN kps.slip s ON s.id = x.id""",
)
"""Whether a slip is still claimed by this token, or has been settled by it."""


def _tried(*, outcome: str, proof: str, error: str, sent: str) -> str:
    """UPDATE that ends one try of a slip; it is open again after a delay if the outcome is retry."""
    return f"""UPDATE kps.slip s
     SET state = CASE WHEN {outcome} = 'retry' THEN 'new' ELSE {outcome} END,
         settled_token = s.token, token = nextval('kps.token_seq'), finished_at = clock_timestamp(),
         proof = {proof}, error = {error}, sends = {taken_back("s", sent)},
         {left_at("s", f"{outcome} <> 'printed' AND {sent}")},
         not_before = CASE WHEN {outcome} = 'retry'
                           THEN clock_timestamp() + {{delay:float8}} * interval '1 second' END
   WHERE s.id = {{id:bigint}} AND s.token = {{token:bigint}} AND s.state IN ('claimed', 'sending')
  RETURNING s.state"""


SETTLE = Statement(
    "settle_slip",
    Settled,
    f"""WITH s AS (
  {_tried(outcome="{outcome:text}", proof="{proof:text}", error="{error:text}", sent="{sent:boolean}")}
)
SELECT (SELECT count(*) FROM s) AS settled, (SELECT max(state) FROM s) AS status,
       (SELECT count(pg_notify('{CHANNEL_TICKET}', '')) FROM s WHERE state = 'new') AS woken""",
)
"""What became of a slip at a printer."""


UNSENT = Statement(
    "unsent_slip",
    Unsent,
    f"""WITH back AS (
  {_tried(outcome="'retry'", proof="NULL", error="'the database was away'", sent="false")}
)
SELECT (SELECT count(*) FROM back) AS released,
       -- one that an earlier try has given back says so by its settled token
       NOT EXISTS (SELECT 1 FROM back) AND NOT EXISTS (
         SELECT 1 FROM kps.slip s WHERE s.id = {{id:bigint}} AND s.settled_token = {{token:bigint}}) AS lost,
       {WOKEN}""",
)
"""The holder gives a slip back of which no byte has left, although the promise may have been committed."""


def _given_back(name: str, which: str, tries: str) -> Statement[GivenBack]:
    """Claimed slips are open again. None is left to its lock: nobody but KPS locks a slip."""
    return Statement(
        name,
        GivenBack,
        f"""WITH back AS (
  UPDATE kps.slip s SET state = 'new', token = nextval('kps.token_seq'), tries = {tries}
   WHERE {which} AND s.state = 'claimed'
  RETURNING s.id
)
SELECT (SELECT count(*) FROM back) AS released, '{{}}'::bigint[] AS left, {WOKEN}""",
    )


RELEASE = _given_back(
    "release_slips", "s.token = ANY ({tokens:bigint[]}) AND s.id = ANY ({ids:bigint[]})", "greatest(s.tries - 1, 0)"
)
"""The holder gives claimed slips back: no byte of them has left."""


RECONCILE = _given_back(
    "reconcile_slips",
    "s.owner = {me:uuid} AND s.printer_key = {key:text} AND s.token <> ALL ({held:bigint[]})",
    "s.tries",
)
"""Give back what is claimed for a printer of mine and held by nobody."""
