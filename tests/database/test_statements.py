"""Every statement is understood by PostgreSQL, on every age of the POS's schema."""

from __future__ import annotations

import dataclasses

import pytest

from kps.core.settings import DatabaseSettings
from kps.database.connection import Database, Statement
from kps.database.migrations import install_trigger, migrate
from kps.database.schema import introspect
from kps.database.statements import statements


@pytest.mark.parametrize("fixture", ["pos_database", "older_pos_database", "oldest_pos_database"])
def test_every_statement_can_be_prepared_on_every_age_of_schema(fixture: str, request: pytest.FixtureRequest) -> None:
    target = request.getfixturevalue(fixture)
    settings = DatabaseSettings(target.host, target.port, target.name, target.user, target.password, "disable")
    database = Database(settings, "test")
    try:
        schema = introspect(database)
        assert migrate(database, automatic=True) == ["0001_queue.sql", "0002_proof.sql"]
        install_trigger(database)
        assert introspect(database).has_trigger
        found = statements(schema)
        for field in dataclasses.fields(found):
            statement = getattr(found, field.name)
            assert isinstance(statement, Statement)
            try:
                database.query(statement.prepare)
            except Exception as error:
                raise AssertionError(f"{field.name}: {error}\n{statement.prepare}") from error
    finally:
        database.close()
