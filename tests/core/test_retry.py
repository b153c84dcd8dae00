"""How long to wait before the next try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.retry import Backoff


@pytest.mark.parametrize(("failures", "delay"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (10_000, 30.0)])
def test_delays_double_up_to_the_cap(failures: int, delay: float) -> None:
    assert Backoff(first=0.5, cap=30.0).delay(failures, 0.5) == pytest.approx(delay)


def test_the_first_retry_may_come_at_once() -> None:
    eager = Backoff(first=0.5, at_once=True)
    assert [eager.delay(failures, 0.5) for failures in (1, 2, 3)] == pytest.approx([0.0, 0.5, 1.0])


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(0.01, 10), st.floats(1, 100), st.booleans())
def test_a_delay_stays_within_the_jitter_of_its_cap(
    failures: int, chance: float, first: float, cap: float, at_once: bool
) -> None:
    delay = Backoff(first=first, cap=cap, at_once=at_once).delay(failures, chance)
    assert 0 <= delay <= cap * 1.2 * (1 + 1e-9)
    later = Backoff(first=first, cap=cap, at_once=at_once).delay(failures + 1, chance)
    assert later >= delay


def test_the_jitter_keeps_many_from_waking_together() -> None:
    backoff = Backoff(first=1.0, cap=1.0, jitter=0.2)
    assert (backoff.delay(1, 0.0), backoff.delay(1, 1.0)) == pytest.approx((0.8, 1.2))
