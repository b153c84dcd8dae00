"""What faults cost: seconds and milliseconds until the next ticket's first byte, with printers and processes failing.

    .venv/bin/python -m bench.faults [--quick]

Every time runs from the return of the POS's COMMIT, or from the fault where that comes later, to the ticket's own first
byte at the printer that prints it. Tickets come one at a time; a fault is made anew for each sample of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.beside import OPEN
from bench.figures import Figure, Met, Report, Table, at_most, stated
from bench.goals import Goal
from bench.naive import NaiveLoop
from bench.report import show
from bench.shop import SERVICE, Instance, Shop, kill, open_shop, percentile, wait_until
from bench.single import end_in_order
from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import Paper, VirtualPrinter, cable

STATIONS = ["hot", "cold", "grill", "wok", "fry", "bar", "dead", "hung"]
"""Each has a printer of its name; the last two are those that fail in `isolation`."""
HEALTHY = STATIONS[:6]
SLOW = ["slow-taken", "slow-sending"]
"""Two more printers, which take seconds for a ticket, so that they can fail in the middle of one."""
SLOW_DEVICE: dict[str, Any] = {
    "speed": "real", "lines_per_s": 6.0, "cut_s": 0.1, "nic_buffer": 64, "receive_buffer": 64, "keep_raw": 0,
}  # fmt: skip
SLOW_TIMEOUT_S = 1
HOLD_S = 2
HELD_AFTER_LINES = 3
OPEN_SLIPS = "SELECT 1 FROM kps.slip WHERE state IN ('new', 'claimed', 'sending')"
OFF = "UPDATE kitchen_stationprinter SET is_active = false WHERE station_code = ANY (%s)"
BEGUN = 200
"""Bytes from which a printer has begun a ticket: the status requests before it are only some dozens."""
FEW_LINES, MANY_LINES = 8, 300
"""Lines of a ticket that fits into the printer's buffers, and of one that does not."""
PRINT_LIMIT_S = 30.0
PAUSE_S = (0.02, 0.05)
"""Seconds between two tickets, at random: the system is idle again, and not in step with any poll."""
SUPERVISORD_TRUSTS_S = 1.2
"""Uptime in seconds after which supervisord restarts the service at once: more than startsecs."""

SUPERVISORD = f"""
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile=%(ENV_RUN_DIR)s.pid

[unix_http_server]
file=%(ENV_RUN_DIR)s.sock
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[program:kps]
command={" ".join(SERVICE)}
autorestart=true
startsecs=1
stopwaitsecs=30
killasgroup=true
redirect_stderr=true
stdout_logfile=/dev/fd/1
stdout_logfile_maxbytes=0

[eventlistener:fatal]
command={sys.executable} -m kps.fatal_listener
events=PROCESS_STATE_FATAL,PROCESS_STATE_RUNNING
stdout_logfile=NONE
stderr_logfile=/dev/fd/2
stderr_logfile_maxbytes=0
"""
"""The relevant parts of the shipped file, with a shorter startsecs, so that samples take less time."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Number of samples of each fault."""

    idle: int
    known_down: int
    just_off: int
    mid_ticket: int
    holds: int
    printer_kills: int
    service_kills: int
    take_overs: int
    naive: int


QUICK = Sizes(24, 20, 8, 1, 1, 2, 1, 1, 0)
FULL = Sizes(200, 200, 200, 3, 5, 6, 3, 2, 12)


@dataclass(frozen=True, slots=True)
class Pair:
    """A station's primary printer and its backup."""

    station: str
    primary: VirtualPrinter
    backup: VirtualPrinter


class Tickets:
    """Writes tickets as the POS does, and finds their paper."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._chance = random.Random(7)

    def pause(self) -> None:
        """Wait as long as between two orders."""
        time.sleep(self._chance.uniform(*PAUSE_S))

    def write(self, station: str, lines: int = 2) -> int:
        """Commit a ticket with so many items; returns its id."""
        return self._shop.pos.ticket(station, [(f"Nasi Goreng {number}", 1) for number in range(lines)], table="7")

    def first_byte_ms(self, station: str, printer: VirtualPrinter, lines: int = 2) -> float:
        """Milliseconds from the commit of a ticket to its first byte at this printer."""
        known = len(printer.papers)
        ticket = self.write(station, lines)
        committed = time.monotonic()
        return (paper_of(printer, ticket, known).t_first_byte - committed) * 1000

    def idle(self, stations: Sequence[str], samples: int) -> list[float]:
        """The same for so many tickets, stations in turn."""
        found = []
        for number in range(samples):
            station = stations[number % len(stations)]
            found.append(self.first_byte_ms(station, self._shop.printers[station]))
            self.pause()
        return found


def paper_of(printer: VirtualPrinter, ticket: int, known: int = 0) -> Paper:
    """The whole paper of a ticket as soon as it is cut; the first `known` papers are not looked at."""
    code = f"#{ticket}"
    found: list[Paper] = []

    def there() -> bool:
        found[:] = [paper for paper in printer.papers[known:] if paper.complete and code in paper.text.split("\n")]
        return bool(found)

    printer.wait_for(there, PRINT_LIMIT_S, f"ticket {code}")
    return found[0]


def wait_state(shop: Shop, printer: VirtualPrinter, state: str) -> None:
    """Wait until the owner of a printer has recorded this state."""
    key = f":{printer.host}:{printer.port}"

    def there() -> bool:
        rows = shop.pos.rows("SELECT state FROM kps.printer WHERE printer_key = %s", [key])
        return bool(rows) and rows[0]["state"] == state

    wait_until(there, PRINT_LIMIT_S, f"{printer.name} is {state}", every_s=0.02)


@contextlib.contextmanager
def dead_and_hung(shop: Shop) -> Iterator[None]:
    """Inside: one printer is gone without closing its connection, and one accepts connections and never reads."""
    dead, hung = shop.printers["dead"], shop.printers["hung"]
    dead.power_off(silently=True)
    hung.hang()
    try:
        yield
    finally:
        hung.hang(False)
        dead.power_on()


def beside_trouble(tickets: Tickets, samples: int) -> list[float]:
    """Times of the healthy stations; the two others get a ticket before every fourth one."""
    found = []
    for part in range(max(1, samples // 4)):
        tickets.write("dead")
        tickets.write("hung")
        found += tickets.idle([HEALTHY[(4 * part + number) % len(HEALTHY)] for number in range(4)], 4)
    return found


def isolation(shop: Shop, sizes: Sizes) -> tuple[list[Figure], Table]:
    """Times of the healthy printers, without and with a dead and a hung one among the eight."""
    tickets = Tickets(shop)
    without = tickets.idle(HEALTHY, sizes.idle)
    if not cable.may_pull():
        table = Table("One printer's trouble is its own", HEADER, (_row("8 healthy printers", without),))
        return [_no_cable(Goal.ISOLATION)], table
    with dead_and_hung(shop):
        beside = beside_trouble(tickets, sizes.idle)
    change = percentile(beside, 0.99) - percentile(without, 0.99)
    note = f"p99 {percentile(without, 0.99):.1f} ms without, {percentile(beside, 0.99):.1f} ms with them"
    figure = at_most(Goal.ISOLATION, change, "ms", len(beside), note)
    rows = (_row("8 healthy printers", without), _row("2 of 8 dead and hung, tickets for them too", beside))
    return [figure], Table("One printer's trouble is its own", HEADER, rows)


def _no_cable(goal: Goal) -> Figure:
    return stated(goal, f"not measured: {cable.NOT_ALLOWED}", Met.SHORT)


def pairs(shop: Shop) -> list[Pair]:
    """Give each station the next one's printer as its backup; the slow ones get two that no other pair uses."""
    found = []
    for number, station in enumerate(STATIONS):
        backup = shop.printers[STATIONS[(number + 1) % len(STATIONS)]]
        found.append(Pair(station, shop.printers[station], backup))
    found += [Pair(slow, shop.printers[slow], shop.printers[HEALTHY[-1 - n]]) for n, slow in enumerate(SLOW)]
    for pair in found:
        shop.pos.add_printer(pair.backup.host, pair.backup.port, pair.station, 2, pair.backup.name, timeout_seconds=5)
    return found


def known_down(shop: Shop, pair: Pair, samples: int) -> list[float]:
    """The primary refuses, and the service knows it."""
    tickets = Tickets(shop)
    pair.primary.power_off()
    try:
        wait_state(shop, pair.primary, "down")
        found = []
        for _ in range(samples):
            found.append(tickets.first_byte_ms(pair.station, pair.backup))
            tickets.pause()
    finally:
        pair.primary.power_on()
    return found


def just_off(shop: Shop, ring: Sequence[Pair], samples: int) -> list[float]:
    """The very first ticket after a primary has gone off, each time another one."""
    tickets = Tickets(shop)
    found = []
    for number in range(samples):
        pair = ring[number % len(ring)]
        wait_state(shop, pair.primary, "ready")
        wait_state(shop, pair.backup, "ready")
        tickets.pause()
        pair.primary.power_off()
        try:
            found.append(tickets.first_byte_ms(pair.station, pair.backup))
        finally:
            pair.primary.power_on()
    return found


def dead_in_mid_ticket(shop: Shop, pair: Pair, samples: int, lines: int) -> list[float]:
    """Seconds from the silent death of a primary that has begun a ticket to the first byte on the backup."""
    tickets = Tickets(shop)
    found = []
    for _ in range(samples):
        wait_state(shop, pair.primary, "ready")
        wait_state(shop, pair.backup, "ready")
        wait_until(lambda: not _slips_for(shop, pair), PRINT_LIMIT_S, "no slip is inside", every_s=0.02)
        known, before = len(pair.backup.papers), pair.primary.bytes_in
        ticket = tickets.write(pair.station, lines)
        taken = before + BEGUN
        pair.primary.wait_for(lambda taken=taken: pair.primary.bytes_in > taken, PRINT_LIMIT_S, "it has begun")  # type: ignore[misc]
        died = time.monotonic()
        with gone_without_a_word(pair.primary):
            found.append(paper_of(pair.backup, ticket, known).t_first_byte - died)
    return found


def _slips_for(shop: Shop, pair: Pair) -> bool:
    """Whether a slip for this station or this printer is still to be printed."""
    key = f":{pair.primary.host}:{pair.primary.port}"
    return bool(shop.pos.rows(f"{OPEN_SLIPS} AND (station = %s OR %s IN (target, printer_key))", [pair.station, key]))


@contextlib.contextmanager
def gone_without_a_word(printer: VirtualPrinter) -> Iterator[None]:
    """Inside: nothing is read, acknowledged or refused. It hangs, too: closing with unread data would send a reset."""
    printer.hang()
    printer.pull_cable()
    try:
        yield
    finally:
        printer.hang(False)
        printer.power_off()
        printer.power_on()


@dataclass(frozen=True, slots=True)
class Blocked:
    """Times with a printer that is out of paper in mid-ticket: seconds of that ticket, milliseconds of others."""

    stuck: list[float]
    next: list[float]
    """Tickets that follow at once, when it may not be known yet that the printer is blocked."""
    later: list[float]


def blocked(shop: Shop, pair: Pair, holds: int) -> Blocked:
    """The paper ends in mid-ticket; the stuck ticket and all others come out of the backup."""
    tickets = Tickets(shop)
    found = Blocked([], [], [])
    for _ in range(holds):
        wait_state(shop, pair.primary, "ready")
        wait_state(shop, pair.backup, "ready")
        wait_until(lambda: not _slips_for(shop, pair), PRINT_LIMIT_S, "no slip is inside", every_s=0.02)
        known = len(pair.backup.papers)
        pair.primary.paper_out(after_lines=HELD_AFTER_LINES)
        ticket = tickets.write(pair.station)
        pair.primary.wait_for(lambda: pair.primary.sensors.paper_end, PRINT_LIMIT_S, "the paper has ended")
        began = time.monotonic()
        try:
            found.next.append(tickets.first_byte_ms(pair.station, pair.backup))
            while not found.later or time.monotonic() - began < HOLD_S * 0.9:
                tickets.pause()
                found.later.append(tickets.first_byte_ms(pair.station, pair.backup))
            found.stuck.append(paper_of(pair.backup, ticket, known).t_first_byte - began)
        finally:
            pair.primary.load_paper()
    return found


def failover(shop: Shop, instance: Instance, sizes: Sizes) -> tuple[list[Figure], Table]:
    """Every way in which a primary fails its ticket."""
    ring = pairs(shop)
    wait_until(lambda: _knows(instance, len(shop.printers) + len(ring)), 20.0, "the backups are known", every_s=0.05)
    instance.wait_ready(len(shop.printers) + len(ring))
    down = known_down(shop, ring[0], sizes.known_down)
    first = just_off(shop, ring[: len(STATIONS)], sizes.just_off)
    wait_until(lambda: not shop.pos.rows(OPEN_SLIPS), PRINT_LIMIT_S, "no slip is inside", every_s=0.02)
    with ThreadPoolExecutor(len(SLOW) + 1) as pool:  # three pairs that share no printer, and no wait
        deaths = sizes.mid_ticket if cable.may_pull() else 0
        one = pool.submit(_by_its_own_till, shop, lambda own: dead_in_mid_ticket(own, ring[-2], deaths, FEW_LINES))
        two = pool.submit(_by_its_own_till, shop, lambda own: dead_in_mid_ticket(own, ring[-1], deaths, MANY_LINES))
        held = blocked(shop, ring[1], sizes.holds)
        taken, sending = one.result(), two.result()
    shop.pos.execute(OFF, [SLOW])
    others = [*held.next, *held.later]
    figures = [
        at_most(Goal.KNOWN_DOWN, percentile(down, 0.99), "ms", len(down)),
        at_most(Goal.JUST_OFF, percentile(first, 0.99), "ms", len(first)),
        _mid_ticket_figure(taken, sending),
        at_most(Goal.BLOCKED_INSIDE, max(held.stuck), "s", len(held.stuck),
                f"worst; HOLD_SECONDS = {HOLD_S}", limit=HOLD_S + 1.0),
        at_most(Goal.BLOCKED_OTHERS, percentile(others, 0.99), "ms", len(others),
                f"right behind it: worst {max(held.next):.0f} ms of {len(held.next)};"
                f" later: worst {max(held.later):.0f} ms of {len(held.later)}"),
    ]  # fmt: skip
    rows = (
        _row("known down", down),
        _row("off a moment ago", first),
        _row("blocked, the ticket right behind", held.next),
        _row("blocked, later tickets", held.later),
        _row("blocked, the ticket inside", [1000 * one for one in held.stuck]),
        *([_row("silently dead, ticket in the printer", [1000 * one for one in taken])] if taken else []),
        *([_row("silently dead, ticket half sent", [1000 * one for one in sending])] if sending else []),
    )
    text = f"HOLD_SECONDS={HOLD_S}, timeout_seconds={SLOW_TIMEOUT_S} where a printer dies in mid-ticket."
    return figures, Table("Commit (or death) to first byte on the backup", HEADER, rows, text)


def _mid_ticket_figure(taken: list[float], sending: list[float]) -> Figure:
    if not (taken and sending):
        return _no_cable(Goal.MID_TICKET)
    dying = [*taken, *sending]
    note = (
        f"a timeout of {SLOW_TIMEOUT_S} s; worst of {len(taken)} with all of the ticket in the printer"
        f" ({max(taken):.2f} s) and {len(sending)} with a part of it unsent ({max(sending):.2f} s)"
    )
    return at_most(Goal.MID_TICKET, max(dying), "s", len(dying), note, limit=SLOW_TIMEOUT_S + 1.0)


def _by_its_own_till(shop: Shop, work: Callable[[Shop], list[float]]) -> list[float]:
    """For threads: work with a POS connection of its own."""
    with PosWriter(shop.server.dsn("pos")) as pos:
        return work(replace(shop, pos=pos))


def _knows(instance: Instance, rows: int) -> bool:
    status = instance.status()
    return status is not None and len(status["printers"]) >= rows


def printer_kills(shop: Shop, instance: Instance, count: int) -> list[float]:
    """Seconds from kill -9 of an idle printer process to the first byte of the ticket that follows; each printer once.

    A process that dies again within a minute is started later, so a second turn would measure that.
    """
    tickets = Tickets(shop)
    found = []
    for station in HEALTHY[:count]:
        pid = instance.children()[station]
        os.kill(pid, signal.SIGKILL)
        found.append(tickets.first_byte_ms(station, shop.printers[station]) / 1000)
    return found


def service_pids(instance: Instance) -> dict[int, str]:
    """The processes of the service that supervisord runs, with their names."""
    found = {}
    for pid in instance.family():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            kind, _, name = Path(f"/proc/{pid}/comm").read_text().strip().partition(":")
            if kind == "kps":
                found[pid] = name
    return found


def service_kills(shop: Shop, instance: Instance, count: int, *, all_of_it: bool) -> list[float]:
    """Seconds from kill -9 of the service to the first byte of the ticket that follows; supervisord restarts it."""
    tickets = Tickets(shop)
    found = []
    for number in range(count):
        wait_until(lambda: _trusted(instance), PRINT_LIMIT_S, "supervisord trusts the service", every_s=0.05)
        station = HEALTHY[number % len(HEALTHY)]
        wait_state(shop, shop.printers[station], "ready")
        pids = service_pids(instance)
        kill(pids if all_of_it else [pid for pid, name in pids.items() if name == "supervisor"])
        found.append(tickets.first_byte_ms(station, shop.printers[station]) / 1000)
    return found


def _trusted(instance: Instance) -> bool:
    status = instance.status()
    return status is not None and status["uptime_seconds"] > SUPERVISORD_TRUSTS_S


def take_overs(shop: Shop, first: Instance, count: int, **settings: object) -> list[float]:
    """The seconds of `take_over`, one host after the other. The last successor is ended."""
    found = []
    with contextlib.ExitStack() as stack:
        owner = first
        for number in range(count):
            successor = stack.enter_context(Instance(shop, f"successor-{number}", SERVICE, **settings))
            successor.wait_ready(len(STATIONS))
            found += take_over(shop, owner, HEALTHY[:3])
            owner = successor
    return found


def take_over(
    shop: Shop, owner: Instance, stations: Sequence[str], meanwhile: Callable[[], None] | None = None
) -> list[float]:
    """Seconds from the end of an instance's host to the first byte of the ticket that follows, by another instance.

    A ticket for each of several printers, because they are taken over one after the other. `meanwhile` is called while
    all wait.
    """
    for station in stations:
        wait_state(shop, shop.printers[station], "ready")
    known = {station: len(shop.printers[station].papers) for station in stations}
    owner.kill_all()
    killed = time.monotonic()
    written = {station: Tickets(shop).write(station) for station in stations}
    if meanwhile is not None:
        meanwhile()
    papers = [paper_of(shop.printers[station], ticket, known[station]) for station, ticket in written.items()]
    return [paper.t_first_byte - killed for paper in papers]


def take_over_figure(found: list[float]) -> Figure:
    """The worst of them against the goal."""
    return at_most(Goal.TAKE_OVER, max(found), "s", len(found), f"worst; the best {min(found):.2f} s")


@dataclass(frozen=True, slots=True)
class Loop:
    """The same with a loop that polls each 100 ms, in milliseconds."""

    without: list[float]
    beside: list[float]
    """With the dead and the hung printer."""
    down: list[float]
    """On the backup of a primary that refuses."""


def naive_in_trouble(shop: Shop, samples: int) -> Loop:
    """Isolation and failover with the usual design."""
    tickets = Tickets(shop)
    stopping = threading.Event()
    loop = NaiveLoop(shop.server.dsn("pos"), 0.1)
    thread = threading.Thread(target=loop.run, args=(stopping,), daemon=True)
    thread.start()
    try:
        without = tickets.idle(HEALTHY, samples)
        primary, backup = shop.printers[HEALTHY[0]], shop.printers[HEALTHY[1]]
        primary.power_off()
        down = []
        for _ in range(samples):
            down.append(tickets.first_byte_ms(HEALTHY[0], backup))
            tickets.pause()
        primary.power_on()
        beside = []
        if cable.may_pull():
            with dead_and_hung(shop):
                beside = beside_trouble(tickets, samples)
    finally:
        stopping.set()
        thread.join()
    return Loop(without, beside, down)


HEADER = ("", "p50 ms", "p99 ms", "worst ms", "n")


def _row(name: str, found: list[float]) -> tuple[str, ...]:
    return (name, f"{percentile(found, 0.5):.1f}", f"{percentile(found, 0.99):.1f}", f"{max(found):.1f}",
            str(len(found)))  # fmt: skip


def _kill_figures(printer: list[float], service: list[float], alone: list[float], over: list[float]) -> list[Figure]:
    note = (
        f"worst; the supervisor's process alone, its children alive: {max(alone):.2f} s of {len(alone)}"
        if alone
        else ""
    )
    return [
        at_most(Goal.PRINTER_KILLED, 1000 * max(printer), "ms", len(printer),
                f"worst; p50 {1000 * percentile(printer, 0.5):.0f} ms"),
        at_most(Goal.SERVICE_KILLED, max(service), "s", len(service), note),
        *([take_over_figure(over)] if over else []),
    ]  # fmt: skip


def measure(quick: bool) -> Report:
    """All faults, on one shop of ten printers."""
    return measure_sizes(QUICK if quick else FULL)


def measure_sizes(sizes: Sizes, opened: Callable[[], None] | None = None) -> Report:
    """The same; `opened` is called when database and printers are there, and returns when the rest may begin."""
    settings = {"HOLD_SECONDS": HOLD_S}
    with open_shop(STATIONS) as shop, contextlib.ExitStack() as stack:
        for name in SLOW:
            slow = shop.printers[name] = stack.enter_context(VirtualPrinter(name=name, **SLOW_DEVICE))
            shop.pos.add_printer(slow.host, slow.port, name, 1, name, timeout_seconds=SLOW_TIMEOUT_S)
        conf = shop.folder / "supervisord.conf"
        conf.write_text(SUPERVISORD)
        command = (sys.executable, "-m", "supervisor.supervisord", "-c", str(conf))
        if opened is not None:
            opened()
        with Instance(shop, "first", command, **settings) as instance:
            instance.wait_ready(len(shop.printers))
            isolated, isolation_table = isolation(shop, sizes)
            killed = printer_kills(shop, instance, sizes.printer_kills)
            failed_over, failover_table = failover(shop, instance, sizes)
            restarted = service_kills(shop, instance, sizes.service_kills, all_of_it=True)
            alone = service_kills(shop, instance, sizes.service_kills, all_of_it=False) if sizes.naive else []
            over = take_overs(shop, instance, sizes.take_overs, **settings)
        if sizes.naive:
            loop = naive_in_trouble(shop, sizes.naive)
            isolated = [_beside(figure, loop) for figure in isolated]
            failed_over = [_failed_over_beside(figure, loop) for figure in failed_over]
    kills = _kill_figures(killed, restarted, alone, over)
    return Report((*isolated, *failed_over, *kills), (isolation_table, failover_table))


def _beside(figure: Figure, loop: Loop) -> Figure:
    """The figure of isolation with the loop's in the same trouble."""
    if not loop.beside:
        return figure
    without, beside = percentile(loop.without, 0.99), percentile(loop.beside, 0.99)
    return replace(
        figure,
        figure=f"{figure.figure}; (b) {beside - without:.0f} ms",
        note=f"{figure.note}; a loop that polls each 100 ms: {without:.0f} ms without,"
        f" {beside:.0f} ms with them, the worst of {len(loop.beside)} samples",
    )


def _failed_over_beside(figure: Figure, loop: Loop) -> Figure:
    """The figures of a primary that refuses with the loop's, which knows no other trouble."""
    if figure.what not in (Goal.KNOWN_DOWN.what, Goal.JUST_OFF.what):
        return figure
    middle = percentile(loop.down, 0.5)
    return replace(figure, figure=f"{figure.figure}; (b) {middle:.0f} ms at p50 of {len(loop.down)}, unproven")


def main() -> None:
    """Print the report, or write it to the file given by --beside."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--no-take-over", action="store_true")
    parser.add_argument("--beside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    end_in_order()
    sizes = QUICK if chosen.quick else FULL
    if chosen.no_take_over:
        sizes = replace(sizes, take_overs=0)
    if chosen.beside is None:
        show(measure_sizes(sizes))
    else:
        chosen.beside.write_bytes(pickle.dumps(measure_sizes(sizes, _wait_for_the_word)))


def _wait_for_the_word() -> None:
    sys.stdout.buffer.write(OPEN)
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    main()
