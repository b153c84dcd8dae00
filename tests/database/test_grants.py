"""The README's rights: enough for every statement of the service, and not one too many."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from kps.cli.schema import script
from kps.core.settings import DatabaseSettings
from kps.database import Database as Access
from kps.database.connection import Statement
from kps.database.migrations import install_trigger, migrate
from kps.database.probes import PROBE_STATEMENTS
from kps.database.schema import SchemaUnusable, introspect
from kps.database.statements import Statements, statements
from kps.demo.orders import PosWriter
from kps.demo.pos_tables import LOG, OLDER_LOG, TEMPLATES, SchemaAge
from tests.conftest import Database, Databases
from tests.service.harness import shop

README = Path(__file__).parents[2] / "README.md"
ROLE = "kps_service"
"""What the README calls the role."""
DATABASE = "fnb_edge_db"


def blocks() -> dict[str, str]:
    """The README's SQL blocks about rights, by the letter in their first line: `-- A: ...`."""
    found = re.findall(r"```sql\n(-- ([A-Z]): .*?)```", README.read_text("utf-8"), re.DOTALL)
    return {letter: text for text, letter in found}


@dataclass(frozen=True, slots=True)
class Granted:
    """A database in which a role of its own has the README's rights."""

    owner: Database
    """As the superuser."""
    worker: Database
    """As the role that the service works as."""
    role: str

    @property
    def access(self) -> Access:
        """A connection of the service's kind."""
        worker = self.worker
        return Access(
            DatabaseSettings(worker.host, worker.port, worker.name, worker.user, worker.password, "disable"), "test"
        )


@contextmanager
def granted(databases: Databases, age: SchemaAge, *letters: str) -> Iterator[Granted]:
    """A fresh database of this age after these blocks of the README, run as an administrator would."""
    role = f"kps_test_{uuid.uuid4().hex[:12]}"
    password = uuid.uuid4().hex
    with databases.copy(age) as owner, closing(psycopg2.connect(owner.dsn)) as admin:
        admin.autocommit = True
        try:
            for letter in letters:
                run(admin, script() if letter == "script" else fitted(blocks()[letter], age, owner, role, password))
            yield Granted(owner, replace(owner, user=role, password=password, _open=[]), role)
        finally:
            if role_exists(admin, role):
                run(admin, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def fitted(block: str, age: SchemaAge, database: Database, role: str, password: str) -> str:
    """The block for this database, changed as the README tells for an older POS."""
    text = block.replace(ROLE, role).replace(DATABASE, f'"{database.name}"').replace("change-me", password)
    if age is SchemaAge.NEWER:
        return text
    kept = [part for part in text.split(";") if not any(table in part for table in TEMPLATES)]
    return ";".join(kept).replace(LOG, OLDER_LOG)


def run(admin: Connection, text: str) -> None:
    with admin.cursor() as cursor:
        cursor.execute(text)


def role_exists(admin: Connection, role: str) -> bool:
    with admin.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
        return cursor.fetchone() is not None


def all_statements(of: Statements) -> list[Statement]:
    return [getattr(group, field.name) for group in (of, PROBE_STATEMENTS) for field in fields(group)]


def prepare(worker: Connection, chosen: list[Statement]) -> None:
    with worker.cursor() as cursor:
        for statement in chosen:
            cursor.execute(statement.prepare)


def explain(worker: Connection, statement: Statement) -> None:
    """Have PostgreSQL check every right that the statement needs, without running it."""
    nothing = f"({', '.join(['NULL'] * len(statement.names))})" if statement.names else ""
    with worker.cursor() as cursor:
        cursor.execute(f"EXPLAIN EXECUTE kps_{statement.name}{nothing}")


@pytest.mark.parametrize("age", SchemaAge)
@pytest.mark.parametrize(
    "letters",
    [("A", "B"), ("A", "script", "C"), ("A", "B", "D")],
    ids=["kps migrates", "an administrator does", "names only"],
)
def test_the_readmes_rights_are_enough_for_every_statement(
    databases: Databases, age: SchemaAge, letters: tuple[str, ...]
) -> None:
    with granted(databases, age, *letters) as here, closing(here.access) as access:
        schema = introspect(access)
        migrate(access, automatic="B" in letters)
        if not schema.has_trigger:
            install_trigger(access)
        assert introspect(access).has_trigger
        with closing(psycopg2.connect(here.worker.dsn)) as worker:
            worker.autocommit = True
            chosen = all_statements(statements(schema))
            prepare(worker, chosen)
            for statement in chosen:
                explain(worker, statement)
            run(worker, "SELECT nextval('kps.token_seq')")


def test_not_one_of_the_readmes_rights_on_the_tables_of_the_pos_can_be_left_out(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, closing(here.access) as access:
        chosen = all_statements(statements(introspect(access)))
        with closing(psycopg2.connect(here.worker.dsn)) as worker, closing(psycopg2.connect(here.owner.dsn)) as admin:
            worker.autocommit = admin.autocommit = True
            prepare(worker, chosen)
            rights = rights_on_public_tables(admin, here.role)
            assert ("kitchen_kitchenticket", "UPDATE", "status") in rights
            for statement in chosen:
                explain(worker, statement)
            needless = [right for right in rights if not missed(admin, worker, here.role, right, chosen)]
        assert needless == []


def rights_on_public_tables(admin: Connection, role: str) -> list[tuple[str, str, str]]:
    """(table, right, column) of everything granted to the role; the column is '' for the whole table."""
    with admin.cursor() as cursor:
        cursor.execute(
            """WITH tables AS (SELECT oid, relname, relacl FROM pg_class
                                WHERE relnamespace = 'public'::regnamespace AND relkind = 'r')
               SELECT t.relname, a.privilege_type, '' FROM tables t, aclexplode(t.relacl) a
                WHERE a.grantee = %(role)s::regrole
               UNION ALL
               SELECT t.relname, a.privilege_type, c.attname
                 FROM tables t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) a
                WHERE a.grantee = %(role)s::regrole""",
            {"role": role},
        )
        return [(table, right, column) for table, right, column in cursor.fetchall()]


def missed(
    admin: Connection, worker: Connection, role: str, right: tuple[str, str, str], chosen: list[Statement]
) -> bool:
    """Whether some statement is refused without this right, which is given back in the end."""
    change(admin, role, right, "REVOKE", "FROM")
    try:
        for statement in chosen:
            explain(worker, statement)
    except errors.InsufficientPrivilege:
        return True
    finally:
        change(admin, role, right, "GRANT", "TO")
    return False


def change(admin: Connection, role: str, right: tuple[str, str, str], verb: str, to: str) -> None:
    table, kind, column = right
    columns = sql.SQL(" ({})").format(sql.Identifier(column)) if column else sql.SQL("")
    with admin.cursor() as cursor:
        cursor.execute(
            sql.SQL("{} {}{} ON {} {} {}").format(
                sql.SQL(verb), sql.SQL(kind), columns, sql.Identifier(table), sql.SQL(to), sql.Identifier(role)
            )
        )


def test_a_missing_right_is_named_in_one_sentence(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A") as here, closing(here.access) as access:
        with closing(psycopg2.connect(here.owner.dsn)) as admin:
            admin.autocommit = True
            change(admin, here.role, ("pos_bill", "SELECT", ""), "REVOKE", "FROM")
        with pytest.raises(SchemaUnusable, match="rights are missing: SELECT on pos_bill"):
            introspect(access)


@pytest.mark.parametrize(
    ("letters", "settings"),
    [(("A", "B", "D"), {}), (("A", "script", "C"), {"AUTO_MIGRATE": "off"})],
    ids=["kps migrates", "an administrator does"],
)
def test_the_service_prints_with_the_readmes_rights(
    databases: Databases, tmp_path: Path, letters: tuple[str, ...], settings: dict[str, Any]
) -> None:
    with granted(databases, SchemaAge.NEWER, *letters) as here, PosWriter(here.owner.dsn) as pos:
        pos.seed_reference_data()
        with shop(pos, here.worker, tmp_path, {"bar-1": ("bar", 1)}, **settings) as open_shop:
            ticket = pos.ticket("bar", [("Es Teh", 2)], table="7")
            open_shop.printed(ticket)
            empty = pos.ticket("bar", [])
            assert "no items" in open_shop.ends(empty, "failed")["error_message"]
            open_shop.wait_health("bar-1", is_online=True)
            assert open_shop.service.health()["notices"] == []
            assert open_shop.service.stop() == 0
            assert not open_shop.service.said("permission denied")
