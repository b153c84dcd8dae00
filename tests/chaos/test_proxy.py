"""The proxy does what a plan asks of it: to a real connection to a real PostgreSQL."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn

from kps.demo.orders import PosWriter
from tests.chaos.proxy import Proxy, ReplyFault
from tests.conftest import Database, eventually


@pytest.fixture
def proxy(pos_database: Database) -> Iterator[Proxy]:
    with Proxy(pos_database.host, pos_database.port) as one:
        yield one


@pytest.fixture
def through(proxy: Proxy, pos_database: Database) -> Iterator[Connection]:
    """A connection through the proxy, in autocommit."""
    connection = psycopg2.connect(make_dsn(pos_database.dsn, port=proxy.port, sslmode="disable"))
    connection.autocommit = True
    yield connection
    connection.close()


def attempts(pos: PosWriter, ticket: int) -> int:
    row = pos.ticket_row(ticket)
    assert row is not None
    return int(row["print_attempts"])


RAISE = "UPDATE kitchen_kitchenticket SET print_attempts = print_attempts + 1 WHERE id = %s"


def test_a_cut_reply_belongs_to_a_statement_that_was_committed(
    proxy: Proxy, through: Connection, pos: PosWriter
) -> None:
    ticket = pos.ticket()
    proxy.fail_next_reply(b"SET print_attempts", ReplyFault.CUT)
    with through.cursor() as cursor:
        cursor.execute("SELECT 1")
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute(RAISE, [ticket])
    assert attempts(pos, ticket) == 1
    assert proxy.failed_replies == 1


def test_a_dropped_reply_never_comes_and_the_connection_ends_when_it_is_spared(
    proxy: Proxy, through: Connection, pos: PosWriter
) -> None:
    ticket = pos.ticket()
    proxy.fail_next_reply(b"SET print_attempts", ReplyFault.DROPPED)
    # Sent as bytes, because the driver would wait for what never comes.
    query = RAISE.replace("%s", str(ticket)).encode() + b"\0"
    with socket.socket(fileno=through.fileno()) as wire:
        wire.sendall(b"Q" + (len(query) + 4).to_bytes(4, "big") + query)
        eventually(lambda: attempts(pos, ticket) == 1, what="the statement is committed")
        eventually(lambda: proxy.failed_replies == 1, what="the proxy has its reply")
        wire.setblocking(False)
        with pytest.raises(BlockingIOError):
            wire.recv(1)
        proxy.stop_failing_replies()
        eventually(lambda: _ended(wire), what="the connection ends")
        wire.detach()


def _ended(wire: socket.socket) -> bool:
    try:
        return wire.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_cut_way_ends_every_connection_and_a_mended_one_lets_new_ones_through(
    proxy: Proxy, through: Connection, pos_database: Database
) -> None:
    proxy.cut()
    with pytest.raises(psycopg2.OperationalError), through.cursor() as cursor:
        cursor.execute("SELECT 1")
    dsn = make_dsn(pos_database.dsn, port=proxy.port, sslmode="disable")
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(dsn)
    proxy.mend()
    psycopg2.connect(dsn).close()


def test_bytes_keep_their_order_when_the_way_becomes_fast_again(proxy: Proxy, through: Connection) -> None:
    with through.cursor() as cursor:
        for turn in range(20):
            proxy.slow(0.02 if turn % 2 else 0.0)
            cursor.execute("SELECT repeat(%s, 200000)", [str(turn % 10)])
            row = cursor.fetchone()
            assert row is not None
            assert row[0] == str(turn % 10) * 200000


def test_a_wish_that_was_not_met_is_forgotten(proxy: Proxy, through: Connection, tmp_path: Path) -> None:
    proxy.fail_next_reply(b"never said", ReplyFault.CUT)
    proxy.stop_failing_replies()
    with through.cursor() as cursor:
        cursor.execute("SELECT 'never said'")
    assert proxy.failed_replies == 0
