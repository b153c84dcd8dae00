"""What KPS takes while nothing happens: processor, statements, memory and its growth, for 8 printers and for 20.

    .venv/bin/python -m bench.footprint [--quick] [--minutes 10] [--load-minutes 60]

Processor time is that of every thread of the family (/proc/PID/task/*/schedstat, nanoseconds). Statements are the lines
that the server writes with log_statement = 'all', BEGIN and COMMIT among them. Memory is PSS (/proc/PID/smaps_rollup),
its growth that of Anonymous, which no other process's mapping of the same files can move: idle with 8 printers, and
under load with 20. Beside it, on a database of its own, a loop that polls. In a whole run the service idles from the
run's beginning, beside the other benchmarks; the rest is measured at its end, beside the faults.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from bench.beside import Faults, Turn
from bench.figures import Figure, Findings, Met, Report, Table, at_most, stated
from bench.goals import Goal
from bench.report import show
from bench.rig import Tills, arrivals, pattern, unfinished
from bench.shop import Instance, Shop, open_shop, percentile, wait_until
from bench.single import end_in_order
from bench.start import compile_all
from kps.demo.virtual_printer import VirtualPrinter

IDLE_PRINTERS = 8
MANY_PRINTERS = 20
DRAWN = ("宫保鸡丁", "ผัดกะเพราหมู", "김치찌개", "شاي بالنعناع")
"""Dishes in letters that no code page has: the printer process loads fonts and draws."""
SETTLE_S = 2.0
"""Seconds after the last ticket before the idle time begins."""
LOOK_EVERY_S = 1.0
LOOK_AHEAD_EVERY_S = 5.0
"""Seconds between looks at the memory while other benchmarks run."""
SHORTEST_IDLE_S = 10.0
"""It idles at least so long, even if the faults beside it are done sooner."""
SHORTEST_SLOPE_S = 60.0
"""Seconds from which a slope is judged. Over less time a few pages would be megabytes an hour."""
LOADED_PRINTERS = 2
"""So many printers print while memory under load is looked at; the others idle."""
LOAD_PER_S = 20.0
"""Tickets a second for them together."""
LOAD_S, QUICK_LOAD_S = 66.0, 4.0
LOADED_LOOKS = 20
"""At least about so many looks at the memory in a load, however short."""
FILL_EACH, FILL_PER_S = 2200, 60.0
"""Tickets for each of them before the first look, and how many a second together. A printer process fills caches of
limited size with its first 2,000 tickets or so, and its memory grows until then."""
STATEMENTS_SHOWN = 12
TEMPLATE_STEPS = {
    "a bare interpreter": "pass",
    "psycopg2": "import psycopg2",
    "what dispatcher and printers need": "import kps.supervisor.child_main",
    "the printers' profiles, and what draws": "for step in kps.supervisor.child_main.STEPS: step()",
}
"""What the template loads, one after the other; its children are copies of it."""
MB = 1024.0
"""The kernel counts in kB."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a family of processes; memory in kB."""

    at: float
    cpu_s: float
    anonymous: int
    pss: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Of the anonymous memory, by the slope of a line through all looks."""

    seconds: float
    looks: int
    mb_h: float
    error_mb_h: float
    """Its standard error."""
    later_mb_h: float
    """The slope of the second half of the looks."""
    kb: int
    """Last look less the first."""


@dataclass(frozen=True, slots=True)
class Idle:
    """What a service took while it was idle."""

    seconds: float
    core_share: float
    """Of one core, 0 to 1."""
    statements: float
    """Per second, by the server's log."""
    growth: Growth


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of all their living threads."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += int(path.read_text().split()[0])
    return total / 1e9


def memory_kb(pid: int, name: str = "Pss") -> int:
    """A line of smaps_rollup in kB; 0 if the process is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def look(instance: Instance) -> Look:
    """The family now."""
    pids = instance.family()
    anonymous = sum(memory_kb(pid, "Anonymous") for pid in pids)
    return Look(time.monotonic(), cpu_seconds(pids), anonymous, sum(memory_kb(pid) for pid in pids))


def slope(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: (slope, its standard error)."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    found = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in points)
    return found, (left / max(1, n - 2) / spread) ** 0.5


class StatementLog:
    """What the server is asked, by its own log."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._from = 0

    def begin(self) -> None:
        """Count from here."""
        self._from = self._shop.server.log_file.stat().st_size

    def lines(self, database: str) -> list[str]:
        """The statements of this database since `begin`."""
        with self._shop.server.log_file.open("rb") as log:
            log.seek(self._from)
            text = log.read().decode("utf-8", "replace")
        wanted = re.compile(rf"^\[{database}\] LOG:  statement: (.*(?:\n\t.*)*)", re.MULTILINE)
        return wanted.findall(text)


@contextlib.contextmanager
def statements_logged(shop: Shop) -> Iterator[StatementLog]:
    """The server logs every statement with its database's name."""
    with contextlib.closing(psycopg2.connect(shop.server.dsn())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET log_statement = 'all'")
            cursor.execute("ALTER SYSTEM SET log_line_prefix = '[%d] '")
            cursor.execute("SELECT pg_reload_conf()")
    try:
        yield StatementLog(shop)
    finally:
        with contextlib.closing(psycopg2.connect(shop.server.dsn())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("ALTER SYSTEM RESET log_statement")
                cursor.execute("SELECT pg_reload_conf()")


def idle(
    shop: Shop, log: StatementLog, families: dict[str, Instance], still: Callable[[], bool], ahead: Sequence[Look]
) -> dict[str, Idle]:
    """What each family of processes takes while nothing happens, as long as `still()` is true; by database name.

    `ahead` are earlier looks at the service's memory: its growth is that since the first of them.
    """
    log.begin()
    looks: dict[str, list[Look]] = {name: [look(family)] for name, family in families.items()}
    while still():
        time.sleep(LOOK_EVERY_S)
        for name, family in families.items():
            looks[name].append(look(family))
    return {name: _summed(looks[name], len(log.lines(name)), growth([*ahead, *looks[name]])) for name in families}


def _summed(looks: Sequence[Look], statements: int, grown: Growth) -> Idle:
    first, last = looks[0], looks[-1]
    seconds = last.at - first.at
    return Idle(seconds, (last.cpu_s - first.cpu_s) / seconds, statements / seconds, grown)


def growth(looks: Sequence[Look]) -> Growth:
    """Of a family, by looks in the order of time."""
    first, last = looks[0], looks[-1]
    points = [(one.at, float(one.anonymous)) for one in looks]
    found, error = (part * 3600 / MB for part in slope(points))
    later, _ = slope(points[len(points) // 2 :])
    seconds, grown = last.at - first.at, last.anonymous - first.anonymous
    return Growth(seconds, len(looks), found, error, later * 3600 / MB, grown)


def by_process(instance: Instance, read: Callable[[int], float]) -> dict[str, list[float]]:
    """What `read` says of each process, under `dispatcher`, `printer` and `supervisor` (the template included)."""
    children = instance.children()
    found: dict[str, list[float]] = {"supervisor": [], "dispatcher": [], "printer": []}
    names = {pid: "dispatcher" if name == "dispatcher" else "printer" for name, pid in children.items()}
    for pid in instance.family():
        found[names.get(pid, "supervisor")].append(read(pid))
    return found


def template_steps() -> dict[str, float]:
    """Anonymous memory in MB of an interpreter after each step of TEMPLATE_STEPS."""
    say = "print(re.search(r'Anonymous: +(\\d+)', open('/proc/self/smaps_rollup').read())[1])"
    program = "\n".join(["import re", *(f"{step}\n{say}" for step in TEMPLATE_STEPS.values())])
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return {name: int(kb) / MB for name, kb in zip(TEMPLATE_STEPS, run.stdout.split(), strict=True)}


def pss_mb(instance: Instance) -> float:
    """Of the whole family."""
    return sum(memory_kb(pid) for pid in instance.family()) / MB


def print_everywhere(shop: Shop, dishes: Sequence[str] = ("Nasi Goreng",)) -> None:
    """A ticket with these dishes through every printer; each is the only one of its station."""
    for row in shop.pos.rows("SELECT station_code FROM kitchen_stationprinter ORDER BY id"):
        shop.pos.ticket(row["station_code"], [(dish, 1) for dish in dishes], table="7")
    wait_until(lambda: unfinished(shop) == 0, 60.0, "every ticket is printed", every_s=0.02)


def load_growth(shop: Shop, instance: Instance, seconds: float) -> tuple[Growth, str]:
    """Growth of memory while LOADED_PRINTERS print for so many seconds.

    The words say which processes have grown by how much.
    """
    rows = shop.pos.rows(
        "SELECT station_code FROM kitchen_stationprinter WHERE is_active ORDER BY id LIMIT %s", [LOADED_PRINTERS]
    )
    stations = [row["station_code"] for row in rows]
    looks: list[Look] = []
    fill_s = FILL_EACH * len(stations) / FILL_PER_S if seconds >= SHORTEST_SLOPE_S else 0.0
    load = [(fill_s + at, station) for at, station in arrivals(LOAD_PER_S, seconds, stations)]
    with Tills(shop.server.dsn("pos"), pattern(shop)) as tills:
        tills.begin([*arrivals(FILL_PER_S, fill_s, stations), *load])
        over = tills.ended(fill_s)
        before = by_process(instance, lambda pid: memory_kb(pid, "Anonymous"))
        while not over:
            looks.append(look(instance))
            over = tills.ended(min(LOOK_EVERY_S, seconds / LOADED_LOOKS))
        after = by_process(instance, lambda pid: memory_kb(pid, "Anonymous"))
        tills.end(1.0)
    wait_until(lambda: unfinished(shop) == 0, 60.0, "every ticket is printed", every_s=0.02)
    grown = ", ".join(f"{kind} {sum(after[kind]) - sum(before[kind]):+.0f} kB in {len(after[kind])}" for kind in after)
    return growth(looks), grown


def more_printers(shop: Shop, stack: contextlib.ExitStack, names: Sequence[str], **device: Any) -> None:
    """Further printers; the running service finds them. `device` is what VirtualPrinter takes."""
    for name in names:
        shop.printers[name] = printer = stack.enter_context(VirtualPrinter(name=name, **device))
        shop.pos.add_printer(printer.host, printer.port, name, 1, name, timeout_seconds=5)


@contextlib.contextmanager
def polling_loop(shop: Shop) -> Iterator[Instance]:
    """The usual design on a database of its own, whose tables are those of the POS: polls each 2 s."""
    shop.pos.close()
    with contextlib.closing(psycopg2.connect(shop.server.dsn())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE peer TEMPLATE pos")
    with Instance(shop, "naive", (sys.executable, "-m", "bench.naive"), DB_NAME="peer") as loop:
        yield loop


@dataclass(frozen=True, slots=True)
class Memory:
    """PSS of the family in MB, step by step."""

    fresh: float
    printed: float
    drawn: float
    many: float
    many_printed: float
    many_drawn: float


def measure(quick: bool) -> Report:
    """Idle with eight printers, then memory with twenty, and its growth under load."""
    return measure_while(_for(10.0 if quick else 90.0), load_s=QUICK_LOAD_S if quick else LOAD_S)


def findings(turn: Turn) -> Findings:
    """The same on a service that has idled during all earlier benchmarks. The faults are measured meanwhile."""
    faults = Faults(quick=False, take_overs=True)
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(faults)
            faults.wait_open()
            faults.begin()

        yield "footprint", measure_while(faults.running, begin, turn)
        yield "faults", faults.report()


def _for(seconds: float) -> Callable[[], bool]:
    """A function that is true for so many seconds from its first call."""
    ends: list[float] = []

    def still() -> bool:
        ends[:] = ends or [time.monotonic() + seconds]
        return time.monotonic() < ends[0]

    return still


def measure_while(
    still: Callable[[], bool],
    begin: Callable[[], None] | None = None,
    turn: Turn | None = None,
    load_s: float = LOAD_S,
) -> Report:
    """On a shop of its own, idle as long as `still` says; `begin` is called before that, when it is our `turn`.

    In the end it prints for `load_s` seconds.
    """
    compile_all()
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(open_shop([f"p{number}" for number in range(IDLE_PRINTERS)], keep_raw=0))
        loop = stack.enter_context(polling_loop(shop))
        instance = stack.enter_context(Instance(shop))
        instance.wait_ready(IDLE_PRINTERS)
        more = [f"p{number}" for number in range(IDLE_PRINTERS, MANY_PRINTERS)]
        return measure_on(
            shop, instance, loop, still, begin, lambda: more_printers(shop, stack, more, keep_raw=0), load_s, turn=turn
        )


def measure_on(
    shop: Shop,
    instance: Instance,
    loop: Instance,
    still: Callable[[], bool],
    begin: Callable[[], None] | None,
    grow: Callable[[], None],
    load_s: float,
    steps_too: bool = True,
    turn: Turn | None = None,
) -> Report:
    """The same on a service that is ready, beside a loop; `grow` adds printers up to MANY_PRINTERS.

    `load_s`: how long it prints in the end. `steps_too`: also what the template loads, which no goal asks for.
    """
    fresh = pss_mb(instance)
    print_everywhere(shop)
    printed = pss_mb(instance)
    shop.pos.close()
    ahead = _looks_ahead(instance, turn)
    with statements_logged(shop) as log:
        if begin is not None:
            begin()
        time.sleep(SETTLE_S)
        cpu = by_process(instance, lambda pid: cpu_seconds([pid]))
        at_least_once = _for(SHORTEST_IDLE_S)
        quiet = idle(shop, log, {"pos": instance, "peer": loop}, lambda: at_least_once() or still(), ahead)
        cpu_after = by_process(instance, lambda pid: cpu_seconds([pid]))
        asked = log.lines("pos")
    shares = {kind: (sum(cpu_after[kind]) - sum(cpu[kind])) / quiet["pos"].seconds for kind in cpu}
    print_everywhere(shop, DRAWN)
    drawn = pss_mb(instance)
    by_kind = by_process(instance, lambda pid: memory_kb(pid) / MB)
    own = by_process(instance, _own_mb)
    peer_mb = pss_mb(loop)
    grow()
    instance.wait_ready(MANY_PRINTERS)
    many = pss_mb(instance)
    print_everywhere(shop)
    many_printed = pss_mb(instance)
    print_everywhere(shop, DRAWN)
    memory = Memory(fresh, printed, drawn, many, many_printed, pss_mb(instance))
    loaded, who_grew = load_growth(shop, instance, load_s)
    steps = template_steps() if steps_too else {}
    figures = [
        *_idle_figures(quiet["pos"], quiet["peer"], shares),
        _growth_figure(
            Goal.LOAD_GROWTH,
            loaded,
            "--load-minutes 60",
            f"{LOAD_PER_S:g} tickets/s; {who_grew}",
        ),
        *_memory_figures(memory, peer_mb, by_kind),
    ]
    statements = _statement_table(asked, quiet["pos"].seconds)
    more = (_steps_table(steps),) if steps else ()
    return Report(tuple(figures), (statements, _memory_table(memory, by_kind, own), *more))


def _own_mb(pid: int) -> float:
    """Memory that no other process maps, in MB."""
    return (memory_kb(pid, "Private_Dirty") + memory_kb(pid, "Private_Clean")) / MB


def _looks_ahead(instance: Instance, turn: Turn | None) -> list[Look]:
    """Looks at an idle service until it is this benchmark's turn."""
    looks = []
    while turn is not None and not turn.has_come():
        time.sleep(LOOK_AHEAD_EVERY_S)
        looks.append(look(instance))
    return looks


def _idle_figures(ours: Idle, peer: Idle, shares: dict[str, float]) -> list[Figure]:
    looks = round(ours.seconds / LOOK_EVERY_S)
    cpu_note = ", ".join(f"{kind} {share * 100:.2f} %" for kind, share in shares.items())
    return [
        at_most(Goal.IDLE_CPU, ours.core_share * 100, "%", looks, cpu_note,
                f"a loop that polls each 2 s: {peer.core_share * 100:.2f} %"),
        at_most(Goal.IDLE_STATEMENTS, ours.statements, "/s", looks,
                f"by the server's log over {ours.seconds:.0f} s, BEGIN and COMMIT among them",
                f"a loop that polls each 2 s: {peer.statements:.2f}/s"),
        _growth_figure(Goal.IDLE_GROWTH, ours.growth, "--minutes 10"),
    ]  # fmt: skip


def _growth_figure(goal: Goal, grown: Growth, longer: str, when: str = "") -> Figure:
    """A slope that is above nothing by more than twice its error is growth. `longer` is the option for more of it."""
    grows = Met.SHORT if grown.mb_h - 2 * grown.error_mb_h > 0 else Met.OK
    if grown.seconds < SHORTEST_SLOPE_S:
        grows = Met.NONE
    slope_of = f"{when}, slope of {grown.seconds:.0f} s" if when else f"slope of {grown.seconds:.0f} s"
    note = (
        f"{slope_of}, twice its standard error; {grown.kb:+d} kB in that time, {grown.later_mb_h:+.1f} MB an hour"
        f" in its second half; a longer look: `python -m bench.footprint {longer}`"
    )
    return stated(goal, f"{grown.mb_h:+.1f} MB +- {2 * grown.error_mb_h:.1f}", grows, grown.looks, note)


def _memory_figures(memory: Memory, peer_mb: float, by_kind: dict[str, list[float]]) -> list[Figure]:
    kinds = ", ".join(f"{kind} {percentile(found, 0.5):.1f}" for kind, found in by_kind.items() if found)
    beside = f"{{:.0f}} x a polling loop ({peer_mb:.0f} MB)"
    return [
        at_most(Goal.MEMORY_8, memory.drawn, "MB", 1, f"median per process: {kinds} MB",
                beside.format(memory.drawn / peer_mb)),
        at_most(Goal.MEMORY_20, memory.many_drawn, "MB", 1,
                f"{memory.many:.0f} MB before the first ticket",
                beside.format(memory.many_drawn / peer_mb)),
    ]  # fmt: skip


def _statement_table(asked: list[str], seconds: float) -> Table:
    counted = Counter(_beginning(text) for text in asked)
    rows = tuple((text, f"{count / seconds:.2f}") for text, count in counted.most_common(STATEMENTS_SHOWN))
    return Table("What an idle service asks its database, 8 printers", ("statement begins", "per second"), rows)


def _beginning(text: str) -> str:
    """The beginning of a statement, which is enough to recognise it."""
    return re.sub(r"\s+|\(.*", " ", text).strip()[:60]


def _memory_table(memory: Memory, by_kind: dict[str, list[float]], own: dict[str, list[float]]) -> Table:
    few, many = f"{IDLE_PRINTERS} printers", f"{MANY_PRINTERS} printers"
    rows = (
        ("ready", f"{memory.fresh:.0f}", f"{memory.many:.0f}"),
        ("a plain ticket through each", f"{memory.printed:.0f}", f"{memory.many_printed:.0f}"),
        (f"and one with {len(DRAWN)} drawn lines", f"{memory.drawn:.0f}", f"{memory.many_drawn:.0f}"),
    )
    kinds = "; ".join(
        f"{kind}: {sum(found):.1f} MB in {len(found)}, {sum(own[kind]):.1f} MB of it mapped by no other process"
        for kind, found in by_kind.items()
    )
    text = (
        f"With 8 printers: {kinds}. PSS counts in part a page that others map as well: beside this run are other"
        " programs of the same interpreter and libraries; where KPS is the only one, it has 7 to 10 MB more."
    )
    return Table("PSS of the whole family in MB", ("after", few, many), rows, text)


def _steps_table(steps: dict[str, float]) -> Table:
    rows = tuple((name, f"{mb:.1f}") for name, mb in steps.items())
    return Table("The template as it loads, MB (Anonymous)", ("after", "MB"), rows)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, help="idle so long, for the growth of memory")
    parser.add_argument("--load-minutes", type=float, help="print so long, for the same under load")
    chosen = parser.parse_args()
    end_in_order()
    if chosen.minutes is None and chosen.load_minutes is None:
        show(measure(chosen.quick))
    else:
        idle_s = SHORTEST_IDLE_S if chosen.minutes is None else 60 * chosen.minutes
        load_s = QUICK_LOAD_S if chosen.load_minutes is None else 60 * chosen.load_minutes
        show(measure_while(_for(idle_s), load_s=load_s))


if __name__ == "__main__":
    main()
