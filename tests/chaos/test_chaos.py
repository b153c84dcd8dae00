"""A short run of the chaos, with fixed seeds: the whole service, real kills, a real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import faults_by_kind, run_round, summary

SEEDS = {1: 11, 3: 7}
"""By number of instances."""
SECONDS = 30.0


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("instances", [1, 3])
def test_under_seeded_faults_nothing_is_lost_doubled_unmarked_out_of_order_or_left_over(
    instances: int, tmp_path: Path
) -> None:
    found = run_round(SEEDS[instances], SECONDS, instances, 50.0, folder=tmp_path)
    print(summary([found]), faults_by_kind([found]), *found.notes, sep="\n")
    assert found.verdict.tickets > 500, "the till rang"
    assert sum(found.faults.values()) > 15, "the faults found their targets"
    assert not found.broken, "\n".join(found.broken)
