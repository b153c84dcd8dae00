"""Every statement is understood by PostgreSQL, on every age of the POS's schema."""

from __future__ import annotations

import pytest

from kps.core.settings import DatabaseSettings
from kps.database.connection import Database, Statement
from kps.database.migrations import migrate
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from kps.database.statements import Statements
from kps.demo.orders import PosWriter
from tests.conftest import Database as Target
from tests.database.house import settings_of


@pytest.mark.parametrize("fixture", ["pos_database", "older_pos_database", "oldest_pos_database"])
def test_every_statement_can_be_prepared_on_every_age_of_schema(fixture: str, request: pytest.FixtureRequest) -> None:
    target = request.getfixturevalue(fixture)
    settings = DatabaseSettings(target.host, target.port, target.name, target.user, target.password, "disable")
    database = Database(settings, "test")
    try:
        schema = introspect(database)
        assert migrate(database, automatic=True) == [
            "0001_queue.sql",
            "0002_proof.sql",
            "0003_paper.sql",
            "0004_hot_tables.sql",
            "0005_clock.sql",
            "0006_sending_per_epoch.sql",
        ]
        install_trigger(database)
        assert introspect(database).has_trigger
        found = Statements(schema)
        for statement in found.every():
            assert isinstance(statement, Statement)
            try:
                database.query(statement.prepare)
            except Exception as error:
                raise AssertionError(f"{statement.name}: {error}\n{statement.prepare}") from error
    finally:
        database.close()


def test_what_was_printed_today_is_counted_through_its_index(pos_database: Target) -> None:
    settings = settings_of(pos_database)
    database = Database(settings, "test")
    try:
        schema = introspect(database)
        migrate(database, automatic=True)
        database.query(
            """INSERT INTO kps.job (ticket_id, state, finished_at)
               SELECT n, 'printed', now() - n * interval '1 hour' FROM generate_series(1, 20000) n"""
        )
        database.query("ANALYZE kps.job")
        database.query(Statements(schema).counts.prepare)
        plan = "\n".join(row[0] for row in database.query("EXPLAIN EXECUTE kps_counts"))
        assert "job_finished" in plan
        assert "Index Cond: (finished_at >=" in plan
    finally:
        database.close()


def test_changes_on_paper_are_looked_for_through_an_index(pos: PosWriter, pos_database: Target) -> None:
    pos.ticket()
    database = Database(settings_of(pos_database), "test")
    try:
        schema = introspect(database)
        migrate(database, automatic=True)
        database.query(
            """INSERT INTO kps.printed_item
                 (ticket_id, bill_item_id, station, brand, table_number, paper_table, quantity, printed_at)
               SELECT n, n, 'kitchen', '', '5', '5', 1, now() - n * interval '1 minute'
                 FROM generate_series(1, 20000) n"""
        )
        database.query(
            """INSERT INTO pos_billitem SELECT (jsonb_populate_record(b, jsonb_build_object('id', b.id + n))).*
                 FROM pos_billitem b, generate_series(1, 20000) n"""
        )
        database.query("INSERT INTO kps.job (ticket_id, state) SELECT n, 'printed' FROM generate_series(1, 20000) n")
        database.query("ANALYZE")
        database.query(Statements(schema).make_slips.prepare)
        plan = "\n".join(
            row[0] for row in database.query("EXPLAIN EXECUTE kps_make_slips (45, false, '{}', '{}', '{}')")
        )
        assert "printed_item_watched" in plan
        assert "Index Cond: (printed_at >" in plan
    finally:
        database.close()
