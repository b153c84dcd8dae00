"""A connection that never waits for ever, and says in a sentence what is wrong; a listener that proves it hears."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from kps.core.settings import DatabaseSettings
from kps.database import listen
from kps.database.connection import Database, DatabaseTrouble, Statement
from kps.database.listen import Listener
from kps.database.migrations import migrate
from kps.database.pos import introspect
from kps.database.pos.trigger import install_trigger
from kps.database.statements import CHANNEL_PRINTER, CHANNEL_TICKET, Statements
from kps.demo.orders import PosWriter
from kps.demo.postgres import EmbeddedPostgres
from tests.conftest import Database as Target
from tests.conftest import eventually, require
from tests.database.house import settings_of


class Who(NamedTuple):
    given: int
    pid: int


class Waits(NamedTuple):
    waits: str


class Limit(NamedTuple):
    name: str
    setting: str


WHO = Statement("who", Who, "SELECT {given:int} AS given, pg_backend_pid() AS pid")


@pytest.fixture
def access(pos_database: Target) -> Iterator[Database]:
    made = Database(settings_of(pos_database), "test")
    yield made
    made.close()


def sentence(settings: DatabaseSettings) -> str:
    """What is said when connecting fails."""
    database = Database(settings, "test")
    with pytest.raises(DatabaseTrouble) as trouble:
        database.connect()
    assert not database.connected
    assert database.errors == 1
    return trouble.value.sentence


def test_a_missing_database_is_named(pos_database: Target) -> None:
    text = sentence(settings_of(pos_database, name="nowhere"))
    assert text == f"database nowhere does not exist at {pos_database.host}:{pos_database.port}"


def test_a_wrong_password_is_named_and_not_shown() -> None:
    with EmbeddedPostgres(durable=False) as server:
        settings = DatabaseSettings(server.host, server.port, "postgres", server.user, "wrong-one", "disable")
        text = sentence(settings)
    assert text == f"database at {settings.host}:{settings.port} refuses user {settings.user}: wrong password"


def test_reading_rows_leaves_no_memory_behind(access: Database) -> None:
    def read(times: int) -> None:
        for _ in range(times):
            access.run(WHO, given=1)

    def left_behind() -> int:
        before = sys.getallocatedblocks()
        read(500)
        return sys.getallocatedblocks() - before

    # What grows with reading grows each time; what is set up once, or by the run's other tests, does not.
    assert min(left_behind() for _ in range(5)) < 250


def test_a_port_where_nobody_listens_is_named(pos_database: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = sentence(settings_of(pos_database, host="127.0.0.1", port=port))
    assert text == f"database at 127.0.0.1:{port} refuses connections"


def test_a_host_that_does_not_exist_is_named(pos_database: Target) -> None:
    text = sentence(settings_of(pos_database, host="no-such-host.invalid"))
    assert text == "database host no-such-host.invalid cannot be resolved"


def test_a_server_that_accepts_and_says_nothing_does_not_hold_us(
    pos_database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kps.database.connection.Connection.limit", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = sentence(settings_of(pos_database, host="127.0.0.1", port=port))
    assert text == f"database at 127.0.0.1:{port} does not answer"


def test_a_server_that_speaks_its_locales_encoding_is_trouble_like_any_other(pos_database: Target) -> None:
    """As PostgreSQL does before it has agreed on one: while it starts, for one."""
    fields = b"SFATAL\0C57P03\0M" + "das Datenbanksystem fährt hoch".encode("latin-1") + b"\0\0"

    def refuse(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(refuse, server)
        port = server.getsockname()[1]
        text = sentence(settings_of(pos_database, host="127.0.0.1", port=port))
    # Of what it cannot read psycopg2 makes a UnicodeDecodeError or an error without a word, by the version of Python.
    assert text == f"database at 127.0.0.1:{port} speaks another encoding than UTF-8: its log says what"


def test_a_frozen_server_is_given_up_at_the_deadline_and_used_again_when_it_thaws() -> None:
    with EmbeddedPostgres(durable=False) as server:
        settings = DatabaseSettings(server.host, server.port, "postgres", server.user, server.password, "disable")
        database = Database(settings, "test")
        assert database.run(WHO, given=1)[0].given == 1
        server.pause()
        try:
            with pytest.raises(DatabaseTrouble) as trouble:
                database.run(WHO, given=2, limit=0.3)
        finally:
            server.resume()
        assert trouble.value.sentence == f"database at {settings.host}:{settings.port} does not answer"
        assert not database.connected
        assert database.run(WHO, given=3)[0].given == 3
        database.close()


def test_an_error_drops_the_connection_and_the_next_call_prepares_anew(access: Database) -> None:
    first = access.run(WHO, given=1)[0]
    with pytest.raises(DatabaseTrouble) as trouble:
        access.query("SELECT * FROM nothing_of_that_name")
    assert trouble.value.sqlstate == "42P01"
    assert "nothing_of_that_name" in trouble.value.sentence
    assert access.errors == 1
    assert not access.connected
    again = access.run(WHO, given=2)[0]
    assert (again.given, again.pid == first.pid) == (2, False)


def test_a_terminated_connection_is_a_trouble_once(access: Database, pos_database: Target) -> None:
    pid = access.run(WHO, given=1)[0].pid
    pos_database.connect().cursor().execute("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(DatabaseTrouble):
        eventually(lambda: access.run(WHO, given=2)[0].pid != pid and None, what="the terminated connection to fail")
    assert access.run(WHO, given=3)[0].given == 3


def test_the_server_bounds_what_it_does_for_us(access: Database) -> None:
    limits = {
        row.name: row.setting
        for row in access.query(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)",
            [["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name"]],
            row=Limit,
        )
    }
    assert limits == {
        "statement_timeout": "5000", "lock_timeout": "2000", "idle_in_transaction_session_timeout": "5000",
        "application_name": "kps:test",
    }  # fmt: skip


def test_a_statement_that_takes_too_long_is_cancelled_by_the_server(access: Database) -> None:
    with pytest.raises(DatabaseTrouble) as trouble:
        access.query("SET statement_timeout = '50ms'; SELECT pg_sleep(30)")
    assert trouble.value.sqlstate == "57014"


def test_a_parameter_with_two_types_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="two types"):
        Statement("wrong", Who, "SELECT {a:int}, {a:text}")


# Listening.


@pytest.fixture
def ears(pos_database: Target) -> Iterator[Listener]:
    voice = Database(settings_of(pos_database), "test")
    made = Listener(settings_of(pos_database), "test", voice)
    yield made
    made.close()
    voice.close()


def prove(ears: Listener) -> None:
    """Until it hears what it said."""
    eventually(lambda: ears.heard() == set() and ears.proven, what="the proof")


def test_a_listener_hears_both_channels_and_each_once(ears: Listener, access: Database) -> None:
    assert ears.heard() == set()
    assert ears.step()
    assert not ears.proven
    prove(ears)
    access.query(f"NOTIFY {CHANNEL_TICKET}; NOTIFY {CHANNEL_PRINTER}")
    found: list[str] = []

    def both() -> bool:
        found.extend(ears.heard())
        return len(found) == 2

    eventually(both, what="both channels")
    assert set(found) == {CHANNEL_TICKET, CHANNEL_PRINTER}
    assert ears.heard() == set()


def test_a_listener_that_lost_its_connection_says_so_and_comes_back(
    ears: Listener, access: Database, pos_database: Target
) -> None:
    ears.step()
    prove(ears)
    access.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kps:test:listen'")
    eventually(lambda: ears.heard() == set() and not ears.proven, what="the loss to be noticed")
    assert ears.deaf_reason
    assert ears.fileno() is None
    assert eventually(ears.step, what="the listener to reconnect")
    prove(ears)
    assert ears.reconnects == 2
    access.query(f"NOTIFY {CHANNEL_TICKET}")
    assert eventually(ears.heard, what="a notification") == {CHANNEL_TICKET}


def test_a_listener_that_no_longer_hears_listens_again(ears: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    ears.step()
    prove(ears)
    # As a pooler does it that gives the session to somebody else.
    ears._database.query("UNLISTEN *")
    monkeypatch.setattr("kps.database.listen.HEARTBEAT_LIMIT_S", 1.0)
    ears._beat_due = 0.0
    assert eventually(lambda: ears.step() or ears.proven is False, what="to notice")
    assert (ears.proven, ears.reconnects) == (False, 1)
    assert "do not arrive" in ears.deaf_reason
    ears._beat_due = 0.0
    eventually(lambda: ears.step() is False and ears.proven, what="to hear again")


@pytest.mark.parametrize(
    ("change", "wakes"),
    [("DISABLE TRIGGER", False), ("ENABLE REPLICA TRIGGER", False), ("ENABLE ALWAYS TRIGGER", True)],
)
def test_a_listener_knows_whether_the_trigger_fires(
    ears: Listener, pos: PosWriter, access: Database, change: str, wakes: bool
) -> None:
    ears.step()
    assert ears.wakes is False
    migrate(access, automatic=True)
    install_trigger(access)
    ears._beat_due = 0.0
    ears.step()
    assert ears.wakes is True
    pos.execute(f"ALTER TABLE kitchen_kitchenticket {change} kps_ticket_notify")
    ears._beat_due = 0.0
    ears.step()
    assert ears.wakes is wakes
    assert introspect(access).has_trigger is wakes
    install_trigger(access)
    assert introspect(access).has_trigger


def test_a_listener_without_a_server_is_deaf_and_raises_nothing(pos_database: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nowhere = settings_of(pos_database, host="127.0.0.1", port=port)
    ears = Listener(nowhere, "test", Database(nowhere, "test"))
    assert not ears.step()
    assert not ears.proven
    assert "refuses connections" in ears.deaf_reason
    assert ears.due_in() > 0


def test_only_a_lazy_statement_does_not_wait_for_the_disk(access: Database) -> None:
    def asks(name: str, *, lazy: bool) -> Statement[Waits]:
        return Statement(name, Waits, "SELECT current_setting('synchronous_commit') AS waits", lazy=lazy)

    eager = asks("eager", lazy=False)
    before = access.run(eager)[0].waits

    assert access.run(asks("lazily", lazy=True))[0].waits == "off"
    assert before == access.run(eager)[0].waits != "off"
    assert access.raw.notices == []


def test_of_the_queues_statements_only_the_claim_is_lazy(pos_database: Target) -> None:
    database = Database(settings_of(pos_database), "test")
    try:
        found = Statements(introspect(database))
    finally:
        database.close()
    assert [statement.name for statement in found.every() if statement.lazy] == ["claim"]


def _answer_over_tls(server: EmbeddedPostgres) -> None:
    """Give the server a certificate, and have it ask for TLS where a client wants it. Skips where it cannot."""
    openssl = shutil.which("openssl")
    require(openssl, "openssl, which makes the certificate (Debian: apt install openssl)")
    assert openssl is not None
    plain = Database(DatabaseSettings(server.host, server.port, "postgres", server.user, server.password), "plain")
    data = Path(plain.query("SHOW data_directory")[0][0])
    try:
        plain.query("ALTER SYSTEM SET ssl = on")
    except DatabaseTrouble as trouble:
        pytest.skip(f"lacks TLS in this PostgreSQL: {trouble.sentence}")
    finally:
        plain.close()
    key, certificate = data / "server.key", data / "server.crt"
    command = [openssl, "req", "-new", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for path in (key, certificate):
        path.chmod(0o600)
        os.chown(path, data.stat().st_uid, data.stat().st_gid)
    server.restart()


def test_a_connection_is_encrypted_where_that_is_required() -> None:
    # Python's own OpenSSL is kept out of the processes; libpq has to do without it.
    with EmbeddedPostgres(durable=False) as server:
        _answer_over_tls(server)
        settings = DatabaseSettings(server.host, server.port, "postgres", server.user, server.password, "require")
        database = Database(settings, "test")
        try:
            (row,) = database.query("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        finally:
            database.close()
    assert (row[0], str(row[1])[:4]) == (True, "TLSv")


def test_a_certificate_is_checked_against_the_name_although_the_address_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with EmbeddedPostgres(durable=False) as server:
        _answer_over_tls(server)
        plain = Database(DatabaseSettings(server.host, server.port, "postgres", server.user, server.password), "plain")
        with closing(plain):
            certificate = plain.query("SELECT pg_read_file('server.crt')")[0][0]
        (tmp_path / "root.crt").write_text(certificate)
        monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / "root.crt"))
        named = DatabaseSettings("localhost", server.port, "postgres", server.user, server.password, "verify-full")
        with closing(Database(named, "test")) as database:
            database.connect()
            given = database.raw.info.dsn_parameters
            assert (given["host"], given["hostaddr"]) == ("localhost", "127.0.0.1")
        assert "does not match" in sentence(replace(named, host="127.0.0.1"))


# Others may notify, and notice, as much as they like.


def flood(database: Target, channel: str, count: int = 4000) -> None:
    """So many notifications of 7,900 bytes each: 31 MB."""
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_notify(%s, repeat('x', 7900) || n)) FROM generate_series(1, %s) AS n", [channel, count]
        )
    connection.close()


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_a_flood_of_notifications_wakes_and_is_not_kept(
    ears: Listener, pos_database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "HEARTBEAT_S", 0.0)
    assert ears.step()
    flood(pos_database, CHANNEL_TICKET)
    flood(pos_database, CHANNEL_PRINTER, 1)
    ears.step()  # the flood comes with the answer to its question
    heard: set[str] = set()

    def both() -> bool:
        heard.update(ears.heard())
        return heard == {CHANNEL_TICKET, CHANNEL_PRINTER}

    eventually(both, what="both channels are heard")
    assert ears.proven
    assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024


@pytest.mark.usefixtures("traced")
def test_a_connection_keeps_neither_notifications_nor_notices_that_it_did_not_ask_for(
    access: Database, pos_database: Target
) -> None:
    """A pooler may hand out a session that listens for its last user; a trigger of the POS may have much to say."""
    access.query("LISTEN somebody")
    flood(pos_database, "somebody")
    access.query("DO $$ BEGIN FOR n IN 1..40 LOOP RAISE NOTICE '%', repeat('x', 200000); END LOOP; END $$")
    assert access.query("SELECT 1") == [(1,)]
    assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
