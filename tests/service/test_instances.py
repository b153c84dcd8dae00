"""Several instances on one database, and the end of one: by kill, and by TERM under load."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Service, Shop, long_order, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


@contextlib.contextmanager
def second(here: Shop, folder: Path, **settings: object) -> Iterator[Service]:
    """A second instance, until it knows the printers."""
    service = here.another(folder, INSTANCE_NAME="second", RETRY_DELAY_SECONDS=0.3, **settings)
    try:
        service.start().wait_ready(len(here.printers))
        yield service
    finally:
        service.end()


def owners(pos: PosWriter) -> set[str]:
    """Names of the instances that hold live leases."""
    rows = pos.rows("SELECT owner_name FROM kps.printer WHERE expires_at > clock_timestamp()")
    return {row["owner_name"] for row in rows}


def test_two_instances_print_every_ticket_once_and_each_printer_has_one_owner(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        shop(
            pos, pos_database, tmp_path / "a", STATIONS, INSTANCE_NAME="first", STATIONS="kitchen", start=False
        ) as here,
        contextlib.ExitStack() as stack,
    ):
        here.service.start().wait_ready(1)
        stack.enter_context(second(here, tmp_path / "b", STATIONS="bar"))
        tickets = {
            f"Dish{n}": pos.ticket("kitchen" if n % 2 else "bar", [(f"Dish{n}", 1)]) for n in range(20)
        }  # fmt: skip
        here.all_end(tickets.values())
        for dish in tickets:
            here.only_copy(dish)
        assert owners(pos) == {"first", "second"}
        assert all(device.connections_open == 1 for device in here.printers.values())
        starters = {
            dish: pos.log_rows(ticket)[-1]["metadata"]["instance"] for dish, ticket in tickets.items()
        }  # fmt: skip
        assert set(starters.values()) == {"first", "second"}


def test_when_the_host_of_one_instance_dies_the_other_takes_its_printers_and_tickets_over(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        shop(pos, pos_database, tmp_path / "a", STATIONS, each={"kitchen-1": SLOW}, INSTANCE_NAME="first") as here,
        second(here, tmp_path / "b") as other,
    ):
        assert owners(pos) == {"first"}
        tickets = {f"Dish{n}": pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(4)}
        here.wait_sending(tickets["Dish0"])
        here.service.kill_group()
        tickets |= {f"Later{n}": pos.ticket("bar", [(f"Later{n}", 1)]) for n in range(4)}
        here.all_end(tickets.values())
        here.no_unmarked_duplicate(tickets)
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in here.copies("Dish0")[-1].text
        for dish in [*list(tickets)[2:], "Dish1"]:
            here.only_copy(dish)
        assert owners(pos) == {"second"}
        assert other.stop() == 0


def test_an_instance_that_stops_hands_its_printers_over_at_once(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        shop(pos, pos_database, tmp_path / "a", STATIONS, INSTANCE_NAME="first") as here,
        second(here, tmp_path / "b"),
    ):
        assert here.service.stop() == 0
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        here.only_copy("Dish1")
        assert pos.log_rows(ticket)[-1]["metadata"]["instance"] == "second"


def test_a_second_start_of_the_same_instance_is_refused(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        twin = here.another(tmp_path / "twin", RUN_DIR=here.service.env["RUN_DIR"])
        try:
            assert twin.start().wait_exit() == 78
            assert twin.said("cannot start", "another supervisor uses")
        finally:
            twin.end()


def test_term_under_load_finishes_what_prints_gives_back_the_rest_and_the_next_start_prints_it_once(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, printer=SLOW) as here:
        tickets = {
            f"Dish{n}": pos.ticket("kitchen" if n % 2 else "bar", long_order(f"Dish{n}")) for n in range(10)
        }  # fmt: skip
        # Any of them: on a busy machine the first is out before the last is ordered.
        eventually(lambda: pos.rows("SELECT 1 FROM kps.job WHERE state = 'sending'"), what="a ticket is sent")
        assert here.service.stop(timeout=20) == 0
        eventually(lambda: not here.service.family(), what="every process has ended")
        left = {row["status"] for row in pos.rows("SELECT status FROM kitchen_kitchenticket")}
        assert left == {"printed", "new"}
        assert not pos.rows("SELECT 1 FROM kps.job WHERE state IN ('claimed', 'sending')")
        assert owners(pos) == set()
        here.service.start().wait_ready(2)
        here.all_end(tickets.values(), timeout=60)
        for dish, ticket in tickets.items():
            here.only_copy(dish)
            assert pos.ticket_row(ticket)["print_attempts"] == 1  # type: ignore[index]


def test_term_while_a_ticket_is_held_in_a_printer_without_paper_ends_in_time_and_the_next_copy_is_marked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, HOLD_SECONDS=60, DRAIN_SECONDS=2) as here:
        here.printers["bar-1"].paper_out(after_lines=3)
        ticket = pos.ticket("bar", [("Dish1", 1)])
        here.wait_state("bar-1", "paper_out")
        assert here.service.stop(timeout=20) == 0
        here.printers["bar-1"].load_paper()
        here.printers["bar-1"].wait_text("Dish1")
        here.service.start().wait_ready(1)
        here.printed(ticket)
        here.no_unmarked_duplicate(["Dish1"])
        assert len(here.copies("Dish1")) == 2


def test_a_printer_that_no_instance_could_reach_for_long_prints_again_when_it_is_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
    with shop(pos, pos_database, tmp_path, stations, INSTANCE_NAME="one") as here:
        other = here.another(tmp_path / "two", INSTANCE_NAME="two")
        try:
            other.start()
            here.printers["kitchen-1"].power_off()
            # Each instance in turn finds that it cannot reach the device, and gives it up to the other one.
            eventually(
                lambda: all("lease given up" in one.text() for one in (here.service, other)),
                timeout=60,
                what="both instances have given the printer up",
            )
            here.printed(pos.ticket("kitchen", [("Soto Betawi", 1)]))
            assert here.only_copy("Soto Betawi").printer == "kitchen-2"
            here.printers["kitchen-1"].power_on()
            here.wait_state("kitchen-1", "ready", timeout=60)
            here.printed(pos.ticket("kitchen", [("Rendang", 1)]))
            assert here.only_copy("Rendang").printer == "kitchen-1"
            assert "crash loop" not in here.service.text() + other.text()
        finally:
            other.end()


def pids(log: Path) -> set[int]:
    """Whose lines a log file holds."""
    return {int(found) for found in re.findall(r" pid=(\d+) ", log.read_text())} if log.exists() else set()


def test_two_instances_with_one_log_folder_log_to_folders_of_their_own(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, INSTANCE_NAME="one") as here:
        other = here.another(tmp_path / "other", INSTANCE_NAME="two", LOG_DIR=logs).start()
        twin = here.another(tmp_path / "twin", INSTANCE_NAME="two", LOG_DIR=logs)
        try:
            other.wait_said("started")
            assert other.said("log folder shared")
            assert here.service.process is not None
            assert other.process is not None
            assert pids(logs / "supervisor.log") == {here.service.process.pid}
            assert pids(logs / "two" / "supervisor.log") == {other.process.pid}
            # A second one of the same name, wherever its RUN_DIR is.
            assert twin.start().wait_exit() == 78
            assert twin.said("cannot start", "another supervisor called two")
            here.printed(pos.ticket("bar", [("Tea", 1)]))
        finally:
            other.end()
            twin.end()
        # Whoever has a folder of his own keeps it, whichever starts first.
        assert here.service.stop() == 0
        again = here.another(tmp_path / "other", INSTANCE_NAME="two", LOG_DIR=logs).start()
        try:
            again.wait_said("started")
            assert again.process is not None
            eventually(lambda: again.process.pid in pids(logs / "two" / "supervisor.log"), what="its line")
        finally:
            again.end()
    said = subprocess.run(
        [sys.executable, "-m", "kps.cli", "logs", "-n", "1000", "supervisor"],
        env={**os.environ, "LOG_DIR": str(logs), "INSTANCE_NAME": "two"}, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert str(again.process.pid) in said.stdout
