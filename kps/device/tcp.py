"""A printer on the network: a non-blocking TCP socket, and what the kernel knows about it.

Made for Linux. Without TCP_INFO (`vitals` is None) a dead host cannot be told from a printer that takes no data.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import struct
import sys
import time

from kps.core.address import TcpAddress
from kps.core.limits import is_shortage
from kps.core.status import PrinterStatus, sentence
from kps.core.tickets import Reason
from kps.device.address import Unresolvable, addresses
from kps.device.transport import SLICE_S, Pulse, Unreachable, Vitals, queued, wait_for

SEND_BUFFER = 8192
"""Bytes asked for SO_SNDBUF: small, so that a printer that does not read shows early."""

_IDLE_KEEPALIVE = (5, 2, 3)
"""Keepalive: seconds until the first probe, seconds between two, and how many without an answer end it."""

_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)

_Where = tuple[str, int] | tuple[str, int, int, int]
"""Host and port; for an IPv6 address with a zone also flow and the number of its network interface."""


class TcpTransport:
    """A connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self, most: int) -> bytes | None:
        """See Transport."""
        try:
            return self._socket.recv(most)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return None
            raise

    def write(self, data: bytes | memoryview) -> int:
        """See Transport."""
        try:
            return self._socket.send(data, _NO_SIGNAL)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return 0
            raise

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """See Transport."""
        wait_for(self._socket.fileno(), limit_s, writable=writable, also=also)

    def unsent(self) -> int:
        """Bytes that our kernel took and the peer's has not acknowledged."""
        return queued(self._socket.fileno())

    def vitals(self) -> Vitals | None:
        """What TCP_INFO says."""
        if sys.platform != "linux":
            return None
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        except OSError:
            return None
        if len(info) < 60:
            return None
        # struct tcp_info, linux/tcp.h: 8 bytes (the third is retransmits, the fourth probes), then 32-bit words;
        # unacked is the fifth of them, last_ack_recv (ms) the thirteenth.
        (unacked,) = struct.unpack_from("=I", info, 24)
        (last_ack_ms,) = struct.unpack_from("=I", info, 56)
        return Vitals(retransmits=info[2], unacked=unacked, probes=info[3], last_ack_s=last_ack_ms / 1000)

    def expect_life(self, limit_s: float | None) -> None:
        """The kernel probes each second: a host that lives acknowledges that, whatever its printer does."""
        if limit_s is None:
            _set_keepalive(self._socket, *_IDLE_KEEPALIVE)
        else:
            _set_keepalive(self._socket, 1, 1, math.ceil(limit_s))

    def status(self) -> PrinterStatus:
        """Unknown: TCP has no channel for it."""
        return PrinterStatus()

    def finish(self) -> None:
        """Send FIN. The printer answers with its own."""
        self._socket.shutdown(socket.SHUT_WR)

    def finished(self) -> bool:
        """Never: the printer's FIN is waited for. To close before it may lose what is on its way."""
        return False

    def close(self) -> None:
        """Close at once; the kernel still delivers what it took."""
        self._socket.close()

    def abort(self) -> None:
        """Send RST; the kernel throws away what it has not delivered."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def connect(address: TcpAddress, *, limit_s: float, pulse: Pulse) -> TcpTransport:
    """Connect to the first of its addresses that accepts. Raises Unreachable.

    A printer that is busy with somebody else may accept a connection, and neither read nor answer.
    """
    until = time.monotonic() + limit_s
    try:
        candidates = addresses(address.host, address.port, limit_s=limit_s, pulse=pulse)
    except Unresolvable as error:
        raise Unreachable(Reason.UNRESOLVABLE, sentence(Reason.UNRESOLVABLE)) from error
    failure = Unreachable(Reason.TIMEOUT, sentence(Reason.TIMEOUT))
    for family, where in candidates:
        try:
            return _open(family, where, limit_s=until - time.monotonic(), pulse=pulse)
        except Unreachable as error:
            failure = error
    raise failure


def _open(family: socket.AddressFamily, where: tuple[str, int], *, limit_s: float, pulse: Pulse) -> TcpTransport:
    try:
        at = _with_zone(where)
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if is_shortage(error):
            raise Unreachable(Reason.HOST_FULL, sentence(Reason.HOST_FULL)) from error
        raise Unreachable(Reason.TIMEOUT, str(error.strerror).lower()) from error
    with contextlib.ExitStack() as undo:
        undo.callback(sock.close)
        _set_options(sock)
        _connect(sock, at, limit_s, pulse)
        undo.pop_all()
    return TcpTransport(sock)


def _with_zone(where: tuple[str, int]) -> _Where:
    """`fe80::1%eth0` with the number of eth0: Python drops the zone of an address without one.

    Raises Unreachable where there is none, and OSError where the host has no descriptor to look for it.
    """
    host, _, zone = where[0].partition("%")
    if not zone:
        return where
    for number, name in socket.if_nameindex():
        if zone in (name, str(number)):
            return host, where[1], 0, number
    raise Unreachable(Reason.UNRESOLVABLE, f"this host has no network interface {zone}")


def _set_options(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # counts only before the connect
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Keepalive notices a host that dies while the connection is idle. It does not work while data is on its way, and a
    # short TCP_USER_TIMEOUT would end connections to printers that are only out of paper: kps.device.attempt has limits
    # of its own for that.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set_keepalive(sock, *_IDLE_KEEPALIVE)


def _set_keepalive(sock: socket.socket, idle_s: int, every_s: int, times: int) -> None:
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, times)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)


def _connect(sock: socket.socket, where: _Where, limit_s: float, pulse: Pulse) -> None:
    code = sock.connect_ex(where)
    until = time.monotonic() + limit_s
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLOUT)
    while code == errno.EINPROGRESS:
        left = until - time.monotonic()
        if left <= 0:
            raise Unreachable(Reason.TIMEOUT, "no connection in time")
        pulse()
        if poll.poll(min(left, SLICE_S) * 1000):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code in (errno.ECONNREFUSED, errno.ECONNRESET):
        raise Unreachable(Reason.REFUSED, "connection refused")
    if code != 0:
        raise Unreachable(Reason.TIMEOUT, os.strerror(code).lower())
