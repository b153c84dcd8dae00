"""How long a ticket may take."""

from __future__ import annotations

import pytest

from kps.core.patience import Patience, confirm_limit_s, patience


@pytest.mark.parametrize(
    ("stalled_s", "verdict"),
    [(0.0, Patience.WAITING), (4.9, Patience.WAITING), (5.0, Patience.BLOCKED), (25.0, Patience.OVER)],
)
def test_a_standstill_is_first_blocked_and_then_over(stalled_s: float, verdict: Patience) -> None:
    assert patience(stalled_s, timeout_s=5, hold_s=20) is verdict


def test_a_long_ticket_may_take_longer() -> None:
    assert (confirm_limit_s(0), confirm_limit_s(50)) == (5.0, 15.0)
