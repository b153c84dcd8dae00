"""A database far away, or one that refuses only some of the work."""

from __future__ import annotations

from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import shop
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
