"""One PostgreSQL server for the whole run, a fresh database for each test that wants one, nothing left over.

A server given in KPS_TEST_DSN (a superuser's libpq string) is used as it is; only databases that we made are dropped.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, parse_dsn

from kps.demo.orders import PosWriter
from kps.demo.pos_tables import SchemaAge, create_sql
from kps.demo.postgres import EmbeddedPostgres
from kps.demo.virtual_printer import cable

T = TypeVar("T")

DSN_VARIABLE: Final = "KPS_TEST_DSN"
RUN_VARIABLE: Final = "KPS_TEST_RUN"
"""Inherited by every process that a test starts: so we find it, even when its parent is long dead."""
POLL_SECONDS: Final = 0.01
LEFT_OVER_SECONDS: Final = 5.0
"""How long what a test has stopped may take to end."""

_server_key = pytest.StashKey[EmbeddedPostgres]()


# Waiting.


def eventually(condition: Callable[[], T], timeout: float = 10.0, what: str = "a condition") -> T:
    """What `condition` returns once that is true. Asks every 10 ms; fails, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(POLL_SECONDS)
    return value


@pytest.fixture(name="eventually", scope="session")
def eventually_fixture() -> Callable[..., object]:
    """`eventually` as a fixture."""
    return eventually


# Tools that a machine may lack.


def require(present: object, what: str) -> None:
    """Skip the test where `what` is missing; on CI, where it must be there, fail."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this test must not be skipped on CI, but it lacks {what}")
    pytest.skip(f"lacks {what}")


RAN_VARIABLE: Final = "KPS_TEST_RAN"
"""A file of test names, one a line: a run leaves out the tests that are named there, and adds those that it has run.

So the gate runs each test once, though the first of its runs cannot run them all."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what an earlier run has run."""
    if RAN_VARIABLE in os.environ:
        ran = set(Path(os.environ[RAN_VARIABLE]).read_text("utf-8").splitlines())
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in ran])
        items[:] = [item for item in items if item.nodeid not in ran]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Note what has run."""
    if RAN_VARIABLE in os.environ:
        file = Path(os.environ[RAN_VARIABLE])
        ran = {report.nodeid for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())}
        file.write_text(
            "".join(f"{name}\n" for name in sorted(ran.union(file.read_text("utf-8").splitlines()))), "utf-8"
        )


@functools.cache
def can_make_network_namespaces() -> bool:
    """Whether a test may have a network of its own."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The markers `root` and `namespaces` ask for what they name."""
    if item.get_closest_marker("root"):
        require(os.geteuid() == 0, "uid 0 (sudo make test)")
    if item.get_closest_marker("namespaces"):
        require(
            can_make_network_namespaces(),
            "the right to make network namespaces (sudo make test; Debian: apt install util-linux)",
        )
    if item.get_closest_marker("cables"):
        require(cable.may_pull(), "the right to pull a cable (CAP_NET_ADMIN: sudo make test)")


# The server.


def pytest_configure(config: pytest.Config) -> None:
    """With xdist the server must be there before the workers, which inherit its address."""
    is_worker = hasattr(config, "workerinput")
    os.environ[RUN_VARIABLE] = uuid.uuid4().hex
    if not is_worker and config.getoption("numprocesses", None) and not config.option.collectonly:
        _start_server(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if it is ours."""
    server = config.stash.get(_server_key, None)
    if server is not None:
        server.stop()
        del os.environ[DSN_VARIABLE]


def _start_server(config: pytest.Config) -> None:
    if DSN_VARIABLE not in os.environ:
        server = EmbeddedPostgres(durable=False)
        server.start()
        config.stash[_server_key] = server
        os.environ[DSN_VARIABLE] = server.dsn("postgres")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """DSN of the run's server, as its superuser."""
    _start_server(request.config)
    return os.environ[DSN_VARIABLE]


# Databases.


@dataclass(slots=True)
class Database:
    """A database of one test."""

    name: str
    host: str
    port: int
    user: str
    password: str
    _open: list[Connection] = field(default_factory=list)

    @property
    def dsn(self) -> str:
        """A libpq keyword string."""
        return make_dsn(host=self.host, port=self.port, user=self.user, password=self.password, dbname=self.name)

    def connect(self, *, autocommit: bool = True) -> Connection:
        """A new connection, closed at the end of the test."""
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = autocommit
        self._open.append(connection)
        return connection

    def close(self) -> None:
        """Close what `connect` opened."""
        for connection in self._open:
            connection.close()
        self._open.clear()


class Databases:
    """Makes databases on the run's server: one template per age of the schema, and fresh copies of it."""

    def __init__(self, server_dsn: str) -> None:
        self._server = parse_dsn(server_dsn)
        self._prefix = f"kps_test_{uuid.uuid4().hex[:12]}"
        self._templates: dict[SchemaAge, str] = {}
        self._copies = 0

    @contextmanager
    def copy(self, age: SchemaAge) -> Iterator[Database]:
        """A fresh database, dropped in the end, whoever is still connected."""
        self._copies += 1
        name = f"{self._prefix}_{self._copies}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, self._template(age))
        database = self._named(name)
        try:
            yield database
        finally:
            database.close()
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def drop_templates(self) -> None:
        """Drop what the copies were made of."""
        for name in self._templates.values():
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _template(self, age: SchemaAge) -> str:
        if age not in self._templates:
            name = f"{self._prefix}_{age.value}"
            self._run("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'", name)
            self._templates[age] = name
            # Closed at once: nobody can copy a database to which somebody is connected.
            with closing(psycopg2.connect(self._named(name).dsn)) as made, made, made.cursor() as cursor:
                cursor.execute(create_sql(age))
        return self._templates[age]

    def _named(self, name: str) -> Database:
        return Database(
            name=name,
            host=self._server.get("host", "127.0.0.1"),
            port=int(self._server.get("port", 5432)),
            user=self._server.get("user", "postgres"),
            password=self._server.get("password", ""),
        )

    def _run(self, statement: str, *names: str) -> None:
        with closing(psycopg2.connect(**self._server)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def databases(postgres_server: str) -> Iterator[Databases]:
    """The maker of databases, one per worker."""
    made = Databases(postgres_server)
    yield made
    made.drop_templates()


@pytest.fixture
def pos_database(databases: Databases) -> Iterator[Database]:
    """A fresh database with the tables of the newer POS."""
    with databases.copy(SchemaAge.NEWER) as database:
        yield database


@pytest.fixture
def older_pos_database(databases: Databases) -> Iterator[Database]:
    """A fresh database with the tables of the older POS."""
    with databases.copy(SchemaAge.OLDER) as database:
        yield database


@pytest.fixture
def oldest_pos_database(databases: Databases) -> Iterator[Database]:
    """A fresh database with the tables of the oldest POS."""
    with databases.copy(SchemaAge.OLDEST) as database:
        yield database


@pytest.fixture
def pos(pos_database: Database) -> Iterator[PosWriter]:
    """The newer POS with one company, brand and store, people and a menu, but no printer rows."""
    with PosWriter(pos_database.dsn) as writer:
        writer.seed_reference_data()
        yield writer


# Nothing left over.


@pytest.fixture(scope="session", autouse=True)
def nothing_left_over(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the run when a process that a test has started is still alive after the last test."""
    yield
    server = request.config.stash.get(_server_key, None)
    spared = frozenset() if server is None else frozenset({server.pid})
    deadline = time.monotonic() + LEFT_OVER_SECONDS
    while left := _left_over(spared):
        if time.monotonic() > deadline:
            pytest.fail("processes left over after the last test:\n  " + "\n  ".join(left))
        time.sleep(POLL_SECONDS)


def _left_over(spared: frozenset[int]) -> list[str]:
    """Living descendants of this process, and orphans that carry this run's mark, without the families of `spared`."""
    parents = _parents()
    mark = f"{RUN_VARIABLE}={os.environ[RUN_VARIABLE]}".encode()
    return [
        f"{pid}: {_command(pid)}"
        for pid in parents
        if pid != os.getpid()
        and (os.getpid() in (line := _ancestors(pid, parents)) or _carries(pid, mark))
        and spared.isdisjoint({pid, *line})
        and not _lives_as_long_as_we(pid)
    ]


def _parents() -> dict[int, int]:
    """Parent of every process that is not a zombie; empty where there is no /proc."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(path.parent.name)] = int(parent)
    return found


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    line = []
    while (pid := parents.get(pid, 0)) and pid not in line:
        line.append(pid)
    return line


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _carries(pid: int, mark: bytes) -> bool:
    return mark in _read(pid, "environ").split(b"\0")


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").strip()


def _lives_as_long_as_we(pid: int) -> bool:
    """The standard library's tracker of shared memory ends with the interpreter."""
    return "multiprocessing.resource_tracker" in _command(pid)
