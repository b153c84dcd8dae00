"""From the slot to /status and /metrics: what a process has counted arrives there, whatever becomes of its name."""

from __future__ import annotations

import ast
import json
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kps.config import load
from kps.core.address import TcpAddress
from kps.core.health import Snapshot
from kps.core.restart import Cause
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.printer.config import DeviceConfig
from kps.process.clocks import monotonic
from kps.process.counters import COUNTERS, Counter, Of
from kps.process.shared_stats import PRINT_BUCKETS_S, Cell, SharedStats
from kps.supervisor.children import Child
from kps.supervisor.maintenance import Maintenance
from kps.supervisor.snapshot import Facts, build
from kps.supervisor.tallies import Tallies
from kps.web.app import health_app
from kps.web.server import HttpServer
from tests.conftest import Database
from tests.service.harness import environment

NOW = {
    Cell.BEAT, Cell.TICKET, Cell.TOKEN, Cell.STAGE, Cell.CONNECTED, Cell.LAST_OK, Cell.UNREACHED_SINCE, Cell.LAST_POLL,
    Cell.LISTENER_PROVEN, Cell.DATABASE_TROUBLE_SINCE, Cell.UNROUTABLE, Cell.HELD_TICKETS, Cell.PROOF_LEVEL,
    Cell.BACKLOG_BEFORE, Cell.BACKLOG_UP_TO,
}  # fmt: skip
"""Cells that say how things are now: nothing is counted there."""
TIMES = {Cell.PRINT_SECONDS, Cell.BUCKETS}
"""The histogram of print times."""
SHARED = SharedStats()


def child(name: str = "dispatcher") -> Child:
    return Child.new(SHARED, name, name.partition("-")[0])


def facts(
    settings: Settings, dispatcher: Child, printers: list[Child], retired: list[Child], tallies: Tallies, **more: Any
) -> Facts:
    now = monotonic()
    maintenance = Maintenance(settings, "00000000-0000-4000-8000-000000000001", lambda: None)
    maintenance.errors = more.get("maintenance_errors", 0)
    served = {
        PrinterKey(f":192.0.2.1:{9100 + number}"): (
            DeviceConfig(PrinterKey(f":192.0.2.1:{9100 + number}"), "", TcpAddress("", 9100), 1.0, (), ()), printer
        )
        for number, printer in enumerate(printers)
    }  # fmt: skip
    return Facts(
        settings=settings, owner="", started=now, now=now, wall=0.0, tick=now, lag_s=0.0, draining=False,
        maintenance=maintenance,
        dispatcher=dispatcher, printers=served, retired=retired, tallies=tallies, rows=(),
        released=more.get("released", {}), failovers={}, log_dropped=more.get("log_dropped", 0),
    )  # fmt: skip


class Pages:
    """/status and /metrics of a snapshot, asked for over HTTP."""

    def __init__(self, snapshot: Snapshot) -> None:
        server = HttpServer(health_app(lambda: snapshot), "127.0.0.1", 0, "test")
        server.bind()
        server.start()
        try:
            self.status = json.loads(self._get(server, "/status"))
            text = self._get(server, "/metrics").decode()
        finally:
            server.stop()
        self.samples: dict[tuple[str, frozenset[str]], float] = {
            (sample.name, frozenset(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    @staticmethod
    def _get(server: HttpServer, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def process(self, name: str) -> Any:
        (found,) = [process for process in self.status["processes"] if process["name"] == name]
        return found


def at(document: Any, place: str) -> Any:
    for key in place.split("."):
        document = document[key]
    return document


def cells_of(counter: Counter) -> list[Cell]:
    return [cell for _, cell in counter.cells if cell is not None]


def test_every_cell_that_counts_is_declared_once_and_no_other() -> None:
    declared = [cell for counter in COUNTERS for cell in cells_of(counter)]
    assert len(declared) == len(set(declared))
    assert set(declared) == set(Cell) - NOW - TIMES
    assert len({counter.metric for counter in COUNTERS}) == len({counter.key for counter in COUNTERS}) == len(COUNTERS)


def test_what_processes_count_they_count_on_in_cells_that_are_declared() -> None:
    """`add` and `count` are for counters, `set` for what is the case: else a new process would set a counter back."""
    used: dict[str, set[str]] = defaultdict(set)
    for path in (Path(__file__).parents[2] / "kps").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="add" | "count" | "set" as how),
                    args=[ast.Attribute(value=ast.Name(id="Cell"), attr=cell), *_],
                ):
                    used[how].add(cell)
    counted = {cell.name for counter in COUNTERS for cell in cells_of(counter)}
    assert used["add"] | used["count"] <= counted
    assert used["set"] <= {cell.name for cell in NOW}


def test_what_is_put_into_the_slots_stands_in_status_and_in_metrics(pos_database: Database, tmp_path: Path) -> None:
    dispatcher, kitchen, bar, gone = child(), child("printer-Kitchen"), child("printer-Bar"), child("printer-Gone")
    everybody = [dispatcher, kitchen, bar, gone]
    for number, one in enumerate(everybody, start=1):
        for cell in (cell for counter in COUNTERS for cell in cells_of(counter)):
            one.stats[cell] = 1000 * number + cell
        one.restarts = {cause.value: 1000 * number + place for place, cause in enumerate(Cause)}
        for index, _ in enumerate(PRINT_BUCKETS_S):
            one.stats[Cell.BUCKETS + index] = number
        one.stats[Cell.PRINT_SECONDS] = 1000 * number
    tallies = Tallies()
    tallies.keep(gone)
    own = {"released": {"death": 7, "reclaim": 8}, "maintenance_errors": 9, "log_dropped": 10}
    chosen = load(environment(pos_database, tmp_path))
    pages = Pages(build(facts(chosen, dispatcher, [kitchen, bar], [gone], tallies, **own)))

    for counter in COUNTERS:
        for place, (value, cell) in enumerate(counter.cells):
            word = {value} - {""}
            if counter.of is Of.SERVICE:
                expected = sum(one.stats[cell] for one in everybody) if cell is not None else own["released"][value]
                assert at(pages.status, counter.place(value)) == expected
                assert pages.samples[counter.metric, frozenset(word)] == expected
                continue
            for number, one in enumerate(everybody, start=1):
                name = one.name.removeprefix("printer-")
                expected = one.stats[cell] if cell is not None else 1000 * number + place
                if one is not gone:
                    assert at(pages.process(name), counter.place(value)) == expected
                if counter.of is Of.CHILD or one.kind == "printer":
                    assert pages.samples[counter.metric, frozenset({name} | word)] == expected
    for number, name in ((2, "Kitchen"), (3, "Bar"), (4, "Gone")):
        assert pages.samples["kps_printer_print_seconds_count", frozenset({name})] == 12 * number
        assert pages.samples["kps_printer_print_seconds_sum", frozenset({name})] == 1000 * number
    assert pages.process("Kitchen")["print_seconds"] == {"count": 24, "sum": 2000}
    assert (
        pages.samples["kps_db_errors_total", frozenset({"supervisor"})]
        == pages.status["counters"]["database_errors"]
        == 9
    )
    assert pages.samples["kps_log_records_dropped_total", frozenset({"supervisor"})] == 10
    assert "Gone" not in {process["name"] for process in pages.status["processes"]}
    assert not [name for name, labels in pages.samples if "Gone" in labels and not name.startswith("kps_printer_")
                and not name.endswith("_total")]  # fmt: skip


STEPS = st.lists(
    st.tuples(st.sampled_from(["count", "name", "retire", "replace"]), st.integers(0, 2), st.sampled_from(["A", "B"])),
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_no_series_ever_falls_and_nothing_is_counted_twice(steps: list[tuple[str, int, str]]) -> None:
    """Devices come, go and change names; two may bear one name while the first of them is on its way out."""
    tallies = Tallies()
    devices = [child(f"printer-{name}") for name in ("A", "B", "C")]
    served = list(devices)
    counted: dict[str, int] = defaultdict(int)
    for what, number, name in steps:
        one = devices[number]
        match what:
            case "count" if one in served:
                one.stats[Cell.BYTES] += 1
                counted[one.name] += 1
            case "name" if one in served and one.name != f"printer-{name}":
                tallies.keep(one)
                one.name = f"printer-{name}"
            case "retire" if one in served:
                tallies.keep(one)
                served.remove(one)
            case "replace" if one not in served:
                one.name = f"printer-{name}"
                served.append(one)
        shown: dict[str, int] = defaultdict(int)
        seen: set[str] = set()
        for bearer in served:
            shown[bearer.name] += tallies.of(bearer, first=bearer.name not in seen).counters["bytes_sent"]
            seen.add(bearer.name)
        for left, past in tallies.of_others(seen).items():
            shown[left] += past.counters["bytes_sent"]
        assert {name: count for name, count in shown.items() if count} == dict(counted)
