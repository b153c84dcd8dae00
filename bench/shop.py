"""A POS database, virtual printers and the real service, for measurements."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

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
def open_shop(stations: list[str]) -> Iterator[Shop]:
    """A durable PostgreSQL (fsync on) and an instant printer per station."""
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
            printers[station] = stack.enter_context(VirtualPrinter(name=station))
            pos.add_printer(printers[station].host, printers[station].port, station, 1, station, timeout_seconds=5)
        yield Shop(server, pos, printers, folder)


@contextlib.contextmanager
def service(shop: Shop, **settings: object) -> Iterator[int]:
    """The real service; yields its HTTP port once every printer can print."""
    port = _free_port()
    chosen = {
        "DB_HOST": shop.server.host, "DB_PORT": shop.server.port, "DB_NAME": "pos", "DB_USER": shop.server.user,
        "DB_PASSWORD": shop.server.password, "DB_SSLMODE": "disable", "HEALTH_CHECK_HOST": "127.0.0.1",
        "HEALTH_CHECK_PORT": port, "POS_WIDGET_PORT": 0, "LOG_DIR": shop.folder / "logs",
        "RUN_DIR": shop.folder / "run",
    } | settings  # fmt: skip
    env = dict(os.environ) | {name: str(value) for name, value in chosen.items()}
    with (shop.folder / "service.log").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kps.supervisor"], env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: _ready(port, len(shop.printers)), 30.0, "the service is ready")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    """Poll a condition; raises TimeoutError."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.002)


def _ready(port: int, printers: int) -> bool:
    import json

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as reply:
            status = json.load(reply)
    except (OSError, urllib.error.HTTPError):
        return False
    return sum(1 for printer in status["printers"] if printer["is_online"]) >= printers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the samples lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
