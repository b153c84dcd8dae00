"""The keeper of the leases: how patient it is, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from kps.config import load
from kps.core.tickets import PrinterKey
from kps.database.statements.leases import LEASE_TTL_S
from kps.process.clocks import boottime
from kps.process.shared_stats import LeaseCell, SharedStats
from kps.supervisor.lease_keeper import (
    LONGEST_REPLY_S,
    RENEW_EVERY_S,
    SHORTEST_REPLY_S,
    Borrowed,
    LeaseKeeper,
    LeaseLost,
    ToRenew,
    patience,
)
from tests.conftest import eventually
from tests.database.house import House, Instance
from tests.service.harness import environment


@dataclass(slots=True)
class Heard:
    """What a keeper has told."""

    events: list[LeaseLost | Borrowed] = field(default_factory=list)
    free: list[list[PrinterKey]] = field(default_factory=list)
    overlong: int = 0


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def keeper(house: House, one: Instance, heard: Heard, tmp_path: object) -> Iterator[LeaseKeeper]:
    """Of the instance `one`, which owns both printers."""
    settings = load(environment(house.target, tmp_path))  # type: ignore[arg-type]

    def overlong() -> None:
        heard.overlong += 1

    made = LeaseKeeper(
        settings, one.me, post=heard.events.append, wake=lambda: None, on_free=heard.free.append, on_overlong=overlong
    )
    made.shown = frozenset(row.key for row in house.rows())
    shared = SharedStats()
    made.to_renew = {
        row.key: ToRenew(one.epochs[row.key], shared.pair(shared.take()).lease_cells) for row in house.rows()
    }
    made.thread.start()
    yield made
    made.quit()
    made.thread.join(10)
    assert not made.thread.is_alive()


def trusted_s(keeper: LeaseKeeper, key: PrinterKey) -> float:
    """For how long a printer's process may trust its lease."""
    return keeper.to_renew[key].lease_cells[LeaseCell.TRUST_UNTIL] - boottime()


def test_a_row_that_somebody_works_on_costs_no_other_lease_and_is_renewed_once_it_is_free(
    house: House, keeper: LeaseKeeper
) -> None:
    held, other = (house.row(name).key for name in ("kitchen-1", "kitchen-2"))
    somebody = house.target.connect(autocommit=False)
    somebody.cursor().execute("SELECT 1 FROM kps.printer WHERE printer_key = %s FOR UPDATE", [held])
    keeper.begin()
    eventually(lambda: trusted_s(keeper, other) > 0, what="the other lease is renewed")
    until = keeper.to_renew[other].lease_cells[LeaseCell.TRUST_UNTIL]
    eventually(lambda: keeper.to_renew[other].lease_cells[LeaseCell.TRUST_UNTIL] > until, what="and again")
    assert trusted_s(keeper, held) < 0
    assert (keeper.trouble, keeper.errors) == ("", 0)
    somebody.rollback()
    eventually(lambda: trusted_s(keeper, held) > 0, what="the lease of the printer that is free again")


def test_nothing_is_asked_before_the_tables_are_there(house: House, keeper: LeaseKeeper) -> None:
    keeper.look_now()
    keeper.look_now()
    assert keeper.devices == ()
    keeper.begin()
    eventually(lambda: len(keeper.devices) == 2, what="a view of the devices")


def test_who_has_taken_a_lease_is_told_but_not_about_one_that_we_have_taken_back(
    house: House, keeper: LeaseKeeper, heard: Heard, one: Instance, two: Instance
) -> None:
    lost, back = house.row("kitchen-1"), house.row("kitchen-2")
    for row in (lost, back):
        house.let_lease_end(row)
    two.acquire(lost, back)
    # Maintenance has taken it again since the view, and the keeper knows so.
    keeper.to_renew[back.key] = ToRenew(two.epochs[back.key] + 1, keeper.to_renew[back.key].lease_cells)
    keeper.begin()
    eventually(lambda: keeper.devices, what="a view of the devices")
    assert heard.events == [LeaseLost(lost.key)]


def test_devices_that_nobody_owns_are_told_if_they_are_wanted(house: House, keeper: LeaseKeeper, heard: Heard) -> None:
    free, unwanted = house.row("kitchen-1"), house.row("kitchen-2")
    for row in (free, unwanted):
        house.let_lease_end(row)
    keeper.wanted, keeper.unwanted = frozenset({free.key, unwanted.key}), frozenset({unwanted.key})
    keeper.begin()
    eventually(lambda: heard.free, what="a free device")
    assert heard.free[0] == [free.key]


def test_leases_are_renewed_by_a_new_connection_when_theirs_has_been_cut(house: House, keeper: LeaseKeeper) -> None:
    key = house.row("kitchen-1").key
    keeper.begin()
    eventually(lambda: trusted_s(keeper, key) > 0, what="a renewal")
    house.pos.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kps:leases'")
    eventually(lambda: keeper.errors, what="the keeper has noticed")
    until = keeper.to_renew[key].lease_cells[LeaseCell.TRUST_UNTIL]
    eventually(lambda: keeper.to_renew[key].lease_cells[LeaseCell.TRUST_UNTIL] > until, what="a renewal")
    eventually(lambda: keeper.trouble == "", what="it says that all is well again")


@pytest.mark.parametrize(
    ("connect_s", "reply_s"),
    [
        pytest.param(0.01, 0.002, id="near"),
        pytest.param(2.0, 0.5, id="far"),
        pytest.param(3.2, 0.8, id="very far"),
    ],
)
def test_a_renewal_without_an_answer_leaves_time_for_another_one(connect_s: float, reply_s: float) -> None:
    pause_s = max(reply_s, RENEW_EVERY_S - connect_s)
    given_up_after = patience(LEASE_TTL_S - pause_s, connect_s, reply_s)
    assert pause_s + given_up_after + connect_s < LEASE_TTL_S, "between two renewals in the database"


@pytest.mark.parametrize("reply_s", [0.0, 0.1, 0.8, 1.4])
def test_an_answer_twice_as_late_as_the_last_one_is_waited_for(reply_s: float) -> None:
    for trust_s in (-1.0, 0.0, 3.0, 6.0):
        found = patience(trust_s, 4 * reply_s, reply_s)
        assert max(SHORTEST_REPLY_S, 2 * reply_s) <= found <= LONGEST_REPLY_S
