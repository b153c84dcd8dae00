"""Living beside the POS: the wake-up trigger, its migrations and purges, health rows, numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from kps.core.tickets import Printed, ProofLevel
from kps.database.connection import DatabaseTrouble
from kps.database.migrations import (
    MigrationNeeded,
    SchemaTooNew,
    available,
    install_trigger,
    migrate,
)
from kps.database.schema import introspect
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
    applied = [name for future in running for name in future.result(20)]
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


def test_the_printer_rows_come_in_routing_order_with_normalised_texts(house: House) -> None:
    house.printer(" bar-1 ", " BAR ", priority=0, host=" 127.0.77.9 ", printer_type="WIN32")
    first = house.rows()[0]
    assert (first.name, first.station, first.host, first.kind) == ("bar-1", "bar", "127.0.77.9", "win32")
    assert [row.name for row in house.rows()] == ["bar-1", "kitchen-1", "kitchen-2"]
    assert (first.brand_code, first.active) == ("dapur", True)
