"""Commit to first byte at the printer, on an idle system: KPS beside a loop that polls every 100 ms and every 2 s.

    .venv/bin/python -m bench.latency [--samples 200]

The clock starts when the POS's COMMIT has returned, and stops when the printer sees the ticket's own first byte.
"""

from __future__ import annotations

import argparse
import random
import threading
import time

import psycopg2

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


class Naive(threading.Thread):
    """The usual design: poll, connect, send, close, mark printed."""

    def __init__(self, shop: Shop, every_s: float) -> None:
        super().__init__(daemon=True)
        self._shop = shop
        self._every_s = every_s
        self.stopping = threading.Event()

    def run(self) -> None:
        import socket

        printer = self._shop.printers["kitchen"]
        connection = psycopg2.connect(self._shop.server.dsn("pos"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not self.stopping.is_set():
                cursor.execute("SELECT id FROM kitchen_kitchenticket WHERE status = 'new' ORDER BY id LIMIT 10")
                for (ticket,) in cursor.fetchall():
                    with socket.create_connection((printer.host, printer.port), timeout=5) as wire:
                        wire.sendall(b"\x1b@ticket #%d\n\n\n\x1dV\x00" % ticket)
                    cursor.execute("UPDATE kitchen_kitchenticket SET status = 'printed' WHERE id = %s", (ticket,))
                self.stopping.wait(self._every_s)
        connection.close()


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
            naive = Naive(shop, every_s)
            naive.start()
            samples = chosen.samples if every_s < 1 else max(10, chosen.samples // 10)
            rows.append((f"polling every {every_s:g} s", measure(shop, samples, pause)))
            naive.stopping.set()
            naive.join()
    base = percentile(rows[0][1], 0.5)
    print(f"{'commit to first byte':24} {'p50 ms':>9} {'p99 ms':>9} {'x KPS':>8} {'n':>5}")
    for name, found in rows:
        middle = percentile(found, 0.5)
        print(f"{name:24} {middle:9.2f} {percentile(found, 0.99):9.2f} {middle / base:8.1f} {len(found):5}")


if __name__ == "__main__":
    main()
