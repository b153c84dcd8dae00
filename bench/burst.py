"""A burst of tickets over four instant printers, each proven and settled: KPS beside CUPS, plain loops and the ceiling.

    .venv/bin/python -m bench.burst [--quick]

The tickets come with one commit, as after an outage of the POS or at the top of a rush: the till's own pace is not
measured. The clock starts when that commit has returned, and stops when the last ticket is settled. The first burst is
not counted; after each, VACUUM (ANALYZE) does at once what autovacuum does within a minute. The peers without a
database get the very bytes that KPS has sent.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg2

from bench import cups
from bench.ceiling import STATIONS, asked_rate, plain_rate, wait_cut
from bench.figures import Figure, Met, Report, Table, at_least, stated
from bench.goals import Goal
from bench.latency import usual_design
from bench.rig import Printers, Seen, add_printers, order_sql, pattern, proven, unfinished, unproven, used
from bench.shop import Shop, open_shop, percentile, service, wait_until

LIMIT_S = 120.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """Sample sizes: tickets of a burst, number of bursts, papers for CUPS, and tickets for each loop."""

    tickets: int
    bursts: int
    cups: int
    cups_alone: int
    fast_loop: int
    slow_loop: int
    """Tickets for the loop that rests between two: more would take long and change nothing."""


FULL = Size(1000, 2, 400, 200, 400, 12)
QUICK = Size(200, 1, 80, 0, 0, 0)


class NotProven(Exception):
    """A ticket of the burst is not printed and proven, or its paper is missing, so there is no valid figure."""


@dataclass(frozen=True, slots=True)
class Burst:
    """The measurements of one burst."""

    rate: float
    """Tickets a second."""
    service_ms: float
    """Processor time of the service for one ticket."""
    database_ms: float
    """Processor time of its backends for one ticket."""
    printers_ms: float
    """Processor time of the virtual printers for one ticket."""
    seen: tuple[Seen, ...]


@dataclass(frozen=True, slots=True)
class Peers:
    """Papers a second of the peers; None = not measured."""

    plain: float
    asked: float
    cups: float | None
    cups_missing: str
    """Why not, in words."""
    cups_first_byte_ms: tuple[float, ...]
    fast_loop: float | None
    slow_loop: float | None


def measure(quick: bool) -> Report:
    """Measure KPS first, then the peers, one after the other."""
    size = QUICK if quick else FULL
    with open_shop([]) as shop, Printers(STATIONS, processes=len(STATIONS)) as printers:
        add_printers(shop, printers, STATIONS)
        with service(shop, len(STATIONS), PROOF_LEVELS=proven(STATIONS)):
            bursts = measure_ours(shop, printers, size)
        peers = measure_peers(shop, printers, bursts[-1], size)
    return report(bursts, peers, size)


def measure_ours(shop: Shop, printers: Printers, size: Size) -> list[Burst]:
    """Bursts of KPS; the first is not counted. Raises NotProven."""
    bursts = []
    for _ in range(1 + size.bursts):
        bursts.append(_burst(shop, printers, size.tickets))
        # Plans that were made while the tables were empty are those of a new shop's first minute.
        _settle_down(shop)
    return bursts[1:]


def _burst(shop: Shop, printers: Printers, count: int) -> Burst:
    """One burst of KPS. Raises NotProven."""
    printers.take()
    before, printers_before = used(shop), printers.cpu_s()
    first, committed = _commit(shop, count)
    wait_until(lambda: unfinished(shop) == 0, LIMIT_S, "the burst is settled", every_s=LOOK_EVERY_S)
    spent, printers_s = used(shop) - before, printers.cpu_s() - printers_before
    seen = printers.take()
    if missing := unproven(shop, first):
        raise NotProven(f"{missing} of {count} tickets")
    if sorted(one.ticket for one in seen) != list(range(first, first + count)):
        raise NotProven(f"{len(seen)} papers of {count} tickets")
    last = shop.pos.rows("SELECT extract(epoch FROM max(finished_at))::float8 AS at FROM kps.job")[0]["at"]
    per_ticket = 1000 / count
    return Burst(
        count / (last - committed),
        spent.service * per_ticket,
        spent.database * per_ticket,
        printers_s * per_ticket,
        tuple(seen),
    )


def _settle_down(shop: Shop) -> None:
    """Do now what autovacuum would do in the background. Old plans are then replaced."""
    with contextlib.closing(psycopg2.connect(shop.server.dsn("pos"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")


def _commit(shop: Shop, count: int) -> tuple[int, float]:
    """Write so many tickets with one commit; the first's id, and `time.time()` when the commit had returned.

    The host's clock is PostgreSQL's too, and its tables say when a ticket was settled.
    """
    copied = pattern(shop)
    with contextlib.closing(psycopg2.connect(shop.server.dsn("pos"))) as connection, connection.cursor() as cursor:
        cursor.execute(f"PREPARE place (bigint, text) AS {order_sql()}")
        tickets = []
        for number in range(count):
            cursor.execute("EXECUTE place (%s, %s)", [copied, STATIONS[number % len(STATIONS)]])
            tickets.append(int(cursor.fetchall()[0][0]))
        connection.commit()
        return tickets[0], time.time()


def _papers(seen: Sequence[Seen]) -> dict[str, list[bytes]]:
    """The bytes that each printer has printed, paper by paper."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for one in seen:
        found[one.printer].append(one.raw)
    return dict(found)


def measure_peers(shop: Shop, printers: Printers, ours: Burst, size: Size) -> Peers:
    """Measure the peers with the same papers, one after the other. The service must not run."""
    papers = _papers(ours.seen)
    plain, asked = plain_rate(printers, papers), asked_rate(printers, papers)
    spooled: float | None = None
    missing, first_byte = "", list[float]()
    try:
        with cups.cups(printers, STATIONS) as spooler:
            spooled = cups.rate(
                spooler, printers, {name: own[: size.cups // len(papers)] for name, own in papers.items()}
            )
            first_byte = cups.one_by_one(spooler, printers, STATIONS[0], papers[STATIONS[0]][: size.cups_alone])
    except cups.CupsMissing as why:
        missing = str(why)
    fast = _loop_rate(shop, printers, size.fast_loop, every_s=0.1, pause_s=0.0)
    slow = _loop_rate(shop, printers, size.slow_loop, every_s=2.0, pause_s=0.5)
    return Peers(plain, asked, spooled, missing, tuple(first_byte), fast, slow)


def _loop_rate(shop: Shop, printers: Printers, count: int, every_s: float, pause_s: float) -> float | None:
    """Tickets a second of the usual design, from the commit to the last one's mark; None if no ticket is wanted."""
    if not count:
        return None
    printers.take()
    with usual_design(shop.server, "pos", every_s, pause_s):
        first, committed = _commit(shop, count)
        wait_until(lambda: unfinished(shop) == 0, LIMIT_S, "the loop is done", every_s=LOOK_EVERY_S)
    wait_cut(printers, count)
    last = shop.pos.rows(
        "SELECT extract(epoch FROM max(printed_at))::float8 AS at FROM kitchen_kitchenticket WHERE id >= %s", [first]
    )
    return count / float(last[0]["at"] - committed)


def report(bursts: Sequence[Burst], peers: Peers, size: Size) -> Report:
    """The figures of the middle burst, and a table with the peers."""
    bursts = sorted(bursts, key=lambda burst: burst.rate)
    ours = bursts[(len(bursts) - 1) // 2]
    samples = size.tickets * len(bursts)
    spent = ours.service_ms + ours.database_ms + ours.printers_ms
    cores = len(os.sched_getaffinity(0))
    where = (
        f"{size.tickets} tickets; processor time for each: service {ours.service_ms:.1f} ms, database"
        f" {ours.database_ms:.1f} ms, printers {ours.printers_ms:.1f} ms: {cores} cores have that for"
        f" {cores * 1000 / spent:.0f} tickets/s"
    )
    ceiling = f"{ours.rate / peers.plain:.2f} x"
    figures = (
        at_least(Goal.BURST, ours.rate, "tickets/s", samples, where, f"{ceiling} (d)"),
        _against_cups(ours, peers, samples),
        stated(
            Goal.BURST_AGAINST_CEILING, ceiling, Met.NONE, samples,
            f"{ours.rate / peers.asked:.2f} x what the printers do if each paper is asked for",
        ),
    )  # fmt: skip
    return Report(figures, (_table(bursts, peers),))


def _against_cups(ours: Burst, peers: Peers, samples: int) -> Figure:
    if peers.cups is None:
        return stated(Goal.BURST_AGAINST_CUPS, f"not measured: {peers.cups_missing}", Met.SHORT)
    note = f"{ours.rate:.0f} tickets/s against {peers.cups:.0f} papers/s"
    return at_least(Goal.BURST_AGAINST_CUPS, ours.rate / peers.cups, "x", samples, note)


def _table(bursts: Sequence[Burst], peers: Peers) -> Table:
    ours = bursts[(len(bursts) - 1) // 2]
    rows = [
        ("KPS", "each by process ID, settled in the database", ours.rate),
        ("(a) polling every 2 s, 0.5 s between tickets", "none, marked in the database", peers.slow_loop),
        ("(b) polling every 100 ms", "none, marked in the database", peers.fast_loop),
        ("(c) CUPS raw queues", "none, no database", peers.cups),
        ("(d) python-escpos' Network, a plain loop", "none, no database", peers.plain),
        ("the printers alone, each paper asked for", "each by process ID, no database", peers.asked),
    ]
    spread = f"{bursts[0].rate:.0f} to {bursts[-1].rate:.0f}"
    text = (
        f"KPS: the middle one of {len(bursts)} burst(s), the slower of two; {spread}. Each of the four virtual printers"
        " is a process of its own and shares the cores with whom it serves: the last row is what they can take"
        " if each paper is proven."
    )
    if peers.cups_first_byte_ms:
        alone = list(peers.cups_first_byte_ms)
        text += (
            f" One paper at a time, CUPS takes {percentile(alone, 0.5):.0f} ms from lp to first byte"
            f" (p99 {percentile(alone, 0.99):.0f} ms, {len(alone)} samples)."
        )
    return Table(
        "A burst over four instant printers",
        ("", "proof", "papers/s", "KPS does x times as many"),
        tuple((name, proof, _number(rate), _times(ours.rate, rate)) for name, proof, rate in rows),
        text,
    )


def _number(rate: float | None) -> str:
    return "not measured" if rate is None else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _times(ours: float, rate: float | None) -> str:
    return "" if rate is None else f"{ours / rate:.2f}"


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
