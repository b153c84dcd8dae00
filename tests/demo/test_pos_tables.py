"""The POS's tables in every age, and the sample in each of them."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest

from kps.demo.pos_tables import SchemaAge, columns, log_table, tables
from tests.conftest import Database, Databases
from tests.sample import load_sample, statements


def query(database: Database, statement: str) -> list[tuple[Any, ...]]:
    with database.connect().cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def types_in(database: Database) -> dict[tuple[str, str], str]:
    found = query(
        database,
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
    )
    return {(table, column): type_ for table, column, type_ in found}


@pytest.mark.parametrize("age", SchemaAge)
def test_every_age_of_the_schema_can_be_built_and_takes_the_sample(databases: Databases, age: SchemaAge) -> None:
    with databases.copy(age) as database:
        load_sample(database.connect(), age)
        assert {table for table, _ in types_in(database)} == set(tables(age))
        assert query(database, "SELECT count(*) FROM kitchen_kitchenticket") == [(86,)]
        assert query(database, f"SELECT count(*) FROM {log_table(age)}") == [(86,)]
        assert query(database, "SELECT count(*) FROM pos_billitem") == [(105,)]


def test_the_newer_schema_has_templates_and_a_brand_on_the_ticket(pos_database: Database) -> None:
    found = types_in(pos_database)
    assert found["kitchen_kitchenticket", "brand_id"] == "uuid"
    assert ("kitchen_checkertemplate", "id") in found
    assert ("kitchen_kitchenticketlog", "id") in found
    assert found["kitchen_stationprinter", "printer_ip"] == "character varying"


def test_the_older_schema_lacks_them_and_calls_its_log_otherwise(older_pos_database: Database) -> None:
    found = types_in(older_pos_database)
    assert ("kitchen_kitchenticket", "brand_id") not in found
    assert not {table for table, _ in found} & {"kitchen_kitchentickettemplate", "kitchen_checkertemplate"}
    assert ("kitchen_kitchenlog", "id") in found
    assert ("kitchen_kitchenticketlog", "id") not in found
    assert found["kitchen_stationprinter", "printer_ip"] == "character varying"


def test_in_the_oldest_schema_every_printer_address_is_an_inet(oldest_pos_database: Database) -> None:
    found = {key: type_ for key, type_ in types_in(oldest_pos_database).items() if key[1] == "printer_ip"}
    assert found == {
        ("kitchen_kitchenticket", "printer_ip"): "inet",
        ("kitchen_kitchenlog", "printer_ip"): "inet",
        ("kitchen_stationprinter", "printer_ip"): "inet",
    }


def test_no_column_has_a_default(pos_database: Database) -> None:
    found = query(
        pos_database,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_default IS NOT NULL",
    )
    assert found == []


def test_nullability_is_as_the_facts_say(pos_database: Database) -> None:
    found = query(
        pos_database,
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND is_nullable = 'YES'",
    )
    assert set(found) == {(column.table, column.name) for column in columns() if column.nullable}


def test_the_ticket_table_carries_thirteen_indexes(pos_database: Database) -> None:
    found = query(pos_database, "SELECT count(*) FROM pg_indexes WHERE tablename = 'kitchen_kitchenticket'")
    assert found == [(13,)]


def test_a_foreign_key_is_checked_at_commit_and_not_before(pos_database: Database) -> None:
    connection = pos_database.connect(autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO kitchen_kitchenticketitem (quantity, bill_item_id, kitchen_ticket_id) VALUES (1, 9, 9)"
        )
        assert cursor.rowcount == 1
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        connection.commit()


def test_the_sample_ends_now(pos_database: Database) -> None:
    load_sample(pos_database.connect())
    [(age,)] = query(pos_database, 'SELECT clock_timestamp() - max("timestamp") FROM kitchen_kitchenticketlog')
    [(span,)] = query(pos_database, "SELECT max(created_at) - min(created_at) FROM kitchen_kitchenticket")
    assert timedelta(0) <= age < timedelta(minutes=5)
    assert timedelta(milliseconds=500) < span < timedelta(seconds=1)  # as it was recorded


def test_a_new_ticket_does_not_meet_an_id_of_the_sample(pos_database: Database) -> None:
    load_sample(pos_database.connect())
    [(fresh,)] = query(pos_database, "SELECT nextval(pg_get_serial_sequence('kitchen_kitchenticket', 'id'))")
    assert fresh == 87


def test_notes_over_several_lines_survive(pos_database: Database) -> None:
    load_sample(pos_database.connect())
    found = query(pos_database, "SELECT notes FROM pos_billitem WHERE id = 24")
    assert found == [("Jangan pedas!\nAlergi kacang",)]


def test_every_statement_of_the_sample_is_read() -> None:
    assert len(statements()) == 525
    assert all(statement.values["id"] for statement in statements())


def test_printer_rows_of_the_sample_can_be_given_another_address(pos_database: Database) -> None:
    load_sample(pos_database.connect(), printers={1: ("127.0.0.9", 4711)})
    found = query(pos_database, "SELECT printer_ip, printer_port FROM kitchen_stationprinter ORDER BY id LIMIT 2")
    assert found == [("127.0.0.9", 4711), ("127.0.77.2", 39100)]


def test_a_test_database_is_gone_afterwards_even_if_somebody_is_connected(
    databases: Databases, postgres_server: str
) -> None:
    with databases.copy(SchemaAge.NEWER) as database:
        stranger = psycopg2.connect(database.dsn)
    with closing(stranger), closing(psycopg2.connect(postgres_server)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [database.name])
        assert cursor.fetchone() == (0,)
