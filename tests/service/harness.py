"""The real service in its own processes, with virtual printers in this one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Database, eventually


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        self.output = folder / "stdout.log"

    @property
    def port(self) -> int:
        return int(self.env["HEALTH_CHECK_PORT"])

    def start(self) -> Service:
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kps.supervisor"],
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

    def text(self) -> str:
        """All it has said."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


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

    def papers_of(self, ticket: int) -> list[tuple[str, str]]:
        """(printer, text) of every paper that carries the ticket's id."""
        code = re.compile(rf"#{ticket}\b")
        return [
            (name, printer.paper_text(number))
            for name, printer in self.printers.items()
            for number in range(len(printer.papers))
            if code.search(printer.paper_text(number))
        ]


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
    **settings: object,
) -> Iterator[Shop]:
    """A shop with one virtual printer per entry of `stations` (name -> station, priority), and one instance."""
    chosen = stations or {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2), "bar-1": ("bar", 1)}
    with contextlib.ExitStack() as stack:
        printers, rows = {}, {}
        for name, (station, priority) in chosen.items():
            device = stack.enter_context(VirtualPrinter(name=name, **(printer or {})))
            printers[name] = device
            rows[name] = pos.add_printer(device.host, device.port, station, priority, name, timeout_seconds=timeout_s)
        service = Service(database, folder, **settings)
        stack.callback(service.end)
        found = Shop(pos, database, printers, rows, service)
        if start:
            service.start().wait_ready(len(chosen))
        yield found
