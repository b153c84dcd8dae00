"""What concerns very many rows is done in pieces, through an index, and beside what cannot wait."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import wait
from typing import Any

import pytest

from kps.core.backlog import AT_ONCE, NO_TICKET, Among, Horizon
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.database.connection import Database, Statement
from kps.database.migrations import applied, available, migrate
from kps.dispatcher.backlog import BacklogWorker, Done, News, Passed
from kps.dispatcher.looks import EVERYTHING
from tests.conftest import eventually
from tests.database.house import House, Instance, settings_of
from tests.database.test_dispatcher import scene
from tests.pile import pile_up

YESTERDAY = timedelta(days=1)


@contextlib.contextmanager
def worker(house: House, one: Instance, **settings: object) -> Iterator[BacklogWorker]:
    given = Settings(database=settings_of(house.target), **settings)  # type: ignore[arg-type]
    with contextlib.closing(BacklogWorker(given, house.schema, one.me, "backlog")) as made:
        yield made


def until(made: BacklogWorker, end: Callable[[News], bool]) -> list[News]:
    """All news up to the one that is waited for."""
    found: list[News] = []

    def there() -> bool:
        wait([made.fileno()], 0.1)
        found.extend(made.take())
        return any(end(news) for news in found)

    eventually(there, timeout=30, what="news of the backlog")
    return found


def is_done(news: News) -> bool:
    return isinstance(news, Done)


def failed_by(news: list[News]) -> list[list[int]]:
    return [list(one.failed) for one in news if isinstance(one, Passed) and one.failed]


def horizon(one: Instance) -> Horizon:
    found, any_old = one.queue.horizon(240)
    assert any_old
    return found


# The old ones.


def test_an_old_backlog_is_failed_in_pieces_and_each_ticket_says_why(house: House, one: Instance) -> None:
    first, last = pile_up(house.pos, 1200)
    with worker(house, one) as made:
        made.fail(horizon(one))
        pieces = failed_by(until(made, is_done))
    assert [len(piece) for piece in pieces] == [500, 500, 200]
    assert sorted(ticket for piece in pieces for ticket in piece) == list(range(first, last + 1))
    rows = house.pos.rows(
        "SELECT DISTINCT t.status, t.error_message, l.action, l.error_code FROM kitchen_kitchenticket t"
        " JOIN kitchen_kitchenticketlog l ON l.ticket_id = t.id WHERE t.id BETWEEN %s AND %s",
        [first, last],
    )
    (row,) = rows
    assert (row["status"], row["action"], row["error_code"]) == ("failed", "print_failed", "stale")
    assert row["error_message"].startswith("older than 240 minutes")


def test_old_tickets_of_one_moment_are_all_met_once(house: House, one: Instance) -> None:
    first, last = pile_up(house.pos, 1100)
    house.pos.execute("UPDATE kitchen_kitchenticket SET created_at = now() - interval '2 days'")
    reset = list(range(first, last, 3))
    house.pos.execute("UPDATE kitchen_kitchenticket SET print_attempts = 3 WHERE id = ANY (%s)", [reset])
    with worker(house, one) as made:
        made.fail(horizon(one))
        news = until(made, is_done)
    assert sum(map(len, failed_by(news))) == 1100 - len(reset)
    assert set().union(*(one.spared for one in news if isinstance(one, Passed))) == set(reset)


def test_an_old_ticket_that_was_held_lately_is_not_failed_when_it_comes_back_meanwhile(
    house: House, one: Instance
) -> None:
    ticket = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    other = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    row = house.row("kitchen-1")
    (claimed,) = one.try_claim(ticket, on=row)
    with worker(house, one) as made:
        found = horizon(one)
        one.queue.release([claimed.work], "its printer is blocked")
        assert house.status(ticket) == "new"
        made.fail(found)
        until(made, is_done)
    assert (house.status(ticket), house.status(other)) == ("new", "failed")


def test_an_instance_goes_through_the_old_tickets_of_its_own_stations_only(house: House, one: Instance) -> None:
    pile_up(house.pos, 700)
    bar, _ = pile_up(house.pos, 1, "bar")
    with worker(house, one, stations=frozenset({"bar"})) as made:
        made.fail(horizon(one))
        assert failed_by(until(made, is_done)) == [[bar]]


def test_an_old_ticket_that_somebody_has_locked_is_come_back_to(house: House, one: Instance) -> None:
    first, last = pile_up(house.pos, 3)
    with worker(house, one) as made:
        with house.instance("pos").transaction() as raw:
            raw.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [first + 1])
            made.fail(horizon(one))
            assert failed_by(until(made, lambda news: isinstance(news, Passed) and bool(news.failed))) == [
                [first, last]
            ]
            assert made.horizon is not None
        assert failed_by(until(made, is_done)) == [[first + 1]]
    assert made.horizon is None


def test_a_piece_that_takes_too_long_is_halved_and_one_ticket_keeps_no_other(
    house: House, one: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    first, last = pile_up(house.pos, 2)
    one.queue.wait([one.seen(last)])
    with worker(house, one) as made:
        with house.instance("pos").transaction() as raw:
            raw.cursor().execute("SELECT 1 FROM kps.job WHERE ticket_id = %s FOR UPDATE", [last])
            made.fail(horizon(one))
            assert failed_by(until(made, lambda news: isinstance(news, Passed) and bool(news.failed))) == [[first]]
            eventually(lambda: "old ticket left for later" in caplog.messages, what="a word of it")
            assert caplog.messages[0] == "backlog in smaller pieces"
        assert failed_by(until(made, is_done)) == [[last]]


def test_a_later_outage_takes_the_place_of_an_earlier_one(house: House, one: Instance) -> None:
    pile_up(house.pos, AT_ONCE)
    earlier = horizon(one)
    late, _ = pile_up(house.pos, 1)
    with worker(house, one) as made:
        made.fail(dataclasses.replace(earlier, before=0.0))
        made.fail(horizon(one))
        until(made, lambda news: isinstance(news, Done) and news.horizon.up_to >= late)
    assert house.status(late) == "failed"


# The looks beside it.


def test_a_look_beside_an_old_backlog_finds_what_is_of_today_and_what_is_spared(house: House, one: Instance) -> None:
    first, last = pile_up(house.pos, 100)
    fresh = house.pos.ticket()
    behind = horizon(one)
    slow_clock = house.pos.ticket(created_at=datetime.now(UTC) - YESTERDAY)
    seen = one.queue.look(20, behind.without_old(frozenset({TicketId(last)})))
    assert [ticket.id for ticket in seen] == [last, fresh, slow_clock]
    assert [ticket.id for ticket in one.queue.look(20)] == list(range(first, first + 20))


def explain(house: House, statement: Statement[Any], values: str) -> str:
    """The plan of a statement as the service runs it: a generic one, with what its prelude sets."""
    database = Database(settings_of(house.target), "plans")
    try:
        database.query(statement.prepare)
        raw = database.raw
        raw.autocommit = False
        with raw.cursor() as cursor:
            if statement.prelude:
                cursor.execute(f"EXECUTE kps_before_{statement.name}")
            cursor.execute(f"EXPLAIN (ANALYZE, COSTS off) EXECUTE kps_{statement.name} ({values})")
            return "\n".join(row[0] for row in cursor.fetchall())
    finally:
        database.close()


@pytest.mark.parametrize("analyzed", [True, False])
def test_a_fresh_ticket_is_found_without_reading_the_old_ones(house: House, one: Instance, analyzed: bool) -> None:
    pile_up(house.pos, 20_000)
    fresh = house.pos.ticket()
    if analyzed:
        house.pos.execute("ANALYZE")
    behind = horizon(one)
    assert [ticket.id for ticket in one.queue.look(20, behind.without_old(frozenset()))] == [fresh]
    plan = explain(
        house, one.queue.sql.look_among, f"{behind.before}, {behind.up_to}, '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', 20"
    )
    assert "Seq Scan on kitchen_kitchenticket" not in plan
    rows = [float(part.split("rows=")[1].split()[0]) for part in plan.splitlines() if "rows=" in part]
    assert max(rows) < 100, plan


def test_the_next_old_tickets_are_found_in_order_without_reading_all(house: House, one: Instance) -> None:
    pile_up(house.pos, 20_000)
    house.pos.execute("ANALYZE")
    behind = horizon(one)
    plan = explain(
        house, one.queue.sql.stale, f"'-infinity', {behind.before}, {behind.up_to}, '{{}}', 500, '{{}}', '{{}}'"
    )
    assert "Sort on" not in plan
    rows = [float(part.split("rows=")[1].split()[0]) for part in plan.splitlines() if "rows=" in part]
    assert max(rows) <= 500, plan


# A crowd that may be printed.


def test_a_survey_finds_the_oldest_of_each_route_and_says_where_it_was_cut(house: House, one: Instance) -> None:
    first, _ = pile_up(house.pos, 300, age=timedelta(hours=1))
    bar = house.pos.ticket(" Bar")
    waiting = one.seen(first + 1)
    one.queue.end_round([waiting], ip="", code="x", error="x", delay_s=3600, budget=9)
    found = one.queue.survey(200, EVERYTHING)
    assert found.ids == {first, *range(first + 2, first + 201), bar}
    assert found.cut == {("kitchen", waiting.brand): first + 200}
    assert (found.above, found.count) == (bar, 302 - 1)
    late = house.pos.ticket("bar")
    seen = one.queue.look(3, found.among(frozenset()))
    assert [ticket.id for ticket in seen] == [first, first + 2, first + 3, bar, late]
    scope = Among(0.0, NO_TICKET)
    assert one.queue.survey(200, scope).ids == found.ids | {late}


def test_a_ticket_that_is_committed_behind_a_survey_with_an_earlier_number_is_seen(house: House, one: Instance) -> None:
    pile_up(house.pos, 30, age=timedelta(hours=1))
    number = "SELECT nextval(pg_get_serial_sequence('kitchen_kitchenticket', 'id')) AS id"
    (early,) = house.pos.rows(number)  # a transaction of the POS that is still under way
    house.pos.ticket("bar")
    found = one.queue.survey(20, EVERYTHING)
    template = house.pos.ticket("bar")
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'printed' WHERE id = %s", [template])
    columns = [
        row["column_name"]
        for row in house.pos.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'kitchen_kitchenticket'"
        )
    ]
    given = {"id": str(early["id"]), "status": "'new'"}
    house.pos.execute(
        f"INSERT INTO kitchen_kitchenticket ({', '.join(columns)}) "
        f"SELECT {', '.join(given.get(name, name) for name in columns)} FROM kitchen_kitchenticket WHERE id = %s",
        [template],
    )

    seen = one.queue.look(20, found.among(frozenset()))

    assert early["id"] in [ticket.id for ticket in seen]


def test_a_crowd_is_printed_in_order_from_one_survey_to_the_next(house: House, one: Instance) -> None:
    first, last = pile_up(house.pos, 2600, age=timedelta(0), items=True)
    with scene(house, one, "kitchen-1", started=False) as here:
        here.dispatcher._looks.backlog.survey(EVERYTHING)
        assert wait([here.dispatcher._looks.backlog.fileno()], 20)
        here.dispatcher._looks.hear()
        assert here.dispatcher._looks.survey is not None
        here.start()
        assert here.tickets(230) == list(range(first, first + 230))
        assert here.dispatcher._looks.survey is not None
        house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'failed' WHERE id > %s", [last - 2300])
        assert here.tickets(30) == list(range(first + 230, first + 260))
        eventually(lambda: here.dispatcher._looks.survey is None, what="the crowd is over")


def test_a_crowd_that_nobody_can_print_keeps_no_other_station_waiting(house: House, one: Instance) -> None:
    house.printer("grill-1", station="grill", is_active=False)
    pile_up(house.pos, 2600, "grill", age=timedelta(0), items=True)
    with scene(house, one, "kitchen-1", "grill-1", started=False) as here:
        here.dispatcher._looks.backlog.survey(EVERYTHING)
        assert wait([here.dispatcher._looks.backlog.fileno()], 20)
        here.dispatcher._looks.hear()
        here.start()
        tickets = [house.pos.ticket() for _ in range(3)]
        assert here.tickets(3) == tickets
        assert here.dispatcher._looks.survey is not None


# What the supervisor keeps in order.


def test_an_instance_adopts_only_tickets_of_its_own_stations_and_brands(house: House, one: Instance) -> None:
    kitchen = house.pos.ticket(status="printing")
    house.pos.add_brand("OTHER", "Other")
    other = house.pos.ticket(" BAR", status="printing", brand="OTHER")

    def orphans(stations: str = "", brands: str = "") -> list[int]:
        rows = one.database.run(one.queue.sql.orphans, me=one.me, stations=stations.split(), brands=brands.split())
        return [row.id for row in rows]

    assert orphans() == [kitchen, other]
    assert orphans("kitchen") == [kitchen]
    assert orphans("bar", "other") == [other]
    assert orphans("kitchen", "other") == []


def test_what_is_mine_is_adopted_whatever_its_station(house: House, one: Instance) -> None:
    row = house.row("kitchen-1")
    claimed = one.claim(house.pos.ticket(), row)
    house.let_lease_end(row)
    rows = one.database.run(one.queue.sql.orphans, me=one.me, stations=["bar"], brands=[])
    assert [one.id for one in rows] == [claimed.work.id]


def test_jobs_are_swept_in_pieces(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    house.pos.execute(
        "INSERT INTO kps.job (ticket_id, state) SELECT %s + n, 'printed' FROM generate_series(0, 11999) n", [ticket]
    )
    found, after = [], 0
    while True:
        (row,) = one.database.run(one.queue.sql.sweep, me=one.me, after=after)
        found.append(row.jobs)
        if row.last is None:
            break
        after = row.last
    assert found == [4999, 5000, 2000]
    assert house.job(ticket)["state"] == "printed"


def test_old_health_rows_go_a_few_at_a_time(house: House, one: Instance) -> None:
    ids = [house.row(name).id for name in ("kitchen-1", "kitchen-2")]
    house.pos.execute(
        """INSERT INTO kitchen_printerhealthcheck (checked_at, is_online, paper_status, error_code, error_message,
                                                   printer_id)
           SELECT now() - interval '20 days' + (n + 0.5) * interval '1 hour', true, 'ok', '', '', p
             FROM generate_series(0, 479) n, unnest(%s) p""",
        [ids],
    )
    assert [one.queue.prune_health(ids, 14) for _ in range(2)] == [2 * 144, 0]
    house.pos.execute("UPDATE kitchen_printerhealthcheck SET checked_at = checked_at - interval '1 year'")
    assert [one.queue.prune_health(ids, 14) for _ in range(3)] == [500, 172, 0]


# Migrations.


def forget_last(house: House) -> tuple[int, str]:
    """The last migration is still to be done. It may be run on what it has made: it makes an index anew."""
    number, name, _ = available()[-1]
    assert name == "0006_sending_per_epoch.sql"
    house.pos.execute("DELETE FROM kps.schema_version WHERE version = %s", [number])
    return number, name


@contextlib.contextmanager
def in_use(house: House) -> Iterator[None]:
    """Somebody has our tables in a transaction that stays open."""
    connection = house.target.connect(autocommit=False)
    connection.cursor().execute("LOCK TABLE kps.printer, kps.chain, kps.job")
    # Where a migration that touches none of them notes that it is done.
    connection.cursor().execute("LOCK TABLE kps.schema_version IN EXCLUSIVE MODE")
    yield
    connection.rollback()


def blocked(house: House, count: int) -> bool:
    rows = house.pos.rows(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND now() - query_start > interval '5.5 seconds'"
    )
    return len(rows) == count


def test_a_migration_may_take_longer_than_any_other_statement_and_others_wait_for_it(house: House) -> None:
    number, name = forget_last(house)
    databases = [Database(settings_of(house.target), "migrating") for _ in range(2)]
    told: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        with in_use(house):
            first = pool.submit(migrate, databases[0], automatic=True)
            held = (
                "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE l.locktype = 'advisory' AND d.datname = current_database()"
            )
            eventually(lambda: house.pos.rows(held), what="its turn")
            second = pool.submit(migrate, databases[1], automatic=True, tell=told.append)
            eventually(lambda: blocked(house, 1) or first.done() or second.done(), timeout=20, what="a long wait")
            assert not first.done()
            assert not second.done()
        assert (first.result(), second.result()) == ([name], [])
    assert set(told) == {"another instance is migrating schema kps"}
    assert applied(house.database) == number
    for database in databases:
        database.close()


MIGRATING = """
import sys
from kps.core.settings import DatabaseSettings
from kps.database.connection import Database
from kps.database.migrations import migrate
host, port, name, user, password = sys.argv[1:]
migrate(Database(DatabaseSettings(host, int(port), name, user, password, "disable"), "migrating"), automatic=True)
"""


def test_a_migration_that_is_killed_in_the_middle_is_done_by_the_next_start(house: House) -> None:
    number, name = forget_last(house)
    target = house.target

    def at_work() -> list[dict[str, object]]:
        return house.pos.rows("SELECT * FROM pg_stat_activity WHERE application_name = 'kps:migrating'")

    with in_use(house):
        arguments = [target.host, str(target.port), target.name, target.user, target.password]
        with subprocess.Popen([sys.executable, "-c", MIGRATING, *arguments], env=dict(os.environ)) as process:
            eventually(
                lambda: any(row["wait_event_type"] == "Lock" for row in at_work()), what="it waits in the middle"
            )
            process.kill()
        eventually(lambda: not at_work(), what="the server has noticed")
        assert applied(house.database) == number - 1
    assert migrate(house.database, automatic=True) == [name]
    assert applied(house.database) == number
