"""Wall clocks that are stepped under a running service: the database's by an hour, the host's by a day.

libfaketime stands between the programs and CLOCK_REALTIME; CLOCK_MONOTONIC and CLOCK_BOOTTIME stay the kernel's, as
they do when a real clock is set. Leases, retries and ages are the database's time, waits and trust are the host's
monotonic time; so a step of the host's clock touches nothing but what is shown.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from tests.conftest import Database, eventually, require
from tests.service.harness import SLOW, Service, Shop, long_order, make_tables, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}
ONCE = ["print_start", "print_success"]
HOUR = 3600
DAY = 24 * HOUR
SHARED_MEMORY = Path("/dev/shm")


def faketime_library() -> Path | None:
    """Where the distribution puts libfaketime; None = it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class Clock:
    """A wall clock for processes that are started with its environment: theirs is `ahead` seconds before ours."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._file = folder / "clock"
        self.ahead = 0
        self.set(0)
        self.environment: dict[str, Any] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Read at every look at the clock: all processes see a step at the same moment.
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, ahead: int) -> None:
        """Step the clock to so many seconds before ours."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.replace(self._file)  # half a file would end every process that reads it
        self.ahead = ahead


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that every user of this host may read."""
    library = faketime_library()
    require(library, "libfaketime (Debian: apt install libfaketime)")
    assert library is not None
    folder = Path(tempfile.mkdtemp(prefix="kps-clock-"))
    folder.chmod(0o755)
    try:
        yield Clock(library, folder)
    finally:
        shutil.rmtree(folder)


def forget(pid: int) -> None:
    """libfaketime leaves its shared memory behind when a process ends without its destructors."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


@contextlib.contextmanager
def database_on(clock: Clock) -> Iterator[Database]:
    """A PostgreSQL of the test's own that goes by this clock, with the POS's tables."""
    with EmbeddedPostgres(durable=False, environment=clock.environment) as server:
        database = Database("shop", server.host, server.port, server.user, server.password)
        try:
            with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
                connection.autocommit = True
                connection.cursor().execute("CREATE DATABASE shop TEMPLATE template0 ENCODING 'UTF8'")
            make_tables(database)
            yield database
        finally:
            database.close()
            forget(server.pid)


@contextlib.contextmanager
def shop_with_a_database_on(clock: Clock, folder: Path, **settings: Any) -> Iterator[Shop]:
    """A shop of which only the database goes by this clock."""
    with database_on(clock) as database, PosWriter(database.dsn) as pos:
        pos.seed_reference_data()
        with shop(pos, database, folder, STATIONS, **settings) as here:
            yield here


def step_database(here: Shop, clock: Clock, ahead: int) -> None:
    """Step the database's clock, and see that it took."""
    clock.set(ahead)
    (row,) = here.pos.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS now")
    assert abs(row["now"] - time.time() - ahead) < 60


def orders(here: Shop, name: str) -> dict[str, int]:
    """A long ticket and a short one for the kitchen, one for the bar: dish -> ticket."""
    return {
        f"{name}0": here.pos.ticket("kitchen", long_order(f"{name}0")),
        f"{name}1": here.pos.ticket("kitchen", [(f"{name}1", 1)]),
        f"{name}2": here.pos.ticket("bar", [(f"{name}2", 1)]),
    }


def check_once(here: Shop, tickets: dict[str, int]) -> None:
    """Each ticket is on paper once, unmarked, at its first try, and nothing was taken back from anybody."""
    here.all_end(tickets.values())
    for dish, ticket in tickets.items():
        here.only_copy(dish)
        assert here.actions(ticket) == ONCE
    (most,) = here.pos.rows("SELECT max(print_attempts) AS attempts, max(sends) AS sends FROM kitchen_kitchenticket "
                            "JOIN kps.job ON ticket_id = id")  # fmt: skip
    assert (most["attempts"], most["sends"]) == (1, 1)
    assert not re.search(r"\breleased cause=", here.service.text())
    assert not here.service.said("claim lost")
    assert not here.service.said("child died")


def wait_healthy(here: Shop) -> None:
    """Until /health is as if nothing had been."""
    eventually(lambda: (here.service.health() or {}).get("status") == "healthy", timeout=20, what="/health is well")


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=["forwards", "backwards"])
def test_a_database_clock_that_steps_by_an_hour_and_back_prints_everything_once(
    clock: Clock, tmp_path: Path, ahead: int
) -> None:
    """Forwards: every lease ends at that moment, and is taken again under a new epoch that carries what is held.

    A ticket that is being sent goes on, because trust in the lease is counted on the host's clock and renewed at once.
    Tickets look an hour old then and say LATE: their `created_at` is the web host's time. Backwards: leases seem to
    last for an hour more until they are renewed, which is within 1.5 s.
    """
    with shop_with_a_database_on(clock, tmp_path, each={"kitchen-1": SLOW}) as here:
        pids = here.service.children()
        tickets = orders(here, "Before")
        here.wait_sending(tickets["Before0"])
        step_database(here, clock, ahead)
        tickets |= orders(here, "During")
        here.printed(tickets["During0"])
        step_database(here, clock, 0)
        tickets |= orders(here, "After")
        check_once(here, tickets)
        wait_healthy(here)
        assert here.service.children() == pids
        assert here.service.said("lease taken", "epoch=2") or here.service.said("lease taken", "epoch=3")
        assert here.service.stop() == 0


def test_a_ticket_that_waits_for_its_retry_does_not_wait_an_hour_longer(clock: Clock, tmp_path: Path) -> None:
    """The moment of the next round is the database's time; when that goes back, the round is due at once."""
    with shop_with_a_database_on(clock, tmp_path, RETRY_DELAY_SECONDS=2) as here:
        here.printers["bar-1"].power_off()
        here.wait_state("bar-1", "down")
        ticket = here.pos.ticket("bar", [("Dish1", 1)])
        eventually(lambda: here.actions(ticket)[-1:] == ["retry"], what="the first round is over")
        step_database(here, clock, -HOUR)
        here.printers["bar-1"].power_on()
        here.printed(ticket)
        here.only_copy("Dish1")
        wait_healthy(here)


@pytest.mark.parametrize("end", ["stopped", "killed", "lost"])
def test_a_service_that_starts_after_the_database_clock_went_back_gets_its_printers(
    clock: Clock, tmp_path: Path, end: str
) -> None:
    """The leases of the last generation end an hour later by the new time; nobody holds them.

    `lost`: the host is replaced, and with it the file by which a successor knows whose leases it may end.
    """
    with shop_with_a_database_on(clock, tmp_path) as here:
        first = here.pos.ticket("bar", [("Dish1", 1)])
        here.printed(first)
        if end == "stopped":
            assert here.service.stop() == 0
        else:
            here.service.kill_group()
        if end == "lost":
            shutil.rmtree(here.service.env["RUN_DIR"])
        step_database(here, clock, -HOUR)
        second = here.pos.ticket("bar", [("Dish2", 1)])
        here.service.start().wait_ready(2)
        here.printed(second)
        for dish in ("Dish1", "Dish2"):
            here.only_copy(dish)
        wait_healthy(here)


@pytest.mark.parametrize("ahead", [DAY, -DAY], ids=["forwards", "backwards"])
def test_a_host_clock_that_steps_by_a_day_and_back_changes_nothing_but_what_is_shown(
    clock: Clock, pos: PosWriter, pos_database: Database, tmp_path: Path, ahead: int
) -> None:
    """All of the service's processes see the step at once; the database and the printers keep the right time.

    Waits, heartbeats and trust in a lease are monotonic, ages of tickets are the database's: no child is thought to
    hang, no lease ends, nothing becomes LATE or stale. Only times that are shown (log, last poll) are wrong.
    """
    with shop(pos, pos_database, tmp_path, STATIONS, each={"kitchen-1": SLOW}, **clock.environment) as here:
        assert here.service.process is not None
        pid = here.service.process.pid
        try:
            pids = here.service.children()
            tickets = orders(here, "Before")
            here.wait_sending(tickets["Before0"])
            clock.set(ahead)
            tickets |= orders(here, "During")
            here.printed(tickets["During0"])
            eventually(lambda: shown_ahead(here.service) == timedelta(seconds=ahead), what="the step is seen")
            clock.set(0)
            tickets |= orders(here, "After")
            check_once(here, tickets)
            eventually(lambda: shown_ahead(here.service) == timedelta(0), what="the step back is seen")
            wait_healthy(here)
            assert here.service.children() == pids
            assert not here.service.said("epoch=2"), "no lease has ended"
            assert not any("LATE" in text for printer in here.printers.values() for text in printer.texts())
            assert here.service.stop() == 0
        finally:
            here.service.end()
            forget(pid)


def shown_ahead(service: Service) -> timedelta | None:
    """How far the last poll in /health is before our clock, in whole hours."""
    shown = (service.health() or {}).get("last_poll")
    if shown is None:
        return None
    hours = (datetime.fromisoformat(shown).astimezone(UTC) - datetime.now(UTC)) / timedelta(hours=1)
    return timedelta(hours=round(hours))
