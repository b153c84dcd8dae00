"""Printers at real speed: the share of the device's maximum rate that is reached when every ticket is proven.

    .venv/bin/python -m bench.real_speed [--quick]

The maximum is what such printers do at the same time when a plain socket writer pushes the same bytes (those of the
last ticket before) and waits for nothing.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bench.figures import Met, Report, Table, at_least
from bench.goals import Goal
from bench.load import press, wait_slowly
from bench.rig import Printers, Seen, Tills, add_printers, last_ticket, pattern, proven, unproven
from bench.shop import Shop, open_shop, percentile, service, wait_until

ROWS_PER_S = 2400.0
"""300 mm/s at 8 dots/mm (203 dpi)."""
LINE_ROWS = 30
CUT_S = 0.4
BUFFER = 4096
DEVICE: dict[str, Any] = {
    "speed": "real",
    "lines_per_s": ROWS_PER_S / LINE_ROWS,
    "cut_s": CUT_S,
    "receive_buffer": BUFFER,
    "nic_buffer": BUFFER,
}
SLOWEST_S = 2.0
"""More than any ticket takes, for limits of waiting."""


class Unequal(Exception):
    """Papers differ by more than a line, so the rates cannot be compared."""


@dataclass(frozen=True, slots=True)
class Size:
    """Number of printers, and of tickets for each."""

    printers: int
    tickets: int


FULL = Size(8, 26)
QUICK = Size(2, 4)


def measure(quick: bool) -> Report:
    """The rate of KPS with proof, over that of the plain writer."""
    size = QUICK if quick else FULL
    names = [f"p{number:02}" for number in range(1, size.printers + 1)]
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(open_shop([]))
        printers = stack.enter_context(Printers(names, **DEVICE))
        peers = stack.enter_context(Printers(names, **DEVICE))
        tills = stack.enter_context(Tills(shop.server.dsn("pos"), pattern(shop)))
        add_printers(shop, printers, names)
        with service(shop, PROOF_LEVELS=proven(names)):
            wait_slowly(shop, len(names))
            return measure_on(shop, printers, peers, tills, size)


def measure_on(shop: Shop, printers: Printers, peers: Printers, tills: Tills, size: Size) -> Report:
    """The same on such printers of a running service, and as many without a service."""
    names = list(printers.addresses)
    first = last_ticket(shop) + 1
    # Two, because the first ticket of a day is shorter: it names no ticket before it.
    known = _by_printer(press(shop, printers, tills, [(0.0, name) for name in names] * 2).papers, names)
    with _pushing(peers, {name: known[name][-1].raw * size.tickets for name in names}):
        orders = [(0.0, name) for _ in range(size.tickets) for name in names]
        ours = press(shop, printers, tills, orders, size.tickets * SLOWEST_S).papers
        without_proof = unproven(shop, first)
        wait_until(lambda: peers.count() >= len(ours), SLOWEST_S, "the plain writer's tickets are cut")
    return _report(_by_printer(ours, names), _by_printer(peers.take(), names), without_proof)


def _by_printer(papers: Sequence[Seen], names: Sequence[str]) -> dict[str, list[Seen]]:
    found: dict[str, list[Seen]] = {name: [] for name in names}
    for paper in sorted(papers, key=lambda paper: paper.cut):
        found[paper.printer].append(paper)
    return found


@contextlib.contextmanager
def _pushing(peers: Printers, papers: dict[str, bytes]) -> Iterator[None]:
    """Inside: each printer gets its bytes in one go, as fast as it takes them."""
    with contextlib.ExitStack() as stack:
        for name, data in papers.items():
            wire = stack.enter_context(socket.create_connection(peers.addresses[name], timeout=60.0))
            writer = threading.Thread(target=_push, args=(wire, data), daemon=True)
            stack.callback(writer.join)
            stack.callback(wire.shutdown, socket.SHUT_RDWR)  # an interrupted benchmark does not wait for the paper
            writer.start()
        yield


def _push(wire: socket.socket, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # it was shut down before its end
        wire.sendall(data)


def _report(ours: dict[str, list[Seen]], plain: dict[str, list[Seen]], without_proof: int) -> Report:
    usual = min(paper.rows for papers in plain.values() for paper in papers)
    lengths = {paper.rows for papers in (*ours.values(), *plain.values()) for paper in papers}
    if lengths - {usual, usual + LINE_ROWS}:
        raise Unequal(f"the papers are of {sorted(lengths)} dot rows")
    gaps = [gap for name in ours for gap in _gaps(ours[name], usual)]
    free = [gap for name in plain for gap in _gaps(plain[name], usual)]
    lost_ms = [(one - other) * 1000 for one, other in zip(gaps, free, strict=True)]
    share = 100 * sum(free) / sum(gaps)
    proof = f"{without_proof} tickets are not proven" if without_proof else "every ticket proven by its own number"
    note = (
        f"{len(ours)} printers at once; {proof}; the plain writer's tickets take {_mean_ms(free):.1f} ms, "
        f"ours {percentile(lost_ms, 0.5):.1f} ms more at p50, {percentile(lost_ms, 0.99):.1f} ms at p99"
    )
    figure = at_least(Goal.REAL_SPEED, share, "%", len(gaps), note)
    if without_proof:
        figure = replace(figure, met=Met.SHORT)
    return Report((figure,), (_table(gaps, free),))


def _gaps(papers: Sequence[Seen], usual: int) -> list[float]:
    """Seconds from cut to cut, as if all papers were of the usual length.

    A ticket that is printed in another minute than it was ordered says so, in one line more: its time is taken off.
    """
    return [later.cut - earlier.cut - (later.rows - usual) / ROWS_PER_S for earlier, later in pairwise(papers)]


def _mean_ms(values: Sequence[float]) -> float:
    return 1000 * sum(values) / len(values)


def _table(gaps: list[float], free: list[float]) -> Table:
    return Table(
        "Printers at real speed",
        ("", "from cut to cut, mean ms", "tickets a minute", "n"),
        (
            ("KPS, each ticket proven", f"{_mean_ms(gaps):.1f}", f"{60_000 / _mean_ms(gaps):.1f}", str(len(gaps))),
            ("plain writer, no proof", f"{_mean_ms(free):.1f}", f"{60_000 / _mean_ms(free):.1f}", str(len(free))),
        ),
        "What proof costs is the printer's rest between its answer and the next first byte: settle, ask, promise.",
    )


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
