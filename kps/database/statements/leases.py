"""Leases of devices: taken, renewed, given up, ended; and what is known about a device, whoever has it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from kps.core.tickets import PrinterKey
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import CHANNEL_PRINTER, LEFT, WOKEN, OneDevice, ToldDevice, requeue

LEASE_TTL_S = 6.0
"""A lease lasts so long from its last renewal, and an instance that has renewed nothing for so long does not count."""
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


def acquire(pos: PosAdapter) -> Statement[Acquired]:
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
              AND p.expires_at > clock_timestamp() - interval '{LEASE_TTL_S:g} seconds'
              AND EXISTS (SELECT 1 FROM kps.instance i WHERE i.owner <> excluded.owner
                             AND i.seen_at > clock_timestamp() - interval '{LEASE_TTL_S:g} seconds'))
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
    body = requeue(pos, held, "'reclaimed'", text="'its printer has a new owner'", before=before)
    return Statement(
        "acquire",
        Acquired,
        f"WITH {body} "
        f"SELECT a.*, EXISTS (SELECT 1 FROM before b WHERE b.printer_key = a.printer_key AND b.owner <> {{me:uuid}}) "
        f"AS contested, (SELECT count(*) FROM carried c WHERE c.printer_key = a.printer_key) AS carried, "
        f"(SELECT count(*) FROM job JOIN held ON held.ticket_id = job.ticket_id "
        f"WHERE held.printer_key = a.printer_key) AS released, {LEFT} AS left, "
        f"(SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told, {WOKEN} FROM a",
        prelude=LOCK_LEASES,
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


LOCK_LEASES = "SELECT 1 FROM kps.printer WHERE printer_key = ANY ({keys:text[]}) ORDER BY printer_key FOR NO KEY UPDATE"


LOCK_LEASE = "SELECT 1 FROM kps.printer WHERE printer_key = {key:text} FOR NO KEY UPDATE"
"""Preludes of what ends a lease or an epoch: a claim holds the lease until it is committed, and only a snapshot
taken after that sees the job which it has made."""


YIELD = Statement(
    "yield_lease",
    ToldDevice,
    f"""WITH other AS (
  SELECT 1 FROM kps.instance i
   WHERE i.owner <> {{me:uuid}} AND i.seen_at > clock_timestamp() - interval '{LEASE_TTL_S:g} seconds' LIMIT 1
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
    prelude=LOCK_LEASE,
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
    prelude=LOCK_LEASES,
)
"""End leases at once, so that another instance may take over; never while something is held under them."""


PRINTERS = Statement(
    "printers",
    Device,
    f"SELECT {_DEVICE}, NULL::bigint AS kept FROM kps.printer p WHERE p.printer_key = ANY ({{keys:text[]}})",
)
"""What is known about devices, whoever owns them."""
