"""What carries bytes to a printer and back: the seam between what is said to a printer and how it travels.

A new way is a kind of address in `kps.core.address`, an implementation of `Transport`, and a case in
`kps.device.opening`. What the replies mean is nobody's business here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kps.core.status import PrinterStatus
from kps.core.tickets import Reason

SLICE_S = 0.25
"""No wait is longer than this without a pulse."""

Pulse = Callable[[], None]

_SURELY_ASKED_S = 1.5
"""Who is asked each second has been asked once, and had half a second to answer."""


LATE_S = 2 * SLICE_S
"""A turn that took longer than this was late: the host, or our process, stood still."""


class Limit:
    """How long a printer may take. Time in which we stood still is not its own: of a late turn only LATE_S count."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.again()

    def again(self) -> None:
        """It has moved: it gets the whole time once more."""
        self._left_s = self._limit_s
        self._at = time.monotonic()

    def left(self) -> float:
        """Seconds left, 0 if it is over. To be asked at least once in each slice."""
        now = time.monotonic()
        self._left_s -= min(now - self._at, LATE_S)
        self._at = now
        return max(0.0, self._left_s)


class Unreachable(Exception):
    """No connection came about; not a byte has left us."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the system knows about the far end and the data on its way to it; Linux tells it of TCP."""

    retransmits: int
    """Times that the oldest unacknowledged segment was sent again; 0 after an acknowledgement of new data."""
    unacked: int
    """Segments sent and not acknowledged. A closed window holds data back, unsent: then it is 0."""
    probes: int
    """Questions of the kernel to an idle peer, or to one with a closed window, without an answer so far."""
    last_ack_s: float
    """Seconds since the peer was heard last."""

    def dead(self, silent_s: float) -> bool:
        """Whether the peer's host has stopped answering for so long although something was sent to it.

        A living peer with a closed window acknowledges what it drops, and answers each probe, so it is heard; its last
        sign is old only while nothing is sent to it.
        """
        asked = (self.retransmits > 0 and self.unacked > 0) or self.probes > 1
        return asked and self.last_ack_s >= silent_s

    def gone(self, silent_s: float) -> bool:
        """The same of a peer that is asked each second (`expect_life`) and has nothing to acknowledge."""
        return self.probes > 0 and self.last_ack_s >= max(silent_s, _SURELY_ASKED_S)


class Transport(Protocol):
    """An open way to one printer. Reading and writing never wait; `wait` does, for one slice at most."""

    def fileno(self) -> int:
        """A descriptor that is readable when the printer has said something, or is gone."""

    def read(self, most: int) -> bytes | None:
        """What lies ready; None = nothing now, empty = the printer has ended it. Raises OSError."""

    def write(self, data: bytes | memoryview) -> int:
        """Hand over as much as is taken now; 0 = nothing. What is taken may leave. Raises OSError."""

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """Until something can be read (or, if asked, written), for `limit_s` or one slice, whichever is shorter.

        `also` is a further descriptor that ends the wait when it has something to read.
        """

    def unsent(self) -> int:
        """Bytes taken that the far end does not have yet, as far as can be known: never less than is known."""

    def vitals(self) -> Vitals | None:
        """What is known about the far end; None where nobody tells."""

    def expect_life(self, limit_s: float | None) -> None:
        """From now on it breaks when the far end is silent for `limit_s` and 1 s, where that can be noticed at all.

        None = as when idle. Only while nothing else is on its way.
        """

    def status(self) -> PrinterStatus:
        """What the way itself tells of the printer beside our bytes; nothing where it has no channel for that."""

    def finish(self) -> None:
        """Say that we are done; what was taken still goes out. Raises OSError."""

    def finished(self) -> bool:
        """After `finish`: whether there is nothing left to wait for. Some ways end by a last `read` instead."""

    def close(self) -> None:
        """Close without waiting. What was taken may still leave, or may not."""

    def abort(self) -> None:
        """Close and take back what has not left, as far as that is possible."""
