"""Work that is claimed for this printer and not begun yet: which is next, and when it is given back."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator

from kps.core.tickets import Token
from kps.core.work import Work, WorkKind
from kps.database import DatabaseTrouble
from kps.database.printer_queue import PrinterQueue
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

LOCKED_AGAIN_S = 3.0
"""After so long, work whose rows were locked is tried again. A try may wait as long as a lock may be waited for, and
the other work waits with it."""

log = logging.getLogger("kps.printer")


class Claims:
    """The claims of one printer process, in the order in which they came."""

    def __init__(self, queue: PrinterQueue, stats: Stats, on_room: Callable[[Token], None]) -> None:
        """`on_room` is called with the token of each claim that is given back."""
        self._queue = queue
        self._stats = stats
        self._on_room = on_room
        self._works: deque[Work] = deque()
        self._again_at: dict[Token, float] = {}
        """When to try those again whose rows were locked (`monotonic`)."""

    def __len__(self) -> int:
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        return iter(self._works)

    def add(self, work: Work) -> None:
        """The dispatcher has handed it over."""
        self._works.append(work)

    def remove(self, work: Work) -> None:
        """It is begun, or not ours any more."""
        self._works.remove(work)

    def next(self) -> Work | None:
        """What is to be printed now: the first whose rows were not locked a moment ago; None = there is none."""
        now = monotonic()
        return next((work for work in self._works if now >= self._again_at.get(work.token, 0.0)), None)

    @property
    def all_locked(self) -> bool:
        """Whether the rows of all of them were locked when they were tried last."""
        return all(work.token in self._again_at for work in self._works)

    def pass_over(self, work: Work, trouble: DatabaseTrouble) -> None:
        """Its rows were locked for too long, so nothing was promised: it stays here, and the others go first."""
        log.warning("database trouble", extra={"cause": trouble.sentence} | work.log_field)
        ours = {one.token for one in self._works}
        self._again_at = {token: at for token, at in self._again_at.items() if token in ours}
        self._again_at[work.token] = monotonic() + LOCKED_AGAIN_S

    def give_back(self, why: str) -> None:
        """Give all of them back, unmarked. While the database is away they stay here; the caller tries again."""
        if not self._works:
            return
        try:
            released = self._queue.release(self._works, why)
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})
            return
        for work in [one for one in self._works if one not in released.left]:
            self._works.remove(work)
            self._stats.add(Cell.RELEASED, float(work.kind is WorkKind.TICKET))
            log.info("released", extra={"cause": why} | work.log_field)
            self._on_room(work.token)
