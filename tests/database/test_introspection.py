"""What is missing in the POS's schema is named in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kps.database.connection import Database
from kps.database.pos import introspect
from kps.database.schema import SchemaUnusable
from tests.conftest import Database as Target
from tests.database.house import settings_of


@pytest.fixture
def access(pos_database: Target) -> Iterator[Database]:
    made = Database(settings_of(pos_database), "test")
    yield made
    made.close()


def refused(access: Database, change: str) -> str:
    """What introspection says after this change of the POS's schema."""
    access.query(change)
    with pytest.raises(SchemaUnusable) as error:
        introspect(access)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_newer_schema_is_described(access: Database) -> None:
    schema = introspect(access)
    assert schema.name == "newer tables"
    assert schema.describe() == (
        "newer POS schema, with template tables, audit table kitchen_kitchenticketlog, printer_ip character varying"
    )
    assert len(schema.health_columns) == 9
    assert len(schema.log_columns) == 11


@pytest.mark.parametrize(
    ("fixture", "name", "ip"),
    [
        ("older_pos_database", "older tables", "character varying"),
        ("oldest_pos_database", "oldest tables", "inet"),
    ],
)
def test_older_schemas_are_described(fixture: str, name: str, ip: str, request: pytest.FixtureRequest) -> None:
    made = Database(settings_of(request.getfixturevalue(fixture)), "test")
    try:
        found = introspect(made)
        assert found.name == name
        assert found.describe() == (
            f"older POS schema, without template tables, audit table kitchen_kitchenlog, printer_ip {ip}"
        )
    finally:
        made.close()


@pytest.mark.parametrize(
    "table", ["kitchen_kitchenticket", "kitchen_kitchenticketitem", "kitchen_stationprinter", "pos_bill", "core_store"]
)
def test_a_missing_table_is_named(access: Database, table: str) -> None:
    assert refused(access, f"DROP TABLE {table} CASCADE") == f"tables of the POS are missing: {table}"


def test_every_missing_table_is_named_at_once(access: Database) -> None:
    text = refused(access, "DROP TABLE pos_bill, core_user CASCADE")
    assert "pos_bill" in text
    assert "core_user" in text


def test_a_missing_audit_table_is_named(access: Database) -> None:
    text = refused(access, "DROP TABLE kitchen_kitchenticketlog")
    assert text == "table kitchen_kitchenticketlog (or kitchen_kitchenlog) is missing"


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("kitchen_kitchenticket", "max_retries"),
        ("kitchen_stationprinter", "timeout_seconds"),
        ("pos_billitem", "modifiers"),
        ("kitchen_kitchenticketlog", "action"),
        ("kitchen_printerhealthcheck", "printer_id"),
    ],
)
def test_a_missing_column_is_named(access: Database, table: str, column: str) -> None:
    text = refused(access, f"ALTER TABLE {table} DROP COLUMN {column} CASCADE")
    assert text == f"columns of the POS are missing: {table}.{column}"


@pytest.mark.parametrize("table", ["kitchen_kitchenticketlog", "kitchen_printerhealthcheck"])
def test_an_unknown_not_null_column_where_we_insert_is_refused(access: Database, table: str) -> None:
    text = refused(access, f"ALTER TABLE {table} ADD COLUMN shift text NOT NULL")
    assert text == f"{table} has NOT NULL columns that KPS does not know: shift"


@pytest.mark.parametrize("column", ["shift text", "shift text NOT NULL DEFAULT ''"])
def test_an_unknown_column_that_needs_no_value_is_accepted(access: Database, column: str) -> None:
    access.query(f"ALTER TABLE kitchen_kitchenticketlog ADD COLUMN {column}")
    assert "shift" not in introspect(access).log_columns


def test_columns_of_the_audit_table_that_are_missing_are_not_written(access: Database) -> None:
    access.query("ALTER TABLE kitchen_kitchenticketlog DROP COLUMN metadata, DROP COLUMN duration_ms")
    assert {"metadata", "duration_ms"}.isdisjoint(introspect(access).log_columns)


def test_a_pos_without_health_checks_is_accepted(access: Database) -> None:
    access.query("DROP TABLE kitchen_printerhealthcheck")
    assert introspect(access).health_columns == ()


@pytest.fixture
def clerk_role(pos_database: Target) -> Iterator[str]:
    """A role without any right, gone with the test; roles belong to the server, so its name does too."""
    admin = pos_database.connect().cursor()
    role = f"{pos_database.name}_role"
    admin.execute(f"CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role}")
    yield role
    admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    ("table", "right"),
    [
        ("kitchen_kitchenticket", "SELECT"),
        ("kitchen_kitchenticket", "UPDATE"),
        ("kitchen_stationprinter", "UPDATE"),
        ("kitchen_kitchenticketlog", "INSERT"),
        ("kitchen_printerhealthcheck", "DELETE"),
        ("kitchen_kitchentickettemplate", "SELECT"),
        ("kitchen_checkertemplate", "SELECT"),
        ("core_product", "SELECT"),
    ],
)
def test_a_missing_right_is_named(access: Database, clerk_role: str, table: str, right: str) -> None:
    access.query(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {clerk_role};"
        f"REVOKE {right} ON {table} FROM {clerk_role}"
    )
    assert refused(access, f"SET ROLE {clerk_role}") == f"rights are missing: {right} on {table}"


def test_all_rights_are_enough(access: Database, clerk_role: str) -> None:
    access.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {clerk_role}")
    access.query(f"SET ROLE {clerk_role}")
    assert introspect(access).kitchen_template
