"""SIGINT, SIGTERM, SIGHUP and SIGQUIT are counted, and the interrupted loop decides what they mean."""

from __future__ import annotations

import os
import select
import signal
import time
from types import FrameType, TracebackType
from typing import Final

NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupts:
    """Counts signals that ask the process to end, as a context manager. Main thread only.

    No exception is raised by a signal; `wait` returns at once.
    """

    def __init__(self) -> None:
        self.count = 0
        """1 = end in order, 2 = hurry."""

    def __enter__(self) -> Interrupts:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before = {number: signal.signal(number, self._note) for number in NUMBERS}
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or as soon as another signal has come."""
        known, until = self.count, time.monotonic() + seconds
        while self.count == known and (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._reader], [], [], left)
            if ready:
                os.read(self._reader, 512)
