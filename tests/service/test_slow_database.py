"""A database far away, or one that refuses only some of the work."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Shop, shop
from tests.service.proxy import Proxy


def test_a_database_with_a_round_trip_of_more_than_half_a_second_still_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        Proxy(pos_database.host, pos_database.port, delay_s=0.3) as far,
        shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, DB_PORT=far.port, start=False) as here,
    ):
        here.service.start().wait_ready(1, timeout=60)
        # Longer than a lease lives: each renewal has to arrive in the cells of the printer process.
        for _ in range(4):
            here.ends(pos.ticket("bar"), "printed", timeout=40)
        assert "lease not trusted" not in here.service.text()


def test_health_says_so_when_a_right_is_taken_away_while_we_run(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    # Autocommit: psycopg2 would open a transaction for `with connection`.
    with pos_database.connect().cursor() as cursor:
        cursor.execute("CREATE ROLE kps_slow_test LOGIN PASSWORD 'kps'")
        try:
            cursor.execute(f'GRANT CREATE ON DATABASE "{pos_database.name}" TO kps_slow_test')
            cursor.execute(
                "GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON ALL TABLES IN SCHEMA public TO kps_slow_test"
            )
            with shop(
                pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, DB_USER="kps_slow_test", DB_PASSWORD="kps"
            ) as here:
                here.printed(pos.ticket("bar"))
                cursor.execute("REVOKE UPDATE ON kitchen_kitchenticket FROM kps_slow_test")
                ticket = pos.ticket("bar")
                eventually(lambda: here.service.get("/health").status == 503, timeout=20, what="unhealthy")
                eventually(
                    lambda: "UPDATE on kitchen_kitchenticket" in here.service.health()["database"],
                    timeout=20,
                    what="the missing right is named",
                )
                cursor.execute("GRANT UPDATE ON kitchen_kitchenticket TO kps_slow_test")
                here.printed(ticket)
                eventually(lambda: here.service.get("/health").status == 200, timeout=20, what="healthy again")
                here.service.stop()
        finally:
            cursor.execute("DROP OWNED BY kps_slow_test CASCADE")
            cursor.execute("DROP ROLE kps_slow_test")


LONG = pytest.param(
    90.0,
    marks=[
        pytest.mark.slow,
        pytest.mark.timeout(400),
        pytest.mark.skipif(
            not os.environ.get("KPS_TEST_LONG"), reason="takes minutes: make check-long, or KPS_TEST_LONG=1"
        ),
    ],
)


@pytest.mark.parametrize("seconds", [15.0, LONG])
def test_no_lease_ends_because_the_database_is_far_away(
    pos: PosWriter, pos_database: Database, tmp_path: Path, seconds: float
) -> None:
    """0.8 s in each direction: to connect takes seven. The short run begins near, as a far start takes a minute."""
    with (
        Proxy(pos_database.host, pos_database.port, delay_s=0.8 if seconds > 60 else 0.0) as way,
        shop(pos, pos_database, tmp_path, KITCHEN_AND_BAR, printer=SLOW, DB_PORT=way.port, start=False) as here,
    ):
        here.service.start().wait_ready(len(here.printers), timeout=150)
        way.delay_s = 0.8
        tickets_print_under_the_same_leases(here, seconds)
        assert here.service.health()["database"] == "connected"
        assert here.service.health()["reasons"] == []
        assert here.service.stop() == 0


def test_no_lease_ends_because_the_supervisors_other_statements_take_long(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    slow = {b"EXECUTE kps_rows": 3.0, b"EXECUTE kps_counts": 3.5}
    with (
        Proxy(pos_database.host, pos_database.port, slow=slow) as loaded,
        shop(pos, pos_database, tmp_path, KITCHEN_AND_BAR, printer=SLOW, DB_PORT=loaded.port) as here,
    ):
        tickets_print_under_the_same_leases(here, 12.0)


KITCHEN_AND_BAR = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


def tickets_print_under_the_same_leases(here: Shop, seconds: float) -> None:
    """No take-over, no marked copy, no ticket that waits for long, while tickets come for so many seconds."""
    epochs = epochs_of(here.pos)
    dishes: list[str] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ordered = [f"{station.title()}{len(dishes)}" for station in ("kitchen", "bar")]
        tickets = [
            here.pos.ticket(station, [(dish, 1)]) for station, dish in zip(("kitchen", "bar"), ordered, strict=True)
        ]
        here.all_end(tickets, timeout=60)
        dishes += ordered
    assert epochs_of(here.pos) == epochs, "a lease ended"
    for dish in dishes:
        here.only_copy(dish)
    assert not here.service.said("lease not trusted")


def epochs_of(pos: PosWriter) -> dict[str, int]:
    """Of all leases; whoever takes one raises it."""
    return {row["printer_key"]: row["epoch"] for row in pos.rows("SELECT printer_key, epoch FROM kps.printer")}
