"""A child's facts in shared memory: one writer, readable whatever became of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kps.core.tickets import ProofLevel
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import (
    CELLS,
    PAIRS,
    PRINT_BUCKETS_S,
    PRINTED_CELL,
    Cell,
    LeaseCell,
    SharedStats,
    Stats,
    print_buckets,
)
from tests.process import children
from tests.process.conftest import Start

PATIENCE_S = 20.0


@pytest.fixture
def shared() -> Iterator[SharedStats]:
    made = SharedStats()
    yield made
    made.close()


def test_fresh_slots_are_all_zero_and_no_two_children_have_the_same(shared: SharedStats) -> None:
    pairs = [shared.pair(shared.take()) for _ in range(3)]
    kinds = [cells for pair in pairs for cells in pair]
    for number, cells in enumerate(kinds, start=1):
        assert list(cells) == [0.0] * CELLS
        for cell in range(CELLS):
            cells[cell] = float(number)
    assert [set(cells) for cells in kinds] == [{float(number)} for number in range(1, len(kinds) + 1)]


def test_whoever_has_the_descriptor_sees_the_same_and_the_last_cell_is_there(shared: SharedStats) -> None:
    other = SharedStats(os.dup(shared.descriptor))
    shared.pair(PAIRS - 1).lease_cells[CELLS - 1] = 7.0
    assert other.pair(PAIRS - 1).lease_cells[CELLS - 1] == 7.0
    other.close()


def test_what_a_killed_child_wrote_is_there_and_its_successor_counts_on(start: Start, shared: SharedStats) -> None:
    number = shared.take()
    cells = shared.pair(number).stats
    before = monotonic()
    for lives in (1, 2):
        channel, process = start(children.count, f"/proc/{os.getpid()}/fd/{shared.descriptor}", number)
        assert channel.receive(PATIENCE_S) == ("up", process.pid)
        process.kill()
        process.join(PATIENCE_S)
        assert (cells[Cell.CLAIMED], cells[Cell.BYTES]) == (lives, 100 * lives)
        assert before < cells[Cell.BEAT] < monotonic()
        assert print_buckets(cells)[0.05] == lives


def test_every_fact_has_a_cell_of_its_own_within_the_slot() -> None:
    last_bucket = Cell.BUCKETS + len(PRINT_BUCKETS_S) - 1
    assert last_bucket < CELLS
    others = [cell for cell in Cell if cell is not Cell.BUCKETS]
    assert all(cell < CELLS and not Cell.BUCKETS <= cell <= last_bucket for cell in others)
    assert len(set(map(int, Cell))) == len(Cell.__members__)
    assert all(order < CELLS for order in LeaseCell)


def test_every_proof_level_has_a_counter() -> None:
    assert set(PRINTED_CELL) == set(ProofLevel)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.floats(0, 1e4)))
def test_the_print_times_are_cumulative_and_none_is_lost(shared: SharedStats, times: list[float]) -> None:
    cells = shared.pair(0).stats
    for cell in range(CELLS):
        cells[cell] = 0.0
    stats = Stats(cells)
    for seconds in times:
        stats.observe_print(seconds)
    found = print_buckets(cells)
    assert found == {bound: sum(seconds <= bound for seconds in times) for bound in PRINT_BUCKETS_S}
    assert cells[Cell.PRINT_SECONDS] == pytest.approx(sum(times))


def test_a_beat_is_the_monotonic_clock_of_the_host(shared: SharedStats) -> None:
    stats = Stats(shared.pair(shared.take()).stats)
    before = monotonic()
    stats.beat()
    assert before <= stats.get(Cell.BEAT) <= monotonic()
    assert boottime() >= 0
