"""The usual design, to compare with: poll, claim ten, connect, send, close, mark printed. One process per instance.

    DB_HOST=... DB_PORT=... DB_NAME=... DB_USER=... DB_PASSWORD=... python -m bench.naive

POLL_INTERVAL (2) and TICKET_PAUSE (0) are the seconds between two looks, and between two tickets of one look. With
STATION it takes the tickets of one station only.
It is built with care: it claims with FOR UPDATE SKIP LOCKED, tries the backup printer, tries three times, takes back
what has been `printing` for too long, and survives outages of its database.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn

NEEDED = ("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD")
AT_ONCE = 10
TRIES = 3
CONNECT_LIMIT_S = 3.0
RECLAIM_AFTER_S = 10.0
RECONNECT_AFTER_S = 0.5

CLAIM = """
WITH pick AS (
  SELECT id FROM kitchen_kitchenticket WHERE status = 'new' AND (%(station)s = '' OR printer_target = %(station)s)
   ORDER BY id LIMIT %(at_once)s FOR UPDATE SKIP LOCKED
)
UPDATE kitchen_kitchenticket t
   SET status = 'printing', print_attempts = t.print_attempts + 1,
       last_error_at = clock_timestamp()  -- the POS has no column for when a ticket was claimed
  FROM pick, pos_bill b WHERE t.id = pick.id AND b.id = t.bill_id
RETURNING t.id, t.printer_target, t.print_attempts, b.queue_number"""
ITEMS = """
SELECT i.quantity, p.name FROM kitchen_kitchenticketitem i JOIN pos_billitem b ON b.id = i.bill_item_id
  JOIN core_product p ON p.id = b.product_id WHERE i.kitchen_ticket_id = %(id)s ORDER BY i.id"""
ROUTE = """
SELECT printer_ip, printer_port FROM kitchen_stationprinter WHERE is_active AND station_code = %(station)s
 ORDER BY priority, id"""
MARK = "UPDATE kitchen_kitchenticket SET status = %(status)s, printed_at = clock_timestamp() WHERE id = %(id)s"
RECLAIM = """
UPDATE kitchen_kitchenticket SET status = 'new'
 WHERE status = 'printing' AND last_error_at < clock_timestamp() - %(seconds)s * interval '1 second'"""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A claimed ticket."""

    id: int
    station: str
    attempts: int
    queue_number: int | None

    def paper(self, items: list[tuple[int, str]]) -> bytes:
        """ESC/POS: reset, a few lines of text, cut."""
        lines = [self.station.upper(), f"QUEUE {self.queue_number}"]
        lines += [f"{quantity} x {name}" for quantity, name in items]
        lines.append(f"#{self.id}")
        return b"\x1b@" + "\n".join(lines).encode("cp437", "replace") + b"\n\n\n\x1dV\x00"


class NaiveLoop:
    """Looks for tickets every `every_s` seconds until it is stopped, and rests `pause_s` between two tickets."""

    def __init__(self, dsn: str, every_s: float = 2.0, pause_s: float = 0.0, station: str = "") -> None:
        self._dsn = dsn
        self._station = station
        self._every_s = every_s
        self._pause_s = pause_s
        self._connection: Connection | None = None

    def run(self, stopping: threading.Event) -> None:
        """Work until the event is set. While the database is away it connects again and again."""
        while not stopping.is_set():
            try:
                self._turn(stopping)
                pause_s = self._every_s
            except psycopg2.Error:
                self.close()
                pause_s = RECONNECT_AFTER_S
            stopping.wait(pause_s)
        self.close()

    def close(self) -> None:
        """Drop the connection to the database."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _turn(self, stopping: threading.Event) -> None:
        self._run(RECLAIM, seconds=RECLAIM_AFTER_S)
        for place, row in enumerate(sorted(self._run(CLAIM, at_once=AT_ONCE, station=self._station))):
            if place and self._pause_s:
                stopping.wait(self._pause_s)  # ends at once when it is stopped
            self._print(Ticket(*row))

    def _print(self, ticket: Ticket) -> None:
        paper = ticket.paper(self._run(ITEMS, id=ticket.id))
        for host, port in self._run(ROUTE, station=ticket.station):
            if _sent(host, port, paper):
                self._run(MARK, status="printed", id=ticket.id)
                return
        self._run(MARK, status="new" if ticket.attempts < TRIES else "failed", id=ticket.id)

    def _run(self, statement: str, **values: object) -> list[Any]:
        if self._connection is None:
            name = f"naive {self._station}".strip()
            self._connection = psycopg2.connect(self._dsn, connect_timeout=2, application_name=name)
            self._connection.autocommit = True
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []


def _sent(host: str, port: int, paper: bytes) -> bool:
    """Whether the kernel took the ticket's bytes. This design checks no more."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_LIMIT_S) as wire:
            wire.sendall(paper)
    except OSError:
        return False
    return True


def main() -> None:
    """One instance, by the service's own variables; ends by signal."""
    env = os.environ
    missing = [name for name in NEEDED if name not in env]
    if missing:
        sys.exit(f"not set: {', '.join(missing)}")
    dsn = make_dsn(
        host=env["DB_HOST"], port=env["DB_PORT"], dbname=env["DB_NAME"], user=env["DB_USER"],
        password=env["DB_PASSWORD"], sslmode=env.get("DB_SSLMODE", "prefer"),
    )  # fmt: skip
    every_s, pause_s = float(env.get("POLL_INTERVAL", "2")), float(env.get("TICKET_PAUSE", "0"))
    NaiveLoop(dsn, every_s, pause_s, env.get("STATION", "")).run(threading.Event())


if __name__ == "__main__":
    main()
