"""A pulled network cable: sockets receive nothing, while their TCP connections stay up.

A socket filter drops every segment before TCP sees it, so nothing is acknowledged: for the other side the host is dead.
This needs Linux and no network namespace. Since about Linux 6.17 a filter on TCP also needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import ctypes
import fcntl
import platform
import socket
import struct
import termios
import time
from collections.abc import Collection

NOT_ALLOWED = "this kernel lets only an administrator pull a cable (CAP_NET_ADMIN)"
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_KEEP_NO_BYTE = struct.pack("=HBBI", 0x06, 0, 0, 0)
_ACKNOWLEDGED_WITHIN = 2.0
_LOOK_EVERY = 0.001


def pull(sockets: Collection[socket.socket]) -> None:
    """Let these sockets receive nothing from now on. Raises OSError where the system does not allow it."""
    if platform.system() != "Linux":
        raise OSError("a cable can be pulled on Linux only")
    _wait_until_acknowledged(sockets)
    for each in sockets:
        try:
            _drop_input(each)
        except PermissionError as error:
            raise PermissionError(error.errno, NOT_ALLOWED) from error


def may_pull() -> bool:
    """Whether `pull` can work here."""
    if platform.system() != "Linux":
        return False
    with socket.socket() as one:
        try:
            _drop_input(one)
        except PermissionError:
            return False
    return True


def _drop_input(one: socket.socket) -> None:
    instruction = ctypes.create_string_buffer(_KEEP_NO_BYTE)
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    one.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def plug(sockets: Collection[socket.socket]) -> None:
    """Undo `pull`: what the other side sends again is received."""
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _wait_until_acknowledged(sockets: Collection[socket.socket]) -> None:
    """Wait until all sent data is acknowledged: the kernel would send it again, and a filter does not stop sending."""
    until = time.monotonic() + _ACKNOWLEDGED_WITHIN
    while any(_unacknowledged(each) for each in sockets) and time.monotonic() < until:
        time.sleep(_LOOK_EVERY)


def _unacknowledged(each: socket.socket) -> int:
    if each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return 0
    answer = bytearray(4)
    fcntl.ioctl(each.fileno(), termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])
