"""What the statements have in common: locks, conditions, log rows, and giving jobs back."""

from __future__ import annotations

from typing import NamedTuple

from kps.core.tickets import PrinterKey, TicketId
from kps.database.pos import PosAdapter
from kps.database.statements.work import left_at, live


class One(NamedTuple):
    """Something was done once."""

    one: int


class OneJob(NamedTuple):
    """The ticket of a job that it took effect on."""

    ticket_id: TicketId


class OneDevice(NamedTuple):
    """A device that it took effect on."""

    printer_key: PrinterKey


class ToldDevice(NamedTuple):
    """A device that it took effect on; everybody was told."""

    printer_key: PrinterKey
    told: int


class OnePosRow(NamedTuple):
    """A printer row of the POS that it took effect on."""

    id: int


class WokenTicket(NamedTuple):
    """A ticket that is `new` again; everybody was woken."""

    id: TicketId
    woken: int


class TicketStatus(NamedTuple):
    """What a ticket is now."""

    status: str


CHANNEL_TICKET = "kps_ticket_new"
"""Notified by the wake-up trigger and whenever KPS gives a ticket back."""
CHANNEL_PRINTER = "kps_printer"
"""Notified when a printer's state or owner changes."""

FAMILY_LOCK = 1_263_557_185
"""First key of the advisory lock that serialises the sending of an original and its reprints."""


POS_BEHIND_S = "(SELECT coalesce(max(c.behind_s), 0) FROM kps.clock c)"
"""Seconds to be added to the POS's time (`created_at`) to get the database's; see kps.core.clock."""


def covered(pos: PosAdapter) -> str:
    """Whether an instance with these STATIONS and BRANDS decides on ticket t with bill b; empty ones do not limit."""
    return f"""((cardinality({{stations:text[]}}) = 0 OR lower(btrim(t.printer_target)) = ANY ({{stations:text[]}}))
         AND (cardinality({{brands:text[]}}) = 0 OR EXISTS (SELECT 1 FROM {pos.brands} br WHERE br.id = {pos.brand_of()}
             AND (br.id::text = ANY ({{brands:text[]}}) OR lower(br.code) = ANY ({{brands:text[]}})))))"""


RESET = """(coalesce(j.state, '') IN ('printed', 'failed')
       OR (j.ticket_id IS NULL AND t.max_retries > 0 AND t.print_attempts >= t.max_retries))"""
"""An operator's reset of a `new` ticket; true or false, never NULL, so that NOT means what it says."""


ROUND_OPEN = "(coalesce(j.round_open, false) AND coalesce(j.state, '') NOT IN ('printed', 'failed'))"
"""Whether the ticket goes on with a round that has begun; a reset begins a new one."""


def job_left_at(when: str) -> str:
    """The same of job j: what a printer that can print again has told of its earlier copies is void."""
    return f"""{left_at("j", when)},
         told_back = CASE WHEN {when} THEN array_remove(j.told_back, j.printer_key) ELSE j.told_back END"""


LEFT_BEHIND = job_left_at("j.state = 'sending'")
"""When a sending is passed over: its lease has ended, and a hand has made its ticket `new`."""

PROVEN_LATE = "cardinality(j.late_proof) > 0"
"""Whether another copy of a ticket that is being sent has proven itself meanwhile: then no further one is needed."""


def requeue(
    pos: PosAdapter,
    held: str,
    reason: str,
    *,
    text: str,
    tail: str = "",
    before: str = "",
    death: str = "false",
    sent: bool = True,
    patient: bool = False,
) -> str:
    """CTEs that give the jobs of `held` (ticket_id, printer_key, token) back; a sending one may be on paper.

    `sent=False` is for a holder who knows that no byte has left. A ticket whose row somebody else has locked stays as
    it is, see LEFT; only who is `patient` waits for it.
    """
    skip = "" if patient else " SKIP LOCKED"
    unsent = "- CASE WHEN given.state = 'sending' THEN 1 ELSE 0 END" if not sent else ""
    may_lie = "given.state = 'sending'" if sent else "false"
    # The POS may have deleted the ticket: true or false all the same.
    came_out = f"given.state = 'sending' AND l.status IS NOT DISTINCT FROM 'printing' AND {PROVEN_LATE}"
    back = pos.update_tickets(
        "k",
        status="CASE job.state WHEN 'failed' THEN 'failed' WHEN 'printed' THEN 'printed' ELSE 'new' END",
        printed_at="CASE WHEN job.state = 'printed' THEN clock_timestamp() ELSE k.printed_at END",
        error_message="""CASE WHEN job.state = 'failed'
           THEN 'the printer process died twice while preparing this ticket' ELSE k.error_message END""",
        last_error_at="CASE WHEN job.state = 'failed' THEN clock_timestamp() ELSE k.last_error_at END",
    )
    log = pos.insert_log(
        "given JOIN back ON back.id = given.ticket_id",
        ticket_id="given.ticket_id",
        old_status="'printing'",
        new_status="back.status",
        action="""CASE back.status WHEN 'failed' THEN 'print_failed' WHEN 'printed' THEN 'print_success'
          ELSE 'retry' END""",
        printer_ip=pos.row_address("given.printer_id"),
        error_code="CASE WHEN back.status = 'failed' THEN 'poison' ELSE " + reason + " END",
        error_message="CASE WHEN back.status = 'failed' THEN back.error_message ELSE " + text + " END",
        metadata="""jsonb_build_object('instance', {instance:text}, 'printer_id', given.printer_id,
          'printer_name', given.printer_name, 'token', given.token, 'possible_duplicate', """
        + may_lie
        + ")",
    )
    return f"""{before} held AS MATERIALIZED ({held}),
locked AS MATERIALIZED (
  SELECT t.id, t.status FROM {pos.tickets} t JOIN held ON held.ticket_id = t.id ORDER BY t.id FOR UPDATE OF t{skip}
), passed AS MATERIALIZED (
  SELECT held.ticket_id, held.printer_key FROM held JOIN {pos.tickets} t ON t.id = held.ticket_id
   WHERE {"false" if patient else "NOT EXISTS (SELECT 1 FROM locked WHERE locked.id = held.ticket_id)"}
), given AS MATERIALIZED (
  SELECT j.ticket_id, j.state, j.printer_id, j.printer_name, j.token, ({death}) AS death, j.deaths
    FROM kps.job j JOIN held ON held.ticket_id = j.ticket_id AND held.token = j.token
   WHERE j.state IN ('claimed', 'sending') AND (SELECT count(*) FROM locked) >= 0
     AND NOT EXISTS (SELECT 1 FROM passed WHERE passed.ticket_id = j.ticket_id)
   ORDER BY j.ticket_id FOR UPDATE OF j
), job AS (
  UPDATE kps.job j
     SET state = CASE WHEN {came_out} THEN 'printed' WHEN l.status IN ('new', 'printing') THEN
                        CASE WHEN given.death AND given.deaths >= 1 AND l.status = 'printing' THEN 'failed'
                          ELSE 'requeued' END
                      WHEN l.status = 'printed' THEN 'printed' ELSE 'failed' END,
         token = nextval('kps.token_seq'), sends = j.sends {unsent},
         deaths = j.deaths + CASE WHEN given.death THEN 1 ELSE 0 END,
         {job_left_at(may_lie)},
         printed_on = CASE WHEN {came_out} THEN j.late_proof[1] ELSE j.printed_on END,
         proof = CASE WHEN {came_out} THEN 'process_id' ELSE j.proof END,
         round_open = j.round_open AND NOT ({came_out})
    FROM given LEFT JOIN locked l ON l.id = given.ticket_id
   WHERE j.ticket_id = given.ticket_id AND j.token = given.token
  RETURNING j.ticket_id, j.state
), back AS (
  {back}
    FROM job WHERE k.id = job.ticket_id AND k.status = 'printing'
  RETURNING k.id, k.status, k.error_message
), log AS ({log}) {tail}"""


LEFT = "(SELECT count(*) FROM passed WHERE passed.printer_key = a.printer_key)"
"""Tickets of printer a that `requeue` has passed over: somebody else has their rows locked. It is to be repeated."""


WOKEN = f"(SELECT count(pg_notify('{CHANNEL_TICKET}', '')) FROM back) AS woken"


GAVE_BACK = f"""SELECT (SELECT count(*) FROM job) AS released,
       (SELECT coalesce(array_agg(ticket_id), '{{}}') FROM passed) AS left, {WOKEN}"""
"""What came of a `requeue` whose holder wants to know it by ticket."""


def seen(pos: PosAdapter) -> str:
    """CTEs want, pick: tickets that are still as a look saw them, locked."""
    return f"""want AS MATERIALIZED (
  SELECT * FROM unnest({{ids:bigint[]}}, {{tokens:bigint[]}}) AS w(id, token)
), pick AS MATERIALIZED (
  SELECT t.id, t.print_attempts, t.max_retries, {RESET} AS reset, {ROUND_OPEN} AS round_open, j.state AS job_state
    FROM want w JOIN {pos.tickets} t ON t.id = w.id LEFT JOIN kps.job j ON j.ticket_id = t.id
   WHERE t.status = 'new' AND coalesce(j.token, 0) = w.token
     AND NOT (coalesce(j.state, '') IN ('claimed', 'sending') AND {live("j")})
   ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
)"""


AS_SEEN = "j.token = (SELECT w.token FROM want w WHERE w.id = excluded.ticket_id)"
