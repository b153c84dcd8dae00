"""The plan of faults: a pure function of its seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from tests.chaos.devices import DEVICES, LOSES_DATA, ROUTES, SHARES, Trouble
from tests.chaos.plan import KINDS, Fault, plan
from tests.chaos.test_chaos import SECONDS, SEEDS


def test_the_same_seed_makes_the_same_plan_and_another_seed_another_one() -> None:
    assert plan(7, 60.0, 3) == plan(7, 60.0, 3)
    assert plan(7, 60.0, 3) != plan(8, 60.0, 3)


@pytest.mark.parametrize("instances", [1, 3])
def test_every_kind_of_fault_comes_as_often_as_any_other(instances: int) -> None:
    counts = Counter(fault.kind for fault in plan(1, 600.0, instances))
    assert set(counts) == set(KINDS)
    assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("seed", range(20))
def test_all_faults_are_over_by_the_end_and_in_order_of_time(seed: int) -> None:
    faults = plan(seed, 30.0, 3)
    assert all(fault.at_s + fault.seconds <= 30.1 for fault in faults)
    assert all(one.at_s <= other.at_s for one, other in pairwise(faults))


@pytest.mark.parametrize("seed", range(20))
def test_a_printer_has_one_trouble_at_a_time(seed: int) -> None:
    troubles: dict[str, list[Fault]] = {}
    for fault in plan(seed, 120.0, 1):
        if isinstance(fault.kind, Trouble):
            troubles.setdefault(fault.target, []).append(fault)
    assert troubles
    for of_one in troubles.values():
        assert all(one.at_s + one.seconds <= other.at_s for one, other in pairwise(of_one))


def test_only_a_printer_that_proves_its_paper_may_lose_what_it_has_accepted() -> None:
    for device in DEVICES:
        if device.troubles & LOSES_DATA:
            assert device.level in ("process_id", "fence"), device.name


def test_every_station_has_a_primary_and_a_backup() -> None:
    stations = Counter(station for station, _ in ROUTES)
    assert stations == dict.fromkeys(SHARES, 2)
    assert {name for _, name in ROUTES} == {device.name for device in DEVICES}


@pytest.mark.parametrize("instances", SEEDS)
def test_the_fixed_seeds_bring_every_kind_of_fault(instances: int) -> None:
    assert {fault.kind for fault in plan(SEEDS[instances], SECONDS, instances)} == set(KINDS)
