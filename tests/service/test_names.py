"""A name server that does not answer, while the database and the printers are known by name."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from tests.conftest import eventually, require
from tests.names import NameServer, lacking
from tests.service.harness import SLOW, Shop, long_order, own_server, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    require(not lacking(), lacking())
    with NameServer(tmp_path / "names", db="127.0.0.1") as made:
        yield made


@contextlib.contextmanager
def shop_by_name(
    names: NameServer, folder: Path, each: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> Iterator[tuple[Shop, EmbeddedPostgres]]:
    """A shop on a database of its own, which its instance reaches as `db`; not started yet."""
    with own_server() as (server, database), PosWriter(database.dsn) as pos:
        pos.seed_reference_data()
        with shop(pos, database, folder, STATIONS, each=each, start=False, DB_HOST="db", **settings) as here:
            here.service.prefix = names.prefix
            yield here, server


def test_a_silent_name_server_and_a_restart_of_the_database_cost_no_process_and_no_second_copy(
    names: NameServer, tmp_path: Path
) -> None:
    with shop_by_name(names, tmp_path, each={"kitchen-1": SLOW}) as (here, server):
        pids = here.service.start().wait_ready(2).children()
        first = here.pos.ticket("kitchen", long_order("Dish0"))
        here.wait_sending(first)
        names.silent = True
        here.pos.close()
        server.kill()
        here.only_copy("Dish0")
        here.service.wait_said("printer-kitchen-1", "database trouble")
        server.restart()
        second = here.pos.ticket("bar", [("Dish1", 1)])
        here.all_end([first, second])
        here.only_copy("Dish0")
        here.only_copy("Dish1")
        assert here.actions(first) == ["print_start", "print_success"]
        # The successor of a process has never asked itself.
        killed = pids["bar-1"]
        os.kill(killed, signal.SIGKILL)
        here.service.wait_for_child("bar-1", other_than=killed)
        here.printed(here.pos.ticket("bar", [("Dish2", 1)]))
        assert here.service.children() | {"bar-1": killed} == pids, "no other process had to die for it"
        assert not here.service.said("child hung")


def test_a_service_that_starts_while_the_name_server_is_silent_says_so_and_goes_on_by_itself(
    names: NameServer, tmp_path: Path
) -> None:
    names.silent = True
    with shop_by_name(names, tmp_path) as (here, _):
        here.service.start().wait_unhealthy("database host db: no name server answers")
        assert here.service.get("/healthz").status == 200
        names.silent = False
        ticket = here.pos.ticket("bar", [("Dish0", 1)])
        here.ends(ticket, "printed", timeout=60)
        eventually(lambda: here.service.get("/health").status == 200, what="/health is well again")
        assert here.service.stop() == 0


def test_a_printer_whose_name_has_no_address_is_no_device_until_it_has_one(names: NameServer, tmp_path: Path) -> None:
    names.silent_for = frozenset({"kitchen", "grill"})
    with shop_by_name(names, tmp_path, RETRY_DELAY_SECONDS=0.1) as (here, _):
        device, backup = here.printers["kitchen-1"], here.printers["bar-1"]
        names.addresses |= {"kitchen": device.host, "grill": device.host}
        here.pos.update_printer(here.rows["kitchen-1"], printer_ip="kitchen")
        here.pos.add_printer(backup.host, backup.port, "kitchen", 2, "backup")
        # The same device again, as the only one of its station.
        here.pos.add_printer("grill", device.port, "grill", 1, "grill-1")
        here.service.start().wait_ready(2)
        elsewhere = here.pos.ticket("kitchen", [("Dish0", 1)])
        here.printed(elsewhere)
        assert "BACKUP FOR kitchen-1" in here.only_copy("Dish0").text
        late = here.pos.ticket("grill", [("Dish1", 1)])
        assert "its name grill is not resolved yet" in here.ends(late, "failed")["error_message"]
        health = here.service.health()
        assert "printer kitchen-1: its name kitchen is not resolved yet" in health["reasons"]
        (row,) = here.pos.rows(
            "SELECT last_error_message AS text FROM kitchen_stationprinter WHERE id = %s", [here.rows["kitchen-1"]]
        )
        assert row["text"] == "its name kitchen is not resolved yet"
        assert {row["printer_key"] for row in here.pos.rows("SELECT printer_key FROM kps.printer")} == {
            f":{backup.host}:{backup.port}"
        }
        names.silent_for = frozenset()
        here.ends(late, "printed", timeout=60)
        assert here.only_copy("Dish1").printer == "kitchen-1"
        eventually(
            lambda: not any("not resolved" in reason for reason in here.service.health()["reasons"]),
            what="the other name has an address too",
        )
        here.printed(here.pos.ticket("kitchen", [("Dish2", 1)]))
        assert here.only_copy("Dish2").printer == "kitchen-1"
        # Two names, one device: one process, one connection.
        assert {row["printer_key"] for row in here.pos.rows("SELECT printer_key FROM kps.printer")} == {
            f":{backup.host}:{backup.port}",
            f":{device.host}:{device.port}",
        }
        assert len(here.service.children()) == 3
        assert here.service.stop() == 0
