"""The mechanism of a virtual printer: work in a queue, done piece by piece in its own time, onto the uncut paper."""

from __future__ import annotations

from collections import deque

from kps.demo.virtual_printer.records import EndedBy, Paper
from kps.demo.virtual_printer.settings import Settings
from kps.demo.virtual_printer.sheet import Answer, Cut, Feed, PrintLine, PrintRaster, Sheet, Work
from kps.demo.virtual_printer.typesetter import LINE_ROWS

LINE_QUEUE = 16
"""Pieces of work that the decoder may be ahead of the mechanism."""


class Mechanism:
    """Takes time for each piece of work, stands still while it is stopped, and moves the paper.

    A piece of work is begun when the one before it is done. Times are those of the printer's clock.
    """

    def __init__(self, settings: Settings, now: float) -> None:
        self._settings = settings
        self._sheet = Sheet()
        self.stops = 0
        """How often the printer has been stopped and has gone on."""
        self.boot(now)

    def boot(self, now: float) -> None:
        """The state after power-on: nothing to do. The paper below the head stays."""
        self._queue: deque[tuple[float, Work]] = deque()
        self._done_at: float | None = None
        self._time_left: float | None = None
        self.free_at = now
        """When the last piece of work was done."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._queue

    @property
    def full(self) -> bool:
        """Whether the decoder has to wait."""
        return len(self._queue) >= LINE_QUEUE

    @property
    def done_at(self) -> float | None:
        """When the piece of work that has been begun is done; None = none has."""
        return self._done_at

    def owes(self, connection: int) -> bool:
        """Whether a question of this connection waits for its answer."""
        return any(isinstance(work, Answer) and work.connection == connection for _, work in self._queue)

    def add(self, work: Work, now: float) -> None:
        """One more piece of work, behind all others."""
        self._queue.append((now, work))

    def next_done(self, now: float) -> Work | None:
        """The next piece of work that is done by now, at `free_at`; None = none. To be called until it is None."""
        if not self._queue:
            return None
        queued_at, work = self._queue[0]
        if self._done_at is None:
            start = max(self.free_at, queued_at)
            self._done_at = start + self._duration(work)
            if not isinstance(work, Answer):
                self._sheet.begin(work, start, self.stops)
        if self._done_at > now:
            return None
        self.free_at, self._done_at = self._done_at, None
        self._queue.popleft()
        return work

    def _duration(self, work: Work) -> float:
        if isinstance(work, Cut):
            return self._settings.cut_s
        return work.rows / LINE_ROWS / self._settings.lines_per_s

    def put_on_paper(self, work: PrintLine | PrintRaster | Feed | Cut) -> None:
        """What was done is on the paper."""
        self._sheet.finish(work)

    def put_back(self, work: Work) -> None:
        """What was done has failed, and is the next to be done."""
        self._queue.appendleft((self.free_at, work))

    def pause(self, now: float) -> None:
        """The printer is stopped."""
        self._time_left = None if self._done_at is None else max(0.0, self._done_at - now)

    def resume(self, now: float) -> None:
        """The printer goes on, with what it was about to do."""
        self.stops += 1
        self.free_at = now
        if self._done_at is not None and self._time_left is not None:
            self._done_at = now + self._time_left
            self._sheet.hold()

    def tear_line_away(self) -> PrintLine | None:
        """The line under the head is torn away; None = the head was printing none."""
        work = self._queue[0][1] if self._done_at is not None else None
        if not isinstance(work, PrintLine):
            return None
        self._queue.popleft()
        self._done_at = None
        self._sheet.damage()
        return work

    def clear(self) -> None:
        """Forget all work, what has been begun included."""
        self._queue.clear()
        self._done_at = self._time_left = None

    def take_paper(
        self, sequence: int, printer: str, ended_by: EndedBy, t_cut: float | None, spoiled: bool
    ) -> Paper | None:
        """The paper below the head as a record, and a new one below the head; None = nothing has happened to it."""
        if self._sheet.blank:
            return None
        paper = self._sheet.tear_off(sequence, printer, ended_by, t_cut, spoiled)
        self._sheet = Sheet()
        return paper
