"""The supervisor's thread that keeps the leases: a connection of its own, one statement, and nothing else to do.

So nothing else that is slow, large or locked in the database can cost a lease. The statement shows all devices as well.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from kps.core.retry import Backoff
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.database import Database, DatabaseTrouble
from kps.database.statements.leases import LEASE_TTL_S, RENEW, Device
from kps.process.clocks import boottime, monotonic
from kps.process.shared_stats import Cells, LeaseCell

RENEW_EVERY_S = 1.5
"""Between renewals, which show all devices as well."""
BORROWED_EVERY_S = 0.5
"""The same while somebody has a device for a probe: its tickets wait for it."""
LAPSED_AFTER_S = 0.02
"""So long after the end of another owner's lease it is looked at again: if it has not been renewed, it may be taken."""
HURRY_S = 0.1
"""Shortest pause between two renewals: leases that end one after the other are taken together."""
LONGEST_REPLY_S = LEASE_TTL_S / 2
SHORTEST_REPLY_S = 1.0
CONNECT_TRIPS = 5
"""Round trips of a connection, at most: start, password in two steps, encryption or not, the session's settings."""
MARGIN_S = 0.5
"""A lease that is renewed so long before its end has been renewed in time."""
_CONNECT_AGAIN = Backoff(first=0.1, cap=0.5)

log = logging.getLogger("kps.supervisor")


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another instance owns the printer, or we have given it up."""

    key: PrinterKey


@dataclass(frozen=True, slots=True)
class Borrowed:
    """A person wants a printer of ours for a probe: its process is to end, and its lease to be given back."""

    key: PrinterKey
    by: str


@dataclass(frozen=True, slots=True)
class ToRenew:
    """A printer whose lease is to be renewed, and the cell that tells its process until when it is trusted."""

    epoch: int
    lease_cells: Cells


class LeaseKeeper:
    """One thread, one connection. It asks for nothing before `begin`: the tables may not be there yet."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        *,
        post: Callable[[LeaseLost | Borrowed], None],
        wake: Callable[[], None],
        on_free: Callable[[list[PrinterKey]], None],
        on_overlong: Callable[[], None],
    ) -> None:
        """`on_free` hears of wanted devices that nobody owns, `on_overlong` of loans that seem to last for minutes."""
        self._owner = owner
        self._instance = settings.instance_name
        self._host = socket.gethostname()
        self._post = post
        self._wake = wake
        self._on_free = on_free
        self._on_overlong = on_overlong
        self._database = Database(settings.database, "leases")
        self._begun = False
        self._quit = False
        self._bell = threading.Event()
        self._connect_s = 0.0
        self._reply_s = LONGEST_REPLY_S / 2  # so far nobody knows
        self._renewed_at = float("-inf")
        self._failures = 0
        self.to_renew: dict[PrinterKey, ToRenew] = {}
        """Set by the main loop as a whole: the printers of ours whose process works, or will in a moment."""
        self.unwanted: frozenset[PrinterKey] = frozenset()
        """Set by the main loop: printers that must not be acquired now."""
        self.wanted: frozenset[PrinterKey] = frozenset()
        """Set by maintenance: devices that this instance serves."""
        self.shown: frozenset[PrinterKey] = frozenset()
        """Set by maintenance: the devices of all printer rows."""
        self.devices: tuple[Device, ...] = ()
        """All of them, as the last renewal has shown them."""
        self.trouble = ""
        """A sentence for people; '' while leases are renewed, or cannot be yet."""
        self.errors = 0
        self.thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def begin(self) -> None:
        """The tables are there: renew from now on."""
        self._begun = True
        self._bell.set()

    def look_now(self) -> None:
        """Something has changed that people, or we, want to see at once."""
        self._bell.set()

    def quit(self) -> None:
        """End, after the statement under way; its limit is LONGEST_REPLY_S."""
        self._quit = True
        self._bell.set()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s: float | None = None
        try:
            while not self._quit:
                self._bell.wait(pause_s)
                self._bell.clear()
                if self._begun and not self._quit:
                    pause_s = self._turn()
        finally:
            self._database.close()

    def _turn(self) -> float:
        """Renew; returns the seconds until the next time."""
        began = monotonic()
        try:
            pause_s = self._renew()
        except DatabaseTrouble as trouble:
            self._failures += 1
            if trouble.sentence != self.trouble:
                log.warning("database trouble", extra={"cause": trouble.sentence})
                self.trouble = trouble.sentence
                self._wake()
            self._database.close()
            self._bell.clear()  # the pause counts, whatever has asked for a look meanwhile
            return _CONNECT_AGAIN.delay(self._failures, random.random())  # noqa: S311
        finally:
            self.errors = self._database.errors
        if self.trouble:
            self.trouble = ""
            self._wake()
        self._failures = 0
        return max(HURRY_S, began + pause_s - monotonic())

    def _renew(self) -> float:
        """Renew the leases, and look at all devices; returns the pause until the next time, from the begin of this one.

        Trust counts from before the question.
        """
        if not self._database.connected:
            began = monotonic()
            self._database.connect()
            self._connect_s = monotonic() - began
        to_renew = dict(self.to_renew)
        asked_at = boottime()
        devices = self._ask(to_renew)
        self._renewed_at = asked_at
        skipped = False
        for row in devices:
            key = row.printer_key
            if row.kept is None:
                # Somebody of ours works on it at this moment.
                skipped |= (
                    key in to_renew and row.live and row.owner == self._owner and row.epoch == to_renew[key].epoch
                )
                continue
            now = self.to_renew.get(key)
            if now is not None and now.epoch == row.kept:
                now.lease_cells[LeaseCell.TRUST_UNTIL] = asked_at + LEASE_TTL_S
        self._note(tuple(devices))
        pause_s = HURRY_S if skipped else renew_in(devices, self.wanted - self.unwanted, self._owner)
        return min(pause_s, max(0.0, RENEW_EVERY_S - self._reconnect_s))

    @property
    def _reconnect_s(self) -> float:
        """What a new connection would take now: a few round trips. If the last one took longer, it was not the way."""
        return min(self._connect_s, CONNECT_TRIPS * self._reply_s)

    def _ask(self, to_renew: dict[PrinterKey, ToRenew]) -> list[Device]:
        asked_at = boottime()
        limit = patience(self._renewed_at + LEASE_TTL_S - asked_at, self._reconnect_s, self._reply_s)
        try:
            devices = self._database.run(
                RENEW,
                me=self._owner,
                instance=self._instance,
                host=self._host,
                keys=list(to_renew),
                epochs=[one.epoch for one in to_renew.values()],
                ttl=LEASE_TTL_S,
                shown=sorted(self.shown | to_renew.keys()),
                limit=limit,
            )
        except DatabaseTrouble:
            # The way may have become longer for good: the next one is waited for twice as long.
            self._reply_s = max(self._reply_s, min(boottime() - asked_at, LONGEST_REPLY_S / 2))
            raise
        self._reply_s = boottime() - asked_at
        return devices

    def _note(self, devices: tuple[Device, ...]) -> None:
        """What the devices are like now, and what that means for ours."""
        news = _shown(devices) != _shown(self.devices)
        self.devices = devices
        if news:
            self._wake()
        for row in devices:
            key = row.printer_key
            ours = self.to_renew.get(key)
            # We may have taken it back since this was seen.
            if ours is not None and row.live and row.owner != self._owner and row.epoch > ours.epoch:
                self._post(LeaseLost(key))
            if row.borrowed and row.live and row.owner == self._owner:
                self._post(Borrowed(key, row.borrowed_by))
        taken = {row.printer_key for row in devices if row.live or row.borrowed}
        if free := sorted(self.wanted - self.unwanted - taken):
            self._on_free(free)
        if any(row.overlong for row in devices):
            self._on_overlong()


def patience(trust_s: float, connect_s: float, reply_s: float) -> float:
    """Seconds until a renewal that has not been answered is given up.

    Of `trust_s` that are left, a new connection, which takes `connect_s`, and its answer must have their share; but
    what is only twice as slow as the last reply still comes.
    """
    spare_s = trust_s - MARGIN_S - connect_s - reply_s
    return min(LONGEST_REPLY_S, max(SHORTEST_REPLY_S, 2 * reply_s, spare_s))


def renew_in(devices: Iterable[Device], wanted: Collection[PrinterKey], me: str) -> float:
    """Seconds until leases and devices must be looked at again: if the lease of another owner ends, we are there.

    `devices` as the renewal has just shown them; of those that are not `wanted` the lease does not matter to us.
    """
    devices = list(devices)
    if any(row.borrowed for row in devices):
        return BORROWED_EVERY_S
    pause_s = RENEW_EVERY_S
    for row in devices:
        if row.live and row.owner != me and row.printer_key in wanted:
            pause_s = min(pause_s, LAPSED_AFTER_S - row.lapsed_s)
    return max(HURRY_S, pause_s)


def _shown(devices: Iterable[Device]) -> list[tuple[object, ...]]:
    """What people see of devices, but for how long ago it was."""
    return [
        (row.printer_key, row.owner, row.live, row.state, row.state_text, row.paper, row.cover_open, row.cutter_ok,
         row.proof, row.demoted_text)
        for row in devices
    ]  # fmt: skip
