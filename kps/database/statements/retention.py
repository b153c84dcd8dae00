"""What is long over is forgotten."""

from __future__ import annotations

from typing import NamedTuple

from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import One

SWEEP_AT_ONCE = 5000


class Swept(NamedTuple):
    """What a sweep has come to."""

    jobs: int
    instances: int
    last: int | None
    more: bool


def sweep(pos: PosAdapter) -> Statement[Swept]:
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
       AND NOT EXISTS (SELECT 1 FROM {pos.tickets} t WHERE t.id = o.ticket_id OFFSET 0))
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


PRUNED_AT_ONCE = 500
"""Health rows that go in one statement: a ticket of the same printer waits for it."""


def prune_health(pos: PosAdapter) -> Statement[One]:
    """Delete the old health rows of the printer rows of one device, some at a time."""
    if not pos.health_columns:
        return Statement("prune_health", One, "SELECT 1 AS one WHERE false")
    return Statement(
        "prune_health",
        One,
        f"""DELETE FROM {pos.health_checks} WHERE id IN (
  SELECT old.id FROM unnest({{rows:bigint[]}}) AS r(id) CROSS JOIN LATERAL (
    SELECT h.id FROM {pos.health_checks} h WHERE h.printer_id = r.id
       AND h.checked_at < clock_timestamp() - {{days:float8}} * interval '1 day'
     ORDER BY h.checked_at LIMIT {PRUNED_AT_ONCE}) old
   LIMIT {PRUNED_AT_ONCE})
RETURNING 1 AS one""",
    )
