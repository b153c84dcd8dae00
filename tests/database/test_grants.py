"""The README's rights: enough for every statement of the service, and not one too many."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors, sql
from psycopg2.extensions import connection as Connection

from kps.cli.schema import script
from kps.core.address import device_address, printer_key
from kps.core.routing import ClaimFor, PrinterRow
from kps.core.settings import DatabaseSettings
from kps.core.tickets import Printed, ProofLevel, Ticket, Token
from kps.core.work import Work, WorkKind
from kps.database import Database as Access
from kps.database.connection import Statement
from kps.database.migrations import available, migrate, step_sql
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from kps.database.row_mappers import printer_rows
from kps.database.schema import SchemaUnusable, refuse_missing_rights
from kps.database.statements import Statements
from kps.demo.orders import PosWriter
from kps.demo.pos_tables import LOG, OLDER_LOG, TEMPLATES, SchemaAge
from tests.conftest import Database, Databases, eventually
from tests.database.house import Everybody, all_statements, named
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


def prepare(worker: Connection, chosen: list[Statement[Any]]) -> None:
    with worker.cursor() as cursor:
        for statement in chosen:
            cursor.execute(statement.prepare)


def explain(worker: Connection, statement: Statement[Any]) -> None:
    """Have PostgreSQL check every right that the statement needs, without running it."""
    count = len(statement.parameters)
    nothing = f"({', '.join(['NULL'] * count)})" if count else ""
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
            chosen = all_statements(Statements(schema))
            prepare(worker, chosen)
            for statement in chosen:
                explain(worker, statement)
            run(worker, "SELECT nextval('kps.token_seq'), nextval('kps.process_id_seq')")
        refuse_missing_rights(access)


def test_not_one_of_the_readmes_rights_on_the_tables_of_the_pos_can_be_left_out(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, closing(here.access) as access:
        chosen = all_statements(Statements(introspect(access)))
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


# Schema kps.


@pytest.mark.parametrize(
    "right",
    [
        "USAGE on kps.process_id_seq",
        "SELECT on kps.process_id_seq",
        "USAGE on kps.token_seq",
        "SELECT on kps.job",
        "INSERT on kps.instance",
        "UPDATE on kps.printer",
        "DELETE on kps.job",
        "SELECT on kps.schema_version",
        "USAGE on schema kps",
    ],
)
def test_a_missing_right_in_schema_kps_is_named(databases: Databases, right: str) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, closing(here.access) as access:
        refuse_missing_rights(access)
        on_owner(here, f"REVOKE {in_sql(right)} FROM {here.role}")
        with pytest.raises(SchemaUnusable) as error:
            refuse_missing_rights(access)
        assert str(error.value) == f"rights are missing: {right}"


def test_a_new_column_without_rights_is_named_and_columns_are_enough(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, closing(here.access) as access:
        columns = [row.attname for row in named(access, COLUMNS_OF_JOB)]
        on_owner(here, f"REVOKE UPDATE ON kps.job FROM {here.role}")
        on_owner(here, f"GRANT UPDATE ({', '.join(columns)}) ON kps.job TO {here.role}")
        refuse_missing_rights(access)
        on_owner(here, f"REVOKE UPDATE (process_ids) ON kps.job FROM {here.role}")
        with pytest.raises(SchemaUnusable, match=r"^rights are missing: UPDATE on kps.job \(process_ids\)$"):
            refuse_missing_rights(access)


COLUMNS_OF_JOB = "SELECT attname FROM pg_attribute WHERE attrelid = 'kps.job'::regclass AND attnum > 0"


def test_what_somebody_else_put_into_schema_kps_needs_no_rights(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, closing(here.access) as access:
        on_owner(here, "CREATE TABLE kps.job_copy AS SELECT * FROM kps.job; CREATE SEQUENCE kps.other_seq")
        refuse_missing_rights(access)


def test_everything_that_the_migrations_make_is_looked_at(databases: Databases) -> None:
    with granted(databases, SchemaAge.NEWER, "A", "script") as here, closing(here.access) as access:
        on_owner(here, f"GRANT USAGE ON SCHEMA kps TO {here.role}")
        made = named(
            access,
            """SELECT relname FROM pg_class WHERE relnamespace = 'kps'::regnamespace AND relkind IN ('r', 'p', 'S')
                AND relname <> 'slip_id_seq' -- an identity's: whoever may insert may use it""",
        )
        with pytest.raises(SchemaUnusable) as error:
            refuse_missing_rights(access)
    assert len(made) == 10
    for row in made:
        assert f" on kps.{row.relname}" in str(error.value)


def on_owner(here: Granted, text: str) -> None:
    with closing(psycopg2.connect(here.owner.dsn)) as admin:
        admin.autocommit = True
        run(admin, text)


def in_sql(right: str) -> str:
    """As GRANT and REVOKE want it: `USAGE ON SEQUENCE kps.token_seq`."""
    return right.replace(" on ", " on sequence ") if right.endswith("_seq") else right


def test_a_right_that_an_upgrade_needs_and_nobody_gave_is_named_and_costs_no_churn(
    databases: Databases, tmp_path: Path
) -> None:
    """The administrator ran the migration and forgot C; nobody sees it before the first ticket."""
    with granted(databases, SchemaAge.NEWER, "A", "script", "C") as here, PosWriter(here.owner.dsn) as pos:
        pos.seed_reference_data()
        with shop(pos, here.worker, tmp_path, {"bar-1": ("bar", 1)}, AUTO_MIGRATE="off") as open_shop:
            on_owner(here, f"REVOKE USAGE ON SEQUENCE kps.process_id_seq FROM {here.role}")
            tickets = [pos.ticket("bar", [(f"Dish{number}", 1)]) for number in (1, 2, 3)]
            open_shop.service.wait_unhealthy("rights are missing: USAGE on kps.process_id_seq")
            # Both that fit into the mailbox were claimed once; the third waits in the queue.
            refused = "permission denied for sequence process_id_seq"
            eventually(
                lambda: open_shop.service.text().count(refused) >= 3, timeout=30, what="three tries of the promise"
            )
            assert open_shop.actions(tickets[0]) == ["print_start"]
            assert open_shop.actions(tickets[1]) == ["print_start"]
            assert open_shop.actions(tickets[2]) == []
            on_owner(here, f"GRANT USAGE ON SEQUENCE kps.process_id_seq TO {here.role}")
            for number, ticket in enumerate(tickets, 1):
                assert open_shop.ends(ticket, "printed", timeout=60)
                assert not open_shop.only_copy(f"Dish{number}").marked
                assert open_shop.actions(ticket) == ["print_start", "print_success"]
            eventually(lambda: open_shop.service.get("/health").status == 200, timeout=20, what="healthy again")


# Upgrades.


@dataclass(frozen=True, slots=True)
class Worker:
    """An instance that works as the README's role."""

    queue: Everybody
    row: PrinterRow
    me: str

    def send(self, ticket: int, token: int) -> Ticket:
        work = Work(WorkKind.TICKET, ticket, Token(token))
        promised = self.queue.promise(work, (), need_s=2.0, late_after_minutes=5.0)
        assert isinstance(promised.content, Ticket)
        return promised.content

    def printed(self, ticket: int, token: int) -> str:
        work = Work(WorkKind.TICKET, ticket, Token(token))
        return self.queue.settle(work, Printed(ProofLevel.REALTIME, 100), duration_ms=40, again_s=5.0)

    def print_new(self, ticket: int) -> Ticket:
        """The whole way of a ticket that is new."""
        (seen,) = [waiting for waiting in self.queue.look(100) if waiting.id == ticket]
        (claimed,) = self.queue.claim(WorkKind.TICKET, [(seen, ClaimFor(self.row, ""), 1)])
        sending = self.send(claimed.work.id, claimed.work.token)
        assert self.printed(claimed.work.id, claimed.work.token) == "printed"
        return sending


def first_migration() -> str:
    number, _, text = available()[0]
    return step_sql(number, text)


def old_jobs(pos: PosWriter, worker: Worker) -> dict[str, int]:
    """Tickets and jobs as version 0001 leaves them at a stop or a kill; job state -> ticket."""
    pos.execute(
        "INSERT INTO kps.printer (printer_key, name, owner, epoch, expires_at) VALUES (%s, 'bar-1', %s, 1, 'infinity')",
        [worker.row.key, worker.me],
    )
    status = {"waiting": "new", "requeued": "new", "claimed": "printing", "sending": "printing"}
    made = {}
    for state in ("waiting", "requeued", "claimed", "sending", "printed", "failed"):
        made[state] = ticket = pos.ticket("bar", [("Es Teh", 1)])
        sent = state in ("requeued", "sending", "printed")
        pos.execute("UPDATE kitchen_kitchenticket SET status = %s WHERE id = %s", [status.get(state, state), ticket])
        pos.execute(
            """INSERT INTO kps.job (ticket_id, state, epoch, owner, printer_key, printer_id, printer_name, sends,
                                    maybe_at, finished_at)
               VALUES (%s, %s, 1, %s, %s, %s, 'bar-1', %s, %s, CASE WHEN %s THEN now() END)""",
            [ticket, state, worker.me, worker.row.key, worker.row.id, int(sent),
             ["bar-1"] if state == "requeued" else [], state in ("printed", "failed")],
        )  # fmt: skip
    return made


@pytest.mark.parametrize("by", ["kps", "administrator"])
def test_an_upgrade_after_the_rights_to_create_were_taken_back_keeps_every_job_that_is_under_way(
    databases: Databases, by: str
) -> None:
    letters = ("A", "B") if by == "kps" else ("A",)
    with (
        granted(databases, SchemaAge.NEWER, *letters) as here,
        closing(here.access) as access,
        PosWriter(here.owner.dsn) as pos,
    ):
        pos.seed_reference_data()
        pos.add_printer("127.0.77.1", 39100, "bar", 1, "bar-1")
        if by == "kps":
            access.query(first_migration())
            install_trigger(access)
            on_owner(here, f'REVOKE CREATE ON DATABASE "{here.owner.name}" FROM {here.role}')
            on_owner(here, f"REVOKE TRIGGER ON kitchen_kitchenticket FROM {here.role}")
        else:
            on_owner(here, first_migration())
            on_owner(here, fitted(blocks()["C"], SchemaAge.NEWER, here.owner, here.role, ""))
        schema = introspect(access)
        me = str(uuid.uuid4())
        queue = Everybody(access, schema, me, "upgraded")
        found = access.run(queue.sql.rows)
        (row,) = printer_rows(found, {one.id: printer_key("", device_address(one.host, one.port)) for one in found})
        worker = Worker(queue, row, me)
        jobs = old_jobs(pos, worker)
        if by == "kps":
            assert migrate(access, automatic=True) == [name for _, name, _ in available()[1:]]
        else:
            on_owner(here, script(1))
            with pytest.raises(SchemaUnusable, match=r"USAGE on kps\.process_id_seq"):
                refuse_missing_rights(access)
            on_owner(here, fitted(blocks()["C"], SchemaAge.NEWER, here.owner, here.role, ""))
        refuse_missing_rights(access)
        token = {
            state: pos.rows("SELECT token FROM kps.job WHERE ticket_id = %s", [ticket])[0]["token"]
            for state, ticket in jobs.items()
        }
        assert worker.printed(jobs["sending"], token["sending"]) == "printed"
        promised = worker.send(jobs["claimed"], token["claimed"])
        assert not promised.marks.possible_duplicate
        assert worker.printed(jobs["claimed"], token["claimed"]) == "printed"
        assert not worker.print_new(jobs["waiting"]).marks.possible_duplicate
        assert worker.print_new(jobs["requeued"]).marks.possible_duplicate
        for state in ("printed", "failed"):
            pos.reset_to_new(jobs[state])
            worker.print_new(jobs[state])
        rows = pos.rows("SELECT state, cardinality(process_ids) AS ids FROM kps.job ORDER BY ticket_id")
        # The one that was sending before the upgrade has none.
        assert [(row["state"], row["ids"]) for row in rows] == [("printed", ids) for ids in (1, 1, 1, 0, 1, 1)]
