"""The life of work, the same for every kind: claimed, promised, settled, or given back; never by an old token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from kps.core.routing import ClaimFor
from kps.core.tickets import NotPrinted, Outcome, Printed, ProofLevel, Reason, Token, Uncertain, Unprintable
from kps.core.work import Promised, Seen, Work, WorkKind
from kps.database.dispatcher_queue import Reconciled
from kps.database.printer_queue import ClaimLost, LeaseEnded
from kps.database.role import Released
from tests.database.house import House, Instance

PRINTED = Printed(ProofLevel.FENCE, 300)
NOT_PRINTED = NotPrinted(Reason.REFUSED, "refused")
UNCERTAIN = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)
UNPRINTABLE = Unprintable(Reason.UNRENDERABLE, "it cannot be drawn")


@dataclass(frozen=True)
class Kind:
    """What a test must know of a kind of work."""

    make: Callable[[House], int]
    """A new open piece of it for a kitchen printer."""
    seen: Callable[[Instance], list[Seen]]
    """What a look finds of it now."""
    table: str
    """Its table in schema kps, and that table's key."""
    key: str
    open_again: str
    """Its state there when it is to be printed once more."""


def a_slip(house: House) -> int:
    """A slip for whichever printer; answers its id."""
    house.pos.execute(
        "INSERT INTO kps.slip (dedupe_key, kind, station, brand, timezone, content, expires_at)"
        " SELECT gen_random_uuid()::text, 'outage', 'kitchen', '', 'UTC',"
        ' \'{"printer": "kitchen-2", "reason": "paper_out", "since": null}\','
        " clock_timestamp() + interval '30 minutes'"
    )
    return int(house.pos.rows("SELECT max(id) AS id FROM kps.slip")[0]["id"])


KINDS = {
    WorkKind.TICKET: Kind(lambda house: house.pos.ticket(), lambda one: [*one.queue.look(100)], "job", "ticket_id",
                          "requeued"),
    WorkKind.SLIP: Kind(a_slip, lambda one: [*one.queue.look_slips()], "slip", "id", "new"),
}  # fmt: skip


class Scene:
    """One piece of work of one kind, and what can be done with it."""

    def __init__(self, house: House, one: Instance, kind: WorkKind) -> None:
        self.house = house
        self.one = one
        self.kind = kind
        self.id = self.make()

    def make(self) -> int:
        """One more piece of the same kind."""
        return KINDS[self.kind].make(self.house)

    def row(self, number: int = 0) -> dict[str, object]:
        """Its row in schema kps."""
        kind = KINDS[self.kind]
        return self.house.pos.rows(f"SELECT * FROM kps.{kind.table} WHERE {kind.key} = %s", [number or self.id])[0]

    def is_open(self) -> bool:
        """Whether it is to be printed once more, and a look finds it."""
        state = self.row()["state"]
        return state == KINDS[self.kind].open_again and any(
            seen.id == self.id for seen in KINDS[self.kind].seen(self.one)
        )

    def seen(self, by: Instance | None = None, number: int = 0) -> Seen:
        """As a look sees it now."""
        return next(seen for seen in KINDS[self.kind].seen(by or self.one) if seen.id == (number or self.id))

    def claim_seen(self, seen: Seen, on: str = "kitchen-1", by: Instance | None = None) -> list[Work]:
        """Claim what a look has seen; [] = it is not so any more."""
        who, row = by or self.one, self.house.row(on)
        taken = who.queue.claim(self.kind, [(seen, ClaimFor(row, ""), who.epochs.get(row.key, 0))])
        assert all(claimed.key == row.key for claimed in taken)
        return [claimed.work for claimed in taken]

    def claim(self, on: str = "kitchen-1", number: int = 0) -> Work:
        """Look, and claim it."""
        (work,) = self.claim_seen(self.seen(number=number), on)
        return work

    def promise(self, work: Work, on: str = "kitchen-1") -> Promised:
        """Promise that bytes of it may leave."""
        return self.one.queue.promise(work, [self.house.row(on).id], need_s=1.0, late_after_minutes=5.0)

    def take(self, on: str = "kitchen-1") -> tuple[Work, Promised]:
        """Claim and promise it."""
        work = self.claim(on)
        return work, self.promise(work, on)

    def settle(self, work: Work, outcome: Outcome) -> str:
        """Write what became of it."""
        return self.one.queue.settle(work, outcome, duration_ms=40, again_s=0.0)

    def next_is_marked(self) -> bool:
        """Whether the paper of the next copy, at the backup, says that there may be another one."""
        return self.take("kitchen-2")[1].marked


@pytest.fixture(params=WorkKind)
def scene(house: House, one: Instance, request: pytest.FixtureRequest) -> Scene:
    return Scene(house, one, request.param)


def test_it_is_claimed_promised_and_printed(scene: Scene) -> None:
    work = scene.claim()
    row = scene.row()
    assert (work.kind, work.id, row["token"], row["state"]) == (scene.kind, scene.id, work.token, "claimed")
    assert (row["printer_key"], row["printer_name"]) == (scene.house.row("kitchen-1").key, "kitchen-1")

    promised = scene.promise(work)
    assert promised.content.id == scene.id
    assert (promised.marked, promised.sends, scene.row()["sends"], scene.row()["state"]) == (False, 1, 1, "sending")

    assert scene.settle(work, PRINTED) == "printed"
    row = scene.row()
    assert (row["state"], row["proof"], row["settled_token"], row["maybe_at"]) == ("printed", "fence", work.token, [])
    assert row["token"] != work.token


@pytest.mark.parametrize(
    ("outcome", "marked"),
    [
        (NOT_PRINTED, False),
        (UNCERTAIN, True),
        (replace(UNCERTAIN, cleared=True), True),
    ],
)
def test_what_is_not_printed_is_open_again_and_marked_if_bytes_have_left(
    scene: Scene, outcome: Outcome, marked: bool
) -> None:
    work, _ = scene.take()
    assert scene.settle(work, outcome) == "new"
    assert scene.is_open()
    assert scene.row()["sends"] == int(marked)
    assert scene.next_is_marked() == marked


def test_what_cannot_be_drawn_has_failed(scene: Scene) -> None:
    work, _ = scene.take()
    assert scene.settle(work, UNPRINTABLE) == "failed"
    assert (scene.row()["state"], scene.row()["sends"]) == ("failed", 0)


def test_what_a_printer_could_not_take_is_settled_without_a_promise(scene: Scene) -> None:
    work = scene.claim()
    assert scene.settle(work, NOT_PRINTED) == "new"
    assert scene.is_open()
    assert not scene.next_is_marked()


@pytest.mark.parametrize("outcome", [PRINTED, NOT_PRINTED, UNCERTAIN, UNPRINTABLE])
def test_an_outcome_that_is_written_twice_counts_once(scene: Scene, outcome: Outcome) -> None:
    work, _ = scene.take()
    first = scene.settle(work, outcome)
    row = scene.row()
    assert scene.settle(work, outcome) == first
    assert scene.row() == row


def test_one_claim_is_promised_once(scene: Scene) -> None:
    work, _ = scene.take()
    with pytest.raises(ClaimLost):
        scene.promise(work)
    assert scene.row()["sends"] == 1


def test_a_lease_that_has_ended_forbids_the_first_byte(scene: Scene) -> None:
    work = scene.claim()
    scene.house.let_lease_end(scene.house.row("kitchen-1"))
    with pytest.raises(LeaseEnded):
        scene.promise(work)
    assert (scene.row()["state"], scene.row()["sends"]) == ("claimed", 0)


def test_what_is_released_is_open_again_and_unmarked(scene: Scene) -> None:
    work = scene.claim()
    assert scene.one.queue.release([work], "stopping") == Released(1, frozenset())
    assert scene.is_open()
    assert scene.one.queue.release([work], "again") == Released(0, frozenset())
    assert not scene.next_is_marked()


def test_what_is_promised_is_not_released(scene: Scene) -> None:
    work, _ = scene.take()
    assert scene.one.queue.release([work], "stopping").count == 0
    assert scene.row()["state"] == "sending"


def test_all_kinds_are_released_at_once(house: House, one: Instance) -> None:
    scenes = [Scene(house, one, kind) for kind in WorkKind]
    works = [scene.claim() for scene in scenes]
    assert one.queue.release(works, "stopping") == Released(len(scenes), frozenset())
    assert all(scene.is_open() for scene in scenes)
    assert one.queue.release([], "stopping") == Released(0, frozenset())


def test_what_nobody_holds_is_given_back(scene: Scene) -> None:
    held, lost, elsewhere = scene.claim(), scene.claim(number=scene.make()), scene.claim("kitchen-2", scene.make())
    key = scene.house.row("kitchen-1").key
    assert scene.one.queue.reconcile(key, [held.token]) == Reconciled(1, 0)
    states = [scene.row(work.id)["state"] for work in (held, lost, elsewhere)]
    assert states == ["claimed", KINDS[scene.kind].open_again, "claimed"]
    assert not scene.promise(held).marked
    assert scene.one.queue.reconcile(key, []) == Reconciled(0, 0), "what is promised stays"


@pytest.mark.parametrize("committed", [True, False])
def test_what_surely_was_not_sent_goes_back_unmarked(scene: Scene, committed: bool) -> None:
    work = scene.claim()
    if committed:
        scene.promise(work)
    scene.one.queue.unsent(work, again_s=0.0)
    assert scene.is_open()
    assert scene.row()["sends"] == 0
    row = scene.row()
    scene.one.queue.unsent(work, again_s=0.0)
    assert scene.row() == row, "the reply to the first one was lost"
    assert not scene.next_is_marked()


def test_an_old_token_changes_nothing(scene: Scene, two: Instance) -> None:
    old = scene.claim()
    scene.house.let_lease_end(scene.house.row("kitchen-2"))
    two.acquire(scene.house.row("kitchen-2"))
    scene.one.queue.release([old], "stopping")
    (new,) = scene.claim_seen(scene.seen(two), "kitchen-2", two)
    before = scene.row()
    assert new.token > old.token

    with pytest.raises(ClaimLost):
        scene.promise(old)
    for outcome in (PRINTED, NOT_PRINTED, UNCERTAIN, UNPRINTABLE):
        with pytest.raises(ClaimLost):
            scene.settle(old, outcome)
    assert scene.one.queue.release([old], "stopping").count == 0
    if scene.kind is WorkKind.TICKET:
        scene.one.queue.unsent(old, again_s=0.0)  # a job doesn't say who had given it back
    else:
        with pytest.raises(ClaimLost):
            scene.one.queue.unsent(old, again_s=0.0)

    assert scene.row() == before


def test_what_does_not_exist_is_nobodys(scene: Scene) -> None:
    nothing = Work(scene.kind, 0, Token(0))
    with pytest.raises(ClaimLost):
        scene.promise(nothing)
    with pytest.raises(ClaimLost):
        scene.settle(nothing, PRINTED)


def test_a_decision_on_an_older_look_takes_no_effect(scene: Scene) -> None:
    seen = scene.seen()
    work = scene.claim()
    assert scene.claim_seen(seen, "kitchen-2") == []
    assert scene.one.queue.give_up(scene.kind, [seen], error="x", code="x") == []
    scene.one.queue.release([work], "stopping")
    assert scene.claim_seen(seen) == []
    assert scene.one.queue.give_up(scene.kind, [seen], error="x", code="x") == []
    assert scene.is_open()


def test_nothing_is_claimed_under_a_lease_that_is_not_ours(scene: Scene, two: Instance) -> None:
    assert scene.claim_seen(scene.seen(), by=two) == []
    scene.house.let_lease_end(scene.house.row("kitchen-1"))
    assert scene.claim_seen(scene.seen()) == []


def test_what_is_given_up_has_failed_and_is_seen_no_more(scene: Scene) -> None:
    other = scene.make()
    seen = [scene.seen(), scene.seen(number=other)]
    assert sorted(scene.one.queue.give_up(scene.kind, seen, error="too old", code="stale")) == sorted([scene.id, other])
    assert scene.one.queue.give_up(scene.kind, seen, error="too old", code="stale") == []
    assert (scene.row()["state"], scene.row()["error"]) == ("failed", "too old")
    assert KINDS[scene.kind].seen(scene.one) == []


@pytest.mark.parametrize("promised", [True, False])
def test_what_a_dead_process_held_is_open_and_marked_only_if_promised(scene: Scene, promised: bool) -> None:
    work = scene.claim()
    if promised:
        scene.promise(work)
    scene.one.release_dead(scene.house.row("kitchen-1"))
    copy = scene.take("kitchen-2")[1]
    assert copy.marked == promised
    with pytest.raises(ClaimLost):
        scene.settle(work, PRINTED)


def test_several_are_claimed_at_once_each_for_its_printer(scene: Scene) -> None:
    other, here, there = scene.make(), scene.house.row("kitchen-1"), scene.house.row("kitchen-2")
    epochs = scene.one.epochs
    taken = scene.one.queue.claim(
        scene.kind,
        [
            (scene.seen(), ClaimFor(here, ""), epochs[here.key]),
            (scene.seen(number=other), ClaimFor(there, ""), epochs[there.key]),
        ],
    )
    assert {(claimed.key, claimed.work.id) for claimed in taken} == {(here.key, scene.id), (there.key, other)}
    assert len({claimed.work.token for claimed in taken}) == 2
