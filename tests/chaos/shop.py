"""The chaos shop: its own PostgreSQL, virtual printers, a till, and instances of the service that are restarted."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

import psycopg2

from kps.core.settings import DatabaseSettings
from kps.crash import VARIABLE, Point
from kps.database import Database as KpsDatabase
from kps.database.migrations import migrate
from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import VirtualPrinter
from tests.chaos.devices import DEVICES, ROUTES, SHARES
from tests.chaos.guests import Guests, Placed
from tests.chaos.proxy import Proxy
from tests.conftest import Database
from tests.names import NameServer, lacking
from tests.service.harness import environment, group, own_server

REPOSITORY: Final = Path(__file__).parents[2]
DISHES: Final = ("Nasi Goreng", "Soto Betawi", "Rendang", "Es Teh", "Gado-Gado", "Sate Ayam", "Kopi Tubruk")
DRAWN: Final = ("宫保鸡丁", "ต้มยำกุ้ง")
"""Dishes in letters that no code page of the printers has, so that they are sent as pictures."""
DRAWN_SHARE: Final = 0.2
"""Share of orders with such a dish."""
SEATED_SHARE: Final = 0.5
SPEED: Final[dict[str, Any]] = {"speed": "real", "lines_per_s": 2500.0, "cut_s": 0.005}
"""About 15 ms for a ticket: long enough for faults in the middle of one, short enough for 15 tickets per second."""
SETTINGS: Final[dict[str, object]] = {
    "HOLD_SECONDS": 2, "RETRY_DELAY_SECONDS": 0.5, "RECLAIM_SECONDS": 10, "LOG_LEVEL": "INFO",
}  # fmt: skip
"""Shorter than the defaults, so that each wait ends within a run."""
PRINTER_TIMEOUT_S: Final = 2
HALF_SENT: Final = "half-sent"
"""While this file is there, the next printer process that sends dies in the middle of the ticket."""
DATABASE_NAME: Final = "database"
"""Host name of the database for the instances, where they have a name server."""


class Design(Enum):
    """Which program prints: KPS, or the naive loop."""

    KPS = "kps.supervisor"
    NAIVE = "bench.naive"


class Instance:
    """One instance in its own process group. Like supervisord, `keep_running` starts it again when it has ended."""

    def __init__(
        self, design: Design, database: Database, folder: Path, number: int, names: NameServer | None = None
    ) -> None:
        folder.mkdir(parents=True)
        self.design = design
        self.name = f"instance-{number}"
        self.proxy = Proxy(database.host, database.port)
        self.output = folder / "stdout.log"
        through_proxy = replace(database, port=self.proxy.port, host=database.host if names is None else DATABASE_NAME)
        self._prefix = [] if names is None else names.prefix
        poll = {"POLL_INTERVAL": 0.1} if design is Design.NAIVE else {}
        settings = SETTINGS | poll | {VARIABLE: f"{Point.HALF_SENT.value}={folder.parent / HALF_SENT}"}
        self._env = environment(through_proxy, folder, INSTANCE_NAME=self.name, **settings)
        self._env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), self._env.get("PYTHONPATH", "")]))
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self.restarts = -1

    @property
    def pid(self) -> int:
        """Process id of the supervisor, or of the naive loop."""
        assert self._process is not None
        return self._process.pid

    def keep_running(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with self.output.open("ab") as out:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", self.design.value],
                env=self._env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self._groups.append(self._process.pid)
        self.restarts += 1

    def processes(self) -> dict[int, str]:
        """The living processes of this and of earlier starts: pid -> role."""
        found = {}
        for leader in self._groups:
            for pid in group(leader):
                role = self._role(pid)
                if role:
                    found[pid] = role
        return found

    def find(self, role: str) -> list[int]:
        """Living processes of a role: `supervisor`, `dispatcher` or a printer's name. The naive loop has all roles."""
        if self.design is Design.NAIVE:
            return [pid for pid in self.processes() if pid == self.pid]
        return [pid for pid, found in self.processes().items() if found == role]

    def _role(self, pid: int) -> str:
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return name.removeprefix("kps:")

    def end(self) -> int | None:
        """TERM, and whatever is left is killed; returns the exit code, None if it had to be killed."""
        code = None
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(30)
        for leader in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)
        return code


class Till(threading.Thread):
    """The POS: commits `rate` tickets per second, one after the other, and goes on after every outage.

    Between tickets it writes what the guests change.
    """

    def __init__(self, dsn: str, rate: float, seed: int) -> None:
        super().__init__(name="till", daemon=True)
        self._pos = PosWriter(dsn)
        self._rate = rate
        self._chance = random.Random(seed)
        self._guests = Guests(self._pos, random.Random(seed))
        self.stopping = threading.Event()
        self.draws = threading.Event()
        """While it is set, every order has a dish that must be drawn."""
        self.numbers = 0
        """Queue numbers used so far. If the commit failed, a number may have no ticket."""

    def run(self) -> None:
        """Until stopped."""
        began = time.monotonic()
        while not self.stopping.wait(max(0.0, began + self.numbers / self._rate - time.monotonic())):
            try:
                self._guests.after(self.ring_up())
            except psycopg2.Error:
                self.stopping.wait(0.1)  # go on with the next order
        self._pos.close()

    def ring_up(self, station: str = "") -> Placed:
        """Commit one ticket with its own bill. Raises psycopg2.Error; whether it was committed is then unknown."""
        self.numbers += 1
        stations, shares = list(SHARES), list(SHARES.values())
        chosen = station or self._chance.choices(stations, shares)[0]
        items = [(dish, self._chance.randint(1, 3)) for dish in self._chance.sample(DISHES, self._chance.randint(1, 4))]
        if self._chance.random() < DRAWN_SHARE or self.draws.is_set():
            items[0] = (self._chance.choice(DRAWN), items[0][1])
        seated = self._chance.random() < SEATED_SHARE
        table = str(self.numbers) if seated else None
        ticket = self._pos.ticket(chosen, items, queue_number=self.numbers, table=table)
        return Placed(ticket, self.numbers, seated, len(items))


@dataclass(slots=True)
class ChaosShop:
    """Everything that a run consists of: database, printers, till and instances."""

    design: Design
    server: EmbeddedPostgres
    database: Database
    pos: PosWriter
    printers: dict[str, VirtualPrinter]
    instances: list[Instance]
    till: Till
    half_sent: Path
    """See HALF_SENT."""
    locked: set[int] = field(default_factory=set)
    """Tickets that a fault had locked for a while, so that they had to wait."""
    names: NameServer | None = None
    """Resolves the names of database and printers for the instances; None where they use addresses."""
    keys: dict[str, str] = field(default_factory=dict)
    """Printer's name -> its key in kps.printer."""

    def keep_running(self) -> None:
        """Start each instance that does not run."""
        for instance in self.instances:
            instance.keep_running()

    def free_cutters(self, spare: Collection[str] = ()) -> None:
        """Free every jammed cutter, as staff would do, except those of the printers in `spare`."""
        for name, printer in self.printers.items():
            if printer.sensors.cutter_error and name not in spare:
                printer.mend_cutter()

    def probe(self, name: str) -> None:
        """Store what a probe of this printer would have found."""
        device = next(device for device in DEVICES if device.name == name)
        self.pos.execute(
            "INSERT INTO kps.printer AS p (printer_key, name, proof_level, pushes, clears) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (printer_key) DO UPDATE SET proof_level = excluded.proof_level",
            [self.keys[name], name, device.level, device.pushes, device.clears],
        )


@contextlib.contextmanager
def open_shop(design: Design, instances: int, rate: float, seed: int, folder: Path) -> Iterator[ChaosShop]:
    """Start everything; at the end stop and remove it."""
    with contextlib.ExitStack() as stack:
        server, database = stack.enter_context(own_server())
        pos = stack.enter_context(PosWriter(database.dsn))
        pos.seed_reference_data()
        printers = {
            device.name: stack.enter_context(
                VirtualPrinter(
                    name=device.name, profile=device.profile, connections="many_interleave", keep_raw=0, **SPEED
                )
            )
            for device in DEVICES
        }
        names = None
        if design is Design.KPS and not lacking():
            hosts = {name: device.host for name, device in printers.items()}
            names = stack.enter_context(NameServer(folder / "names", **hosts, **{DATABASE_NAME: database.host}))
        for priority, (station, name) in enumerate(ROUTES):
            device = printers[name]
            host = device.host if names is None else name
            pos.add_printer(host, device.port, station, priority, name, timeout_seconds=PRINTER_TIMEOUT_S)
        shop = ChaosShop(
            design, server, database, pos, printers, [], Till(database.dsn, rate, seed), folder / HALF_SENT
        )
        shop.names = names
        shop.keys = {name: f":{device.host}:{device.port}" for name, device in printers.items()}
        if design is Design.KPS:
            _migrate(database)
            for name in printers:
                shop.probe(name)
        for number in range(1, instances + 1):
            instance = Instance(design, database, folder / f"{number}", number, names)
            stack.enter_context(instance.proxy)
            stack.callback(instance.end)
            shop.instances.append(instance)
        shop.keep_running()
        stack.callback(shop.till.stopping.set)
        yield shop


def _migrate(database: Database) -> None:
    """Make the service's tables before its first start, because the results of probes are stored in them."""
    settings = DatabaseSettings(
        database.host, database.port, database.name, database.user, database.password, "disable"
    )  # fmt: skip
    connection = KpsDatabase(settings, "chaos")
    try:
        migrate(connection, automatic=True)
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Belongings:
    """Processes, descriptors and connections of all instances: after the faults as many as before.

    With several instances a printer may have moved to another one, so what belongs to a printer is summed over all.
    """

    processes: Counter[str]
    """Role -> number of processes."""
    descriptors: Counter[str]
    """Kind of role -> open file descriptors, without sockets to the database."""
    at_printers: Counter[str]
    """Printer -> number of open connections."""
    to_database: Counter[str]
    """Kind of role -> sockets to the database. An idle process notices a lost one only when it next uses it."""
    at_database: Counter[str]
    """Application name -> number of backends."""

    def beyond(self, before: Belongings) -> list[str]:
        """The differences in words; for connections to the database only increases count."""
        exact = (
            ("processes", self.processes, before.processes),
            ("descriptors of", self.descriptors, before.descriptors),
            ("connections at", self.at_printers, before.at_printers),
        )
        at_most = (
            ("sockets to the database of", self.to_database, before.to_database),
            ("backends of", self.at_database, before.at_database),
        )
        found = [
            (what, name, then[name], now[name])
            for what, now, then in exact
            for name in sorted(now.keys() | then.keys())
            if now[name] != then[name]
        ]
        found += [(what, name, then[name], now[name]) for what, now, then in at_most for name in sorted(now - then)]
        return [f"{what} {name}: {then} before, {now} after" for what, name, then, now in found]


def belongings(shop: ChaosShop) -> Belongings:
    """Count all processes, descriptors, connections and backends now."""
    processes: Counter[str] = Counter()
    descriptors: Counter[str] = Counter()
    to_database: Counter[str] = Counter()
    for instance in shop.instances:
        leading_there = _sockets_to(instance.proxy.port)
        for pid, role in instance.processes().items():
            kind = role if role in ("supervisor", "dispatcher", "template") else "printer processes"
            opened = _descriptors(pid)
            processes[role] += 1
            to_database[kind] += len(opened & leading_there)
            descriptors[kind] += len(opened - leading_there)
    at_printers = Counter({name: printer.connections_open for name, printer in shop.printers.items()})
    rows = shop.pos.rows(
        "SELECT application_name AS name FROM pg_stat_activity"
        " WHERE datname = current_database() AND (application_name LIKE 'kps:%%' OR application_name = 'naive')"
    )
    return Belongings(processes, descriptors, at_printers, to_database, Counter(row["name"] for row in rows))


def _descriptors(pid: int) -> set[str]:
    """The targets of a process's open descriptors, each with the descriptor's number."""
    found = set()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                what = os.readlink(f"{folder}/{number}")
                found.add(what if what.startswith("socket:") else f"{number} {what}")
    return found


def _sockets_to(port: int) -> set[str]:
    """The sockets on this host that are connected to a port, by their names in /proc."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{fields[9]}]" for fields in map(str.split, lines) if fields[2].endswith(wanted)}
