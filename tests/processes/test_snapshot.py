"""What the supervisor knows of processes and printer rows, in the words of /health."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kps.config import load
from kps.core.address import TcpAddress
from kps.core.health import HealthStatus, Snapshot, verdict
from kps.core.printer_lifecycle import Event, Process
from kps.core.routing import Lookup, PrinterRow
from kps.core.tickets import PrinterKey
from kps.supervisor.children import Child
from kps.supervisor.snapshot import Facts, build
from kps.supervisor.tallies import Tallies
from tests.conftest import Database
from tests.processes.test_counters import child, facts
from tests.service.harness import environment

ROW = PrinterRow(
    id=1, station="kitchen", brand="b", brand_code="", brand_name="", name="kitchen-1",
    address=TcpAddress("192.0.2.1", 9100), kind="network", timeout_s=5.0, priority=1, active=True,
    key=PrinterKey(":192.0.2.1:9100"),
)  # fmt: skip


def up(name: str) -> Child:
    made = child(name)
    made.generation, made.state = 1, Process.UP
    return made


@pytest.fixture
def known(pos_database: Database, tmp_path: Path) -> Facts:
    """Of a service with one printer, which works."""
    chosen = load(environment(pos_database, tmp_path))
    return facts(chosen, up("dispatcher"), [up("printer-1")], [], Tallies())


def with_printers(known: Facts, printers: list[Child]) -> Snapshot:
    (config, _), *_ = known.printers.values()
    return build(replace(known, printers={PrinterKey(str(n)): (config, one) for n, one in enumerate(printers)}))


def test_printers_that_wait_for_their_first_start_are_counted_and_trouble_nobody(known: Facts) -> None:
    died, refused = up("printer-died"), child("printer-refused")
    died.note_death(1, 0.5)
    died.happens(Event.ENDED)
    refused.note_refusal("too many open files", 0.5)
    waiting = [child("printer-2"), child("printer-3")]

    before, found = build(known), with_printers(known, [up("printer-1"), died, refused, *waiting])

    assert not [notice for notice in before.notices if "first start" in notice]
    assert "2 printers wait for their first start" in found.notices
    states = {process.name: process.state for process in found.children if process.kind == "printer"}
    assert states == {"1": "up", "died": "dead", "refused": "dead", "2": "starting", "3": "starting"}
    alone = with_printers(known, [up("printer-1"), *waiting])
    assert verdict(alone) == verdict(before)
    assert verdict(alone).status is not HealthStatus.HEALTHY, "there is no database here"


@pytest.mark.parametrize(
    ("row", "state", "able"),
    [
        (ROW, "starting", None),
        (replace(ROW, key=PrinterKey(""), lookup=Lookup.PENDING), "starting", None),
        (replace(ROW, key=PrinterKey(""), lookup=Lookup.FAILED), "down", False),
        (replace(ROW, kind="win32"), "skipped", False),
        (replace(ROW, address=TcpAddress("", 9100), key=PrinterKey("")), "skipped", False),
        (replace(ROW, address=TcpAddress("192.0.2.1", 0)), "skipped", False),
        (replace(ROW, refused="its address is outside", key=PrinterKey("")), "skipped", False),
        (replace(ROW, address=TcpAddress("192.0.2.1", 0), active=False), "skipped", False),
        (replace(ROW, active=False), "off", False),
        (replace(ROW, absent="its device /dev/usb/lp0 is not here"), "down", False),
    ],
)
def test_a_row_that_nothing_is_asked_of_does_not_start_for_ever(
    known: Facts, row: PrinterRow, state: str, *, able: bool | None
) -> None:
    (printer,) = build(replace(known, rows=(row,))).printers
    assert (printer.state, printer.able) == (state, able)
