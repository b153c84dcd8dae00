"""One instance of KPS as a subprocess: `python -m kps.supervisor` with its settings in the environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from kps.demo import postgres_child
from kps.demo.processes import kill_family

PORT_TRIES: Final = 100
HTTP_LIMIT_S: Final = 2.0
LOOK_EVERY_S: Final = 0.05
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
"""Variables that the service inherits. No others: a DB_HOST in this shell may be a real shop's."""


class NoFreePort(Exception):
    """None of the ports that were tried is free."""


class Instance:
    """The service and its children. It ends when this process ends, even by a kill (Linux)."""

    def __init__(self, settings: Mapping[str, object], output: Path) -> None:
        self._environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            name: str(value) for name, value in settings.items()
        }
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.url = f"http://{settings['HEALTH_CHECK_HOST']}:{settings['HEALTH_CHECK_PORT']}"

    def start(self) -> None:
        """Start the service. To be called in the main thread: the service ends when the calling thread ends."""
        with self._output.open("ab") as out:
            self._process = subprocess.Popen(
                _ending_with_us([sys.executable, "-m", "kps.supervisor"]),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl+C in the terminal must not reach the service
            )

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs, or before it was started."""
        return self._process.poll() if self._process is not None else None

    def status(self) -> dict[str, Any] | None:
        """What /status says; None if there is no answer."""
        try:
            with self._opener.open(f"{self.url}/status", timeout=HTTP_LIMIT_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (OSError, ValueError):
            return None

    def last_words(self, lines: int = 5) -> str:
        """The last part of its standard output."""
        if not self._output.exists():
            return ""
        return "\n".join(self._output.read_text("utf-8", "replace").splitlines()[-lines:])

    def stop(self, limit_s: float, hurry: Callable[[], bool]) -> int | None:
        """TERM, and its exit code; killed with all its children after `limit_s` or when `hurry()`.

        None if it was never started. Harmless if it has ended.
        """
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        until = time.monotonic() + limit_s
        while process.poll() is None:
            if hurry() or time.monotonic() > until:
                kill_family(process)
                break
            time.sleep(LOOK_EVERY_S)
        return process.wait()


def _ending_with_us(command: list[str]) -> list[str]:
    if sys.platform != "linux":
        return command
    nobody_else = "-1"
    launcher = [sys.executable, "-I", "-S", str(postgres_child.__file__)]
    return [*launcher, str(os.getpid()), nobody_else, nobody_else, *command]


@contextmanager
def reserved_port(host: str, wanted: int, taken: frozenset[int] = frozenset()) -> Iterator[int]:
    """`wanted`, or the next free port. Inside the context no other demo takes it.

    The service needs a second from its start to its own listening. Raises NoFreePort.
    """
    with ExitStack() as stack:
        for port in range(wanted, wanted + PORT_TRIES):
            if port not in taken and _claim(stack, port) and _can_listen(host, port):
                break
        else:
            raise NoFreePort(f"no free port between {wanted} and {wanted + PORT_TRIES - 1} on {host}")
        yield port


def _claim(stack: ExitStack, port: int) -> bool:
    """Reserve the port among the demos of this host, by a name that the kernel frees when this process ends."""
    if sys.platform != "linux":  # abstract socket names exist on Linux only
        return True
    name = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        name.bind(f"\0kps-demo-port-{port}")
    except OSError:
        return False
    return True


def _can_listen(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: old connections in TIME_WAIT do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
