"""A printer row that points at something that talks without end: one row's trouble, told in a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from kps.core.status import sentence
from kps.core.tickets import Reason
from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import environment, shop
from tests.talker import Talker

SAYS = sentence(Reason.TALKATIVE)
SOME_MEMORY = 48 * 1024
"""KiB at the highest; a printer's process has 22 MB and more while it draws. Without a limit it was 531 MB."""
STATIONS = {"kitchen-2": ("kitchen", 2), "bar-1": ("bar", 1)}


def most_memory(pid: int) -> int:
    """The most that a process has had so far, in KiB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_a_row_that_points_at_a_camera_is_unable_and_costs_neither_memory_nor_its_process_nor_a_ticket(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with Talker() as camera, shop(pos, pos_database, tmp_path, STATIONS) as here:
        pid_of_the_bar = here.service.children()["bar-1"]
        row = pos.add_printer(camera.host, camera.port, "kitchen", 1, "kitchen-1", timeout_seconds=2)
        pid = here.service.wait_for_child("kitchen-1")

        def told() -> bool:
            assert most_memory(pid) < SOME_MEMORY
            return f"printer kitchen-1: {SAYS}" in (here.service.health() or {"reasons": []})["reasons"]

        eventually(told, timeout=30, what="/health says what is wrong")
        for n in range(3):
            ticket = pos.ticket("kitchen", [(f"Dish{n}", 1)])
            assert here.printed(ticket)["print_attempts"] == 1
            copy = here.only_copy(f"Dish{n}")
            assert copy.printer == "kitchen-2"
            assert "BACKUP FOR kitchen-1" in copy.text
            assert here.actions(ticket) == ["print_start", "print_success"], "a printer that was not asked is no try"
        here.printed(pos.ticket("bar", [("Drink1", 1)]))
        assert here.only_copy("Drink1").printer == "bar-1"

        connections = camera.connections
        eventually(lambda: camera.connections >= connections + 2, timeout=60, what="it is tried again now and then")
        told()
        family = {name: here.service.children()[name] for name in ("kitchen-1", "bar-1")}
        assert family == {"kitchen-1": pid, "bar-1": pid_of_the_bar}, "no process was restarted"
        assert camera.connections < 20
        (health,) = pos.rows(
            "SELECT is_online, error_code FROM kitchen_printerhealthcheck WHERE printer_id = %s ORDER BY id DESC"
            " LIMIT 1",
            [row],
        )
        assert health == {"is_online": False, "error_code": "talkative"}


def test_a_printer_that_begins_to_talk_in_mid_ticket_leaves_a_marked_copy_and_is_back_when_it_stops(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    pair = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
    with shop(pos, pos_database, tmp_path, pair, HOLD_SECONDS=1) as here:
        pid = here.service.children()["kitchen-1"]
        here.printers["kitchen-1"].paper_out(after_lines=3)
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.wait_sending(ticket)
        here.printers["kitchen-1"].talk()
        here.printed(ticket)
        backup = next(copy for copy in here.copies("Dish1") if copy.printer == "kitchen-2")
        assert backup.marked
        here.wait_state("kitchen-1", "error")

        here.printers["kitchen-1"].load_paper()
        here.printers["kitchen-1"].talk(False)
        here.wait_state("kitchen-1", "ready", timeout=40)
        here.printed(pos.ticket("kitchen", [("Dish2", 1)]))
        assert here.only_copy("Dish2").printer == "kitchen-1"
        assert here.service.children()["kitchen-1"] == pid
        assert most_memory(pid) < SOME_MEMORY


def test_kps_check_says_that_no_printer_talks_like_that(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with Talker() as camera:
        pos.add_printer(camera.host, camera.port, "kitchen", 1, "kitchen-1", timeout_seconds=2)
        ran = subprocess.run(
            [sys.executable, "-m", "kps.cli", "check"],
            env=environment(pos_database, tmp_path), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ran.returncode == 1
    assert SAYS in " ".join(ran.stdout.split())
