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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg2

from bench.figures import Figure, Report, Table, at_least, at_most
from bench.goals import Goal
from bench.rig import PROFILE, PROOF
from bench.shop import Shop, ending_with_us, open_shop, percentile, service, wait_until
from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import VirtualPrinter

STATION = "counter"
ITEMS = (("Nasi Goreng", 2), ("Es Teh", 1))
REST_S = (0.02, 0.06)
"""Seconds between two tickets for KPS, at random. For a loop it is a random part of its period."""
LIMIT_S = 15.0
LOOK_EVERY_S = 0.0002
"""Seconds between looks at the ticket's row after the cut: the largest error of a settled time."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The usual design with certain pauses, in seconds."""

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
    """Ticket, and the `time.time()` of its commit. PostgreSQL uses the same clock."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The times of KPS, and in words how they are made up."""

    times: Times
    steps: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A till and a printer that nobody else uses."""

    database: str
    station: str
    pos: PosWriter
    printer: VirtualPrinter


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of samples, and over how many lanes those of a loop are spread, because a loop mostly waits."""

    ours: int
    warm_up: int
    peers: Mapping[Loop, int]
    lanes: Mapping[Loop, int]


FULL = Size(300, 30, {FAST: 200, SLOW: 200}, {FAST: 2, SLOW: 20})
QUICK = Size(50, 10, {FAST: 30, SLOW: 10}, {FAST: 2, SLOW: 10})


def measure(quick: bool) -> Report:
    """KPS first, then the loops."""
    size = QUICK if quick else FULL
    with open_shop([STATION], profile=PROFILE) as shop, loop_lanes(shop, size) as lanes:
        with service(shop, PROOF_LEVELS=f"{STATION}={PROOF}"):
            ours = measure_ours(shop, size)
        peers = measure_loops(shop.server, lanes, size)
    return report(ours, peers)


def measure_ours(shop: Shop, size: Size) -> Ours:
    """Measure KPS with the printer of STATION."""
    lane = Lane("pos", STATION, shop.pos, shop.printers[STATION])
    _one_by_one(shop.server, lane, size.warm_up, REST_S)
    times = _one_by_one(shop.server, lane, size.ours, REST_S)
    return Ours(times, _steps(shop, times))


def _one_by_one(
    server: EmbeddedPostgres,
    lane: Lane,
    samples: int,
    rest_s: tuple[float, float],
    stopping: threading.Event | None = None,
) -> Times:
    """One ticket at a time, each after a random pause: the system is idle, and orders are not in step with a poll."""
    chance = random.Random(lane.station)
    times = Times([], [], [])
    with contextlib.closing(psycopg2.connect(server.dsn(lane.database))) as looker:
        looker.autocommit = True
        for _ in range(samples):
            if stopping is not None and stopping.is_set():
                break
            time.sleep(chance.uniform(*rest_s))  # the pause of the load
            papers = len(lane.printer.papers)
            ticket = lane.pos.ticket(lane.station, ITEMS, table="7")
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


def measure_loops(server: EmbeddedPostgres, lanes: Mapping[Loop, Sequence[Lane]], size: Size) -> dict[Loop, Times]:
    """Measure all loops at the same time: they wait much more than they work."""
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = {loop: pool.submit(_measure_loop, server, loop, own, size.peers[loop]) for loop, own in lanes.items()}
        return {loop: one.result() for loop, one in running.items()}


def _measure_loop(server: EmbeddedPostgres, loop: Loop, lanes: Sequence[Lane], samples: int) -> Times:
    """Measure a loop in all its lanes at the same time; returns all samples together."""
    stopping = threading.Event()
    with contextlib.ExitStack() as stack:
        for lane in lanes:
            stack.enter_context(usual_design(server, lane.database, loop.every_s, loop.pause_s, lane.station))
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
def usual_design(
    server: EmbeddedPostgres, database: str, every_s: float, pause_s: float, station: str = ""
) -> Iterator[None]:
    """Inside: bench.naive runs in its own process and polls."""
    settings = {
        "DB_HOST": server.host, "DB_PORT": server.port, "DB_NAME": database, "DB_USER": server.user,
        "DB_PASSWORD": server.password, "DB_SSLMODE": "disable", "POLL_INTERVAL": every_s, "TICKET_PAUSE": pause_s,
        "STATION": station,
    }  # fmt: skip
    env = dict(os.environ) | {name: str(value) for name, value in settings.items()}
    with contextlib.closing(psycopg2.connect(server.dsn(database))) as looker:
        looker.autocommit = True
        command = [*ending_with_us(), sys.executable, "-m", "bench.naive"]
        process = subprocess.Popen(command, env=env, start_new_session=True)
        try:
            wait_until(lambda: _has_looked(looker, f"naive {station}".strip()), LIMIT_S, "the usual design is at work")
            yield
        finally:
            process.kill()
            process.wait()


def _has_looked(looker: psycopg2.extensions.connection, name: str) -> bool:
    with looker.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"
            " AND state = 'idle' AND query LIKE '%%FOR UPDATE SKIP LOCKED%%'",
            [name],
        )
        return cursor.rowcount > 0


@contextlib.contextmanager
def loop_lanes(shop: Shop, size: Size) -> Iterator[dict[Loop, list[Lane]]]:
    """Stations for the loops in a copy of the shop's database, so that KPS does not see them.

    To be made before KPS has put its tables and its trigger into the shop's database.
    """
    shop.pos.close()  # a database with connections cannot be copied
    _copy(shop.server, "loops")
    with contextlib.ExitStack() as stack:
        yield {loop: [_lane(shop, stack, loop, number) for number in range(n)] for loop, n in size.lanes.items()}


def _lane(shop: Shop, stack: contextlib.ExitStack, loop: Loop, number: int) -> Lane:
    station = f"every {loop.every_s * 1000:.0f} {number}"
    printer = stack.enter_context(VirtualPrinter(name=station, profile=PROFILE))
    pos = stack.enter_context(PosWriter(shop.server.dsn("loops")))
    pos.add_printer(printer.host, printer.port, station, 1, station)
    return Lane("loops", station, pos, printer)


def _copy(server: EmbeddedPostgres, database: str) -> None:
    with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {database} TEMPLATE pos")


def report(ours: Ours, peers: Mapping[Loop, Times]) -> Report:
    """The figures, and a table with the peers."""
    return Report(_figures(ours, peers), (_table(ours.times, peers),))


def _figures(ours: Ours, peers: Mapping[Loop, Times]) -> tuple[Figure, ...]:
    n, middle, settled = len(ours.times.first_byte), _p50(ours.times.first_byte), _p50(ours.times.settled)
    worst, slow = percentile(ours.times.first_byte, 0.99), peers[SLOW].first_byte
    p99s = {loop: percentile(times.first_byte, 0.99) / worst for loop, times in peers.items()}
    first_byte = {loop: _p50(times.first_byte) / middle for loop, times in peers.items()}
    marked = {loop: _p50(times.settled) / settled for loop, times in peers.items()}
    return (
        at_most(Goal.FIRST_BYTE_P50, middle, "ms", n, ours.steps, _beside(first_byte)),
        at_most(Goal.FIRST_BYTE_P99, worst, "ms", n, f"the worst {max(ours.times.first_byte):.1f} ms", _beside(p99s)),
        at_least(
            Goal.FASTER_THAN_POLLING,
            first_byte[SLOW],
            "x",
            len(slow),
            f"{middle:.2f} ms against {first_byte[SLOW] * middle:.0f} ms",
        ),
        at_most(Goal.SETTLED, settled, "ms", n, beside=f"{_beside(marked)}, without any proof"),
    )


def _beside(times: Mapping[Loop, float]) -> str:
    return f"(a) takes {times[SLOW]:.0f} times as long, (b) {times[FAST]:.0f} times"


def _p50(values: list[float]) -> float:
    return percentile(values, 0.5)


def _table(ours: Times, peers: Mapping[Loop, Times]) -> Table:
    middle, settled = percentile(ours.first_byte, 0.5), percentile(ours.settled, 0.5)
    rows = [_row("KPS, first byte", ours.first_byte, middle), _row("KPS, proof settled", ours.settled, settled)]
    for loop, times in peers.items():
        rows.append(_row(f"{loop.name}, first byte", times.first_byte, middle))
        rows.append(_row(f"{loop.name}, marked printed", times.settled, settled))
    return Table(
        "One ticket on an idle system, from commit",
        ("", "p50 ms", "p99 ms", "times KPS", "samples"),
        tuple(rows),
        "An instant virtual printer on loopback. KPS settles what the printer has proven by a process ID; the loops"
        " mark what the kernel has taken.",
    )


def _row(name: str, times: list[float], base: float) -> tuple[str, ...]:
    middle = percentile(times, 0.5)
    return (name, f"{middle:.2f}", f"{percentile(times, 0.99):.2f}", f"{middle / base:.1f}", str(len(times)))


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
