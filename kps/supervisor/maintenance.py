"""The supervisor's thread that talks to the database: printer rows, reclaim, counts, leases that are to change hands.

Renewing leases is the work of another thread, so that nothing that happens here can cost one.

Its failure or slowness never stops the main loop, which reads events and the last views only.
"""

from __future__ import annotations

import logging
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress, FileAddress, TcpAddress, printer_key
from kps.core.clock import RIGHT_WITHIN_S
from kps.core.health import QueueView
from kps.core.networks import Reach
from kps.core.retry import Backoff
from kps.core.routing import UNOWNED_GRACE_S, Crowd, Lookup, PrinterRow, covers
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, ProofLevel, TicketId, Token
from kps.database import Database, DatabaseTrouble
from kps.database.keeper_queue import KeeperQueue
from kps.database.migrations import MigrationNeeded, SchemaTooNew, migrate
from kps.database.names import addresses_of
from kps.database.pos import PosAdapter, introspect
from kps.database.pos.trigger import install_trigger
from kps.database.row_mappers import printer_rows
from kps.database.schema import SchemaUnusable, refuse_missing_rights
from kps.database.statements.leases import Device
from kps.device.files import absence
from kps.printer.config import DIED_S, VANISHED_S
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import LeaseCell
from kps.supervisor.lease_keeper import LEASE_TTL_S, Borrowed, LeaseKeeper, LeaseLost, Well
from kps.supervisor.resolver import Resolver

ROWS_EVERY_S = 2.0
"""Between looks at the printer rows while somebody changes them."""
ROWS_QUIET_S = 4.0
"""The same when nobody has for ROWS_CHANGE_S."""
ROWS_CHANGE_S = 30.0
COUNTS_EVERY_S = 5.0
COUNTS_QUIET_S = 10.0
"""The same while no ticket is open: what the other counts say changes with a ticket."""
LEFT_EVERY_S = 1.0
"""Between tries to take back tickets that somebody has locked."""
LOCKED_AGAIN_S = 5.0
"""A printer whose row somebody holds for long is left alone for so long: each try costs the limit of a lock."""
SWEEP_EVERY_S = 600.0
SWEEP_S = 1.0
"""How long a sweep goes on with the next piece."""
ADOPTED_AT_ONCE = 500
INTROSPECT_EVERY_S = 60.0
YIELD_AWAY_S = 60.0
TOGETHER_S = 0.1
"""What is due so soon is done now: each time that we wake up costs more than most statements."""
NAMES_AT_ONCE_S = 0.2
"""So long new host names are waited for: a name server that works answers in a few milliseconds."""
SLOW_CALL_S = 4.0
"""Limit of calls that may be slow."""
_CONNECT_AGAIN = Backoff(first=0.1, cap=0.5)

log = logging.getLogger("kps.supervisor")


@dataclass(frozen=True, slots=True)
class SchemaKnown:
    """The POS's tables are there and usable; children may start."""

    schema: PosAdapter


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The printer rows as they are now, in routing order, with the keys of their devices."""

    rows: tuple[PrinterRow, ...]
    addresses: dict[PrinterKey, DeviceAddress]


@dataclass(frozen=True, slots=True)
class LeaseTaken:
    """The printer is ours under this epoch."""

    key: PrinterKey
    epoch: int
    answers: bool | None
    abilities: Abilities
    contested_s: float
    """For so long its last owner, which vanished, may still hold the device."""
    trusted_until: float
    """BOOTTIME until which the lease is surely ours, if it is not renewed."""


@dataclass(frozen=True, slots=True)
class Released:
    """What a dead process held has been given back; `epoch` is the next incarnation's, None = the lease is gone."""

    key: PrinterKey
    generation: int
    epoch: int | None
    count: int


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """`printing` tickets without a live owner have been taken over."""

    count: int


Event = SchemaKnown | RowsRead | LeaseTaken | LeaseLost | Borrowed | Released | Reclaimed


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
        self._resolver = Resolver(self.reload)
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._chores: deque[object] = deque()
        self._rows: tuple[PrinterRow, ...] | None = None
        self._rows_changed_at = float("-inf")
        self._hosts_seen: set[str] = set()
        self._told: dict[int, str] = {}
        self._nowhere: dict[PrinterKey, float] = {}
        """Since when nobody has served a device that is not here."""
        """What printer rows without a device have been made to say, by their ids."""
        self._due: dict[str, float] = {}
        self._failures = 0
        self._retry_at = 0.0
        self._quit = False
        self._orphans: dict[tuple[TicketId, Token], float] = {}
        self._swept_up_to = 0
        """The last ticket whose job the sweep has looked at; each sweep goes on behind it."""
        self._left: set[PrinterKey] = set()
        self._locked: dict[PrinterKey, float] = {}
        """Printers whose rows somebody held when we wanted to take them, and when to try again."""
        self._dead_owner = ""
        self._orphaned: set[PrinterKey] = set()
        """Devices of the generation that was here before us and has died; each is taken once."""
        self._trouble = "not connected yet"
        self._free_asked = False
        self._keeper = LeaseKeeper(
            settings, owner, post=self._post, wake=wake, on_free=self._take_free,
            on_overlong=lambda: self._inbox.put(_CutLoans()),
        )  # fmt: skip
        self.events: deque[Event] = deque()
        self.unproven: tuple[tuple[int, list[str]], ...] = ()
        """Tickets of which a copy may lie at a printer, and the keys of those, newest first."""
        self.waiting: tuple[Crowd, ...] = ()
        self.totals: dict[int, tuple[int, int]] = {}
        """Printer row id -> (total_prints, failed_prints)."""
        self.counts = QueueView()
        self.counts_at = float("-inf")
        self.pos_behind_s = 0.0
        """How far the POS's clock is behind the database's; negative: ahead, 0 = right or not known."""
        self.host_behind_s = 0.0
        """The same of this host's clock."""
        self.schema: PosAdapter | None = None
        self.trigger_missing = ""
        self.rows_read = True
        """Whether the last try to read the printer rows succeeded."""
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

    def keep(self, well: dict[PrinterKey, Well], unwanted: frozenset[PrinterKey]) -> None:
        """Whose leases to renew, and which printers must not be acquired now."""
        self._keeper.well, self._keeper.unwanted = well, unwanted

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
            self._resolver.stop()

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
        return max(0.0, min(self._due.values()) - monotonic())

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
            self._orphaned = queue.expire_owner(self._dead_owner)
            self._dead_owner = ""
        now = monotonic()
        self._due = dict.fromkeys(("rows", "counts", "orphans", "sweep"), now)
        self._due["introspect"] = now + INTROSPECT_EVERY_S
        self._due["left"] = float("inf")
        # Known only now, and told at once: what fails before is done again as a whole, what fails later is due again.
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
        if monotonic() >= self._due["left"]:
            self._requeue_left()
        changing = monotonic() - self._rows_changed_at < ROWS_CHANGE_S
        self._when_due("rows", ROWS_EVERY_S if changing else ROWS_QUIET_S, self._read_rows)
        self._when_due("counts", self._counts_every_s, self._count)
        self._when_due("orphans", min(self._counts_every_s, self._settings.reclaim_s / 2), self._reclaim)
        self._when_due("sweep", SWEEP_EVERY_S, self._sweep)
        self._when_due("introspect", INTROSPECT_EVERY_S, self._look_at_schema)

    def _when_due(self, name: str, every_s: float, chore: Callable[[], None]) -> None:
        if monotonic() + TOGETHER_S < self._due[name]:
            return
        # Set before: a chore that fails is not tried again at once, in the way of the others.
        self._due[name] = monotonic() + every_s
        chore()
        self._due[name] = monotonic() + every_s

    @property
    def _counts_every_s(self) -> float:
        """Orphans are looked for as often: if no ticket is `printing`, by the counts of the moment, there are none."""
        return COUNTS_EVERY_S if self.counts.open else COUNTS_QUIET_S

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
                    self._known.say_why({row.id: (key, text) for row in self._rows or () if row.key == key})
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
        self._leave(release.key, done.left if done else 0)
        self._post(Released(release.key, release.generation, done.epoch if done else None, count))

    def _lapse(self, keys: list[PrinterKey]) -> None:
        """All at once; if somebody holds one of them for long, one by one: that one ends by itself."""
        try:
            self._known.lapse(keys)
        except DatabaseTrouble as trouble:
            if not trouble.locked:
                raise
            log.warning("database trouble", extra={"cause": trouble.sentence})
            for key in keys if len(keys) > 1 else ():
                self._lapse([key])

    def _leave(self, key: PrinterKey, count: int) -> None:
        """Tickets that a dead owner or process of a printer of ours held are locked by somebody: taken back later."""
        if count:
            log.warning("tickets locked", extra={"printer": key, "count": count})
            self._left.add(key)
            self._due["left"] = min(self._due["left"], monotonic() + LEFT_EVERY_S)

    def _requeue_left(self) -> None:
        self._due["left"] = monotonic() + LEFT_EVERY_S
        rows = self._known.requeue_left(sorted(self._left))
        for row in rows:
            if row.released:
                log.warning("released", extra={"cause": "reclaim", "printer": row.printer_key, "count": row.released})
                self._post(Reclaimed(row.released))
        self._left = {row.printer_key for row in rows if row.left}
        if not self._left:
            self._due["left"] = float("inf")

    def _take_free(self, keys: list[PrinterKey]) -> None:
        """Called by the keeper of the leases, which finds the same ones again and again until they are taken."""
        if not self._free_asked:
            self._free_asked = True
            self._inbox.put(_Free(frozenset(keys)))

    def _read_rows(self) -> None:
        try:
            found = self._known.rows()
        except DatabaseTrouble:
            self.rows_read = False
            raise
        rows, addresses = self._with_devices(printer_rows(found, {}))
        self.rows_read = True
        self.totals = {row.id: (row.total_prints, row.failed_prints) for row in found}
        if rows != self._rows:
            if self._rows is not None:
                self._rows_changed_at = monotonic()
            self._rows = rows
            self._post(RowsRead(rows, addresses))
            wanted = frozenset(self._wanted())
            self._keeper.wanted = wanted
            self._keeper.shown = frozenset(row.key for row in rows if row.key)
            self._acquire(wanted - {row.printer_key for row in self.devices if row.live or row.borrowed})
            self._keeper.look_now()
        self._say_why(rows)

    def _say_why(self, rows: tuple[PrinterRow, ...]) -> None:
        """Rows without a device, for want of an address that may be one, say so: no process does it for them.

        So do those whose device is not here, once nobody has served it for a while.
        """
        settings, now = self._settings, monotonic()
        served = {row.printer_key for row in self.devices if row.live}
        nowhere = {row.key for row in rows if row.absent and row.key not in served}
        self._nowhere = {key: self._nowhere.get(key, now) for key in nowhere}
        wanted = {
            row.id: row.refused or row.trouble or row.absent
            for row in rows
            if row.active
            and (row.refused or row.lookup is Lookup.FAILED or now - self._nowhere.get(row.key, now) > UNOWNED_GRACE_S)
            and covers(settings.stations, settings.brands, row)
        }
        self._told = {row: text for row, text in self._told.items() if wanted.get(row) == text}
        keys = {row.id: row.key for row in rows}
        news = {row: (keys[row], text) for row, text in wanted.items() if row not in self._told}
        if news:
            self._told |= {row: news[row][1] for row in self._known.say_why(news)}

    def _with_devices(self, rows: list[PrinterRow]) -> tuple[tuple[PrinterRow, ...], dict[PrinterKey, DeviceAddress]]:
        """The rows with what their hosts mean now, and the address of each device."""
        hosts = {row.address.host for row in rows if isinstance(row.address, TcpAddress) and row.address.host}
        if fresh := hosts - self._hosts_seen:
            self._resolver.wait_for(sorted(fresh), NAMES_AT_ONCE_S)
        self._hosts_seen = hosts
        reach = Reach.of(self._settings, addresses_of(self._settings.database.host))
        addresses: dict[PrinterKey, DeviceAddress] = {}
        found = []
        for row in rows:
            if not row.fault:
                row, address = self._with_device(row, reach)
                if row.key:
                    addresses[row.key] = address
            found.append(row)
        return tuple(found), addresses

    def _with_device(self, row: PrinterRow, reach: Reach) -> tuple[PrinterRow, DeviceAddress]:
        if isinstance(row.address, FileAddress):
            key = printer_key(self._settings.site, row.address)
            return replace(row, key=key, absent=absence(row.address, self._settings)), row.address
        ip, lookup = self._resolver.find(row.address.host)
        if ip is None:
            return replace(row, lookup=lookup), row.address
        address = row.address.at(ip)
        if refused := reach.refusal(address.host, address.port):
            return replace(row, refused=refused), address
        return replace(row, key=printer_key(self._settings.site, address)), address

    def _wanted(self) -> dict[PrinterKey, str]:
        """Devices that this instance serves, with the name of their first row."""
        settings = self._settings
        wanted: dict[PrinterKey, str] = {}
        for row in self._rows or ():
            usable = row.active and row.key and not (row.fault or row.absent)
            if usable and covers(settings.stations, settings.brands, row):
                wanted.setdefault(row.key, row.name)
        return wanted

    def _acquire(self, keys: Collection[PrinterKey]) -> None:
        """Take what nobody owns; our own lapsed leases too, under a new epoch that carries what is held."""
        now = monotonic()
        unwanted = self._keeper.unwanted | {key for key, again_at in self._locked.items() if now < again_at}
        wanted = [(key, name) for key, name in self._wanted().items() if key in keys and key not in unwanted]
        taken = False
        for key, name in wanted:
            try:
                taken |= self._acquire_one(key, name)
            except DatabaseTrouble as trouble:
                if not trouble.locked:
                    raise
                self._locked[key] = monotonic() + LOCKED_AGAIN_S
                log.warning("database trouble", extra={"cause": trouble.sentence, "printer": key})
        if taken:
            self._keeper.look_now()  # people see whose they are now

    def _acquire_one(self, key: PrinterKey, name: str) -> bool:
        """In a transaction of its own: what is wrong with one printer's tickets keeps no other from being taken."""
        asked_at = boottime()
        row = self._known.acquire(key, name, LEASE_TTL_S)
        if row is None:
            return False
        log.info("lease taken", extra={"printer": key, "epoch": row.epoch, "released": row.released})
        self._leave(key, row.left)
        if row.released:
            self._post(Reclaimed(row.released))
        if well := self._keeper.well.get(key):
            self._keeper.well[key] = Well(row.epoch, well.lease_cells)
            well.lease_cells[LeaseCell.TRUST_UNTIL] = asked_at + LEASE_TTL_S
        level = ProofLevel(row.proof_level) if row.proof_level else None
        abilities = Abilities(level, row.pushes, row.clears, row.firmware)
        contested_s = VANISHED_S if row.contested else DIED_S if key in self._orphaned else 0.0
        self._orphaned.discard(key)
        self._post(
            LeaseTaken(key, row.epoch, row.answers, abilities, contested_s, trusted_until=asked_at + LEASE_TTL_S)
        )
        return True

    def _count(self) -> None:
        asked_at = time.time()
        row = self._known.counts(limit=SLOW_CALL_S)
        self.counts = QueueView(row.new, row.printing, row.failed_today, row.printed_today, row.oldest_new_age_s)
        self.unproven = tuple([(ticket, keys) for ticket, keys in row.unproven])
        self.waiting = tuple(
            [Crowd(station, brand or "", PrinterKey(key), tickets) for station, brand, key, tickets in row.waiting]
        )
        self.pos_behind_s = row.pos_behind_s
        took_s = time.time() - asked_at
        # The database looked at its clock somewhere in between.
        behind_s = row.clock - (asked_at + took_s / 2)
        self.host_behind_s = behind_s if abs(behind_s) >= RIGHT_WITHIN_S + took_s else 0.0
        self.counts_at = monotonic()

    def _reclaim(self) -> None:
        """Adopt `printing` tickets that nobody has accounted for during RECLAIM_SECONDS."""
        now = monotonic()
        if now - self.counts_at < TOGETHER_S and not self.counts.printing:
            self._orphans = {}
            return
        settings = self._settings
        found = self._known.orphans(settings.stations, settings.brands, limit=SLOW_CALL_S)
        seen = {(row.id, row.token) for row in found}
        self._orphans = {one: self._orphans.get(one, now) for one in seen}
        due = [one for one, since in self._orphans.items() if now - since >= settings.reclaim_s]
        for begin in range(0, len(due), ADOPTED_AT_ONCE):
            self._adopt(due[begin : begin + ADOPTED_AT_ONCE])

    def _adopt(self, due: list[tuple[TicketId, Token]]) -> None:
        if count := self._known.adopt(due):
            log.warning("released", extra={"cause": "reclaim", "count": count})
            self._post(Reclaimed(count))

    def _sweep(self) -> None:
        """Some of it each time, and for no longer than that: the rest comes with the next sweep."""
        end, more = monotonic() + SWEEP_S, True
        while more and monotonic() < end:
            row = self._known.sweep(self._swept_up_to)
            self._swept_up_to = row.last or 0
            more = bool(row.last or row.more)

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


def wakeup_pipe() -> tuple[int, int]:
    """A non-blocking pipe (read end, write end) that wakes the main loop."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer
