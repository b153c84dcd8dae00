"""The virtual printer in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

COMMAND = [sys.executable, "-m", "kps.demo.virtual_printer", "--port", "0", "--name", "bar"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("bar: listening on 127.0.0.1:"), first
            host, port = first.split()[3].split(":")
            yield process, (host, int(port))
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_paper_is_shown_and_a_signal_ends_it_well(number: signal.Signals) -> None:
    with running("--profile", "epson-t20iii") as (process, address), socket.create_connection(address) as client:
        client.sendall(b"\x1ba\x01\x1d!\x11T5\n\x1d!\x00\x1ba\x002 x soup\n\x1dv0\x00\x01\x00\x08\x00" + b"\xff" * 8)
        client.sendall(b"\x1bd\x03\x1dV\x00")
        assert process.stdout is not None
        shown = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        process.send_signal(number)
        rest, _ = process.communicate(timeout=10)
    assert shown == [
        "bar: paper 1, connection 1, cut",
        "  |            T5  <2x2>",
        "  | 2 x soup",
        "  | [image 8 x 8]",
    ]
    assert rest == "bar: stopped after 1 papers\n"
    assert process.returncode == 0


def test_a_taken_port_is_one_sentence() -> None:
    with running() as (_, (host, port)):
        second = subprocess.run(
            [*COMMAND, "--host", host, "--port", str(port)], capture_output=True, text=True, timeout=20, check=False
        )
    assert second.returncode == 1
    assert second.stderr == f"bar: cannot listen on {host}:{port}: Address already in use\n"
