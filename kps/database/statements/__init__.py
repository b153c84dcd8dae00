"""The text of every statement about tickets, jobs and leases, fitted to the age of the POS's schema.

Each is one transaction. All times are the database's clock. The order of locks is: family, lease, ticket, job; so no
two statements of ours wait for each other. A job's token changes with every transition, so a decision taken on an
older look never takes effect.
"""

from __future__ import annotations

from functools import cached_property

from kps.database.schema import PosSchema
from kps.database.statements import (
    counts,
    dispatching,
    leases,
    paper,
    printer_rows,
    printing,
    reclaiming,
    retention,
    slips,
)
from kps.database.statements.fragments import CHANNEL_PRINTER, CHANNEL_TICKET

__all__ = ["CHANNEL_PRINTER", "CHANNEL_TICKET", "Statements"]


class Statements:
    """Every statement of the queue, by verb. Made when first asked for: no process needs all of them."""

    def __init__(self, schema: PosSchema) -> None:
        self._schema = schema

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(name for name, kind in vars(cls).items() if isinstance(kind, cached_property))

    look = cached_property(lambda self: dispatching.look(self._schema))
    look_among = cached_property(lambda self: dispatching.look_among(self._schema))
    survey = cached_property(lambda self: dispatching.survey(self._schema))
    horizon = cached_property(lambda self: dispatching.horizon())
    newest = cached_property(lambda self: dispatching.NEWEST)
    skip_tokens = cached_property(lambda self: dispatching.SKIP_TOKENS)
    claim = cached_property(lambda self: dispatching.claim(self._schema))
    sending_first = cached_property(lambda self: paper.sending_first(self._schema))
    draft = cached_property(lambda self: paper.draft(self._schema))
    sending_drafted = cached_property(lambda self: paper.sending_drafted(self._schema))
    sending = cached_property(lambda self: paper.sending(self._schema))
    preview = cached_property(lambda self: paper.preview(self._schema))
    whereabouts = cached_property(lambda self: paper.whereabouts(self._schema))
    standing = cached_property(lambda self: printing.standing())
    withdraw = cached_property(lambda self: printing.withdraw())
    settle = cached_property(lambda self: printing.settle(self._schema))
    settled = cached_property(lambda self: printing.settled())
    release = cached_property(lambda self: printing.release(self._schema))
    unsent = cached_property(lambda self: printing.unsent(self._schema))
    reconcile = cached_property(lambda self: dispatching.reconcile(self._schema))
    end_round = cached_property(lambda self: dispatching.end_round(self._schema))
    give_up = cached_property(lambda self: dispatching.give_up(self._schema))
    wait = cached_property(lambda self: dispatching.WAIT)
    stale = cached_property(lambda self: dispatching.stale(self._schema))
    rescuable = cached_property(lambda self: dispatching.rescuable(self._schema))
    rescue = cached_property(lambda self: dispatching.rescue(self._schema))
    acquire = cached_property(lambda self: leases.acquire(self._schema))
    renew = cached_property(lambda self: leases.RENEW)
    cut_loans = cached_property(lambda self: leases.CUT_LOANS)
    yield_lease = cached_property(lambda self: leases.YIELD)
    lapse = cached_property(lambda self: leases.LAPSE)
    expire_owner = cached_property(lambda self: leases.EXPIRE_OWNER)
    release_dead = cached_property(lambda self: reclaiming.release_dead(self._schema))
    requeue_left = cached_property(lambda self: reclaiming.requeue_left(self._schema))
    orphans = cached_property(lambda self: reclaiming.orphans(self._schema))
    adopt = cached_property(lambda self: reclaiming.adopt(self._schema))
    sweep = cached_property(lambda self: retention.sweep())
    next_due = cached_property(lambda self: dispatching.next_due())
    pos_clock = cached_property(lambda self: dispatching.POS_CLOCK)
    learn_pos_clock = cached_property(lambda self: dispatching.LEARN_POS_CLOCK)
    speak = cached_property(lambda self: dispatching.SPEAK)
    rows = cached_property(lambda self: printer_rows.rows(self._schema))
    printers = cached_property(lambda self: leases.PRINTERS)
    set_state = cached_property(lambda self: printing.SET_STATE)
    say_why = cached_property(lambda self: printing.SAY_WHY)
    demote = cached_property(lambda self: printing.DEMOTE)
    late_proof = cached_property(lambda self: printing.late_proof(self._schema))
    came_back = cached_property(lambda self: printing.came_back(self._schema))
    recent_id = cached_property(lambda self: printing.RECENT_ID)
    torn = cached_property(lambda self: printing.TORN)
    health = cached_property(lambda self: printing.health(self._schema))
    prune_health = cached_property(lambda self: printing.prune_health(self._schema))
    counts = cached_property(lambda self: counts.counts(self._schema))
    make_slips = cached_property(lambda self: slips.make(self._schema))
    look_slips = cached_property(lambda self: slips.LOOK)
    claim_slip = cached_property(lambda self: slips.CLAIM)
    give_up_slip = cached_property(lambda self: slips.GIVE_UP)
    sending_slip = cached_property(lambda self: slips.sending(self._schema))
    standing_slip = cached_property(lambda self: slips.STANDING)
    settle_slip = cached_property(lambda self: slips.SETTLE)
    release_slips = cached_property(lambda self: slips.RELEASE)
    reconcile_slips = cached_property(lambda self: slips.RECONCILE)
