"""The text of every statement about tickets, jobs and leases, fitted to the age of the POS's schema.

Each is one transaction. All times are the database's clock. The order of locks is: family, lease, ticket, job; so no
two statements of ours wait for each other. A job's token changes with every transition, so a decision taken on an
older look never takes effect.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, assert_never

from kps.core.work import WorkKind
from kps.database.connection import Statement
from kps.database.pos import PosAdapter
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
from kps.database.statements.work import Verbs

__all__ = ["CHANNEL_PRINTER", "CHANNEL_TICKET", "Statements"]


class _Lazily:
    """Statements by name. Each is made when first asked for: no process needs all of them."""

    def __init__(self, pos: PosAdapter) -> None:
        self._pos = pos

    def every(self) -> list[Statement[Any]]:
        """All of them."""
        found = [getattr(self, name) for name, kind in vars(type(self)).items() if isinstance(kind, cached_property)]
        return [one for some in found for one in (some.every() if isinstance(some, _Lazily) else [some])]


class Tickets(_Lazily):
    """The life of a ticket as work."""

    claim = cached_property(lambda self: dispatching.claim(self._pos))
    promise_first = cached_property(lambda self: paper.promise_first(self._pos))
    promise = cached_property(lambda self: paper.promise(self._pos))
    standing = cached_property(lambda self: printing.standing(self._pos))
    withdraw = cached_property(lambda self: printing.withdraw(self._pos))
    settle = cached_property(lambda self: printing.settle(self._pos))
    unsent = cached_property(lambda self: printing.unsent(self._pos))
    release = cached_property(lambda self: printing.release(self._pos))
    reconcile = cached_property(lambda self: dispatching.reconcile(self._pos))
    give_up = cached_property(lambda self: dispatching.give_up(self._pos))


class Slips(_Lazily):
    """The life of a slip as work."""

    claim = cached_property(lambda self: slips.CLAIM)
    promise = cached_property(lambda self: slips.promise(self._pos))
    standing = cached_property(lambda self: slips.STANDING)
    settle = cached_property(lambda self: slips.SETTLE)
    unsent = cached_property(lambda self: slips.UNSENT)
    release = cached_property(lambda self: slips.RELEASE)
    reconcile = cached_property(lambda self: slips.RECONCILE)
    give_up = cached_property(lambda self: slips.GIVE_UP)


class Statements(_Lazily):
    """Every statement of the queue, by verb; those of a kind of work by their kind."""

    tickets = cached_property(lambda self: Tickets(self._pos))
    slips = cached_property(lambda self: Slips(self._pos))

    def of(self, kind: WorkKind) -> Verbs:
        """What is done with work of this kind."""
        match kind:
            case WorkKind.TICKET:
                return self.tickets
            case WorkKind.SLIP:
                return self.slips
            case unexpected:
                assert_never(unexpected)

    look = cached_property(lambda self: dispatching.look(self._pos))
    look_among = cached_property(lambda self: dispatching.look_among(self._pos))
    survey = cached_property(lambda self: dispatching.survey(self._pos))
    horizon = cached_property(lambda self: dispatching.horizon(self._pos))
    newest = cached_property(lambda self: dispatching.newest(self._pos))
    skip_tokens = cached_property(lambda self: dispatching.SKIP_TOKENS)
    preview = cached_property(lambda self: paper.preview(self._pos))
    whereabouts = cached_property(lambda self: paper.whereabouts(self._pos))
    end_round = cached_property(lambda self: dispatching.end_round(self._pos))
    wait = cached_property(lambda self: dispatching.wait(self._pos))
    stale = cached_property(lambda self: dispatching.stale(self._pos))
    rescuable = cached_property(lambda self: dispatching.rescuable(self._pos))
    rescue = cached_property(lambda self: dispatching.rescue(self._pos))
    acquire = cached_property(lambda self: leases.acquire(self._pos))
    renew = cached_property(lambda self: leases.RENEW)
    cut_loans = cached_property(lambda self: leases.CUT_LOANS)
    yield_lease = cached_property(lambda self: leases.YIELD)
    lapse = cached_property(lambda self: leases.LAPSE)
    expire_owner = cached_property(lambda self: leases.EXPIRE_OWNER)
    release_dead = cached_property(lambda self: reclaiming.release_dead(self._pos))
    requeue_left = cached_property(lambda self: reclaiming.requeue_left(self._pos))
    orphans = cached_property(lambda self: reclaiming.orphans(self._pos))
    adopt = cached_property(lambda self: reclaiming.adopt(self._pos))
    sweep = cached_property(lambda self: retention.sweep(self._pos))
    next_due = cached_property(lambda self: dispatching.next_due(self._pos))
    pos_clock = cached_property(lambda self: dispatching.POS_CLOCK)
    learn_pos_clock = cached_property(lambda self: dispatching.LEARN_POS_CLOCK)
    speak = cached_property(lambda self: dispatching.SPEAK)
    rows = cached_property(lambda self: printer_rows.rows(self._pos))
    printers = cached_property(lambda self: leases.PRINTERS)
    set_state = cached_property(lambda self: printing.SET_STATE)
    say_why = cached_property(lambda self: printing.say_why(self._pos))
    demote = cached_property(lambda self: printing.DEMOTE)
    late_proof = cached_property(lambda self: printing.late_proof(self._pos))
    came_back = cached_property(lambda self: printing.came_back(self._pos))
    recent_id = cached_property(lambda self: printing.RECENT_ID)
    torn = cached_property(lambda self: printing.TORN)
    health = cached_property(lambda self: printing.health(self._pos))
    prune_health = cached_property(lambda self: retention.prune_health(self._pos))
    counts = cached_property(lambda self: counts.counts(self._pos))
    make_slips = cached_property(lambda self: slips.make(self._pos))
    look_slips = cached_property(lambda self: slips.LOOK)
