"""Whether rows are what the row types of their statements say."""

from __future__ import annotations

import types
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from typing import Any, NamedTuple, NewType, Union, get_args, get_origin, get_type_hints

from psycopg2.extensions import connection as Connection

from kps.database.connection import Statement

_OF_OID: dict[int, Any] = {
    16: bool,
    20: int,
    21: int,
    23: int,
    25: str,
    114: "json",
    701: float,
    1009: list[str],
    1016: list[int],
    1043: str,
    1082: date,
    1184: datetime,
    2278: str,  # void: psycopg2 makes it ''
    3802: "json",
}
"""What psycopg2 makes of PostgreSQL's types, by their number in pg_type; others are not meant to occur."""
VALUE_OF_TYPE: dict[str, object] = {
    "bigint": -1,
    "bigint[]": [],
    "boolean": False,
    "float8": 0.0,
    "int": 0,
    "jsonb": "{}",
    "text": "nothing",
    "text[]": [],
    "uuid": "00000000-0000-0000-0000-000000000000",
}
"""A value for each type of parameter: nothing has it, so no statement changes anything."""


def columns(raw: Connection, statement: Statement[Any]) -> dict[str, Any]:
    """Run a statement with values that nothing has; answers its columns and what Python types they have."""
    values = {name: VALUE_OF_TYPE[kind] for name, kind in statement.parameters.items()}
    with raw.cursor() as cursor:
        cursor.execute(statement.prepare)
        cursor.execute(statement.execute, values or None)
        return {column.name: _OF_OID.get(column.type_code, column.type_code) for column in cursor.description or ()}


def declared(row: type[NamedTuple]) -> dict[str, Any]:
    """The fields of a row type, and the Python types of their values, but for None."""
    return {name: _plain(hint) for name, hint in hints(row).items()}


@cache
def hints(row: type[Any]) -> dict[str, Any]:
    """The annotations of a row type's fields."""
    return get_type_hints(row)


def refuse_misfit(statement: Statement[Any], row: Any) -> None:
    """Raise an AssertionError unless each value of a row is of its field's type, None included."""
    assert type(row) is statement.row, statement.name
    for (name, hint), value in zip(hints(statement.row).items(), row, strict=True):
        assert _fits(value, hint), f"{statement.name}: {name} is {value!r}, and its type is {hint}"


def _plain(hint: Any) -> Any:
    if isinstance(hint, NewType):
        return _plain(hint.__supertype__)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (one,) = [_plain(argument) for argument in arguments if argument is not types.NoneType]
        return one
    if get_origin(hint) is Mapping or (get_origin(hint) is list and not _scalar(arguments[0])):
        return "json"
    return list[_plain(arguments[0])] if arguments else hint  # type: ignore[misc]


def _scalar(hint: Any) -> bool:
    return _plain(hint) in (int, str)


def _fits(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    if isinstance(hint, NewType):
        return _fits(value, hint.__supertype__)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if get_origin(hint) is Mapping:
        return isinstance(value, dict)
    if arguments:
        return type(value) is list and all(_fits(one, arguments[0]) for one in value)
    return type(value) is hint  # a bool is no int
