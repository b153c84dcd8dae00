"""Heartbeats and deaths: what the supervisor does to a child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.restart import ABORT_GRACE_S, BOOT_LIMIT_S, HANG_TIMEOUT_S, Cause, Deaths, Verdict, judge

LEAVE, ABORT, KILL = Verdict.LEAVE, Verdict.ABORT, Verdict.KILL


@pytest.mark.parametrize(
    ("now", "started", "up", "beat", "count_from", "aborted_at", "verdict"),
    [
        (BOOT_LIMIT_S, 0.0, False, 0.0, 0.0, None, (LEAVE, Cause.BOOT_TIMEOUT)),
        (BOOT_LIMIT_S + 0.1, 0.0, False, 0.0, 0.0, None, (ABORT, Cause.BOOT_TIMEOUT)),
        (BOOT_LIMIT_S + 0.1, 0.0, False, 0.0, 5.0, None, (LEAVE, Cause.BOOT_TIMEOUT)),
        (100.0, 0.0, True, 100.0 - HANG_TIMEOUT_S, 0.0, None, (LEAVE, Cause.HUNG)),
        (100.0, 0.0, True, 99.9 - HANG_TIMEOUT_S, 0.0, None, (ABORT, Cause.HUNG)),
        (100.0, 0.0, True, 0.0, 99.0, None, (LEAVE, Cause.HUNG)),
        (100.0, 95.0, True, 0.0, 0.0, None, (LEAVE, Cause.HUNG)),
        (100.0, 0.0, True, 0.0, 0.0, 100.0 - ABORT_GRACE_S / 2, (LEAVE, Cause.HUNG)),
        (100.0, 0.0, True, 100.0, 0.0, 100.0 - ABORT_GRACE_S, (KILL, Cause.HUNG)),
    ],
)
def test_what_is_done_to_a_running_child(
    now: float,
    started: float,
    up: bool,
    beat: float,
    count_from: float,
    aborted_at: float | None,
    verdict: tuple[Verdict, Cause],
) -> None:
    found = judge(now=now, started=started, up=up, beat=beat, beats_count_from=count_from, aborted_at=aborted_at)
    assert found == verdict


@given(st.floats(0, 1e6), st.booleans(), st.floats(0, 1e6), st.floats(0, HANG_TIMEOUT_S))
def test_a_child_that_beat_lately_is_left_alone_and_after_a_late_round_everybody_is(
    started: float, up: bool, beat: float, since: float
) -> None:
    now = max(started, beat) + since
    assert judge(now=now, started=started, up=True, beat=beat, beats_count_from=0.0, aborted_at=None)[0] is LEAVE
    late = judge(now=now + 1e6, started=started, up=up, beat=beat, beats_count_from=now + 1e6 - since, aborted_at=None)
    assert late[0] is LEAVE


def test_the_first_restart_is_at_once_and_the_next_ones_wait_longer() -> None:
    deaths = Deaths()
    waits = []
    for now in (10.0, 11.0, 12.0, 13.0):
        deaths.note(now, lived_s=1.0)
        waits.append(deaths.restart_at(now, 0.5) - now)
    assert waits == pytest.approx([0.0, 0.5, 1.0, 2.0])


def test_a_long_life_begins_a_new_streak() -> None:
    deaths = Deaths()
    for now in (10.0, 11.0, 12.0):
        deaths.note(now, lived_s=1.0)
    deaths.note(200.0, lived_s=180.0)
    assert deaths.restart_at(200.0, 0.5) == 200.0


def test_five_deaths_in_a_minute_are_a_crash_loop_and_it_ends_by_itself() -> None:
    deaths = Deaths()
    for now in (0.0, 10.0, 20.0, 30.0):
        deaths.note(now, 1.0)
    assert not deaths.crash_loop(30.0)
    deaths.note(40.0, 1.0)
    assert deaths.crash_loop(40.0)
    assert not deaths.crash_loop(60.0)


def test_more_than_ten_deaths_in_five_minutes_are_hopeless() -> None:
    deaths = Deaths()
    for number in range(10):
        deaths.note(number * 20.0, 1.0)
    assert not deaths.hopeless(180.0)
    deaths.note(200.0, 1.0)
    assert deaths.hopeless(200.0)
    assert not deaths.hopeless(301.0)
    assert len(deaths.times) == 11


@given(st.lists(st.floats(0, 5000), max_size=60))
def test_old_deaths_are_forgotten(times: list[float]) -> None:
    deaths = Deaths()
    for now in sorted(times):
        deaths.note(now, 1.0)
        assert all(time > now - 300.0 for time in deaths.times[:-1])
