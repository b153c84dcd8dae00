"""Where nobody wakes the service it looks for itself, whatever POLL_INTERVAL says.

All with a POLL_INTERVAL of an hour. The look for slips, every 2 s, finds tickets as well: so there are many of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import Shop, shop
from tests.service.proxy import Pooler

STATIONS = {"bar-1": ("bar", 1)}
AN_HOUR = {"POLL_INTERVAL": 3600}
TRIGGER = "kps_ticket_notify"
DEAF = "not listening for wake-ups: tickets are found by polling"


def print_many(here: Shop, count: int = 16) -> None:
    """One after the other, each by itself: nothing but a look finds it. The look for slips alone would need 32 s."""
    tickets = [here.pos.ticket("bar")]

    def all_printed() -> bool:
        if (here.pos.ticket_row(tickets[-1]) or {})["status"] == "printed":
            tickets.append(here.pos.ticket("bar"))
        return len(tickets) > count

    eventually(all_printed, timeout=16, what=f"{count} tickets, one after the other")


def notices(here: Shop) -> str:
    return " / ".join((here.service.health() or {}).get("notices", []))


def trigger_states(pos: PosWriter) -> list[str]:
    """`O` if it is there and enabled; nothing if it is not there."""
    return [row["tgenabled"] for row in pos.rows("SELECT tgenabled FROM pg_trigger WHERE tgname = %s", [TRIGGER])]


def test_without_the_trigger_a_ticket_does_not_wait_for_the_poll(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, NOTIFY_TRIGGER="off", **AN_HOUR) as here:
        print_many(here)
        assert trigger_states(pos) == []
        assert "wake-up trigger is off" in notices(here)


def test_a_trigger_that_is_switched_off_while_we_run_is_made_again_and_no_ticket_waits(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, **AN_HOUR) as here:
        pids = here.service.children()
        pos.execute(f"ALTER TABLE kitchen_kitchenticket DISABLE TRIGGER {TRIGGER}")
        print_many(here)
        eventually(lambda: trigger_states(pos) == ["O"], timeout=15, what="the trigger is back")
        here.service.wait_said("trigger made again")
        assert here.service.children() == pids


@contextmanager
def a_role(database: Database, name: str) -> Iterator[None]:
    """A role that may make the trigger, until that is taken from it."""
    with database.connect().cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'kps'")
        try:
            cursor.execute(f'GRANT CREATE ON DATABASE "{database.name}" TO {name}')
            cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON ALL TABLES IN SCHEMA public TO {name}")
            yield
        finally:
            cursor.execute(f"DROP OWNED BY {name} CASCADE")
            cursor.execute(f"DROP ROLE {name}")


def test_a_trigger_that_we_may_not_make_again_is_told_until_somebody_else_does(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    name = "kps_wakeup_test"
    with (
        a_role(pos_database, name),
        shop(pos, pos_database, tmp_path, STATIONS, DB_USER=name, DB_PASSWORD="kps", **AN_HOUR) as here,
    ):
        assert "trigger" not in notices(here)
        pos.execute(f"REVOKE TRIGGER ON kitchen_kitchenticket FROM {name}")
        pos.execute(f"DROP TRIGGER {TRIGGER} ON kitchen_kitchenticket")
        print_many(here)
        eventually(lambda: "wake-up trigger is absent" in notices(here), timeout=15, what="a word of it")
        pos.execute(
            f"CREATE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE ON kitchen_kitchenticket"
            " FOR EACH ROW EXECUTE FUNCTION kps.ticket_notify()"
        )
        eventually(lambda: "trigger" not in notices(here), timeout=15, what="no word of it any more")
        print_many(here)
        here.service.stop()


def test_behind_a_pooler_that_passes_no_notification_a_ticket_does_not_wait_for_the_poll(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        Pooler(pos_database.host, pos_database.port, deaf=True) as pooler,
        shop(pos, pos_database, tmp_path, STATIONS, DB_PORT=pooler.port, **AN_HOUR) as here,
    ):
        print_many(here)
        eventually(lambda: DEAF in notices(here), what="a word of it")
        pooler.deaf = False
        eventually(lambda: DEAF not in notices(here), timeout=15, what="it listens now")
        print_many(here)
        # From now on it believes in notifications, and one fails to come.
        pooler.deaf = True
        print_many(here)
        assert DEAF in notices(here)


def test_a_ticket_whose_notification_is_lost_is_found_by_the_statement_that_makes_slips(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    """That statement is the poll of an idle service, although the next one of its own would be due in an hour."""
    with shop(pos, pos_database, tmp_path, STATIONS, **AN_HOUR) as here:
        eventually(lambda: DEAF not in notices(here), timeout=15, what="it is woken")
        pos.execute("SET session_replication_role = replica")  # no trigger fires
        ticket = pos.ticket("bar")
        pos.execute("RESET session_replication_role")
        here.printed(ticket)
        metrics = here.service.get("/metrics").body.splitlines()
        assert "kps_poll_found_work_total 1.0" in metrics
