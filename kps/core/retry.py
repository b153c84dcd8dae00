"""Back-off: how long to wait before the next try of something that failed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that double from `first` to `cap`. `at_once`: the first retry comes without any."""

    first: float = 0.5
    cap: float = 30.0
    at_once: bool = False
    jitter: float = 0.2
    """Share by which a delay is stretched or shortened, so that many do not wake together."""

    def delay(self, failures: int, chance: float) -> float:
        """Seconds before the next try after `failures` (>= 1) in a row; `chance` is random in 0..1."""
        step = failures - (2 if self.at_once else 1)
        if step < 0:
            return 0.0
        return min(self.first * 2.0 ** min(step, 40), self.cap) * (1 - self.jitter + 2 * self.jitter * chance)
