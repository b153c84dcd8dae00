"""The supervisor's thread that talks to the database: printer rows, reclaim, counts, leases that are to change hands.

Renewing leases is the work of another thread, so that nothing that happens here can cost one.

Its failure or slowness never stops the main loop, which reads events and the last views only.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from kps.core.retry import Backoff
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, Token
from kps.database import Database, DatabaseTrouble
from kps.database.keeper_queue import KeeperQueue
from kps.database.migrations import MigrationNeeded, SchemaTooNew, migrate
from kps.database.pos import PosAdapter, introspect
from kps.database.pos.trigger import install_trigger
from kps.database.schema import SchemaUnusable, refuse_missing_rights
from kps.database.statements.leases import Device
from kps.process.clocks import monotonic
from kps.supervisor.counting import Counting
from kps.supervisor.lease_keeper import LeaseKeeper, LeaseLost, ToRenew
from kps.supervisor.lease_taker import LeaseTaker
from kps.supervisor.maintenance_events import Event, Released, SchemaKnown
from kps.supervisor.row_reader import RowReader

SWEEP_EVERY_S = 600.0
INTROSPECT_EVERY_S = 60.0
"""Between looks at the POS's tables, columns and rights."""
YIELD_AWAY_S = 60.0
"""A printer that was given up is not taken back for so long, if another instance lives."""
TOGETHER_S = 0.1
"""What is due so soon is done now: each time that we wake up costs more than most statements."""
_CONNECT_AGAIN = Backoff(first=0.1, cap=0.5)

log = logging.getLogger("kps.supervisor")


@dataclass(frozen=True, slots=True)
class _Release:
    key: PrinterKey
    generation: int
    epoch: int
    blamed: Token


@dataclass(frozen=True, slots=True)
class _Yield:
    key: PrinterKey
    epoch: int


@dataclass(frozen=True, slots=True)
class _Lapse:
    keys: tuple[PrinterKey, ...]


@dataclass(frozen=True, slots=True)
class _Down:
    key: PrinterKey
    epoch: int
    text: str


class _Reload:
    pass


class _LookAgain:
    pass


@dataclass(frozen=True, slots=True)
class _Free:
    keys: frozenset[PrinterKey]


class _CutLoans:
    pass


class _Quit:
    pass


class Maintenance:
    """One thread, one connection."""

    def __init__(self, settings: Settings, owner: str, wake: Callable[[], None]) -> None:
        self._settings = settings
        self._owner = owner
        self._wake = wake
        self._database = Database(settings.database, "supervisor")
        self._queue: KeeperQueue | None = None
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._chores: deque[object] = deque()
        self._due: dict[str, float] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._quit = False
        self._dead_owner = ""
        self._trouble = "not connected yet"
        self._free_asked = False
        self._keeper = LeaseKeeper(
            settings, owner, post=self._post, wake=wake, on_free=self._take_free,
            on_overlong=lambda: self._inbox.put(_CutLoans()),
        )  # fmt: skip
        self._taker = LeaseTaker(self._keeper, self._post)
        self.events: deque[Event] = deque()
        self.rows = RowReader(settings, self.reload)
        self.counting = Counting(settings, self._post)
        self.schema: PosAdapter | None = None
        self.trigger_missing = ""
        self.errors = 0
        self.thread = threading.Thread(target=self._run, name="maintenance", daemon=True)

    # -- called by the main loop -----------------------------------------------------------------------------------

    def start(self, dead_owner: str) -> None:
        """Begin; `dead_owner` is a generation proven gone, whose leases end at once ('' = none)."""
        self._dead_owner = dead_owner
        self._keeper.thread.start()
        self.thread.start()

    @property
    def alive(self) -> bool:
        """Whether both threads work, this one and the one that keeps the leases."""
        return self.thread.is_alive() and self._keeper.thread.is_alive()

    @property
    def trouble(self) -> str:
        """A sentence for people; '' while the database works, and the leases are renewed."""
        return self._trouble or self._keeper.trouble

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices, as the last renewal has shown them."""
        return self._keeper.devices

    def keep(self, to_renew: dict[PrinterKey, ToRenew], unwanted: frozenset[PrinterKey]) -> None:
        """Whose leases to renew, and which printers must not be acquired now."""
        self._keeper.to_renew, self._keeper.unwanted = to_renew, unwanted

    def release_dead(self, key: PrinterKey, generation: int, epoch: int, blamed: Token) -> None:
        """A printer process has been reaped: answered by Released."""
        self._inbox.put(_Release(key, generation, epoch, blamed))

    def yield_lease(self, key: PrinterKey, epoch: int) -> None:
        """Give a printer up that we cannot reach, if another instance lives: answered by LeaseLost then."""
        self._inbox.put(_Yield(key, epoch))

    def lapse(self, keys: list[PrinterKey]) -> None:
        """End leases at once."""
        if keys:
            self._inbox.put(_Lapse(tuple(keys)))

    def say_down(self, key: PrinterKey, epoch: int, text: str) -> None:
        """The printer's process cannot say itself that it cannot print."""
        self._inbox.put(_Down(key, epoch, text))

    def look_again(self) -> None:
        """A child's statements fail although ours work: look now whether a table or a right is missing."""
        self._inbox.put(_LookAgain())

    def reload(self) -> None:
        """Read the printer rows now."""
        self._inbox.put(_Reload())

    def quit(self, limit_s: float) -> None:
        """Finish what has been asked for, and end; waits for at most `limit_s`."""
        self._keeper.quit()
        self._inbox.put(_Quit())
        self.thread.join(limit_s)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._quit:
                self._turn()
        finally:
            self._database.close()
            self.rows.stop()

    def _turn(self) -> None:
        self._take_inbox(self._next_due())
        try:
            if self._queue is None:
                self._prepare()
            self._work()
        except DatabaseTrouble as trouble:
            self._failed(trouble.sentence)
        except (SchemaUnusable, SchemaTooNew) as trouble:
            self._failed(str(trouble))
        except MigrationNeeded as needed:
            sentence = (
                f"AUTO_MIGRATE is off and schema kps is at version {needed.present}: run the SQL that"
                f" `kps schema --after {needed.present}` prints, then block C of the README again"
                if needed.present
                else "AUTO_MIGRATE is off and schema kps is not there: run the SQL that `kps schema` prints,"
                " then block C of the README"
            )
            if self._trouble != sentence:
                log.error("migration needed", extra={"text": str(needed)})
            self._failed(sentence)
        else:
            if self._trouble:
                log.info("database connected")
            self._trouble = ""
            self._failures = 0
        self.errors = self._database.errors + self._keeper.errors

    def _failed(self, sentence: str) -> None:
        if sentence != self._trouble:
            log.warning("database trouble", extra={"cause": sentence})
        self._trouble = sentence
        self._database.close()
        self._failures += 1
        self._retry_at = monotonic() + _CONNECT_AGAIN.delay(self._failures, random.random())  # noqa: S311
        self._wake()
        if self._quit_asked():
            self._quit = True

    def _say(self, sentence: str) -> None:
        """What keeps us from working, and is no failure."""
        if sentence != self._trouble:
            log.info("waiting for the database", extra={"cause": sentence})
            self._trouble = sentence
            self._wake()

    def _quit_asked(self) -> bool:
        return any(isinstance(chore, _Quit) for chore in self._chores)

    def _next_due(self) -> float:
        if self._failures:
            return max(0.0, self._retry_at - monotonic())
        if self._queue is None or self._chores:
            return 0.0
        return max(0.0, min(self._taker.left_due, *self._due.values()) - monotonic())

    def _take_inbox(self, timeout: float) -> None:
        try:
            self._chores.append(self._inbox.get(timeout=timeout) if timeout > 0 else self._inbox.get_nowait())
            while True:
                self._chores.append(self._inbox.get_nowait())
        except queue.Empty:
            return

    def _post(self, event: Event) -> None:
        self.events.append(event)
        self._wake()

    def _prepare(self) -> None:
        """Connect, migrate, look at the POS's tables. Raises when something is missing; it is tried again."""
        self._database.connect()
        schema = introspect(self._database)
        applied = migrate(self._database, automatic=self._settings.auto_migrate, tell=self._say)
        for name in applied:
            log.info("migration applied", extra={"text": name})
        refuse_missing_rights(self._database)
        schema = self._ensure_trigger(schema)
        log.info("database schema", extra={"text": schema.describe()})
        queue = KeeperQueue(self._database, schema, self._owner, self._settings.instance_name)
        if self._dead_owner:
            self._taker.orphaned = queue.expire_owner(self._dead_owner)
            self._dead_owner = ""
        now = monotonic()
        self._due = dict.fromkeys(("rows", "counts", "orphans", "sweep"), now)
        self._due["introspect"] = now + INTROSPECT_EVERY_S
        # Not before: whatever fails until here is done again from the begin, whatever fails later is due again.
        self._queue, self.schema = queue, schema
        self._post(SchemaKnown(schema))
        self._keeper.begin()

    def _ensure_trigger(self, schema: PosAdapter) -> PosAdapter:
        if not self._settings.notify_trigger:
            self.trigger_missing = "" if schema.has_trigger else "wake-up trigger is off: tickets are found by polling"
            return schema
        if schema.has_trigger:
            self.trigger_missing = ""
            return schema
        try:
            install_trigger(self._database)
        except DatabaseTrouble as trouble:
            self._database.connect()
            schema = introspect(self._database)
            if not schema.has_trigger:  # another instance may have been before us
                missing = f"wake-up trigger is absent, tickets are found by polling: {trouble.sentence}"
                if missing != self.trigger_missing:
                    log.warning("trigger missing", extra={"cause": trouble.sentence})
                self.trigger_missing = missing
                return schema
        if self.schema is not None:
            log.warning("trigger made again")
        self.trigger_missing = ""
        return introspect(self._database)

    def _work(self) -> None:
        if not self._database.connected:
            self._database.connect()
        for _ in range(len(self._chores)):
            self._try(self._chores[0])
        queue = self._known
        if monotonic() >= self._taker.left_due:
            self._taker.requeue_left(queue)
        counting, rows, reclaim_s = self.counting, self.rows, self._settings.reclaim_s
        self._when_due("rows", lambda: rows.every_s, self._read_rows)
        self._when_due("counts", lambda: counting.every_s, lambda: counting.count(queue))
        self._when_due("orphans", lambda: min(counting.every_s, reclaim_s / 2), lambda: counting.reclaim(queue))
        self._when_due("sweep", lambda: SWEEP_EVERY_S, lambda: counting.sweep(queue))
        self._when_due("introspect", lambda: INTROSPECT_EVERY_S, self._look_at_schema)

    def _when_due(self, name: str, every_s: Callable[[], float], chore: Callable[[], None]) -> None:
        if monotonic() + TOGETHER_S < self._due[name]:
            return
        # Set before: a chore that fails is not tried again at once, in the way of the others.
        self._due[name] = monotonic() + every_s()
        chore()
        self._due[name] = monotonic() + every_s()

    @property
    def _known(self) -> KeeperQueue:
        assert self._queue is not None
        return self._queue

    def _try(self, chore: object) -> None:
        """Do the first chore; one that somebody's lock is in the way of goes behind all others."""
        try:
            self._do(chore)
        except DatabaseTrouble as trouble:
            if not trouble.locked:
                raise
            log.warning("database trouble", extra={"cause": trouble.sentence})
            self._chores.append(chore)
        self._chores.popleft()

    def _do(self, chore: object) -> None:
        match chore:
            case _Release():
                self._release(chore)
            case _Yield(key, epoch):
                if self._known.yield_lease(key, epoch, YIELD_AWAY_S):
                    log.warning("lease given up", extra={"printer": key, "cause": "device cannot be reached"})
                    self._post(LeaseLost(key))
            case _Lapse(keys):
                self._lapse(list(keys))
            case _Down(key, epoch, text):
                if self._known.set_state(
                    key, epoch, state="down", text=text, paper="unknown", response_ms=None, answers=None
                ):
                    self._known.say_why(dict.fromkeys(self.rows.ids_of(key), (key, text)))
            case _Reload():
                self._due["rows"] = 0.0
            case _LookAgain():
                self._due["introspect"] = 0.0
            case _Free(keys):
                self._free_asked = False  # what is not taken now is found free again
                self._acquire(keys)
            case _CutLoans():
                self._known.cut_loans()
            case _Quit():
                self._quit = True
            case _:
                log.error("unknown chore", extra={"text": repr(chore)})

    def _release(self, release: _Release) -> None:
        done = self._known.release_dead(release.key, release.epoch, release.blamed)
        count = done.released if done else 0
        if count:
            log.warning("released", extra={"cause": "death", "printer": release.key, "count": count})
        self._taker.leave(release.key, done.left if done else 0)
        self._post(Released(release.key, release.generation, done.epoch if done else None, count))

    def _lapse(self, keys: list[PrinterKey]) -> None:
        """End all at once. If somebody has one of them locked for long, one by one: that one ends by itself in time."""
        try:
            self._known.lapse(keys)
        except DatabaseTrouble as trouble:
            if not trouble.locked:
                raise
            log.warning("database trouble", extra={"cause": trouble.sentence})
            for key in keys if len(keys) > 1 else ():
                self._lapse([key])

    def _take_free(self, keys: list[PrinterKey]) -> None:
        """Called by the keeper of the leases, which finds the same ones again and again until they are taken."""
        if not self._free_asked:
            self._free_asked = True
            self._inbox.put(_Free(frozenset(keys)))

    def _read_rows(self) -> None:
        news = self.rows.read(self._known)
        if news is not None:
            self._post(news)
            wanted = frozenset(self.rows.wanted())
            self._keeper.wanted, self._keeper.shown = wanted, self.rows.keys
            self._acquire(wanted - {row.printer_key for row in self.devices if row.live or row.borrowed})
            self._keeper.look_now()
        self.rows.say_why(self._known, self.devices)

    def _acquire(self, keys: Collection[PrinterKey]) -> None:
        names = self.rows.wanted()
        self._taker.acquire(self._known, {key: name for key, name in names.items() if key in keys})

    def _look_at_schema(self) -> None:
        """A migration of the POS that matters to our statements makes the main loop restart the children."""
        try:
            found = introspect(self._database)
            refuse_missing_rights(self._database)
        except SchemaUnusable:
            self._due["introspect"] = 0.0  # looked at again with every turn, until it is mended
            raise
        schema = self._ensure_trigger(found)
        if schema != self.schema:
            log.warning("database schema", extra={"text": schema.describe()})
            self.schema = schema
            self._queue = KeeperQueue(self._database, schema, self._owner, self._settings.instance_name)
            self._database.close()
            self._post(SchemaKnown(schema))
