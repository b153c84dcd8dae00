"""64 printers: how soon all are ready, how soon a first byte comes under 100 tickets/s, and what memory they take.

    .venv/bin/python -m bench.many [--quick]

The load comes three times, each time on a service that was started anew: what differs from run to run, the plans of 64
sessions for instance, is then in the figure.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.figures import Figure, Met, Report, Table, at_most, stated
from bench.footprint import DRAWN, print_everywhere, pss_mb
from bench.goals import Goal
from bench.growth import HISTORY, fill
from bench.load import Outcome, p50, p99, press, warm_up
from bench.rig import Printers, Tills, add_printers, arrivals, last_ticket, pattern, proven, ready, unproven
from bench.shop import Instance, Shop, open_shop, wait_until

GROWTH_S = 0.05
"""A queue that got longer by less than what comes in so many seconds has not grown."""
READY_LIMIT_S = 60.0
LOOK_EVERY_S = 0.01
"""Between two looks at how many printers are ready."""
ONLY_WHOLE = "measured by `make bench` only"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    printers: int
    rate: float
    seconds: float
    runs: int

    def __str__(self) -> str:
        return f"{self.printers} printers, {self.rate:g} tickets/s for {self.seconds:g} s"


FULL = Size(64, 100.0, 60.0, 3)
QUICK = Size(10, 50.0, 4.0, 1)


@dataclass(frozen=True, slots=True)
class Memory:
    """PSS of the whole family in MB."""

    loaded: float
    """After the load."""
    drawn: float
    """And after a ticket with drawn lines through each printer."""


def measure(quick: bool) -> Report:
    """Starts, commit to first byte and the queue under a steady load, and memory in the end."""
    size = QUICK if quick else FULL
    names = [f"p{number:02}" for number in range(1, size.printers + 1)]
    runs, seconds = list[Outcome](), list[float]()
    with open_shop([]) as shop, Printers(names, processes=2) as printers:
        add_printers(shop, printers, names)
        with Tills(shop.server.dsn("pos"), pattern(shop)) as tills:
            instance = Instance(shop, PROOF_LEVELS=proven(names))
            with instance:  # makes the tables, and a ticket that the history is copied from
                warm_up(shop, printers, tills, len(names), names, each=1)
            fill(shop, last_ticket(shop), HISTORY)
            first = last_ticket(shop) + 1
            for number in range(size.runs):
                try:
                    seconds.append(start_all(shop, instance, len(names)))
                    warm_up(shop, printers, tills, len(names), names, each=1)
                    runs.append(press(shop, printers, tills, arrivals(size.rate, size.seconds, names, seed=7 + number)))
                    if number == size.runs - 1:
                        memory = _memory(shop, instance)
                finally:
                    instance.end()
        without_proof = unproven(shop, first)
    return Report(
        (*_load_figures(size, runs, without_proof), *_size_figures(size, seconds, memory)),
        (_load_table(size, runs), _start_table(size, seconds, memory)),
    )


def start_all(shop: Shop, instance: Instance, count: int) -> float:
    """Seconds from before the fork until so many printers are ready; no other instance may run."""
    wait_until(lambda: ready(shop) == 0, READY_LIMIT_S, "no printer is ready", LOOK_EVERY_S)
    began = instance.start()
    wait_until(lambda: ready(shop) >= count, READY_LIMIT_S, f"{count} printers are ready", LOOK_EVERY_S)
    return time.monotonic() - began


def _memory(shop: Shop, instance: Instance) -> Memory:
    loaded = pss_mb(instance)
    print_everywhere(shop, DRAWN)
    return Memory(loaded, pss_mb(instance))


def measure_on(shop: Shop, printers: Printers, tills: Tills, names: Sequence[str], size: Size) -> Report:
    """The load alone, once, on a service that is warm. For the quick run."""
    first = last_ticket(shop) + 1
    shown = press(shop, printers, tills, arrivals(size.rate, size.seconds, names))
    whole = [stated(goal, ONLY_WHOLE, Met.NONE) for goal in (Goal.READY_64, Goal.MEMORY_64)]
    return Report((*_load_figures(size, [shown], unproven(shop, first)), *whole), (_load_table(size, [shown]),))


def _load_figures(size: Size, runs: Sequence[Outcome], without_proof: int) -> tuple[Figure, ...]:
    tails = [p99(shown.first_byte_ms) for shown in runs]
    each = f"the runs: {', '.join(f'{tail:.1f}' for tail in tails)} ms" if len(runs) > 1 else ""
    less = "" if size == FULL else f"measured with {size}"
    beside = "; ".join(filter(None, (each, less)))
    tickets = sum(shown.tickets for shown in runs)
    late = max(p99(shown.late_ms) for shown in runs)
    middles = ", ".join(f"{p50(shown.first_byte_ms):.1f}" for shown in runs)
    note = f"the tills committed {late:.0f} ms late at p99 at most; p50 {middles} ms"
    latency = at_most(Goal.LOAD_FIRST_BYTE, max(tails), "ms", tickets, note, beside)
    longest = max(shown.growth for shown in runs)
    drained = max(shown.drained_s for shown in runs) * 1000
    growth = at_most(
        Goal.LOAD_QUEUE, longest, "tickets", sum(len(shown.depth) for shown in runs),
        f"last quarter of a run less the first; empty {drained:.0f} ms after the last commit", less,
        limit=GROWTH_S * size.rate,
    )  # fmt: skip
    if without_proof:
        latency = replace(latency, met=Met.SHORT, note=f"{without_proof} tickets without proof; {note}")
    return latency, growth


def _size_figures(size: Size, seconds: Sequence[float], memory: Memory) -> tuple[Figure, ...]:
    less = "" if size.printers == FULL.printers else f"measured with {size.printers} printers"
    return (
        at_most(Goal.READY_64, max(seconds), "s", len(seconds), f"worst; the best {min(seconds):.2f} s", less),
        at_most(Goal.MEMORY_64, memory.drawn, "MB", 1, f"{memory.loaded:.0f} MB after the load", less),
    )


def _load_table(size: Size, runs: Sequence[Outcome]) -> Table:
    rows = []
    for number, shown in enumerate(runs, 1):
        run = f"run {number}: " if len(runs) > 1 else ""
        rows += [
            _row(f"{run}commit to first byte, ms", shown.first_byte_ms),
            _row(f"{run}commit to `printed`, ms", shown.settled_ms),
            _row(f"{run}tickets not done", [float(depth) for depth in shown.depth]),
        ]
    tickets = sum(shown.tickets for shown in runs)
    service = 1000 * sum(shown.cost.service for shown in runs) / tickets
    database = 1000 * sum(shown.cost.database for shown in runs) / tickets
    return Table(
        f"Under load: {size}",
        ("", "p50", "p99", "n"),
        tuple(rows),
        f"A shop with {HISTORY:,} tickets of the past. Processor time for a new one: {service:.1f} ms "
        f"in the service, {database:.1f} ms in its backends. The printers and the tills run on the same cores.",
    )


def _start_table(size: Size, seconds: Sequence[float], memory: Memory) -> Table:
    return Table(
        f"{size.printers} printers",
        ("", "least", "worst", "n"),
        (("exec to all ready, s", f"{min(seconds):.2f}", f"{max(seconds):.2f}", str(len(seconds))),),
        f"PSS of the whole family: {memory.loaded:.0f} MB after the load, {memory.drawn:.0f} MB after a ticket with "
        f"{len(DRAWN)} drawn lines through each. Ready is a printer that its process has asked and that stands as "
        f"ready in the database, looked at each {1000 * LOOK_EVERY_S:.0f} ms. The tables are there, and no other "
        "instance runs.",
    )


def _row(what: str, values: list[float]) -> tuple[str, ...]:
    return what, f"{p50(values):.1f}", f"{p99(values):.1f}", str(len(values))


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
