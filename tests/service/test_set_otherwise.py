"""A database whose administrator has set everything otherwise than the service needs it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import psycopg2

from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.database.test_session import set_otherwise
from tests.service.harness import shop


def test_tickets_print_in_a_database_that_is_set_otherwise(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    set_otherwise(pos_database)
    with contextlib.closing(psycopg2.connect(pos_database.dsn)) as plain, plain.cursor() as cursor:
        cursor.execute("SHOW default_transaction_read_only")
        assert cursor.fetchone() == ("on",)
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}) as here:
        tickets = {f"Dish{n}": pos.ticket(["bar", "kitchen"][n % 2], [(f"Dish{n}", 1)]) for n in range(6)}
        here.all_end(tickets.values())
        again = pos.reprint(tickets["Dish0"])
        here.printed(again)
        here.no_unmarked_duplicate(tickets)
        assert [copy.marked for copy in here.copies("Dish0")] == [False, True]
        assert here.service.health()["status"] == "healthy"
        found = subprocess.run(
            [sys.executable, "-m", "kps.cli", "preview", str(tickets["Dish1"])],
            env=here.service.env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "Dish1" in found.stdout, found
        assert here.service.stop() == 0
