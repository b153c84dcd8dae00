"""supervisord's event listener: it ends supervisord when a program is given up, and wakes it when one has ended.

supervisord looks at its programs once a second, and starts one that has ended only with the look after the one that has
found it gone: that is up to two seconds in which nothing prints. Whatever comes at one of its descriptors makes it look
at once.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO

GIVEN_UP = "PROCESS_STATE_FATAL"
RUNNING = "PROCESS_STATE_RUNNING"
"""A program has lived for startsecs; the event says its pid."""
SERVER_URL = "SUPERVISOR_SERVER_URL"
"""Variable in which supervisord tells its children where it can be reached."""
WAKE_LIMIT_S = 1.0
"""So soon supervisord looks by itself."""

Fields = Mapping[str, str]


def listen(events: BinaryIO, answers: BinaryIO, act: Mapping[str, Callable[[Fields], None]]) -> None:
    """Speak the event listener protocol until `events` ends; `act` by the name of the event on the fields of each.

    Protocol: we say READY, get one header line of `key:value` words and `len` bytes of the same kind, and acknowledge
    (supervisor's manual, "Event Listener Notification Protocol").
    """
    while True:
        _say(answers, b"READY\n")
        header_line = events.readline()
        if not header_line:
            return
        header = _fields(header_line)
        payload = events.read(int(header["len"]))
        if (action := act.get(header["eventname"])) is not None:
            action(_fields(payload.partition(b"\n")[0]))
        _say(answers, b"RESULT 2\nOK")


def _fields(line: bytes) -> dict[str, str]:
    return dict(word.split(":", 1) for word in line.decode("utf-8", "replace").split())


def _say(answers: BinaryIO, words: bytes) -> None:
    answers.write(words)
    answers.flush()


def _complain(words: str) -> None:
    sys.stderr.write(f"fatal: {words}\n")
    sys.stderr.flush()


def _end_supervisord(supervisord: int, fields: Fields) -> None:
    name = fields.get("processname", "a program")
    _complain(f"{name} cannot be kept running, supervisord is told to end")
    if os.getppid() == supervisord:  # else it is gone already, and the number may be somebody else's
        os.kill(supervisord, signal.SIGTERM)


def _watch(server: str, fields: Fields) -> None:
    """Wait beside the protocol for the end of a program, then wake supervisord."""
    pid = int(fields.get("pid", 0))
    if pid and pid != os.getpid():
        try:
            threading.Thread(target=_wake_when_ended, args=(pid, server), daemon=True).start()
        except RuntimeError as error:  # the host allows no further thread now
            _not_watched(pid, error)


def _not_watched(pid: int, why: Exception) -> None:
    _complain(f"the end of process {pid} is not watched, supervisord notices it within two seconds: {why}")


def _wake_when_ended(pid: int, server: str) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        pass  # it has ended already, or is another one's by now: then supervisord looks once for nothing
    except OSError as error:
        _not_watched(pid, error)
        return
    else:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        os.close(handle)
    try:
        _wake(server)
    except OSError as error:
        _complain(f"supervisord cannot be woken, it looks within two seconds: {error}")


def _wake(server: str) -> None:
    """A connection and its end: with the first supervisord finds the program gone, with the second it starts it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAKE_LIMIT_S)
        connection.connect(server)


def main() -> None:
    """Listen on stdin for the parent that started us. stdout belongs to the protocol: words for people go to stderr."""
    act = {GIVEN_UP: functools.partial(_end_supervisord, os.getppid())}
    scheme, _, path = os.environ.get(SERVER_URL, "").partition("://")
    if scheme == "unix":
        act[RUNNING] = functools.partial(_watch, path)
    listen(sys.stdin.buffer, sys.stdout.buffer, act)


if __name__ == "__main__":
    main()
