"""Printers behind device files of a host, by the whole service: a pseudo-terminal with a virtual printer at its end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kps.demo.orders import PosWriter
from kps.demo.virtual_printer.pseudo_terminal import PseudoTerminal
from tests.conftest import Database, eventually
from tests.service.harness import Service, Shop, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
LINES = "/dev/shm/*/*"


@contextlib.contextmanager
def shop_at_a_line(
    pos: PosWriter, database: Database, folder: Path, **settings: object
) -> Iterator[tuple[Shop, PseudoTerminal]]:
    """A kitchen whose first printer is at a serial line of the first instance's host, its backup on the network."""
    with (
        shop(pos, database, folder, STATIONS, start=False, PRINTER_DEVICES=LINES, **settings) as here,
        tempfile.TemporaryDirectory(dir="/dev/shm") as below_dev,
        PseudoTerminal(here.printers["kitchen-1"], Path(below_dev) / "kitchen-1") as line,
    ):
        address = f"serial:{line.path}?baud=19200&flow=none"
        pos.update_printer(here.rows["kitchen-1"], printer_ip=address)
        here.service.start().wait_ready(2)
        yield here, line
        here.service.end()


def said(service: Service, *command: str) -> list[str]:
    """The lines of a command of this instance."""
    told = subprocess.run(
        [sys.executable, "-m", "kps.cli", *command],
        env=service.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return told.stdout.splitlines()


def seen(service: Service, name: str) -> dict[str, Any]:
    """What /status says of a printer row."""
    status = service.status() or {"printers": []}
    return next((dict(printer) for printer in status["printers"] if printer["name"] == name), {})


def test_a_printer_at_a_line_prints_and_is_shown_by_what_the_row_says(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop_at_a_line(pos, pos_database, tmp_path) as (here, line):
        address = f"serial:{line.path}?baud=19200&flow=none"
        ticket = here.printed(pos.ticket("kitchen", [("Dish0", 1)]))
        assert here.only_copy("Dish0").printer == "kitchen-1"
        assert ticket["printer_ip"] == address
        shown = seen(here.service, "kitchen-1")
        assert (shown["ip"], shown["port"], shown["key"]) == (address, None, f":serial:{line.path}")
        assert (shown["state"], shown["owner"], shown["proof"]) == ("ready", "kps", "realtime")
        check = [row for row in said(here.service, "check") if "kitchen-1" in row]
        assert check == [f"ok       printer kitchen-1 (kitchen) at {address}: held by the running instance kps, ready"]
        (listed,) = [row for row in said(here.service, "printers", "list") if "kitchen-1" in row]
        assert listed.split()[:4] == ["kitchen-1", f":serial:{line.path}", "ready", "realtime"]


def test_a_device_that_is_unplugged_is_passed_over_at_once(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop_at_a_line(pos, pos_database, tmp_path) as (here, line):
        line.unplug()
        eventually(lambda: seen(here.service, "kitchen-1").get("is_online") is False, what="it is seen to be gone")
        here.printed(pos.ticket("kitchen", [("Dish0", 1)]))
        copy = here.only_copy("Dish0")
        assert copy.printer == "kitchen-2"
        assert "BACKUP FOR" in copy.text
        why = f"its device {line.path} is not here"
        eventually(lambda: why in seen(here.service, "kitchen-1")["reason"], timeout=40, what="/status says why")
        says = "SELECT last_error_message FROM kitchen_stationprinter WHERE id = %s"
        eventually(
            lambda: why in pos.rows(says, [here.rows["kitchen-1"]])[0]["last_error_message"],
            timeout=40, what="the row says why",
        )  # fmt: skip
        (check,) = [row for row in said(here.service, "check") if "kitchen-1" in row]
        assert f"no instance serves it, and this one cannot: {why}" in check


def test_an_instance_at_another_host_leaves_the_printer_to_the_one_that_has_it(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop_at_a_line(pos, pos_database, tmp_path / "a") as (here, line):
        pos.update_printer(here.rows["kitchen-2"], is_active=False)
        other = here.another(tmp_path / "b", INSTANCE_NAME="other", RETRY_DELAY_SECONDS=0.3)
        try:
            other.start().wait_ready(1)
            shown = seen(other, "kitchen-1")
            assert (shown["state"], shown["owner"], shown["mine"]) == ("ready", "kps", False)
            for n in range(6):
                here.printed(pos.ticket("kitchen", [(f"Dish{n}", 1)]))
                assert here.only_copy(f"Dish{n}").printer == "kitchen-1"
            assert [row for row in said(other, "check") if "kitchen-1" in row] == [
                f"ok       printer kitchen-1 (kitchen) at serial:{line.path}?baud=19200&flow=none: held by the running "
                "instance kps, ready"
            ]
            probed = said(other, "printers", "probe", "kitchen-1", "--yes")
            assert probed == [
                f"nothing stored: kitchen-1: its device {line.path} is outside of PRINTER_DEVICES; "
                "probe it at the host that has it"
            ]
            here.service.stop()
            why = f"no instance serves it; its device {line.path} is outside of PRINTER_DEVICES"
            eventually(lambda: seen(other, "kitchen-1").get("reason") == why, timeout=40, what="it is missed")
            ticket = here.ends(pos.ticket("kitchen", [("Late", 1)]), "failed")
            assert why in ticket["error_message"]
            here.service.start().wait_ready(1)
            here.printed(ticket["id"])
            assert here.only_copy("Late").printer == "kitchen-1"
        finally:
            other.end()


def test_a_row_cannot_aim_the_service_at_just_any_file(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, start=False, UNROUTABLE_GRACE_SECONDS=0.3) as here:
        pos.update_printer(here.rows["kitchen-1"], printer_ip="usb:/dev/null")
        here.service.start().wait_ready(1)
        here.printed(pos.ticket("kitchen", [("Dish0", 1)]))
        assert here.only_copy("Dish0").printer == "kitchen-2"
        shown = seen(here.service, "kitchen-1")
        assert (shown["is_online"], shown["state"]) == (False, "down")
        assert shown["reason"] == "its device /dev/null is outside of PRINTER_DEVICES"
        pos.update_printer(here.rows["kitchen-1"], printer_ip="usb:/etc/shadow")
        reason = "its address 'usb:/etc/shadow' names no file below /dev"
        eventually(lambda: seen(here.service, "kitchen-1")["reason"] == reason, what="/status says why")
        assert seen(here.service, "kitchen-1")["state"] == "skipped"
        assert any("kitchen-1" in row and reason in row for row in said(here.service, "check"))
        assert not any(child.startswith("kitchen-1") for child in here.service.children())
