"""Thirty real bills (86 tickets) from `tests/data/pos-sample.sql`, for a POS schema of any age."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import quote_ident

from kps.demo.pos_tables import LOG, Column, SchemaAge, columns, log_table

SAMPLE: Final = Path(__file__).with_name("data") / "pos-sample.sql"
INSERT: Final = re.compile(r"\s*INSERT INTO public\.(\w+) \(([^)]*)\) VALUES \(")
# A quote inside a string is doubled, and a string may go over several lines.
VALUE: Final = re.compile(r"('(?:[^']|'')*'|[^\s',()]+)(?:, |(\);))")


class NotUnderstood(Exception):
    """The sample has something that is no plain INSERT."""


@dataclass(frozen=True, slots=True)
class Insert:
    """One statement of the sample; `values` are SQL literals by column."""

    table: str
    values: Mapping[str, str]


@cache
def statements() -> tuple[Insert, ...]:
    """The sample's statements. Raises NotUnderstood."""
    return tuple(_parsed(SAMPLE.read_text("utf-8")))


def load_sample(
    connection: Connection,
    age: SchemaAge = SchemaAge.NEWER,
    printers: Mapping[int, tuple[str, int]] | None = None,
) -> None:
    """Fill the empty tables of this age, in one transaction of its own.

    All times are shifted so that the newest is now, by the database's clock. `printers` gives printer
    rows other addresses: id -> (host, port). Ids 1 to 5 are kitchen, its backup, bar, dessert, checker.
    """
    with connection, connection.cursor() as cursor:
        shift = _age_of_the_sample(cursor)
        for statement in statements():
            aged = _aged(_readdressed(statement, printers or {}), age)
            if aged is not None:
                cursor.execute(_sql(aged, age, shift))
        _advance_identities(cursor, age)


def _parsed(text: str) -> Iterator[Insert]:
    position = 0
    while text[position:].strip():
        found = INSERT.match(text, position)
        if found is None:
            raise NotUnderstood(text[position : position + 100])
        names = [name.strip('" ') for name in found.group(2).split(",")]
        values, position = _values(text, found.end())
        yield Insert(found.group(1), dict(zip(names, values, strict=True)))


def _values(text: str, position: int) -> tuple[list[str], int]:
    """The literals up to the end of a statement, and where it ends."""
    values = []
    while True:
        found = VALUE.match(text, position)
        if found is None:
            raise NotUnderstood(text[position : position + 100])
        values.append(found.group(1))
        position = found.end()
        if found.group(2):
            return values, position


def _readdressed(statement: Insert, printers: Mapping[int, tuple[str, int]]) -> Insert:
    address = printers.get(int(statement.values["id"])) if statement.table == "kitchen_stationprinter" else None
    if address is None:
        return statement
    host, port = address
    return replace(statement, values={**statement.values, "printer_ip": f"'{host}'", "printer_port": str(port)})


def _columns_of(table: str, age: SchemaAge) -> dict[str, Column]:
    return {column.name: column for column in columns(age) if column.table == table}


def _aged(statement: Insert, age: SchemaAge) -> Insert | None:
    """The statement for that age; None if the table was not there yet."""
    table = log_table(age) if statement.table == LOG else statement.table
    known = _columns_of(table, age)
    kept = {name: value for name, value in statement.values.items() if name in known}
    return Insert(table, kept) if known else None


def _sql(statement: Insert, age: SchemaAge, shift: timedelta) -> str:
    known = _columns_of(statement.table, age)
    values = [
        f"{value}::timestamptz + interval '{shift // timedelta(microseconds=1)} microseconds'"
        if known[name].type == "timestamptz"
        else value
        for name, value in statement.values.items()
    ]
    names = ", ".join(f'"{name}"' for name in statement.values)
    return f"INSERT INTO {statement.table} ({names}) VALUES ({', '.join(values)})"


def _age_of_the_sample(cursor: Cursor) -> timedelta:
    types = {(column.table, column.name): column.type for column in columns()}
    newest = max(
        datetime.fromisoformat(value.strip("'"))
        for statement in statements()
        for name, value in statement.values.items()
        if types[statement.table, name] == "timestamptz" and value != "NULL"
    )
    cursor.execute("SELECT clock_timestamp()")
    row = cursor.fetchone()
    assert row is not None
    now = row[0]
    assert isinstance(now, datetime)
    return now - newest


def _advance_identities(cursor: Cursor, age: SchemaAge) -> None:
    """The next row that the POS inserts must not meet an id of the sample."""
    for column in columns(age):
        if column.is_identity:
            table = quote_ident(column.table, cursor)
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence(%s, 'id'), max(id)) FROM {table} HAVING max(id) IS NOT NULL",
                [column.table],
            )
