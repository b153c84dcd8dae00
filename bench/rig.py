"""Printers and tills in processes of their own, so that a measurement does not measure its own interpreter.

Times are `time.monotonic()`, which all processes of a host share on Linux.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import psycopg2

from bench.shop import Shop
from kps.demo.pos_tables import LOG, TICKET, columns
from kps.demo.processes import children
from kps.demo.virtual_printer import VirtualPrinter

BILL, BILL_ITEM, TICKET_ITEM = "pos_bill", "pos_billitem", "kitchen_kitchenticketitem"
PROFILE = "epson-t20iii"
"""A virtual printer that answers everything, process IDs included."""
PROOF = "process_id+pushes+clears"
"""What a probe of it would find, as a value of PROOF_LEVELS."""
ANSWER_LIMIT_S = 30.0
START_LIMIT_S = 30.0
TILLS = 4
"""Connections that commit tickets: a POS has several tills."""
PAPERS_KEPT_WHOLE = 1000
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_spawn = get_context("spawn")


class PartnerGone(Exception):
    """A process of the rig does not answer, or has ended, so the measurement is not valid."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one paper of a printer."""

    printer: str
    ticket: int
    first_byte: float
    cut: float
    rows: int
    """Its length in dot rows."""
    raw: bytes
    """The bytes that made it; empty for older papers of a long run."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A ticket of the till: when it was due, and when its commit had returned."""

    ticket: int
    due: float
    at: float
    wall: float
    """The same moment by `time.time()`, to be compared with the database's times."""


class _Partner:
    """A child that answers questions over a pipe. It ends when the pipe is closed."""

    def __init__(self, target: Callable[..., None], *given: object) -> None:
        self._pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=target, args=(theirs, *given), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, message: object) -> None:
        """Send a question. Raises PartnerGone."""
        try:
            self._pipe.send(message)
        except OSError as error:
            raise PartnerGone("a process of the rig has ended") from error

    def answer(self, limit_s: float = ANSWER_LIMIT_S) -> Any:
        """Its answer. Raises PartnerGone."""
        try:
            if not self._pipe.poll(limit_s):
                raise PartnerGone(f"a process of the rig did not answer within {limit_s:g} s")
            return self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise PartnerGone("a process of the rig has ended") from error

    def answered(self, within_s: float) -> bool:
        """Whether there is an answer; waits so long for it."""
        return self._pipe.poll(within_s)

    def close(self) -> None:
        """End it."""
        self._pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _leave_signals_to_the_parent() -> None:
    """Ignore Ctrl-C in the terminal: it reaches the parent, and this process ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Printers:
    """Virtual printers in a few processes; a context manager."""

    def __init__(self, names: Sequence[str], processes: int = 2, **settings: Any) -> None:
        given = {"profile": PROFILE, "keep_raw": PAPERS_KEPT_WHOLE} | settings
        self.addresses: dict[str, tuple[str, int]] = {}
        self._hosts: list[_Partner] = []
        self._names = [names[first::processes] for first in range(min(processes, len(names)))]
        self._settings = given

    def __enter__(self) -> Printers:
        with contextlib.ExitStack() as undo:
            for names in self._names:
                host = _Partner(_print, names, self._settings)
                undo.callback(host.close)
                self._hosts.append(host)
            for host in self._hosts:
                self.addresses.update(host.answer(START_LIMIT_S))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def count(self) -> int:
        """Papers so far."""
        return sum(self._ask("count"))

    def take(self) -> list[Seen]:
        """The papers since the last call."""
        return [paper for papers in self._ask("take") for paper in papers]

    def cpu_s(self) -> float:
        """Processor seconds of all of them so far."""
        return float(sum(self._ask("cpu")))

    def _ask(self, question: str) -> list[Any]:
        for host in self._hosts:
            host.ask(question)
        return [host.answer() for host in self._hosts]


def _print(pipe: Pipe, names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """A process with printers."""
    _leave_signals_to_the_parent()
    with contextlib.ExitStack() as stack:
        printers = [stack.enter_context(VirtualPrinter(name=name, **settings)) for name in names]
        pipe.send({printer.name: (printer.host, printer.port) for printer in printers})
        handed_out = dict.fromkeys(names, 0)
        with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
            while True:
                match pipe.recv():
                    case "count":
                        pipe.send(sum(len(printer.papers) for printer in printers))
                    case "cpu":
                        pipe.send(time.process_time())
                    case "take":
                        pipe.send([paper for printer in printers for paper in _new_papers(printer, handed_out)])


def _new_papers(printer: VirtualPrinter, handed_out: dict[str, int]) -> Iterator[Seen]:
    papers = printer.papers[handed_out[printer.name] :]
    handed_out[printer.name] += len(papers)
    for paper in papers:
        number = paper.text.rpartition("#")[2].strip()  # the last line of a whole ticket
        if paper.complete and paper.t_cut is not None:
            ticket = int(number) if number.isdecimal() else 0
            yield Seen(printer.name, ticket, paper.t_first_byte, paper.t_cut, paper.rows, paper.raw)


def pattern(shop: Shop) -> int:
    """A bill with two dishes and one ticket that nobody prints: what the tills copy. Returns the ticket's id."""
    return shop.pos.ticket(
        "nowhere", [("Nasi Goreng Kampung", 2), ("Es Teh Manis", 1)], table="5", status="printed", waiter="waiter1"
    )


def copied(table: str, changes: Mapping[str, str], source: str) -> str:
    """INSERT of a copy of the rows `s` of `source` (what follows FROM), but for the columns in `changes`."""
    names = [column.name for column in columns() if column.table == table and (column.name != "id" or "id" in changes)]
    values = [changes.get(name, f's."{name}"') for name in names]
    listed = ", ".join(f'"{name}"' for name in names)
    return f"INSERT INTO {table} ({listed}) SELECT {', '.join(values)} FROM {source}"


def order_sql() -> str:
    """One statement that writes what the POS writes for a ticket: bill, items, ticket, its items, a log row.

    Parameters: the pattern ticket's id, the station. A statement instead of a dozen: the till's own cost is not to be
    measured; the database's is the same but for the round trips.
    """
    now = {"created_at": "clock_timestamp()"}
    bill = copied(BILL, now, f"{BILL} s JOIN {TICKET} p ON p.bill_id = s.id WHERE p.id = $1")
    item = copied(
        BILL_ITEM,
        now | {"bill_id": "bill.id"},
        f"{BILL_ITEM} s JOIN {TICKET} p ON p.bill_id = s.bill_id CROSS JOIN bill WHERE p.id = $1 ORDER BY s.id",
    )
    ticket = copied(
        TICKET,
        now | {"bill_id": "bill.id", "status": "'new'", "printer_target": "$2"},
        f"{TICKET} s CROSS JOIN bill WHERE s.id = $1",
    )
    log = copied(
        LOG,
        {"timestamp": "clock_timestamp()", "ticket_id": "ticket.id"},
        f"{LOG} s CROSS JOIN ticket WHERE s.ticket_id = $1",
    )
    return f"""WITH bill AS ({bill} RETURNING id), item AS ({item} RETURNING id, quantity),
  ticket AS ({ticket} RETURNING id), log AS ({log} RETURNING id),
  ticket_item AS (INSERT INTO {TICKET_ITEM} (quantity, bill_item_id, kitchen_ticket_id)
    SELECT item.quantity, item.id, ticket.id FROM item CROSS JOIN ticket ORDER BY item.id RETURNING id)
SELECT id FROM ticket"""


def arrivals(rate: float, seconds: float, stations: Sequence[str], seed: int = 7) -> list[tuple[float, str]]:
    """Tickets as guests send them: at random times, `rate` a second in the mean, each station in its turn."""
    chance = random.Random(seed)
    found: list[tuple[float, str]] = []
    at = chance.expovariate(rate)
    while at < seconds:
        found.append((at, stations[len(found) % len(stations)]))
        at += chance.expovariate(rate)
    return found


class Tills:
    """A process that commits tickets at given times; a context manager."""

    def __init__(self, dsn: str, pattern_id: int) -> None:
        self._given = dsn, pattern_id

    def __enter__(self) -> Tills:
        self._partner = _Partner(_order, *self._given)
        self._partner.answer(START_LIMIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._partner.close()

    def begin(self, orders: Sequence[tuple[float, str]]) -> None:
        """Commit a ticket for each (seconds from now, station). Ask for `end` before the next ones."""
        self._partner.ask(list(orders))

    def ended(self, within_s: float) -> bool:
        """Whether all are committed; waits for it so long."""
        return self._partner.answered(within_s)

    def end(self, limit_s: float) -> list[Committed]:
        """Wait until all are committed. Raises PartnerGone."""
        found: list[Committed] = self._partner.answer(limit_s)
        return found


def _order(pipe: Pipe, dsn: str, pattern_id: int) -> None:
    """A process with tills."""
    _leave_signals_to_the_parent()
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(contextlib.closing(psycopg2.connect(dsn, application_name="till")))
            for _ in range(TILLS)
        ]
        for connection in connections:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"PREPARE place (bigint, text) AS {order_sql()}")
        pipe.send("open")
        with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has ended
            while True:
                pipe.send(_place_all(connections, pattern_id, pipe.recv()))


def _place_all(connections: Sequence[Any], pattern_id: int, orders: Sequence[tuple[float, str]]) -> list[Committed]:
    begin = time.monotonic()
    rest, taking = iter(orders), threading.Lock()
    done: list[Committed] = []

    def work(connection: Any) -> None:
        with connection.cursor() as cursor:
            while True:
                with taking:
                    order = next(rest, None)
                if order is None:
                    return
                due = begin + order[0]
                time.sleep(max(0.0, due - time.monotonic()))  # the pause is the load
                cursor.execute("EXECUTE place (%s, %s)", [pattern_id, order[1]])
                at, wall = time.monotonic(), time.time()
                done.append(Committed(cursor.fetchone()[0], due, at, wall))

    threads = [threading.Thread(target=work, args=(connection,), daemon=True) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@dataclass(frozen=True, slots=True)
class Used:
    """Processor seconds so far."""

    service: float
    """The supervisor with all its children."""
    database: float
    """The backends that work for it."""

    def __sub__(self, earlier: Used) -> Used:
        return Used(self.service - earlier.service, self.database - earlier.database)


def used(shop: Shop) -> Used:
    """What the service and its backends have used so far. Only while the service runs, and no child of it is ended."""
    backends = shop.pos.rows("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'kps:%'")
    return Used(
        service=sum(_cpu_s(pid) for pid in _service_family()), database=sum(_cpu_s(row["pid"]) for row in backends)
    )


def _service_family() -> list[int]:
    supervisors = [pid for pid in children(os.getpid()) if b"kps.supervisor" in _command(pid)]
    return [*supervisors, *(child for pid in supervisors for child in children(pid))]


def _command(pid: int) -> bytes:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_S
    return 0.0


def add_printers(shop: Shop, printers: Printers, names: Sequence[str]) -> None:
    """A printer row for each name, which is its station's too."""
    for name in names:
        host, port = printers.addresses[name]
        shop.pos.add_printer(host, port, name, 1, name, timeout_seconds=5)


def ready(shop: Shop) -> int:
    """How many printers the service says are able; none before it has made its tables."""
    if shop.pos.rows("SELECT to_regclass('kps.printer') IS NULL AS missing")[0]["missing"]:
        return 0
    rows = shop.pos.rows(
        "SELECT count(*) AS n FROM kps.printer WHERE state = 'ready' AND expires_at > clock_timestamp()"
    )
    return int(rows[0]["n"])


def proven(names: Sequence[str]) -> str:
    """PROOF_LEVELS: every printer says the ticket's own number."""
    return ",".join(f"{name}={PROOF}" for name in names)


def unfinished(shop: Shop) -> int:
    """Tickets that are not done."""
    rows = shop.pos.rows(f"SELECT count(*) AS n FROM {TICKET} WHERE status IN ('new', 'printing')")
    return int(rows[0]["n"])


def last_ticket(shop: Shop) -> int:
    """The id of the newest ticket."""
    return int(shop.pos.rows(f"SELECT max(id) AS id FROM {TICKET}")[0]["id"])


def unproven(shop: Shop, first: int) -> int:
    """Tickets from this id on that have no proof by their own number."""
    rows = shop.pos.rows(
        f"SELECT count(*) AS n FROM {TICKET} t LEFT JOIN kps.job j ON j.ticket_id = t.id"
        " WHERE t.id >= %s AND (t.status <> 'printed' OR j.proof IS DISTINCT FROM 'process_id')",
        [first],
    )
    return int(rows[0]["n"])
