"""A POS database, virtual printers and the real service, for measurements."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from kps.demo import postgres_child
from kps.demo.orders import PosWriter
from kps.demo.pos_tables import create_sql
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import VirtualPrinter


@dataclass(frozen=True, slots=True)
class Shop:
    """What a measurement works on. `printers` by name; each has a station of its own name."""

    server: EmbeddedPostgres
    pos: PosWriter
    printers: dict[str, VirtualPrinter]
    folder: Path


@contextlib.contextmanager
def open_shop(stations: list[str], **printer: Any) -> Iterator[Shop]:
    """A durable PostgreSQL (fsync on) and an instant printer per station; `printer` is what VirtualPrinter takes."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kps-bench-")))
        server = stack.enter_context(EmbeddedPostgres())
        with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE pos")
        with contextlib.closing(psycopg2.connect(server.dsn("pos"))) as connection, connection.cursor() as cursor:
            cursor.execute(create_sql())
            connection.commit()
        pos = stack.enter_context(PosWriter(server.dsn("pos")))
        pos.seed_reference_data()
        printers = {}
        for station in stations:
            printers[station] = stack.enter_context(VirtualPrinter(name=station, **printer))
            pos.add_printer(printers[station].host, printers[station].port, station, 1, station, timeout_seconds=5)
        yield Shop(server, pos, printers, folder)


@contextlib.contextmanager
def service(shop: Shop, printers: int | None = None, **settings: object) -> Iterator[int]:
    """The real service; yields its HTTP port once so many printers can print, or all of the shop's."""
    port = _free_port()
    env = environment(shop, port, **settings)
    with (shop.folder / "service.log").open("ab") as out:
        process = subprocess.Popen(
            [*ending_with_us(), *SERVICE], env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wanted = len(shop.printers) if printers is None else printers
        wait_until(lambda: _ready(port, wanted), 30.0, "the service is ready")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def environment(shop: Shop, port: int, **settings: object) -> dict[str, str]:
    """The service's variables; every setting by its variable's name."""
    chosen = {
        "DB_HOST": shop.server.host, "DB_PORT": shop.server.port, "DB_NAME": "pos", "DB_USER": shop.server.user,
        "DB_PASSWORD": shop.server.password, "DB_SSLMODE": "disable", "HEALTH_CHECK_HOST": "127.0.0.1",
        "HEALTH_CHECK_PORT": port, "POS_WIDGET_PORT": 0, "LOG_DIR": shop.folder / "logs",
        "RUN_DIR": shop.folder / "run",
    } | settings  # fmt: skip
    return dict(os.environ) | {name: str(value) for name, value in chosen.items()}


SERVICE = (sys.executable, "-m", "kps.supervisor")


class Instance:
    """The service as processes that may be killed. It ends with this process, even if that is killed (Linux).

    `command` is what runs it: the service itself, or a supervisord. All of it is one session of processes.
    """

    def __init__(self, shop: Shop, name: str = "kps", command: Sequence[str] = SERVICE, **settings: object) -> None:
        self.port = _free_port()
        own = {"INSTANCE_NAME": name, "RUN_DIR": shop.folder / f"run-{name}", "LOG_DIR": shop.folder / f"logs-{name}"}
        self.env = environment(shop, self.port, **(own | settings))
        self.output = shop.folder / f"{name}.log"
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Instance:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> float:
        """Start it, from the main thread; returns the monotonic time right before."""
        with self.output.open("ab") as out:
            began = time.monotonic()
            self._process = subprocess.Popen(
                [*ending_with_us(), *self._command],
                env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        return began

    @property
    def pid(self) -> int:
        """Process id of the command."""
        assert self._process is not None
        return self._process.pid

    def family(self) -> set[int]:
        """Its living processes, including the command."""
        return _session(self.pid)

    def status(self) -> dict[str, Any] | None:
        """What /status says; None if there is no answer."""
        return _status(self.port)

    def children(self) -> dict[str, int]:
        """Names and pids of the service's children that run."""
        status = self.status() or {"processes": []}
        return {child["name"]: child["pid"] for child in status["processes"] if child["pid"]}

    def wait_ready(self, printers: int, limit_s: float = 30.0) -> None:
        """Wait until so many printer rows can print and all child processes are up. Raises TimeoutError."""

        def ready() -> bool:
            status = self.status()
            if status is None or not status["dispatcher"]["last_poll"]:
                return False
            up = all(child["state"] == "up" for child in status["processes"])
            return up and sum(1 for printer in status["printers"] if printer["is_online"]) >= printers

        wait_until(ready, limit_s, f"{printers} printers are ready", every_s=0.02)

    def kill_all(self) -> None:
        """kill -9 of all processes at once, as if the host had lost power. Returns when all are gone."""
        assert self._process is not None

        def gone() -> bool:
            left = self.family()
            kill(left)
            return not left

        wait_until(gone, 10.0, "the killed instance is gone")
        self._process.wait(10)

    def end(self) -> None:
        """TERM, and KILL after 30 s; returns when no process of it is left."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        self.kill_all()


def ending_with_us() -> list[str]:
    """A prefix for a command: it then gets a signal when this process ends, even by a kill (Linux)."""
    return [sys.executable, "-I", "-S", str(postgres_child.__file__), str(os.getpid()), "-1", "-1"]


def kill(pids: Iterable[int]) -> None:
    """kill -9 of processes; those that have ended already are ignored."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _session(leader: int) -> set[int]:
    """The living processes of a session."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX" and int(session) == leader:
            found.add(int(path.parent.name))
    return found


def wait_until(condition: Callable[[], bool], limit_s: float, what: str, every_s: float = 0.002) -> None:
    """Poll a condition; raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(every_s)


def _ready(port: int, printers: int) -> bool:
    status = _status(port)
    return status is not None and sum(1 for printer in status["printers"] if printer["is_online"]) >= printers


def _status(port: int) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as reply:
            found: dict[str, Any] = json.load(reply)
            return found
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the samples lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
