"""The text of every statement about tickets, jobs and leases, fitted to the age of the POS's schema.

Each is one transaction. All times are the database's clock. The order of locks is: family, lease, ticket, job; so no
two statements of ours wait for each other. A job's token changes with every transition, so a decision taken on an
older look never takes effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from kps.database.connection import Statement
from kps.database.schema import CHECKER_TEMPLATE, HEALTH, ITEM, KITCHEN_TEMPLATE, PRINTER, TICKET, PosSchema

CHANNEL_TICKET = "kps_ticket_new"
"""Notified by the wake-up trigger and whenever KPS gives a ticket back."""
CHANNEL_PRINTER = "kps_printer"
"""Notified when a printer's state or owner changes."""

FAMILY_LOCK = 1_263_557_185
"""First key of the advisory lock that serialises the sending of an original and its reprints."""


@dataclass(frozen=True, slots=True)
class Statements:
    """Every statement of the queue, by verb."""

    look: Statement
    claim: Statement
    sending: Statement
    standing: Statement
    withdraw: Statement
    settle: Statement
    settled: Statement
    release: Statement
    unsent: Statement
    reconcile: Statement
    end_round: Statement
    give_up: Statement
    wait: Statement
    stale: Statement
    rescuable: Statement
    rescue: Statement
    acquire: Statement
    renew: Statement
    yield_lease: Statement
    lapse: Statement
    expire_owner: Statement
    release_dead: Statement
    orphans: Statement
    adopt: Statement
    sweep: Statement
    next_due: Statement
    rows: Statement
    printers: Statement
    set_state: Statement
    demote: Statement
    late_proof: Statement
    came_back: Statement
    unproven: Statement
    health: Statement
    prune_health: Statement
    counts: Statement


def statements(schema: PosSchema) -> Statements:
    """All statements for this age of schema."""
    return Statements(
        look=_look(schema),
        claim=_claim(schema),
        sending=_sending(schema),
        standing=_standing(),
        withdraw=_withdraw(),
        settle=_settle(schema),
        settled=_settled(),
        release=_release(schema),
        unsent=_unsent(schema),
        reconcile=_reconcile(schema),
        end_round=_end_round(schema),
        give_up=_give_up(schema),
        wait=_WAIT,
        stale=_stale(schema),
        rescuable=_rescuable(schema),
        rescue=_rescue(schema),
        acquire=_acquire(schema),
        renew=_RENEW,
        yield_lease=_YIELD,
        lapse=_LAPSE,
        expire_owner=_EXPIRE_OWNER,
        release_dead=_release_dead(schema),
        orphans=_orphans(),
        adopt=_adopt(schema),
        sweep=_sweep(),
        next_due=_next_due(),
        rows=_rows(schema),
        printers=_PRINTERS,
        set_state=_SET_STATE,
        demote=_DEMOTE,
        late_proof=_late_proof(schema),
        came_back=_came_back(schema),
        unproven=_UNPROVEN,
        health=_health(schema),
        prune_health=_prune_health(schema),
        counts=_counts(),
    )


def _brand(schema: PosSchema) -> str:
    return "coalesce(t.brand_id, b.brand_id)" if schema.ticket_has_brand else "b.brand_id"


def _ip_text(kind: str, expression: str) -> str:
    return f"host({expression})" if kind == "inet" else f"{expression}::text"


def _ip_value(kind: str, expression: str) -> str:
    """A text expression as a value of the column; a host name does not fit an inet column and becomes NULL."""
    if kind != "inet":
        return expression
    return f"CASE WHEN {expression} ~ '^[0-9a-fA-F.:]+$' THEN {expression}::inet END"


def _log(schema: PosSchema, source: str, **values: str) -> str:
    """An INSERT into the audit table from `source`; columns that the POS lacks are left out."""
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
    given["printer_ip"] = _ip_value(schema.log_ip_type, f"({given['printer_ip']})::text")
    columns = [name for name in schema.log_columns if name in given]
    names = ", ".join(f'"{name}"' for name in columns)
    picked = ", ".join(f"({given[name]})" for name in columns)
    return f"INSERT INTO {schema.log_table} ({names}) SELECT {picked} FROM {source} RETURNING 1"


_ROW_IP = "(SELECT {text} FROM " + PRINTER + " sp WHERE sp.id = {id})"


def _row_ip(schema: PosSchema, row_id: str) -> str:
    """The printer row's own text of its address."""
    return _ROW_IP.format(text=_ip_text(schema.printer_ip_type, "sp.printer_ip"), id=row_id)


_LIVE = """EXISTS (SELECT 1 FROM kps.printer p WHERE p.printer_key = j.printer_key AND p.owner = j.owner
                    AND p.epoch = j.epoch AND p.expires_at > clock_timestamp())"""


_RESET = """(coalesce(j.state, '') IN ('printed', 'failed')
       OR (j.ticket_id IS NULL AND t.max_retries > 0 AND t.print_attempts >= t.max_retries))"""
"""An operator's reset of a `new` ticket; true or false, never NULL, so that NOT means what it says."""

_ROUND_OPEN = "(coalesce(j.round_open, false) AND coalesce(j.state, '') NOT IN ('printed', 'failed'))"
"""Whether the ticket goes on with a round that has begun; a reset begins a new one."""


_LEFT_BEHIND = """CASE WHEN j.state = 'sending' AND j.printer_name <> ALL (j.maybe_at)
           THEN j.maybe_at || j.printer_name ELSE j.maybe_at END"""
"""maybe_at, when a sending is passed over: its lease has ended, and a hand has made its ticket `new`."""


def _look(schema: PosSchema) -> Statement:
    """The oldest tickets per station and brand that may be decided on now."""
    return Statement(
        "look",
        f"""SELECT w.*, (SELECT lower(c.code) FROM core_brand c WHERE c.id = w.brand::uuid) AS brand_code,
       (SELECT count(*) FROM {ITEM} i WHERE i.kitchen_ticket_id = w.id) AS items,
       (SELECT count(*) FROM {ITEM} i WHERE i.kitchen_ticket_id = w.original_ticket_id) AS original_items
  FROM (SELECT t.id, lower(btrim(t.printer_target)) AS station, {_brand(schema)}::text AS brand, t.print_attempts,
               t.max_retries, t.original_ticket_id,
               extract(epoch FROM clock_timestamp() - t.created_at)::float8 AS age_s,
               coalesce(j.token, 0) AS token, coalesce(j.state, '') AS state, {_ROUND_OPEN} AS round_open,
               coalesce(j.tried, '{{}}') AS tried, j.forced_printer, j.unrouted_at IS NOT NULL AS unrouted,
               coalesce(extract(epoch FROM clock_timestamp() - j.unrouted_at), 0)::float8 AS waited_s,
               row_number() OVER (PARTITION BY lower(btrim(t.printer_target)), {_brand(schema)} ORDER BY t.id) AS place
          FROM {TICKET} t LEFT JOIN pos_bill b ON b.id = t.bill_id LEFT JOIN kps.job j ON j.ticket_id = t.id
         WHERE t.status = 'new' AND (j.not_before IS NULL OR j.not_before <= clock_timestamp()
             -- the clock has gone back since the round ended: nobody waits for it to catch up
             OR j.finished_at > clock_timestamp())
           AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {_LIVE})) w
 WHERE w.place <= {{depth:int}} ORDER BY w.id""",
    )


def _claim(schema: PosSchema) -> Statement:
    """new -> printing for the tickets decided on, if printer, lease, ticket and job are still as they were seen."""
    start = _log(
        schema,
        # The reset is written first: a reader of the log meets it before the start.
        "tick JOIN job ON job.ticket_id = tick.id JOIN want w ON w.id = tick.id "
        "WHERE (SELECT count(*) FROM reset_log) >= 0",
        ticket_id="tick.id",
        action="'print_start'",
        new_status="'printing'",
        printer_ip=_row_ip(schema, "w.row_id"),
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', w.row_id, 'printer_name', w.name,
          'attempt', tick.print_attempts, 'token', job.token, 'failover_from', nullif(w.backup_for, ''))""",
    )
    reset = _log(
        schema,
        "tick JOIN pick ON pick.id = tick.id JOIN want w ON w.id = tick.id WHERE pick.reset",
        ticket_id="tick.id",
        action="'manual_reset'",
        old_status="coalesce(pick.job_state, 'failed')",
        printer_ip=_row_ip(schema, "w.row_id"),
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', tick.print_attempts)",
    )
    return Statement(
        "claim",
        f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}, {{keys:text[]}}, {{epochs:bigint[]}}, {{rows:bigint[]}},
                       {{names:text[]}}, {{backups:text[]}})
       AS w(id, token, printer_key, epoch, row_id, name, backup_for)
), mine AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
   WHERE p.owner = {{me:uuid}} AND p.expires_at > clock_timestamp()
     AND (p.printer_key, p.epoch) IN (SELECT printer_key, epoch FROM want)
   ORDER BY p.printer_key FOR NO KEY UPDATE
), pick AS MATERIALIZED (
  SELECT t.id, {_RESET} AS reset, j.state AS job_state, {_ROUND_OPEN} AS round_open, t.print_attempts
    FROM want w JOIN mine m ON m.printer_key = w.printer_key AND m.epoch = w.epoch
    JOIN {TICKET} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'new' AND coalesce(j.token, 0) = w.token
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  INSERT INTO kps.job AS j (ticket_id, state, epoch, owner, printer_key, printer_id, printer_name, backup_for, sends,
                            round_open, claimed_at)
  SELECT w.id, 'claimed', w.epoch, {{me:uuid}}, w.printer_key, w.row_id, w.name, w.backup_for,
         -- somebody else has tried this ticket before we knew it: bytes may have left
         CASE WHEN pick.print_attempts > 0 THEN 1 ELSE 0 END, true, clock_timestamp()
    FROM want w JOIN pick ON pick.id = w.id ORDER BY w.id
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = 'claimed', token = nextval('kps.token_seq'), epoch = excluded.epoch, owner = excluded.owner,
         printer_key = excluded.printer_key, printer_id = excluded.printer_id, printer_name = excluded.printer_name,
         maybe_at = {_LEFT_BEHIND},
         backup_for = excluded.backup_for, round_open = true, not_before = NULL, claimed_at = clock_timestamp(),
         sending_at = NULL, finished_at = NULL, unreached = false, unrouted_at = NULL,
         tried = CASE WHEN j.state IN ('printed', 'failed') OR NOT j.round_open THEN '{{}}' ELSE j.tried END,
         deaths = CASE WHEN j.state IN ('printed', 'failed') THEN 0 ELSE j.deaths END,
         rescue_from = CASE WHEN j.state IN ('printed', 'failed') THEN NULL ELSE j.rescue_from END
   WHERE j.token = (SELECT w.token FROM want w WHERE w.id = excluded.ticket_id)
     AND NOT (j.state IN ('claimed', 'sending') AND {_LIVE})
  RETURNING ticket_id, token, printer_key
), tick AS (
  UPDATE {TICKET} t
     SET status = 'printing', printer_ip = {_ip_value(schema.ticket_ip_type, _row_ip(schema, "w.row_id"))},
         print_attempts = CASE WHEN pick.reset THEN 1 WHEN pick.round_open THEN greatest(t.print_attempts, 1)
                               ELSE t.print_attempts + 1 END
    FROM job JOIN pick ON pick.id = job.ticket_id JOIN want w ON w.id = job.ticket_id
   WHERE t.id = job.ticket_id AND t.status = 'new'
  RETURNING t.id, t.print_attempts
), reset_log AS ({reset}), start_log AS ({start})
SELECT job.printer_key, tick.id, job.token FROM tick JOIN job ON job.ticket_id = tick.id ORDER BY tick.id""",
    )


def _template_json(schema: PosSchema, table: str, columns: tuple[str, ...]) -> str:
    """The template that applies: the brand's own active one, else one without brand, newest first.

    One without brand counts for its company's brands only, and one of a store for that store only.
    """
    if not columns:
        return "NULL::json"
    brand = _brand(schema)
    company = " AND x.company_id = br.company_id" if "company_id" in columns else ""
    store = "AND (x.store_id IS NULL OR x.store_id = b.store_id)" if "store_id" in columns else ""
    return f"""(SELECT row_to_json(x) FROM {table} x
        WHERE x.is_active AND (x.brand_id = {brand} OR (x.brand_id IS NULL{company})) {store}
        ORDER BY (x.brand_id IS NULL), x.updated_at DESC, x.id DESC LIMIT 1)"""


def _sending(schema: PosSchema) -> Statement:
    """The promise before the first byte: sends + 1, committed; returns what the paper must say."""
    template = (
        "CASE WHEN lower(btrim(t.printer_target)) = 'checker' "
        f"THEN {_template_json(schema, CHECKER_TEMPLATE, schema.checker_template)} "
        f"ELSE {_template_json(schema, KITCHEN_TEMPLATE, schema.kitchen_template)} END"
    )
    return Statement(
        "sending",
        f"""WITH RECURSIVE t AS MATERIALIZED (
  SELECT t.* FROM {TICKET} t WHERE t.id = {{ticket:bigint}} FOR UPDATE
), job AS (
  UPDATE kps.job j SET state = 'sending', sends = j.sends + 1, sending_at = clock_timestamp(),
         process_ids = j.process_ids || nextval('kps.process_id_seq')
    FROM t, kps.printer p
   WHERE j.ticket_id = {{ticket:bigint}} AND j.token = {{token:bigint}} AND j.state = 'claimed'
     AND t.id = j.ticket_id AND t.status = 'printing'
     AND p.printer_key = j.printer_key AND p.owner = j.owner AND p.epoch = j.epoch
     AND p.expires_at > clock_timestamp() + {{need:float8}} * interval '1 second'
  RETURNING j.sends, j.cleared, j.maybe_at, j.moved_from, j.printer_id, j.printer_name, j.backup_for, j.printed_on,
            j.process_ids[cardinality(j.process_ids)] AS process_id
), up AS (
  -- from the ticket itself: the original that the claim saw may have been deleted meanwhile
  SELECT t.id, t.original_ticket_id AS above, 1 AS depth FROM t
  UNION ALL
  SELECT o.id, o.original_ticket_id, up.depth + 1 FROM up JOIN {TICKET} o ON o.id = up.above WHERE up.depth < 20
), family AS (
  SELECT root.id, 1 AS depth FROM (SELECT id FROM up ORDER BY depth DESC LIMIT 1) root
  UNION ALL
  SELECT c.id, family.depth + 1 FROM {TICKET} c JOIN family ON c.original_ticket_id = family.id WHERE family.depth < 20
), kin AS (
  SELECT max(k.printed_at) AS printed_at, bool_or(coalesce(fj.sends, 0) > coalesce(fj.cleared, 0)
           OR k.printed_at IS NOT NULL OR k.status = 'printed') AS on_paper,
         (array_agg(fj.printed_on ORDER BY k.printed_at DESC NULLS LAST))[1] AS printed_on,
         array_remove(array_agg(DISTINCT m.maybe_at), NULL) AS maybe_at,
         array_remove(array_agg(DISTINCT m.moved_from), NULL) AS moved_from
    FROM family JOIN {TICKET} k ON k.id = family.id LEFT JOIN kps.job fj ON fj.ticket_id = k.id
    LEFT JOIN LATERAL unnest(fj.maybe_at, fj.moved_from) AS m(maybe_at, moved_from) ON true
   WHERE k.id <> {{ticket:bigint}}
)
SELECT job.sends, job.cleared, job.maybe_at, job.moved_from, job.printer_id, job.printer_name, job.backup_for,
       job.printed_on, job.process_id, kin.moved_from AS kin_moved_from, t.printed_at,
       kin.on_paper AS kin_on_paper, kin.printed_at AS kin_printed_at, kin.printed_on AS kin_printed_on,
       kin.maybe_at AS kin_maybe_at, t.print_attempts, t.created_at, clock_timestamp() AS printed_now,
       btrim(t.printer_target) AS station, coalesce(b.bill_number, '') AS bill_number, coalesce(b.bill_type, '')
         AS bill_type,
       coalesce(tb.number, '') AS table_number, b.queue_number, coalesce(b.customer_name, '') AS customer_name,
       coalesce(b.guest_count, 0) AS guest_count, coalesce(b.notes, '') AS bill_notes,
       coalesce(nullif(btrim(concat_ws(' ', u.first_name, u.last_name)), ''), u.username, '') AS waiter,
       coalesce(nullif(st.timezone, ''), co.timezone, 'UTC') AS timezone,
       sp.chars_per_line, sp.paper_width_mm, sp.printer_brand, {_ip_text(schema.printer_ip_type, "sp.printer_ip")}
         AS printer_ip,
       {template} AS template,
       (SELECT json_agg(json_build_object('quantity', i.quantity, 'name', coalesce(pr.name, ''), 'notes',
         coalesce(bi.notes, ''),
                 'modifiers', bi.modifiers, 'station', coalesce(bi.printer_target, ''), 'void', coalesce(bi.is_void,
                   false))
                 ORDER BY i.id)
          FROM {ITEM} i LEFT JOIN pos_billitem bi ON bi.id = i.bill_item_id
            LEFT JOIN core_product pr ON pr.id = bi.product_id
         WHERE i.kitchen_ticket_id = t.id) AS items
  FROM job CROSS JOIN t CROSS JOIN kin
  LEFT JOIN pos_bill b ON b.id = t.bill_id
  LEFT JOIN tables_table tb ON tb.id = b.table_id
  LEFT JOIN core_user u ON u.id = b.created_by_id
  LEFT JOIN core_store st ON st.id = b.store_id
  LEFT JOIN core_brand br ON br.id = {_brand(schema)} LEFT JOIN core_company co ON co.id = br.company_id
  LEFT JOIN {PRINTER} sp ON sp.id = job.printer_id""",
        prelude=f"""WITH RECURSIVE up AS (
  SELECT t.id, t.original_ticket_id AS above, 1 AS depth FROM {TICKET} t WHERE t.id = %(ticket)s
  UNION ALL
  SELECT o.id, o.original_ticket_id, up.depth + 1 FROM up JOIN {TICKET} o ON o.id = up.above WHERE up.depth < 20
)
SELECT pg_advisory_xact_lock({FAMILY_LOCK}, (id %% 2147483647)::int) FROM (
  SELECT id FROM up ORDER BY depth DESC LIMIT 1) root""",
    )


def _standing() -> Statement:
    """Why a sending was refused: what token, ticket and lease look like."""
    return Statement(
        "standing",
        f"""SELECT t.status, j.state, coalesce(j.token = {{token:bigint}}, false) AS mine,
       coalesce(j.settled_token = {{token:bigint}}, false) AS settled, coalesce({_LIVE}, false) AS live
  FROM (SELECT {{ticket:bigint}} AS id) x LEFT JOIN {TICKET} t ON t.id = x.id
  LEFT JOIN kps.job j ON j.ticket_id = x.id""",
    )


def _withdraw() -> Statement:
    """A claimed ticket that somebody took out of `printing`: the job follows the ticket."""
    return Statement(
        "withdraw",
        f"""WITH t AS MATERIALIZED (SELECT id, status FROM {TICKET} WHERE id = {{ticket:bigint}} FOR UPDATE)
UPDATE kps.job j
   SET state = CASE coalesce((SELECT status FROM t), 'gone') WHEN 'new' THEN 'requeued' WHEN 'printed' THEN 'printed'
                 ELSE 'failed' END,
       settled_token = j.token, token = nextval('kps.token_seq'), finished_at = clock_timestamp(),
       round_open = coalesce((SELECT status FROM t), 'gone') = 'new', error = 'withdrawn'
 WHERE j.ticket_id = {{ticket:bigint}} AND j.token = {{token:bigint}} AND j.state = 'claimed'
   AND coalesce((SELECT status FROM t), 'gone') <> 'printing'
RETURNING coalesce((SELECT status FROM t), 'gone') AS status""",
    )


def _settle(schema: PosSchema) -> Statement:
    """What became of a ticket at a printer, with its log row and its statistics.

    `outcome` is printed, retry (the next printer, please) or failed (unprintable).
    """
    log = _log(
        schema,
        "old CROSS JOIN t JOIN k ON k.id = t.id",
        ticket_id="t.id",
        old_status="t.status",
        new_status="k.status",
        action="CASE WHEN {outcome:text} = 'printed' THEN 'print_success' ELSE 'print_failed' END",
        printer_ip=_row_ip(schema, "old.printer_id"),
        error_code="{code:text}",
        error_message="{error:text}",
        duration_ms="CASE WHEN {outcome:text} = 'printed' THEN greatest(1, {duration:int}) END",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', old.printer_id,
          'printer_name', old.printer_name, 'attempt', k.print_attempts, 'token', old.token,
          'failover_from', nullif(old.backup_for, '')) || {metadata:jsonb}""",
    )
    status = """CASE WHEN {outcome:text} = 'printed' AND t.status IN ('printing', 'failed') THEN 'printed'
        WHEN {outcome:text} = 'failed' AND t.status = 'printing' THEN 'failed'
        WHEN {outcome:text} = 'retry' AND t.status = 'printing' THEN 'new' ELSE t.status END"""
    return Statement(
        "settle",
        f"""WITH t AS MATERIALIZED (
  SELECT id, status FROM {TICKET} WHERE id = {{ticket:bigint}} FOR UPDATE
), old AS MATERIALIZED (
  SELECT j.* FROM kps.job j
   WHERE j.ticket_id = {{ticket:bigint}} AND j.token = {{token:bigint}} AND j.state IN ('claimed', 'sending')
     AND (SELECT count(*) FROM t) >= 0 FOR UPDATE
), job AS (
  UPDATE kps.job j
     SET state = CASE WHEN {{outcome:text}} = 'printed' THEN 'printed' WHEN {{outcome:text}} = 'failed' THEN 'failed'
                      WHEN (SELECT status FROM t) IN ('printing', 'new') THEN 'requeued'
                      WHEN (SELECT status FROM t) = 'printed' THEN 'printed' ELSE 'failed' END,
         settled_token = j.token, token = nextval('kps.token_seq'), finished_at = clock_timestamp(),
         sends = j.sends - CASE WHEN j.state = 'sending' AND NOT {{sent:boolean}} THEN 1 ELSE 0 END,
         maybe_at = CASE WHEN {{outcome:text}} <> 'printed' AND {{sent:boolean}} AND NOT {{cleared:boolean}}
                          AND j.printer_name <> ALL (j.maybe_at)
                         THEN j.maybe_at || j.printer_name ELSE j.maybe_at END,
         told_back = CASE WHEN {{outcome:text}} <> 'printed' AND {{sent:boolean}}
                          THEN array_remove(j.told_back, j.printer_name) ELSE j.told_back END,
         cleared = j.cleared + CASE WHEN {{cleared:boolean}} THEN 1 ELSE 0 END,
         moved_from = CASE WHEN {{cleared:boolean}} AND j.printer_name <> ALL (j.moved_from)
                           THEN j.moved_from || j.printer_name ELSE j.moved_from END,
         tried = CASE WHEN {{outcome:text}} = 'retry' THEN j.tried || j.printer_key ELSE j.tried END,
         round_open = {{outcome:text}} = 'retry', proof = CASE WHEN {{outcome:text}} = 'printed'
           THEN {{proof:text}} END,
         printed_on = CASE WHEN {{outcome:text}} = 'printed' THEN j.printer_name ELSE j.printed_on END,
         forced_printer = CASE WHEN {{outcome:text}} = 'printed' THEN NULL ELSE j.forced_printer END,
         deaths = 0, unreached = false, failed_attempts = NULL, rescue_from = NULL, error = {{error:text}}
    FROM old WHERE j.ticket_id = old.ticket_id AND j.token = old.token
  RETURNING j.ticket_id, j.state
), k AS (
  UPDATE {TICKET} k
     SET status = {status},
         printed_at = CASE WHEN {{outcome:text}} = 'printed' AND t.status <> 'new' THEN clock_timestamp()
           ELSE k.printed_at END,
         error_message = CASE WHEN {{outcome:text}} = 'printed' THEN '' WHEN t.status = 'printing' THEN {{error:text}}
                              ELSE k.error_message END,
         last_error_at = CASE WHEN {{outcome:text}} <> 'printed' AND t.status = 'printing' THEN clock_timestamp()
                              ELSE k.last_error_at END
    FROM t, job WHERE k.id = t.id AND t.id = job.ticket_id
  RETURNING k.id, k.status, k.print_attempts
), log AS ({log}), stats AS (
  UPDATE {PRINTER} sp
     SET total_prints = sp.total_prints + 1,
         failed_prints = sp.failed_prints + CASE WHEN {{outcome:text}} = 'printed' THEN 0 ELSE 1 END,
         last_print_at = CASE WHEN {{outcome:text}} = 'printed' THEN clock_timestamp() ELSE sp.last_print_at END,
         last_error_at = CASE WHEN {{outcome:text}} = 'printed' THEN sp.last_error_at ELSE clock_timestamp() END,
         last_error_message = CASE WHEN {{outcome:text}} = 'printed' THEN sp.last_error_message ELSE {{error:text}} END
    FROM old WHERE sp.id = old.printer_id AND {{asked:boolean}}
  RETURNING 1
)
SELECT (SELECT count(*) FROM job) AS settled, (SELECT max(status) FROM k) AS status,
       (SELECT count(pg_notify('{CHANNEL_TICKET}', '')) FROM k WHERE k.status = 'new') AS woken""",
    )


def _settled() -> Statement:
    """What the ticket is now, if an outcome whose reply was lost has been written after all."""
    return Statement(
        "settled",
        f"""SELECT coalesce(t.status, 'gone') AS status FROM kps.job j LEFT JOIN {TICKET} t ON t.id = j.ticket_id
 WHERE j.ticket_id = {{ticket:bigint}} AND j.settled_token = {{token:bigint}}""",
    )


def _requeue(
    schema: PosSchema,
    held: str,
    reason: str,
    *,
    text: str,
    tail: str = "",
    before: str = "",
    death: str = "false",
    sent: bool = True,
) -> str:
    """CTEs that give the jobs of `held` (ticket_id, printer_key, token) back; a sending one may be on paper.

    `sent=False` is for a holder who knows that no byte has left.
    """
    unsent = "- CASE WHEN given.state = 'sending' THEN 1 ELSE 0 END" if not sent else ""
    may_lie = "given.state = 'sending'" if sent else "false"
    log = _log(
        schema,
        "given JOIN back ON back.id = given.ticket_id",
        ticket_id="given.ticket_id",
        old_status="'printing'",
        new_status="back.status",
        action="CASE WHEN back.status = 'failed' THEN 'print_failed' ELSE 'retry' END",
        printer_ip=_row_ip(schema, "given.printer_id"),
        error_code="CASE WHEN back.status = 'failed' THEN 'poison' ELSE " + reason + " END",
        error_message="CASE WHEN back.status = 'failed' THEN back.error_message ELSE " + text + " END",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', given.printer_id,
          'printer_name', given.printer_name, 'token', given.token, 'possible_duplicate', """
        + may_lie
        + ")",
    )
    return f"""{before} held AS MATERIALIZED ({held}),
locked AS MATERIALIZED (
  SELECT t.id, t.status FROM {TICKET} t JOIN held ON held.ticket_id = t.id ORDER BY t.id FOR UPDATE OF t
), given AS MATERIALIZED (
  SELECT j.ticket_id, j.state, j.printer_id, j.printer_name, j.token, ({death}) AS death, j.deaths
    FROM kps.job j JOIN held ON held.ticket_id = j.ticket_id AND held.token = j.token
   WHERE j.state IN ('claimed', 'sending') AND (SELECT count(*) FROM locked) >= 0
   ORDER BY j.ticket_id FOR UPDATE OF j
), job AS (
  UPDATE kps.job j
     SET state = CASE WHEN l.status IN ('new', 'printing') THEN
                        CASE WHEN given.death AND given.deaths >= 1 AND l.status = 'printing' THEN 'failed'
                          ELSE 'requeued' END
                      WHEN l.status = 'printed' THEN 'printed' ELSE 'failed' END,
         token = nextval('kps.token_seq'), sends = j.sends {unsent},
         deaths = j.deaths + CASE WHEN given.death THEN 1 ELSE 0 END,
         maybe_at = CASE WHEN {may_lie} AND j.printer_name <> ALL (j.maybe_at)
                         THEN j.maybe_at || j.printer_name ELSE j.maybe_at END
    FROM given LEFT JOIN locked l ON l.id = given.ticket_id
   WHERE j.ticket_id = given.ticket_id AND j.token = given.token
  RETURNING j.ticket_id, j.state
), back AS (
  UPDATE {TICKET} k SET status = CASE WHEN job.state = 'failed' THEN 'failed' ELSE 'new' END,
         error_message = CASE WHEN job.state = 'failed'
           THEN 'the printer process died twice while preparing this ticket' ELSE k.error_message END,
         last_error_at = CASE WHEN job.state = 'failed' THEN clock_timestamp() ELSE k.last_error_at END
    FROM job WHERE k.id = job.ticket_id AND k.status = 'printing'
  RETURNING k.id, k.status, k.error_message
), log AS ({log}) {tail}"""


_WOKEN = f"(SELECT count(pg_notify('{CHANNEL_TICKET}', '')) FROM back) AS woken"


def _release(schema: PosSchema) -> Statement:
    """The holder gives claimed tickets back, unmarked: no byte of them has left."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.token = ANY ({tokens:bigint[]}) AND j.ticket_id = ANY ({tickets:bigint[]}) AND j.state = 'claimed'"""
    body = _requeue(schema, held, "'released'", text="{text:text}")
    return Statement("release", f"WITH {body} SELECT (SELECT count(*) FROM job) AS released, {_WOKEN}")


def _unsent(schema: PosSchema) -> Statement:
    """The holder gives a ticket back of which no byte has left, although the promise may have been committed."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.ticket_id = {ticket:bigint} AND j.token = {token:bigint} AND j.state IN ('claimed', 'sending')"""
    body = _requeue(schema, held, "'released'", text="'the database was away before the first byte'", sent=False)
    return Statement("unsent", f"WITH {body} SELECT (SELECT count(*) FROM job) AS released, {_WOKEN}")


def _reconcile(schema: PosSchema) -> Statement:
    """Give back what is claimed for a printer of mine and held by nobody: the reply to its claim was lost."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.owner = {me:uuid} AND j.printer_key = {key:text} AND j.state = 'claimed'
     AND j.token <> ALL ({held:bigint[]})"""
    body = _requeue(schema, held, "'reclaimed'", text="'claimed, but held by no process'")
    return Statement("reconcile", f"WITH {body} SELECT (SELECT count(*) FROM job) AS released, {_WOKEN}")


_SEEN = f"""want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id, t.print_attempts, t.max_retries, {_RESET} AS reset, {_ROUND_OPEN} AS round_open, j.state AS job_state
    FROM want w JOIN {TICKET} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'new' AND coalesce(j.token, 0) = w.token
     AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {_LIVE})
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
)"""
"""Tickets that are still as a look saw them, locked."""

_AS_SEEN = "j.token = (SELECT w.token FROM want w WHERE w.id = excluded.ticket_id)"


def _end_round(schema: PosSchema) -> Statement:
    """No printer is left in this round: the next round after a delay, or `failed` after the last."""
    reset = _log(
        schema,
        "k JOIN pick ON pick.id = k.id WHERE pick.reset",
        ticket_id="k.id",
        action="'manual_reset'",
        old_status="coalesce(pick.job_state, 'failed')",
        printer_ip="{ip:text}",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    log = _log(
        schema,
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
    return Statement(
        "end_round",
        f"""WITH {_SEEN}, job AS (
  INSERT INTO kps.job AS j (ticket_id, state, sends, not_before, unreached, failed_attempts, finished_at,
                            rescue_from, error)
  SELECT pick.id, CASE WHEN {attempts} >= {budget} THEN 'failed' ELSE 'requeued' END,
         CASE WHEN pick.print_attempts > 0 THEN 1 ELSE 0 END,
         CASE WHEN {attempts} < {budget} THEN clock_timestamp() + {{delay:float8}} * interval '1 second' END,
         {attempts} >= {budget} AND pick.print_attempts = 0, {attempts}, clock_timestamp(),
         CASE WHEN {attempts} >= {budget} THEN clock_timestamp() END, {{error:text}} FROM pick
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = excluded.state, token = nextval('kps.token_seq'), round_open = false, tried = '{{}}',
         maybe_at = {_LEFT_BEHIND},
         not_before = excluded.not_before, unrouted_at = NULL,
         unreached = excluded.state = 'failed' AND j.sends = 0, failed_attempts = excluded.failed_attempts,
         rescue_from = CASE WHEN j.state IN ('printed', 'failed') THEN excluded.rescue_from
                            ELSE coalesce(j.rescue_from, excluded.rescue_from) END,
         finished_at = excluded.finished_at, error = excluded.error
   WHERE {_AS_SEEN}
  RETURNING j.ticket_id, j.state, j.failed_attempts
), k AS (
  UPDATE {TICKET} k
     SET status = CASE WHEN job.state = 'failed' THEN 'failed' ELSE 'new' END, print_attempts = job.failed_attempts,
         error_message = CASE WHEN pick.round_open AND k.error_message <> '' THEN k.error_message
           ELSE {{error:text}} END,
         last_error_at = clock_timestamp(),
         printer_ip = CASE WHEN pick.round_open AND k.printer_ip IS NOT NULL THEN k.printer_ip
                           ELSE {_ip_value(schema.ticket_ip_type, "{ip:text}")} END
    FROM job JOIN pick ON pick.id = job.ticket_id WHERE k.id = job.ticket_id AND k.status = 'new'
  RETURNING k.id, k.status, k.print_attempts, k.error_message
), reset_log AS ({reset}), log AS ({log})
SELECT id, status, print_attempts FROM k ORDER BY id""",
    )


def _give_up(schema: PosSchema) -> Statement:
    """`failed` at once, for a reason that another try would not mend; `rescue` lets a later printer row save it."""
    log = _log(
        schema,
        "k",
        ticket_id="k.id",
        new_status="'failed'",
        action="'print_failed'",
        printer_ip=_ip_text(schema.ticket_ip_type, "k.printer_ip"),
        error_code="{code:text}",
        error_message="{error:text}",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    return Statement("give_up", f"WITH {_SEEN}, {_failed(schema, log)}\nSELECT id FROM k ORDER BY id")


def _failed(schema: PosSchema, log: str) -> str:
    """CTEs job, k, log that fail the tickets of `pick`."""
    brand = "k.brand_id, " if schema.ticket_has_brand else ""
    ip = _ip_text(schema.printer_ip_type, "sp.printer_ip")
    first = f"""(SELECT {ip} FROM {PRINTER} sp WHERE lower(btrim(sp.station_code)) = lower(btrim(k.printer_target))
       AND sp.brand_id = coalesce({brand}(SELECT b.brand_id FROM pos_bill b WHERE b.id = k.bill_id))
     ORDER BY sp.priority, sp.id LIMIT 1)"""
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
         maybe_at = {_LEFT_BEHIND},
         unrouted_at = NULL, unreached = {{rescue:boolean}} AND j.sends = 0, failed_attempts = excluded.failed_attempts,
         finished_at = clock_timestamp(), error = excluded.error
   WHERE {_AS_SEEN}
  RETURNING j.ticket_id
), k AS (
  UPDATE {TICKET} k SET status = 'failed', error_message = {{error:text}}, last_error_at = clock_timestamp(),
         printer_ip = coalesce(k.printer_ip, {_ip_value(schema.ticket_ip_type, first)})
    FROM job WHERE k.id = job.ticket_id AND k.status = 'new' RETURNING k.id, k.print_attempts, k.printer_ip
), log AS ({log})"""


_WAIT = Statement(
    "wait",
    f"""WITH {_SEEN}
INSERT INTO kps.job AS j (ticket_id, state, sends, unrouted_at)
SELECT id, CASE WHEN reset THEN 'failed' ELSE 'waiting' END, CASE WHEN print_attempts > 0 THEN 1 ELSE 0 END,
       clock_timestamp() FROM pick
ON CONFLICT (ticket_id) DO UPDATE SET unrouted_at = coalesce(j.unrouted_at, excluded.unrouted_at) WHERE {_AS_SEEN}
RETURNING ticket_id""",
)
"""Remember in the database since when a ticket has been waiting for a printer row; what it was before stays known."""


def _stale(schema: PosSchema) -> Statement:
    """Backlog of another day, found by the first look: failed with a clear text, but for the operator's resets."""
    log = _log(
        schema,
        "k",
        ticket_id="k.id",
        new_status="'failed'",
        action="'print_failed'",
        printer_ip=_ip_text(schema.ticket_ip_type, "k.printer_ip"),
        error_code="'stale'",
        error_message="{error:text}",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts)",
    )
    seen = f"""want AS MATERIALIZED (
  SELECT t.id, coalesce(j.token, 0) AS token FROM {TICKET} t LEFT JOIN kps.job j ON j.ticket_id = t.id
    LEFT JOIN pos_bill b ON b.id = t.bill_id LEFT JOIN core_brand br ON br.id = {_brand(schema)}
   WHERE t.status = 'new' AND t.created_at < clock_timestamp() - {{minutes:float8}} * interval '1 minute'
     AND NOT {_RESET} AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {_LIVE})
     AND (cardinality({{stations:text[]}}) = 0 OR lower(btrim(t.printer_target)) = ANY ({{stations:text[]}}))
     AND (cardinality({{brands:text[]}}) = 0 OR br.id::text = ANY ({{brands:text[]}})
       OR lower(br.code) = ANY ({{brands:text[]}}))
), pick AS MATERIALIZED (
  SELECT t.id, t.print_attempts FROM want w JOIN {TICKET} t ON t.id = w.id
   WHERE t.status = 'new' ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
)"""
    return Statement(
        "stale",
        f"WITH {seen}, {_failed(schema, log).replace('{rescue:boolean}', 'false')}\nSELECT id FROM k ORDER BY id",
    )


def _rescuable(schema: PosSchema) -> Statement:
    """Tickets that failed only because no printer could be reached, and that nobody has touched since."""
    return Statement(
        "rescuable",
        f"""SELECT t.id, lower(btrim(t.printer_target)) AS station, {_brand(schema)}::text AS brand, j.token
  FROM kps.job j JOIN {TICKET} t ON t.id = j.ticket_id LEFT JOIN pos_bill b ON b.id = t.bill_id
 WHERE j.unreached AND j.state = 'failed'
   AND j.rescue_from > clock_timestamp() - {{minutes:float8}} * interval '1 minute'
   AND t.status = 'failed' AND t.print_attempts = j.failed_attempts AND j.sends = 0
   AND NOT EXISTS (SELECT 1 FROM {TICKET} r WHERE r.original_ticket_id = t.id)
 ORDER BY t.id LIMIT 1000""",
    )


def _rescue(schema: PosSchema) -> Statement:
    """failed -> new for one more round."""
    log = _log(
        schema,
        "k",
        ticket_id="k.id",
        old_status="'failed'",
        new_status="'new'",
        action="'retry'",
        printer_ip=_ip_text(schema.ticket_ip_type, "k.printer_ip"),
        error_message="'a printer of its route is able again'",
        metadata="jsonb_build_object('instance', {instance:text}, 'attempt', k.print_attempts, 'rescue', true)",
    )
    return Statement(
        "rescue",
        f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id FROM want w JOIN {TICKET} t ON t.id = w.id JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'failed' AND t.print_attempts = j.failed_attempts AND j.token = w.token AND j.unreached
     AND NOT EXISTS (SELECT 1 FROM {TICKET} r WHERE r.original_ticket_id = t.id)
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  UPDATE kps.job j SET state = 'requeued', token = nextval('kps.token_seq'), unreached = false, round_open = false,
         tried = '{{}}', not_before = NULL
    FROM pick, want w WHERE j.ticket_id = pick.id AND w.id = pick.id AND j.token = w.token AND j.unreached
  RETURNING j.ticket_id
), k AS (
  UPDATE {TICKET} k SET status = 'new' FROM job WHERE k.id = job.ticket_id AND k.status = 'failed'
  RETURNING k.id, k.print_attempts, k.printer_ip
), log AS ({log})
SELECT id, (SELECT count(pg_notify('{CHANNEL_TICKET}', ''))) AS woken FROM k ORDER BY id""",
    )


_STATE_KNOWN = "(p.owner = excluded.owner OR (p.owner IS NULL AND p.yielded_until > clock_timestamp()))"


def _acquire(schema: PosSchema) -> Statement:
    """Take the printers whose lease has ended; what an earlier epoch of somebody else left open is given back.

    `contested`: its last owner did not let go, its lease ran out; it may still hold the device's only connection.
    """
    before = """before AS MATERIALIZED (
  SELECT p.printer_key, p.owner FROM kps.printer p WHERE p.printer_key = ANY ({keys:text[]})
), a AS (
  INSERT INTO kps.printer AS p (printer_key, name, owner, owner_name, epoch, expires_at)
  SELECT k, n, {me:uuid}, {instance:text}, 1, clock_timestamp() + {ttl:float8} * interval '1 second'
    FROM unnest({keys:text[]}, {names:text[]}) AS w(k, n) ORDER BY k
  ON CONFLICT (printer_key) DO UPDATE
     SET owner = excluded.owner, owner_name = excluded.owner_name, name = excluded.name, epoch = p.epoch + 1,
         expires_at = excluded.expires_at,
         -- What the last owner found wrong is not known to be so any more: tickets wait for the new owner's hello.
         -- The same owner's process may hold a blocked ticket, and cannot say so again.
         -- And one that was just given up because it cannot be reached is not waited for.
         -- What a probe has left behind nobody knows yet.
         state = CASE WHEN p.borrowed_until < p.expires_at AND (p.state = 'ready' OR {known}) THEN p.state
                      ELSE 'starting' END,
         state_text = CASE WHEN p.borrowed_until < p.expires_at AND {known} THEN p.state_text ELSE '' END,
         state_since = CASE WHEN p.borrowed_until < p.expires_at AND (p.state = 'ready' OR {known}) THEN p.state_since
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
   WHERE j.printer_key = a.printer_key AND j.owner = {me:uuid} AND j.state IN ('claimed', 'sending')
     AND j.epoch < a.epoch
  RETURNING j.printer_key
),""".replace("{known}", _STATE_KNOWN)
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j JOIN a ON a.printer_key = j.printer_key
   WHERE j.state IN ('claimed', 'sending') AND j.epoch < a.epoch AND j.owner IS DISTINCT FROM {me:uuid}"""
    body = _requeue(schema, held, "'reclaimed'", text="'its printer has a new owner'", before=before)
    return Statement(
        "acquire",
        f"WITH {body} "
        f"SELECT a.*, EXISTS (SELECT 1 FROM before b WHERE b.printer_key = a.printer_key AND b.owner <> {{me:uuid}}) "
        f"AS contested, (SELECT count(*) FROM carried c WHERE c.printer_key = a.printer_key) AS carried, "
        f"(SELECT count(*) FROM job JOIN held ON held.ticket_id = job.ticket_id "
        f"WHERE held.printer_key = a.printer_key) AS released, "
        f"(SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told, {_WOKEN} FROM a",
        prelude=_LOCK_LEASES,
    )


_RENEW = Statement(
    "renew",
    """WITH here AS (
  INSERT INTO kps.instance AS i (owner, name, host) VALUES ({me:uuid}, {instance:text}, {host:text})
  ON CONFLICT (owner) DO UPDATE SET seen_at = clock_timestamp() RETURNING 1
), cut AS (
  -- The clock has gone back since these were given: whoever lives renews in time, whoever does not may be followed.
  UPDATE kps.printer p
     SET expires_at = clock_timestamp() + CASE WHEN p.owner IS NULL THEN 0 ELSE {ttl:float8} END * interval '1 second'
   WHERE p.printer_key IN (
     SELECT o.printer_key FROM kps.printer o WHERE o.owner IS DISTINCT FROM {me:uuid}
        AND o.expires_at > clock_timestamp() + CASE WHEN o.owner IS NULL THEN 0 ELSE 120 END * interval '1 second'
      ORDER BY o.printer_key FOR NO KEY UPDATE SKIP LOCKED)
  RETURNING 1
), mine AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
    JOIN unnest({keys:text[]}, {epochs:bigint[]}) AS m(printer_key, epoch) USING (printer_key)
   WHERE p.epoch = m.epoch AND p.owner = {me:uuid} AND p.expires_at > clock_timestamp()
   ORDER BY p.printer_key FOR NO KEY UPDATE OF p
)
UPDATE kps.printer p SET expires_at = clock_timestamp() + {ttl:float8} * interval '1 second'
  FROM mine WHERE p.printer_key = mine.printer_key AND p.epoch = mine.epoch AND (SELECT count(*) FROM here) >= 0
RETURNING p.printer_key, p.epoch""",
)
"""Keep the leases of the printers whose process is well, and say that this instance lives.

An ended lease stays ended. A lease of somebody else that seems to last for minutes is cut to its length.
"""

_LOCK_LEASES = "SELECT 1 FROM kps.printer WHERE printer_key = ANY (%(keys)s) ORDER BY printer_key FOR NO KEY UPDATE"
_LOCK_LEASE = "SELECT 1 FROM kps.printer WHERE printer_key = %(key)s FOR NO KEY UPDATE"
"""Preludes of what ends a lease or an epoch: a claim holds the lease until it is committed, and only a snapshot
taken after that sees the job which it has made."""

_YIELD = Statement(
    "yield_lease",
    f"""WITH other AS (
  SELECT 1 FROM kps.instance i
   WHERE i.owner <> {{me:uuid}} AND i.seen_at > clock_timestamp() - interval '6 seconds' LIMIT 1
), p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL, yielded_by = {{me:uuid}},
         yielded_until = clock_timestamp() + {{away:float8}} * interval '1 second'
   WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}} AND p.epoch = {{epoch:bigint}}
     AND EXISTS (SELECT 1 FROM other)
     AND NOT EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = p.printer_key AND j.state IN ('claimed', 'sending'))
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
    prelude=_LOCK_LEASE,
)
"""Give up a printer that this instance cannot reach, if another instance lives."""

_EXPIRE_OWNER = Statement(
    "expire_owner",
    f"""WITH p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL
   WHERE p.owner = {{owner:uuid}} AND p.expires_at > clock_timestamp() RETURNING p.printer_key
), i AS (DELETE FROM kps.instance WHERE owner = {{owner:uuid}} RETURNING 1)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
)
"""End the leases of a generation whose processes are proven gone."""

_LAPSE = Statement(
    "lapse",
    f"""WITH p AS (
  UPDATE kps.printer p SET expires_at = clock_timestamp(), owner = NULL
   WHERE p.owner = {{me:uuid}} AND p.printer_key = ANY ({{keys:text[]}})
     AND NOT EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = p.printer_key AND j.owner = p.owner
                        AND j.state IN ('claimed', 'sending'))
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
    prelude=_LOCK_LEASES,
)
"""End leases at once, so that another instance may take over; never while something is held under them."""


def _release_dead(schema: PosSchema) -> Statement:
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
    body = _requeue(
        schema,
        held,
        "'reclaimed'",
        text="'the printer process died'",
        before=before,
        death="j.token = {blamed:bigint}",
    )
    return Statement(
        "release_dead",
        f"WITH {body} SELECT a.epoch, (SELECT count(*) FROM job) AS released, {_WOKEN} FROM a",
        prelude=_LOCK_LEASE,
    )


def _orphans() -> Statement:
    """`printing` tickets that no job under a live lease accounts for."""
    return Statement(
        "orphans",
        f"""SELECT t.id, coalesce(j.token, 0) AS token FROM {TICKET} t LEFT JOIN kps.job j ON j.ticket_id = t.id
 WHERE t.status = 'printing' AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {_LIVE})
 ORDER BY t.id LIMIT 500""",
    )


def _adopt(schema: PosSchema) -> Statement:
    """Take over `printing` tickets that nobody accounts for; all but the only claimed ones are marked."""
    log = _log(
        schema,
        "k JOIN pick ON pick.id = k.id",
        ticket_id="k.id",
        old_status="'printing'",
        new_status="'new'",
        action="'retry'",
        printer_ip=_ip_text(schema.ticket_ip_type, "k.printer_ip"),
        error_code="'reclaimed'",
        error_message="'printing for too long without a live owner'",
        metadata="""jsonb_build_object('instance', {instance:text},
          'possible_duplicate', pick.job_state IS DISTINCT FROM 'claimed')""",
    )
    return Statement(
        "adopt",
        f"""WITH want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id, j.state AS job_state FROM want w JOIN {TICKET} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'printing' AND coalesce(j.token, 0) = w.token
     AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {_LIVE})
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
), job AS (
  INSERT INTO kps.job AS j (ticket_id, state, sends, round_open) SELECT pick.id, 'requeued', 1, true FROM pick
  ON CONFLICT (ticket_id) DO UPDATE
     SET state = 'requeued', token = nextval('kps.token_seq'), round_open = true,
         tried = CASE WHEN j.state IN ('printed', 'failed') THEN '{{}}' ELSE j.tried END,
         sends = CASE WHEN j.state = 'claimed' THEN j.sends ELSE greatest(j.sends, 1) END,
         maybe_at = CASE WHEN j.state = 'sending' AND j.printer_name <> ALL (j.maybe_at)
           THEN j.maybe_at || j.printer_name
                         ELSE j.maybe_at END
   WHERE {_AS_SEEN}
  RETURNING j.ticket_id
), k AS (
  UPDATE {TICKET} k SET status = 'new' FROM job WHERE k.id = job.ticket_id AND k.status = 'printing'
  RETURNING k.id, k.printer_ip
), log AS ({log})
SELECT id, (SELECT count(pg_notify('{CHANNEL_TICKET}', ''))) AS woken FROM k ORDER BY id""",
    )


def _next_due() -> Statement:
    """Seconds until the next waiting ticket may begin its next round; no row if none waits."""
    return Statement(
        "next_due",
        f"""SELECT extract(epoch FROM min(j.not_before) - clock_timestamp())::float8 AS due_s
  FROM kps.job j JOIN {TICKET} t ON t.id = j.ticket_id
 WHERE j.not_before IS NOT NULL AND j.state = 'requeued' AND t.status = 'new' AND j.not_before > clock_timestamp()
HAVING min(j.not_before) IS NOT NULL""",
    )


def _sweep() -> Statement:
    """Forget the jobs of tickets that the POS has deleted, and instances long gone."""
    return Statement(
        "sweep",
        f"""WITH gone AS (
  DELETE FROM kps.job j WHERE j.ticket_id IN (
    SELECT o.ticket_id FROM kps.job o LEFT JOIN {TICKET} t ON t.id = o.ticket_id
     WHERE t.id IS NULL AND NOT (o.state IN ('claimed', 'sending')) LIMIT 1000)
  RETURNING 1
), old AS (
  DELETE FROM kps.instance i WHERE i.seen_at < clock_timestamp() - interval '1 day'
    AND i.owner <> {{me:uuid}} RETURNING 1
)
SELECT (SELECT count(*) FROM gone) AS jobs, (SELECT count(*) FROM old) AS instances""",
    )


def _rows(schema: PosSchema) -> Statement:
    """All printer rows of the POS, in routing order."""
    return Statement(
        "rows",
        f"""SELECT sp.id, lower(btrim(sp.station_code)) AS station, btrim(sp.printer_name) AS name,
       btrim({_ip_text(schema.printer_ip_type, "sp.printer_ip")}) AS host, sp.printer_port AS port,
       lower(btrim(sp.printer_type)) AS kind, sp.timeout_seconds AS timeout_s, sp.priority, sp.is_active AS active,
       sp.brand_id::text AS brand, lower(coalesce(br.code, '')) AS brand_code, coalesce(br.name, '') AS brand_name,
       sp.total_prints, sp.failed_prints
  FROM {PRINTER} sp LEFT JOIN core_brand br ON br.id = sp.brand_id
 ORDER BY sp.priority, sp.id""",
    )


_PRINTERS = Statement(
    "printers",
    """SELECT printer_key, owner::text AS owner, owner_name, epoch,
       CASE WHEN borrowed_until > clock_timestamp() THEN 'held'
            -- nobody has taken it back yet, so what was wrong before the probe is not known to be so any more
            WHEN expires_at <= clock_timestamp() AND borrowed_until >= expires_at AND isfinite(borrowed_until)
              THEN 'starting' ELSE state END AS state,
       state_since,
       CASE WHEN borrowed_until > clock_timestamp() THEN 'borrowed for a probe by ' || borrowed_by
            ELSE state_text END AS state_text,
       borrowed_until > clock_timestamp() AS borrowed, borrowed_by, held_by, paper, response_ms,
       checked_at, coalesce(proof_level, CASE WHEN answers THEN 'realtime' ELSE 'none' END) AS proof, answers,
       proof_level, cover_open, cutter_ok, demoted_text, expires_at > clock_timestamp() AS live,
       -- a borrowed device has had no owner on purpose: whoever may take it back gets as long as after a lease
       CASE WHEN isfinite(greatest(expires_at, borrowed_until))
            THEN extract(epoch FROM clock_timestamp() - greatest(expires_at, borrowed_until))::float8 ELSE 1e9 END
         AS lapsed_s,
       extract(epoch FROM clock_timestamp() - state_since)::float8 AS state_age_s
  FROM kps.printer WHERE printer_key = ANY ({keys:text[]})""",
)
"""What is known about devices, whoever owns them."""

_SET_STATE = Statement(
    "set_state",
    f"""WITH p AS (
  UPDATE kps.printer p
     SET state = {{state:text}}, state_text = {{text:text}}, paper = {{paper:text}}, checked_at = clock_timestamp(),
         state_since = CASE WHEN p.state = {{state:text}} THEN p.state_since ELSE clock_timestamp() END,
         response_ms = {{response:int}}, answers = coalesce({{answers:boolean}}, p.answers),
         cover_open = {{cover_open:boolean}}, cutter_ok = {{cutter_ok:boolean}}
   WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}} AND p.epoch = {{epoch:bigint}}
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
)
"""The owner's process says what its device is like."""

_DEMOTE = Statement(
    "demote",
    f"""WITH p AS (
  UPDATE kps.printer p
     SET proof_level = CASE WHEN p.proof_level IN ('process_id', 'fence') THEN 'realtime' ELSE p.proof_level END,
         pushes = false, clears = false, demoted_at = clock_timestamp(), demoted_text = {{text:text}}
   WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}} AND p.epoch = {{epoch:bigint}}
     AND (p.proof_level IN ('process_id', 'fence') OR p.pushes OR p.clears)
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
)
"""Contrary evidence: what the probe has proven is not believed until the next probe."""


def _late_proof(schema: PosSchema) -> Statement:
    """A printer of mine has said the process ID of a sending that was given up: that copy did come out.

    If no other copy is under way the ticket is printed by that. `rows` are the ids of the device's printer rows,
    `value` the number of the process ID modulo `ids`.
    """
    log = _log(
        schema,
        "done",
        ticket_id="done.id",
        old_status="done.before",
        new_status="done.status",
        action="'print_success'",
        printer_ip=_row_ip(schema, "done.row_id"),
        error_message="CASE WHEN done.twice THEN 'it came out twice: on ' || done.name || ' too' ELSE '' END",
        duration_ms="greatest(1, extract(epoch FROM clock_timestamp() - done.sending_at) * 1000)::int",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', done.row_id,
          'printer_name', done.name, 'attempt', done.print_attempts, 'proof', 'process_id', 'proven', true,
          'late', true, 'twice', done.twice)""",
    )
    # Only what KPS itself gave up, or a person cancelled, becomes printed; a reset by the operator wants a new copy.
    finished = """(j.state = 'requeued' AND t.status = 'new') OR (j.state = 'failed' AND t.status = 'failed')
          OR (j.state = 'claimed' AND t.status = 'printing')"""
    return Statement(
        "late_proof",
        f"""WITH mine AS MATERIALIZED (
  SELECT sp.id, btrim(sp.printer_name) AS name FROM {PRINTER} sp WHERE sp.id = ANY ({{rows:bigint[]}})
), named AS MATERIALIZED (
  SELECT j.ticket_id, (SELECT m.id FROM mine m WHERE m.name = ANY (j.maybe_at) ORDER BY m.id LIMIT 1) AS row_id
    FROM kps.job j
   WHERE j.maybe_at <> '{{}}' AND j.maybe_at && ARRAY(SELECT name FROM mine)
     AND EXISTS (SELECT 1 FROM unnest(j.process_ids) AS s(number)
                  WHERE {{value:bigint}} IN (s.number % {{ids:bigint}}, (s.number + 1) % {{ids:bigint}}))
   ORDER BY j.ticket_id DESC LIMIT 1
), t AS MATERIALIZED (
  SELECT t.id, t.status, n.row_id FROM {TICKET} t JOIN named n ON n.ticket_id = t.id FOR UPDATE OF t
), old AS MATERIALIZED (
  SELECT j.ticket_id, j.token, j.state, j.sending_at, t.status, m.id AS row_id, m.name,
         ({finished}) AS finishes, j.state = 'sending' OR j.state = 'printed' AS twice
    FROM kps.job j JOIN t ON t.id = j.ticket_id JOIN mine m ON m.id = t.row_id FOR UPDATE OF j
), job AS (
  UPDATE kps.job j
     SET maybe_at = array_remove(j.maybe_at, old.name), late_proof = j.late_proof || old.name,
         told_back = array_remove(j.told_back, old.name),
         proof = CASE WHEN old.finishes THEN 'process_id' ELSE j.proof END,
         printed_on = CASE WHEN old.finishes THEN old.name ELSE j.printed_on END,
         -- a claimed one is withdrawn by its holder, who finds the ticket printed
         state = CASE WHEN old.finishes AND old.state <> 'claimed' THEN 'printed' ELSE j.state END,
         token = CASE WHEN old.finishes AND old.state <> 'claimed' THEN nextval('kps.token_seq') ELSE j.token END,
         finished_at = CASE WHEN old.finishes THEN clock_timestamp() ELSE j.finished_at END,
         not_before = CASE WHEN old.finishes THEN NULL ELSE j.not_before END,
         round_open = j.round_open AND NOT old.finishes,
         unreached = false, rescue_from = NULL
    FROM old WHERE j.ticket_id = old.ticket_id
  RETURNING j.ticket_id
), k AS (
  UPDATE {TICKET} k SET status = 'printed', printed_at = clock_timestamp(), error_message = ''
    FROM old WHERE k.id = old.ticket_id AND old.finishes
  RETURNING k.id
), done AS MATERIALIZED (
  SELECT old.ticket_id AS id, old.status AS before, CASE WHEN old.finishes THEN 'printed' ELSE old.status END AS status,
         old.row_id, old.name, old.twice, old.sending_at, t2.print_attempts
    FROM old JOIN job ON job.ticket_id = old.ticket_id JOIN {TICKET} t2 ON t2.id = old.ticket_id
), log AS ({log})
SELECT id, status, twice, (SELECT count(*) FROM k) AS finished FROM done""",
    )


def _came_back(schema: PosSchema) -> Statement:
    """A printer of mine can print again: what it may have printed from its memory goes on record, once per ticket."""
    log = _log(
        schema,
        "told JOIN " + TICKET + " t ON t.id = told.ticket_id",
        ticket_id="t.id",
        old_status="t.status",
        new_status="t.status",
        action="'retry'",
        printer_ip=_row_ip(schema, "told.row_id"),
        error_code="'may_have_printed'",
        error_message="told.name || ' can print again: a copy of this ticket may have come out there'",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', told.row_id,
          'printer_name', told.name, 'possible_duplicate', true)""",
    )
    return Statement(
        "came_back",
        f"""WITH mine AS MATERIALIZED (
  SELECT sp.id, btrim(sp.printer_name) AS name FROM {PRINTER} sp WHERE sp.id = ANY ({{rows:bigint[]}})
), found AS MATERIALIZED (
  SELECT j.ticket_id, m.id AS row_id, m.name FROM kps.job j JOIN mine m ON m.name = ANY (j.maybe_at)
   WHERE j.maybe_at <> '{{}}' AND m.name <> ALL (j.told_back)
     AND greatest(j.claimed_at, j.finished_at) > clock_timestamp() - interval '1 day'
   ORDER BY j.ticket_id FOR UPDATE OF j
), told AS (
  UPDATE kps.job j SET told_back = j.told_back || found.name FROM found WHERE j.ticket_id = found.ticket_id
  RETURNING j.ticket_id, found.row_id, found.name
), log AS ({log})
SELECT ticket_id FROM told ORDER BY ticket_id""",
    )


_UNPROVEN = Statement(
    "unproven",
    """SELECT ticket_id, maybe_at FROM kps.job
 WHERE maybe_at <> '{}' AND greatest(claimed_at, finished_at) > clock_timestamp() - interval '1 day'
 ORDER BY ticket_id DESC LIMIT 200""",
)
"""Tickets of the last day of which a copy may lie at a printer, newest first."""


def _health(schema: PosSchema) -> Statement:
    """One health row for each printer row of a device, written by its lease owner."""
    given = {
        "checked_at": "clock_timestamp()",
        "is_online": "{online:boolean}",
        "response_time_ms": "CASE WHEN {online:boolean} THEN greatest(1, {response:int}) END",
        "paper_status": "{paper:text}",
        "error_code": "{code:text}",
        "error_message": "{error:text}",
        "temperature_ok": "{temperature:boolean}",
        "cutter_ok": "{cutter:boolean}",
        "printer_id": "sp.id",
    }
    used = [name for name in schema.health_columns if name in given]
    if not used:
        return Statement("health", "SELECT 1 WHERE false")
    # Parameters that are not in the column list would leave the statement's signature: name them all once.
    all_parameters = " AND ".join(
        f"({{{name}}} IS NOT NULL OR true)"
        for name in (
            "online:boolean", "response:int", "paper:text", "code:text", "error:text",
            "temperature:boolean", "cutter:boolean",
        )
    )  # fmt: skip
    return Statement(
        "health",
        f"""INSERT INTO {HEALTH} ({", ".join(used)})
SELECT {", ".join(given[name] for name in used)} FROM {PRINTER} sp
 WHERE sp.id = ANY ({{rows:bigint[]}}) AND {all_parameters}
   AND EXISTS (SELECT 1 FROM kps.printer p WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}}
                  AND p.expires_at > clock_timestamp())
RETURNING 1""",
    )


def _prune_health(schema: PosSchema) -> Statement:
    """Delete the old health rows of the printer rows of one device, some at a time."""
    if not schema.health_columns:
        return Statement("prune_health", "SELECT 1 WHERE false")
    return Statement(
        "prune_health",
        f"""DELETE FROM {HEALTH} WHERE id IN (
  SELECT h.id FROM {HEALTH} h WHERE h.printer_id = ANY ({{rows:bigint[]}})
     AND h.checked_at < clock_timestamp() - {{days:float8}} * interval '1 day' ORDER BY h.id LIMIT 5000)
RETURNING 1""",
    )


def _counts() -> Statement:
    """The queue in numbers, for /health and /metrics; `today` is the database's day."""
    return Statement(
        "counts",
        f"""SELECT count(*) FILTER (WHERE t.status = 'new') AS new, count(*) FILTER (WHERE t.status = 'printing')
       AS printing,
       (SELECT count(*) FROM {TICKET} f WHERE f.status = 'failed'
           AND f.created_at >= date_trunc('day', clock_timestamp())) AS failed_today,
       (SELECT count(*) FROM kps.job j WHERE j.state = 'printed'
           AND j.finished_at >= date_trunc('day', clock_timestamp())) AS printed_today,
       coalesce(extract(epoch FROM clock_timestamp() - min(t.created_at) FILTER (WHERE t.status = 'new')),
         0)::float8 AS oldest_new_age_s
  FROM {TICKET} t WHERE t.status IN ('new', 'printing')""",
    )
