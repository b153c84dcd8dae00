"""One folder names the POS's tables; what the statements make of them does not depend on how it names them."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import kps
from kps.database.connection import Database, Statement
from kps.database.migrations import migrate
from kps.database.pos import PosAdapter, introspect
from kps.database.pos.tables import (
    BILL,
    BILL_ITEM,
    BRAND,
    PRINTER,
    PRODUCT,
    READ,
    TABLE,
    TICKET,
    TICKET_ITEM,
)
from kps.database.statements import Statements
from kps.demo.pos_tables import SchemaAge, tables
from tests.conftest import Database as Target
from tests.database.house import settings_of
from tests.database.row_types import VALUE_OF_TYPE

PACKAGE = Path(kps.__file__).parent
MAY_NAME_THEM = (PACKAGE / "database" / "pos", PACKAGE / "demo")
RELATIONS = {
    "tickets": TICKET,
    "ticket_items": TICKET_ITEM,
    "bills": BILL,
    "bill_items": BILL_ITEM,
    "tables": TABLE,
    "products": PRODUCT,
    "brands": BRAND,
    "printers": PRINTER,
}


def test_every_relation_is_known_here() -> None:
    changed_in_place = {"health_checks"}
    words = {"name", "cancelled", "paid"}
    found = {name for name, kind in vars(PosAdapter).items() if isinstance(kind, property)}
    assert found == set(RELATIONS) | changed_in_place | words


def test_one_folder_names_the_tables_of_the_pos() -> None:
    names = {table for age in SchemaAge for table in tables(age)}
    named = re.compile(rf"\b({'|'.join(sorted(names))})\b|kps\.database\.pos\.tables")
    read = [
        path
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".sql", ".toml") and not any(path.is_relative_to(folder) for folder in MAY_NAME_THEM)
    ]
    assert len(read) > 100
    found = {
        str(path.relative_to(PACKAGE)): named.findall(text) for path in read if named.search(text := path.read_text())
    }
    assert not found


def replaced(pos: PosAdapter, sub_queries: dict[str, str]) -> PosAdapter:
    """The same adapter, with a sub-query in the place of each relation."""

    def relation(sub_query: str) -> property:
        return property(lambda _: sub_query)

    relations = {name: relation(sub_query) for name, sub_query in sub_queries.items()}
    kind = type("Replaced", (PosAdapter,), {"__slots__": (), **relations})
    made: PosAdapter = kind(**{one.name: getattr(pos, one.name) for one in fields(pos)})
    return made


def plan(database: Database, statement: Statement[Any]) -> list[str]:
    """The steps of the plan of a statement, each with what it works on, in depth."""
    values = {name: VALUE_OF_TYPE[kind] for name, kind in statement.parameters.items()}
    database.query("DEALLOCATE ALL")
    database.query(statement.prepare)
    with database.raw.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement.execute.split('; ')[-1]}", values or None)
        (found,) = cursor.fetchall()
    return steps(found[0][0]["Plan"], 0)


def steps(node: dict[str, Any], depth: int) -> list[str]:
    kinds = ("Node Type", "Strategy", "Operation", "Join Type", "Relation Name", "Index Name")
    here = " ".join(str(node[kind]) for kind in kinds if kind in node)
    return [f"{depth} {here}", *(step for inner in node.get("Plans", ()) for step in steps(inner, depth + 1))]


@pytest.mark.parametrize("fixture", ["pos_database", "older_pos_database", "oldest_pos_database"])
def test_a_relation_may_be_a_sub_query_and_every_plan_stays_what_it_was(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    target: Target = request.getfixturevalue(fixture)
    with closing(Database(settings_of(target), "test")) as database:
        pos = introspect(database)
        migrate(database, automatic=True)
        plain = Statements(pos)
        otherwise = Statements(replaced(pos, {name: f"(SELECT x.* FROM {getattr(pos, name)} x)" for name in RELATIONS}))
        assert plain.look.sql != otherwise.look.sql
        for statement, other in zip(plain.every(), otherwise.every(), strict=True):
            assert plan(database, statement) == plan(database, other), statement.name


def test_a_column_that_is_read_is_looked_for_at_the_start(pos_database: Target) -> None:
    not_everywhere = {"tickets": ("brand_id",)}
    columns = {name: ", ".join(READ[table] + not_everywhere.get(name, ())) for name, table in RELATIONS.items()}
    with closing(Database(settings_of(pos_database), "test")) as database:
        pos = introspect(database)
        migrate(database, automatic=True)
        only = replaced(pos, {name: f"(SELECT {columns[name]} FROM {table})" for name, table in RELATIONS.items()})
        for statement in Statements(only).every():
            database.query(statement.prepare)
