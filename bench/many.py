"""64 printers and 100 tickets/s: whether a first byte still comes at once, and the queue stays short.

.venv/bin/python -m bench.many [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.figures import Figure, Met, Report, Table, at_most
from bench.goals import Goal
from bench.growth import HISTORY, fill
from bench.load import Outcome, p50, p99, press, warm_up
from bench.rig import Printers, Tills, add_printers, arrivals, last_ticket, pattern, proven, unproven
from bench.shop import Shop, open_shop, service

LIMIT_MS = 50.0
GROWTH_S = 0.05
"""A queue that got longer by less than what comes in so many seconds has not grown."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    printers: int
    rate: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.printers} printers, {self.rate:g} tickets/s for {self.seconds:g} s"


FULL = Size(64, 100.0, 60.0)
QUICK = Size(10, 50.0, 4.0)


def measure(quick: bool) -> Report:
    """Commit to first byte, and the length of the queue, under a steady load."""
    size = QUICK if quick else FULL
    names = [f"p{number:02}" for number in range(1, size.printers + 1)]
    with open_shop([]) as shop, Printers(names, processes=2) as printers:
        add_printers(shop, printers, names)
        with Tills(shop.server.dsn("pos"), pattern(shop)) as tills, service(shop, PROOF_LEVELS=proven(names)):
            warm_up(shop, printers, tills, len(names), names)
            fill(shop, last_ticket(shop), HISTORY)
            press(shop, printers, tills, [(0.0, name) for name in names])  # plans are made anew
            return measure_on(shop, printers, tills, names, size)


def measure_on(shop: Shop, printers: Printers, tills: Tills, names: Sequence[str], size: Size) -> Report:
    """The same with a service that is warm."""
    first = last_ticket(shop) + 1
    shown = press(shop, printers, tills, arrivals(size.rate, size.seconds, names))
    return Report(_figures(size, shown, unproven(shop, first)), (_table(size, shown),))


def _figures(size: Size, shown: Outcome, without_proof: int) -> tuple[Figure, ...]:
    less = "" if size == FULL else f"measured with {size}"
    note = f"the tills committed {p99(shown.late_ms):.0f} ms late at p99; p50 {p50(shown.first_byte_ms):.1f} ms"
    latency = at_most(Goal.LOAD_FIRST_BYTE, p99(shown.first_byte_ms), LIMIT_MS, "ms", shown.tickets, note, less)
    growth = at_most(
        Goal.LOAD_QUEUE, shown.growth, GROWTH_S * size.rate, "tickets", len(shown.depth),
        f"last quarter of the run less the first; empty {shown.drained_s * 1000:.0f} ms after the last commit", less,
    )  # fmt: skip
    if without_proof:
        latency = replace(latency, met=Met.SHORT, note=f"{without_proof} tickets without proof; {note}")
    return latency, growth


def _table(size: Size, shown: Outcome) -> Table:
    each = shown.each_ms
    return Table(
        f"Under load: {size}",
        ("", "p50", "p99", "n"),
        (
            _row("commit to first byte, ms", shown.first_byte_ms),
            _row("commit to `printed`, ms", shown.settled_ms),
            _row("tickets not done", [float(depth) for depth in shown.depth]),
        ),
        f"A shop with {HISTORY:,} tickets of the past. Processor time for a new one: {each(shown.cost.service):.1f} ms "
        f"in the service, {each(shown.cost.database):.1f} ms in its backends. The printers and the tills run on the "
        "same cores.",
    )


def _row(what: str, values: list[float]) -> tuple[str, ...]:
    return what, f"{p50(values):.1f}", f"{p99(values):.1f}", str(len(values))


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
