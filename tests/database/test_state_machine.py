"""Any order of whatever may happen to tickets, on the real statements: no unmarked duplicate, and no ticket stuck.

The model is the paper: which copies were promised, where, with what heading, and whether bytes of them have left. It
believes neither in clocks nor in leases: a process may send bytes long after somebody has taken its printer over.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg2.extensions import connection as Connection

from kps.core.process_ids import IDS
from kps.core.routing import ClaimFor, PrinterRow, Waiting
from kps.core.tickets import Marks, NotPrinted, Outcome, Printed, ProofLevel, Reason, Uncertain, Unprintable
from kps.core.work import WorkKind
from kps.database.dispatcher_queue import Claimed
from kps.database.printer_queue import ClaimLost, LeaseEnded, Withdrawn
from tests.database.house import House, Instance, named

PICK = st.integers(0, 11)
"""Which of those there are; taken modulo their number, so that it shrinks to the first."""
OPEN = ("claimed", "sending")
ENDS = ("printed", "failed")
TURNS = 12
"""So many times everything that can go on does, at the end, until nothing is left to do."""
TABLES = ("kitchen_kitchenticketlog", "kitchen_kitchenticketitem", "kitchen_kitchenticket")


TROUBLES = (
    "lease_ends", "acquire", "acquire", "renew", "take_over", "rival", "rival", "process_dies",
    "process_dies_preparing", "host_dies", "new_dispatcher", "adopt", "take_over_by_a_lock", "process_dies_by_a_lock",
    "requeue_left", "requeue_left",
)  # fmt: skip
DECISIONS = ("look", "look", "claim", "claim", "round_ends", "last_round_ends", "give_up", "rescue", "time_passes")


class Fate(Enum):
    """What became of a promised copy, as far as the database has been told."""

    UNTOLD = "untold"
    PRINTED = "printed"
    UNCERTAIN = "uncertain"
    CLEARED = "cleared"
    """Thrown away by the printer: no copy."""
    NOTHING_LEFT = "nothing left"


FATES = st.sampled_from([None, Fate.PRINTED, Fate.PRINTED, Fate.UNCERTAIN, Fate.CLEARED])
"""How a try ends; None = it does not, for now."""


DEPTHS = st.sampled_from(["left", "left", "promised", "claimed"])


@dataclass(slots=True)
class Copy:
    """One promise: from then on bytes may leave, and only the process that holds it knows whether they did."""

    token: int
    printer: str
    process_id: int
    marked: bool
    left: bool = False
    fate: Fate = Fate.UNTOLD
    proven_late: bool = False

    @property
    def may_exist(self) -> bool:
        """Whether the database must take it for a piece of paper."""
        return self.fate not in (Fate.NOTHING_LEFT, Fate.CLEARED)

    @property
    def exists(self) -> bool:
        """Whether somebody in the kitchen may hold it."""
        return self.left and self.fate is not Fate.CLEARED


@dataclass(slots=True)
class Slip:
    """A ticket, with all that was ever promised for it."""

    parent: int | None
    copies: list[Copy] = field(default_factory=list)
    by_hand: bool = False
    """Somebody else wrote its status."""
    adopted: bool = False

    @property
    def sends(self) -> int:
        return sum(copy.fate is not Fate.NOTHING_LEFT for copy in self.copies)


@dataclass(slots=True)
class Held:
    """What a printer process has in its hands."""

    instance: Instance
    row: PrinterRow
    claimed: Claimed
    copy: Copy | None = None
    empty: bool = False


class Kitchen(RuleBasedStateMachine):
    """Three instances, two printers, a POS and its operators. `setting` is made once, and swept for every example."""

    setting: tuple[House, list[Instance]]
    till: Connection
    """Of the POS, for transactions that stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.house, self.instances = self.setting
        for table in ("kps.job", "kps.printer", "kps.instance", *TABLES):
            self.house.database.query(f"DELETE FROM {table}")
        for instance in self.instances:
            self.reborn(instance)
        self.rows = [self.house.row(name) for name in ("kitchen-1", "kitchen-2")]
        self.slips: dict[int, Slip] = {}
        self.held: list[Held] = []
        self.looks: dict[str, list[Waiting]] = {}

    def reborn(self, instance: Instance) -> None:
        """A supervisor starts: a new owner, who holds nothing."""
        instance.me = instance.queue.me = str(uuid.uuid4())
        instance.epochs = {}

    # -- what there is -------------------------------------------------------------------------------------------------

    def ticket(self, pick: int) -> int:
        return sorted(self.slips)[pick % len(self.slips)]

    def family(self, ticket: int) -> list[int]:
        """A ticket's original, and all reprints of that."""
        root = self.root(ticket)
        return [one for one in self.slips if self.root(one) == root]

    def root(self, ticket: int) -> int:
        while (parent := self.slips[ticket].parent) is not None:
            ticket = parent
        return ticket

    def job(self, ticket: int) -> Any:
        found = named(
            self.house.database,
            "SELECT j.*, EXISTS (SELECT 1 FROM kps.printer p WHERE p.printer_key = j.printer_key AND p.owner = j.owner "
            "AND p.epoch = j.epoch AND p.expires_at > clock_timestamp()) AS live FROM kps.job j WHERE ticket_id = %s",
            [ticket],
        )
        return found[0] if found else None

    # -- the POS -------------------------------------------------------------------------------------------------------

    @initialize()
    def open_shop(self) -> None:
        self.insert()
        self.begin_reprint(0)
        self.finish_reprint(0)
        self.instances[0].acquire(*self.rows)

    @rule(what=st.sampled_from(["insert", "begin_reprint", "reprint", "finish_reprint", "delete"]), pick=PICK)
    def the_pos_writes(self, what: str, pick: int) -> None:
        """Calls one of the functions below; few tickets, so that much happens to each."""
        few = len(self.slips) < 4
        if what == "insert" and few:
            self.insert()
        elif what in ("begin_reprint", "reprint") and self.slips and few:
            self.begin_reprint(pick)
        elif what == "delete" and self.slips and not few:
            self.delete(pick)
        if what in ("reprint", "finish_reprint"):
            self.finish_reprint(pick)

    def insert(self) -> None:
        self.slips[self.house.pos.ticket()] = Slip(None)

    def begin_reprint(self, pick: int) -> None:
        original = self.ticket(pick)
        self.slips[self.house.pos.begin_reprint(original)] = Slip(original)

    def finish_reprint(self, pick: int) -> None:
        half = [one for one in sorted(self.slips) if self.slips[one].parent and not self.house.pos.ticket_items(one)]
        if half:
            self.house.pos.finish_reprint(half[pick % len(half)])

    @rule(pick=PICK, status=st.sampled_from(["new", "new", "new", "failed", "printing"]))
    @precondition(lambda self: self.slips)
    def operator_writes(self, pick: int, status: str) -> None:
        """Reset, Mark as FAILED, or an old form that is saved."""
        ticket = self.ticket(pick)
        self.slips[ticket].by_hand = True
        self.house.pos.execute("UPDATE kitchen_kitchenticket SET status = %s WHERE id = %s", [status, ticket])

    def delete(self, pick: int) -> None:
        """One ticket; or the nightly purge, which takes everything, whatever it is doing."""
        if pick:
            ticket = self.ticket(pick)
            self.house.pos.delete_ticket(ticket)
            self.gone(ticket)
            return
        for table in TABLES:
            self.house.pos.execute(f"DELETE FROM {table}")
        for ticket in list(self.slips):
            self.gone(ticket)
        instance = self.instances[0]
        instance.database.run(instance.queue.sql.sweep, me=instance.me, after=0)

    def gone(self, ticket: int) -> None:
        """Nobody can know of its papers any more, and its reprints are tickets of their own."""
        del self.slips[ticket]
        for slip in self.slips.values():
            if slip.parent == ticket:
                slip.parent = None

    # -- leases and lives ----------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(TROUBLES), who=PICK, pick=PICK)
    def trouble(self, what: str, who: int, pick: int) -> None:
        """Calls one of the functions below."""
        getattr(self, what)(who, pick)

    def lease_ends(self, _: int, pick: int) -> None:
        self.house.let_lease_end(self.rows[pick % 2])

    def acquire(self, who: int, _: int) -> None:
        self.instances[who % 3].acquire(*self.rows)

    def renew(self, who: int, _: int) -> None:
        self.instances[who % 3].renew()

    def take_over(self, who: int, pick: int) -> None:
        """A lease ends while its owner is none the wiser, and another instance takes the printer."""
        self.lease_ends(who, pick)
        self.acquire(who, pick)

    def rival(self, who: int, pick: int) -> None:
        """While a process holds a ticket, another instance takes its printer over, and works on that very ticket."""
        if not self.held:
            return
        held = self.held[pick % len(self.held)]
        others = [instance for instance in self.instances if instance is not held.instance]
        other = others[who % 2]
        self.house.let_lease_end(held.row)
        other.acquire(held.row)
        for waiting in other.queue.look(100):
            if waiting.id == held.claimed.work.id and self.claim_seen(other, waiting, held.row):
                self.promise(self.held[-1])

    def take_over_by_a_lock(self, who: int, pick: int) -> None:
        """Another instance takes a printer over while the POS has a ticket locked that a process there holds."""
        if self.held:
            held = self.held[pick % len(self.held)]
            with self.locked(held):
                self.house.let_lease_end(held.row)
                self.instances[who % 3].acquire(held.row)

    def process_dies_by_a_lock(self, _: int, pick: int) -> None:
        if self.held:
            with self.locked(self.held[pick % len(self.held)]):
                self.kill(pick, blame=False)

    @contextmanager
    def locked(self, held: Held) -> Iterator[None]:
        self.till.cursor().execute(
            "SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [held.claimed.work.id]
        )
        try:
            yield
        finally:
            self.till.rollback()

    def requeue_left(self, who: int, _: int) -> None:
        self.instances[who % 3].requeue_left()

    def process_dies(self, _: int, pick: int) -> None:
        """The process that holds this is gone with all it held; its supervisor takes that back, if it is the owner."""
        self.kill(pick, blame=False)

    def process_dies_preparing(self, _: int, pick: int) -> None:
        """It died of what it was about to send."""
        self.kill(pick, blame=True)

    def kill(self, pick: int, *, blame: bool) -> None:
        if not self.held:
            return
        victim = self.held[pick % len(self.held)]
        instance, row = victim.instance, victim.row
        lost = [held for held in self.held if held.instance is instance and held.row is row]
        self.held = [held for held in self.held if held not in lost]
        blamed = next((held.claimed.work.token for held in lost if held.copy is None or not held.copy.left), 0)
        if row.key in instance.epochs:
            instance.release_dead(row, blamed if blame else 0)

    def host_dies(self, who: int, _: int) -> None:
        instance = self.instances[who % 3]
        self.held = [held for held in self.held if held.instance is not instance]
        self.looks.pop(instance.name, None)
        self.reborn(instance)

    def new_dispatcher(self, who: int, pick: int) -> None:
        """It asks the printer processes what they hold, and takes back what none of them has."""
        instance, row = self.instances[who % 3], self.rows[pick % 2]
        holds = [held.claimed.work.token for held in self.held if held.instance is instance and held.row is row]
        instance.queue.reconcile(row.key, holds)

    def adopt(self, who: int, _: int) -> None:
        """What is `printing` and accounted for by nobody; its time is up."""
        instance = self.instances[who % 3]
        orphans = instance.database.run(instance.queue.sql.orphans, me=instance.me, stations=[], brands=[])
        taken = instance.database.run(
            instance.queue.sql.adopt,
            ids=[row.id for row in orphans],
            tokens=[row.token for row in orphans],
            instance=instance.name,
        )
        for row in taken:
            self.slips[row.id].adopted = True

    # -- the dispatcher ------------------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(DECISIONS), who=PICK, pick=PICK)
    def the_dispatcher_decides(self, what: str, who: int, pick: int) -> None:
        """Calls one of the functions below."""
        getattr(self, what)(who, pick)

    def look(self, who: int, _: int) -> None:
        """What is decided later is decided on this."""
        instance = self.instances[who % 3]
        self.looks[instance.name] = instance.queue.look(100)

    def claim(self, who: int, pick: int) -> None:
        """By anybody for any printer, on whatever was seen last."""
        instance, row = self.instances[who % 3], self.rows[pick % 2]
        if seen := self.looks.get(instance.name):
            self.claim_seen(instance, seen[pick % len(seen)], row)

    @rule(pick=PICK, far=DEPTHS, fate=FATES)
    def work_at_the_first_printer(self, pick: int, far: str, fate: Fate | None) -> None:
        self.work(self.rows[0], pick, far, fate)

    @rule(pick=PICK, far=DEPTHS, fate=FATES)
    def work_at_the_second_printer(self, pick: int, far: str, fate: Fate | None) -> None:
        self.work(self.rows[1], pick, far, fate)

    def work(self, row: PrinterRow, pick: int, far: str, fate: Fate | None) -> None:
        """What is usual: the printer's owner looks, claims, promises, sends, settles. How far does it come?"""
        owner = next((one for one in self.instances if self.owns(one, row)), self.instances[pick % 3])
        owner.acquire(row)
        seen = owner.queue.look(100)
        if not seen or not self.claim_seen(owner, seen[pick % len(seen)], row):
            return
        held = self.held[-1]
        if far == "claimed" or not self.promise(held) or held.copy is None:
            return
        held.copy.left = far == "left" and not held.empty
        if fate is not None:
            self.conclude(held, fate)

    def owns(self, instance: Instance, row: PrinterRow) -> bool:
        """Whether it has a live lease, and knows its epoch."""
        return bool(
            self.house.database.query(
                "SELECT 1 FROM kps.printer WHERE printer_key = %s AND owner = %s AND epoch = %s "
                "AND expires_at > clock_timestamp()",
                [row.key, instance.me, instance.epochs.get(row.key, 0)],
            )
        )

    def claim_seen(self, instance: Instance, waiting: Waiting, row: PrinterRow) -> bool:
        before = self.job(waiting.id)
        taken = instance.queue.claim(WorkKind.TICKET, [(waiting, ClaimFor(row, ""), instance.epochs.get(row.key, 0))])
        for claimed in taken:
            assert before is None or not (before.state in OPEN and before.live), "claimed under somebody's nose"
            self.held.append(Held(instance, row, claimed))
        return bool(taken)

    def last_round_ends(self, who: int, pick: int) -> None:
        self.round_ends(who, pick, budget=1)

    def round_ends(self, who: int, pick: int, budget: int = 9) -> None:
        instance = self.instances[who % 3]
        if seen := self.looks.get(instance.name):
            instance.queue.end_round(
                [seen[pick % len(seen)]], ip="", code="x", error="x", delay_s=60.0 * (pick % 2), budget=budget
            )

    def give_up(self, who: int, pick: int) -> None:
        instance = self.instances[who % 3]
        if seen := self.looks.get(instance.name):
            instance.queue.give_up(WorkKind.TICKET, [seen[pick % len(seen)]], code="x", error="x", rescue=True)

    def rescue(self, who: int, _: int) -> None:
        instance = self.instances[who % 3]
        found = instance.queue.rescuable(30)
        for ticket in instance.queue.rescue([(ticket, token) for ticket, token, _, _ in found]):
            assert not self.slips[ticket].sends, "a rescue is for what has never left"

    def time_passes(self, *_: int) -> None:
        self.house.database.query("UPDATE kps.job SET not_before = clock_timestamp() WHERE not_before IS NOT NULL")

    # -- the printer processes -----------------------------------------------------------------------------------------

    @rule(pick=PICK, fate=FATES, twice=st.booleans())
    @precondition(lambda self: self.held)
    def go_on(self, pick: int, fate: Fate | None, twice: bool) -> None:
        """The next step of something that a process holds: promise, first byte, outcome; or it is given back."""
        held = self.held[pick % len(self.held)]
        if held.copy is None and fate is None:
            held.instance.queue.release([held.claimed.work], "stopping")
            self.held.remove(held)
        elif held.copy is None:
            self.promise(held)
        elif held.copy.left or held.empty or fate is Fate.CLEARED:
            self.conclude(held, fate or Fate.UNCERTAIN, twice)
        elif fate is None:
            self.lose_promise(held)
        else:
            # No lease, and no time-out, is asked: whoever has the promise may send.
            held.copy.left = True

    def promise(self, held: Held) -> bool:
        """Ask for the right to send; a process that sends already does not ask. Checks what the paper will say."""
        if any(one.copy and one.instance is held.instance and one.row is held.row for one in self.held):
            return False
        ticket = int(held.claimed.work.id)
        known = ticket in self.slips
        try:
            sending = held.instance.send(held.claimed)
        except LeaseEnded:
            return False
        except (ClaimLost, Withdrawn):
            self.held.remove(held)
            return False
        assert known, "a ticket that is gone is not sent"
        marks = sending.ticket.marks
        marked = marks.possible_duplicate or marks.reprint is not None
        copy = Copy(int(held.claimed.work.token), held.row.name, sending.ids.number % (IDS - 1), marked)
        held.copy, held.empty = copy, not sending.ticket.items
        self.slips[ticket].copies.append(copy)
        self.check_heading(ticket, copy, marks)
        return True

    def check_heading(self, ticket: int, now: Copy, marks: Marks) -> None:
        """The paper says what the model knows of the ticket and its relations, and no more."""
        family = [self.slips[one] for one in self.family(ticket)]
        earlier = [copy for slip in family for copy in slip.copies if copy.may_exist and copy is not now]
        assert now.marked or not earlier, f"{earlier} may exist, and the paper does not say so"
        unsure = any(slip.adopted for slip in family)
        assert not now.marked or earlier or unsure, "marked, and it is the only copy that can exist"
        cleared = {copy.printer for slip in family for copy in slip.copies if copy.fate is Fate.CLEARED}
        assert cleared <= {*marks.moved_from, *marks.check_printers}, "part of it may lie there"

    def conclude(self, held: Held, fate: Fate, twice: bool = False) -> None:
        """Write the outcome; `twice` because the reply was lost."""
        assert held.copy is not None
        if held.empty:
            fate = Fate.NOTHING_LEFT
            outcome: Outcome = Unprintable(Reason.NO_ITEMS, "no items")
        elif not held.copy.left:
            fate, outcome = Fate.NOTHING_LEFT, NotPrinted(Reason.REFUSED, "refused")
        else:
            outcomes: dict[Fate, Outcome] = {
                Fate.PRINTED: Printed(ProofLevel.FENCE, 300),
                Fate.UNCERTAIN: Uncertain(Reason.CONNECTION_LOST, "lost", 120, False),
                Fate.CLEARED: Uncertain(Reason.PAPER_OUT, "paper out", 300, True, True),
            }
            outcome = outcomes[fate]
        self.held.remove(held)
        job = self.job(held.claimed.work.id)
        mine = job is not None and job.token == held.claimed.work.token
        try:
            status = held.instance.settle(held.claimed, outcome)
        except ClaimLost:
            assert not mine, "it was still his"
            return
        assert mine, "somebody else may print this ticket now"
        held.copy.fate = fate
        if twice:
            assert held.instance.settle(held.claimed, outcome) == status

    def lose_promise(self, held: Held) -> None:
        """The reply to the promise was lost, so nothing was sent: that is written, when the database is back."""
        self.held.remove(held)
        before = self.job(held.claimed.work.id)
        held.instance.queue.unsent(held.claimed.work, again_s=0.0)
        if held.copy and before is not None and before.token == held.claimed.work.token:
            held.copy.fate = Fate.NOTHING_LEFT

    @rule(who=PICK, pick=PICK)
    @precondition(lambda self: any(slip.copies for slip in self.slips.values()))
    def late_proof(self, who: int, pick: int) -> None:
        """A printer says, too late, that a copy did come out."""
        late = [
            copy
            for slip in self.slips.values()
            for copy in slip.copies
            if copy.exists and copy.fate in (Fate.UNTOLD, Fate.UNCERTAIN) and not copy.proven_late
            and not any(held.copy is copy for held in self.held)
        ]  # fmt: skip
        if not late:
            return
        copy = late[pick % len(late)]
        row = next(row for row in self.rows if row.name == copy.printer)
        found = self.instances[who % 3].queue.late_proof(row.key, [row.id], copy.process_id % (IDS - 1))
        if found is not None:
            for one in self.slips[found.ticket].copies:
                one.proven_late = one.proven_late or one.printer == row.name

    # -- what must stay true -------------------------------------------------------------------------------------------

    @invariant()
    def at_most_one_copy_is_unmarked(self) -> None:
        for root in {self.root(ticket) for ticket in self.slips}:
            copies = [copy for one in self.family(root) for copy in self.slips[one].copies if copy.exists]
            assert sum(not copy.marked for copy in copies) <= 1, copies

    @invariant()
    def the_job_tells_what_may_have_left(self) -> None:
        rows = {row.ticket_id: row for row in named(self.house.database, "SELECT * FROM kps.job")}
        for ticket, slip in self.slips.items():
            job = rows.get(ticket)
            sends = 0 if job is None else job.sends
            assert sends >= slip.sends if slip.adopted else sends == slip.sends, (job, slip)
            if job is None:
                continue
            assert job.cleared == sum(copy.fate is Fate.CLEARED for copy in slip.copies)
            loose = {
                copy.printer
                for copy in slip.copies
                if copy.fate in (Fate.UNTOLD, Fate.UNCERTAIN) and not copy.proven_late and copy.token != job.token
            }
            assert loose <= set(job.maybe_at), (job, slip)

    @invariant()
    def ticket_and_job_agree(self) -> None:
        """Where nobody else has written the status."""
        found = named(
            self.house.database,
            "SELECT t.id, t.status, coalesce(j.state, '') AS state FROM kitchen_kitchenticket t "
            "LEFT JOIN kps.job j ON j.ticket_id = t.id",
        )
        assert {row.id for row in found} == set(self.slips)
        for row in found:
            slip = self.slips[row.id]
            if slip.by_hand:
                continue
            agreed = {"new": ("", "waiting", "requeued"), "printing": OPEN, "failed": ("failed",)}
            late = ("claimed",) if any(copy.proven_late for copy in slip.copies) else ()
            assert row.state in agreed.get(row.status, ("printed", *late)), row
            if row.status == "printed":
                assert any(copy.exists for copy in slip.copies), "printed, and there is no paper"

    # -- the end -------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everybody dies; then one instance with two good printers is left, and all comes to an end."""
        self.held.clear()
        for row in self.rows:
            self.house.let_lease_end(row)
        instance = self.instances[0]
        self.reborn(instance)
        instance.acquire(*self.rows)
        for _ in range(TURNS):
            self.time_passes()
            self.adopt(0, 0)
            seen = instance.queue.look(100)
            if not seen:
                break
            for waiting in seen:
                if self.claim_seen(instance, waiting, self.rows[waiting.id % 2]):
                    self.finish(self.held[-1])
        left = named(
            self.house.database,
            "SELECT id, status FROM kitchen_kitchenticket WHERE status <> ALL (%s)",
            [list(ENDS)],
        )
        assert not left, f"stuck: {left}, {[self.job(row.id) for row in left]}"
        self.at_most_one_copy_is_unmarked()
        self.the_job_tells_what_may_have_left()

    def finish(self, held: Held) -> None:
        if self.promise(held):
            assert held.copy is not None
            held.copy.left = not held.empty
            self.conclude(held, Fate.PRINTED)


@pytest.mark.timeout(600)  # seconds when it passes; a failure is made small first
def test_whatever_happens_in_whatever_order_no_copy_is_doubled_unmarked_and_no_ticket_is_stuck(house: House) -> None:
    class Here(Kitchen):
        setting = (house, [house.instance(name) for name in ("one", "two", "three")])
        till = house.target.connect(autocommit=False)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
