"""Upper limits without a database: python-escpos' Network in a plain loop, and a loop that asks for each paper.

    .venv/bin/python -m bench.ceiling [--papers 1000]

One process for each printer, its connection held. The plain loop asks nothing; the other waits after each paper for
the printer's own word that it is cut, which is the most that these printers can prove.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier

from bench.rig import Printers, Seen
from bench.shop import wait_until
from bench.single import end_in_order

STATIONS = ("kitchen", "bar", "grill", "dessert")
LIMIT_S = 60.0
LOOK_EVERY_S = 0.01
_spawn = get_context("spawn")

Send = Callable[[tuple[str, int], Sequence[bytes], Barrier], None]
"""Connect, wait for the others, send. The main function of a process."""


def plain_rate(printers: Printers, papers: Mapping[str, Sequence[bytes]]) -> float:
    """Papers a second, from the start to the last cut, by python-escpos' Network. `papers` by printer."""
    return _rate(printers, papers, _send_plainly)


def asked_rate(printers: Printers, papers: Mapping[str, Sequence[bytes]]) -> float:
    """The same, each paper sent only when the printer has said that the one before is cut."""
    return _rate(printers, papers, _send_and_ask)


def _rate(printers: Printers, papers: Mapping[str, Sequence[bytes]], send: Send) -> float:
    printers.take()
    start = _spawn.Barrier(len(papers) + 1)
    senders = [
        _spawn.Process(target=send, args=(printers.addresses[name], list(own), start), daemon=True)
        for name, own in papers.items()
    ]
    try:
        for sender in senders:
            sender.start()
        start.wait(LIMIT_S)
        began = time.monotonic()
        seen = wait_cut(printers, sum(map(len, papers.values())))
        for sender in senders:
            sender.join(LIMIT_S)
    finally:
        for sender in senders:
            if sender.is_alive():
                sender.kill()
                sender.join()
    return len(seen) / (max(one.cut for one in seen) - began)


def wait_cut(printers: Printers, count: int) -> list[Seen]:
    """Wait for so many papers more than were taken last. Raises TimeoutError."""
    seen: list[Seen] = []

    def all_cut() -> bool:
        seen.extend(printers.take())
        return len(seen) >= count

    wait_until(all_cut, LIMIT_S, f"{count} papers are cut", every_s=LOOK_EVERY_S)
    return seen


def _send_plainly(address: tuple[str, int], papers: Sequence[bytes], start: Barrier) -> None:
    with tempfile.TemporaryDirectory(prefix="kps-bench-") as folder:
        tempfile.tempdir = folder  # the import leaves a folder behind
        from escpos.printer import Network
    tempfile.tempdir = None
    printer = Network(*address, timeout=LIMIT_S)
    printer.open()
    start.wait(LIMIT_S)
    for paper in papers:
        printer._raw(paper)
    printer.close()


def _send_and_ask(address: tuple[str, int], papers: Sequence[bytes], start: Barrier) -> None:
    with socket.create_connection(address, timeout=LIMIT_S) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start.wait(LIMIT_S)
        for number, paper in enumerate(papers):
            name = f"{number % 10_000:04}".encode()
            wire.sendall(paper + b"\x1d(H\x06\x0000" + name)  # GS ( H function 48: say this when all before it is done
            said = b""
            while not said.endswith(b"7\x22" + name + b"\0"):
                more = wire.recv(64)
                if not more:
                    raise ConnectionError("the printer has closed the connection")
                said += more


def ordinary(count: int) -> dict[str, list[bytes]]:
    """So many papers of eight items in all, shared by the stations, as KPS writes them."""
    from bench.paper import DISHES, PAPER, a_ticket  # not needed by the processes that send
    from kps.core.document import compose
    from kps.paper.escpos import render

    paper = render(compose(a_ticket(*DISHES), PAPER), PAPER)
    return {name: [paper] * (count // len(STATIONS)) for name in STATIONS}


def main() -> None:
    """Print both rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--papers", type=int, default=1000)
    chosen = parser.parse_args()
    end_in_order()
    papers = ordinary(chosen.papers)
    with Printers(STATIONS, processes=len(STATIONS)) as printers:
        print(f"python-escpos, a plain loop   {plain_rate(printers, papers):7.0f} papers/s")
        print(f"asked after each paper        {asked_rate(printers, papers):7.0f} papers/s")


if __name__ == "__main__":
    main()
