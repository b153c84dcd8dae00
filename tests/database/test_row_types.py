"""The row type of a statement and its SQL say the same, on every age of the POS's schema."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import date
from typing import Any, NamedTuple

import pytest

from kps.core.tickets import PrinterKey, TicketId
from kps.database.connection import Database, Statement
from kps.database.migrations import migrate
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from kps.database.statements import Statements
from kps.demo.pos_tables import SchemaAge
from tests.conftest import Database as Target
from tests.conftest import Databases
from tests.database.house import all_statements, settings_of
from tests.database.row_types import columns, declared, refuse_misfit


@pytest.mark.parametrize("age", SchemaAge)
def test_every_statement_returns_the_columns_of_its_row_type(databases: Databases, age: SchemaAge) -> None:
    with databases.copy(age) as target, closing(Database(settings_of(target), "test")) as access:
        schema = introspect(access)
        migrate(access, automatic=True)
        install_trigger(access)
        for statement in all_statements(Statements(schema)):
            found, said = columns(access.raw, statement), declared(statement.row)
            assert found == said, statement.name
            assert list(found) == list(said), f"{statement.name}: the order counts"


class Sampled(NamedTuple):
    """One of each kind of column."""

    id: TicketId
    key: PrinterKey | None
    tried: list[PrinterKey]
    day: date | None
    paper: Mapping[str, Any] | None
    others: list[Mapping[str, Any]] | None


SAMPLED = Statement(
    "sampled",
    Sampled,
    "SELECT 1::bigint AS id, 'a'::text AS key, '{a}'::text[] AS tried, NULL::date AS day, '{}'::jsonb AS paper,"
    " '[{}]'::json AS others",
)


def test_a_row_type_is_compared_by_name_and_type(pos_database: Target) -> None:
    with closing(Database(settings_of(pos_database), "test")) as access:
        (row,) = access.run(SAMPLED)
        access.connect()
        assert columns(access.raw, SAMPLED) == declared(Sampled)
    assert row == (1, "a", ["a"], None, {}, [{}])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", None), ("id", True), ("id", "1"), ("key", 1), ("tried", None), ("tried", ["a", None]), ("day", "today"),
        ("paper", [{}]), ("others", {}), ("others", [1]),
    ],
)  # fmt: skip
def test_a_value_that_the_row_type_denies_is_refused(column: str, value: object) -> None:
    fine = Sampled(TicketId(1), PrinterKey("a"), [], None, {}, [{}])
    refuse_misfit(SAMPLED, fine)
    with pytest.raises(AssertionError, match=f"sampled: {column} is"):
        refuse_misfit(SAMPLED, fine._replace(**{column: value}))
