"""The plan of faults: a pure function of its seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.chaos.devices import DEVICES, LOSES_DATA, PAIRS, ROUTES, SHARES, Trouble
from tests.chaos.plan import (
    ANSWERING_BACK_S,
    BACK_S,
    CONNECTS_S,
    KINDS,
    REPLACED_S,
    STILL_ANSWERS,
    Fault,
    Harm,
    away,
    plan,
    without_printer,
)
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


def _in_trouble(faults: list[Fault], printer: str, at_s: float) -> bool:
    """Counted for itself: in a trouble of its own, or not surely back from it."""
    return any(
        fault.at_s <= at_s < fault.at_s + fault.seconds + (ANSWERING_BACK_S if fault.kind in STILL_ANSWERS else BACK_S)
        for fault in faults
        if isinstance(fault.kind, Trouble) and fault.target == printer
    )


@pytest.mark.parametrize("instances", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_of_each_station_one_printer_is_always_able_to_print(seed: int, instances: int) -> None:
    faults = plan(seed, 120.0, instances)
    for tenth in range(1400):
        for one, other in PAIRS:
            both = _in_trouble(faults, one, tenth / 10) and _in_trouble(faults, other, tenth / 10)
            assert not both, f"{one} and {other} at {tenth / 10} s"
    assert without_printer(faults) == [], "nor is it kept away by another fault"


@pytest.mark.parametrize("instances", [1, 3])
def test_a_plan_with_outages_takes_both_printers_of_every_station_away(instances: int) -> None:
    found = {pair[:2] for seed in range(5) for pair in without_printer(plan(seed, 120.0, instances, outages=True))}
    assert found == PAIRS


def test_a_printer_is_away_until_it_is_surely_asked_again() -> None:
    faults = [Fault(1.0, Trouble.HANGS, "bar-1", 5.0), Fault(2.0, Trouble.COVER_OPEN, "bar-2", 4.0)]
    assert away(faults) == {"bar-1": [(1.0, 6.0 + BACK_S)], "bar-2": [(2.0, 6.0 + ANSWERING_BACK_S)]}
    assert without_printer(faults) == [("bar-1", "bar-2", 2.0)]


@pytest.mark.parametrize(
    "keeping",
    [
        Fault(5.0, Harm.STOP_PRINTER_PROCESS, "bar-1", 8.0),
        Fault(0.5, Harm.STOP_INSTANCE, "instance-2", 12.5),
        Fault(5.0, Harm.ROW_LOCKED, "database", 8.0, "ticket"),
        Fault(6.5, Harm.DESCRIPTORS_EXHAUSTED, "instance-1", 6.5, "printers"),
        Fault(5.0, Harm.WAY_CUT, "instance-1", 8.0),
    ],
    ids=lambda fault: fault.kind.name,
)
def test_what_meets_a_printer_in_trouble_keeps_it_away(keeping: Fault) -> None:
    trouble = Fault(1.0, Trouble.COVER_OPEN, "bar-1", 3.0)
    assert away([trouble, keeping]) == {"bar-1": [(1.0, 13.0 + BACK_S)]}
    assert away([trouble, Fault(7.0, keeping.kind, keeping.target, 6.0, keeping.detail)]) == {"bar-1": [(1.0, 7.0)]}
    assert away([keeping]) == {}


def test_a_stopped_process_keeps_only_its_own_printer_away() -> None:
    faults = [Fault(1.0, Trouble.COVER_OPEN, "bar-1", 3.0), Fault(2.0, Harm.STOP_PRINTER_PROCESS, "bar-2", 8.0)]
    assert away(faults) == {"bar-1": [(1.0, 7.0)]}


def test_a_dead_printer_process_takes_its_printer_away_only_where_no_other_can_be_started() -> None:
    killed = Fault(1.0, Harm.KILL_PRINTER_PROCESS, "bar-1")
    half_sent = Fault(1.0, Harm.HALF_SENT, "every instance", 2.0)
    without = Fault(2.0, Harm.DESCRIPTORS_EXHAUSTED, "instance-1", 4.0, "supervisor")
    other = Fault(2.0, Harm.DESCRIPTORS_EXHAUSTED, "instance-1", 4.0, "printers")
    late = Fault(1.0 + REPLACED_S, Harm.DESCRIPTORS_EXHAUSTED, "instance-1", 4.0, "supervisor")
    no_template = Fault(2.0, Harm.STOP_TEMPLATE, "instance-1", 4.0)
    new_template = Fault(1.5, Harm.KILL_TEMPLATE, "instance-1")
    assert away([killed]) == away([killed, other]) == away([killed, late]) == away([half_sent, other]) == {}
    assert away([killed, new_template]) == away([no_template, new_template]) == {}
    assert away([killed, without]) == away([killed, no_template]) == {"bar-1": [(1.0, 6.0 + BACK_S)]}
    assert set(away([half_sent, without])) == {device.name for device in DEVICES}, "whoever sends next"


@pytest.mark.parametrize("kind", [Harm.KILL_SUPERVISOR, Harm.KILL_INSTANCE])
def test_printer_processes_that_begin_without_a_descriptor_take_all_printers_away(kind: Harm) -> None:
    killed = Fault(1.0, kind, "instance-1")
    without = Fault(5.0, Harm.DESCRIPTORS_EXHAUSTED, "instance-1", 4.0, "printers")
    assert away([killed, without]) == {device.name: [(5.0, 9.0 + BACK_S)] for device in DEVICES}
    assert away([replace(killed, at_s=8.0), without]) == away([killed, replace(without, detail="all")])
    assert away([killed, replace(without, at_s=1.0 + CONNECTS_S)]) == {}
    assert away([killed, replace(without, detail="dispatcher")]) == {}
    assert away([killed, replace(without, target="instance-2")]) == {}


def test_only_a_printer_that_proves_its_paper_may_lose_what_it_has_accepted() -> None:
    for device in DEVICES:
        if device.troubles & LOSES_DATA:
            assert device.level in ("process_id", "fence"), device.name


def test_every_station_has_a_primary_and_a_backup() -> None:
    stations = Counter(station for station, _ in ROUTES)
    assert stations == dict.fromkeys(SHARES, 2)
    assert {name for _, name in ROUTES} == {device.name for device in DEVICES}
    assert all({name for station, name in ROUTES if station == one} in map(set, PAIRS) for one in SHARES)


@pytest.mark.parametrize("instances", SEEDS)
def test_the_fixed_seeds_bring_every_kind_of_fault(instances: int) -> None:
    assert {fault.kind for fault in plan(SEEDS[instances], SECONDS, instances)} == set(KINDS)
