"""A kitchen with printer rows, and instances of the service as far as the database can see them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extras import NamedTupleCursor

from kps.core.process_ids import ProcessIds
from kps.core.routing import ClaimFor, PrinterRow, Waiting
from kps.core.settings import DatabaseSettings
from kps.core.tickets import PaperFormat, PrinterKey, Ticket
from kps.core.work import WorkKind
from kps.database.connection import Database, Statement
from kps.database.dispatcher_queue import Claimed, DispatcherQueue
from kps.database.keeper_queue import KeeperQueue
from kps.database.loans import LOAN_STATEMENTS
from kps.database.migrations import migrate
from kps.database.pos import PosAdapter, introspect
from kps.database.pos.trigger import install_trigger
from kps.database.printer_queue import PrinterQueue
from kps.database.row_mappers import printer_rows
from kps.database.statements import Statements
from kps.database.statements.leases import Acquired
from kps.database.statements.reclaiming import DeadReleased, LeftRequeued
from kps.demo.orders import PosWriter
from tests.conftest import Database as Target
from tests.conftest import eventually

HOST = "127.0.77.1"


def settings_of(target: Target, **changes: Any) -> DatabaseSettings:
    """How the service reaches a test's database."""
    given: dict[str, Any] = {"host": target.host, "port": target.port, "name": target.name, "user": target.user}
    return DatabaseSettings(**(given | {"password": target.password, "sslmode": "disable"} | changes))


def all_statements(of: Statements) -> list[Statement[Any]]:
    """Every statement that KPS knows for a schema."""
    both = [*of.every(), *(getattr(LOAN_STATEMENTS, field.name) for field in fields(LOAN_STATEMENTS))]
    return list(dict.fromkeys(both))


def named(database: Database, sql: str, values: Sequence[object] = ()) -> list[Any]:
    """What a look with plain SQL over a connection of the service shows, by column."""
    if not database.connected:
        database.connect()
    with database.raw.cursor(cursor_factory=NamedTupleCursor) as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall()


@dataclass(frozen=True, slots=True)
class Sent:
    """A ticket that was promised: what `Promised` says of it."""

    ticket: Ticket
    paper: PaperFormat
    ids: ProcessIds
    sends: int


class Everybody(DispatcherQueue, PrinterQueue, KeeperQueue):
    """All roles of one instance over one connection: a test plays whichever it needs."""


class Instance:
    """One instance of the service: an owner uuid, a connection, its leases."""

    def __init__(self, target: Target, schema: PosAdapter, name: str) -> None:
        self.me = str(uuid.uuid4())
        self.name = name
        self.database = Database(settings_of(target), name)
        self.queue = Everybody(self.database, schema, self.me, name)
        self.epochs: dict[PrinterKey, int] = {}

    def acquire(self, *rows: PrinterRow, ttl_s: float = 60.0) -> list[Acquired]:
        """Ask for the leases of these rows' devices; answers those that were taken."""
        keys = list(dict.fromkeys(row.key for row in rows))
        taken = self.database.run(
            self.queue.sql.acquire, me=self.me, instance=self.name, keys=keys, names=[""] * len(keys), ttl=ttl_s
        )
        self.epochs |= {row.printer_key: row.epoch for row in taken}
        return taken

    def renew(self, ttl_s: float = 60.0) -> set[str]:
        """Renew every lease that we think we have; answers the keys that were renewed."""
        rows = self.database.run(
            self.queue.sql.renew, me=self.me, instance=self.name, host="here", ttl=ttl_s,
            keys=list(self.epochs), epochs=list(self.epochs.values()), shown=list(self.epochs),
        )  # fmt: skip
        return {row.printer_key for row in rows if row.kept is not None}

    def requeue_left(self) -> list[LeftRequeued]:
        """Try again to give back what earlier epochs of our printers have left open."""
        return self.database.run(self.queue.sql.requeue_left, me=self.me, keys=list(self.epochs), instance=self.name)

    def release_dead(self, row: PrinterRow, blamed: int = 0) -> DeadReleased | None:
        """The process of this printer has been reaped."""
        rows = self.database.run(
            self.queue.sql.release_dead, me=self.me, key=row.key, epoch=self.epochs[row.key], blamed=blamed,
            instance=self.name,
        )  # fmt: skip
        if rows:
            self.epochs[row.key] = rows[0].epoch
        return rows[0] if rows else None

    def seen(self, ticket: int) -> Waiting:
        """The ticket as a look sees it now."""
        return next(waiting for waiting in self.queue.look(1000) if waiting.id == ticket)

    def sees(self, ticket: int) -> bool:
        """Whether a look finds the ticket."""
        return any(waiting.id == ticket for waiting in self.queue.look(1000))

    def try_claim(self, *tickets: int, on: PrinterRow, backup_for: str = "") -> list[Claimed]:
        """Look, then claim these tickets for a printer of ours."""
        epoch = self.epochs[on.key]
        wanted = [(self.seen(ticket), ClaimFor(on, backup_for), epoch) for ticket in tickets]
        return self.queue.claim(WorkKind.TICKET, wanted)

    def claim(self, ticket: int, on: PrinterRow, backup_for: str = "") -> Claimed:
        """Look, then claim one ticket, which must succeed."""
        (claimed,) = self.try_claim(ticket, on=on, backup_for=backup_for)
        return claimed

    def send(self, claimed: Claimed, need_s: float = 2.0) -> Sent:
        """Promise that bytes of a ticket may leave."""
        promised = self.queue.promise(claimed.work, (), need_s=need_s, late_after_minutes=5.0)
        assert isinstance(promised.content, Ticket)
        return Sent(promised.content, promised.paper, promised.ids, promised.sends)

    def claim_and_send(self, ticket: int, on: PrinterRow) -> tuple[Claimed, Sent]:
        """Both steps up to the first byte."""
        claimed = self.claim(ticket, on)
        return claimed, self.send(claimed)

    def settle(self, claimed: Claimed, outcome: Any, *, duration_ms: int = 40, asked: bool = True) -> str:
        """Write what became of it."""
        return self.queue.settle(claimed.work, outcome, duration_ms=duration_ms, asked=asked, again_s=0.0)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """What is done inside stays uncommitted until the end: others meet it half done."""
        raw = self.database.raw
        raw.autocommit = False
        try:
            yield raw
            raw.commit()
        finally:
            if not raw.closed:
                raw.rollback()
                raw.autocommit = True


class House:
    """The POS's side and the table-top view of both sides."""

    def __init__(self, pos: PosWriter, target: Target) -> None:
        self.pos = pos
        self.target = target
        self._open: list[Database] = []
        self._pool = ThreadPoolExecutor(4)
        first = Database(settings_of(target), "first")
        self._open.append(first)
        migrate(first, automatic=True)
        install_trigger(first)
        self.schema = introspect(first)
        self.database = first

    def close(self) -> None:
        """Let go of everything."""
        self._pool.shutdown()
        for database in self._open:
            database.close()

    def instance(self, name: str = "one") -> Instance:
        """A further instance of the service."""
        made = Instance(self.target, self.schema, name)
        made.database.connect()
        self._open.append(made.database)
        return made

    def printer(self, name: str, station: str = "kitchen", priority: int = 1, host: str = HOST, **columns: Any) -> int:
        """A printer row on a port of its own, unless `port` is given; returns its id."""
        port = columns.pop("port", 0) or 39100 + len(self.rows())
        return self.pos.add_printer(host, port, station, priority, name, **columns)

    def rows(self) -> list[PrinterRow]:
        """All printer rows, as the supervisor reads them."""
        found = self.database.run(Statements(self.schema).rows)
        return printer_rows(found, {row.id: PrinterKey(f":{row.host}:{row.port}") for row in found})

    def row(self, name: str) -> PrinterRow:
        """The printer row of this name."""
        return next(row for row in self.rows() if row.name == name)

    def job(self, ticket: int) -> dict[str, Any]:
        """The ticket's job; {} if it has none."""
        return next(iter(self.pos.rows("SELECT * FROM kps.job WHERE ticket_id = %s", [ticket])), {})

    def ticket(self, ticket: int) -> dict[str, Any]:
        """The ticket, which must be there."""
        row = self.pos.ticket_row(ticket)
        assert row is not None
        return row

    def status(self, ticket: int) -> str:
        """The ticket's status."""
        return str(self.ticket(ticket)["status"])

    def log(self, ticket: int) -> list[tuple[str, str, str]]:
        """(action, old status, new status) of every log row that the service wrote, oldest first."""
        return [
            (row["action"], row["old_status"], row["new_status"])
            for row in self.pos.log_rows(ticket)
            if row["actor"] == "printer_service"
        ]

    def last_log(self, ticket: int) -> dict[str, Any]:
        """The newest log row."""
        return dict(self.pos.log_rows(ticket)[-1])

    def lease(self, row: PrinterRow) -> dict[str, Any]:
        """The device's row in kps.printer."""
        (found,) = self.pos.rows(
            "SELECT *, expires_at > clock_timestamp() AS live FROM kps.printer WHERE printer_key = %s", [row.key]
        )
        return found

    def let_lease_end(self, row: PrinterRow) -> None:
        """Time passes: the lease of this device has ended."""
        self.pos.execute(
            "UPDATE kps.printer SET expires_at = clock_timestamp() - interval '1 second' WHERE printer_key = %s",
            [row.key],
        )

    def in_background(self, call: Callable[[], Any]) -> Future[Any]:
        """Run something that is expected to wait for a lock."""
        return self._pool.submit(call)

    def wait_until_blocked(self, instance: Instance) -> None:
        """Until this instance's connection waits for a lock of somebody."""
        pid = instance.database.raw.info.backend_pid
        eventually(
            lambda: self.pos.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", [pid]),
            what=f"{instance.name} to wait for a lock",
        )
