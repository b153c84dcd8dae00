"""What a printer process does with its device and its tickets: promise, settle, prove late, tell of itself."""

from __future__ import annotations

from typing import NamedTuple

from kps.core.tickets import TicketId
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import (
    CHANNEL_PRINTER,
    CHANNEL_TICKET,
    GAVE_BACK,
    PROVEN_LATE,
    WOKEN,
    One,
    OneJob,
    OnePosRow,
    TicketStatus,
    ToldDevice,
    job_left_at,
    requeue,
)
from kps.database.statements.work import GivenBack, Settled, Standing, Unsent, taken_back


def standing(pos: PosAdapter) -> Statement[Standing]:
    """Why a promise was refused, or whether an outcome whose reply was lost has been written after all."""
    return Statement(
        "standing",
        Standing,
        f"""SELECT j.state, coalesce(j.token = {{token:bigint}}, false) AS mine,
       coalesce(j.settled_token = {{token:bigint}}, false) AS settled, coalesce(t.status = 'printing', false) AS wanted,
       t.status
  FROM (SELECT {{id:bigint}} AS id) x LEFT JOIN {pos.tickets} t ON t.id = x.id
  LEFT JOIN kps.job j ON j.ticket_id = x.id""",
    )


def withdraw(pos: PosAdapter) -> Statement[TicketStatus]:
    """A claimed ticket that somebody took out of `printing`: the job follows the ticket."""
    return Statement(
        "withdraw",
        TicketStatus,
        f"""WITH t AS MATERIALIZED (SELECT t.id, t.status FROM {pos.tickets} t WHERE t.id = {{id:bigint}} FOR UPDATE)
UPDATE kps.job j
   SET state = CASE coalesce((SELECT status FROM t), 'gone') WHEN 'new' THEN 'requeued' WHEN 'printed' THEN 'printed'
                 ELSE 'failed' END,
       settled_token = j.token, token = nextval('kps.token_seq'), finished_at = clock_timestamp(),
       round_open = coalesce((SELECT status FROM t), 'gone') = 'new', error = 'withdrawn'
 WHERE j.ticket_id = {{id:bigint}} AND j.token = {{token:bigint}} AND j.state = 'claimed'
   AND coalesce((SELECT status FROM t), 'gone') <> 'printing'
RETURNING coalesce((SELECT status FROM t), 'gone') AS status""",
    )


def settle(pos: PosAdapter) -> Statement[Settled]:
    """What became of a ticket at a printer, with its log row and its statistics. Retry: the next printer, please."""
    log = pos.insert_log(
        "old CROSS JOIN t JOIN k ON k.id = t.id",
        ticket_id="t.id",
        old_status="t.status",
        new_status="k.status",
        action="CASE WHEN {outcome:text} = 'printed' THEN 'print_success' ELSE 'print_failed' END",
        printer_ip=pos.row_address("old.printer_id"),
        error_code="{code:text}",
        error_message="{error:text}",
        duration_ms="CASE WHEN {outcome:text} = 'printed' THEN greatest(1, {duration:int}) END",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', old.printer_id,
          'printer_name', old.printer_name, 'attempt', k.print_attempts, 'token', old.token,
          'failover_from', nullif(old.backup_for, '')) || {metadata:jsonb}""",
    )
    # A copy that was given up before has proven itself while this one was under way; false where the POS has deleted
    # the ticket.
    came_out = f"(coalesce((SELECT status FROM t), '') IN ('printing', 'failed') AND {PROVEN_LATE})"
    moved = "{cleared:boolean} AND j.printer_key <> ALL (j.moved_keys)"
    status = """CASE WHEN job.state = 'printed' AND t.status IN ('printing', 'failed') THEN 'printed'
        WHEN {outcome:text} = 'printed' AND t.status IN ('printing', 'failed') THEN 'printed'
        WHEN {outcome:text} = 'failed' AND t.status = 'printing' THEN 'failed'
        WHEN {outcome:text} = 'retry' AND t.status = 'printing' THEN 'new' ELSE t.status END"""
    written = pos.update_tickets(
        "k",
        status=status,
        printed_at="""CASE WHEN {outcome:text} = 'printed' AND t.status <> 'new' OR job.state = 'printed'
                            AND t.status IN ('printing', 'failed') THEN clock_timestamp() ELSE k.printed_at END""",
        error_message="""CASE WHEN {outcome:text} = 'printed' OR job.state = 'printed' THEN ''
                              WHEN t.status = 'printing' THEN {error:text} ELSE k.error_message END""",
        last_error_at="""CASE WHEN {outcome:text} <> 'printed' AND t.status = 'printing' THEN clock_timestamp()
                              ELSE k.last_error_at END""",
    )
    counted = pos.update_printers(
        "sp",
        total_prints="sp.total_prints + 1",
        failed_prints="sp.failed_prints + CASE WHEN {outcome:text} = 'printed' THEN 0 ELSE 1 END",
        last_print_at="CASE WHEN {outcome:text} = 'printed' THEN clock_timestamp() ELSE sp.last_print_at END",
        last_error_at="CASE WHEN {outcome:text} = 'printed' THEN sp.last_error_at ELSE clock_timestamp() END",
        last_error_message="CASE WHEN {outcome:text} = 'printed' THEN sp.last_error_message ELSE {error:text} END",
    )
    return Statement(
        "settle",
        Settled,
        f"""WITH t AS MATERIALIZED (
  SELECT t.id, t.status FROM {pos.tickets} t WHERE t.id = {{id:bigint}} FOR UPDATE
), old AS MATERIALIZED (
  SELECT j.ticket_id, j.token, j.printer_id, j.printer_name, j.backup_for FROM kps.job j
   WHERE j.ticket_id = {{id:bigint}} AND j.token = {{token:bigint}} AND j.state IN ('claimed', 'sending')
     AND (SELECT count(*) FROM t) >= 0 FOR UPDATE
), job AS (
  UPDATE kps.job j
     SET state = CASE WHEN {{outcome:text}} = 'printed' OR {came_out} THEN 'printed'
                      WHEN {{outcome:text}} = 'failed' THEN 'failed'
                      WHEN (SELECT status FROM t) IN ('printing', 'new') THEN 'requeued'
                      WHEN (SELECT status FROM t) = 'printed' THEN 'printed' ELSE 'failed' END,
         settled_token = j.token, token = nextval('kps.token_seq'), finished_at = clock_timestamp(),
         sends = {taken_back("j", "{sent:boolean}")},
         {job_left_at("{outcome:text} <> 'printed' AND {sent:boolean} AND NOT {cleared:boolean}")},
         cleared = j.cleared + CASE WHEN {{cleared:boolean}} THEN 1 ELSE 0 END,
         moved_from = CASE WHEN {moved} THEN j.moved_from || j.printer_name ELSE j.moved_from END,
         moved_keys = CASE WHEN {moved} THEN j.moved_keys || j.printer_key ELSE j.moved_keys END,
         tried = CASE WHEN {{outcome:text}} = 'retry' THEN j.tried || j.printer_key ELSE j.tried END,
         round_open = {{outcome:text}} = 'retry' AND NOT {came_out},
         proof = CASE WHEN {{outcome:text}} = 'printed' THEN {{proof:text}} WHEN {came_out} THEN 'process_id' END,
         printed_on = CASE WHEN {{outcome:text}} = 'printed' THEN j.printer_name WHEN {came_out} THEN j.late_proof[1]
                           ELSE j.printed_on END,
         forced_printer = CASE WHEN {{outcome:text}} = 'printed' THEN NULL ELSE j.forced_printer END,
         deaths = 0, unreached = false, failed_attempts = NULL, rescue_from = NULL, error = {{error:text}}
    FROM old WHERE j.ticket_id = old.ticket_id AND j.token = old.token
  RETURNING j.ticket_id, j.state
), k AS (
  {written}
    FROM t, job WHERE k.id = t.id AND t.id = job.ticket_id
  RETURNING k.id, k.status, k.print_attempts
), log AS ({log}), stats AS (
  {counted}
    FROM old WHERE sp.id = old.printer_id AND {{asked:boolean}}
  RETURNING 1
)
SELECT (SELECT count(*) FROM job) AS settled, (SELECT max(status) FROM k) AS status,
       (SELECT count(pg_notify('{CHANNEL_TICKET}', '')) FROM k WHERE k.status = 'new') AS woken""",
    )


def release(pos: PosAdapter) -> Statement[GivenBack]:
    """The holder gives claimed tickets back, unmarked: no byte of them has left."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.token = ANY ({tokens:bigint[]}) AND j.ticket_id = ANY ({ids:bigint[]}) AND j.state = 'claimed'"""
    body = requeue(pos, held, "'released'", text="{text:text}")
    return Statement("release", GivenBack, f"WITH {body} {GAVE_BACK}")


def unsent(pos: PosAdapter) -> Statement[Unsent]:
    """The holder gives a ticket back of which no byte has left, although the promise may have been committed."""
    held = """SELECT j.ticket_id, j.printer_key, j.token FROM kps.job j
   WHERE j.ticket_id = {id:bigint} AND j.token = {token:bigint} AND j.state IN ('claimed', 'sending')"""
    body = requeue(
        pos, held, "'released'", text="'the database was away before the first byte'", sent=False, patient=True
    )
    # A job doesn't say who had given it back, an earlier try of the same or a successor: so none counts as lost.
    return Statement(
        "unsent", Unsent, f"WITH {body} SELECT (SELECT count(*) FROM job) AS released, false AS lost, {WOKEN}"
    )


SET_STATE = Statement(
    "set_state",
    ToldDevice,
    f"""WITH p AS (
  UPDATE kps.printer p
     SET state = {{state:text}}, state_text = {{text:text}}, paper = {{paper:text}}, checked_at = clock_timestamp(),
         state_since = CASE WHEN p.state = {{state:text}} THEN p.state_since ELSE clock_timestamp() END,
         able_since = CASE WHEN {{state:text}} = 'ready' AND p.state <> 'ready' THEN clock_timestamp()
                           ELSE p.able_since END,
         unable_since = CASE WHEN {{state:text}} NOT IN ('ready', 'starting')
                              AND (p.unable_since IS NULL OR p.able_since > p.unable_since) THEN clock_timestamp()
                             ELSE p.unable_since END,
         response_ms = {{response:int}}, answers = coalesce({{answers:boolean}}, p.answers),
         cover_open = {{cover_open:boolean}}, cutter_ok = {{cutter_ok:boolean}}
   WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}} AND p.epoch = {{epoch:bigint}}
  RETURNING p.printer_key
)
SELECT printer_key, (SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told FROM p""",
)
"""The owner's process says what its device is like."""


def say_why(pos: PosAdapter) -> Statement[OnePosRow]:
    """The POS's own rows name what is wrong with their device, unless another instance has it; no try is counted.

    What is no `news` is said where nothing was said, or nothing in the last minute.
    """
    return Statement(
        "say_why",
        OnePosRow,
        f"""WITH pick AS MATERIALIZED (
  -- A form of the POS that is being saved keeps nobody waiting: its row is told the next time.
  SELECT sp.id, left(w.text, 255) AS text FROM {pos.printers} sp
    JOIN unnest({{rows:bigint[]}}, {{keys:text[]}}, {{texts:text[]}}) AS w(id, key, text) ON w.id = sp.id
   WHERE NOT EXISTS (SELECT 1 FROM kps.printer p WHERE p.printer_key = w.key AND p.owner <> {{me:uuid}}
                        AND p.expires_at > clock_timestamp())
     AND ({{news:boolean}} OR sp.last_error_message = '' OR sp.last_error_at IS NULL
       OR sp.last_error_at < clock_timestamp() - interval '1 minute')
   ORDER BY sp.id FOR NO KEY UPDATE OF sp SKIP LOCKED
)
{pos.update_printers("sp", last_error_message="pick.text", last_error_at="clock_timestamp()")}
  FROM pick WHERE sp.id = pick.id
RETURNING sp.id""",
    )


DEMOTE = Statement(
    "demote",
    ToldDevice,
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


class LateProven(NamedTuple):
    """A ticket of which a copy did come out."""

    id: TicketId
    status: str
    twice: bool
    cleared: bool
    finished: int


def late_proof(pos: PosAdapter) -> Statement[LateProven]:
    """A printer of mine has said the process ID of a sending that was given up: that copy did come out.

    If no other copy is under way the ticket is printed by that; if one is, its settle knows that none is needed after
    it. `rows` are the ids of the device's printer rows, `value` the number of the process ID modulo `ids`.
    """
    log = pos.insert_log(
        "done",
        ticket_id="done.id",
        old_status="done.before",
        new_status="done.status",
        action="'print_success'",
        printer_ip=pos.row_address("done.row_id"),
        error_message="""CASE WHEN done.twice THEN 'it came out twice: on ' || done.name || ' too'
          WHEN done.state = 'sending' THEN 'it came out on ' || done.name || ', and another copy is under way'
          ELSE '' END""",
        duration_ms="greatest(1, extract(epoch FROM clock_timestamp() - done.claimed_at) * 1000)::int",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', done.row_id,
          'printer_name', done.name, 'attempt', done.print_attempts, 'proof', 'process_id', 'level', 'process_id',
          'proven', true, 'late', true, 'twice', done.twice)""",
    )
    # Only what KPS itself gave up, or a person cancelled, becomes printed; a reset by the operator wants a new copy.
    finished = """(j.state = 'requeued' AND t.status = 'new') OR (j.state = 'claimed' AND t.status = 'printing')
          OR (j.state IN ('requeued', 'claimed', 'failed') AND t.status = 'failed')"""

    def without(names: str, keys: str) -> str:
        at = f"array_position(j.{keys}, {{key:text}})"
        return f"CASE WHEN {at} IS NULL THEN j.{names} ELSE j.{names}[:{at} - 1] || j.{names}[{at} + 1:] END"

    finish = pos.update_tickets(
        "k",
        status="'printed'",
        printed_at="clock_timestamp()",
        error_message="''",
        printer_ip=f"coalesce({pos.ticket_address_of(pos.row_address('old.row_id'))}, k.printer_ip)",
    )
    return Statement(
        "late_proof",
        LateProven,
        f"""WITH named AS MATERIALIZED (
  SELECT j.ticket_id FROM kps.job j
   WHERE (j.maybe_keys <> '{{}}' OR j.moved_keys <> '{{}}')
     AND ({{key:text}} = ANY (j.maybe_keys) OR {{key:text}} = ANY (j.moved_keys))
     AND EXISTS (SELECT 1 FROM unnest(j.process_ids) AS s(number)
                  WHERE {{value:bigint}} IN (s.number % {{ids:bigint}}, (s.number + 1) % {{ids:bigint}}))
   ORDER BY j.ticket_id DESC LIMIT 1
), t AS MATERIALIZED (
  SELECT t.id, t.status FROM {pos.tickets} t JOIN named n ON n.ticket_id = t.id FOR UPDATE OF t
), old AS MATERIALIZED (
  SELECT j.ticket_id, j.token, j.state, j.claimed_at, t.status, ({finished}) AS finishes,
         j.state = 'printed' AS twice,
         -- the one that it had thrown away; not the one that is still being sent, as its holder left it
         {{key:text}} <> ALL (j.maybe_keys) AND NOT (j.state = 'sending' AND j.printer_key = {{key:text}} AND
           {{value:bigint}} IN (j.process_ids[cardinality(j.process_ids)] % {{ids:bigint}},
                                (j.process_ids[cardinality(j.process_ids)] + 1) % {{ids:bigint}})) AS cleared,
         (SELECT min(sp.id) FROM {pos.printers} sp WHERE sp.id = ANY ({{rows:bigint[]}})) AS row_id,
         coalesce(j.maybe_at[array_position(j.maybe_keys, {{key:text}})],
                  j.moved_from[array_position(j.moved_keys, {{key:text}})]) AS name
    FROM kps.job j JOIN t ON t.id = j.ticket_id
   WHERE {{key:text}} = ANY (j.maybe_keys) OR {{key:text}} = ANY (j.moved_keys) FOR UPDATE OF j
), job AS (
  UPDATE kps.job j
     SET maybe_at = {without("maybe_at", "maybe_keys")}, maybe_keys = array_remove(j.maybe_keys, {{key:text}}),
         -- what an earlier copy there has left of itself before it was thrown away is still there
         moved_from = CASE WHEN old.cleared THEN {without("moved_from", "moved_keys")} ELSE j.moved_from END,
         moved_keys = CASE WHEN old.cleared THEN array_remove(j.moved_keys, {{key:text}}) ELSE j.moved_keys END,
         cleared = CASE WHEN old.cleared THEN greatest(j.cleared - 1, 0) ELSE j.cleared END,
         late_proof = j.late_proof || old.name, told_back = array_remove(j.told_back, {{key:text}}),
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
  {finish}
    FROM old WHERE k.id = old.ticket_id AND old.finishes
  RETURNING k.id
), done AS MATERIALIZED (
  SELECT old.ticket_id AS id, old.status AS before, CASE WHEN old.finishes THEN 'printed' ELSE old.status END AS status,
         old.row_id, old.name, old.twice, old.cleared, old.state, old.claimed_at, t2.print_attempts
    FROM old JOIN job ON job.ticket_id = old.ticket_id JOIN {pos.tickets} t2 ON t2.id = old.ticket_id
), log AS ({log})
SELECT id, status, twice, cleared, (SELECT count(*) FROM k) AS finished FROM done""",
    )


def came_back(pos: PosAdapter) -> Statement[OneJob]:
    """A printer of mine can print again: what it may have printed from its memory goes on record, once per ticket."""
    log = pos.insert_log(
        f"told JOIN {pos.tickets} t ON t.id = told.ticket_id",
        ticket_id="t.id",
        old_status="t.status",
        new_status="t.status",
        action="'retry'",
        printer_ip=pos.row_address("told.row_id"),
        error_code="'may_have_printed'",
        error_message="told.name || ' can print again: a copy of this ticket may have come out there'",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', told.row_id,
          'printer_name', told.name, 'possible_duplicate', true)""",
    )
    return Statement(
        "came_back",
        OneJob,
        f"""WITH locked AS MATERIALIZED (
  -- the log rows refer to the tickets: they are locked first, as everywhere
  SELECT t.id FROM {pos.tickets} t WHERE t.id IN (
    SELECT j.ticket_id FROM kps.job j
     WHERE (j.maybe_keys <> '{{}}' OR j.moved_keys <> '{{}}') AND {{key:text}} = ANY (j.maybe_keys)
       AND {{key:text}} <> ALL (j.told_back)
       AND greatest(j.claimed_at, j.finished_at) > clock_timestamp() - interval '3 days')
   ORDER BY t.id FOR KEY SHARE OF t
), found AS MATERIALIZED (
  SELECT j.ticket_id, j.maybe_at[array_position(j.maybe_keys, {{key:text}})] AS name,
         (SELECT min(sp.id) FROM {pos.printers} sp WHERE sp.id = ANY ({{rows:bigint[]}})) AS row_id
    FROM kps.job j JOIN locked ON locked.id = j.ticket_id
   WHERE {{key:text}} = ANY (j.maybe_keys) AND {{key:text}} <> ALL (j.told_back)
   ORDER BY j.ticket_id FOR UPDATE OF j
), told AS (
  UPDATE kps.job j SET told_back = j.told_back || {{key:text}} FROM found WHERE j.ticket_id = found.ticket_id
  RETURNING j.ticket_id, found.row_id, found.name
), log AS ({log})
SELECT ticket_id FROM told ORDER BY ticket_id""",
    )


class Torn(NamedTuple):
    """Whether something has no proven end."""

    torn: bool


TORN = Statement(
    "torn",
    Torn,
    """SELECT EXISTS (SELECT 1 FROM kps.job j
                WHERE (j.maybe_keys <> '{}' OR j.moved_keys <> '{}') AND {key:text} = ANY (j.maybe_keys)
                  AND j.sending_at > clock_timestamp() - interval '1 day')
    -- what a dead process was sending may be given back only after its successor has asked
    OR EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = {key:text} AND j.state = 'sending')
    OR EXISTS (SELECT 1 FROM kps.slip s
                WHERE ({key:text} = ANY (s.maybe_keys) OR (s.printer_key = {key:text} AND s.state = 'sending'))
                  AND s.created_at > clock_timestamp() - interval '1 day') AS torn""",
)
"""Whether something that was sent to a device has no proven end."""


class RecentId(NamedTuple):
    """Whether it is one of the last."""

    recent: bool


RECENT_ID = Statement(
    "recent_id",
    RecentId,
    """SELECT mod(mod(last_value + 4 - {value:bigint}, {ids:bigint}) + {ids:bigint}, {ids:bigint}) < 400000 AS recent
  FROM kps.process_id_seq""",
)
"""Whether a process ID is one of the last 100,000 sendings', whichever instance and printer they were of."""


def health(pos: PosAdapter) -> Statement[One]:
    """One health row for each printer row of a device, written by its lease owner."""
    insert = pos.insert_health(
        f"{pos.printers} sp",
        checked_at="clock_timestamp()",
        is_online="{online:boolean}",
        response_time_ms="CASE WHEN {online:boolean} THEN greatest(1, {response:int}) END",
        paper_status="{paper:text}",
        error_code="{code:text}",
        error_message="{error:text}",
        temperature_ok="{temperature:boolean}",
        cutter_ok="{cutter:boolean}",
        printer_id="sp.id",
    )
    if not insert:
        return Statement("health", One, "SELECT 1 AS one WHERE false")
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
        One,
        f"""{insert}
 WHERE sp.id = ANY ({{rows:bigint[]}}) AND {all_parameters}
   AND EXISTS (SELECT 1 FROM kps.printer p WHERE p.printer_key = {{key:text}} AND p.owner = {{me:uuid}}
                  AND p.expires_at > clock_timestamp())
RETURNING 1 AS one""",
    )
