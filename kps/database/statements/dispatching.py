"""What the dispatcher decides: look, claim, end rounds, give up, wait, rescue."""

from __future__ import annotations

from typing import NamedTuple

from kps.core.tickets import PrinterKey, TicketId, Token
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.pos.trigger import WAKES
from kps.database.statements.fragments import (
    AS_SEEN,
    CHANNEL_TICKET,
    GAVE_BACK,
    LEFT_BEHIND,
    POS_BEHIND_S,
    RESET,
    ROUND_OPEN,
    OneJob,
    WokenTicket,
    covered,
    requeue,
    seen,
)
from kps.database.statements.work import ClaimedWork, GivenBack, OneWork, live, wanted


class Looked(NamedTuple):
    """A ticket that may be decided on now."""

    id: TicketId
    station: str
    brand: str | None
    print_attempts: int
    max_retries: int
    original_ticket_id: int | None
    age_s: float
    token: Token
    state: str
    """Of its job; empty = there is none."""
    round_open: bool
    tried: list[PrinterKey]
    forced_printer: str | None
    unrouted: bool
    waited_s: float
    place: int
    brand_code: str | None
    items: int
    original_items: int


def look(pos: PosAdapter) -> Statement[Looked]:
    """The oldest tickets per station and brand that may be decided on now."""
    return Statement("look", Looked, _looked(pos, f"{pos.tickets} t"))


def look_among(pos: PosAdapter) -> Statement[Looked]:
    """The same of some tickets only, found by their time and number: it costs the same however many others there are.

    Generic plans know neither how many are `new` nor what is asked for: each step is written so that one index serves.
    """
    among = f"""WITH among AS MATERIALIZED (
  SELECT t.id FROM {pos.tickets} t WHERE t.created_at >= to_timestamp({{since:float8}}) AND btrim(t.status) = 'new'
  UNION SELECT t.id FROM {pos.tickets} t WHERE t.id > {{above:bigint}} AND btrim(t.status) = 'new'
  UNION SELECT unnest({{ids:bigint[]}})
)
"""
    tickets = f"among CROSS JOIN LATERAL (SELECT x.* FROM {pos.tickets} x WHERE x.id = among.id OFFSET 0) t"
    return Statement("look_among", Looked, among + _looked(pos, tickets), prelude=_BY_INDEX)


def _looked(pos: PosAdapter, tickets: str) -> str:
    return f"""SELECT w.*, (SELECT lower(c.code) FROM {pos.brands} c WHERE c.id = w.brand::uuid) AS brand_code,
       (SELECT count(*) FROM {pos.ticket_items} i WHERE i.kitchen_ticket_id = w.id) AS items,
       (SELECT count(*) FROM {pos.ticket_items} i WHERE i.kitchen_ticket_id = w.original_ticket_id) AS original_items
  FROM (SELECT t.id, lower(btrim(t.printer_target)) AS station, {pos.brand_of()}::text AS brand, t.print_attempts,
               t.max_retries, t.original_ticket_id,
               extract(epoch FROM clock_timestamp() - t.created_at)::float8 AS age_s,
               coalesce(j.token, 0) AS token, coalesce(j.state, '') AS state, {ROUND_OPEN} AS round_open,
               coalesce(j.tried, '{{}}') AS tried, j.forced_printer, j.unrouted_at IS NOT NULL AS unrouted,
               coalesce(extract(epoch FROM clock_timestamp() - j.unrouted_at), 0)::float8 AS waited_s,
               row_number() OVER (PARTITION BY lower(btrim(t.printer_target)), {pos.brand_of()}
                                  ORDER BY t.id) AS place
          FROM {tickets} LEFT JOIN {pos.bills} b ON b.id = t.bill_id LEFT JOIN kps.job j ON j.ticket_id = t.id
         WHERE t.status = 'new' AND (j.not_before IS NULL OR j.not_before <= clock_timestamp()
             -- the clock has gone back since the round ended: nobody waits for it to catch up
             OR j.finished_at > clock_timestamp())
           AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {live("j")})
           AND ({covered(pos)}
             OR EXISTS (SELECT 1 FROM unnest({{own_stations:text[]}}, {{own_brands:text[]}}) AS o(station, brand)
                         WHERE o.station = lower(btrim(t.printer_target)) AND o.brand = {pos.brand_of()}::text))) w
 WHERE w.place <= {{depth:int}} ORDER BY w.id"""


_BY_INDEX = "SELECT " + ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in (
        ("enable_seqscan", "off"),
        ("enable_sort", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("max_parallel_workers_per_gather", "0"),
    )
)
"""The statistics are those of another hour: kps.job was empty then, and none or all of the tickets `new`. By them the
planner would read whole tables for a few rows."""
PATIENT_S = 60.0
"""Limit of what is asked beside the dispatcher's loop: nobody waits for it."""
_PATIENT = f"set_config('statement_timeout', '{PATIENT_S:g}s', true)"


class Surveyed(NamedTuple):
    """A ticket that waits for a look."""

    id: TicketId
    station: str
    brand: str
    waiting: int
    """How many `new` ones there are, each row says the same."""


def survey(pos: PosAdapter) -> Statement[Surveyed]:
    """The lowest ids of each station and brand that wait for a look: all `new` ones are read, but narrow and once.

    Those before the horizon are left out: `since`, `above` and `ids` as in `look_among`. `waiting`: how many there are.
    """
    brand = pos.bill_brand_of("t")
    return Statement(
        "survey",
        Surveyed,
        f"""WITH away AS MATERIALIZED (
  SELECT j.ticket_id FROM kps.job j WHERE j.not_before IS NOT NULL AND j.not_before > clock_timestamp()
     AND NOT coalesce(j.finished_at > clock_timestamp(), false)
  UNION ALL SELECT j.ticket_id FROM kps.job j WHERE j.state IN ('claimed', 'sending') AND {live("j")}
), spared AS MATERIALIZED (SELECT unnest({{ids:bigint[]}}) AS id)
SELECT w.id, lower(btrim(w.target)) AS station, coalesce(w.brand::text, '') AS brand,
       (SELECT count(*) FROM {pos.tickets} c WHERE c.status = 'new') AS waiting
  FROM (SELECT t.id, t.printer_target AS target, {brand} AS brand,
               row_number() OVER (PARTITION BY t.printer_target, {brand} ORDER BY t.id) AS place
          FROM {pos.tickets} t
         WHERE t.status = 'new' AND t.id NOT IN (SELECT ticket_id FROM away)
           AND (t.created_at >= to_timestamp({{since:float8}}) OR t.id > {{above:bigint}}
             OR t.id IN (SELECT id FROM spared))) w
 WHERE w.place <= {{depth:int}} ORDER BY w.id""",
        prelude=f"SELECT {_PATIENT}",
    )


class HorizonSeen(NamedTuple):
    """Where today begins."""

    before: float
    """Seconds since 1970."""
    up_to: TicketId
    any_old: bool


def horizon(pos: PosAdapter) -> Statement[HorizonSeen]:
    """The moment that divides today from another day, the last ticket's number, and whether any waits from before."""
    before = "clock_timestamp() - {minutes:float8} * interval '1 minute'"
    return Statement(
        "horizon",
        HorizonSeen,
        f"""SELECT extract(epoch FROM {before})::float8 AS before,
       coalesce((SELECT max(t.id) FROM {pos.tickets} t), 0) AS up_to,
       -- not by an index on created_at, where years of tickets lie
       EXISTS (SELECT 1 FROM {pos.tickets} t
                WHERE t.status = 'new' AND t.created_at + interval '0' < {before}) AS any_old""",
    )


class Newest(NamedTuple):
    """The last ticket."""

    id: TicketId
    at: float
    """Seconds since 1970."""


def newest(pos: PosAdapter) -> Statement[Newest]:
    """The last ticket: its number, and when the POS's clock says that it was written."""
    return Statement(
        "newest",
        Newest,
        f"SELECT t.id, extract(epoch FROM t.created_at)::float8 AS at FROM {pos.tickets} t ORDER BY t.id DESC LIMIT 1",
    )


class Skipped(NamedTuple):
    """The last token that was left out."""

    last: Token


SKIP_TOKENS = Statement(
    "skip_tokens", Skipped, "SELECT max(nextval('kps.token_seq')) AS last FROM generate_series(1, 10000)"
)
"""Leave out the tokens that a crash of the server may have taken back with their lazy claims.

Somebody may still hold one of them, and it must never become valid again. Its own commit is flushed.
"""


def claim(pos: PosAdapter) -> Statement[ClaimedWork]:
    """new -> printing for the tickets decided on, if printer, lease, ticket and job are still as they were seen."""
    start = pos.insert_log(
        # The reset is written first: a reader of the log meets it before the start.
        "tick JOIN job ON job.ticket_id = tick.id JOIN want w ON w.id = tick.id "
        "WHERE (SELECT count(*) FROM reset_log) >= 0",
        ticket_id="tick.id",
        action="'print_start'",
        new_status="'printing'",
        printer_ip=pos.row_address("w.row_id"),
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', w.row_id, 'printer_name', w.name,
          'attempt', tick.print_attempts, 'token', job.token, 'failover_from', nullif(w.backup_for, ''))""",
    )
    reset = pos.insert_log(
        "tick JOIN pick ON pick.id = tick.id JOIN want w ON w.id = tick.id WHERE pick.reset",
        ticket_id="tick.id",
        action="'manual_reset'",
        old_status="coalesce(pick.job_state, 'failed')",
        printer_ip=pos.row_address("w.row_id"),
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', tick.print_attempts)",
    )
    tick = pos.update_tickets(
        "t",
        status="'printing'",
        printer_ip=pos.ticket_address_of(pos.row_address("w.row_id")),
        print_attempts="""CASE WHEN pick.reset THEN 1 WHEN pick.round_open THEN greatest(t.print_attempts, 1)
                               ELSE t.print_attempts + 1 END""",
    )
    routed = wanted({"backups": "backup_for", "backup_keys": "backup_for_key", "reasons": "backup_reason"})
    return Statement(
        "claim",
        ClaimedWork,
        f"""WITH {routed}, pick AS MATERIALIZED (
  SELECT t.id, {RESET} AS reset, j.state AS job_state, {ROUND_OPEN} AS round_open, t.print_attempts
    FROM want w JOIN mine m ON m.printer_key = w.printer_key AND m.epoch = w.epoch
    JOIN {pos.tickets} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'new' AND coalesce(j.token, 0) = w.token
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  INSERT INTO kps.job AS j (ticket_id, state, epoch, owner, printer_key, printer_id, printer_name, backup_for,
                            backup_for_key, backup_reason, sends, round_open, claimed_at)
  SELECT w.id, 'claimed', w.epoch, {{me:uuid}}, w.printer_key, w.row_id, w.name, w.backup_for, w.backup_for_key,
         w.backup_reason,
         -- somebody else has tried this ticket before we knew it: bytes may have left
         CASE WHEN pick.print_attempts > 0 THEN 1 ELSE 0 END, true, clock_timestamp()
    FROM want w JOIN pick ON pick.id = w.id ORDER BY w.id
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = 'claimed', token = nextval('kps.token_seq'), epoch = excluded.epoch, owner = excluded.owner,
         printer_key = excluded.printer_key, printer_id = excluded.printer_id, printer_name = excluded.printer_name,
         {LEFT_BEHIND},
         backup_for = excluded.backup_for, backup_for_key = excluded.backup_for_key,
         backup_reason = excluded.backup_reason, elsewhere_told = false,
         round_open = true, not_before = NULL, claimed_at = clock_timestamp(),
         sending_at = NULL, finished_at = NULL, unreached = false, unrouted_at = NULL,
         tried = CASE WHEN j.state IN ('printed', 'failed') OR NOT j.round_open THEN '{{}}' ELSE j.tried END,
         late_proof = '{{}}',
         deaths = CASE WHEN j.state IN ('printed', 'failed') THEN 0 ELSE j.deaths END,
         rescue_from = CASE WHEN j.state IN ('printed', 'failed') THEN NULL ELSE j.rescue_from END
   WHERE j.token = (SELECT w.token FROM want w WHERE w.id = excluded.ticket_id)
     AND NOT (j.state IN ('claimed', 'sending') AND {live("j")})
  RETURNING ticket_id, token, printer_key
), tick AS (
  {tick}
    FROM job JOIN pick ON pick.id = job.ticket_id JOIN want w ON w.id = job.ticket_id
   WHERE t.id = job.ticket_id AND t.status = 'new'
  RETURNING t.id, t.print_attempts
), reset_log AS ({reset}), start_log AS ({start})
SELECT job.printer_key, tick.id, job.token FROM tick JOIN job ON job.ticket_id = tick.id ORDER BY tick.id""",
        # If it is undone, the ticket is `new` again and its token worthless (SKIP_TOKENS); the promise makes it last.
        lazy=True,
    )


def reconcile(pos: PosAdapter) -> Statement[GivenBack]:
    """Give back what is claimed for a printer of mine and held by nobody: the reply to its claim was lost."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.owner = {me:uuid} AND j.printer_key = {key:text} AND j.state = 'claimed'
     AND j.token <> ALL ({held:bigint[]})"""
    body = requeue(pos, held, "'reclaimed'", text="'claimed, but held by no process'")
    return Statement("reconcile", GivenBack, f"WITH {body} {GAVE_BACK}")


class RoundEnded(NamedTuple):
    """A ticket whose round has ended."""

    id: TicketId
    status: str
    print_attempts: int


def end_round(pos: PosAdapter) -> Statement[RoundEnded]:
    """No printer is left in this round: the next round after a delay, or `failed` after the last."""
    reset = pos.insert_log(
        "k JOIN pick ON pick.id = k.id WHERE pick.reset",
        ticket_id="k.id",
        action="'manual_reset'",
        old_status="coalesce(pick.job_state, 'failed')",
        printer_ip="{ip:text}",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    log = pos.insert_log(
        "k JOIN pick ON pick.id = k.id WHERE (SELECT count(*) FROM reset_log) >= 0",
        ticket_id="k.id",
        new_status="k.status",
        action="CASE WHEN k.status = 'failed' THEN 'print_failed' ELSE 'retry' END",
        printer_ip="{ip:text}",
        error_code="{code:text}",
        error_message="k.error_message",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    attempts = """CASE WHEN pick.reset THEN 1 WHEN pick.round_open THEN greatest(pick.print_attempts, 1)
         ELSE pick.print_attempts + 1 END"""
    budget = "CASE WHEN pick.max_retries > 0 THEN pick.max_retries ELSE {budget:int} END"
    ended = pos.update_tickets(
        "k",
        status="CASE WHEN job.state = 'failed' THEN 'failed' ELSE 'new' END",
        print_attempts="job.failed_attempts",
        error_message="""CASE WHEN pick.round_open AND k.error_message <> '' THEN k.error_message
           ELSE {error:text} END""",
        last_error_at="clock_timestamp()",
        printer_ip=f"""CASE WHEN pick.round_open AND k.printer_ip IS NOT NULL THEN k.printer_ip
                           ELSE {pos.ticket_address_of("{ip:text}")} END""",
    )
    return Statement(
        "end_round",
        RoundEnded,
        f"""WITH {seen(pos)}, job AS (
  INSERT INTO kps.job AS j (ticket_id, state, sends, not_before, unreached, failed_attempts, finished_at,
                            rescue_from, error)
  SELECT pick.id, CASE WHEN {attempts} >= {budget} THEN 'failed' ELSE 'requeued' END,
         CASE WHEN pick.print_attempts > 0 THEN 1 ELSE 0 END,
         CASE WHEN {attempts} < {budget} THEN clock_timestamp() + {{delay:float8}} * interval '1 second' END,
         {attempts} >= {budget} AND pick.print_attempts = 0, {attempts}, clock_timestamp(),
         CASE WHEN {attempts} >= {budget} THEN clock_timestamp() END, {{error:text}} FROM pick
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = excluded.state, token = nextval('kps.token_seq'), round_open = false, tried = '{{}}',
         {LEFT_BEHIND},
         not_before = excluded.not_before, unrouted_at = NULL,
         unreached = excluded.state = 'failed' AND j.sends = 0, failed_attempts = excluded.failed_attempts,
         rescue_from = CASE WHEN j.state IN ('printed', 'failed') THEN excluded.rescue_from
                            ELSE coalesce(j.rescue_from, excluded.rescue_from) END,
         finished_at = excluded.finished_at, error = excluded.error
   WHERE {AS_SEEN}
  RETURNING j.ticket_id, j.state, j.failed_attempts
), k AS (
  {ended}
    FROM job JOIN pick ON pick.id = job.ticket_id WHERE k.id = job.ticket_id AND k.status = 'new'
  RETURNING k.id, k.status, k.print_attempts, k.error_message
), reset_log AS ({reset}), log AS ({log})
SELECT id, status, print_attempts FROM k ORDER BY id""",
    )


def give_up(pos: PosAdapter) -> Statement[OneWork]:
    """`failed` at once, for a reason that another try would not mend; `rescue` lets a later printer row save it."""
    return Statement("give_up", OneWork, f"WITH {seen(pos)}, {_failed(pos)}\nSELECT id FROM k ORDER BY id")


def _failed(pos: PosAdapter) -> str:
    """CTEs job, k, log that fail the tickets of `pick`."""
    log = pos.insert_log(
        "k",
        ticket_id="k.id",
        new_status="'failed'",
        action="'print_failed'",
        printer_ip=pos.ticket_address("k"),
        error_code="{code:text}",
        error_message="{error:text}",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    first = f"""(SELECT {pos.printer_address()} FROM {pos.printers} sp
     WHERE lower(btrim(sp.station_code)) = lower(btrim(k.printer_target))
       AND sp.brand_id = {pos.bill_brand_of("k")}
     ORDER BY sp.priority, sp.id LIMIT 1)"""
    failed = pos.update_tickets(
        "k",
        status="'failed'",
        error_message="{error:text}",
        last_error_at="clock_timestamp()",
        printer_ip=f"coalesce(k.printer_ip, {pos.ticket_address_of(first)})",
    )
    return f"""job AS (
  INSERT INTO kps.job AS j (ticket_id, state, sends, unreached, failed_attempts, finished_at, rescue_from, error)
  SELECT pick.id, 'failed', CASE WHEN pick.print_attempts > 0 THEN 1 ELSE 0 END,
         {{rescue:boolean}} AND pick.print_attempts = 0, pick.print_attempts, clock_timestamp(), clock_timestamp(),
           {{error:text}}
    FROM pick
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = 'failed', rescue_from = CASE WHEN j.state IN ('printed', 'failed') THEN excluded.rescue_from
                                              ELSE coalesce(j.rescue_from, excluded.rescue_from) END,
         token = nextval('kps.token_seq'), round_open = false, tried = '{{}}', not_before = NULL,
         {LEFT_BEHIND},
         unrouted_at = NULL, unreached = {{rescue:boolean}} AND j.sends = 0, failed_attempts = excluded.failed_attempts,
         finished_at = clock_timestamp(), error = excluded.error
   WHERE {AS_SEEN}
  RETURNING j.ticket_id
), k AS (
  {failed}
    FROM job WHERE k.id = job.ticket_id AND k.status = 'new' RETURNING k.id, k.print_attempts, k.printer_ip
), log AS ({log})"""


def wait(pos: PosAdapter) -> Statement[OneJob]:
    """Remember in the database since when a ticket has waited for a printer row; what it was before stays known."""
    return Statement(
        "wait",
        OneJob,
        f"""WITH {seen(pos)}
INSERT INTO kps.job AS j (ticket_id, state, sends, unrouted_at)
SELECT id, CASE WHEN reset THEN 'failed' ELSE 'waiting' END, CASE WHEN print_attempts > 0 THEN 1 ELSE 0 END,
       clock_timestamp() FROM pick
ON CONFLICT (ticket_id) DO UPDATE SET unrouted_at = coalesce(j.unrouted_at, excluded.unrouted_at) WHERE {AS_SEEN}
RETURNING ticket_id""",
    )


class Stale(NamedTuple):
    """A `new` ticket of another day."""

    id: TicketId
    token: Token
    at: float
    """Seconds since 1970."""
    reset: bool
    stale: bool


def stale(pos: PosAdapter) -> Statement[Stale]:
    """Some of the `new` tickets behind the horizon, oldest first, from `since` on and without `passed`.

    `stale`: to be failed. The operator's resets are not (`reset`), nor what a live printer holds or held lately, nor
    what other instances decide on.
    """
    return Statement(
        "stale",
        Stale,
        f"""WITH page AS MATERIALIZED (
  SELECT t.id, t.created_at FROM {pos.tickets} t
   WHERE t.status = 'new' AND t.created_at >= to_timestamp({{since:float8}})
     AND t.created_at < to_timestamp({{before:float8}}) AND t.id <= {{up_to:bigint}}
     AND t.id <> ALL ({{passed:bigint[]}})
   ORDER BY t.created_at LIMIT {{size:int}}
)
SELECT t.id, coalesce(j.token, 0) AS token, extract(epoch FROM page.created_at)::float8 AS at, {RESET} AS reset,
       t.status = 'new' AND NOT {RESET} AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {live("j")})
         AND coalesce(j.claimed_at < to_timestamp({{before:float8}}), true) AND {covered(pos)} AS stale
  FROM page CROSS JOIN LATERAL (SELECT x.* FROM {pos.tickets} x WHERE x.id = page.id OFFSET 0) t
  LEFT JOIN kps.job j ON j.ticket_id = t.id LEFT JOIN {pos.bills} b ON b.id = t.bill_id
 ORDER BY page.created_at""",
        prelude=f"{_BY_INDEX}, {_PATIENT}",
    )


class Rescuable(NamedTuple):
    """A ticket that failed only for want of a printer."""

    id: TicketId
    station: str
    brand: str | None
    token: Token


def rescuable(pos: PosAdapter) -> Statement[Rescuable]:
    """Tickets that failed only because no printer could be reached, and that nobody has touched since."""
    return Statement(
        "rescuable",
        Rescuable,
        f"""WITH j AS MATERIALIZED (
  -- these few first: years of failed tickets are not looked through for them
  SELECT j.ticket_id, j.token, j.failed_attempts FROM kps.job j
   WHERE j.unreached AND j.state = 'failed' AND j.sends = 0
     AND j.rescue_from > clock_timestamp() - {{minutes:float8}} * interval '1 minute'
)
SELECT t.id, lower(btrim(t.printer_target)) AS station, {pos.brand_of()}::text AS brand, j.token
  FROM j CROSS JOIN LATERAL (SELECT x.* FROM {pos.tickets} x WHERE x.id = j.ticket_id OFFSET 0) t
  LEFT JOIN {pos.bills} b ON b.id = t.bill_id
 WHERE t.status = 'failed' AND t.print_attempts = j.failed_attempts
   AND NOT EXISTS (SELECT 1 FROM {pos.tickets} r WHERE r.original_ticket_id = t.id)
 ORDER BY t.id LIMIT 1000""",
    )


def rescue(pos: PosAdapter) -> Statement[WokenTicket]:
    """failed -> new for one more round."""
    log = pos.insert_log(
        "k",
        ticket_id="k.id",
        old_status="'failed'",
        new_status="'new'",
        action="'retry'",
        printer_ip=pos.ticket_address("k"),
        error_message="'a printer of its route is able again'",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts, 'rescue', true)",
    )
    return Statement(
        "rescue",
        WokenTicket,
        f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id FROM want w JOIN {pos.tickets} t ON t.id = w.id JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'failed' AND t.print_attempts = j.failed_attempts AND j.token = w.token AND j.unreached
     AND NOT EXISTS (SELECT 1 FROM {pos.tickets} r WHERE r.original_ticket_id = t.id)
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  UPDATE kps.job j SET state = 'requeued', token = nextval('kps.token_seq'), unreached = false, round_open = false,
         tried = '{{}}', not_before = NULL
    FROM pick, want w WHERE j.ticket_id = pick.id AND w.id = pick.id AND j.token = w.token AND j.unreached
  RETURNING j.ticket_id
), k AS (
  {pos.update_tickets("k", status="'new'")} FROM job WHERE k.id = job.ticket_id AND k.status = 'failed'
  RETURNING k.id, k.print_attempts, k.printer_ip
), log AS ({log})
SELECT id, (SELECT count(pg_notify('{CHANNEL_TICKET}', ''))) AS woken FROM k ORDER BY id""",
    )


class NextDue(NamedTuple):
    """When the next round is due."""

    due_s: float


def next_due(pos: PosAdapter) -> Statement[NextDue]:
    """Seconds until the next waiting ticket may begin its next round; no row if none waits."""
    return Statement(
        "next_due",
        NextDue,
        f"""SELECT extract(epoch FROM min(j.not_before) - clock_timestamp())::float8 AS due_s
  FROM kps.job j JOIN {pos.tickets} t ON t.id = j.ticket_id
 WHERE j.not_before IS NOT NULL AND j.state = 'requeued' AND t.status = 'new' AND j.not_before > clock_timestamp()
HAVING min(j.not_before) IS NOT NULL""",
    )


class PosClock(NamedTuple):
    """What is known of the POS's clock."""

    behind_s: float
    known: bool


POS_CLOCK = Statement(
    "pos_clock", PosClock, f"SELECT {POS_BEHIND_S} AS behind_s, EXISTS (SELECT 1 FROM kps.clock) AS known"
)
"""What is known of the POS's clock."""


class ClockLearned(NamedTuple):
    """What is known from now on."""

    behind_s: float


LEARN_POS_CLOCK = Statement(
    "learn_pos_clock",
    ClockLearned,
    """INSERT INTO kps.clock AS c (behind_s) VALUES ({behind:float8})
ON CONFLICT (one) DO UPDATE SET behind_s = excluded.behind_s, learned_at = excluded.learned_at RETURNING c.behind_s""",
)
"""Keep it: a first look needs it, and so do printers and other instances."""


class Spoken(NamedTuple):
    """A notification was sent."""

    said: str
    """Always empty."""
    wakes: bool


SPEAK = Statement("speak", Spoken, f"SELECT pg_notify({{channel:text}}, {{word:text}}) AS said, {WAKES} AS wakes")
"""A notification to our own listener, which proves that it hears; and whether the POS's tickets wake anybody."""
