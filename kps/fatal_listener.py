"""supervisord's event listener: when a program is given up (FATAL), end supervisord, so that the container ends too."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

GIVEN_UP = "PROCESS_STATE_FATAL"


def listen(events: BinaryIO, answers: BinaryIO, on_fatal: Callable[[dict[str, str]], None]) -> None:
    """Speak the event listener protocol until `events` ends; call `on_fatal` with the fields of each FATAL event.

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
        if header["eventname"] == GIVEN_UP:
            on_fatal(_fields(payload.partition(b"\n")[0]))
        _say(answers, b"RESULT 2\nOK")


def _fields(line: bytes) -> dict[str, str]:
    return dict(word.split(":", 1) for word in line.decode("utf-8", "replace").split())


def _say(answers: BinaryIO, words: bytes) -> None:
    answers.write(words)
    answers.flush()


def main() -> None:
    """Listen on stdin for the parent that started us. stdout belongs to the protocol: words for people go to stderr."""
    supervisord = os.getppid()

    def end_supervisord(fields: dict[str, str]) -> None:
        name = fields.get("processname", "a program")
        sys.stderr.write(f"fatal: {name} cannot be kept running, supervisord is told to end\n")
        sys.stderr.flush()
        if os.getppid() == supervisord:  # else it is gone already, and the number may be somebody else's
            os.kill(supervisord, signal.SIGTERM)

    listen(sys.stdin.buffer, sys.stdout.buffer, end_supervisord)


if __name__ == "__main__":
    main()
