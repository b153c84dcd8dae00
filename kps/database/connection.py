"""One connection to PostgreSQL: every call has a deadline, every statement is prepared once."""

from __future__ import annotations

import re
import select
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar, overload

import psycopg2
import psycopg2.extensions

from kps.core.settings import DatabaseSettings
from kps.database.names import NoAddress, Place, places

CALL_LIMIT_S = 5.0
"""No database call of the service lasts longer; below the hang timeout of a process."""

PULSE_S = 0.5

_SESSION = {
    # What a commit has promised outlives a power cut: `sends` above all. Lazy statements say so themselves.
    "synchronous_commit": "on",
    # A statement behind a lock sees what its holder has committed: the check of a ticket's family rests on it.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "row_security": "on",
    # Bounds of every call; a listener is idle for hours.
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # How values are written and read.
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Each statement finds a few rows by key: to plan it anew, or to compile it, costs more than to run it.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
"""What every session of ours has, whatever database, role or pooler say; its time zone is theirs."""
_NEWER = ((170000, "transaction_timeout", "0"),)
"""The same that older servers do not know, with the first version that does: a transaction of ours is one statement."""

_PLACEHOLDER = re.compile(r"\{(\w+):(\w+(?:\[\])?)\}")

Row = TypeVar("Row", bound=NamedTuple)
"""What each row of a result becomes: a class of named tuples whose fields are the columns, in their order.

Whether they are, by name and type, the tests ask PostgreSQL. To look at every result would cost every result.
"""
_Made = TypeVar("_Made")

_TROUBLE = (psycopg2.Error, UnicodeError)
"""What psycopg2 raises: the second where a server that is starting up speaks its own locale's encoding."""


class DatabaseTrouble(Exception):
    """The database did not do what was asked; whether it did it all the same is unknown.

    The connection has been dropped. `sentence` says it for a person; `sqlstate` is PostgreSQL's code or ''.
    """

    def __init__(self, sentence: str, sqlstate: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.sqlstate = sqlstate

    @property
    def refused(self) -> bool:
        """The statement was surely not carried out and will not be the next time either, until a person mends it.

        A right, a table or a column is missing: PostgreSQL's classes 42 and 3F. An error rolls its transaction back.
        """
        return self.sqlstate[:2] in ("42", "3F")

    @property
    def locked(self) -> bool:
        """The statement was surely not carried out, because somebody holds a lock for long."""
        return self.sqlstate == "55P03"


class ClientDeadline(psycopg2.OperationalError):
    """The server did not answer within the limit of the call."""


class Connection(psycopg2.extensions.connection):
    """A psycopg2 connection whose every wait is bounded by `limit` seconds, that for its own opening too."""

    limit: float = CALL_LIMIT_S
    pulse: Callable[[], None] | None = None
    """Called at least every PULSE_S while waiting: the heartbeat of the process that waits."""

    def __init__(self, *how: Any, pulse: Callable[[], None] | None = None, share: int = 1) -> None:
        """`share`: so many addresses have to be tried within the limit."""
        self.pulse = pulse
        self.limit = type(self).limit / share
        super().__init__(*how)


class _Brief(list[str]):
    """The last notices of the server, as psycopg2 keeps them, each cut short: a trigger may have megabytes to say."""

    def append(self, notice: str) -> None:
        super().append(notice[:500])


def _wait(connection: psycopg2.extensions.connection) -> None:
    end = time.monotonic() + getattr(connection, "limit", 30.0)
    pulse = getattr(connection, "pulse", None)
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        left = end - time.monotonic()
        if left <= 0:
            raise ClientDeadline("no answer from the database in time")
        poller = select.poll()
        poller.register(
            connection.fileno(), select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        )
        poller.poll(min(left, PULSE_S) * 1000)
        if pulse is not None:
            pulse()


@dataclass(frozen=True, slots=True)
class Statement(Generic[Row]):
    """One SQL statement with typed parameters written `{name:type}`, prepared on first use of a connection.

    `row` is what its result consists of.
    `prelude` is run before it in the same round trip and transaction, with a snapshot of its own.
    `lazy`: nobody waits for its commit to reach the disk. A crash of the server may undo it as a whole, as if it had
    never been; any later commit that is not lazy makes it last too.
    """

    name: str
    row: type[Row]
    sql: str
    prelude: str = ""
    lazy: bool = False
    execute: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [(name, _types(self.name, sql)) for name, sql in self._parts()]
        lazily = ["SET LOCAL synchronous_commit = off"] if self.lazy else []
        object.__setattr__(self, "execute", "; ".join([*lazily, *(_execute(name, types) for name, types in parts)]))

    @property
    def parameters(self) -> dict[str, str]:
        """Type of each parameter, in the order of their first use."""
        return _types(self.name, self.sql)

    @property
    def prepare(self) -> str:
        """What a connection is told once; not kept, for it is as long as the statement itself."""
        return "; ".join(_prepare(name, _types(self.name, sql), sql) for name, sql in self._parts())

    def _parts(self) -> list[tuple[str, str]]:
        before = [(f"kps_before_{self.name}", self.prelude)] if self.prelude else []
        return [*before, (f"kps_{self.name}", self.sql)]


def _types(statement: str, sql: str) -> dict[str, str]:
    """Type of each parameter, in the order of their first use."""
    types: dict[str, str] = {}
    for parameter, kind in _PLACEHOLDER.findall(sql):
        if types.setdefault(parameter, kind) != kind:
            raise ValueError(f"{statement}: parameter {parameter} has two types")
    return types


def _prepare(name: str, types: dict[str, str], sql: str) -> str:
    order = list(types)
    body = _PLACEHOLDER.sub(lambda match: f"${order.index(match.group(1)) + 1}", sql)
    declared = f" ({', '.join(types.values())})" if types else ""
    return f"PREPARE {name}{declared} AS {body}"


def _execute(name: str, types: dict[str, str]) -> str:
    given = f" ({', '.join(f'%({parameter})s' for parameter in types)})" if types else ""
    return f"EXECUTE {name}{given}"


def _session(schema: str, version: int) -> str:
    """The statements that make a new session of a server of this version ours."""
    # Last in the path: a table of that name that somebody has left in a pooler's session is not the POS's.
    path = f'SET search_path = "{schema}", pg_temp'
    known = [(name, value) for since, name, value in _NEWER if version >= since]
    return "; ".join([path, *(f"SET {name} = '{value}'" for name, value in [*_SESSION.items(), *known])])


def _is_answer(error: psycopg2.Error) -> bool:
    """Whether a server that works has refused us: its twin at another address would, too."""
    return "FATAL" in str(error) and "the database system is" not in str(error)


class _Described(NamedTuple):
    sentence: str
    sqlstate: str


def _rows(cursor: psycopg2.extensions.cursor, make: Callable[[tuple[Any, ...]], _Made]) -> list[_Made]:
    """All rows of the last result; [] if it has none.

    psycopg2's own named tuples take the names through a generator. A tuple made of one is cut to its length, and
    CPython keeps 2,000 of each length for nothing: an idle service grew by megabytes in its first hours.
    """
    if cursor.description is None:
        return []
    return [make(values) for values in cursor.fetchall()]


class Database:
    """A connection that is opened when needed, and dropped at the first error."""

    def __init__(self, settings: DatabaseSettings, name: str, pulse: Callable[[], None] | None = None) -> None:
        self._pulse = pulse
        self._settings = settings
        self._name = name
        self._connection: Connection | None = None
        self._place: Place | None = None
        self._prepared: set[str] = set()
        self.errors = 0
        self.opened = 0
        """Connections so far; each further one may be to a server that has forgotten what was lazy."""

    @property
    def connected(self) -> bool:
        """Whether a connection is open, as far as we know."""
        return self._connection is not None and self._connection.closed == 0

    def fileno(self) -> int:
        """The socket, to wait on; only while connected."""
        assert self._connection is not None
        return int(self._connection.fileno())

    @property
    def raw(self) -> Connection:
        """The psycopg2 connection; only while connected."""
        assert self._connection is not None
        return self._connection

    def connect(self) -> None:
        """Open the connection. Raises DatabaseTrouble with a sentence that says what is wrong."""
        self.close()
        try:
            self._connection = self._open()
        except NoAddress as error:
            self.errors += 1
            raise DatabaseTrouble(str(error)) from error
        except _TROUBLE as error:
            self.errors += 1
            found = self._describe(error)
            raise DatabaseTrouble(found.sentence, found.sqlstate) from error
        self._prepared = set()
        self.opened += 1

    def run(self, statement: Statement[Row], *, limit: float = CALL_LIMIT_S, **values: Any) -> list[Row]:
        """Run a prepared statement in its own transaction and return all its rows."""
        connection = self._ready()
        connection.limit = limit
        try:
            with connection.cursor() as cursor:
                execute = cursor.mogrify(statement.execute, values or None)
                if statement.name not in self._prepared:
                    # In the same round trip: a database may be far away.
                    execute = statement.prepare.encode() + b"; " + execute
                cursor.execute(execute)
                self._prepared.add(statement.name)
                return _rows(cursor, statement.row._make)
        except _TROUBLE as error:
            raise self._dropped(error) from error

    @overload
    def query(
        self,
        sql: str,
        values: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        row: type[Row],
        limit: float = CALL_LIMIT_S,
    ) -> list[Row]: ...

    @overload
    def query(
        self, sql: str, values: Mapping[str, Any] | Sequence[Any] | None = None, *, limit: float = CALL_LIMIT_S
    ) -> list[tuple[object, ...]]: ...

    def query(
        self,
        sql: str,
        values: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        row: type[Any] | None = None,
        limit: float = CALL_LIMIT_S,
    ) -> list[Any]:
        """Run plain SQL, for what happens once (introspection, migrations, LISTEN).

        Without a type of `row` the rows are plain tuples: of use to whoever only wants to know whether there are any.
        """
        connection = self._ready()
        connection.limit = limit
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return _rows(cursor, tuple if row is None else row._make)
        except _TROUBLE as error:
            raise self._dropped(error) from error

    def close(self) -> None:
        """Drop the connection; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except _TROUBLE:
                return

    def _ready(self) -> Connection:
        if not self.connected:
            self.connect()
        assert self._connection is not None
        return self._connection

    def _dropped(self, error: psycopg2.Error | UnicodeError) -> DatabaseTrouble:
        self.errors += 1
        found = self._describe(error)
        self.close()
        return DatabaseTrouble(found.sentence, found.sqlstate)

    def _open(self) -> Connection:
        found = places(self._settings.host, self._pulse, PULSE_S)
        for place in found:
            self._place = place
            try:
                return self._open_at(place, len(found))
            except psycopg2.OperationalError as error:
                if place is found[-1] or _is_answer(error):
                    raise
        raise AssertionError("there is always a place")

    def _open_at(self, place: Place, share: int) -> Connection:
        connection = self._connected(place, share)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_session(self._settings.schema, connection.server_version))
        except _TROUBLE:
            connection.close()
            raise
        return connection

    def _connected(self, place: Place, share: int) -> Connection:
        settings = self._settings
        connection = psycopg2.connect(
            host=place.host,
            hostaddr=place.address or None,
            port=settings.port,
            dbname=settings.name,
            user=settings.user,
            password=settings.password,
            sslmode=settings.sslmode,
            connect_timeout=2,
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=6000,
            target_session_attrs="primary",
            application_name=f"kps:{self._name}"[:63],
            # A pooler refuses what stands here, or drops it without a word.
            options="",
            client_encoding="UTF8",
            connection_factory=partial(Connection, pulse=self._pulse, share=share),
        )
        assert isinstance(connection, Connection)
        connection.notices = _Brief()
        # Who listens says where to put them; a session that a pooler has used before may listen for somebody else.
        connection.notifies = deque(maxlen=0)  # type: ignore[assignment]
        return connection

    def _describe(self, error: psycopg2.Error | UnicodeError) -> _Described:
        settings = self._settings
        state = getattr(error, "pgcode", None) or ""
        text = " ".join(str(error).split())
        where = f"{settings.host}:{settings.port}"
        if self._place is not None and self._place.old:
            where += f" (at {self._place.address} earlier, its name cannot be resolved now)"
        # What psycopg2 cannot read it loses without a word in some Pythons (3.11.2), and says so in others (3.11.7).
        if isinstance(error, UnicodeError) or not text:
            return _Described(f"database at {where} speaks another encoding than UTF-8: its log says what", state)
        if isinstance(error, ClientDeadline):
            return _Described(f"database at {where} does not answer", state)
        if "password authentication failed" in text or "no password supplied" in text:
            return _Described(f"database at {where} refuses user {settings.user}: wrong password", state)
        if f'database "{settings.name}" does not exist' in text:
            return _Described(f"database {settings.name} does not exist at {where}", state)
        if "Connection refused" in text:
            return _Described(f"database at {where} refuses connections", state)
        if state == "42501":
            return _Described(f"missing right: {error.diag.message_primary or text}", state)
        if state in ("42P01", "42703", "3F000"):
            return _Described(f"database schema: {error.diag.message_primary or text}", state)
        return _Described(f"database: {text[:300]}", state)


psycopg2.extensions.set_wait_callback(_wait)
