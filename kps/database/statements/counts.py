"""The queue in numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from kps.database.connection import Statement
from kps.database.pos import PosAdapter
from kps.database.statements.fragments import POS_BEHIND_S

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


def counts(pos: PosAdapter) -> Statement[Counts]:
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
       (SELECT count(*) FROM {pos.tickets} f WHERE f.status = 'failed'
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
                  FROM (SELECT t.printer_target, {pos.brand_of()}::text AS brand, t.key
                          FROM (SELECT t.*, coalesce(j.printer_key, '') AS key FROM {pos.tickets} t
                                  LEFT JOIN kps.job j ON j.ticket_id = t.id AND j.state = 'claimed'
                                 WHERE t.status IN ('new', 'printing') AND (t.status = 'new' OR j.state = 'claimed')
                                 LIMIT {WAITING_MOST}) t
                          LEFT JOIN {pos.bills} b ON b.id = t.bill_id) w
                 GROUP BY 1, 2, 3) g) AS waiting
  FROM {pos.tickets} t WHERE t.status IN ('new', 'printing')""",
    )
