"""What a start costs: exec to the first claimed ticket with four printers, and what is imported for it.

    .venv/bin/python -m bench.start [--quick]

A ticket waits for each start. The clock runs from before the fork; the claim is seen by asking the database each 2 ms.
"""

from __future__ import annotations

import compileall
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kps
from bench.faults import paper_of
from bench.figures import Figure, Report, Table, at_most
from bench.goals import Goal
from bench.rig import unfinished
from bench.shop import Instance, Shop, open_shop, percentile, wait_until

STATIONS = ["hot", "cold", "grill", "bar"]
LIMIT_S = 30.0
STARTS = 6
PARTS = {
    "supervisor": "import kps.supervisor.main",
    "HTTP of the supervisor, once the children are up": "import kps.web.app, kps.web.server",
    "template": "from kps.supervisor.child_main import STEPS\nfor step in STEPS: step()",
}
"""What is imported at a start. Dispatcher and printers are copies of the template and import nothing."""
DEAREST = 3
"""So many packages are named in a note."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start; seconds from before the fork."""

    claimed: float
    first_byte: float
    all_ready: float


def starts(shop: Shop, count: int) -> list[Start]:
    """Start the service so many times, each time with a ticket that waits.

    The first one, which migrates, is left out unless it is the only one.
    """
    found = []
    for number in range(count + 1):
        instance = Instance(shop)
        try:
            found.append(start(shop, instance, STATIONS[number % len(STATIONS)]))
        finally:
            instance.end()
    return found[1:] or found


def start(shop: Shop, instance: Instance, station: str) -> Start:
    """Start it while a ticket waits for this station; it goes on running."""
    printer = shop.printers[station]
    known = len(printer.papers)
    ticket = shop.pos.ticket(station, [("Nasi Goreng", 1)], table="7")
    began = instance.start()
    wait_until(lambda: _claimed(shop, ticket), LIMIT_S, "the first ticket is claimed")
    claimed = time.monotonic() - began
    first_byte = paper_of(printer, ticket, known).t_first_byte - began
    instance.wait_ready(len(shop.printers))
    return Start(claimed, first_byte, time.monotonic() - began)


def compile_all() -> None:
    """Compile all modules, as an installation does, even where Python is set not to write compiled files."""
    compileall.compile_dir(Path(kps.__file__).parent, quiet=1)


def naive_starts(shop: Shop, count: int) -> list[float]:
    """Seconds until the usual design, one process, has claimed a ticket that waits."""
    found = []
    for _ in range(count):
        ticket = shop.pos.ticket(next(iter(shop.printers)), [("Nasi Goreng", 1)], table="7")
        loop = Instance(shop, "naive", (sys.executable, "-m", "bench.naive"))
        try:
            began = loop.start()
            wait_until(lambda ticket=ticket: _claimed(shop, ticket), LIMIT_S, "the loop has claimed")  # type: ignore[misc]
            found.append(time.monotonic() - began)
            wait_until(lambda: unfinished(shop) == 0, LIMIT_S, "the loop has printed")
        finally:
            loop.end()
    return found


def _claimed(shop: Shop, ticket: int) -> bool:
    (row,) = shop.pos.rows("SELECT status FROM kitchen_kitchenticket WHERE id = %s", [ticket])
    return bool(row["status"] != "new")


def cpu_ms(program: str, times: int) -> float:
    """Median processor milliseconds of an interpreter that runs this; the files are in the cache."""
    found = []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return percentile(found, 0.5)


def dearest_imports(program: str) -> list[tuple[str, float]]:
    """(package, milliseconds of its own modules) by `-X importtime`, the dearest first."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], check=True, capture_output=True, text=True
    )
    spent: dict[str, float] = {}
    for own_us, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", run.stderr, re.MULTILINE):
        package = name.split(".")[0]
        spent[package] = spent.get(package, 0.0) + int(own_us) / 1000
    return sorted(spent.items(), key=lambda one: -one[1])


def _import_table(times: int) -> Table:
    rows = []
    for kind, program in PARTS.items():
        dear = ", ".join(f"{name} {ms:.0f}" for name, ms in dearest_imports(program)[:DEAREST])
        rows.append((kind, f"{cpu_ms(program, times):.0f}", dear))
    rows.append(("a bare interpreter", f"{cpu_ms('pass', times):.0f}", ""))
    return Table(
        "What is imported at a start",
        ("process", "processor ms", "dearest packages, ms (-X importtime)"),
        tuple(rows),
        f"Medians of {times}, interpreter included, one process at a time. At a start supervisor and template run"
        " beside each other.",
    )


def _seconds(name: str, found: Sequence[float]) -> tuple[str, ...]:
    return (name, f"{min(found):.2f}", f"{percentile(list(found), 0.5):.2f}", f"{max(found):.2f}", str(len(found)))


def measure(quick: bool) -> Report:
    """Starts, and where their time goes."""
    compile_all()
    count = 0 if quick else STARTS
    with open_shop(STATIONS) as shop:
        found = starts(shop, count)
        peer = naive_starts(shop, max(1, count))
    claimed = [one.claimed for one in found]
    rows = (
        _seconds("the first ticket is claimed", claimed),
        _seconds("its first byte is at the printer", [one.first_byte for one in found]),
        _seconds("every printer is ready", [one.all_ready for one in found]),
        _seconds("a polling loop claims its first ticket", peer),
    )
    text = "The compiled modules are there, the tables too" + ("; schema kps is not." if quick else ", and schema kps.")
    work = Table("Exec to work, 4 printers", ("seconds until", "least", "p50", "worst", "n"), rows, text)
    imports = _import_table(1 if quick else 5)
    kinds = "processor time per process: " + ", ".join(f"{kind} {ms} ms" for kind, ms, _ in imports.rows)
    return Report((figure(found, peer, kinds),), (work, imports))


def figure(found: Sequence[Start], peer: Sequence[float], note: str = "") -> Figure:
    """The worst start against the goal, beside those of a polling loop."""
    claimed = [one.claimed for one in found]
    ratio = percentile(claimed, 0.5) / percentile(list(peer), 0.5)
    beside = f"{ratio:.0f} x a polling loop of one process"
    return at_most(Goal.START, max(claimed), "s", len(found), "; ".join(filter(None, ("worst", note))), beside)


def main() -> None:
    """Print the report."""
    from bench.single import main as measure_alone

    measure_alone(measure, __doc__)


if __name__ == "__main__":
    main()
