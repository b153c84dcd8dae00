"""What carries bytes to a printer and back, and knows nothing of what they mean.

A new transport is a kind of address in `kps.core.address`, an implementation of `Transport`, and a case in
`kps.device.opening`; mypy names the places that must also know what a row may name.
"""

from __future__ import annotations

import fcntl
import select
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kps.core.status import PrinterStatus
from kps.core.tickets import Reason

SLICE_S = 0.25
"""Longest wait; between two of them the caller gives a sign of life (`Pulse`)."""

Pulse = Callable[[], None]
"""The heartbeat of the process: called often while something is waited for. What it raises ends the wait."""

_SURELY_ASKED_S = 1.5
"""A peer that is asked each second has by then been asked once, and had half a second to answer."""

LATE_S = 2 * SLICE_S
"""If more time than this lies between two looks at a `Limit`, the host or our process stood still."""


class Limit:
    """How long a printer may take. Time in which we stood still does not count against it, but for LATE_S."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.again()

    def again(self) -> None:
        """It has moved something: it gets the whole time once more."""
        self._left_s = self._limit_s
        self._at = time.monotonic()

    def left(self) -> float:
        """Seconds left; 0 = it is over. To be called at least once in each slice."""
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
    """What the system knows about the far end and the data on its way to it (Linux, for TCP)."""

    retransmits: int
    """Times that the oldest unacknowledged segment was sent again; 0 after an acknowledgement of new data."""
    unacked: int
    """Segments sent and not acknowledged. A closed window holds data back, unsent: then it is 0."""
    probes: int
    """Probes of the kernel to an idle peer, or to one with a closed window, that are not answered so far."""
    last_ack_s: float
    """Seconds since the last acknowledgement of the peer."""

    def dead(self, silent_s: float) -> bool:
        """Whether the peer's host has stopped answering for so long although something was sent to it.

        A living peer with a closed window acknowledges what it drops, and answers each probe. Its last acknowledgement
        is old only while nothing is sent to it.
        """
        asked = (self.retransmits > 0 and self.unacked > 0) or self.probes > 1
        return asked and self.last_ack_s >= silent_s

    def gone(self, silent_s: float) -> bool:
        """The same of a peer that is asked each second (`expect_life`) and has nothing to acknowledge."""
        return self.probes > 0 and self.last_ack_s >= max(silent_s, _SURELY_ASKED_S)


def wait_for(descriptor: int, limit_s: float, *, writable: bool, also: int | None) -> None:
    """`Transport.wait` of a transport that has a descriptor."""
    poll = select.poll()
    if also is not None:
        poll.register(also, select.POLLIN)
    poll.register(descriptor, select.POLLIN | (select.POLLOUT if writable else 0))
    poll.poll(max(0.0, min(limit_s, SLICE_S)) * 1000)


def queued(descriptor: int) -> int:
    """Bytes in the kernel's send queue of a socket or a terminal (TIOCOUTQ). Raises OSError."""
    answer = bytearray(4)
    fcntl.ioctl(descriptor, termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])


class Transport(Protocol):
    """An open way to one printer. Reading and writing never wait; `wait` does, for one slice at most.

    The far end is the printer's host for TCP, the printer by USB, and for a serial port the cable.
    """

    def fileno(self) -> int:
        """A descriptor that is readable when the printer has said something, or is gone."""

    def read(self, most: int) -> bytes | None:
        """What can be read now; None = nothing yet, empty = the far end has closed. Raises OSError."""

    def write(self, data: bytes | memoryview) -> int:
        """Write as much as is taken now; returns how many bytes. From then on they may leave. Raises OSError."""

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """Until something can be read (or, if asked, written), for `limit_s` or one slice, whichever is shorter.

        `also` is a further descriptor that ends the wait when it has something to read.
        """

    def unsent(self) -> int:
        """Bytes that were written and that the far end does not have yet. Where that is not known, rather too many."""

    def vitals(self) -> Vitals | None:
        """What the system knows about the far end; None where it knows nothing."""

    def expect_life(self, limit_s: float | None) -> None:
        """From now on it breaks when the far end is silent for `limit_s` and 1 s, where that can be noticed at all.

        None = as after opening. It works only while no data is on its way.
        """

    def status(self) -> PrinterStatus:
        """What the transport itself knows of the printer, without our asking it; unknown where it knows nothing."""

    def finish(self) -> None:
        """Say that we are done; what was written still goes out. Raises OSError."""

    def finished(self) -> bool:
        """After `finish`: whether all has gone out. TCP ends by a last `read` instead, and is never finished."""

    def close(self) -> None:
        """Close without waiting. What was written and has not left may still leave, or may not."""

    def abort(self) -> None:
        """Close and take back what has not left, as far as that is possible."""
