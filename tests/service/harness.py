"""The real service in its own processes, with virtual printers in this one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from kps.demo.orders import PosWriter
from kps.demo.pos_tables import SchemaAge, create_sql
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Database, eventually


def free_port() -> int:
    """A port that nobody listens on, below the range that outgoing connections take theirs from."""
    while True:
        port = random.SystemRandom().randint(10_000, 14_999)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def environment(database: Database, folder: Path, **settings: object) -> dict[str, str]:
    """The environment of an instance; every setting by its variable's name."""
    base = {
        name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
    }
    chosen: dict[str, object] = {
        "DB_HOST": database.host,
        "DB_PORT": database.port,
        "DB_NAME": database.name,
        "DB_USER": database.user,
        "DB_PASSWORD": database.password,
        "DB_SSLMODE": "disable",
        "HEALTH_CHECK_HOST": "127.0.0.1",
        "HEALTH_CHECK_PORT": free_port(),
        "POS_WIDGET_PORT": 0,
        "LOG_DIR": folder / "logs",
        "RUN_DIR": folder / "run",
        "RETRY_DELAY_SECONDS": 0.3,
        "PYTHONUNBUFFERED": 1,
    } | settings
    return base | {name: str(value) for name, value in chosen.items()}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """One instance: `python -m kps.supervisor` and all its children."""

    def __init__(self, database: Database, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.env = environment(database, folder, **settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []
        """What the command is run by."""
        self.output = folder / "stdout.log"

    @property
    def port(self) -> int:
        return int(self.env["HEALTH_CHECK_PORT"])

    def start(self) -> Service:
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "kps.supervisor"],
                env=self.env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self

    def get(self, path: str, port: int | None = None) -> Answer:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=3) as reply:
                return Answer(reply.status, reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())
        except OSError:
            return Answer(0, "")

    def status(self) -> Any:
        answer = self.get("/status")
        return answer.json if answer.status == 200 else None

    def health(self) -> Any:
        answer = self.get("/health")
        return answer.json if answer.status else None

    def wait_ready(self, printers: int = 1, timeout: float = 20.0) -> Service:
        """Until the dispatcher looks and as many printers can print."""

        def ready() -> bool:
            status = self.status()
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.text()}")
            if status is None:
                return False
            able = sum(1 for printer in status["printers"] if printer["is_online"])
            return able >= printers and (self.health() or {}).get("last_poll") is not None

        eventually(ready, timeout=timeout, what="the service is ready")
        return self

    def children(self) -> dict[str, int]:
        """Names and pids of the children that run."""
        status = self.status()
        return {child["name"]: child["pid"] for child in status["processes"] if child["pid"]} if status else {}

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, timeout: float = 30.0) -> int:
        """TERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def end(self) -> None:
        """Whatever happened: nothing of it is left."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def kill_group(self) -> None:
        """kill -9 of the supervisor and all its children at once: the host's plug is pulled."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def family(self) -> set[int]:
        """The living processes that this start has made, the supervisor included."""
        assert self.process is not None
        return group(self.process.pid)

    def wait_for_child(self, name: str, other_than: int | None = None, timeout: float = 20.0) -> int:
        """The pid of a child as soon as it works, and is not the process `other_than`."""

        def there() -> int | None:
            status = self.status() or {"processes": []}
            found = [child for child in status["processes"] if child["name"] == name and child["state"] == "up"]
            return next((child["pid"] for child in found if child["pid"] and child["pid"] != other_than), None)

        pid = eventually(there, timeout=timeout, what=f"the process of {name} works")
        assert pid is not None
        return pid

    def wait_for_template(self, other_than: int | None = None, timeout: float = 20.0) -> int:
        """The pid of the template process as soon as it forks, and is not the process `other_than`."""

        def there() -> int | None:
            found = (self.status() or {}).get("template") or {}
            return found["pid"] if found.get("state") == "up" and found["pid"] != other_than else None

        pid = eventually(there, timeout=timeout, what="the template process is ready")
        assert pid is not None
        return pid

    def wait_unhealthy(self, words: str, timeout: float = 20.0) -> Answer:
        """Until /health answers 503 and says these words."""

        def says() -> Answer | None:
            answer = self.get("/health")
            return answer if answer.status == 503 and words in answer.body else None

        try:
            found = eventually(says, timeout=timeout, what=f"/health says {words!r}")
        except BaseException:
            print(self.get("/health"))
            print(self.text()[-6000:])
            raise
        assert found is not None
        return found

    def wait_exit(self, timeout: float = 30.0) -> int:
        """The exit code of a service that ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout)

    def text(self) -> str:
        """All it has said."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def said(self, *words: str) -> bool:
        """Whether some line of its log holds all these words."""
        return any(all(word in line for word in words) for line in self.text().splitlines())

    def wait_said(self, *words: str, timeout: float = 20.0) -> None:
        """Until some line of its log holds all these words."""
        eventually(lambda: self.said(*words), timeout=timeout, what=f"a log line with {words}")


def group(leader: int) -> set[int]:
    """The living processes of a process group."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX" and int(pgrp) == leader:
            found.add(int(path.parent.name))
    return found


SLOW: dict[str, Any] = {
    "speed": "real", "lines_per_s": 20.0, "cut_s": 0.2, "nic_buffer": 64, "receive_buffer": 64,
}  # fmt: skip
"""A printer that takes a second or two for a ticket and answers only behind it, so that there is a middle."""


def long_order(dish: str) -> list[tuple[str, int]]:
    """A dish and many others: so much that a slow printer answers a second later."""
    return [(dish, 1), *((f"Filler{n}", 1) for n in range(12))]


MARKS = ("POSSIBLE DUPLICATE", "REPRINT -", "MOVED -")
"""What tells a reader that there may be, or is, another copy."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A piece of paper with a ticket, or a part of one, on it."""

    printer: str
    text: str
    t_first_byte: float
    complete: bool

    @property
    def marked(self) -> bool:
        return any(mark in self.text for mark in MARKS)


@dataclass(slots=True)
class Shop:
    """A POS with its printers, and one instance."""

    pos: PosWriter
    database: Database
    printers: dict[str, VirtualPrinter]
    rows: dict[str, int]
    service: Service

    def printed(self, ticket: int) -> dict[str, Any]:
        """Wait until the ticket is printed; its row."""
        return self.ends(ticket, "printed")

    def ends(self, ticket: int, status: str, timeout: float = 20.0) -> dict[str, Any]:
        """Wait until the ticket has this status; its row."""

        def there() -> dict[str, Any] | None:
            row = self.pos.ticket_row(ticket)
            return dict(row) if row is not None and row["status"] == status else None

        try:
            found = eventually(there, timeout=timeout, what=f"ticket {ticket} is {status}")
        except BaseException:
            print(self.pos.ticket_row(ticket))
            print(*self.pos.log_rows(ticket), sep="\n")
            print(self.service.text()[-6000:])
            raise
        assert found is not None
        return found

    def all_end(self, tickets: Iterable[int], status: str = "printed", timeout: float = 40.0) -> None:
        """Wait until all these tickets have this status."""
        for ticket in tickets:
            self.ends(ticket, status, timeout)

    def papers_of(self, ticket: int) -> list[tuple[str, str]]:
        """(printer, text) of every paper that carries the ticket's id."""
        code = re.compile(rf"^#{ticket}$", re.MULTILINE)
        return [
            (name, text) for name, printer in self.printers.items() for text in printer.texts() if code.search(text)
        ]

    def copies(self, dish: str) -> list[Copy]:
        """Every piece of paper with this dish on it, whole tickets and torn ones, in the order of their first byte."""
        word = re.compile(rf"\b{re.escape(dish)}\b")
        found = [
            Copy(name, paper.text, paper.t_first_byte, paper.complete)
            for name, printer in self.printers.items()
            for paper in printer.papers
            if word.search(paper.text)
        ]
        return sorted(found, key=lambda copy: copy.t_first_byte)

    def only_copy(self, dish: str) -> Copy:
        """The one paper of a dish, once a slow printer has let it out; fails if there is more of it, or a mark."""
        eventually(lambda: any(copy.complete for copy in self.copies(dish)), what=f"a whole paper with {dish}")
        (copy,) = self.copies(dish)
        assert not copy.marked, copy
        return copy

    def no_unmarked_duplicate(self, dishes: Iterable[str]) -> None:
        """Fails where a second piece of paper of a dish does not say that it is one, or where none is whole."""
        for dish in dishes:
            eventually(lambda: any(copy.complete for copy in self.copies(dish)), what=f"a whole paper with {dish}")  # noqa: B023
            copies = self.copies(dish)
            assert all(copy.marked for copy in copies[1:]), f"unmarked second copy of {dish}: {copies}"

    def actions(self, ticket: int) -> list[str]:
        """What the audit table says happened to the ticket, without its creation and notes about its printers."""
        return [
            row["action"]
            for row in self.pos.log_rows(ticket)
            if row["action"] != "created" and row["error_code"] != "may_have_printed"
        ]

    def health_rows(self, name: str) -> list[dict[str, Any]]:
        """The health rows of a printer row, oldest first."""
        return self.pos.rows(
            "SELECT * FROM kitchen_printerhealthcheck WHERE printer_id = %s ORDER BY id", [self.rows[name]]
        )

    def wait_health(self, name: str, timeout: float = 20.0, **columns: object) -> dict[str, Any]:
        """The newest health row of a printer row, once it has these values."""

        def there() -> dict[str, Any] | None:
            rows = self.health_rows(name)
            right = rows and all(rows[-1][column] == value for column, value in columns.items())
            return rows[-1] if right else None

        found = eventually(there, timeout=timeout, what=f"a health row of {name} with {columns}")
        assert found is not None
        return found

    def wait_state(self, name: str, *states: str, timeout: float = 20.0) -> None:
        """Until the owner of a printer says that it is in one of these states."""
        key = f":{self.printers[name].host}:{self.printers[name].port}"

        def there() -> bool:
            found = self.pos.rows("SELECT state FROM kps.printer WHERE printer_key = %s", [key])
            return bool(found) and found[0]["state"] in states

        eventually(there, timeout=timeout, what=f"{name} is {' or '.join(states)}")

    def wait_sending(self, ticket: int) -> None:
        """Until the first byte of the ticket may leave."""
        eventually(
            lambda: self.pos.rows("SELECT 1 FROM kps.job WHERE ticket_id = %s AND state = 'sending'", [ticket]),
            what=f"ticket {ticket} is sent",
        )

    def another(self, folder: Path, **settings: object) -> Service:
        """A further instance on the same database; the caller starts and ends it."""
        return Service(self.database, folder, **settings)


@contextlib.contextmanager
def shop(
    pos: PosWriter,
    database: Database,
    folder: Path,
    stations: dict[str, tuple[str, int]] | None = None,
    *,
    start: bool = True,
    timeout_s: int = 2,
    printer: dict[str, Any] | None = None,
    each: dict[str, dict[str, Any]] | None = None,
    **settings: object,
) -> Iterator[Shop]:
    """A shop with one virtual printer per entry of `stations` (name -> station, priority), and one instance.

    `printer` changes the settings of all virtual printers, `each` those of single ones by name.
    """
    chosen = stations or {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2), "bar-1": ("bar", 1)}
    with contextlib.ExitStack() as stack:
        printers, rows = {}, {}
        for name, (station, priority) in chosen.items():
            device = stack.enter_context(VirtualPrinter(name=name, **((printer or {}) | (each or {}).get(name, {}))))
            printers[name] = device
            rows[name] = pos.add_printer(device.host, device.port, station, priority, name, timeout_seconds=timeout_s)
        service = Service(database, folder, **settings)
        stack.callback(service.end)
        found = Shop(pos, database, printers, rows, service)
        if start:
            service.start().wait_ready(len(chosen))
        yield found


@contextlib.contextmanager
def own_server(age: SchemaAge = SchemaAge.NEWER, *, tables: bool = True) -> Iterator[tuple[EmbeddedPostgres, Database]]:
    """A PostgreSQL of the test's own, to be stopped, paused and killed, with the POS's tables."""
    with EmbeddedPostgres(durable=False) as server:
        database = Database("shop", server.host, server.port, server.user, server.password)
        with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8'")
        if tables:
            make_tables(database, age)
        try:
            yield server, database
        finally:
            database.close()


def make_tables(database: Database, age: SchemaAge = SchemaAge.NEWER) -> None:
    """The POS's migrations run."""
    with contextlib.closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(create_sql(age))
