"""The database in trouble under a running service: restarted, killed, frozen; a server of each test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from tests.conftest import eventually
from tests.service.harness import SLOW, Service, Shop, long_order, make_tables, own_server, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


@contextlib.contextmanager
def shop_on_its_own_server(
    folder: Path, each: dict[str, dict[str, Any]] | None = None, **settings: Any
) -> Iterator[tuple[Shop, EmbeddedPostgres]]:
    with own_server() as (server, database), PosWriter(database.dsn) as pos:
        pos.seed_reference_data()
        with shop(pos, database, folder, STATIONS, each=each, **settings) as here:
            yield here, server


@pytest.mark.parametrize("immediate", [False, True])
def test_tickets_before_and_after_a_restart_of_the_database_print_once(immediate: bool, tmp_path: Path) -> None:
    with shop_on_its_own_server(tmp_path, each={"kitchen-1": SLOW}) as (here, server):
        before = {f"Before{n}": here.pos.ticket("kitchen", long_order(f"Before{n}")) for n in range(3)}
        here.wait_sending(before["Before0"])
        here.pos.close()
        server.restart(immediate=immediate)
        after = {f"After{n}": here.pos.ticket(["bar", "kitchen"][n % 2], [(f"After{n}", 1)]) for n in range(4)}
        here.all_end([*before.values(), *after.values()])
        for dish in [*before, *after]:
            here.only_copy(dish)
        eventually(lambda: here.service.get("/health").status == 200, what="/health is well again")
        assert here.service.stop() == 0


def test_an_outcome_is_kept_while_the_database_is_down_and_nothing_new_is_printed(tmp_path: Path) -> None:
    with shop_on_its_own_server(tmp_path, each={"kitchen-1": SLOW}) as (here, server):
        pids = here.service.children()
        first = here.pos.ticket("kitchen", long_order("Dish0"))
        second = here.pos.ticket("kitchen", long_order("Dish1"))
        here.wait_sending(first)
        here.pos.close()
        server.kill()
        here.only_copy("Dish0")
        here.service.wait_said("printer-kitchen-1", "database trouble")
        here.service.wait_unhealthy("refuses connections")
        assert not here.copies("Dish1")
        assert here.service.get("/healthz").status == 200
        server.restart()
        here.all_end([first, second])
        here.only_copy("Dish0")
        here.only_copy("Dish1")
        assert here.actions(first) == ["print_start", "print_success"]
        assert here.service.children() == pids, "no process had to die for it"
        eventually(lambda: here.service.get("/health").status == 200, what="/health is well again")


def test_a_frozen_database_is_told_and_survived(tmp_path: Path) -> None:
    with shop_on_its_own_server(tmp_path, each={"kitchen-1": SLOW}) as (here, server):
        pids = here.service.children()
        first = here.pos.ticket("kitchen", long_order("Dish0"))
        second = here.pos.ticket("kitchen", long_order("Dish1"))
        here.wait_sending(first)
        server.pause()
        try:
            here.service.wait_unhealthy("does not answer", timeout=40)
            here.only_copy("Dish0")
            assert not here.copies("Dish1")
        finally:
            server.resume()
        third = here.pos.ticket("bar", [("Dish2", 1)])
        here.all_end([first, second, third])
        here.no_unmarked_duplicate(["Dish0", "Dish1", "Dish2"])
        here.only_copy("Dish1")
        here.only_copy("Dish2")
        assert here.service.children() == pids, "no process had to die for it"


def test_backends_that_an_administrator_terminates_lose_nothing(tmp_path: Path) -> None:
    with shop_on_its_own_server(tmp_path) as (here, _):
        tickets = {}
        for turn in range(5):
            here.pos.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'kps:%'"
            )
            for n in range(3):
                dish = f"Dish{turn}x{n}"
                tickets[dish] = here.pos.ticket(["bar", "kitchen"][n % 2], [(dish, 1)])
        here.all_end(tickets.values())
        here.no_unmarked_duplicate(tickets)
        for ticket in tickets.values():
            assert here.pos.ticket_row(ticket)["print_attempts"] == 1  # type: ignore[index]


def test_a_service_that_starts_before_its_database_waits_and_says_so_and_goes_on(tmp_path: Path) -> None:
    with own_server() as (server, database), PosWriter(database.dsn) as pos:
        pos.seed_reference_data()
        pos.close()
        with shop(pos, database, tmp_path, STATIONS, start=False) as here:
            ticket = pos.ticket("bar", [("Dish1", 1)])
            pos.close()
            server.kill()
            here.service.start().wait_unhealthy("refuses connections")
            assert here.service.get("/healthz").status == 200
            server.restart()
            here.printed(ticket)
            here.only_copy("Dish1")


def test_wrong_password_missing_tables_and_missing_rights_are_told_one_by_one_and_mended_without_a_restart(
    tmp_path: Path,
) -> None:
    with own_server(tables=False) as (_, database), PosWriter(database.dsn) as admin:
        admin.execute("CREATE ROLE printing LOGIN PASSWORD 'right'")
        service = Service(database, tmp_path, DB_USER="printing", DB_PASSWORD="wrong")
        try:
            service.start().wait_unhealthy("wrong password")
            admin.execute("ALTER ROLE printing PASSWORD 'wrong'")
            service.wait_unhealthy("tables of the POS are missing")
            make_tables(database)
            service.wait_unhealthy("rights are missing")
            admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO printing")
            admin.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO printing")
            service.wait_unhealthy("missing right: permission denied for database shop")
            admin.execute("GRANT CREATE ON DATABASE shop TO printing")
            eventually(lambda: service.get("/health").status == 200, timeout=20, what="/health is well")
            assert "trigger" in service.get("/health").body + service.get("/status").body
            assert service.process is not None
            assert service.process.poll() is None
            assert service.stop() == 0
        finally:
            service.end()
