"""What the promises need of a session is set in every session, however the database, the role or a pooler is set."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from psycopg2 import sql

from kps.core.settings import DatabaseSettings
from kps.database.connection import Database
from kps.database.listen import Listener
from kps.database.migrations import migrate
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from tests.conftest import Database as Target
from tests.database.house import House, settings_of

OTHERWISE = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "search_path": "elsewhere, public",
    "statement_timeout": "900",
    "lock_timeout": "900",
    "idle_in_transaction_session_timeout": "900",
    "idle_session_timeout": "900",
    "row_security": "off",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Chatham",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "plan_cache_mode": "force_custom_plan",
    "jit": "on",
}
"""Each of them otherwise than KPS has it."""
NEWER = {170000: {"transaction_timeout": "900"}}
"""What only newer servers know, by their first version."""
NEEDED = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "search_path": "public, pg_temp",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "row_security": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "client_encoding": "UTF8",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


def set_otherwise(target: Target, values: dict[str, str] = OTHERWISE, *, role: bool = False) -> None:
    """For every connection from now on that does not ask for something else itself."""
    cursor = target.connect().cursor()
    cursor.execute(
        "CREATE SCHEMA IF NOT EXISTS elsewhere; CREATE TABLE IF NOT EXISTS elsewhere.kitchen_kitchenticket ()"
    )
    version = cursor.connection.server_version
    newer = {name: value for since, more in NEWER.items() if version >= since for name, value in more.items()}
    command = "ALTER ROLE {who} IN DATABASE {where}" if role else "ALTER DATABASE {where}"
    whole = sql.SQL(command).format(who=sql.Identifier(target.user), where=sql.Identifier(target.name))
    for name, value in (values | (newer if values is OTHERWISE else {})).items():
        given = sql.SQL(value) if name == "search_path" else sql.Literal(value)
        cursor.execute(whole + sql.SQL(" SET {} = {}").format(sql.Identifier(name), given))


def shown(database: Database, *names: str) -> dict[str, str]:
    """These settings as the session has them."""
    return {name: database.query(f"SHOW {name}")[0][0] for name in names}


@pytest.mark.parametrize("role", [False, True], ids=["database", "role"])
def test_a_session_has_what_the_promises_need_in_a_database_that_is_set_otherwise(
    pos_database: Target, role: bool
) -> None:
    set_otherwise(pos_database, role=role)
    database = Database(settings_of(pos_database), "test")
    with closing(database):
        database.connect()
        assert shown(database, *NEEDED) == NEEDED
        if database.raw.server_version >= 170000:
            assert shown(database, "transaction_timeout") == {"transaction_timeout": "0"}


def test_the_time_zone_stays_the_databases_own(pos_database: Target) -> None:
    set_otherwise(pos_database)
    with closing(Database(settings_of(pos_database), "test")) as database:
        assert shown(database, "TimeZone") == {"TimeZone": "Pacific/Chatham"}


def test_migrations_and_trigger_are_made_in_a_database_that_is_set_otherwise(pos_database: Target) -> None:
    set_otherwise(pos_database)
    with closing(Database(settings_of(pos_database), "test")) as database:
        assert migrate(database, automatic=True)
        install_trigger(database)
        assert introspect(database).has_trigger


def test_a_listener_is_not_cut_off_for_being_idle(pos_database: Target) -> None:
    set_otherwise(pos_database, {"idle_session_timeout": "50"})
    voice = Database(settings_of(pos_database), "test")
    ears = Listener(settings_of(pos_database), "test", voice)
    with closing(voice), closing(ears):
        assert ears.step()
        watcher = pos_database.connect()
        cursor = watcher.cursor()
        cursor.execute("SET idle_session_timeout = 0")
        # The server's own clock: by the end of this the listener has been idle for ten times that long.
        cursor.execute("SELECT pg_sleep(0.5)")
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'kps:test:listen'")
        assert cursor.fetchone() == (1,)


def test_an_original_and_its_reprint_are_told_apart_where_transactions_are_repeatable_read(
    house: House, pos_database: Target
) -> None:
    set_otherwise(pos_database, {"default_transaction_isolation": "repeatable read"})
    one, other = house.instance("one"), house.instance("one")
    one.acquire(*house.rows())
    original = house.pos.ticket()
    claims = [
        one.claim(original, house.row("kitchen-1")),
        one.claim(house.pos.reprint(original), house.row("kitchen-2")),
    ]
    with one.transaction():
        earlier = one.send(claims[0])
        promising = house.in_background(lambda: other.send(claims[1]))
        house.wait_until_blocked(other)
    later = promising.result(20)
    assert not earlier.ticket.marks.possible_duplicate
    assert later.ticket.marks.possible_duplicate


def test_the_tables_of_a_pos_that_lives_in_a_schema_of_its_own_are_found(pos_database: Target) -> None:
    pos_database.connect().cursor().execute("ALTER SCHEMA public RENAME TO shop")
    with closing(Database(settings_of(pos_database, schema="shop"), "test")) as database:
        assert shown(database, "search_path") == {"search_path": "shop, pg_temp"}
        migrate(database, automatic=True)
        install_trigger(database)
        assert introspect(database).has_trigger


# Poolers, which look into the first packet of a connection.


class Pooler:
    """Between client and server as PgBouncer is: `options` of the first packet is refused, or dropped."""

    def __init__(self, host: str, port: int, *, refuses: bool) -> None:
        self._server = (host, port)
        self._refuses = refuses
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._open = [self._door]
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for one in self._open:
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._open.append(client)
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        length, version = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
        parts = client.recv(length - 8, socket.MSG_WAITALL).split(b"\0")
        given = dict(zip(parts[0::2], parts[1::2], strict=False))
        if self._refuses and b"options" in given:
            body = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(b"E" + struct.pack("!I", len(body) + 4) + body)
            client.shutdown(socket.SHUT_RDWR)
            return
        given.pop(b"options", None)
        body = b"".join(name + b"\0" + value + b"\0" for name, value in given.items() if name) + b"\0"
        server = socket.create_connection(self._server)
        self._open.append(server)
        server.sendall(struct.pack("!II", len(body) + 8, version) + body)
        for source, target in ((client, server), (server, client)):
            self._threads.append(threading.Thread(target=_pump, args=(source, target), daemon=True))
            self._threads[-1].start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


@contextmanager
def pooler(target: Target, *, refuses: bool) -> Iterator[DatabaseSettings]:
    """How to reach the database through a pooler of that kind."""
    made = Pooler(target.host, target.port, refuses=refuses)
    try:
        yield settings_of(target, host="127.0.0.1", port=made.port)
    finally:
        made.close()


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses", "ignores"])
def test_a_session_through_a_pooler_that_takes_no_options_has_the_same(pos_database: Target, refuses: bool) -> None:
    set_otherwise(pos_database)
    with pooler(pos_database, refuses=refuses) as settings, closing(Database(settings, "test")) as database:
        database.connect()
        assert shown(database, *NEEDED) == NEEDED


def test_of_a_lazy_statement_alone_the_commit_is_not_waited_for(house: House, pos_database: Target) -> None:
    set_otherwise(pos_database)
    asked: dict[str, Any] = {}
    one = house.instance("one")
    one.acquire(*house.rows())
    claimed = one.claim(house.pos.ticket(), house.row("kitchen-1"))
    with one.transaction():
        one.send(claimed)
        asked["sending"] = one.database.query("SHOW synchronous_commit")[0][0]
    asked["behind"] = one.database.query("SHOW synchronous_commit")[0][0]
    assert asked == {"sending": "on", "behind": "on"}
