"""What the supervisor keeps in order: leases, the dead, orphans, and what is shown of it all."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from kps.core.tickets import PrinterKey, TicketId, Token
from kps.database.connection import Statement
from kps.database.schema import PRINTER, TICKET, PosSchema
from kps.database.statements.parts import (
    AS_SEEN,
    CHANNEL_PRINTER,
    CHANNEL_TICKET,
    LEFT,
    LEFT_BEHIND,
    LIVE,
    POS_BEHIND_S,
    WOKEN,
    OneDevice,
    ToldDevice,
    WokenTicket,
    brand_of,
    covered,
    ip_text,
    log_rows,
    requeue,
)

_KNOWN = "(p.owner = excluded.owner OR (p.owner IS NULL AND p.yielded_until > clock_timestamp()))"


class Acquired(NamedTuple):
    """A device that is ours now."""

    printer_key: PrinterKey
    epoch: int
    state: str
    answers: bool | None
    proof_level: str | None
    pushes: bool
    clears: bool
    firmware: str
    contested: bool
    carried: int
    released: int
    left: int
    told: int
    woken: int


def acquire(schema: PosSchema) -> Statement[Acquired]:
    """Take the printers whose lease has ended; what an earlier epoch of somebody else left open is given back.

    `left`: so many tickets are locked by somebody. They stay under their epoch, for `requeue_left`.
    `contested`: its last owner did not let go, its lease ran out; it may still hold the device's only connection.
    """
    before = f"""before AS MATERIALIZED (
  SELECT p.printer_key, p.owner FROM kps.printer p WHERE p.printer_key = ANY ({{keys:text[]}})
), a AS (
  INSERT INTO kps.printer AS p (printer_key, name, owner, owner_name, epoch, expires_at)
  SELECT k, n, {{me:uuid}}, {{instance:text}}, 1, clock_timestamp() + {{ttl:float8}} * interval '1 second'
    FROM unnest({{keys:text[]}}, {{names:text[]}}) AS w(k, n) ORDER BY k
  ON CONFLICT (printer_key) DO UPDATE
     SET owner = excluded.owner, owner_name = excluded.owner_name, name = excluded.name, epoch = p.epoch + 1,
         expires_at = excluded.expires_at,
         -- What the last owner found wrong is not known to be so any more: tickets wait for the new owner's hello.
         -- The same owner's process may hold a blocked ticket, and cannot say so again.
         -- And one that was just given up because it cannot be reached is not waited for.
         -- What a probe has left behind nobody knows yet.
         state = CASE WHEN p.borrowed_until < p.expires_at AND (p.state = 'ready' OR {_KNOWN}) THEN p.state
                      ELSE 'starting' END,
         state_text = CASE WHEN p.borrowed_until < p.expires_at AND {_KNOWN} THEN p.state_text ELSE '' END,
         state_since = CASE WHEN p.borrowed_until < p.expires_at AND (p.state = 'ready' OR {_KNOWN}) THEN p.state_since
                            ELSE clock_timestamp() END
   WHERE p.expires_at <= clock_timestamp() AND p.borrowed_until <= clock_timestamp()
     AND NOT (p.yielded_by IS NOT DISTINCT FROM excluded.owner AND p.yielded_until > clock_timestamp()
              -- after this long without a taker nobody else wants it
              AND p.expires_at > clock_timestamp() - interval '6 seconds'
              AND EXISTS (SELECT 1 FROM kps.instance i WHERE i.owner <> excluded.owner
                             AND i.seen_at > clock_timestamp() - interval '6 seconds'))
  RETURNING p.printer_key, p.epoch, p.state, p.answers, p.proof_level, p.pushes, p.clears, p.firmware
), carried AS (
  -- my own lapsed lease: what my processes hold goes on under the new epoch
  UPDATE kps.job j SET epoch = a.epoch FROM a
   WHERE j.printer_key = a.printer_key AND j.owner = {{me:uuid}} AND j.state IN ('claimed', 'sending')
     AND j.epoch = a.epoch - 1
  RETURNING j.printer_key
), carried_slips AS (
  UPDATE kps.slip s SET epoch = a.epoch FROM a
   WHERE s.printer_key = a.printer_key AND s.owner = {{me:uuid}} AND s.state IN ('claimed', 'sending')
     AND s.epoch = a.epoch - 1
  RETURNING s.id
),"""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j JOIN a ON a.printer_key = j.printer_key
   WHERE j.state IN ('claimed', 'sending') AND j.epoch < a.epoch
     AND NOT (j.epoch = a.epoch - 1 AND j.owner IS NOT DISTINCT FROM {me:uuid})"""
    body = requeue(schema, held, "'reclaimed'", text="'its printer has a new owner'", before=before)
    return Statement(
        "acquire",
        Acquired,
        f"WITH {body} "
        f"SELECT a.*, EXISTS (SELECT 1 FROM before b WHERE b.printer_key = a.printer_key AND b.owner <> {{me:uuid}}) "
        f"AS contested, (SELECT count(*) FROM carried c WHERE c.printer_key = a.printer_key) AS carried, "
        f"(SELECT count(*) FROM job JOIN held ON held.ticket_id = job.ticket_id "
        f"WHERE held.printer_key = a.printer_key) AS released, {LEFT} AS left, "
        f"(SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told, {WOKEN} FROM a",
        prelude=_LOCK_LEASES,
    )


LOAN_S = 30.0
"""A loan that is not renewed for so long is over."""
LOAN_MOST_S = 120.0
"""A loan that seems to last for longer was given before the clock went back."""


_DEVICE = f"""p.printer_key, p.owner::text AS owner, p.owner_name, p.epoch,
       CASE WHEN p.borrowed_until > clock_timestamp() THEN 'held'
            -- nobody has taken it back yet, so what was wrong before the probe is not known to be so any more
            WHEN p.expires_at <= clock_timestamp() AND p.borrowed_until >= p.expires_at AND isfinite(p.borrowed_until)
              THEN 'starting' ELSE p.state END AS state,
       p.state_since,
       CASE WHEN p.borrowed_until > clock_timestamp() THEN 'borrowed for a probe by ' || p.borrowed_by
            ELSE p.state_text END AS state_text,
       p.borrowed_until > clock_timestamp() AS borrowed, p.borrowed_by,
       p.borrowed_until > clock_timestamp() + interval '{LOAN_MOST_S:g} seconds' AS overlong, p.held_by, p.paper,
       p.response_ms, p.checked_at,
       coalesce(p.proof_level, CASE WHEN p.answers THEN 'realtime' ELSE 'none' END) AS proof, p.answers,
       p.proof_level, p.cover_open, p.cutter_ok, p.demoted_text, p.expires_at > clock_timestamp() AS live,
       -- a borrowed device has had no owner on purpose: whoever may take it back gets as long as after a lease
       CASE WHEN isfinite(greatest(p.expires_at, p.borrowed_until))
            THEN extract(epoch FROM clock_timestamp() - greatest(p.expires_at, p.borrowed_until))::float8 ELSE 1e9 END
         AS lapsed_s,
       extract(epoch FROM clock_timestamp() - p.state_since)::float8 AS state_age_s"""
"""What is known about device p, whoever owns it. `overlong`: its loan is to be cut."""


class Device(NamedTuple):
    """What is known about a device, whoever owns it."""

    printer_key: PrinterKey
    owner: str | None
    owner_name: str
    epoch: int
    state: str
    state_since: datetime
    state_text: str
    borrowed: bool
    borrowed_by: str
    overlong: bool
    """Its loan is to be cut."""
    held_by: str | None
    paper: str
    response_ms: int | None
    checked_at: datetime | None
    proof: str
    answers: bool | None
    proof_level: str | None
    cover_open: bool | None
    cutter_ok: bool | None
    demoted_text: str
    live: bool
    lapsed_s: float
    state_age_s: float
    kept: int | None
    """The epoch of a lease that was renewed just now."""


RENEW = Statement(
    "renew",
    Device,
    f"""WITH here AS (
  INSERT INTO kps.instance AS i (owner, name, host) VALUES ({{me:uuid}}, {{instance:text}}, {{host:text}})
  ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp() RETURNING 1
), cut AS (
  -- The clock has gone back since these were given: whoever lives renews in time, whoever does not may be followed.
  UPDATE kps.printer p
     SET expires_at = clock_timestamp() + CASE WHEN p.owner IS NULL THEN 0 ELSE {{ttl:float8}} END * interval '1 second'
   WHERE p.printer_key IN (
     SELECT o.printer_key FROM kps.printer o WHERE o.owner IS DISTINCT FROM {{me:uuid}}
        AND o.expires_at > clock_timestamp() + CASE WHEN o.owner IS NULL THEN 0 ELSE 120 END * interval '1 second'
      ORDER BY o.printer_key FOR NO KEY UPDATE SKIP LOCKED)
  RETURNING 1
), mine AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
    JOIN unnest({{keys:text[]}}, {{epochs:bigint[]}}) AS m(printer_key, epoch) USING (printer_key)
   WHERE p.epoch = m.epoch AND p.owner = {{me:uuid}} AND p.expires_at > clock_timestamp()
   ORDER BY p.printer_key FOR NO KEY UPDATE OF p SKIP LOCKED
), kept AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp() + {{ttl:float8}} * interval '1 second'
    FROM mine WHERE p.printer_key = mine.printer_key AND p.epoch = mine.epoch AND (SELECT count(*) FROM here) >= 0
  RETURNING p.printer_key, p.epoch
)
SELECT {_DEVICE}, kept.epoch AS kept
  FROM kps.printer p LEFT JOIN kept ON kept.printer_key = p.printer_key WHERE p.printer_key = ANY ({{shown:text[]}})""",
)
"""Keep the leases of the printers whose process is well, say that this instance lives, and look at all devices.

An ended lease stays ended. A row that somebody works on is left out and costs no other lease: it is to be asked for
again at once. A lease of somebody else that seems to last for minutes is cut to its length. The devices
are shown as they were right before; `kept` is the epoch of a lease that was renewed just now.
"""


CUT_LOANS = Statement(
    "cut_loans",
    OneDevice,
    f"""UPDATE kps.printer p SET borrowed_until = clock_timestamp() + interval '{LOAN_S:g} seconds'
 WHERE p.printer_key IN (
   SELECT o.printer_key FROM kps.printer o
    WHERE o.borrowed_until > clock_timestamp() + interval '{LOAN_MOST_S:g} seconds'
    ORDER BY o.printer_key FOR NO KEY UPDATE SKIP LOCKED)
RETURNING p.printer_key""",
)
"""Loans that seem to last for minutes are cut to their length: who still probes renews in time."""


_LOCK_LEASES = (
    "SELECT 1 FROM kps.printer WHERE printer_key = ANY ({keys:text[]}) ORDER BY printer_key FOR NO KEY UPDATE"
)


_LOCK_LEASE = "SELECT 1 FROM kps.printer WHERE printer_key = {key:text} FOR NO KEY UPDATE"
"""Preludes of what ends a lease or an epoch: a claim holds the lease until it is committed, and only a snapshot
taken after that sees the job which it has made."""


YIELD = Statement(
    "yield_lease",
    ToldDevice,
    f"""WITH other AS (
  SELECT 1 FROM kps.instance i
   WHERE i.owner <> {{me:uuid}} AND i.seen_at > clock_timestamp() - interval '6 seconds' LIMIT 1
), p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL, yielded_by = {{me:uuid}},
         yielded_until = clock_timestamp() + {{away:float8}} * interval '1 second'
   WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}} AND p.epoch = {{epoch:bigint}}
     AND EXISTS (SELECT 1 FROM other)
     AND NOT EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = p.printer_key AND j.state IN ('claimed', 'sending'))
     AND NOT EXISTS (SELECT 1 FROM kps.slip s WHERE s.printer_key = p.printer_key AND s.epoch = p.epoch
                        AND s.state IN ('claimed', 'sending'))
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
    prelude=_LOCK_LEASE,
)
"""Give up a printer that this instance cannot reach, if another instance lives."""


EXPIRE_OWNER = Statement(
    "expire_owner",
    ToldDevice,
    f"""WITH p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL
   WHERE p.printer_key IN (
     SELECT o.printer_key FROM kps.printer o WHERE o.owner = {{owner:uuid}} AND o.expires_at > clock_timestamp()
      ORDER BY o.printer_key FOR NO KEY UPDATE SKIP LOCKED)
  RETURNING p.printer_key
), i AS (DELETE FROM kps.instance WHERE owner = {{owner:uuid}} RETURNING 1)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
)
"""End the leases of a generation whose processes are proven gone. One whose row is locked ends by itself."""


LAPSE = Statement(
    "lapse",
    ToldDevice,
    f"""WITH p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL
   WHERE p.owner = {{me:uuid}} AND p.printer_key = ANY ({{keys:text[]}})
     AND NOT EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = p.printer_key AND j.owner = p.owner
                        AND j.epoch = p.epoch AND j.state IN ('claimed', 'sending'))
     AND NOT EXISTS (SELECT 1 FROM kps.slip s WHERE s.printer_key = p.printer_key AND s.owner = p.owner
                        AND s.epoch = p.epoch AND s.state IN ('claimed', 'sending'))
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
    prelude=_LOCK_LEASES,
)
"""End leases at once, so that another instance may take over; never while something is held under them."""


class DeadReleased(NamedTuple):
    """What came of the death of a printer's process."""

    epoch: int
    released: int
    left: int
    woken: int


def release_dead(schema: PosSchema) -> Statement[DeadReleased]:
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
        schema,
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
        prelude=_LOCK_LEASE,
    )


class LeftRequeued(NamedTuple):
    """What is given back of a device's earlier epochs, and what is still left."""

    printer_key: PrinterKey
    released: int
    left: int
    woken: int


def requeue_left(schema: PosSchema) -> Statement[LeftRequeued]:
    """What earlier epochs of printers of mine have left open, because somebody had locked the tickets' rows."""
    before = """a AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
   WHERE p.printer_key = ANY ({keys:text[]}) AND p.owner = {me:uuid} AND p.expires_at > clock_timestamp()
),"""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j JOIN a ON a.printer_key = j.printer_key
   WHERE j.state IN ('claimed', 'sending') AND j.epoch < a.epoch"""
    body = requeue(schema, held, "'reclaimed'", text="'its printer has a new owner or process'", before=before)
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


def orphans(schema: PosSchema) -> Statement[Orphan]:
    """`printing` tickets that no job under a live lease accounts for: mine, and those that this instance decides on.

    The others are another shop's: whoever prints them need not be KPS.
    """
    return Statement(
        "orphans",
        Orphan,
        f"""SELECT t.id, coalesce(j.token, 0) AS token FROM {TICKET} t LEFT JOIN kps.job j ON j.ticket_id = t.id
  LEFT JOIN pos_bill b ON b.id = t.bill_id
 WHERE t.status = 'printing' AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {LIVE})
   AND (j.owner = {{me:uuid}} OR {covered(schema)})
 ORDER BY t.id LIMIT {MOST_ORPHANS}""",
    )


MOST_ORPHANS = 10_000
"""So many are watched at once."""


def adopt(schema: PosSchema) -> Statement[WokenTicket]:
    """Take over `printing` tickets that nobody accounts for; all but the only claimed ones are marked."""
    log = log_rows(
        schema,
        "k JOIN pick ON pick.id = k.id",
        ticket_id="k.id",
        old_status="'printing'",
        new_status="'new'",
        action="'retry'",
        printer_ip=ip_text(schema.ticket_ip_type, "k.printer_ip"),
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
  SELECT t.id, j.state AS job_state FROM want w JOIN {TICKET} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'printing' AND coalesce(j.token, 0) = w.token
     AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {LIVE})
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
  UPDATE {TICKET} k SET status = 'new' FROM job WHERE k.id = job.ticket_id AND k.status = 'printing'
  RETURNING k.id, k.printer_ip
), log AS ({log})
SELECT id, (SELECT count(pg_notify('{CHANNEL_TICKET}', ''))) AS woken FROM k ORDER BY id""",
    )


SWEEP_AT_ONCE = 5000


class Swept(NamedTuple):
    """What a sweep has come to."""

    jobs: int
    instances: int
    last: int | None
    more: bool


def sweep() -> Statement[Swept]:
    """Forget jobs of tickets that the POS has deleted, among the next ones after `after`, and what is long over.

    `last`: the last job that was looked at; NULL = there were no more. Years of jobs are looked through in pieces.
    """
    return Statement(
        "sweep",
        Swept,
        f"""WITH page AS MATERIALIZED (
  SELECT o.ticket_id, o.state FROM kps.job o WHERE o.ticket_id > {{after:bigint}}
   ORDER BY o.ticket_id LIMIT {SWEEP_AT_ONCE}
), gone AS (
  DELETE FROM kps.job j WHERE j.ticket_id IN (
    SELECT o.ticket_id FROM page o WHERE o.state NOT IN ('claimed', 'sending')
       AND NOT EXISTS (SELECT 1 FROM {TICKET} t WHERE t.id = o.ticket_id OFFSET 0))
  RETURNING 1
), old AS (
  DELETE FROM kps.instance i WHERE i.seen_at < statement_timestamp() - interval '1 day'
    AND i.owner <> {{me:uuid}} RETURNING 1
), chain AS (
  DELETE FROM kps.chain c WHERE c.day < statement_timestamp() - interval '7 days' RETURNING 1
), items AS (
  DELETE FROM kps.printed_item pi WHERE (pi.ticket_id, pi.bill_item_id) IN (
    SELECT o.ticket_id, o.bill_item_id FROM kps.printed_item o
     WHERE o.printed_at < statement_timestamp() - interval '7 days' LIMIT 500)
  RETURNING 1
), slips AS (
  DELETE FROM kps.slip s WHERE s.id IN (
    SELECT o.id FROM kps.slip o WHERE o.state IN ('printed', 'failed')
       AND o.created_at < statement_timestamp() - interval '14 days' LIMIT 500)
  RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS jobs, (SELECT count(*) FROM old) AS instances,
       (SELECT max(ticket_id) FROM page HAVING count(*) = {SWEEP_AT_ONCE}) AS last,
       (SELECT count(*) FROM items) = 500 OR (SELECT count(*) FROM slips) = 500 AS more""",
    )


class PosRow(NamedTuple):
    """A printer row of the POS."""

    id: int
    station: str
    name: str
    host: str | None
    port: int
    kind: str
    timeout_s: int
    priority: int
    active: bool
    brand: str
    brand_code: str
    brand_name: str
    total_prints: int
    failed_prints: int


def rows(schema: PosSchema) -> Statement[PosRow]:
    """All printer rows of the POS, in routing order."""
    return Statement(
        "rows",
        PosRow,
        f"""SELECT sp.id, lower(btrim(sp.station_code)) AS station, btrim(sp.printer_name) AS name,
       btrim({ip_text(schema.printer_ip_type, "sp.printer_ip")}) AS host, sp.printer_port AS port,
       lower(btrim(sp.printer_type)) AS kind, sp.timeout_seconds AS timeout_s, sp.priority, sp.is_active AS active,
       sp.brand_id::text AS brand, lower(coalesce(br.code, '')) AS brand_code, coalesce(br.name, '') AS brand_name,
       sp.total_prints, sp.failed_prints
  FROM {PRINTER} sp LEFT JOIN core_brand br ON br.id = sp.brand_id
 ORDER BY sp.priority, sp.id""",
    )


PRINTERS = Statement(
    "printers",
    Device,
    f"SELECT {_DEVICE}, NULL::bigint AS kept FROM kps.printer p WHERE p.printer_key = ANY ({{keys:text[]}})",
)
"""What is known about devices, whoever owns them."""


WAITING_MOST = 5000
"""So many waiting tickets are counted by station."""


class Counts(NamedTuple):
    """The queue in numbers."""

    new: int
    printing: int
    failed_today: int
    printed_today: int
    oldest_new_age_s: float
    pos_behind_s: float
    clock: float
    """Seconds since 1970."""
    unproven: list[Any]
    """[ticket, [keys of the printers where a copy may lie]] each."""
    waiting: list[Any]
    """[station, brand or None, key, count] each."""


def counts(schema: PosSchema) -> Statement[Counts]:
    """The queue in numbers, for /health and /metrics; `today` is the database's day.

    `unproven`: tickets of the last day of which a copy may lie at a printer, with the keys of those, newest first.
    `waiting`: tickets by station, brand and the key of the device that they are claimed for ('' = none yet), without
    those that are being sent; of a great backlog only a part, for it is looked at every few seconds.
    """
    return Statement(
        "counts",
        Counts,
        f"""SELECT count(*) FILTER (WHERE t.status = 'new') AS new, count(*) FILTER (WHERE t.status = 'printing')
       AS printing,
       (SELECT count(*) FROM {TICKET} f WHERE f.status = 'failed'
           AND f.created_at >= (SELECT date_trunc('day', clock_timestamp()) - {POS_BEHIND_S} * interval '1 second'))
       AS failed_today,
       (SELECT count(*) FROM kps.job j WHERE j.state = 'printed'
           AND j.finished_at >= (SELECT date_trunc('day', clock_timestamp()))) AS printed_today,
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(t.created_at) FILTER (WHERE t.status = 'new'))
         - {POS_BEHIND_S}, 0))::float8 AS oldest_new_age_s,
       {POS_BEHIND_S} AS pos_behind_s, extract(epoch FROM clock_timestamp())::float8 AS clock,
       (SELECT coalesce(json_agg(json_build_array(u.ticket_id, u.maybe_keys) ORDER BY u.ticket_id DESC), '[]')
          FROM (SELECT j.ticket_id, j.maybe_keys FROM kps.job j
           WHERE (j.maybe_keys <> '{{}}' OR j.moved_keys <> '{{}}') AND j.maybe_keys <> '{{}}'
             AND greatest(j.claimed_at, j.finished_at) > clock_timestamp() - interval '1 day'
           ORDER BY j.ticket_id DESC LIMIT 200) u) AS unproven,
       (SELECT coalesce(json_agg(json_build_array(g.station, g.brand, g.key, g.tickets)), '[]')
          FROM (SELECT lower(btrim(w.printer_target)) AS station, w.brand, w.key, count(*) AS tickets
                  FROM (SELECT t.printer_target, {brand_of(schema)}::text AS brand, t.key
                          FROM (SELECT t.*, coalesce(j.printer_key, '') AS key FROM {TICKET} t
                                  LEFT JOIN kps.job j ON j.ticket_id = t.id AND j.state = 'claimed'
                                 WHERE t.status IN ('new', 'printing') AND (t.status = 'new' OR j.state = 'claimed')
                                 LIMIT {WAITING_MOST}) t
                          LEFT JOIN pos_bill b ON b.id = t.bill_id) w
                 GROUP BY 1, 2, 3) g) AS waiting
  FROM {TICKET} t WHERE t.status IN ('new', 'printing')""",
    )
