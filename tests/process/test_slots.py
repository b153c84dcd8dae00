"""A child's facts in shared memory: one writer, readable whatever became of it."""

from __future__ import annotations

from multiprocessing.context import SpawnContext

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kps.core.tickets import ProofLevel
from kps.process.clocks import boottime, monotonic
from kps.process.slots import (
    CELLS,
    PRINT_BUCKETS_S,
    PRINTED_CELL,
    Cell,
    Order,
    Slot,
    make_cells,
    print_buckets,
)
from tests.process import children
from tests.process.conftest import Start

PATIENCE_S = 20.0


def test_a_fresh_slot_is_all_zero(context: SpawnContext) -> None:
    assert list(make_cells(context)) == [0.0] * CELLS


def test_what_a_killed_child_wrote_is_there_and_its_successor_counts_on(start: Start, context: SpawnContext) -> None:
    cells = make_cells(context)
    before = monotonic()
    for lives in (1, 2):
        channel, process = start(children.count, cells)
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
    assert all(order < CELLS for order in Order)


def test_every_proof_level_has_a_counter() -> None:
    assert set(PRINTED_CELL) == set(ProofLevel)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.floats(0, 1e4)))
def test_the_print_times_are_cumulative_and_none_is_lost(context: SpawnContext, times: list[float]) -> None:
    cells = make_cells(context)
    slot = Slot(cells)
    for seconds in times:
        slot.observe_print(seconds)
    found = print_buckets(cells)
    assert found == {bound: sum(seconds <= bound for seconds in times) for bound in PRINT_BUCKETS_S}
    assert cells[Cell.PRINT_SECONDS] == pytest.approx(sum(times))


def test_a_beat_is_the_monotonic_clock_of_the_host(context: SpawnContext) -> None:
    slot = Slot(make_cells(context))
    before = monotonic()
    slot.beat()
    assert before <= slot.get(Cell.BEAT) <= monotonic()
    assert boottime() >= 0
