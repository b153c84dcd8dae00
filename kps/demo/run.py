"""The demo: a database, five printers, guests who order, and the real service between them.

Everything runs on this host's loopback and is gone when it ends, unless a folder to keep is named.
"""

from __future__ import annotations

import random
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
from rich.console import Console

from kps.demo.instance import Instance, NoFreePort, reserved_port
from kps.demo.interrupts import Interrupts
from kps.demo.kitchen import FRAIL, PLACES, PROOF_LEVELS, Copy, Kitchen, Place
from kps.demo.orders import OrderBook, PosWriter
from kps.demo.postgres import EmbeddedPostgres, NoUserForPostgres, PostgresFailed, PostgresMissing
from kps.demo.report import TicketEnd, report, summary
from kps.demo.screen import LiveScreen, PlainScreen, PrinterLine, Screen, TicketLine, View, print_line
from kps.demo.till import make_tables
from kps.demo.virtual_printer import Speed

DATABASE: Final = "fnb_edge_db"
HOST: Final = "127.0.0.1"
HEALTH_PORT: Final = 9100
WIDGET_PORT: Final = 5001
DEFAULT_SECONDS: Final = 30.0

READY_LIMIT_S: Final = 30.0
REST_LIMIT_S: Final = 30.0
STOP_LIMIT_S: Final = 30.0
"""Longer than the service's DRAIN_SECONDS, so that it can end in order."""
TICK_S: Final = 0.1
LOOK_EVERY_S: Final = 0.3
ORDERING_TURN_S: Final = 0.25
"""The screen is refreshed at least this often, even when orders are behind schedule."""

EXIT_INTERRUPTED: Final = 130
FINAL: Final = frozenset({"printed", "failed"})


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. `rate` is in orders per minute; None for `seconds` or `orders` = no limit."""

    seconds: float | None = DEFAULT_SECONDS
    orders: int | None = None
    rate: float = 60.0
    seed: int = 1
    plain: bool = False
    calm: bool = False
    """Whether the planned paper shortage is left out."""
    speed: Speed = Speed.FAST
    keep: Path | None = None

    @property
    def expected_s(self) -> float:
        """About how long guests will order."""
        limits = [self.orders * 60.0 / self.rate] if self.orders is not None else []
        return min([*limits, *([self.seconds] if self.seconds is not None else [])], default=DEFAULT_SECONDS)


class CannotRun(Exception):
    """The demo cannot go on; the message is a sentence for the person in front of it."""


class _Interrupted(Exception):
    """A signal came before the first order."""


@dataclass(slots=True)
class Shortage:
    """The planned paper shortage: when it begins and how long it lasts, in seconds of ordering."""

    begins_s: float
    lasts_s: float
    began: float | None = None
    over: bool = False


def run(options: Options, console: Console | None = None) -> int:
    """Run the demo; returns the exit code.

    0 = every ticket was printed, and is on paper exactly once or marked; 1 = not so, or the demo could not run;
    130 = interrupted before the first order.
    """
    out = console or Console()
    plain = options.plain or not out.is_terminal or out.is_dumb_terminal
    screen: Screen = PlainScreen(out) if plain else LiveScreen(out)
    with Interrupts() as interrupts:
        try:
            with ExitStack() as stack:
                return _Demo(options, screen, out, interrupts, stack).run()
        except _Interrupted:
            print_line(out, "interrupted before the first order")
            return EXIT_INTERRUPTED
        except (CannotRun, PostgresMissing, PostgresFailed, NoUserForPostgres, NoFreePort) as fault:
            if interrupts.count:  # Ctrl+C also ends the programs that were waited for, which makes them fail
                print_line(out, "interrupted before the first order")
                return EXIT_INTERRUPTED
            print_line(out, f"the demo cannot run: {fault}")
        except (psycopg2.Error, OSError) as fault:
            print_line(out, f"the demo broke off: {' '.join(str(fault).split())}")
        return 1


class _Demo:
    """One run of the demo. Methods stand in the order in which they are called."""

    def __init__(
        self, options: Options, screen: Screen, out: Console, interrupts: Interrupts, stack: ExitStack
    ) -> None:
        self._options = options
        self._screen = screen
        self._out = out
        self._interrupts = interrupts
        self._stack = stack
        self._orders = 0
        self._committed: dict[int, float] = {}
        self._shown_states: dict[str, str] = {}
        self._backups = 0
        self._refresh_due = 0.0
        self._began = 0.0

    def run(self) -> int:
        self._open_shop()
        self._start_service()
        with self._screen:
            self._take_orders()
            self._wait_for_the_rest()
        self._stop_service()
        return self._report_result()

    def _open_shop(self) -> None:
        folder = self._options.keep
        if folder is not None:
            self._folder = _empty_folder(folder)
        else:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="kps-demo-")))
        self._screen.say("starting PostgreSQL and five virtual printers")
        # First, and from the main thread: the server ends with the thread that starts it.
        self._postgres = self._stack.enter_context(
            EmbeddedPostgres(self._folder / "database" if folder is not None else None)
        )
        self._go_on()
        self._kitchen = Kitchen(self._options.speed)
        self._stack.enter_context(self._kitchen)
        self._make_database()
        self._pos = self._stack.enter_context(PosWriter(self._postgres.dsn(DATABASE)))
        self._pos.seed_reference_data(self._kitchen.seeds())
        self._go_on()

    def _make_database(self) -> None:
        with closing(psycopg2.connect(self._postgres.dsn())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {DATABASE}")
        make_tables(self._postgres.dsn(DATABASE))

    def _start_service(self) -> None:
        health = self._port(HEALTH_PORT)
        widget = self._port(WIDGET_PORT, frozenset({health}))
        logs = self._folder / "logs"
        logs.mkdir()
        settings = {
            "DB_HOST": self._postgres.host,
            "DB_PORT": self._postgres.port,
            "DB_NAME": DATABASE,
            "DB_USER": self._postgres.user,
            "DB_PASSWORD": self._postgres.password,
            "DB_SSLMODE": "disable",
            "PROOF_LEVELS": PROOF_LEVELS,
            "HEALTH_CHECK_HOST": HOST,
            "HEALTH_CHECK_PORT": health,
            "POS_WIDGET_PORT": widget,
            "INSTANCE_NAME": "demo",
            "LOG_DIR": logs,
            "RUN_DIR": self._folder / "run",
        }
        _write_environment(self._folder / "env", settings)
        self._instance = Instance(settings, self._folder / "service.out")
        self._stack.callback(lambda: self._instance.stop(STOP_LIMIT_S, self._hurry))
        self._screen.say(f"starting the service on ports {health} and {widget} of {HOST}")
        self._instance.start()
        self._wait_until_ready()

    def _port(self, wanted: int, taken: frozenset[int] = frozenset()) -> int:
        port = self._stack.enter_context(reserved_port(HOST, wanted, taken))
        if port != wanted:
            self._screen.say(f"port {wanted} is taken: using {port}")
        return port

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + READY_LIMIT_S
        while True:
            self._go_on()
            self._check_service()
            status = self._instance.status()
            able = sum(1 for printer in status["printers"] if printer["is_online"]) if status else 0
            if status and able == len(PLACES) and status["dispatcher"]["last_poll"]:
                break
            if time.monotonic() > until:
                why = "; ".join(status["not_ready_because"] or status["reasons"]) if status else "no answer"
                raise CannotRun(f"the service is not ready after {READY_LIMIT_S:.0f} s: {why}")
            self._interrupts.wait(TICK_S)
        self._screen.say(f"ready, {able} printers can print: {self._instance.url}/health")

    def _check_service(self) -> None:
        code = self._instance.exit_code
        if code is not None:
            raise CannotRun(f"the service ended with {code}:\n{self._instance.last_words()}")

    def _go_on(self) -> None:
        if self._interrupts.count:
            raise _Interrupted

    def _hurry(self) -> bool:
        return self._interrupts.count > 1

    def _take_orders(self) -> None:
        options = self._options
        self._screen.say(f"guests order: about {options.rate:g} orders a minute, {self._until_when()}")
        book, dice = OrderBook(options.seed), random.Random(options.seed)
        shortage = (
            None if options.calm else Shortage(options.expected_s * 0.35, min(6.0, max(1.0, options.expected_s * 0.2)))
        )
        self._began = time.monotonic()
        due = self._began
        while not self._enough() and not self._interrupts.count:
            turn_ends = time.monotonic() + ORDERING_TURN_S
            while due <= time.monotonic() < turn_ends and not self._enough():
                self._order(book)
                due += dice.expovariate(options.rate / 60.0)
            if shortage is not None:
                self._stage_shortage(shortage)
            self._refresh(f"ordering, {self._progress()}")
            self._interrupts.wait(min(TICK_S, max(0.0, due - time.monotonic())))
        if shortage is not None and shortage.began is not None and not shortage.over:
            self._load_paper(shortage)

    def _until_when(self) -> str:
        limits = []
        if self._options.seconds is not None:
            limits.append(f"for {self._options.seconds:g} s")
        if self._options.orders is not None:
            limits.append(f"{self._options.orders} in all")
        return ", ".join(limits) + "; Ctrl+C ends it"

    def _enough(self) -> bool:
        options = self._options
        late = options.seconds is not None and time.monotonic() - self._began >= options.seconds
        return late or (options.orders is not None and self._orders >= options.orders)

    def _progress(self) -> str:
        elapsed = time.monotonic() - self._began
        limit = f" of {self._options.seconds:g}" if self._options.seconds is not None else ""
        return f"{elapsed:.0f}{limit} s"

    def _order(self, book: OrderBook) -> None:
        tickets = self._pos.place(next(book))
        committed = time.monotonic()
        self._orders += 1
        self._committed.update(dict.fromkeys(tickets, committed))

    def _stage_shortage(self, shortage: Shortage) -> None:
        """Let one printer run out of paper once, and load paper again."""
        elapsed = time.monotonic() - self._began
        if shortage.began is None and elapsed >= shortage.begins_s:
            shortage.began = elapsed
            self._kitchen.printers[FRAIL].paper_out()
            self._screen.say(
                f"on purpose: {FRAIL} is out of paper for {shortage.lasts_s:.0f} s or more (--calm: never)"
            )
        elif shortage.began is not None and not shortage.over and elapsed >= shortage.began + shortage.lasts_s:
            self._load_paper_if_missed(shortage)

    def _load_paper_if_missed(self, shortage: Shortage) -> None:
        """Load paper once a ticket has gone to the backup: for a while nobody may order from this kitchen."""
        if self._backups:
            self._load_paper(shortage)

    def _load_paper(self, shortage: Shortage) -> None:
        shortage.over = True
        self._kitchen.printers[FRAIL].load_paper()
        self._screen.say(f"somebody puts a new roll into {FRAIL}")

    def _wait_for_the_rest(self) -> None:
        said = self._interrupts.count
        if said:
            self._screen.say("interrupted: no more orders (Ctrl+C again: at once)")
        if self._unfinished():
            self._screen.say(f"no more orders; waiting up to {REST_LIMIT_S:.0f} s for the open tickets")
        until = time.monotonic() + REST_LIMIT_S
        while not self._hurry() and self._unfinished() and time.monotonic() < until:
            self._refresh("waiting for the last tickets")
            self._interrupts.wait(TICK_S)
        self._refresh_due = 0.0
        self._refresh("done")

    def _unfinished(self) -> int:
        """Tickets that are neither failed nor printed, and printed ones whose paper has not come out yet."""
        self._report_backups(self._kitchen.collect())
        rows = self._pos.rows("SELECT id, status FROM kitchen_kitchenticket")
        return sum(
            row["status"] not in FINAL or (row["status"] == "printed" and not self._kitchen.papers.of(row["id"]))
            for row in rows
        )

    def _stop_service(self) -> None:
        self._screen.say("stopping the service")
        code = self._instance.stop(STOP_LIMIT_S, self._hurry)
        if code:
            self._screen.say(f"the service ended with {code}")

    def _report_result(self) -> int:
        ends = self._ends()
        self._kitchen.stop()
        self._report_backups(self._kitchen.collect())
        found = report(self._orders, self._committed, ends, self._kitchen.papers, self._kitchen.counts())
        print_line(self._out, "summary")
        for line in summary(found):
            print_line(self._out, line)
        if self._options.keep is not None:
            self._kitchen.write_papers(self._folder / "papers")
            print_line(self._out, f"kept in {self._folder}: database/, logs/, papers/, env")
        if not found.tickets:
            return EXIT_INTERRUPTED if self._interrupts.count else 1
        return 0 if found.kept_all_promises else 1

    def _ends(self) -> list[TicketEnd]:
        rows = self._pos.rows(
            "SELECT t.id, t.printer_target, t.status, t.error_message, coalesce(j.proof, '') AS proof"
            " FROM kitchen_kitchenticket t LEFT JOIN kps.job j ON j.ticket_id = t.id ORDER BY t.id"
        )
        return [
            TicketEnd(row["id"], row["printer_target"], row["status"], row["proof"], row["error_message"])
            for row in rows
        ]

    def _refresh(self, phase: str) -> None:
        """Read the state of service and printers and show it, a few times a second."""
        if time.monotonic() < self._refresh_due:
            return
        self._refresh_due = time.monotonic() + LOOK_EVERY_S
        self._check_service()
        self._report_backups(self._kitchen.collect())
        lines = self._printer_lines()
        self._report_states(lines)
        self._screen.show(lambda tickets_shown: self._view(phase, lines, tickets_shown))

    def _report_backups(self, copies: list[Copy]) -> None:
        for copy in copies:
            if copy.backup:
                self._backups += 1
                mark = " (marked: possible duplicate)" if copy.marked else ""
                self._screen.say(f"ticket #{copy.ticket} came out of the backup {copy.printer}{mark}")

    def _report_states(self, lines: Sequence[PrinterLine]) -> None:
        """Report each printer that the service has begun to see as able, or as not able, to print."""
        for line in lines:
            before = self._shown_states.setdefault(line.name, line.state)
            if before != line.state:
                self._shown_states[line.name] = line.state
                self._screen.say(f"the service sees {line.name}: {line.state}")

    def _view(self, phase: str, lines: Sequence[PrinterLine], tickets_shown: int) -> View:
        counts = self._pos.rows("SELECT status, count(*) AS n FROM kitchen_kitchenticket GROUP BY status")
        by_status = {row["status"]: row["n"] for row in counts}
        return View(
            phase=phase,
            url=self._instance.url,
            orders=self._orders,
            statuses={status: by_status.get(status, 0) for status in ("new", "printing", "printed", "failed")},
            printers=lines,
            tickets=self._ticket_lines(tickets_shown) if tickets_shown else [],
        )

    def _printer_lines(self) -> list[PrinterLine]:
        """The printers from the table `kps.printer`, which is up to two seconds newer than /status."""
        papers = self._kitchen.counts()
        rows = self._pos.rows(
            "SELECT p.name, p.state, p.state_text, p.paper, (SELECT count(*) FROM kps.job j"
            " WHERE j.printer_key = p.printer_key AND j.state IN ('claimed', 'sending')) AS waiting FROM kps.printer p"
        )
        known = {row["name"]: row for row in rows}
        return [_printer_line(place, known[place.name], papers[place.name]) for place in PLACES if place.name in known]

    def _ticket_lines(self, tickets_shown: int) -> list[TicketLine]:
        rows = self._pos.rows(
            "SELECT t.id, t.printer_target AS station, t.status, b.bill_type, b.queue_number,"
            "       coalesce(tb.number, '') AS table_number, coalesce(j.printer_name, '') AS printer"
            "  FROM kitchen_kitchenticket t JOIN pos_bill b ON b.id = t.bill_id"
            "  LEFT JOIN tables_table tb ON tb.id = b.table_id LEFT JOIN kps.job j ON j.ticket_id = t.id"
            " ORDER BY t.id DESC LIMIT %s",
            [tickets_shown],
        )
        return [
            TicketLine(row["id"], row["station"], _guest(row), row["status"], row["printer"], self._wait_of(row["id"]))
            for row in rows
        ]

    def _wait_of(self, ticket: int) -> float | None:
        t = self._kitchen.papers.first_byte(ticket)
        return t - self._committed[ticket] if t is not None and ticket in self._committed else None


def _printer_line(place: Place, row: dict[str, Any], papers: int) -> PrinterLine:
    return PrinterLine(
        name=place.name,
        station=place.station if place.priority == 1 else f"{place.station} (backup)",
        able=None if row["state"] == "starting" else row["state"] == "ready",
        state=row["state_text"] or row["state"].replace("_", " "),
        paper=row["paper"],
        waiting=row["waiting"],
        papers=papers,
    )


def _guest(row: dict[str, Any]) -> str:
    if row["table_number"]:
        return f"table {row['table_number']}"
    kind = str(row["bill_type"]).replace("_", " ")
    return f"{kind} {row['queue_number']}" if row["queue_number"] else kind


def _write_environment(path: Path, settings: Mapping[str, object]) -> None:
    """Write a file for other terminals: after `. DIR/env` there, `kps` commands act on this demo's instance."""
    path.touch(mode=0o600)
    path.write_text("".join(f"export {name}={shlex.quote(str(value))}\n" for name, value in settings.items()), "utf-8")


def _empty_folder(folder: Path) -> Path:
    """The folder, made if need be. Raises CannotRun if it holds something already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotRun(f"{folder} is not empty: name a new folder to keep this run in")
    except OSError as error:
        raise CannotRun(f"{folder} cannot be used: {error.strerror}") from error
    return folder.resolve()
