"""The printer rows of the POS: read, given the devices that they mean now, and made to say what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from kps.core.address import DeviceAddress, FileAddress, TcpAddress, printer_key
from kps.core.networks import Reach
from kps.core.routing import UNOWNED_GRACE_S, Lookup, PrinterRow, covers
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.database import DatabaseTrouble
from kps.database.keeper_queue import KeeperQueue
from kps.database.names import addresses_of
from kps.database.row_mappers import printer_rows
from kps.database.statements.leases import Device
from kps.device.files import absence
from kps.process.clocks import monotonic
from kps.supervisor.maintenance_events import RowsRead
from kps.supervisor.resolver import Resolver

ROWS_EVERY_S = 2.0
"""Between looks at the printer rows while somebody changes them."""
ROWS_QUIET_S = 4.0
"""The same when there was no change for ROWS_CHANGE_S."""
ROWS_CHANGE_S = 30.0
"""After a change another one is likely: rows are changed one after the other."""
NAMES_AT_ONCE_S = 0.2
"""So long new host names are waited for: a name server that works answers in a few milliseconds."""


class RowReader:
    """What the rows said the last time, and what has been written into them."""

    def __init__(self, settings: Settings, on_names: Callable[[], None]) -> None:
        """`on_names` is called, by another thread, when a host name means another address than before."""
        self._settings = settings
        self._resolver = Resolver(on_names)
        self._rows: tuple[PrinterRow, ...] | None = None
        self._changed_at = float("-inf")
        self._hosts_seen: set[str] = set()
        self._said: dict[int, str] = {}
        """What rows without a device have been made to say, by their ids."""
        self._nowhere: dict[PrinterKey, float] = {}
        """Since when nobody has served a device that is not here."""
        self.totals: dict[int, tuple[int, int]] = {}
        """Printer row id -> (total_prints, failed_prints)."""
        self.readable = True
        """Whether the last try to read the rows succeeded."""

    def stop(self) -> None:
        """End the threads that look names up."""
        self._resolver.stop()

    @property
    def every_s(self) -> float:
        """Seconds between two looks."""
        return ROWS_EVERY_S if monotonic() - self._changed_at < ROWS_CHANGE_S else ROWS_QUIET_S

    @property
    def keys(self) -> frozenset[PrinterKey]:
        """The devices of all rows."""
        return frozenset([row.key for row in self._rows or () if row.key])

    def ids_of(self, key: PrinterKey) -> list[int]:
        """The rows that name a device."""
        return [row.id for row in self._rows or () if row.key == key]

    def read(self, queue: KeeperQueue) -> RowsRead | None:
        """The rows, if they are others than the last time. Raises DatabaseTrouble."""
        try:
            found = queue.rows()
        except DatabaseTrouble:
            self.readable = False
            raise
        rows, addresses = self._with_devices(printer_rows(found, {}))
        self.readable = True
        self.totals = {row.id: (row.total_prints, row.failed_prints) for row in found}
        if rows == self._rows:
            return None
        if self._rows is not None:
            self._changed_at = monotonic()
        self._rows = rows
        return RowsRead(rows, addresses)

    def say_why(self, queue: KeeperQueue, devices: Collection[Device]) -> None:
        """Rows without a device, for want of an address that may be one, say so: no process does it for them.

        So do those whose device is not here, once nobody has served it for a while.
        """
        settings, now, rows = self._settings, monotonic(), self._rows or ()
        served = {row.printer_key for row in devices if row.live}
        nowhere = {row.key for row in rows if row.absent and row.key not in served}
        self._nowhere = {key: self._nowhere.get(key, now) for key in nowhere}
        wanted = {
            row.id: row.refused or row.trouble or row.absent
            for row in rows
            if row.active
            and (row.refused or row.lookup is Lookup.FAILED or now - self._nowhere.get(row.key, now) > UNOWNED_GRACE_S)
            and covers(settings.stations, settings.brands, row)
        }
        self._said = {row: text for row, text in self._said.items() if wanted.get(row) == text}
        keys = {row.id: row.key for row in rows}
        news = {row: (keys[row], text) for row, text in wanted.items() if row not in self._said}
        if news:
            self._said |= {row: news[row][1] for row in queue.say_why(news)}

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

    def wanted(self) -> dict[PrinterKey, str]:
        """Devices that this instance serves, with the name of their first row."""
        settings = self._settings
        wanted: dict[PrinterKey, str] = {}
        for row in self._rows or ():
            usable = row.active and row.key and not (row.fault or row.absent)
            if usable and covers(settings.stations, settings.brands, row):
                wanted.setdefault(row.key, row.name)
        return wanted
