"""Every goal in less than a minute, from fewer samples: two shops instead of one for each benchmark.

    .venv/bin/python -m bench --quick

Half of a benchmark's time is making a database and starting a service. Here one service does everything in turn: it
starts, prints one ticket at a time, idles (while the faults happen to another one, in a process of its own), gets more
printers, prints under load, and is taken over in the end. The peers without a database print while the successor waits
for the lease to end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from bench import burst, faults, footprint, growth, latency, many, real_speed, start
from bench.beside import Faults, Turn
from bench.ceiling import STATIONS as BURST_STATIONS
from bench.figures import Findings, Report
from bench.footprint import QUICK_LOAD_S
from bench.load import press
from bench.rig import PROFILE, Printers, Tills, add_printers, pattern, proven
from bench.shop import SERVICE, Instance, Shop, open_shop

OWN = [latency.STATION, "p02", "p03", "p04", "p05", "p06", "p07", "p08"]
"""Printers in this process. The service idles with these."""
AT_START = 4
REAL = ["p09", "p10"]
RIG = [*BURST_STATIONS, *(f"p{number:02}" for number in range(15, 21))]
"""Printers in other processes, for loads; those of the burst have one each. With OWN and REAL they are 20."""
WARM_UP_EACH = 3
ONLY = "UPDATE kitchen_stationprinter SET is_active = false WHERE station_code <> ALL (%s)"


def findings(_: Turn) -> Findings:
    """One report after the other."""
    with Faults(quick=True, take_overs=False) as beside, contextlib.ExitStack() as stack:
        shop = stack.enter_context(open_shop(OWN[:AT_START], profile=PROFILE))
        lanes = stack.enter_context(latency.loop_lanes(shop, latency.QUICK))
        beside.wait_open()
        others = start.naive_starts(shop, 1)
        loop = stack.enter_context(footprint.polling_loop(shop))
        instance = stack.enter_context(_service(shop, "kps"))
        yield "start", Report((start.figure([start.start(shop, instance, OWN[0])], others),))
        footprint.more_printers(shop, stack, OWN[AT_START:], profile=PROFILE)
        instance.wait_ready(len(OWN))
        ours = latency.measure_ours(shop, latency.QUICK)
        rig = stack.enter_context(Printers(RIG, processes=len(BURST_STATIONS)))
        real, plain = (stack.enter_context(Printers(REAL, **real_speed.DEVICE)) for _ in range(2))

        def grow() -> None:
            add_printers(shop, rig, RIG)
            add_printers(shop, real, REAL)

        yield (
            "footprint",
            footprint.measure_on(shop, instance, loop, beside.running, beside.begin, grow, QUICK_LOAD_S, False),
        )
        yield "faults", beside.report()
        tills = stack.enter_context(Tills(shop.server.dsn("pos"), pattern(shop)))
        with ThreadPoolExecutor(1) as pool:  # together, because the loops and printers at real speed mostly wait
            loops = pool.submit(latency.measure_loops, shop.server, lanes, latency.QUICK)
            yield "real_speed", real_speed.measure_on(shop, real, plain, tills, real_speed.QUICK)
            yield "latency", latency.report(ours, loops.result())
        yield from _loads(shop, rig, tills, instance)


def _loads(shop: Shop, rig: Printers, tills: Tills, instance: Instance) -> Findings:
    press(shop, rig, tills, [(0.0, name) for name in RIG] * WARM_UP_EACH)
    yield "many", many.measure_on(shop, rig, tills, RIG, many.QUICK)
    bursts = burst.measure_ours(shop, rig, burst.QUICK)
    yield "growth", growth.measure_few_rows(shop, rig, tills, RIG[: growth.TABLE_PRINTERS])
    shop.pos.execute(ONLY, [OWN])
    with _service(shop, "successor") as successor:
        successor.start()
        successor.wait_ready(len(OWN))
        peers: list[burst.Peers] = []
        over = faults.take_over(
            shop, instance, OWN[1:4], lambda: peers.append(burst.measure_peers(shop, rig, bursts[-1], burst.QUICK))
        )
        yield "take_over", Report((faults.take_over_figure(over),))
        yield "burst", burst.report(bursts, peers[0], burst.QUICK)


@contextlib.contextmanager
def _service(shop: Shop, name: str) -> Iterator[Instance]:
    """An instance that is not started yet; it is ended."""
    levels = proven([latency.STATION, *RIG, *REAL])
    instance = Instance(shop, name, SERVICE, PROOF_LEVELS=levels)
    try:
        yield instance
    finally:
        instance.end()
