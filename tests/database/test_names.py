"""The database's host by name: whatever the name server does, a connection is had or given up in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kps.core.settings import DatabaseSettings
from tests.conftest import Database as Target
from tests.conftest import require
from tests.database.house import settings_of
from tests.names import NameServer, lacking

CONNECT = """
import json, sys, threading, time
from kps.core.settings import DatabaseSettings
from kps.database.connection import Database, DatabaseTrouble

beats = []
database = Database(DatabaseSettings(**json.loads(sys.argv[1])), "test", lambda: beats.append(time.monotonic()))
for line in sys.stdin:
    beats[:] = [time.monotonic()]
    try:
        database.connect()
        said = database.query("SELECT inet_server_addr()::text")[0][0]
        said += " as " + str(database.raw.info.dsn_parameters["host"])
        database.close()
    except DatabaseTrouble as trouble:
        said = trouble.sentence
    beats.append(time.monotonic())
    longest = max(later - earlier for earlier, later in zip(beats, beats[1:]))
    print(json.dumps([said, beats[-1] - beats[0], longest, threading.active_count()]), flush=True)
"""
HUNG_S = 15.0
"""A process without a beat for so long is aborted."""


class Client:
    """A process that connects whenever it is told to, with that name server alone."""

    def __init__(self, names: NameServer, settings: DatabaseSettings) -> None:
        given = json.dumps({name: getattr(settings, name) for name in settings.__slots__})
        self._process = subprocess.Popen(
            [*names.prefix, sys.executable, "-c", CONNECT, given],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def connect(self) -> tuple[str, float, float, int]:
        """What came of it, how long it took, the longest time without a beat, and the threads that are left."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said, took_s, longest_s, threads = json.loads(self._process.stdout.readline())
        return said, took_s, longest_s, threads

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    require(not lacking(), lacking())
    with NameServer(tmp_path, db="127.0.0.1") as made:
        yield made


@pytest.fixture
def clients(names: NameServer, pos_database: Target) -> Iterator[Any]:
    made: list[Client] = []

    def client(host: str = "db") -> Client:
        made.append(Client(names, settings_of(pos_database, host=host)))
        return made[-1]

    yield client
    for one in made:
        one.close()


def test_a_database_is_reached_by_its_name_and_known_by_it(clients: Any) -> None:
    assert clients("db").connect()[0] == "127.0.0.1/32 as db"


def test_a_name_that_does_not_exist_is_told(clients: Any) -> None:
    assert clients("nowhere").connect()[0] == "database host nowhere cannot be resolved"


def test_a_silent_name_server_is_not_waited_for_and_the_heart_beats(names: NameServer, clients: Any) -> None:
    names.silent = True
    client = clients("db")
    said, _, longest_s, _ = client.connect()
    assert said == "database host db: no name server answers"
    assert longest_s < HUNG_S / 2
    for _ in range(3):
        *_, threads = client.connect()
    assert threads <= 2, "one lookup at a time, however often we try"
    names.silent = False


def test_a_host_that_had_an_address_is_reached_there_while_the_name_server_is_silent(
    names: NameServer, clients: Any
) -> None:
    client = clients("db")
    assert client.connect()[0] == "127.0.0.1/32 as db"
    names.silent = True
    for _ in range(3):
        said, _, longest_s, threads = client.connect()
        assert said == "127.0.0.1/32 as db"
        assert longest_s < HUNG_S / 2
        assert threads <= 2
    names.silent = False


def test_of_several_hosts_one_that_answers_is_found(names: NameServer, clients: Any) -> None:
    names.addresses["standby"] = "127.0.77.200"
    assert clients("nowhere,standby,db").connect()[0] == "127.0.0.1/32 as db"
