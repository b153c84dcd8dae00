"""Commit to first byte and to settled proof, on an idle system: KPS beside loops that poll every 100 ms and every 2 s.

    .venv/bin/python -m bench.latency [--quick]

The clock starts when the POS's COMMIT has returned. It stops when the printer sees the ticket's own first byte, and a
second time when another connection to the database sees the ticket `printed`.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import psycopg2

from bench.figures import Figure, Report, Table, at_least, at_most
from bench.shop import Shop, open_shop, percentile, service, wait_until
from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import VirtualPrinter

STATION = "kitchen"
PROFILE = "epson-t20iii"
PROOF = "process_id+pushes+clears"
ITEMS = (("Nasi Goreng", 2), ("Es Teh", 1))
WARM_UP = 30
FIRST_BYTE = "commit to first byte, idle"
SETTLED = "commit to proof settled, idle"
REST_S = (0.02, 0.06)
"""Between two tickets of ours, at random; between two of a loop's it is up to the loop's period."""
LIMIT_S = 15.0
LOOK_EVERY_S = 0.0002
"""Between looks at the ticket's row, once the paper has been cut: the error of a settled time, at most."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One way of running the usual design; times in seconds."""

    name: str
    every_s: float
    pause_s: float


SLOW = Loop("(a) polling every 2 s, 0.5 s between tickets", 2.0, 0.5)
FAST = Loop("(b) polling every 100 ms", 0.1, 0.0)


@dataclass(slots=True)
class Times:
    """Milliseconds from commit, one entry for each ticket."""

    first_byte: list[float]
    settled: list[float]
    commits: list[tuple[int, float]]
    """Ticket, and the `time.time()` of its commit: the host's clock is PostgreSQL's too."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A till, a database and a printer of their own."""

    database: str
    pos: PosWriter
    printer: VirtualPrinter


def measure(quick: bool) -> Report:
    """KPS first, then the loops, each alone on the machine.

    A loop has several shops of its own at the same time: it mostly waits, and 200 samples come sooner.
    """
    samples = {FAST: 30 if quick else 200, SLOW: 10 if quick else 200}
    side_by_side = {FAST: 2, SLOW: 5 if quick else 10}
    with open_shop([STATION], profile=PROFILE) as shop, contextlib.ExitStack() as stack:
        # Before KPS has put its own tables and its trigger into the database that they are copies of.
        lanes = {loop: stack.enter_context(_lanes(shop, loop, count)) for loop, count in side_by_side.items()}
        with service(shop, PROOF_LEVELS=f"{STATION}={PROOF}"):
            lane = Lane("pos", shop.pos, shop.printers[STATION])
            _one_by_one(shop.server, lane, 10 if quick else WARM_UP, REST_S)
            ours = _one_by_one(shop.server, lane, 50 if quick else 400, REST_S)
            steps = _steps(shop, ours)
        peers = {loop: _usual(shop.server, loop, lanes[loop], samples[loop]) for loop in samples}
    return _report(ours, peers, steps)


def _one_by_one(
    server: EmbeddedPostgres,
    lane: Lane,
    samples: int,
    rest_s: tuple[float, float],
    stopping: threading.Event | None = None,
) -> Times:
    """One ticket at a time, after a random rest: the system is idle, and in no step with whoever polls."""
    chance = random.Random(lane.database)
    times = Times([], [], [])
    with contextlib.closing(psycopg2.connect(server.dsn(lane.database))) as looker:
        looker.autocommit = True
        for _ in range(samples):
            if stopping is not None and stopping.is_set():
                break
            time.sleep(chance.uniform(*rest_s))  # the pause of the load
            papers = len(lane.printer.papers)
            ticket = lane.pos.ticket(STATION, ITEMS, table="7")
            committed = time.monotonic()
            times.commits.append((ticket, time.time()))
            paper = lane.printer.wait_paper(papers + 1, LIMIT_S)
            times.settled.append((_printed_at(looker, ticket) - committed) * 1000)
            times.first_byte.append((paper.t_first_byte - committed) * 1000)
    return times


def _printed_at(looker: psycopg2.extensions.connection, ticket: int) -> float:
    """The `time.monotonic()` at which the ticket's row is seen `printed`. Raises TimeoutError."""
    end = time.monotonic() + LIMIT_S
    with looker.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute("SELECT status FROM kitchen_kitchenticket WHERE id = %s", [ticket])
            seen = time.monotonic()
            if cursor.fetchone() == ("printed",):
                return seen
            time.sleep(LOOK_EVERY_S)
    raise TimeoutError(f"ticket {ticket} is printed")


def _steps(shop: Shop, ours: Times) -> str:
    """Where the time goes: the medians from commit to what the service has noted of each ticket."""
    rows = shop.pos.rows(
        "SELECT ticket_id, extract(epoch FROM claimed_at)::float8 AS claimed, extract(epoch FROM sending_at)::float8"
        " AS promised, extract(epoch FROM finished_at)::float8 AS proven FROM kps.job WHERE ticket_id = ANY (%s)",
        [[ticket for ticket, _ in ours.commits]],
    )
    commits = dict(ours.commits)

    def middle(step: str) -> float:
        return percentile([(row[step] - commits[row["ticket_id"]]) * 1000 for row in rows], 0.5)

    return (
        f"medians from commit: claimed {middle('claimed'):.1f} ms, promised {middle('promised'):.1f} ms, first byte"
        f" {percentile(ours.first_byte, 0.5):.1f} ms, proven {middle('proven'):.1f} ms, settled"
        f" {percentile(ours.settled, 0.5):.1f} ms"
    )


def _usual(server: EmbeddedPostgres, loop: Loop, lanes: Sequence[Lane], samples: int) -> Times:
    """The usual design at work in every lane at once; their samples together."""
    stopping = threading.Event()
    with contextlib.ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(usual_design(server, lane.database, loop.every_s, loop.pause_s))
        with ThreadPoolExecutor(len(lanes)) as pool:
            try:
                running = [
                    pool.submit(_one_by_one, server, lane, -(-samples // len(lanes)), (0.0, loop.every_s), stopping)
                    for lane in lanes
                ]
                found = [one.result() for one in running]
            finally:
                stopping.set()
    return Times([t for one in found for t in one.first_byte], [t for one in found for t in one.settled], [])


@contextlib.contextmanager
def usual_design(server: EmbeddedPostgres, database: str, every_s: float, pause_s: float) -> Iterator[None]:
    """bench.naive in a process of its own: at work when entered, gone when left."""
    settings = {
        "DB_HOST": server.host, "DB_PORT": server.port, "DB_NAME": database, "DB_USER": server.user,
        "DB_PASSWORD": server.password, "DB_SSLMODE": "disable", "POLL_INTERVAL": every_s, "TICKET_PAUSE": pause_s,
    }  # fmt: skip
    env = dict(os.environ) | {name: str(value) for name, value in settings.items()}
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as looker:
        looker.autocommit = True
        process = subprocess.Popen([sys.executable, "-m", "bench.naive"], env=env, start_new_session=True)
        try:
            wait_until(lambda: _has_looked(looker), LIMIT_S, "the usual design is at work")
            yield
        finally:
            process.kill()
            process.wait()


def _has_looked(looker: psycopg2.extensions.connection) -> bool:
    with looker.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'naive'"
            " AND state = 'idle' AND query LIKE '%FOR UPDATE SKIP LOCKED%'"
        )
        return cursor.rowcount > 0


@contextlib.contextmanager
def _lanes(shop: Shop, loop: Loop, count: int) -> Iterator[list[Lane]]:
    """Copies of the shop's database, each with a printer in the place of the shop's."""
    shop.pos.close()  # a database that somebody uses cannot be copied
    with contextlib.ExitStack() as stack:
        lanes = []
        for number in range(count):
            database = f"every_{loop.every_s * 1000:.0f}_{number}"
            _copy(shop.server, database)
            printer = stack.enter_context(VirtualPrinter(name=STATION, profile=PROFILE))
            pos = stack.enter_context(PosWriter(shop.server.dsn(database)))
            pos.execute("UPDATE kitchen_stationprinter SET printer_port = %s", [printer.port])
            lanes.append(Lane(database, pos, printer))
        yield lanes


def _copy(server: EmbeddedPostgres, database: str) -> None:
    with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {database} TEMPLATE pos")


def _report(ours: Times, peers: dict[Loop, Times], steps: str) -> Report:
    return Report(_figures(ours, peers, steps), (_table(ours, peers),))


def _figures(ours: Times, peers: dict[Loop, Times], steps: str) -> tuple[Figure, ...]:
    n, middle = len(ours.first_byte), percentile(ours.first_byte, 0.5)
    slow, fast = (percentile(peers[loop].first_byte, 0.5) / middle for loop in (SLOW, FAST))
    beside = f"; (a) x {slow:.0f}, (b) x {fast:.0f}"
    settled = percentile(ours.settled, 0.5)
    slow_settled, fast_settled = (percentile(peers[loop].settled, 0.5) / settled for loop in (SLOW, FAST))
    return (
        _beside(at_most(f"{FIRST_BYTE}, p50", "<= 4 ms", middle, 4.0, "ms", n, steps), beside),
        at_most(f"{FIRST_BYTE}, p99", "<= 15 ms", percentile(ours.first_byte, 0.99), 15.0, "ms", n),
        at_least("times faster than polling every 2 s, p50", ">= 200", slow, 200.0, "x", len(peers[SLOW].first_byte)),
        _beside(
            at_most(f"{SETTLED}, p50", "<= 8 ms", settled, 8.0, "ms", n),
            f"; (a) x {slow_settled:.0f}, (b) x {fast_settled:.0f}, without any proof",
        ),
    )


def _beside(figure: Figure, peers: str) -> Figure:
    return replace(figure, figure=figure.figure + peers)


def _table(ours: Times, peers: dict[Loop, Times]) -> Table:
    middle, settled = percentile(ours.first_byte, 0.5), percentile(ours.settled, 0.5)
    rows = [_row("KPS, first byte", ours.first_byte, middle), _row("KPS, proof settled", ours.settled, settled)]
    for loop, times in peers.items():
        rows.append(_row(f"{loop.name}, first byte", times.first_byte, middle))
        rows.append(_row(f"{loop.name}, marked printed", times.settled, settled))
    return Table(
        "One ticket on an idle system, from commit",
        ("", "p50 ms", "p99 ms", "x KPS", "samples"),
        tuple(rows),
        "An instant virtual printer on loopback. KPS settles what the printer has proven by a process ID; the loops"
        " mark what the kernel has taken.",
    )


def _row(name: str, times: list[float], base: float) -> tuple[str, ...]:
    middle = percentile(times, 0.5)
    return (name, f"{middle:.2f}", f"{percentile(times, 0.99):.2f}", f"{middle / base:.1f}", str(len(times)))


if __name__ == "__main__":
    from bench.report import show

    show(measure("--quick" in sys.argv[1:]))
