"""The chaos shop: a PostgreSQL of its own, virtual printers, a till, and instances of the service under a keeper."""

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
"""No code page of our printers has these letters: such a line is a picture."""
DRAWN_SHARE: Final = 0.2
"""Of all orders."""
SEATED_SHARE: Final = 0.5
SPEED: Final[dict[str, Any]] = {"speed": "real", "lines_per_s": 2500.0, "cut_s": 0.005}
"""Some 15 ms for a ticket: enough of a middle for a fault to hit, little enough for 15 tickets per second."""
SETTINGS: Final[dict[str, object]] = {
    "HOLD_SECONDS": 2, "RETRY_DELAY_SECONDS": 0.5, "RECLAIM_SECONDS": 10, "LOG_LEVEL": "INFO",
}  # fmt: skip
"""Shorter than in a shop, so that a minute holds what there takes a day."""
PRINTER_TIMEOUT_S: Final = 2
HALF_SENT: Final = "half-sent"
"""While this file is there, the printer process that sends next dies in the middle of it."""
DATABASE_NAME: Final = "database"
"""How the instances call its host, where they have a name server."""


class Design(Enum):
    """Who prints."""

    KPS = "kps.supervisor"
    NAIVE = "bench.naive"


class Instance:
    """One instance in a process group of its own. Like supervisord, `keep` starts it again when it has ended."""

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
        """Of the supervisor, or of the naive loop."""
        assert self._process is not None
        return self._process.pid

    def keep(self) -> None:
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
        """The living processes of the present and of earlier starts: pid -> role."""
        found = {}
        for leader in self._groups:
            for pid in group(leader):
                role = self._role(pid)
                if role:
                    found[pid] = role
        return found

    def find(self, role: str) -> list[int]:
        """Living processes of this role: `supervisor`, `dispatcher`, a printer's name. The naive loop is all in one."""
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

    Between them it writes what the guests change.
    """

    def __init__(self, dsn: str, rate: float, seed: int) -> None:
        super().__init__(name="till", daemon=True)
        self._pos = PosWriter(dsn)
        self._rate = rate
        self._chance = random.Random(seed)
        self._guests = Guests(self._pos, random.Random(seed))
        self.stopping = threading.Event()
        self.draws = threading.Event()
        """Set: every order has a dish that must be drawn."""
        self.numbers = 0
        """Queue numbers given out; one whose commit failed may have no ticket."""

    def run(self) -> None:
        """Until stopped."""
        began = time.monotonic()
        while not self.stopping.wait(max(0.0, began + self.numbers / self._rate - time.monotonic())):
            try:
                self._guests.after(self.ring_up())
            except psycopg2.Error:
                self.stopping.wait(0.1)  # the next one is another guest's
        self._pos.close()

    def ring_up(self, station: str = "") -> Placed:
        """Commit one ticket of a bill of its own. Raises psycopg2.Error; whether it was committed is then unknown."""
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
class House:
    """All that a run works on."""

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
    """Tickets that the POS has kept locked for a while: they have waited."""
    names: NameServer | None = None
    """By which the instances find the database and the printers; None where they are given addresses."""
    keys: dict[str, str] = field(default_factory=dict)
    """Printer's name -> its key in kps.printer."""

    def keep(self) -> None:
        """Every instance runs."""
        for instance in self.instances:
            instance.keep()

    def tend(self, spare: Collection[str] = ()) -> None:
        """Somebody walks by and frees every jammed cutter, but for the printers to be spared."""
        for name, printer in self.printers.items():
            if printer.sensors.cutter_error and name not in spare:
                printer.mend_cutter()

    def probe(self, name: str) -> None:
        """Stand in for a person's probe of a printer: store what it is taken to have found."""
        device = next(device for device in DEVICES if device.name == name)
        self.pos.execute(
            "INSERT INTO kps.printer AS p (printer_key, name, proof_level, pushes, clears) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT (printer_key) DO UPDATE SET proof_level = excluded.proof_level",
            [self.keys[name], name, device.level, device.pushes, device.clears],
        )


@contextlib.contextmanager
def open_house(design: Design, instances: int, rate: float, seed: int, folder: Path) -> Iterator[House]:
    """Everything is up and has printed; nothing of it is left at the end."""
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
        house = House(design, server, database, pos, printers, [], Till(database.dsn, rate, seed), folder / HALF_SENT)
        house.names = names
        house.keys = {name: f":{device.host}:{device.port}" for name, device in printers.items()}
        if design is Design.KPS:
            _migrate(database)
            for name in printers:
                house.probe(name)
        for number in range(1, instances + 1):
            instance = Instance(design, database, folder / f"{number}", number, names)
            stack.enter_context(instance.proxy)
            stack.callback(instance.end)
            house.instances.append(instance)
        house.keep()
        stack.callback(house.till.stopping.set)
        yield house


def _migrate(database: Database) -> None:
    """The service's own tables, before its first start: a probe's finding is stored in them."""
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
    """What the instances hold; the same before the faults and after them.

    With several instances a printer may have moved to another one, so what belongs to a printer is summed over all.
    """

    processes: Counter[str]
    """Role -> how many."""
    descriptors: Counter[str]
    """Kind of role -> open file descriptors, but for sockets to the database."""
    at_printers: Counter[str]
    """Printer -> open connections."""
    to_database: Counter[str]
    """Kind of role -> sockets to the database. An idle process notices only when it needs it that its own is gone."""
    at_database: Counter[str]
    """Application name -> backends."""

    def beyond(self, before: Belongings) -> list[str]:
        """What differs, in words; of what leads to the database only what is more than before."""
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


def belongings(house: House) -> Belongings:
    """Look at all processes, printers and backends now."""
    processes: Counter[str] = Counter()
    descriptors: Counter[str] = Counter()
    to_database: Counter[str] = Counter()
    for instance in house.instances:
        leading_there = _sockets_to(instance.proxy.port)
        for pid, role in instance.processes().items():
            kind = role if role in ("supervisor", "dispatcher", "template") else "printer processes"
            opened = _descriptors(pid)
            processes[role] += 1
            to_database[kind] += len(opened & leading_there)
            descriptors[kind] += len(opened - leading_there)
    at_printers = Counter({name: printer.connections_open for name, printer in house.printers.items()})
    rows = house.pos.rows(
        "SELECT application_name AS name FROM pg_stat_activity"
        " WHERE datname = current_database() AND (application_name LIKE 'kps:%%' OR application_name = 'naive')"
    )
    return Belongings(processes, descriptors, at_printers, to_database, Counter(row["name"] for row in rows))


def _descriptors(pid: int) -> set[str]:
    """What the open descriptors of a process stand for, each made different by its number."""
    found = set()
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for number in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                what = os.readlink(f"{folder}/{number}")
                found.add(what if what.startswith("socket:") else f"{number} {what}")
    return found


def _sockets_to(port: int) -> set[str]:
    """The sockets of this host that are connected to a port, as /proc names them."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{fields[9]}]" for fields in map(str.split, lines) if fields[2].endswith(wanted)}
