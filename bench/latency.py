"""Commit to first byte at the printer, on an idle system: KPS beside a loop that polls every 100 ms and every 2 s.

    .venv/bin/python -m bench.latency [--samples 200]

The clock starts when the POS's COMMIT has returned, and stops when the printer sees the ticket's own first byte.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import threading
import time
from collections.abc import Iterator

from bench.naive import NaiveLoop
from bench.shop import Shop, open_shop, percentile, service, wait_until


def measure(shop: Shop, samples: int, pause: random.Random) -> list[float]:
    """Milliseconds from commit to first byte, one ticket at a time on an idle system."""
    printer = shop.printers["kitchen"]
    found = []
    for _ in range(samples):
        seen = len(printer.first_byte_times)
        sent = commit_ticket(shop)
        wait_until(lambda seen=seen: len(printer.first_byte_times) > seen, 10.0, "the ticket is printing")  # type: ignore[misc]
        found.append((printer.first_byte_times[-1] - sent) * 1000)
        papers = len(printer.papers)
        wait_until(lambda papers=papers: len(printer.papers) >= papers, 10.0, "the ticket is cut")  # type: ignore[misc]
        time.sleep(pause.uniform(0.08, 0.16))
    return found


def commit_ticket(shop: Shop) -> float:
    """Write a ticket as the POS does; returns the monotonic time at which its commit had returned."""
    shop.pos.ticket("kitchen", [("Nasi Goreng", 2), ("Es Teh", 1)], table="7")
    return time.monotonic()


@contextlib.contextmanager
def naive_loop(shop: Shop, every_s: float) -> Iterator[None]:
    """The usual design at work, looking every `every_s` seconds."""
    stopping = threading.Event()
    loop = NaiveLoop(shop.server.dsn("pos"), every_s)
    thread = threading.Thread(target=loop.run, args=(stopping,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200)
    chosen = parser.parse_args()
    pause = random.Random(7)
    rows = []
    with open_shop(["kitchen"]) as shop:
        with service(shop):
            measure(shop, 20, pause)
            rows.append(("KPS", measure(shop, chosen.samples, pause)))
        for every_s in (0.1, 2.0):
            samples = chosen.samples if every_s < 1 else max(10, chosen.samples // 10)
            with naive_loop(shop, every_s):
                rows.append((f"polling every {every_s:g} s", measure(shop, samples, pause)))
    base = percentile(rows[0][1], 0.5)
    print(f"{'commit to first byte':24} {'p50 ms':>9} {'p99 ms':>9} {'x KPS':>8} {'n':>5}")
    for name, found in rows:
        middle = percentile(found, 0.5)
        print(f"{name:24} {middle:9.2f} {percentile(found, 0.99):9.2f} {middle / base:8.1f} {len(found):5}")


if __name__ == "__main__":
    main()
