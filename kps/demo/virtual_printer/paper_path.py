"""What the paper runs past: the roll, which may end, and the cutter, which counts its cuts and may jam."""

from __future__ import annotations

COUNTER_SAVED_AFTER = 10.0
"""Seconds of rest after which the cut counter survives a power loss (Citizen CT-S2000 manual)."""


class Roll:
    """The roll of paper. `lines_left`: after so many more lines it ends; None = it does not end."""

    def __init__(self) -> None:
        self.lines_left: int | None = None

    def use_line(self) -> bool:
        """A line was printed; returns whether the roll has ended by it."""
        if self.lines_left is None:
            return False
        self.lines_left -= 1
        return self.lines_left <= 0


class Cutter:
    """The cutter and its counter, which is in RAM at first and saved after some rest."""

    def __init__(self, now: float) -> None:
        self.cuts = 0
        self.jam_next = False
        """Whether it will jam when it is used next."""
        self._saved = 0
        self._last_cut = now

    def cut(self, now: float) -> bool:
        """Use it; False = it has jammed, and there is no cut."""
        if self.jam_next:
            self.jam_next = False
            return False
        self._save_if_rested(now)
        self.cuts += 1
        self._last_cut = now
        return True

    def lose_power(self, now: float) -> None:
        """Cuts that were not saved yet are not counted."""
        self._save_if_rested(now)
        self.cuts = self._saved

    def _save_if_rested(self, now: float) -> None:
        if now - self._last_cut >= COUNTER_SAVED_AFTER:
            self._saved = self.cuts
