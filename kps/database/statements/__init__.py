"""The text of every statement about tickets, jobs and leases, fitted to the age of the POS's schema.

Each is one transaction. All times are the database's clock. The order of locks is: family, lease, ticket, job; so no
two statements of ours wait for each other. A job's token changes with every transition, so a decision taken on an
older look never takes effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from kps.database.connection import Statement
from kps.database.schema import PosSchema
from kps.database.statements import dispatching, keeping, paper, printing, slips
from kps.database.statements.parts import CHANNEL_PRINTER, CHANNEL_TICKET

__all__ = ["CHANNEL_PRINTER", "CHANNEL_TICKET", "Statements", "statements"]


@dataclass(frozen=True, slots=True)
class Statements:
    """Every statement of the queue, by verb."""

    look: Statement
    skip_tokens: Statement
    claim: Statement
    sending_first: Statement
    sending: Statement
    preview: Statement
    whereabouts: Statement
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
    cut_loans: Statement
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
    recent_id: Statement
    torn: Statement
    health: Statement
    prune_health: Statement
    counts: Statement
    make_slips: Statement
    look_slips: Statement
    claim_slip: Statement
    give_up_slip: Statement
    sending_slip: Statement
    standing_slip: Statement
    settle_slip: Statement
    release_slips: Statement
    reconcile_slips: Statement


def statements(schema: PosSchema) -> Statements:
    """All statements for this age of schema."""
    return Statements(
        look=dispatching.look(schema),
        skip_tokens=dispatching.SKIP_TOKENS,
        claim=dispatching.claim(schema),
        sending_first=paper.sending_first(schema),
        sending=paper.sending(schema),
        preview=paper.preview(schema),
        whereabouts=paper.whereabouts(schema),
        standing=printing.standing(),
        withdraw=printing.withdraw(),
        settle=printing.settle(schema),
        settled=printing.settled(),
        release=printing.release(schema),
        unsent=printing.unsent(schema),
        reconcile=dispatching.reconcile(schema),
        end_round=dispatching.end_round(schema),
        give_up=dispatching.give_up(schema),
        wait=dispatching.WAIT,
        stale=dispatching.stale(schema),
        rescuable=dispatching.rescuable(schema),
        rescue=dispatching.rescue(schema),
        acquire=keeping.acquire(schema),
        renew=keeping.RENEW,
        cut_loans=keeping.CUT_LOANS,
        yield_lease=keeping.YIELD,
        lapse=keeping.LAPSE,
        expire_owner=keeping.EXPIRE_OWNER,
        release_dead=keeping.release_dead(schema),
        orphans=keeping.orphans(),
        adopt=keeping.adopt(schema),
        sweep=keeping.sweep(),
        next_due=dispatching.next_due(),
        rows=keeping.rows(schema),
        printers=keeping.PRINTERS,
        set_state=printing.SET_STATE,
        demote=printing.DEMOTE,
        late_proof=printing.late_proof(schema),
        came_back=printing.came_back(schema),
        recent_id=printing.RECENT_ID,
        torn=printing.TORN,
        health=printing.health(schema),
        prune_health=printing.prune_health(schema),
        counts=keeping.counts(),
        make_slips=slips.make(schema),
        look_slips=slips.LOOK,
        claim_slip=slips.CLAIM,
        give_up_slip=slips.GIVE_UP,
        sending_slip=slips.sending(schema),
        standing_slip=slips.STANDING,
        settle_slip=slips.SETTLE,
        release_slips=slips.RELEASE,
        reconcile_slips=slips.RECONCILE,
    )
