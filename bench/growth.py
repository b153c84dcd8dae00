"""How cost grows: with printers, with tickets a second, with the size of the tickets table.

.venv/bin/python -m bench.growth [--quick]
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import psycopg2

from bench.figures import Figure, Met, Report, Table, at_most
from bench.goals import Goal
from bench.load import Outcome, p50, p99, press, wait_slowly, warm_up
from bench.plot import Chart, Curve, DrawnReport, Picture
from bench.rig import (
    BILL,
    BILL_ITEM,
    TICKET_ITEM,
    Printers,
    Tills,
    add_printers,
    arrivals,
    copied,
    last_ticket,
    pattern,
    proven,
)
from bench.shop import Shop, open_shop, service
from kps.demo.pos_tables import LOG, TICKET

PRINTERS = (1, 4, 16, 64)
CALM_PER_S = 20.0
"""Tickets a second while the number of printers, or of rows, grows."""
CALM_S = 10.0
RATE_PRINTERS = 16
RATES = ((1.0, 12.0), (10.0, 10.0), (50.0, 5.0), (100.0, 5.0), (200.0, 4.0), (400.0, 3.0))
"""Tickets a second, and for how long."""
P99_SAMPLES = 200
"""Samples from which a p99 is judged. With fewer it is only the worst one or two."""
CONNECTIONS = (1, 4, 16)
COMMITS_S = 2.0
KEPT_UP_S = 0.25
"""A service keeps up if it is done so many seconds after the last commit."""
TABLE_PRINTERS = 4
ROWS = (1_000, 100_000, 1_000_000)
QUICK_ROWS = (1_000, 10_000)
ROWS_S, QUICK_ROWS_S = 11.0, 1.5
WARM_UP_S = 4.0
HISTORY = 80_000
"""Old tickets in the tables, some weeks of a shop: on empty tables PostgreSQL makes plans that only a new shop has."""
PER_BILL = 4
"""Old tickets on one bill."""
APART_S = 30
"""Seconds between two old tickets: a million cover most of a year."""
AT_ONCE = 20_000
IN_PLACE = 80_000
"""Up to so many tickets are written with the indexes in place."""
HEADER = (
    "first byte p50 ms",
    "p99 ms",
    "`printed` p50 ms",
    "p99 ms",
    "service, % of a core",
    "database, % of a core",
    "CPU ms a ticket",
    "n",
)


@dataclass(frozen=True, slots=True)
class Span:
    """Tickets `first` to `last` of `count` that are written."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Point:
    """The result of one load; x is the size that grows."""

    x: float
    shown: Outcome


def measure(quick: bool) -> Report:
    """The size of the table; in a full run the curves for printers and rates, too."""
    by_rows = measure_rows(QUICK_ROWS if quick else ROWS, QUICK_ROWS_S if quick else ROWS_S)
    figures, rows_table = _same_latencies(by_rows), _table("Rows in the tickets table", by_rows, _ROWS_TEXT)
    if quick:
        return Report(figures, (rows_table,))
    with open_shop([]) as shop:
        commits = measure_commits(shop)
        by_printers, by_rate = measure_printers_and_rates(shop)
    return DrawnReport(
        figures,
        (
            _table(f"Printers, at {CALM_PER_S:g} tickets/s", by_printers, _PRINTERS_TEXT),
            _table(f"Tickets a second, {RATE_PRINTERS} printers", by_rate, _rate_text(by_rate)),
            rows_table,
            commits,
        ),
        (
            _picture("growth-printers", "printers", by_printers),
            _picture("growth-rate", "tickets a second", by_rate),
            _picture("growth-rows", "rows in the tickets table", by_rows),
        ),
    )


_PRINTERS_TEXT = (
    "A printer costs a process; whether it costs time is what this table shows. Cores are shared with all. "
    f"The tables hold {HISTORY:,} tickets of the past."
)
_ROWS_TEXT = (
    f"{TABLE_PRINTERS} printers, {CALM_PER_S:g} tickets/s; printed tickets of the past, {PER_BILL} to a bill, with "
    "their items, audit rows and jobs."
)


def _rate_text(points: Sequence[Point]) -> str:
    """Up to which rate it keeps up, and what it does at most."""
    most = max(point.shown.done_per_s for point in points)
    kept = [point.x for point in points if point.shown.drained_s <= KEPT_UP_S]
    return (
        f"It keeps up with {max(kept, default=0):g} tickets/s; beyond that the queue grows, and a latency is a wait in "
        f"it. At most {most:.0f} tickets/s were done, with tills and printers on the same cores. In brackets: the "
        f"worst of fewer than {P99_SAMPLES} samples."
    )


def measure_printers_and_rates(shop: Shop) -> tuple[list[Point], list[Point]]:
    """A low load on more and more printers; at RATE_PRINTERS of them also a higher and higher load."""
    names = [f"p{number:02}" for number in range(1, PRINTERS[-1] + 1)]
    by_printers, by_rate = [], []
    with Printers(names) as printers:
        pattern_id = pattern(shop)
        with Tills(shop.server.dsn("pos"), pattern_id) as tills, service(shop, PROOF_LEVELS=proven(names)):
            before = 0
            for count in PRINTERS:
                add_printers(shop, printers, names[before:count])
                warm_up(shop, printers, tills, count, names[before:count])
                if not before:
                    fill(shop, last_ticket(shop), HISTORY)
                orders = arrivals(CALM_PER_S, CALM_S, names[:count])
                by_printers.append(Point(count, press(shop, printers, tills, orders)))
                before = count
                if count != RATE_PRINTERS:
                    continue
                for rate, seconds in RATES:
                    orders = arrivals(rate, seconds, names[:count])
                    by_rate.append(Point(rate, press(shop, printers, tills, orders)))
    return by_printers, by_rate


def measure_commits(shop: Shop) -> Table:
    """Smallest durable transactions a second, from ever more connections: each changes a row of its own."""
    shop.pos.execute("CREATE TABLE counter AS SELECT g AS id, 0 AS n FROM generate_series(1, %s) g", [CONNECTIONS[-1]])
    shop.pos.execute("ALTER TABLE counter ADD PRIMARY KEY (id)")
    rows = [(str(count), f"{_commits_per_s(shop, count):,.0f}") for count in CONNECTIONS]
    return Table(
        "Durable commits a second",
        ("connections", "commits/s"),
        tuple(rows),
        "One row changed by each, nothing else going on. A ticket needs three: the POS's own, promise, settle; its "
        "claim does not wait for the disk.",
    )


def _commits_per_s(shop: Shop, count: int) -> float:
    done = [0] * count

    def work(place: int) -> None:
        with contextlib.closing(psycopg2.connect(shop.server.dsn("pos"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                until = time.monotonic() + COMMITS_S
                while time.monotonic() < until:
                    cursor.execute("UPDATE counter SET n = n + 1 WHERE id = %s", [place + 1])
                    done[place] += 1

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / COMMITS_S


def measure_rows(sizes: Sequence[int], seconds: float) -> list[Point]:
    """The same load on a larger and larger table. The service is stopped while many old tickets are written."""
    names = [f"p{number:02}" for number in range(1, TABLE_PRINTERS + 1)]
    found: list[Point] = []
    with open_shop([]) as shop, Printers(names) as printers:
        pattern_id = pattern(shop)
        add_printers(shop, printers, names)
        with Tills(shop.server.dsn("pos"), pattern_id) as tills, contextlib.ExitStack() as running:
            running.enter_context(service(shop, PROOF_LEVELS=proven(names)))
            warm_up(shop, printers, tills, len(names), names)
            press(shop, printers, tills, arrivals(CALM_PER_S, WARM_UP_S, names))
            past, have = last_ticket(shop), 0
            for size in sizes:
                many = size - have > IN_PLACE
                if many:
                    running.close()
                fill(shop, past, size - have)
                if many:
                    running.enter_context(service(shop, PROOF_LEVELS=proven(names)))
                    wait_slowly(shop, len(names))
                found.append(_point(shop, printers, tills, names, size, seconds))
                have = size
    return found


def measure_few_rows(shop: Shop, printers: Printers, tills: Tills, names: Sequence[str]) -> Report:
    """A small version for the quick run, with a service that has printed some hundred tickets already."""
    found = [_point(shop, printers, tills, names, QUICK_ROWS[0], QUICK_ROWS_S)]
    fill(shop, last_ticket(shop), QUICK_ROWS[-1])
    found.append(_point(shop, printers, tills, names, QUICK_ROWS[-1], QUICK_ROWS_S))
    return Report(_same_latencies(found))


def _point(shop: Shop, printers: Printers, tills: Tills, names: Sequence[str], size: int, seconds: float) -> Point:
    press(shop, printers, tills, [(0.0, name) for name in names] * 3)  # plans are made anew
    return Point(size, press(shop, printers, tills, arrivals(CALM_PER_S, seconds, names)))


def fill(shop: Shop, past: int, count: int) -> None:
    """Write `count` old printed tickets, copies of the ticket `past`, with all rows that belong to them.

    With more than IN_PLACE the indexes are made afterwards: then the service must not run.
    """
    with contextlib.ExitStack() as stack:
        pair = [_loader(shop, stack) for _ in range(2)]
        cursor = pair[0]
        base = {table: _last_id(cursor, table) for table in (BILL, BILL_ITEM, TICKET, TICKET_ITEM)}
        indexes = _take_indexes(cursor) if count > IN_PLACE else []
        spans = [Span(begin, min(begin + AT_ONCE - 1, count), count) for begin in range(1, count + 1, AT_ONCE)]
        # In portions, because a running statement cannot be interrupted.
        _share(pair, [statement for span in spans for statement in _history(cursor, base, past, span)])
        _share(pair, indexes)
        for table in base:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
        _share(pair, [f"VACUUM (ANALYZE) {table}" for table in (*base, LOG, "kps.job")])
        # The catalogue, too: if autovacuum did it later, every session would have to read it again.
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def _loader(shop: Shop, stack: contextlib.ExitStack) -> psycopg2.extensions.cursor:
    """A session in which no trigger runs, neither those of foreign keys nor the one that wakes KPS."""
    connection = stack.enter_context(contextlib.closing(psycopg2.connect(shop.server.dsn("pos"))))
    connection.autocommit = True
    cursor = stack.enter_context(connection.cursor())
    cursor.execute("SET session_replication_role = replica")
    return cursor


def _share(cursors: Sequence[psycopg2.extensions.cursor], statements: Sequence[str]) -> None:
    """Execute the statements in any order, each by the next free session."""
    rest, taking = iter(statements), threading.Lock()

    def work(cursor: psycopg2.extensions.cursor) -> None:
        while True:
            with taking:
                statement = next(rest, None)
            if statement is None:
                return
            cursor.execute(statement)

    with ThreadPoolExecutor(len(cursors)) as pool:
        for one in [pool.submit(work, cursor) for cursor in cursors]:
            one.result()


def _take_indexes(cursor: psycopg2.extensions.cursor) -> list[str]:
    """Drop the indexes but the keys; returns what makes them again."""
    tables = [BILL, BILL_ITEM, TICKET, TICKET_ITEM, LOG, "kps.job"]
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY (%s::regclass[]) AND NOT indisprimary",
        [tables],
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f"DROP INDEX {name}")
    return [definition for _, definition in found]


def _last_id(cursor: psycopg2.extensions.cursor, table: str) -> int:
    cursor.execute(f"SELECT coalesce(max(id), 0) FROM {table}")
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _history(cursor: psycopg2.extensions.cursor, base: dict[str, int], past: int, span: Span) -> list[str]:
    """The statements that write a portion of it; g counts its tickets from 1."""
    at = f"now() - interval '1 hour' - ({span.count} - g) * interval '{APART_S} s'"
    every = f"generate_series({span.first}, {span.last}) g"
    bills = f"generate_series({span.first}, {span.last}, {PER_BILL}) g"
    bill = f"{base[BILL]} + (g + {PER_BILL - 1}) / {PER_BILL}"
    bill_item, ticket = f"{base[BILL_ITEM]} + g", f"{base[TICKET]} + g"
    closed = {"id": bill, "status": "'paid'", "created_at": at, "closed_at": at}
    first_item = f"s.id = (SELECT min(i.id) FROM {BILL_ITEM} i JOIN {TICKET} t USING (bill_id) WHERE t.id = {past})"
    return [
        copied(
            BILL, closed, f"{BILL} s CROSS JOIN {bills} WHERE s.id = (SELECT bill_id FROM {TICKET} WHERE id = {past})"
        ),
        copied(
            BILL_ITEM,
            {"id": bill_item, "bill_id": bill, "created_at": at},
            f"{BILL_ITEM} s CROSS JOIN {every} WHERE {first_item}",
        ),
        copied(
            TICKET,
            {"id": ticket, "bill_id": bill, "created_at": at, "printed_at": at},
            f"{TICKET} s CROSS JOIN {every} WHERE s.id = {past}",
        ),
        copied(
            TICKET_ITEM,
            {"id": f"{base[TICKET_ITEM]} + g", "bill_item_id": bill_item, "kitchen_ticket_id": ticket},
            f"{TICKET_ITEM} s CROSS JOIN {every} WHERE s.id = "
            f"(SELECT min(id) FROM {TICKET_ITEM} WHERE kitchen_ticket_id = {past})",
        ),
        copied(LOG, {"timestamp": at, "ticket_id": ticket}, f"{LOG} s CROSS JOIN {every} WHERE s.ticket_id = {past}"),
        _jobs(cursor, ticket, at, f"kps.job s CROSS JOIN {every} WHERE s.ticket_id = {past}"),
    ]


def _jobs(cursor: psycopg2.extensions.cursor, ticket: str, at: str, source: str) -> str:
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = ('kps', 'job')"
    )
    names = [str(row[0]) for row in cursor.fetchall()]
    moments = dict.fromkeys(("first_seen_at", "claimed_at", "sending_at", "finished_at"), at)
    changes = {"ticket_id": ticket, "token": "nextval('kps.token_seq')"} | moments
    values = ", ".join(changes.get(name, f"s.{name}") for name in names)
    return f"INSERT INTO kps.job ({', '.join(names)}) SELECT {values} FROM {source}"


def _same_latencies(points: Sequence[Point]) -> tuple[Figure, ...]:
    small, large = points[0], points[-1]
    less = "" if large.x == ROWS[-1] else f"measured with {large.x:,.0f} rows"

    def ratio(goal: Goal, of: Callable[[Outcome], float]) -> Figure:
        before, after = of(small.shown), of(large.shown)
        note = f"{after:.2f} ms, with {small.x:,.0f} rows {before:.2f} ms"
        return at_most(goal, after / before, "x", large.shown.tickets, note, less)

    tail = ratio(Goal.ROWS_FIRST_BYTE_P99, lambda shown: p99(shown.first_byte_ms))
    if large.shown.tickets < P99_SAMPLES:
        tail = replace(tail, met=Met.NONE, note=f"too few samples to judge a p99; {tail.note}")
    return (
        ratio(Goal.ROWS_FIRST_BYTE_P50, lambda shown: p50(shown.first_byte_ms)),
        tail,
        ratio(Goal.ROWS_SETTLED, lambda shown: p50(shown.settled_ms)),
    )


def _table(title: str, points: Sequence[Point], text: str) -> Table:
    return Table(title, (title.partition(",")[0].lower(), *HEADER), tuple(_row(point) for point in points), text)


def _row(point: Point) -> tuple[str, ...]:
    shown = point.shown
    cost = shown.cost.service + shown.cost.database
    return (
        f"{point.x:,.0f}",
        f"{p50(shown.first_byte_ms):.1f}",
        _tail(shown.first_byte_ms),
        f"{p50(shown.settled_ms):.1f}",
        _tail(shown.settled_ms),
        f"{shown.share(shown.cost.service):.1f}",
        f"{shown.share(shown.cost.database):.1f}",
        f"{shown.each_ms(cost):.1f}",
        str(shown.tickets),
    )


def _tail(times: list[float]) -> str:
    """The p99; in brackets the worst, where there are too few samples for one."""
    return f"{p99(times):.1f}" if len(times) >= P99_SAMPLES else f"({max(times):.1f})"


def _picture(name: str, x: str, points: Sequence[Point]) -> Picture:
    latency = Chart(
        "Commit to first byte",
        x,
        "ms",
        (
            _curve("p50", [(point.x, p50(point.shown.first_byte_ms)) for point in points]),
            _curve("p99", [(point.x, p99(point.shown.first_byte_ms)) for point in points if _has_p99(point)]),
        ),
    )
    processor = Chart(
        "Processor",
        x,
        "% of a core",
        (
            _curve("service", [(point.x, point.shown.share(point.shown.cost.service)) for point in points]),
            _curve("its backends", [(point.x, point.shown.share(point.shown.cost.database)) for point in points]),
        ),
    )
    few = [f"{point.x:,g}" for point in points if not _has_p99(point)]
    text = f"No p99 is drawn at {' and '.join(few)}: fewer than {P99_SAMPLES} samples." if few else ""
    return Picture(name, f"Latency and processor time against {x}", (latency, processor), text)


def _has_p99(point: Point) -> bool:
    return len(point.shown.first_byte_ms) >= P99_SAMPLES


def _curve(name: str, points: Sequence[tuple[float, float]]) -> Curve:
    return Curve(name, tuple((x, max(y, 0.01)) for x, y in points))  # a logarithm needs more than nothing


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
