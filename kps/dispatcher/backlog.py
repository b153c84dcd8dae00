"""What is done about a backlog that is too old or too large, beside the dispatcher's loop: no ticket waits for it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
from collections import deque
from dataclasses import dataclass, replace

from kps.core.backlog import Among, Horizon, Survey
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.database import Database, DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue, OldTicket
from kps.database.pos import PosAdapter
from kps.database.statements.dispatching import PATIENT_S
from kps.process.clocks import monotonic

AT_ONCE = 500
"""Old tickets that are failed in one transaction; fewer where that takes too long."""
SURVEYED = 200
"""Tickets of a route that a survey finds: more than its printers print until the next one."""
PAUSE_S = 1.0
"""After an error, or when somebody has locked an old ticket; each further one doubles it."""
LONGEST_PAUSE_S = 30.0
_SLOW = frozenset({"57014", "55P03", "40P01"})
"""A time-out, a lock that somebody keeps, a deadlock: with fewer tickets, or later, it may do."""

log = logging.getLogger("kps.dispatcher")


@dataclass(frozen=True, slots=True)
class Passed:
    """Old tickets that have become `failed`, and others that are wanted all the same."""

    horizon: Horizon
    failed: tuple[TicketId, ...]
    spared: frozenset[TicketId]


@dataclass(frozen=True, slots=True)
class Done:
    """No ticket behind the horizon is left, but for what is spared."""

    horizon: Horizon


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What has been asked for, or why it came to nothing."""

    survey: Survey | None
    trouble: str = ""


News = Passed | Done | Surveyed


class Walk:
    """The way through the old tickets, oldest first; whoever could not be failed is come back to."""

    def __init__(self, horizon: Horizon) -> None:
        self.horizon = horizon
        self.size = AT_ONCE
        self._begin()
        self.pause_s = PAUSE_S

    def _begin(self) -> None:
        self.since = -math.inf
        self.passed: frozenset[TicketId] = frozenset()
        self.left = 0
        """Tickets that this pass had to leave."""

    def go_on(self, page: list[OldTicket], failed: set[TicketId]) -> None:
        """Behind this page. Who is still `new` at its last moment is not to be met again."""
        still = frozenset(one.id for one in page if one.id not in failed and one.at == page[-1].at)
        self.passed = still | (self.passed if page[-1].at == self.since else frozenset())
        self.since = page[-1].at
        self.left += sum(one.stale and one.id not in failed for one in page)

    def again(self) -> float | None:
        """The end of a pass: seconds until the next one, None = nothing was left."""
        if not self.left:
            return None
        self._begin()
        pause_s, self.pause_s = self.pause_s, min(self.pause_s * 2, LONGEST_PAUSE_S)
        return pause_s


class BacklogKeeper:
    """A thread with a connection of its own, both only while there is something to do; news come by a bell."""

    def __init__(self, settings: Settings, schema: PosAdapter, owner: str, name: str) -> None:
        self._settings = settings
        self._database = Database(settings.database, name)
        self._queue = DispatcherQueue(self._database, schema, owner, settings.instance_name)
        minutes = f"{settings.stale_after_minutes:g}"
        self._error = f"older than {minutes} minutes when KPS started: print it again if it is still wanted"
        self._work: queue.SimpleQueue[Horizon | Among | None] = queue.SimpleQueue()
        self._news: deque[News] = deque()
        self._thread: threading.Thread | None = None
        self._again_at = 0.0
        self._failures = 0
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ring, False)
        self.horizon: Horizon | None = None
        """Tickets behind it are still being failed: a look leaves them out."""
        self.spared: frozenset[TicketId] = frozenset()
        """But for these, which are wanted."""
        self.surveying = False

    def fileno(self) -> int:
        """Readable when there are news."""
        return self._bell

    @property
    def errors(self) -> int:
        """Errors of its connection so far."""
        return self._database.errors

    def fail(self, horizon: Horizon) -> None:
        """Begin to fail what lies behind the horizon; a later one takes the place of an earlier one."""
        self.horizon, self.spared = horizon, frozenset()
        self._put(horizon)

    def survey(self, among: Among) -> None:
        """Look for the oldest tickets of each route, unless that is under way."""
        if not self.surveying:
            self.surveying = True
            self._put(among)

    def take(self) -> list[News]:
        """What has happened since the last call."""
        self._have_it_done()
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 4096)
        news = [self._news.popleft() for _ in range(len(self._news))]
        for one in news:
            match one:
                case Passed(horizon, _, spared) if horizon == self.horizon:
                    self.spared |= spared
                case Done(horizon) if horizon == self.horizon:
                    self.horizon, self.spared = None, frozenset()
                case Surveyed():
                    self.surveying = False
        return news

    def close(self) -> None:
        """Wait for what is under way, and end. A process that ends need not do so."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
        self._database.close()
        os.close(self._bell)
        os.close(self._ring)

    def _put(self, work: Horizon | Among) -> None:
        self._work.put(work)
        self._have_it_done()

    def _have_it_done(self) -> None:
        if self._thread is not None and not self._thread.is_alive() and monotonic() >= self._again_at:
            # It met what nobody has thought of, its traceback is in the log: what it was at is begun anew.
            self._thread, self.surveying, self._again_at = None, False, monotonic() + LONGEST_PAUSE_S
            if self.horizon is not None:
                self._work.put(self.horizon)
        if self._thread is not None or self._work.empty():
            return
        # A daemon: the process may end although the database does not answer.
        thread = threading.Thread(target=self._run, name="backlog", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the host allows no further thread now: tried again with the next look at the news
            return
        self._thread = thread

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        walk: Walk | None = None
        due = math.inf
        while True:
            if walk is None and self._work.empty():
                self._database.close()
            try:
                work = self._work.get(timeout=None if walk is None else max(0.001, due - monotonic()))
            except queue.Empty:
                assert walk is not None
                pause_s = self._page(walk)
                if pause_s is None:
                    self._tell(Done(walk.horizon))
                    walk = None
                else:
                    due = monotonic() + pause_s
                continue
            match work:
                case Horizon():
                    walk, due = Walk(work), 0.0
                case Among():
                    self._survey(work)
                case None:
                    return

    def _tell(self, news: News) -> None:
        self._news.append(news)
        with contextlib.suppress(BlockingIOError):  # it has rung already
            os.write(self._ring, b"!")

    def _survey(self, among: Among) -> None:
        began = monotonic()
        try:
            found = self._queue.survey(SURVEYED, among)
        except DatabaseTrouble as trouble:
            self._tell(Surveyed(None, trouble.sentence))
        else:
            self._tell(Surveyed(replace(found, took_s=monotonic() - began)))

    def _page(self, walk: Walk) -> float | None:
        """Fail some old tickets; returns seconds until the next, None = there are no more."""
        settings = self._settings
        try:
            page = self._queue.stale(
                walk.horizon, AT_ONCE, since=walk.since, passed=walk.passed, stations=settings.stations,
                brands=settings.brands,
            )  # fmt: skip
            failed = self._fail(walk, [one for one in page if one.stale])
        except DatabaseTrouble as trouble:
            self._failures += 1
            if self._failures in (1, 10, 100) or self._failures % 1000 == 0:
                log.warning("database trouble", extra={"cause": trouble.sentence, "failures": self._failures})
            return min(PAUSE_S * 2.0 ** min(self._failures - 1, 10), LONGEST_PAUSE_S)
        self._failures = 0
        if page:
            walk.go_on(page, failed)
            self._tell(Passed(walk.horizon, (), frozenset(one.id for one in page if one.reset)))
        return 0.0 if len(page) == AT_ONCE else walk.again()

    def _fail(self, walk: Walk, todo: list[OldTicket]) -> set[TicketId]:
        """Fail these, fewer at once where it takes too long. Raises DatabaseTrouble if it is not for their number."""
        failed: set[TicketId] = set()
        while todo:
            part = todo[: walk.size]
            done: list[TicketId] = []
            try:
                done = self._queue.give_up(part, code="stale", error=self._error, rescue=False, limit=PATIENT_S)
            except DatabaseTrouble as trouble:
                if trouble.sqlstate not in _SLOW:
                    raise
                walk.size = max(1, len(part) // 2)
                if len(part) > 1:
                    log.warning("backlog in smaller pieces", extra={"count": walk.size, "cause": trouble.sentence})
                    continue
                log.warning("old ticket left for later", extra={"ticket": part[0].id, "cause": trouble.sentence})
            else:
                walk.size = min(AT_ONCE, walk.size * 2)
            failed.update(done)
            self._tell(Passed(walk.horizon, tuple(done), frozenset()))
            todo = todo[len(part) :]
        return failed
