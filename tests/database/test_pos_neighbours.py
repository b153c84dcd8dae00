"""Living beside the POS: the wake-up trigger, its migrations and purges, health rows, numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg2
import pytest

from kps.core.address import TcpAddress
from kps.core.tickets import Printed, ProofLevel, Reason, Uncertain
from kps.database.connection import DatabaseTrouble
from kps.database.migrations import (
    MigrationNeeded,
    SchemaTooNew,
    available,
    migrate,
    step_sql,
)
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from kps.database.printer_queue import Withdrawn
from tests.conftest import eventually
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)


def listener(house: House) -> Any:
    """A connection that hears the wake-up calls."""
    connection = house.target.connect()
    connection.cursor().execute("LISTEN kps_ticket_new")
    return connection


def heard(connection: Any) -> int:
    connection.cursor().execute("SELECT 1")
    return len(connection.notifies)


def test_every_way_in_which_a_ticket_becomes_new_wakes_us_and_nothing_else_does(house: House) -> None:
    ears = listener(house)
    ticket = house.pos.ticket()
    eventually(lambda: heard(ears) == 1, what="the wake-up of an insert")
    house.pos.mark_failed(ticket)
    house.pos.ticket(status="printed")
    house.pos.reset_to_new(ticket)
    eventually(lambda: heard(ears) == 2, what="the wake-up of a reset")
    assert heard(ears) == 2
    assert {notify.payload for notify in ears.notifies} == {""}


def test_many_tickets_of_one_transaction_wake_us_once(house: House) -> None:
    ears = listener(house)
    for _ in range(3):
        house.pos.ticket(status="failed")
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'new'")
    eventually(lambda: heard(ears) == 1, what="the wake-up")
    assert heard(ears) == 1


@pytest.mark.parametrize(
    "migration",
    [
        "ALTER TABLE kitchen_kitchenticket ALTER COLUMN status TYPE varchar(30)",
        "ALTER TABLE kitchen_kitchenticket ALTER COLUMN status TYPE text",
        "ALTER TABLE kitchen_kitchenticket RENAME COLUMN status TO state",
        "ALTER TABLE kitchen_kitchenticket RENAME COLUMN printer_target TO station",
        "ALTER TABLE kitchen_kitchenticket ADD COLUMN more text",
        "ALTER TABLE kitchen_kitchenticket DROP COLUMN last_error_at",
    ],
)
def test_the_pos_can_migrate_its_ticket_table_and_write_tickets_with_the_trigger_installed(
    house: House, migration: str
) -> None:
    ticket = house.pos.ticket()
    house.pos.execute(migration)
    house.pos.execute("UPDATE kitchen_kitchenticket SET error_message = 'x' WHERE id = %s", [ticket])


@pytest.mark.parametrize(
    ("migration", "way_back"),
    [
        (
            "ALTER TABLE kitchen_kitchenticket ALTER COLUMN status TYPE varchar(30)",
            "ALTER TABLE kitchen_kitchenticket ALTER COLUMN status TYPE varchar(20)",
        ),
        (
            "ALTER TABLE kitchen_kitchenticket RENAME COLUMN status TO state",
            "ALTER TABLE kitchen_kitchenticket RENAME COLUMN state TO status",
        ),
        (
            "ALTER TABLE kitchen_kitchenticket RENAME COLUMN printer_target TO station",
            "ALTER TABLE kitchen_kitchenticket RENAME COLUMN station TO printer_target",
        ),
    ],
    ids=["type of status", "name of status", "another name"],
)
def test_a_migration_there_and_back_while_we_hold_tickets_loses_neither_a_ticket_nor_a_wake_up(
    house: House, one: Instance, migration: str, way_back: str
) -> None:
    """One ticket is being sent, one is claimed, one waits, and the lease lives."""
    kitchen = house.row("kitchen-1")
    sent, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    held = one.claim(house.pos.ticket(), kitchen)
    waiting = house.pos.ticket()
    house.pos.execute(migration)
    assert one.renew() == {row.key for row in house.rows()}, "a lease is ours alone"
    house.pos.execute(way_back)
    ears = listener(house)
    later = house.pos.ticket()
    eventually(lambda: heard(ears) == 1, what="the wake-up of an insert")
    one.database.close()  # a statement prepared before is a trouble once, and then the connection is new
    assert one.settle(sent, PROVEN) == "printed"
    assert one.send(held).sends == 1
    assert one.settle(held, PROVEN) == "printed"
    for ticket in (waiting, later):
        claimed, _ = one.claim_and_send(ticket, kitchen)
        assert one.settle(claimed, PROVEN) == "printed"


def test_a_column_that_is_away_is_a_trouble_and_changes_nothing(house: House, one: Instance) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    before = house.job(claimed.work.id)
    house.pos.execute("ALTER TABLE kitchen_kitchenticket RENAME COLUMN status TO state")
    with pytest.raises(DatabaseTrouble) as trouble:
        one.settle(claimed, PROVEN)
    assert trouble.value.sqlstate == "42703"
    assert house.job(claimed.work.id) == before
    house.pos.execute("ALTER TABLE kitchen_kitchenticket RENAME COLUMN state TO status")
    assert one.settle(claimed, PROVEN) == "printed"


def test_a_changed_type_is_a_trouble_once_and_then_works(house: House, one: Instance) -> None:
    one.queue.look(5)
    house.pos.execute("ALTER TABLE core_brand ALTER COLUMN code TYPE varchar(40)")
    house.pos.execute("ALTER TABLE kps.job ALTER COLUMN forced_printer TYPE varchar(40)")
    with pytest.raises(DatabaseTrouble) as trouble:
        one.queue.look(5)
    assert trouble.value.sqlstate == "0A000"
    assert one.queue.look(5) == []


def test_the_pos_can_delete_and_purge_tickets_that_we_know(house: House, one: Instance) -> None:
    tickets = [house.pos.ticket() for _ in range(3)]
    claimed, _ = one.claim_and_send(tickets[0], house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    one.claim(tickets[1], house.row("kitchen-1"))
    house.pos.delete_ticket(tickets[0])
    house.pos.delete_ticket(tickets[1])
    for table in ("kitchen_kitchenticketlog", "kitchen_kitchenticketitem", "kitchen_kitchenticket"):
        house.pos.execute(f"DELETE FROM {table}")
    assert one.queue.look(5) == []


def test_the_nightly_purge_of_everything_succeeds_while_leases_live_and_tickets_are_in_every_state(
    house: House, one: Instance
) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    printed, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    one.settle(printed, PROVEN)
    lost, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    one.settle(lost, Uncertain(Reason.CONNECTION_LOST, "lost", 120, False))
    sent, _ = one.claim_and_send(house.pos.ticket(), kitchen)
    held = one.claim(house.pos.ticket(), backup)
    failed, new = house.pos.ticket(status="failed"), house.pos.ticket()
    write_health(one, house, [kitchen.id, backup.id])
    jobs = len(house.pos.rows("SELECT 1 FROM kps.job"))
    assert jobs == 4
    for table in (
        "kitchen_kitchenticketlog",
        "kitchen_kitchenticketitem",
        "kitchen_kitchenticket",
        "kitchen_printerhealthcheck",
        "kitchen_stationprinter",
    ):
        house.pos.execute(f"DELETE FROM {table}")
    assert one.settle(sent, PROVEN) == "gone"
    with pytest.raises(Withdrawn, match="gone"):
        one.send(held)
    assert [house.pos.ticket_row(ticket) for ticket in (failed, new)] == [None, None]
    assert one.renew() == {kitchen.key, backup.key}
    assert one.queue.look(5) == []
    one.database.run(one.queue.sql.sweep, me=one.me, after=0)
    assert house.pos.rows("SELECT 1 FROM kps.job") == []


def test_a_purge_that_meets_a_claim_waits_and_succeeds_when_it_is_begun_again(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    purger = house.target.connect()

    def purge() -> None:
        for table in ("kitchen_kitchenticketlog", "kitchen_kitchenticketitem", "kitchen_kitchenticket"):
            purger.cursor().execute(f"DELETE FROM {table}")

    with one.transaction():
        claimed = one.claim(ticket, house.row("kitchen-1"))
        purging = house.in_background(purge)
        eventually(
            lambda: house.pos.rows(
                "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'", [purger.info.backend_pid]
            ),
            what="the purge to wait",
        )
    # The claim's own log row came behind the purge's look at that table: the POS has to begin its purge again.
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        purging.result(20)
    purge()
    assert house.pos.ticket_row(ticket) is None
    with pytest.raises(Withdrawn, match="gone"):
        one.send(claimed)


def test_the_trigger_is_seen_and_its_absence_too(house: House) -> None:
    assert introspect(house.database).has_trigger
    house.pos.execute("ALTER TABLE kitchen_kitchenticket DISABLE TRIGGER kps_ticket_notify")
    assert not introspect(house.database).has_trigger
    house.pos.execute("DROP TRIGGER kps_ticket_notify ON kitchen_kitchenticket")
    assert not introspect(house.database).has_trigger
    install_trigger(house.database)
    assert introspect(house.database).has_trigger


# Migrations.


def test_a_second_start_migrates_nothing(house: House) -> None:
    assert migrate(house.database, automatic=True) == []
    assert migrate(house.database, automatic=False) == []


def test_without_automatic_migrations_the_error_is_the_sql_to_run(house: House) -> None:
    house.pos.execute("DROP SCHEMA kps CASCADE")
    with pytest.raises(MigrationNeeded) as needed:
        migrate(house.database, automatic=False)
    assert needed.value.present == 0
    house.database.query(str(needed.value))
    assert migrate(house.database, automatic=False) == []


def test_what_is_needed_begins_behind_what_is_there(house: House) -> None:
    house.pos.execute("DROP SCHEMA kps CASCADE")
    number, _, sql = available()[0]
    house.database.query(step_sql(number, sql))
    with pytest.raises(MigrationNeeded) as needed:
        migrate(house.database, automatic=False)
    assert needed.value.present == number
    house.database.query(str(needed.value))
    assert migrate(house.database, automatic=False) == []


def test_the_schema_of_a_newer_version_is_left_alone(house: House) -> None:
    house.pos.execute("INSERT INTO kps.schema_version (version) VALUES (999)")
    with pytest.raises(SchemaTooNew, match="999"):
        migrate(house.database, automatic=True)


def test_two_instances_that_start_together_migrate_once(house: House) -> None:
    house.pos.execute("DROP SCHEMA kps CASCADE")
    starters = [house.instance(name) for name in ("one", "two")]
    running = [house.in_background(partial(migrate, one.database, automatic=True)) for one in starters]
    # Each migration is a transaction of its own: they may take turns.
    applied = sorted(name for future in running for name in future.result(20))
    assert applied == [name for _, name, _ in available()]


# Health rows.


def write_health(one: Instance, house: House, rows: list[int], **changes: Any) -> None:
    said: dict[str, Any] = {
        "online": True, "response_ms": 0, "paper": "ok", "code": "", "error": "", "temperature_ok": True,
        "cutter_ok": None,
    }  # fmt: skip
    one.queue.health(house.row("kitchen-1").key, rows, **(said | changes))


def health(house: House) -> list[dict[str, Any]]:
    return house.pos.rows("SELECT * FROM kitchen_printerhealthcheck ORDER BY printer_id, id")


def test_a_device_has_one_health_row_for_each_of_its_printer_rows(house: House, one: Instance) -> None:
    house.printer("same device", "bar", port=39100)
    ids = [row.id for row in house.rows() if row.key == house.row("kitchen-1").key]
    assert len(ids) == 2
    write_health(one, house, ids)
    found = health(house)
    assert [row["printer_id"] for row in found] == sorted(ids)
    assert [(row["is_online"], row["response_time_ms"], row["paper_status"]) for row in found] == [(True, 1, "ok")] * 2
    assert (found[0]["temperature_ok"], found[0]["cutter_ok"], found[0]["error_code"]) == (True, None, "")


def test_a_device_that_does_not_answer_has_no_response_time(house: House, one: Instance) -> None:
    write_health(one, house, [house.row("kitchen-1").id], online=False, response_ms=None, code="timeout", error="slow")
    (row,) = health(house)
    assert (row["is_online"], row["response_time_ms"], row["error_code"]) == (False, None, "timeout")


def test_only_the_owner_of_a_live_lease_writes_health_rows(house: House, one: Instance, two: Instance) -> None:
    write_health(two, house, [house.row("kitchen-1").id])
    house.let_lease_end(house.row("kitchen-1"))
    write_health(one, house, [house.row("kitchen-1").id])
    assert health(house) == []


def test_a_printer_row_that_has_gone_is_no_error(house: House, one: Instance) -> None:
    write_health(one, house, [999])
    assert health(house) == []


def test_old_health_rows_of_our_printers_are_pruned_and_others_left(house: House, one: Instance) -> None:
    mine, other = house.row("kitchen-1").id, house.row("kitchen-2").id
    write_health(one, house, [mine, other])
    house.pos.execute("UPDATE kitchen_printerhealthcheck SET checked_at = checked_at - interval '15 days'")
    write_health(one, house, [mine])
    assert one.queue.prune_health([mine], 14) == 1
    assert [row["printer_id"] for row in health(house)] == [mine, other]
    assert one.queue.prune_health([mine], 14) == 0


# Numbers.


def test_the_counts_are_those_of_the_queue(house: House, one: Instance) -> None:
    for _ in range(3):
        house.pos.ticket()
    house.pos.ticket(status="failed")
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    one.claim(house.pos.ticket(), house.row("kitchen-1"))
    house.pos.execute("UPDATE kitchen_kitchenticket SET created_at = created_at - interval '90 seconds' WHERE id = 1")
    (counts,) = one.database.run(one.queue.sql.counts)
    assert (counts.new, counts.printing, counts.failed_today, counts.printed_today) == (3, 1, 1, 1)
    assert counts.oldest_new_age_s >= 90


def test_the_counts_tell_what_waits_for_whom_and_leave_out_what_is_being_sent(house: House, one: Instance) -> None:
    for station in ("kitchen", " KITCHEN ", "bar"):
        house.pos.ticket(station)
    house.pos.ticket(status="failed")
    one.claim(house.pos.ticket(), house.row("kitchen-2"))
    one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    (counts,) = one.database.run(one.queue.sql.counts)
    brand = house.row("kitchen-1").brand
    assert sorted(map(tuple, counts.waiting)) == [
        ("bar", brand, "", 1),
        ("kitchen", brand, "", 2),
        ("kitchen", brand, house.row("kitchen-2").key, 1),
    ]


def test_the_printer_rows_come_in_routing_order_with_normalised_texts(house: House) -> None:
    house.printer(" bar-1 ", " BAR ", priority=0, host=" 127.0.77.9 ", printer_type="WIN32")
    first = house.rows()[0]
    assert isinstance(first.address, TcpAddress)
    assert (first.name, first.station, first.address.host, first.kind) == ("bar-1", "bar", "127.0.77.9", "win32")
    assert [row.name for row in house.rows()] == ["bar-1", "kitchen-1", "kitchen-2"]
    assert (first.brand_code, first.active) == ("dapur", True)
