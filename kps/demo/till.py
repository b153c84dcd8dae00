"""A POS that takes orders for ever in its own database, for a demonstration in containers."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, TextIO

import psycopg2

from kps.demo.interrupts import Interrupts
from kps.demo.order_book import OrderBook
from kps.demo.orders import CHECKER, PosWriter
from kps.demo.pos_tables import TICKET, create_sql
from kps.demo.shop import STATIONS, PrinterSeed

COMPANY_CODE: Final = "NUSA"
"""The company of `shop.insert_shop`. A database with another company belongs to a real POS."""
AGAIN_S: Final = 2.0
"""Seconds of pause after an error of the database."""


class BadPrinter(ValueError):
    """The text does not name a printer; the message says how it is written."""


class ForeignDatabase(Exception):
    """The tables belong to a real POS: no orders may be invented there."""


@dataclass(frozen=True, slots=True)
class Named:
    """A printer that somebody wrote as NAME=[STATION@]HOST:PORT."""

    name: str
    station: str
    host: str
    port: int


def parse_printer(text: str) -> Named:
    """`kitchen=10.0.0.5:9100`, `k2=kitchen@[::1]:9100` -> its parts; without a station the name is the station.

    Raises BadPrinter.
    """
    name, equals, where = text.partition("=")
    before, at, address = where.rpartition("@")
    station = before.strip() if at else name.strip()
    host, colon, port = address.rpartition(":")
    host = host.strip().removeprefix("[").removesuffix("]")
    if not (equals and colon and name.strip() and station and host and port.isdecimal() and 0 < int(port) < 65536):
        raise BadPrinter(f"{text!r} is no printer: write NAME=HOST:PORT or NAME=STATION@HOST:PORT")
    return Named(name.strip(), station.lower(), host, int(port))


def printer_seeds(printers: Sequence[Named]) -> list[PrinterSeed]:
    """The printer rows of a shop with these printers, so that every station has one.

    The second printer of a station is the backup of its first. A station that nobody named is served by the first
    printer, by a row of its own.
    """
    ranks: dict[str, int] = {}
    seeds = []
    for printer in printers:
        ranks[printer.station] = ranks.get(printer.station, 0) + 1
        seeds.append(
            PrinterSeed(printer.host, printer.port, printer.station, ranks[printer.station], name=printer.name)
        )
    first = printers[0]
    for station in (*STATIONS, CHECKER):
        if station not in ranks:
            seeds.append(PrinterSeed(first.host, first.port, station, name=f"{first.name} ({station})"))
    return seeds


def make_tables(dsn: str) -> None:
    """The POS's tables in an empty database, in one transaction."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(create_sql())


def open_shop(pos: PosWriter, dsn: str, seeds: Sequence[PrinterSeed]) -> None:
    """Tables where there are none, reference data, and the printer rows; on a second start only what differs.

    Raises ForeignDatabase and psycopg2.Error.
    """
    if not pos.rows("SELECT 1 WHERE to_regclass(%s) IS NOT NULL", [TICKET]):
        make_tables(dsn)
    if pos.rows("SELECT 1 FROM core_company WHERE code <> %s LIMIT 1", [COMPANY_CODE]):
        raise ForeignDatabase("the database belongs to a real POS; demo-pos orders only in one that it made itself")
    pos.seed_reference_data()
    for seed in seeds:
        _put_up(pos, seed)


def _put_up(pos: PosWriter, seed: PrinterSeed) -> None:
    known = pos.rows("SELECT id FROM kitchen_stationprinter WHERE printer_name = %s", [seed.name])
    if known:
        pos.update_printer(known[0]["id"], printer_ip=seed.host, printer_port=seed.port)
    else:
        pos.add_printer(seed.host, seed.port, seed.station, seed.priority, seed.name)


def run(
    dsn: str, printers: Sequence[Named], *, rate: float = 20.0, seed: int | None = None, out: TextIO | None = None
) -> int:
    """Order about `rate` times a minute until SIGINT or SIGTERM; returns the exit code.

    0 = ended by a signal, 1 = the database belongs to somebody else. A database that is away is waited for.
    """
    out = out or sys.stdout
    dice, book = random.Random(seed), OrderBook(random.randrange(2**32) if seed is None else seed)
    ready = False
    with Interrupts() as interrupts, PosWriter(dsn) as pos:
        while not interrupts.count:
            try:
                if not ready:
                    open_shop(pos, dsn, printer_seeds(printers))
                    ready = True
                    _say(out, f"open: about {rate:g} orders a minute")
                tickets = pos.place(next(book))
                _say(out, f"ordered: tickets {', '.join(f'#{ticket}' for ticket in tickets)}")
                interrupts.wait(dice.expovariate(rate / 60.0))
            except ForeignDatabase as fault:
                sys.stderr.write(f"kps: {fault}\n")
                return 1
            except psycopg2.Error as fault:
                # The loop goes on whatever happens to the database.
                _say(out, f"database: {' '.join(str(fault).split())}; again in {AGAIN_S:g} s")
                pos.close()
                interrupts.wait(AGAIN_S)
    _say(out, "closed")
    return 0


def _say(out: TextIO, text: str) -> None:
    out.write(text + "\n")
    out.flush()
