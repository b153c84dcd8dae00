"""The numbered migrations of schema kps, and the wake-up trigger."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

from kps.database.connection import Database, DatabaseTrouble

_LOCK = 7_521_964_001
"""Advisory lock of the migrations: one instance migrates, the others wait."""
LIMIT_S = 3600.0
"""Of one migration, or of waiting for another instance's. A table of years takes its time, once."""
LOCK_LIMIT_S = 30.0
"""Of waiting for a table: meanwhile whoever else uses it waits behind us."""
_LOOK_S = 0.25

_SCHEMA = """CREATE SCHEMA IF NOT EXISTS kps;
CREATE TABLE IF NOT EXISTS kps.schema_version (
  version int PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());
"""


class _Version(NamedTuple):
    version: int


class _Lock(NamedTuple):
    got: bool


class MigrationNeeded(Exception):
    """The schema kps is behind and AUTO_MIGRATE is off; the message is the SQL to run.

    `present` is the number of the last migration that the database has seen, 0 = none.
    """

    def __init__(self, present: int, sql: str) -> None:
        super().__init__(sql)
        self.present = present


class SchemaTooNew(Exception):
    """A newer version of KPS has migrated this database; this one must not touch it."""


def available() -> list[tuple[int, str, str]]:
    """All migrations as (number, file name, SQL), in order."""
    found = []
    for entry in resources.files(__name__).iterdir():
        if entry.name.endswith(".sql"):
            found.append((int(entry.name.split("_", 1)[0]), entry.name, entry.read_text(encoding="utf-8")))
    return sorted(found)


def applied(database: Database) -> int:
    """The number of the last migration that the database has seen; 0 = none."""
    if not database.query("SELECT 1 FROM pg_class WHERE oid = to_regclass('kps.schema_version')"):
        return 0
    return database.query("SELECT coalesce(max(version), 0) AS version FROM kps.schema_version", row=_Version)[
        0
    ].version


def _to_nobody(_: str) -> None:
    pass


def migrate(database: Database, *, automatic: bool, tell: Callable[[str], None] = _to_nobody) -> list[str]:
    """Bring schema kps up to date; returns the names of what was applied.

    Each migration is one transaction: whoever is killed in it has done nothing, and the next start does it. It may take
    long; `tell` is called with a sentence that says what is waited for.
    Raises MigrationNeeded if `automatic` is off and something is missing, SchemaTooNew, or DatabaseTrouble.
    """
    steps = available()
    present = applied(database)
    if present > steps[-1][0]:
        raise SchemaTooNew(f"schema kps is at version {present}, this version of KPS knows only {steps[-1][0]}")
    missing = [step for step in steps if step[0] > present]
    if not missing:
        return []
    if not automatic:
        raise MigrationNeeded(present, "\n".join(step_sql(number, sql) for number, _, sql in missing))
    return [name for number, name, sql in missing if _apply(database, number, name, sql, tell)]


def step_sql(number: int, sql: str) -> str:
    """The SQL of one migration, with the note that it has been applied."""
    # Only the first makes the schema: PostgreSQL asks for the right to make it before it looks whether it is there,
    # and that right may have been taken back since.
    return f"""{_SCHEMA if number == 1 else ""}{sql}
INSERT INTO kps.schema_version (version) VALUES ({number});"""


def _apply(database: Database, number: int, name: str, sql: str, tell: Callable[[str], None]) -> bool:
    _take_turn(database, tell)
    try:
        if applied(database) >= number:
            return False
        tell(f"schema kps is being migrated: {name}")
        # Several statements in one simple query are one transaction. The session's own limits are for a ticket.
        limits = f"SET LOCAL statement_timeout = '{LIMIT_S:g}s'; SET LOCAL lock_timeout = '{LOCK_LIMIT_S:g}s';"
        database.query(f"{limits} {step_sql(number, sql)}", limit=LIMIT_S + 5.0)
        return True
    finally:
        if database.connected:
            database.query(f"SELECT pg_advisory_unlock({_LOCK})")


def _take_turn(database: Database, tell: Callable[[str], None]) -> None:
    """Until no other instance migrates. Raises DatabaseTrouble if that does not end."""
    end = time.monotonic() + LIMIT_S
    while not database.query(f"SELECT pg_try_advisory_lock({_LOCK}) AS got", row=_Lock)[0].got:
        if time.monotonic() > end:
            raise DatabaseTrouble("another instance has been migrating schema kps for an hour")
        tell("another instance is migrating schema kps")
        time.sleep(_LOOK_S)
