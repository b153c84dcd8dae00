"""Document -> bytes: an ordinary ticket of eight items, and one with four lines that are drawn, beside python-escpos.

    .venv/bin/python -m bench.paper [--samples 300]

All in one warm process, the kinds in turn. python-escpos gets the lines of the same document: text by its own `text()`,
and what its code pages lack as a picture by its own `image()`, drawn before the clock starts.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from PIL import Image, ImageChops

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
    from escpos.printer import Dummy

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


def measure(kinds: dict[str, Callable[[], object]], samples: int) -> dict[str, list[float]]:
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    chosen = parser.parse_args()
    warm_up()
    plain, mixed = a_ticket(*DISHES), with_drawn_lines()
    plain_document, mixed_document = compose(plain, PAPER), compose(mixed, PAPER)
    drawn = sum(isinstance(row, RasterLine) for row in lay_out(mixed_document, PAPER).rows)
    new_documents = [compose(with_drawn_lines(names), PAPER) for names in new_names(chosen.samples + WARM_UP)]
    unseen = iter(new_documents)
    found = measure(
        {
            "compose, 8 items": lambda: compose(plain, PAPER),
            "to bytes, 8 items": lambda: render(plain_document, PAPER),
            "python-escpos, the same": peer(plain_document),
            f"to bytes, {drawn} lines drawn": lambda: render(mixed_document, PAPER),
            "python-escpos, the same ": peer(mixed_document),
            f"to bytes, {drawn} never seen": lambda: render(next(unseen), PAPER),
        },
        chosen.samples,
    )
    print(f"{'document to bytes':28} {'p50 ms':>9} {'p99 ms':>9} {'x KPS':>8} {'n':>5}")
    ours = 0.0
    for name, times in found.items():
        middle = percentile(times, 0.5)
        peers = name.startswith("python-escpos")
        ours = ours if peers else middle
        ratio = f"{middle / ours:8.1f}" if peers else " " * 8
        print(f"{name:28} {middle:9.3f} {percentile(times, 0.99):9.3f} {ratio} {len(times):5}")


if __name__ == "__main__":
    main()
