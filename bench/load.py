"""Puts a load on the service and measures latencies, the queue, and processor time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.rig import Printers, Seen, Tills, Used, ready, unfinished, used
from bench.shop import Shop, percentile, wait_until
from kps.demo.pos_tables import TICKET

LOOK_EVERY_S = 0.25
"""Seconds between two looks at the queue."""
READY_LIMIT_S = 150.0
"""Seconds that 64 processes may take to start on two cores."""
WARM_UP_PER_S = 30.0
WARM_UP_EACH = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """The measurements of one load. Times in milliseconds."""

    tickets: int
    seconds: float
    """From the first order to the last settle."""
    load_s: float
    """From the first order to the last."""
    first_byte_ms: list[float]
    """Commit to the ticket's first byte at the printer, one for each ticket."""
    settled_ms: list[float]
    """Commit to the moment at which the database wrote `printed`."""
    late_ms: list[float]
    """How much later than planned the till's commit returned."""
    depth: list[int]
    """Tickets not done, at each look while orders came."""
    drained_s: float
    """From the last commit until nothing was left to do."""
    cost: Used
    papers: list[Seen]

    @property
    def growth(self) -> float:
        """Mean length of the queue in the last quarter of the load, less that of the first."""
        quarter = max(1, len(self.depth) // 4)
        return _mean(self.depth[-quarter:]) - _mean(self.depth[:quarter])

    @property
    def done_per_s(self) -> float:
        """Tickets done in a second, from the first order to the last settle."""
        return self.tickets / self.seconds

    def share(self, processor_s: float) -> float:
        """Processor seconds as per cent of one core."""
        return 100 * processor_s / self.seconds

    def each_ms(self, processor_s: float) -> float:
        """Processor milliseconds for each ticket."""
        return 1000 * processor_s / self.tickets


def warm_up(
    shop: Shop, printers: Printers, tills: Tills, able: int, names: Sequence[str], each: int = WARM_UP_EACH
) -> Outcome:
    """Wait until `able` printers can print, and let those of `names` print a few tickets."""
    wait_slowly(shop, able)
    return press(shop, printers, tills, [(n / WARM_UP_PER_S, name) for n, name in enumerate([*names] * each)])


def wait_slowly(shop: Shop, count: int) -> None:
    """Wait until so many printers are able. Asks seldom, because the starting processes need the cores."""
    end = time.monotonic() + READY_LIMIT_S
    while ready(shop) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{count} printers were not ready in time, but {ready(shop)}")
        time.sleep(LOOK_EVERY_S)


def press(
    shop: Shop,
    printers: Printers,
    tills: Tills,
    orders: Sequence[tuple[float, str]],
    drain_limit_s: float = 60.0,
) -> Outcome:
    """Place these orders and wait until all tickets are done. Raises TimeoutError and PartnerGone."""
    printers.take()
    before, begin = used(shop), time.monotonic()
    tills.begin(orders)
    depth = []
    while not tills.ended(LOOK_EVERY_S):
        depth.append(unfinished(shop))
    committed = tills.end(1.0)
    last = max(one.at for one in committed)
    wait_until(lambda: unfinished(shop) == 0, drain_limit_s, "every ticket is done")
    end = time.monotonic()
    cost = used(shop) - before
    papers = printers.take()
    arrived = {paper.ticket: paper.first_byte for paper in papers}
    settled = _settled(shop, min(one.ticket for one in committed))
    return Outcome(
        tickets=len(committed),
        seconds=end - begin,
        load_s=last - begin,
        first_byte_ms=[(arrived[one.ticket] - one.at) * 1000 for one in committed],
        settled_ms=[(settled[one.ticket] - one.wall) * 1000 for one in committed],
        late_ms=[(one.at - one.due) * 1000 for one in committed],
        depth=depth or [0],
        drained_s=end - last,
        cost=cost,
        papers=papers,
    )


def p50(values: list[float]) -> float:
    """The middle one."""
    return percentile(values, 0.5)


def p99(values: list[float]) -> float:
    """What only one in a hundred is above."""
    return percentile(values, 0.99)


def _settled(shop: Shop, first: int) -> dict[int, float]:
    rows = shop.pos.rows(
        f"SELECT id, extract(epoch FROM printed_at)::float8 AS at FROM {TICKET} WHERE id >= %s AND status = 'printed'",
        [first],
    )
    return {row["id"]: row["at"] for row in rows}


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
