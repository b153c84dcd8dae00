"""Looking for tickets: among all of them, or among those that an old or very large backlog leaves."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from kps.core.agenda import Agenda, Task
from kps.core.backlog import NO_TICKET, Among, Horizon, Survey
from kps.core.clock import PosClock
from kps.core.look import Found, depth_of, is_crowded, what_was_found
from kps.core.routing import ALL_SERVED, Served, is_ours, served
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.database import DatabaseTrouble
from kps.database.dispatcher_queue import DispatcherQueue
from kps.dispatcher.backlog import BacklogWorker, Done, News, Passed, Surveyed
from kps.dispatcher.printers import Printers
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

CROWD = 2000
"""With fewer `new` tickets than this every look goes through all of them, however long it takes."""
SURVEY_EVERY_S = 2.0
"""Between two surveys, at least."""
SURVEY_SHARE = 0.05
"""How much of the time may be spent on surveys: where one takes long, there are fewer."""
SURVEY_AGAIN_S = 5.0
"""Before the next survey, after one that failed."""
NO_CROWD_S = 60.0
"""Before the next survey, after one that found few tickets: a look takes long for another reason."""
LOGGED_EACH = 20
"""So many tickets that fail together have a log line each."""

EVERYTHING = Among(float("-inf"), NO_TICKET)
TIMED_OUT = "57014"
"""PostgreSQL's code of a statement that was cut off at its time limit."""

log = logging.getLogger("kps.dispatcher")


class Looks:
    """One look after the other. The backlog worker, a thread, sees to what is too old, or too much for a look."""

    def __init__(
        self,
        settings: Settings,
        queue: DispatcherQueue,
        stats: Stats,
        agenda: Agenda,
        printers: Printers,
        backlog: BacklogWorker,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._stats = stats
        self._agenda = agenda
        self._printers = printers
        self.backlog = backlog
        self._depth = depth_of(settings)
        self.clock = PosClock()
        self.survey: Survey | None = None
        """The last survey; None = a look goes through all tickets."""
        self._is_first = stats.get(Cell.BACKLOG_UP_TO) == 0
        """Whether tickets of another day may be waiting, which have to be set apart before the next look."""
        self._go_on_for_the_dead()

    def _go_on_for_the_dead(self) -> None:
        """Fail the old tickets that the dispatcher before us had still to fail when it died.

        Its shared memory says which. It has looked until it died, so none has become old unseen since.
        """
        up_to = self._stats.get(Cell.BACKLOG_UP_TO)
        if up_to > 0:
            self.backlog.fail(Horizon(self._stats.get(Cell.BACKLOG_BEFORE), TicketId(int(up_to))))

    def begin_anew(self) -> None:
        """After an outage: tickets that waited for all of it may be of another day, like those before a start."""
        self._is_first = True
        self._stats.set(Cell.BACKLOG_UP_TO, 0)

    def look_back(self) -> None:
        """Before the first look after a start or an outage: have the tickets of another day failed, by the worker."""
        if not self._is_first:
            return
        self.clock.known_s = self._queue.pos_behind_s()
        # Where that clock is behind, tickets seem older than they are. One that was ahead may be right by now.
        slow_minutes = max(0.0, self.clock.known_s or 0.0) / 60
        horizon, any_old = self._queue.horizon(self._settings.stale_after_minutes + slow_minutes)
        if any_old:
            self.backlog.fail(horizon)
            self._stats.set(Cell.BACKLOG_BEFORE, horizon.before)
        self._stats.set(Cell.BACKLOG_UP_TO, horizon.up_to if any_old else -1)
        self._is_first = False

    def look(self) -> Found:
        """The tickets of ours that may be decided on now. Costs the same however many wait, and for whatever reason."""
        found = self._look()
        self._learn_clock(found)
        settings, printers = self._settings, self._printers
        ours = [
            ticket
            for ticket in found.tickets
            if is_ours(ticket, printers.routes, settings.stations, settings.brands, printers.boxes)
        ]
        return replace(found, tickets=tuple(ours))

    def _look(self) -> Found:
        survey = self.survey
        among = self._today() if survey is None else survey.among(self.backlog.spared)
        began = monotonic()
        try:
            # A survey knows all tickets: where it ends must be compared with all that a look sees, not with ours alone.
            seen = self._queue.look(self._depth, among, self.served() if survey is None else ALL_SERVED)
        except DatabaseTrouble as trouble:
            if trouble.sqlstate != TIMED_OUT or survey is not None:
                raise
            log.warning("too many tickets for one look", extra={"cause": trouble.sentence})
            self.survey = self._queue.newest()
            self._begin_survey()
            return self._look()
        crowded = survey is not None or is_crowded(seen, self._depth, monotonic() - began)
        if crowded and self._agenda.due(Task.SURVEY, monotonic()):
            self._begin_survey()
        return what_was_found(seen, self._depth, self._printers.routes, survey)

    def served(self) -> Served:
        """What a look has to read."""
        settings, printers = self._settings, self._printers
        return served(printers.routes, settings.stations, settings.brands, printers.boxes)

    def _today(self) -> Among | None:
        """What a look considers while tickets of another day are still being failed: the others; None = all tickets."""
        backlog = self.backlog
        return None if backlog.horizon is None else backlog.horizon.without_old(backlog.spared)

    def _learn_clock(self, found: Found) -> None:
        """Compare the POS's clock with the tickets that have come since the last look: they were written just now."""
        behind_s = self.clock.saw(found.tickets, found.complete and self.backlog.horizon is None)
        if behind_s is None:
            return
        self._queue.learn_pos_clock(behind_s)
        before_s, self.clock.known_s = self.clock.known_s, behind_s
        if behind_s or before_s:
            log.warning("clock of the POS", extra={"behind_s": round(behind_s)})

    # -- the backlog -----------------------------------------------------------------------------------------------

    def _begin_survey(self) -> None:
        self.backlog.survey(self._today() or EVERYTHING)

    def survey_due_at(self) -> float | None:
        """When the next survey has to begin; None = no survey is needed, or one is under way."""
        return None if self.survey is None or self.backlog.surveying else self._agenda.at(Task.SURVEY)

    def came_back(self, tickets: Iterable[TicketId]) -> None:
        """These have become `new` again since the last survey: the looks until the next one have to consider them."""
        if self.survey is not None:
            self.survey = replace(self.survey, ids=self.survey.ids | set(tickets))

    def hear(self) -> bool:
        """Hear what the backlog worker has done; True = another look may find more."""
        found = False
        for news in self.backlog.take():
            found = self._hear(news) or found
        return found

    def _hear(self, news: News) -> bool:
        match news:
            case Passed(_, failed, spared):
                self._say_failed(failed)
                return bool(spared)
            case Done() if self.backlog.horizon is None:
                self._stats.set(Cell.BACKLOG_UP_TO, -1)
                self._agenda.at_once(Task.SURVEY)
                return True
            case Done():
                return False
            case Surveyed(survey, trouble):
                return self._surveyed(survey, trouble)
            case unexpected:
                assert_never(unexpected)

    def _surveyed(self, survey: Survey | None, trouble: str) -> bool:
        if survey is None:
            log.warning("backlog cannot be surveyed", extra={"cause": trouble})
            pause_s = SURVEY_AGAIN_S
        elif survey.count < CROWD:
            self.survey, pause_s = None, NO_CROWD_S
        else:
            self.survey, pause_s = survey, max(SURVEY_EVERY_S, survey.took_s / SURVEY_SHARE)
        self._agenda.put(Task.SURVEY, monotonic() + pause_s)
        return survey is not None

    def _say_failed(self, failed: Sequence[TicketId]) -> None:
        self._stats.add(Cell.FAILED, len(failed))
        if len(failed) > LOGGED_EACH:
            log.error(
                "tickets failed",
                extra={"count": len(failed), "first": failed[0], "last": failed[-1], "cause": "stale"},
            )
            return
        for ticket in failed:
            log.error("ticket failed", extra={"ticket": ticket, "cause": "stale"})
