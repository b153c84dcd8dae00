"""A host of the virtual printer: plain sockets, literal bytes."""

from __future__ import annotations

import select
import socket

import pytest

from kps.demo.virtual_printer import VirtualPrinter

TIMEOUT = 5.0
CUT = b"\x1dV\x00"
ASB_ON = b"\x1da\x0f"
CLEAR = b"\x10\x14\x08\x01\x03\x14\x01\x06\x02\x08"


def dial(printer: VirtualPrinter) -> socket.socket:
    client = socket.socket()
    client.settimeout(TIMEOUT)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    try:
        client.connect((printer.host, printer.port))
    except OSError:
        client.close()
        raise
    return client


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise AssertionError(f"closed after {data.hex(' ')}")
        data += part
    return data


def ask(client: socket.socket, request: bytes, count: int = 1) -> bytes:
    client.sendall(request)
    return read(client, count)


def status(client: socket.socket) -> bytes:
    return b"".join(ask(client, bytes([0x10, 4, n])) for n in (1, 2, 3, 4))


def process_id(four: bytes) -> bytes:
    return b"\x1d(H\x06\x00\x30\x30" + four


def says_nothing(client: socket.socket) -> bool:
    """Whether no answer has arrived. Ask only after something that would have come later than the answer."""
    return not select.select([client], [], [], 0)[0]


def is_reset(client: socket.socket) -> bool:
    with pytest.raises(OSError) as caught:
        while client.recv(100):
            pass
        client.sendall(b"x")
    return isinstance(caught.value, ConnectionResetError)
