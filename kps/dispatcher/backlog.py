"""A thread that fails tickets of another day and surveys very large backlogs, so that no new ticket waits for that."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import threading
from collections import deque
from dataclasses import dataclass, replace

from kps.core.backlog import AT_ONCE, LONGEST_PAUSE_S, PAUSE_S, Among, Horizon, OldTicket, Survey, Walk
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.core.work import WorkKind
from kps.database import Database, DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue
from kps.database.pos import PosAdapter
from kps.database.statements.dispatching import PATIENT_S
from kps.process.clocks import monotonic

SURVEYED = 200
"""Tickets of a route that a survey finds: more than its printers print before the next survey."""
_SLOW = frozenset({"57014", "55P03", "40P01"})
"""PostgreSQL's codes for a time-out, a lock not granted in time, a deadlock: fewer tickets, or a later try, may do."""

log = logging.getLogger("kps.dispatcher")


@dataclass(frozen=True, slots=True)
class Passed:
    """Some of the old tickets have been worked off."""

    horizon: Horizon
    failed: tuple[TicketId, ...]
    """These have become `failed`."""
    spared: frozenset[TicketId]
    """These are printed although they are old: the POS has reset them."""


@dataclass(frozen=True, slots=True)
class Done:
    """No old ticket is left that has to be failed."""

    horizon: Horizon


@dataclass(frozen=True, slots=True)
class Surveyed:
    """The survey that was asked for has ended."""

    survey: Survey | None
    """None = it failed."""
    trouble: str = ""
    """Why it failed."""


News = Passed | Done | Surveyed
"""What the thread reports."""


class BacklogWorker:
    """The dispatcher's side of the thread, which has a database connection only while there is something to do."""

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
        self._reading_end, self._writing_end = os.pipe()
        os.set_blocking(self._reading_end, False)
        os.set_blocking(self._writing_end, False)
        self.horizon: Horizon | None = None
        """Tickets that were written before it are still being failed: a look leaves them out. None = no such ticket."""
        self.spared: frozenset[TicketId] = frozenset()
        """But for these, which are printed although they are old."""
        self.surveying = False
        """Whether a survey has been asked for, and not been reported yet."""

    def fileno(self) -> int:
        """Readable when `take` has something to return."""
        return self._reading_end

    @property
    def errors(self) -> int:
        """Errors of its connection so far."""
        return self._database.errors

    def fail(self, horizon: Horizon) -> None:
        """Begin to fail the tickets of another day; a later horizon takes the place of an earlier one."""
        self.horizon, self.spared = horizon, frozenset()
        self._put(horizon)

    def survey(self, among: Among) -> None:
        """Begin to look for the oldest tickets of each route, unless such a survey is under way."""
        if not self.surveying:
            self.surveying = True
            self._put(among)

    def take(self) -> list[News]:
        """What the thread has done since the last call."""
        self._have_thread()
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading_end, 4096)
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
        os.close(self._reading_end)
        os.close(self._writing_end)

    def _put(self, work: Horizon | Among) -> None:
        self._work.put(work)
        self._have_thread()

    def _have_thread(self) -> None:
        if self._thread is not None and not self._thread.is_alive() and monotonic() >= self._again_at:
            # It ended by an unexpected exception, whose traceback is in the log: its work is begun anew.
            self._thread, self.surveying, self._again_at = None, False, monotonic() + LONGEST_PAUSE_S
            if self.horizon is not None:
                self._work.put(self.horizon)
        if self._thread is not None or self._work.empty():
            return
        # A daemon: the process may end although the database does not answer.
        thread = threading.Thread(target=self._run, name="backlog", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the host allows no further thread now: `take` tries again
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
                    self._report(Done(walk.horizon))
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

    def _report(self, news: News) -> None:
        self._news.append(news)
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so it is readable
            os.write(self._writing_end, b"!")

    def _survey(self, among: Among) -> None:
        began = monotonic()
        try:
            found = self._queue.survey(SURVEYED, among)
        except DatabaseTrouble as trouble:
            self._report(Surveyed(None, trouble.sentence))
        else:
            self._report(Surveyed(replace(found, took_s=monotonic() - began)))

    def _page(self, walk: Walk) -> float | None:
        """Fail one page of old tickets; returns seconds until the next page, None = there is none."""
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
            self._report(Passed(walk.horizon, (), frozenset(one.id for one in page if one.reset)))
        return 0.0 if len(page) == AT_ONCE else walk.again()

    def _fail(self, walk: Walk, todo: list[OldTicket]) -> set[TicketId]:
        """Fail these, fewer at once where it takes too long. Raises DatabaseTrouble if fewer would not help."""
        failed: set[TicketId] = set()
        while todo:
            part = todo[: walk.size]
            done: list[TicketId] = []
            try:
                given_up = self._queue.give_up(WorkKind.TICKET, part, code="stale", error=self._error, limit=PATIENT_S)
                done = [TicketId(ticket) for ticket in given_up]
            except DatabaseTrouble as trouble:
                if trouble.sqlstate not in _SLOW:
                    raise
                walk.was_slow(len(part))
                if len(part) > 1:
                    log.warning("backlog in smaller pieces", extra={"count": walk.size, "cause": trouble.sentence})
                    continue
                log.warning("old ticket left for later", extra={"ticket": part[0].id, "cause": trouble.sentence})
            else:
                walk.was_quick()
            failed.update(done)
            self._report(Passed(walk.horizon, tuple(done), frozenset()))
            todo = todo[len(part) :]
        return failed
