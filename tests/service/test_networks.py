"""Printer rows that aim the service at what is no printer of the shop."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import shop


def test_rows_outside_of_the_networks_and_the_databases_own_address_are_never_connected_to(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        socket.create_server(("127.0.99.1", 0)) as outside,
        shop(
            pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, start=False, UNROUTABLE_GRACE_SECONDS=0.3,
            PRINTER_NETWORKS="127.0.0.1/32, 127.0.77.0/24, fe80::/10",
        ) as here,
    ):  # fmt: skip
        port = outside.getsockname()[1]
        bar = here.printers["bar-1"]
        pos.add_printer("127.0.99.1", port, "kitchen", 1, "camera")
        pos.add_printer(bar.host, bar.port, "kitchen", 2, "kitchen-2")
        pos.add_printer("127.0.0.1", pos_database.port, "grill", 1, "database")
        pos.add_printer("127.0.77.5", pos_database.port, "dessert", 1, "database-too")
        pos.add_printer("127.0.0.1", int(here.service.env["HEALTH_CHECK_PORT"]), "wok", 1, "ourselves")
        pos.add_printer("fe80::1", 9100, "pastry", 1, "zoneless")
        here.service.start().wait_ready(1)
        here.printed(pos.ticket("kitchen", [("Dish0", 1)]))
        assert "BACKUP FOR" not in here.only_copy("Dish0").text
        failed = here.ends(pos.ticket("grill", [("Dish1", 1)]), "failed")
        database = f"its address 127.0.0.1:{pos_database.port} is the database's"
        assert database in failed["error_message"]
        reasons = {
            "camera": "its address 127.0.99.1 is outside of PRINTER_NETWORKS",
            "database": database,
            "database-too": f"its address 127.0.77.5:{pos_database.port} is the database's",
            "ourselves": f"its address 127.0.0.1:{here.service.port} is this service's own",
            "zoneless": "its address fe80::1 is link-local and needs a zone, such as fe80::1%eth0",
        }
        notices = here.service.health()["notices"]
        for name, reason in reasons.items():
            assert f"printer row {name} is skipped: {reason}" in notices
        says = "SELECT printer_name, last_error_message FROM kitchen_stationprinter WHERE printer_name = ANY(%s)"
        eventually(
            lambda: {tuple(row.values()) for row in pos.rows(says, [list(reasons)])} == set(reasons.items()),
            what="the rows themselves to say why",
        )
        for command in (["check"], ["printers", "list"]):
            told = subprocess.run(
                [sys.executable, "-m", "kps.cli", *command],
                env=here.service.env, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            for name, reason in reasons.items():
                assert any(name in line and reason in line for line in told.stdout.splitlines()), (name, told)
        outside.settimeout(0)
        here.service.stop()
        try:
            outside.accept()
        except BlockingIOError:
            return
        raise AssertionError("somebody has connected")


def test_a_row_that_is_brought_inside_prints(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(
        pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, start=False, PRINTER_NETWORKS="127.0.0.0/8",
        UNROUTABLE_GRACE_SECONDS=0.3,
    ) as here:  # fmt: skip
        pos.update_printer(here.rows["bar-1"], printer_ip="8.8.8.8")
        here.service.start()
        ticket = pos.ticket("bar", [("Dish0", 1)])
        here.ends(ticket, "failed")
        eventually(lambda: here.service.health()["status"] == "degraded", what="/health to say so")
        pos.update_printer(here.rows["bar-1"], printer_ip=here.printers["bar-1"].host)
        here.printed(ticket)
