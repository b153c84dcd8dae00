"""How long a ticket may take: until its proof, and until a standstill is trouble or the end."""

from __future__ import annotations

from enum import Enum, auto


def confirm_limit_s(lines: int) -> float:
    """Seconds that a printer without trouble may take to print and prove a ticket of so many lines."""
    return 5.0 + 0.2 * lines


class Patience(Enum):
    """How long a ticket without progress has waited."""

    WAITING = auto()
    BLOCKED = auto()
    """Longer than the limit: the printer's other tickets must go elsewhere, and a person may mend it."""
    OVER = auto()
    """Longer than the hold time too: give the ticket up."""


def patience(stalled_s: float, *, timeout_s: float, hold_s: float) -> Patience:
    """What a standstill of so many seconds means."""
    if stalled_s < timeout_s:
        return Patience.WAITING
    return Patience.BLOCKED if stalled_s < timeout_s + hold_s else Patience.OVER
