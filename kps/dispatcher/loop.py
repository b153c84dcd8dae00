"""The dispatcher: finds work, decides which printer each ticket goes to, claims it, hands it over."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import wait

from kps.core.backlog import NO_TICKET, Among, Horizon, Route, Survey
from kps.core.clock import ARRIVALS, behind
from kps.core.routing import (
    ALL_SERVED,
    ClaimFor,
    DeviceState,
    EndRound,
    GiveUp,
    PrinterRow,
    Routes,
    Served,
    WaitFor,
    Waiting,
    can_be_rescued,
    covers,
    decide,
    is_whole,
    printer_for_slip,
    why_not,
)
from kps.core.tickets import PrinterKey, TicketId, Token
from kps.crash import Point, crash_point
from kps.database import Database, DatabaseTrouble
from kps.database.dispatcher_queue import Claimed, DispatcherQueue, WaitingSlip
from kps.database.listen import Listener
from kps.database.statements import CHANNEL_PRINTER
from kps.dispatcher.backlog import BacklogKeeper, Done, Passed, Surveyed
from kps.dispatcher.mailboxes import Mailbox
from kps.dispatcher.slip_maker import SlipMaker
from kps.process.channels import EndLost, PeerGone
from kps.process.child import ChildTools
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell

UNWOKEN_POLL_S = 0.1
"""Between looks, at most, while nobody notifies or the listener is not proven to hear it."""
SETTLE_LOOKS_S = (0.005, 0.01, 0.02, 0.05, 0.1)
"""When a half-written ticket is looked at again."""
LOCKED_AGAIN_S = 0.05
LEFT_AGAIN_S = 1.0
"""Between tries to give back what nobody holds, while somebody has its ticket's row locked."""
OUTAGE_S = 60.0
GRACE_LOOK_S = 0.1
RESCUE_EVERY_S = 5.0
DEVICES_EVERY_S = 1.0
"""Age of what is known about devices, at most, when something is decided with it. Their changes are notified."""
SIGHT_EVERY_S = 5.0
"""Between two looks at the leases that live: after a leap of the database's clock we know how long ago that was."""
SAY_WHY_S = 10.0
"""Between two looks whether a printer's row says why it cannot print, while tickets end for want of it."""
SLIPS_EVERY_S = 2.0
"""Between looks for what stations must be told."""
SLIPS_AGAIN_S = 30.0
"""The same after an error of the database that a person must mend, and that concerns slips alone."""
CROWDED_S = 0.05
"""A look that takes longer, and finds more than it can take, is not to be had each time: see Survey."""
CROWD = 2000
"""So few `new` tickets are looked through each time, however long it takes."""
SURVEY_EVERY_S = 2.0
SURVEY_SHARE = 0.05
"""How much of the time may be spent on surveys: where one takes long, there are fewer."""
NO_CROWD_S = 60.0
"""After a survey that found few tickets: the database is slow, or far away."""
LOGGED_EACH = 20
"""So many tickets that fail together have a log line each."""
CLOCK_NEWS_S = 10.0
"""What is known of the POS's clock is written anew if it differs by so much."""
RETRY_DATABASE_S = (0.05, 0.1, 0.25, 0.5, 1.0)
NOTHING_TO_DO_S = 2.0
"""Longest wait of the loop: whatever happens ends it, and the heart beats."""

FOREVER = float("inf")
EVERYTHING = Among(-FOREVER, NO_TICKET)
TIMED_OUT = "57014"
"""PostgreSQL's code of a statement that was cut off at its time limit."""

log = logging.getLogger("kps.dispatcher")


class Stopped(Exception):
    """The supervisor is gone, or wants us to end."""


class Dispatcher:
    """One loop; `step` is one turn of it."""

    def __init__(self, tools: ChildTools) -> None:
        start = tools.start
        self._settings = start.settings
        self._control = tools.control
        self._stats = tools.stats
        self._log_handle = tools.log
        self._database = Database(start.settings.database, start.name, pulse=self._stats.beat)
        self._queue = DispatcherQueue(self._database, start.schema, start.owner, start.settings.instance_name)
        self._listener = Listener(start.settings.database, start.name, self._database, self._stats.beat)
        self._mailboxes: dict[PrinterKey, Mailbox] = {}
        self._routes = Routes()
        self._say_due: dict[int, float] = {}
        """Printer row -> when it is to be told again why it cannot print."""
        self._arriving_rows: list[PrinterRow] = []
        self._rows_known = False
        self._sight_due = 0.0
        self._left_due = 0.0
        self._devices: dict[PrinterKey, DeviceState] = {}
        self._devices_due = 0.0
        self._lived_at: dict[PrinterKey, float] = {}
        self._unwhole: dict[TicketId, _Growing] = {}
        self._backlog: list[Waiting] = []
        """What the last look found beyond the room there was; whatever else happens makes it void.

        Only those that nobody stands before whom the look has left out.
        """
        self._saw_all = False
        """Whether the last look reached the end of the backlog."""
        self._seen_up_to: dict[PrinterKey, TicketId] = {}
        self._woken = False
        """Whether what the POS commits wakes us: it notifies, and we hear it."""
        self._wakes_known = start.schema.has_trigger
        """What the supervisor knows of the wake-up trigger."""
        self._newest: TicketId | None = None
        """The newest ticket of the last look; who comes after it, comes now. None = somebody may have come unseen."""
        self._ages: deque[float] = deque(maxlen=ARRIVALS)
        """How old the last tickets that were seen to come pretended to be."""
        self._pos_behind_s: float | None = None
        self._gained: set[PrinterKey] = set()
        self._look_due = 0.0
        self._rescue_due = 0.0
        self._maker = SlipMaker(start.settings, start.schema, start.owner, f"{start.name}-slips")
        self._slips_due = 0.0
        self._telling_due = 0.0
        self._slips_wait = False
        self._rounds_due = FOREVER
        self._rounds_known = False
        self._keeper = BacklogKeeper(start.settings, start.schema, start.owner, f"{start.name}-backlog")
        self._survey: Survey | None = None
        """While there are too many tickets to look through them all each time."""
        self._survey_due = 0.0
        # A dispatcher that takes over from a dead one has no outage behind it: tickets were held while it looked. It
        # goes on with what lies behind the first look.
        up_to = self._stats.get(Cell.BACKLOG_UP_TO)
        self._first_look = up_to == 0
        if up_to > 0:
            self._keeper.fail(Horizon(self._stats.get(Cell.BACKLOG_BEFORE), TicketId(int(up_to))))
        self._poll_due = FOREVER
        self._trouble_since: float | None = None
        self._draining = False
        self._failures = 0
        self._noted: dict[TicketId, str] = {}
        self._failovers_untold: Counter[tuple[str, str]] = Counter()
        """(printer, its backup) -> tickets that the supervisor has not been told of."""

    def run(self) -> None:
        """Work until told to end."""
        try:
            self._control.send(("up",))
            while True:
                self.step()
        except (Stopped, PeerGone):
            self._listener.close()
            self._database.close()

    def step(self) -> None:
        """Hear what happened, look for work if there may be some, wait for the next thing to happen."""
        self._stats.beat()
        self._stats.count(
            Cell.DATABASE_ERRORS,
            self._database.errors + self._maker.errors + self._keeper.errors + self._listener.errors,
        )
        self._stats.count(Cell.LOG_DROPPED, self._log_handle.dropped)
        self._read_control()
        self._read_mailboxes()
        self._hear()
        self._hear_of_slips()
        self._hear_of_backlog()
        if monotonic() >= self._rounds_due:
            self._rounds_due = FOREVER
            self._rounds_known = False
            self._look_now()
        if self._gained and not self._draining:
            self._fill_room()
        if self._rows_known and not self._draining and monotonic() >= min(self._look_due, self._slips_due):
            self._try_to_work()
        self._tell_failovers()
        self._wait()

    # -- hearing ---------------------------------------------------------------------------------------------------

    def _read_control(self) -> None:
        while (message := self._control.receive()) is not None:
            match message:
                case ("printer", str(key), int(generation), int(epoch)):
                    self._open_mailbox(PrinterKey(key), generation, epoch)
                case ("gone", str(key)):
                    self._close_mailbox(PrinterKey(key))
                case ("lease", str(key), int(epoch)):
                    if box := self._mailboxes.get(PrinterKey(key)):
                        box.epoch = epoch
                        self._look_now()
                case ("rows", int()):
                    self._arriving_rows = []
                case ("row", PrinterRow() as row):
                    self._arriving_rows.append(row)
                case ("rows_end", int()):
                    self._routes, self._rows_known = Routes(tuple(self._arriving_rows)), True
                    self._devices_due = 0.0
                    self._look_now()
                case ("drain",):
                    self._drain()
                case ("reopen",):
                    self._log_handle.reopen()
                case ("stop",):
                    raise Stopped
                case _:
                    log.error("unknown message", extra={"text": str(message[0])})

    def _open_mailbox(self, key: PrinterKey, generation: int, epoch: int) -> None:
        self._close_mailbox(key)
        try:
            channel = self._control.receive_end()
        except EndLost:  # the supervisor logs it, and sends another one
            self._control.send(("mailbox lost", key, generation))
            return
        self._mailboxes[key] = Mailbox(key, generation, channel, epoch)

    def _close_mailbox(self, key: PrinterKey) -> None:
        if box := self._mailboxes.pop(key, None):
            box.channel.close()

    def _read_mailboxes(self) -> None:
        for box in list(self._mailboxes.values()):
            try:
                if not box.read():
                    continue
                if box.reconciled:
                    self._gained.add(box.key)
                else:
                    self._look_now()
            except PeerGone:
                # What it held is given back by the supervisor once the process has been reaped.
                self._close_mailbox(box.key)

    def _fill_room(self) -> None:
        """A printer has room: the backlog that is known goes on without another look. The claim sees if it is stale."""
        gained, self._gained = self._gained, set()
        backlog, self._backlog = self._backlog, []
        if not backlog and self._saw_all and not self._slips_wait:
            return  # nobody waits for it: who comes is notified of, or found by the next poll
        due = min(self._look_due, self._slips_due, self._devices_due)
        # Without notifications nobody says that an older ticket has come.
        if not backlog or not self._woken or self._slips_wait or self._failures or monotonic() >= due:
            self._look_now()
            return
        try:
            again = self._act_on(backlog, False)
        except DatabaseTrouble as trouble:
            self._failed(trouble)
            return
        has_room = any(box.room > 0 for box in self._mailboxes.values() if box.key in gained)
        if again is not None or (has_room and not self._saw_all):
            self._look_now()

    def _hear(self) -> None:
        if self._listener.step():
            self._newest = None
            self._devices_due = 0.0
            self._look_now()
        heard = self._listener.heard()
        if heard:
            self._look_now()
        if CHANNEL_PRINTER in heard:
            self._devices_due = 0.0
            self._rescue_due = 0.0
        self._know_whether_woken()
        self._stats.set(Cell.LISTENER_PROVEN, float(self._listener.proven))
        self._stats.count(Cell.LISTENER_RECONNECTS, max(0, self._listener.reconnects - 1))

    def _know_whether_woken(self) -> None:
        wakes = self._listener.wakes
        woken = self._listener.proven and wakes is True
        if self._woken and not woken:
            self._look_now()  # the poll may be an hour away
        self._woken = woken
        if wakes is not None and wakes != self._wakes_known:
            self._wakes_known = wakes
            self._control.send(("trigger",))

    def _look_now(self) -> None:
        self._backlog = []
        self._look_due = 0.0
        self._poll_due = FOREVER

    # -- working ---------------------------------------------------------------------------------------------------

    def _try_to_work(self) -> None:
        polled = monotonic() >= self._poll_due
        self._poll_due = FOREVER
        try:
            again = self._work(polled)
        except DatabaseTrouble as trouble:
            self._failed(trouble)
            return
        if self._failures:
            log.info("database back")
        self._failures = 0
        self._trouble_since = None
        self._stats.set(Cell.DATABASE_TROUBLE_SINCE, 0.0)
        if again is not None:
            self._look_due = monotonic() + again
        elif self._woken:
            self._look_due = self._poll_due = monotonic() + self._settings.poll_interval_s
        else:
            self._look_due = monotonic() + min(self._settings.poll_interval_s, UNWOKEN_POLL_S)
        if any(box.left for box in self._mailboxes.values()):
            self._look_due = min(self._look_due, self._left_due)
        if self._survey is not None and not self._keeper.surveying:
            # Only the next survey sees what has become `new` again meanwhile.
            self._look_due = min(self._look_due, max(self._survey_due, monotonic() + UNWOKEN_POLL_S))

    def _failed(self, trouble: DatabaseTrouble) -> None:
        """Whether what we asked for was done is unknown: reconcile every printer before the next claim."""
        delay = RETRY_DATABASE_S[min(self._failures, len(RETRY_DATABASE_S) - 1)]
        self._failures += 1
        if self._failures in (1, 10, 100) or self._failures % 1000 == 0:
            log.warning("database trouble", extra={"cause": trouble.sentence, "failures": self._failures})
        if self._trouble_since is None:
            self._trouble_since = monotonic()
            self._stats.set(Cell.DATABASE_TROUBLE_SINCE, self._trouble_since)
        self._look_due = self._slips_due = monotonic() + delay
        self._newest = None
        # After a blip the backlog is today's; after an outage it may be another day's.
        if monotonic() - self._trouble_since > OUTAGE_S:
            self._first_look = True
            self._stats.set(Cell.BACKLOG_UP_TO, 0)
        for box in self._mailboxes.values():
            box.reconciled = False

    def _work(self, polled: bool) -> float | None:
        """One look and what follows from it; returns seconds until the next look, None = when somebody calls."""
        self._reconcile()
        if monotonic() >= self._sight_due:
            self._know_devices()
        if self._first_look:
            self._look_back()
        look_for_slips = monotonic() >= self._slips_due
        if self._slips_wait or (look_for_slips and self._maker.open):
            self._tell_stations()
        tickets = [ticket for ticket in self._look() if self._is_ours(ticket)]
        self._stats.set(Cell.LAST_POLL, time.time())
        self._forget_all_but(tickets)
        if tickets:
            self._know_devices()
        again = self._act_on(tickets, polled)
        if look_for_slips:
            self._slips_due = monotonic() + SLIPS_EVERY_S
            self._maker.begin()
        if monotonic() >= self._rescue_due:
            self._rescue()
        self._know_rounds()
        return again

    def _look(self) -> list[Waiting]:
        """What may be decided on now. Costs the same however many tickets wait, and for whatever reason."""
        survey = self._survey
        among = self._today() if survey is None else survey.among(self._keeper.spared)
        began = monotonic()
        try:
            # A survey has cut the routes of all.
            seen = self._queue.look(self._depth(), among, self._served() if survey is None else ALL_SERVED)
        except DatabaseTrouble as trouble:
            if trouble.sqlstate != TIMED_OUT or survey is not None:
                raise
            log.warning("too many tickets for one look", extra={"cause": trouble.sentence})
            self._survey = self._queue.newest()
            self._keeper.survey(self._today() or EVERYTHING)
            return self._look()
        took_s = monotonic() - began
        routes = Counter((ticket.station, ticket.brand) for ticket in seen)
        self._seen_up_to = self._limits(seen)
        if survey is None:
            self._saw_all = len(seen) < self._depth()
            wanted = took_s > CROWDED_S and any(count >= self._depth() for count in routes.values())
        else:
            self._saw_all = False
            short = {of: end for of, end in survey.cut.items() if routes[of] < self._depth()}
            seen = [ticket for ticket in seen if not self._passes(ticket, survey, short)]
            wanted = bool(short)
        if monotonic() >= self._survey_due and (wanted or survey is not None):
            self._keeper.survey(self._today() or EVERYTHING)
        self._learn_clock(seen)
        return seen

    def _passes(self, ticket: Waiting, survey: Survey, short: Mapping[Route, TicketId]) -> bool:
        """Whether an older ticket that was not surveyed may be waiting for the same printer."""
        if ticket.id > survey.cut.get((ticket.station, ticket.brand), ticket.id):
            return True
        keys = {row.key for row in self._routes.of(ticket.station, ticket.brand) if row.active and row.key}
        return any(
            ticket.id > end and not keys.isdisjoint(row.key for row in self._routes.of(*of) if row.active)
            for of, end in short.items()
        )

    def _today(self) -> Among | None:
        """All but what lies behind the first look and is still being failed; None = there is nothing of that."""
        keeper = self._keeper
        return None if keeper.horizon is None else keeper.horizon.without_old(keeper.spared)

    def _learn_clock(self, seen: Sequence[Waiting]) -> None:
        """A ticket that has come since the last look was written just now, whatever the POS's clock says."""
        known = self._newest
        newest = max((ticket.id for ticket in seen), default=TicketId(0))
        saw_all = self._saw_all and self._keeper.horizon is None
        self._newest = max(newest, known or newest) if saw_all else None
        ages = [ticket.age_s for ticket in seen if ticket.untried and known is not None and ticket.id > known]
        if not ages:
            return
        self._ages.append(min(ages))
        found = behind(self._ages)
        told = self._pos_behind_s
        if found is None or (told is not None and abs(found - told) < CLOCK_NEWS_S):
            return
        self._queue.learn_pos_clock(found)
        self._pos_behind_s = found
        if found or told:
            log.warning("clock of the POS", extra={"behind_s": round(found)})

    def _depth(self) -> int:
        return max(20, self._settings.max_tickets_per_poll)

    def _limits(self, seen: Iterable[Waiting]) -> dict[PrinterKey, TicketId]:
        """For printers: the number behind which a look of this depth may have left out a ticket for it."""
        routes: dict[tuple[str, str], list[TicketId]] = {}
        for ticket in seen:
            routes.setdefault((ticket.station, ticket.brand), []).append(ticket.id)
        limits: dict[PrinterKey, TicketId] = {}
        ends = {of: ids[-1] for of, ids in routes.items() if len(ids) >= self._depth()}
        if self._survey is not None:
            ends = {**self._survey.cut, **ends}
        for (station, brand), end in ends.items():
            for row in self._routes.of(station, brand):
                if row.key:
                    limits[row.key] = min(end, limits.get(row.key, end))
        return limits

    def _is_next(self, ticket: Waiting) -> bool:
        """Whether no printer of its station may have an older one that the last look has left out."""
        rows = self._routes.of(ticket.station, ticket.brand)
        return all(ticket.id <= self._seen_up_to.get(row.key, ticket.id) for row in rows)

    def _is_ours(self, ticket: Waiting) -> bool:
        """A limited instance leaves the tickets of other stations and brands alone, unless it owns their printer."""
        settings = self._settings
        if covers(settings.stations, settings.brands, ticket):
            return True
        return any(row.key in self._mailboxes for row in self._routes.of(ticket.station, ticket.brand))

    def _served(self) -> Served:
        """What is to be read for `_is_ours`: nobody's tickets cost us anything but our own."""
        settings = self._settings
        if not (settings.stations or settings.brands):
            return ALL_SERVED
        ours = frozenset([(row.station, row.brand) for row in self._routes.rows if row.key in self._mailboxes])
        return Served(settings.stations, settings.brands, ours)

    def _reconcile(self) -> None:
        for box in self._mailboxes.values():
            if box.greeted and (not box.reconciled or (box.left and monotonic() >= self._left_due)):
                found = self._queue.reconcile(box.key, box.held)
                box.reconciled, box.left = True, found.left > 0
                if found.released:
                    self._stats.add(Cell.RECONCILED, found.released)
                    log.warning("released", extra={"cause": "reconcile", "printer": box.key, "count": found.released})
        if any(box.left for box in self._mailboxes.values()) and monotonic() >= self._left_due:
            self._left_due = monotonic() + LEFT_AGAIN_S

    def _know_devices(self) -> None:
        if monotonic() < self._devices_due and self._devices:
            return
        keys = {row.key for row in self._routes.rows if row.key}
        self._devices = {key: self._as_we_saw_it(state) for key, (state, _, _) in self._queue.devices(keys).items()}
        self._devices_due = monotonic() + DEVICES_EVERY_S
        self._sight_due = monotonic() + SIGHT_EVERY_S

    def _as_we_saw_it(self, state: DeviceState) -> DeviceState:
        """A lease that we saw alive has ended no longer ago than that, whatever the database's clock has done."""
        if state.live:
            self._lived_at[state.key] = monotonic()
        if state.key not in self._lived_at:
            return state
        return replace(state, lapsed_s=min(state.lapsed_s, monotonic() - self._lived_at[state.key]))

    def _look_back(self) -> None:
        """The first look after a start or an outage: what is of another day is failed, beside the looks for today's."""
        self._pos_behind_s = self._queue.pos_behind_s()
        # A clock that was ahead may have been set meanwhile: nothing becomes older by it.
        slow_minutes = max(0.0, self._pos_behind_s or 0.0) / 60
        horizon, any_old = self._queue.horizon(self._settings.stale_after_minutes + slow_minutes)
        if any_old:
            self._keeper.fail(horizon)
            self._stats.set(Cell.BACKLOG_BEFORE, horizon.before)
        self._stats.set(Cell.BACKLOG_UP_TO, horizon.up_to if any_old else -1)
        self._first_look = False

    def _hear_of_backlog(self) -> None:
        for news in self._keeper.take():
            match news:
                case Passed(_, failed, spared):
                    self._old_failed(failed)
                    if spared:
                        self._look_now()
                case Done() if self._keeper.horizon is None:
                    self._stats.set(Cell.BACKLOG_UP_TO, -1)
                    self._survey_due = 0.0
                    self._look_now()
                case Surveyed(None, trouble):
                    log.warning("backlog cannot be surveyed", extra={"cause": trouble})
                    self._survey_due = monotonic() + RESCUE_EVERY_S
                case Surveyed(Survey() as survey) if survey.count < CROWD:
                    self._survey, self._survey_due = None, monotonic() + NO_CROWD_S
                    self._look_now()
                case Surveyed(Survey() as survey):
                    self._survey = survey
                    self._survey_due = monotonic() + max(SURVEY_EVERY_S, survey.took_s / SURVEY_SHARE)
                    self._look_now()

    def _old_failed(self, failed: Sequence[TicketId]) -> None:
        self._stats.add(Cell.FAILED, len(failed))
        if len(failed) > LOGGED_EACH:
            log.error(
                "tickets failed",
                extra={"count": len(failed), "first": failed[0], "last": failed[-1], "cause": "stale"},
            )
            return
        for ticket in failed:
            log.error("ticket failed", extra={"ticket": ticket, "cause": "stale"})

    def _act_on(self, tickets: list[Waiting], polled: bool) -> float | None:
        """Carry out what is decided for each ticket; ids ascend, so each printer gets its lowest first."""
        free = {box.key: box.room for box in self._mailboxes.values() if box.greeted and box.reconciled and box.epoch}
        claims: list[tuple[Waiting, ClaimFor, int]] = []
        ended: list[tuple[Waiting, EndRound]] = []
        given_up: list[tuple[Waiting, GiveUp]] = []
        in_grace: list[Waiting] = []
        again: float | None = None
        unroutable = held = 0
        for ticket in tickets:
            whole, look_s = self._whole(ticket)
            rows = self._routes.of(ticket.station, ticket.brand)
            match self._decide(ticket, rows, free, whole):
                case ClaimFor() as claim:
                    free[claim.row.key] -= 1
                    claims.append((ticket, claim, self._mailboxes[claim.row.key].epoch))
                case EndRound() as end:
                    ended.append((ticket, end))
                case GiveUp() as give_up:
                    given_up.append((ticket, give_up))
                case WaitFor.ITEMS:
                    again = look_s if again is None else min(again, look_s)
                case WaitFor.GRACE:
                    unroutable += 1
                    left_s = max(GRACE_LOOK_S, self._settings.unroutable_grace_s - ticket.waited_s)
                    again = left_s if again is None else min(again, left_s)
                    if not ticket.unroutable_noted:
                        in_grace.append(ticket)
                case WaitFor() as why:
                    held += why in (WaitFor.HELD, WaitFor.INACTIVE)
                    self._note(ticket, why)
        self._stats.set(Cell.UNROUTABLE, unroutable)
        self._stats.set(Cell.HELD_TICKETS, held)
        if claims and polled:
            self._stats.add(Cell.POLL_FOUND_WORK)
        taken = {ticket.id for ticket, _, _ in claims}
        self._backlog = [ticket for ticket in tickets if ticket.id not in taken and self._is_next(ticket)]
        full = self._claim(claims)
        if full is not None:
            # Somebody was left out, and must not be overtaken by who stands behind him.
            self._backlog, self._saw_all = [], False
        self._end_rounds(ended)
        self._give_up(given_up)
        if in_grace:
            self._queue.wait(in_grace)
        self._say_why([ticket for ticket, _ in (*ended, *given_up)])
        return full if full is not None else again

    def _decide(
        self, ticket: Waiting, rows: Sequence[PrinterRow], free: dict[PrinterKey, int], whole: bool | None
    ) -> ClaimFor | WaitFor | EndRound | GiveUp:
        settings = self._settings
        decision = decide(
            ticket,
            rows,
            self._devices,
            free,
            whole=whole,
            policy=settings.printer_down_policy,
            grace_s=settings.unroutable_grace_s,
        )
        if isinstance(decision, ClaimFor) or covers(settings.stations, settings.brands, ticket):
            return decision
        return WaitFor.BUSY

    def _note(self, ticket: Waiting, why: WaitFor) -> None:
        if why in (WaitFor.HELD, WaitFor.INACTIVE) and self._noted.get(ticket.id) != why:
            self._noted[ticket.id] = why
            log.warning("ticket held", extra={"ticket": ticket.id, "station": ticket.station, "cause": why.value})

    def _claim(self, wanted: list[tuple[Waiting, ClaimFor, int]]) -> float | None:
        """Claim and hand over, at most MAX_TICKETS_PER_POLL at once; returns when to go on, None = all is claimed."""
        batch = wanted[: self._settings.max_tickets_per_poll]
        if not batch:
            return None
        decided = {ticket.id: claim for ticket, claim, _ in batch}
        for key in {claim.row.key for claim in decided.values()}:
            self._mailboxes[key].announce()
        claimed = self._queue.claim(batch)
        crash_point(Point.CLAIMED)
        for one in claimed:
            claim = decided[one.ticket]
            self._stats.add(Cell.CLAIMED)
            if claim.backup_for:
                self._failovers_untold[claim.backup_for, claim.row.name] += 1
            self._hand_over(one)
        if len(wanted) > len(batch):
            return 0.0
        # A ticket that somebody has locked, or that changed since the look, is looked at again soon.
        return LOCKED_AGAIN_S if len(claimed) < len(batch) else None

    def _hand_over(self, claimed: Claimed) -> None:
        box = self._mailboxes.get(claimed.key)
        try:
            if box is None:
                raise PeerGone
            box.room -= 1
            crash_point(Point.HAND_OVER)
            box.hand_over(claimed.ticket, claimed.token)
            crash_point(Point.HANDED_OVER)
        except PeerGone:
            self._close_mailbox(claimed.key)
            self._queue.release([(claimed.ticket, claimed.token)], "its printer process is gone")
            log.warning("released", extra={"cause": "hand-over", "ticket": claimed.ticket, "printer": claimed.key})

    def _tell_failovers(self) -> None:
        """Numbers, so that a supervisor that does not read makes us keep no more than that."""
        if self._failovers_untold and not self._control.waiting:
            for (primary, backup), count in self._failovers_untold.items():
                self._control.send(("failover", primary, backup, count))
            self._failovers_untold.clear()

    # -- slips -----------------------------------------------------------------------------------------------------

    def _hear_of_slips(self) -> None:
        """Whether slips have been made, or were open before. What is wrong with slips alone must not keep tickets."""
        try:
            made = self._maker.take()
        except DatabaseTrouble as trouble:
            self._slips_failed(trouble, self._maker.failures)
            return
        if made is None:
            return
        self._stats.add(Cell.SLIPS_MADE, made)
        self._slips_wait = self._maker.open
        if self._slips_wait:
            self._look_now()

    def _slips_failed(self, trouble: DatabaseTrouble, failures: int) -> None:
        if trouble.sqlstate:
            log.error("slips cannot be made", extra={"cause": trouble.sentence})
        elif failures in (1, 10, 100):
            log.warning("database trouble", extra={"cause": trouble.sentence, "failures": failures})

    def _tell_stations(self) -> None:
        """Hand out what is open. Raises DatabaseTrouble, unless it concerns slips alone."""
        self._slips_wait = False
        if monotonic() < self._telling_due:
            return
        try:
            self._hand_out_all()
        except DatabaseTrouble as trouble:
            if not trouble.sqlstate:
                raise
            self._telling_due = monotonic() + (SLIPS_AGAIN_S if trouble.refused else SLIPS_EVERY_S)
            self._slips_failed(trouble, 1)

    def _hand_out_all(self) -> None:
        """Give the open slips to their printers. One that found no room goes before the next ticket.

        A printer that is busy all the time must not keep a VOID from its cooks.
        """
        slips = self._queue.look_slips()
        if slips:
            self._know_devices()
        waiting = [self._hand_out(slip) for slip in slips]
        self._slips_wait = any(waiting)

    def _hand_out(self, slip: WaitingSlip) -> bool:
        """Give a slip to the printer that it belongs to, if that is ours; True = it waits for room there."""
        if slip.over:
            if self._queue.give_up_slip(slip, "too old, or tried too often"):
                self._stats.add(Cell.SLIPS_GIVEN_UP)
                log.error("slip given up", extra={"slip": slip.id, "kind": slip.kind, "station": slip.station})
            return False
        rows = self._routes.rows if slip.target else self._routes.of(slip.station, slip.brand)
        row = None if slip.waits else printer_for_slip(rows, slip.target, self._devices)
        box = None if row is None else self._mailboxes.get(row.key)
        if row is None or box is None or not (box.greeted and box.reconciled and box.epoch):
            return False
        if box.room <= 0:
            return True
        token = self._queue.claim_slip(slip, row, box.epoch)
        if token is not None:
            self._hand_over_slip(box, slip, token)
        return False

    def _hand_over_slip(self, box: Mailbox, slip: WaitingSlip, token: Token) -> None:
        try:
            box.hand_over_slip(slip.id, token)
            box.room -= 1
        except PeerGone:
            self._close_mailbox(box.key)
            self._queue.release_slips([(slip.id, token)])

    # -- rounds ----------------------------------------------------------------------------------------------------

    def _end_rounds(self, ended: list[tuple[Waiting, EndRound]]) -> None:
        for same in _grouped(ended):
            tickets, end = [ticket for ticket, _ in same], same[0][1]
            done = self._queue.end_round(
                tickets,
                ip=end.row.address.pos_ip,
                code=end.reason.value,
                error=end.text,
                delay_s=self._settings.retry_delay_s,
                budget=self._settings.max_print_retries,
            )
            for result in done:
                self._stats.add(Cell.ROUNDS_ENDED)
                if result.status == "failed":
                    self._stats.add(Cell.FAILED)
                    log.error("ticket failed", extra={"ticket": result.ticket, "cause": end.text})
                else:
                    log.warning(
                        "round ended", extra={"ticket": result.ticket, "cause": end.text, "attempt": result.attempts}
                    )
            self._rounds_known = self._rounds_known and not any(result.status == "new" for result in done)

    def _say_why(self, tickets: list[Waiting]) -> None:
        """Tickets have ended for want of a printer: the printers' rows say why, those that nobody serves too."""
        now = monotonic()
        wanted: dict[int, tuple[PrinterKey, str]] = {}
        for station, brand in {(ticket.station, ticket.brand) for ticket in tickets}:
            wanted |= why_not(self._routes.of(station, brand), self._devices)
        due = {row: why for row, why in wanted.items() if now >= self._say_due.get(row, 0.0)}
        if not due:
            return
        self._say_due = {row: at for row, at in self._say_due.items() if at > now} | dict.fromkeys(due, now + SAY_WHY_S)
        self._queue.say_why(due, news=False)

    def _know_rounds(self) -> None:
        """When the next round of a waiting ticket is due: it must not wait for a poll."""
        if self._rounds_known:
            return
        due_s = self._queue.next_due()
        self._rounds_due = FOREVER if due_s is None else monotonic() + due_s
        self._rounds_known = True

    def _give_up(self, given_up: list[tuple[Waiting, GiveUp]]) -> None:
        for ticket, reason in given_up:
            for failed in self._queue.give_up(
                [ticket], code=reason.reason.value, error=reason.text, rescue=reason.rescue
            ):
                self._stats.add(Cell.FAILED)
                log.error("ticket failed", extra={"ticket": failed, "cause": reason.text})

    def _rescue(self) -> None:
        """Print what failed only because no printer could be reached, now that one can."""
        self._rescue_due = monotonic() + RESCUE_EVERY_S
        if not self._settings.rescue_minutes:
            return
        failed = self._queue.rescuable(self._settings.rescue_minutes)
        if failed:
            self._know_devices()
        found = [
            (ticket, token)
            for ticket, token, station, brand in failed
            if self._may_rescue(self._routes.of(station, brand))
        ]
        if not found:
            return
        rescued = self._queue.rescue(found)
        for ticket in rescued:
            self._stats.add(Cell.RESCUED)
            log.warning("ticket rescued", extra={"ticket": ticket})
        if self._survey is not None:
            self._survey = replace(self._survey, ids=self._survey.ids | set(rescued))
        self._look_now()

    def _may_rescue(self, rows: Sequence[PrinterRow]) -> bool:
        settings = self._settings
        ours = any(covers(settings.stations, settings.brands, row) for row in rows)
        return ours and can_be_rescued(rows, self._devices)

    # -- half-written tickets --------------------------------------------------------------------------------------

    def _whole(self, ticket: Waiting) -> tuple[bool | None, float]:
        """Whether all its items are there, and if not, when to look again."""
        now = monotonic()
        if ticket.items and (ticket.original_items is None or ticket.items >= ticket.original_items):
            self._unwhole.pop(ticket.id, None)
            return True, 0.0
        growing = self._unwhole.setdefault(ticket.id, _Growing(now, now, ticket.items))
        growing.note(ticket.items, now)
        whole = is_whole(ticket, now - growing.changed_at, now - growing.seen_at)
        look_s = SETTLE_LOOKS_S[min(growing.looks, len(SETTLE_LOOKS_S) - 1)]
        growing.looks += 1
        return whole, look_s

    def _forget_all_but(self, tickets: Iterable[Waiting]) -> None:
        if self._unwhole or self._noted:
            present = {ticket.id for ticket in tickets}
            self._unwhole = {ticket: seen for ticket, seen in self._unwhole.items() if ticket in present}
            self._noted = {ticket: why for ticket, why in self._noted.items() if ticket in present}

    # -- ending ----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Claim nothing more; the printers give back what they have not begun."""
        self._draining = True
        log.info("draining")
        self._control.send(("drained",))

    def _wait(self) -> None:
        timeout = min(NOTHING_TO_DO_S, self._listener.due_in())
        if self._rows_known and not self._draining:
            due = min(self._look_due, self._rounds_due, self._slips_due)
            timeout = max(0.0, min(timeout, due - monotonic()))
        sources: list[object] = [self._control, *(box.channel for box in self._mailboxes.values())]
        sources += [self._maker.fileno(), self._keeper.fileno()]
        if self._listener.fileno() is not None:
            sources.append(self._listener.fileno())
        wait(sources, timeout)  # type: ignore[arg-type]


class _Growing:
    """A ticket whose items are still being written."""

    __slots__ = ("changed_at", "items", "looks", "seen_at")

    def __init__(self, seen_at: float, changed_at: float, items: int) -> None:
        self.seen_at = seen_at
        self.changed_at = changed_at
        self.items = items
        self.looks = 0

    def note(self, items: int, now: float) -> None:
        if items != self.items:
            self.items, self.changed_at = items, now


def _grouped(ended: list[tuple[Waiting, EndRound]]) -> list[list[tuple[Waiting, EndRound]]]:
    """Tickets whose round ends for the same reason at the same route go into one statement."""
    groups: dict[tuple[int, str], list[tuple[Waiting, EndRound]]] = {}
    for ticket, end in ended:
        groups.setdefault((end.row.id, end.text), []).append((ticket, end))
    return list(groups.values())


def main(tools: ChildTools) -> None:
    """The dispatcher process."""
    Dispatcher(tools).run()
