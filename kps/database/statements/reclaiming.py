"""Tickets that are taken back: from a dead process, from earlier epochs of a device, from nobody at all."""

from __future__ import annotations

from typing import NamedTuple

from kps.core.tickets import PrinterKey, TicketId, Token
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import (
    AS_SEEN,
    CHANNEL_TICKET,
    LEFT,
    LEFT_BEHIND,
    WOKEN,
    WokenTicket,
    covered,
    requeue,
)
from kps.database.statements.leases import LOCK_LEASE
from kps.database.statements.work import live


class DeadReleased(NamedTuple):
    """What came of the death of a printer's process."""

    epoch: int
    released: int
    left: int
    woken: int


def release_dead(pos: PosAdapter) -> Statement[DeadReleased]:
    """A printer process has been reaped: a new epoch, and all it held is given back.

    `blamed` is the token of a ticket that the process was preparing when it died of its own (0 = none).
    """
    before = """a AS (
  UPDATE kps.printer p SET epoch = p.epoch + 1
   WHERE p.printer_key = {key:text} AND p.owner = {me:uuid} AND p.epoch = {epoch:bigint}
  RETURNING p.printer_key, p.epoch
),"""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j JOIN a ON a.printer_key = j.printer_key
   WHERE j.state IN ('claimed', 'sending') AND j.epoch < a.epoch"""
    body = requeue(
        pos,
        held,
        "'reclaimed'",
        text="'the printer process died'",
        before=before,
        death="j.token = {blamed:bigint}",
    )
    return Statement(
        "release_dead",
        DeadReleased,
        f"WITH {body} SELECT a.epoch, (SELECT count(*) FROM job) AS released, {LEFT} AS left, {WOKEN} FROM a",
        prelude=LOCK_LEASE,
    )


class LeftRequeued(NamedTuple):
    """What is given back of a device's earlier epochs, and what is still left."""

    printer_key: PrinterKey
    released: int
    left: int
    woken: int


def requeue_left(pos: PosAdapter) -> Statement[LeftRequeued]:
    """What earlier epochs of printers of mine have left open, because somebody had locked the tickets' rows."""
    before = """a AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
   WHERE p.printer_key = ANY ({keys:text[]}) AND p.owner = {me:uuid} AND p.expires_at > clock_timestamp()
),"""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j JOIN a ON a.printer_key = j.printer_key
   WHERE j.state IN ('claimed', 'sending') AND j.epoch < a.epoch"""
    body = requeue(pos, held, "'reclaimed'", text="'its printer has a new owner or process'", before=before)
    return Statement(
        "requeue_left",
        LeftRequeued,
        f"WITH {body} SELECT a.printer_key, (SELECT count(*) FROM job JOIN held ON held.ticket_id = job.ticket_id "
        f"WHERE held.printer_key = a.printer_key) AS released, {LEFT} AS left, {WOKEN} FROM a",
    )


class Orphan(NamedTuple):
    """A `printing` ticket that nobody accounts for."""

    id: TicketId
    token: Token


def orphans(pos: PosAdapter) -> Statement[Orphan]:
    """`printing` tickets that no job under a live lease accounts for: mine, and those that this instance decides on.

    The others are another shop's: whoever prints them need not be KPS.
    """
    return Statement(
        "orphans",
        Orphan,
        f"""SELECT t.id, coalesce(j.token, 0) AS token FROM {pos.tickets} t LEFT JOIN kps.job j ON j.ticket_id = t.id
  LEFT JOIN {pos.bills} b ON b.id = t.bill_id
 WHERE t.status = 'printing' AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {live("j")})
   AND (j.owner = {{me:uuid}} OR {covered(pos)})
 ORDER BY t.id LIMIT {MOST_ORPHANS}""",
    )


MOST_ORPHANS = 10_000
"""So many are watched at once."""


def adopt(pos: PosAdapter) -> Statement[WokenTicket]:
    """Take over `printing` tickets that nobody accounts for; all but the only claimed ones are marked."""
    log = pos.insert_log(
        "k JOIN pick ON pick.id = k.id",
        ticket_id="k.id",
        old_status="'printing'",
        new_status="'new'",
        action="'retry'",
        printer_ip=pos.ticket_address("k"),
        error_code="'reclaimed'",
        error_message="'printing for too long without a live owner'",
        metadata="""jsonb_build_object('instance', {instance:text},
          'possible_duplicate', pick.job_state IS DISTINCT FROM 'claimed')""",
    )
    return Statement(
        "adopt",
        WokenTicket,
        f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id, j.state AS job_state FROM want w JOIN {pos.tickets} t ON t.id = w.id
    LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'printing' AND coalesce(j.token, 0) = w.token
     AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {live("j")})
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  INSERT INTO kps.job AS j (ticket_id, state, sends, round_open) SELECT pick.id, 'requeued', 1, true FROM pick
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = 'requeued', token = nextval('kps.token_seq'), round_open = true,
         tried = CASE WHEN j.state IN ('printed', 'failed') THEN '{{}}' ELSE j.tried END,
         sends = CASE WHEN j.state = 'claimed' THEN j.sends ELSE greatest(j.sends, 1) END,
         {LEFT_BEHIND}
   WHERE {AS_SEEN}
  RETURNING j.ticket_id
), k AS (
  {pos.update_tickets("k", status="'new'")} FROM job WHERE k.id = job.ticket_id AND k.status = 'printing'
  RETURNING k.id, k.printer_ip
), log AS ({log})
SELECT id, (SELECT count(pg_notify('{CHANNEL_TICKET}', ''))) AS woken FROM k ORDER BY id""",
    )
