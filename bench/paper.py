"""Document -> bytes: an ordinary ticket of eight items, and one with four lines that are drawn, beside python-escpos.

    .venv/bin/python -m bench.paper [--quick]

All in one warm process, the kinds in turn. python-escpos gets the lines of the same document: text by its own `text()`,
and what its code pages lack as a picture by its own `image()`, drawn before the clock starts.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from PIL import Image, ImageChops

from bench.figures import Figure, Met, Report, Table
from bench.shop import percentile
from kps.core.document import Document, compose
from kps.core.tickets import Before, Chain, Item, PaperFormat, Sibling, Ticket, TicketId
from kps.paper.escpos import render, warm_up
from kps.paper.layout import NativeLine, RasterLine, lay_out

PAPER = PaperFormat(48, 80, "EPSON", "TM-T20III")
NOON = datetime(2026, 11, 23, 12, 31, tzinfo=UTC)
DISHES = (
    Item(2, "Nasi Goreng Kampung", ("Telur mata sapi", "Pedas sedang")),
    Item(1, "Soto Ayam Lamongan", (), "tanpa bawang goreng"),
    Item(3, "Sate Ayam", ("10 tusuk",)),
    Item(1, "Gado-Gado", (), "bumbu dipisah"),
    Item(1, "Crème brûlée"),
    Item(4, "Es Teh Manis", ("Es sedikit",)),
    Item(1, "Ayam Bakar Taliwang"),
    Item(2, "Kerupuk"),
)
SAMPLES = 300
SAMPLES_QUICK = 60
WARM_UP = 20
"""Calls of each kind before the first sample."""
DRAWN = ("宫保鸡丁", "ผัดกะเพราหมู", "김치찌개", "شاي بالنعناع")


def a_ticket(*items: Item) -> Ticket:
    """A ticket of today."""
    return Ticket(
        TicketId(42), "kitchen", False, NOON, NOON, "Asia/Jakarta", "B-0087", "dine_in", "12", None, "", 4, "", "Dewi",
        items, chain=Chain(42, Before(41, NOON, "T5", "")), also_at=(Sibling("BAR", 4),),
    )  # fmt: skip


def with_drawn_lines(names: Sequence[str] = DRAWN) -> Ticket:
    """The same ticket with four dishes whose names no code page has."""
    renamed = (replace(dish, name=name) for dish, name in zip(DISHES, names, strict=False))
    return a_ticket(*renamed, *DISHES[len(names) :])


def new_names(samples: int) -> Iterator[list[str]]:
    """Names of the same letters, each in an order that was not drawn before: nothing of them is kept but the fonts."""
    chance = random.Random(7)
    for number in range(samples):
        yield ["".join(chance.sample(name, len(name))) + str(number) for name in DRAWN]


def peer(document: Document) -> Callable[[], bytes]:
    """The document by python-escpos alone: its text, its pictures, its formatting."""
    with tempfile.TemporaryDirectory(prefix="kps-bench-") as folder:
        before, tempfile.tempdir = tempfile.tempdir, folder  # the import leaves a folder behind
        from escpos.printer import Dummy

        tempfile.tempdir = before
    rows = [(row.line, _image(row)) for row in lay_out(document, PAPER).rows]

    def print_it() -> bytes:
        printer = Dummy(profile="TM-T88III")
        for line, image in rows:
            size = line.size
            printer.set(
                align=line.align.value, bold=line.bold, invert=line.inverse, custom_size=True, width=size.width,
                height=size.height,
            )  # fmt: skip
            if image is None:
                printer.textln(line.text)
            else:
                printer.image(image, impl="bitImageRaster", fragment_height=128)
        printer.print_and_feed(document.feed_lines)
        printer.cut()
        return bytes(printer.output)

    return print_it


def _image(row: NativeLine | RasterLine) -> Image.Image | None:
    if isinstance(row, NativeLine):
        return None
    picture = row.picture
    black = Image.frombytes("1", (picture.width_bytes * 8, picture.height), picture.data)
    return ImageChops.invert(black.convert("L")).crop((0, 0, 512, picture.height))  # the widest that it lets through


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that is timed."""

    name: str
    call: Callable[[], object]
    peer: Callable[[], object] | None = None
    """python-escpos with the same; None = it has nothing of the kind."""


def measure(quick: bool) -> Report:
    """All in one warm process, the kinds in turn."""
    samples = SAMPLES_QUICK if quick else SAMPLES
    kinds = _kinds(samples)
    calls = {kind.name: kind.call for kind in kinds}
    peers = {_peer_name(kind): kind.peer for kind in kinds if kind.peer is not None}
    found = timings({**calls, **peers}, samples)
    return Report(tuple(_figure(kind, found) for kind in kinds if kind.peer is not None), (_table(kinds, found),))


def _kinds(samples: int) -> list[Kind]:
    warm_up()
    plain, mixed = a_ticket(*DISHES), with_drawn_lines()
    plain_document, mixed_document = compose(plain, PAPER), compose(mixed, PAPER)
    drawn = sum(isinstance(row, RasterLine) for row in lay_out(mixed_document, PAPER).rows)
    unseen = iter([compose(with_drawn_lines(names), PAPER) for names in new_names(samples + WARM_UP)])
    return [
        Kind("compose, 8 items", lambda: compose(plain, PAPER)),
        Kind("to bytes, 8 items", lambda: render(plain_document, PAPER), peer(plain_document)),
        Kind(f"to bytes, {drawn} lines drawn", lambda: render(mixed_document, PAPER), peer(mixed_document)),
        Kind(f"to bytes, {drawn} lines never seen", lambda: render(next(unseen), PAPER)),
    ]


def _peer_name(kind: Kind) -> str:
    return f"{kind.name}, python-escpos"


def timings(kinds: dict[str, Callable[[], object]], samples: int) -> dict[str, list[float]]:
    """Milliseconds of each call, in rounds over all kinds."""
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for call in kinds.values():
        for _ in range(WARM_UP):
            call()
    gc.collect()
    for _ in range(samples):
        for name, call in kinds.items():
            begun = time.perf_counter()
            call()
            found[name].append((time.perf_counter() - begun) * 1000)
    return found


def _figure(kind: Kind, found: dict[str, list[float]]) -> Figure:
    ours, theirs = (percentile(found[name], 0.5) for name in (kind.name, _peer_name(kind)))
    figure = f"{ours:.2f} ms; python-escpos takes {theirs / ours:.1f} times as long"
    return Figure(f"{kind.name}, p50", "", figure, Met.NONE, len(found[kind.name]))


def _table(kinds: Sequence[Kind], found: dict[str, list[float]]) -> Table:
    rows = []
    for kind in kinds:
        rows.append(_row(kind.name, found[kind.name], None))
        if kind.peer is not None:
            rows.append(_row(_peer_name(kind), found[_peer_name(kind)], percentile(found[kind.name], 0.5)))
    text = "python-escpos gets the lines of the same document, and finished pictures; KPS also draws them."
    return Table("A ticket's document to bytes", ("", "p50 ms", "p99 ms", "times KPS", "samples"), tuple(rows), text)


def _row(name: str, times: list[float], base: float | None) -> tuple[str, ...]:
    middle = percentile(times, 0.5)
    ratio = "" if base is None else f"{middle / base:.1f}"
    return (name, f"{middle:.3f}", f"{percentile(times, 0.99):.3f}", ratio, str(len(times)))


if __name__ == "__main__":
    from bench.single import main

    main(measure, __doc__)
