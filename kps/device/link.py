"""One TCP connection to a printer: non-blocking reads and writes, and what the kernel knows about it.

Made for Linux. Where TCP_INFO is missing, a dead host is taken for a closed window (`vitals` is None).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import socket
import struct
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.limits import is_shortage
from kps.core.status import AsbUnit, PrinterStatus, ProcessIdEcho, Reply, ReplyReader, Talk, after_asb, sentence
from kps.core.tickets import Reason

SLICE_S = 0.25
"""No wait is longer than this without a pulse."""

SEND_BUFFER = 8192
"""Bytes asked for SO_SNDBUF: small, so that a printer that does not read shows early."""

CLOSE_LIMIT_S = 1.0
"""How long an orderly close listens for the printer's own end."""

TURN_BYTES = 16 * 1024
"""Most that one `read` takes: whoever listens gets back to its heartbeat and its deadlines in between."""

ECHOES_KEPT = 1024
"""Process IDs that wait to be taken note of; of more than that the oldest are forgotten, as if they had been lost."""

_PIECE = 4096

_BLOCK_LIMIT_S = 1.0
"""A reply that is unfinished for so long is noise."""

_IDLE_KEEPALIVE = (5, 2, 3)
"""Seconds until the first question, between two, and how many without an answer end the connection."""

_SURELY_ASKED_S = 1.5
"""Who is asked each second has been asked once, and had half a second to answer."""

_WOULD_BLOCK = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


_Where = tuple[str, int] | tuple[str, int, int, int]
"""Host and port; with a zone also flow and the interface's number."""


class LinkLost(Exception):
    """The connection ended under us. `orderly`: the printer closed it; else it was reset or broke on the way."""

    reason = Reason.CONNECTION_LOST

    def __init__(self, what: str, *, orderly: bool = False) -> None:
        super().__init__(what)
        self.orderly = orderly


class Talkative(LinkLost):
    """More came than a printer has to say: nothing of it is believed, and the connection is of no use any more."""

    reason = Reason.TALKATIVE

    def __init__(self) -> None:
        super().__init__(sentence(self.reason))


class Unreachable(Exception):
    """No connection came about; not a byte has left us."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


@dataclass(frozen=True, slots=True)
class Vitals:
    """What Linux tells in TCP_INFO about data on its way."""

    retransmits: int
    """Times that the oldest unacknowledged segment was sent again; 0 after an acknowledgement of new data."""
    unacked: int
    """Segments sent and not acknowledged. A closed window holds data back, unsent: then it is 0."""
    probes: int
    """Questions of the kernel to an idle peer, or to one with a closed window, without an answer so far."""
    last_ack_s: float
    """Seconds since the peer was heard last."""

    def dead(self, silent_s: float) -> bool:
        """Whether the peer's host has stopped answering for so long although something was sent to it.

        A living peer with a closed window acknowledges what it drops, and answers each probe, so it is heard; its last
        sign is old only while nothing is sent to it.
        """
        asked = (self.retransmits > 0 and self.unacked > 0) or self.probes > 1
        return asked and self.last_ack_s >= silent_s

    def gone(self, silent_s: float) -> bool:
        """The same of a peer that is asked each second (`expect_life`) and has nothing to acknowledge."""
        return self.probes > 0 and self.last_ack_s >= max(silent_s, _SURELY_ASKED_S)


class Link:
    """A connected socket. Reading and writing never wait; `wait` does, for one slice at most."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = ReplyReader()
        self._heard_at = time.monotonic()
        self._end: LinkLost | None = None
        self._talk = Talk(self._heard_at)
        self.heard = 0
        """Bytes that the printer has said on this connection."""
        self.more = False
        """Whether there may be more than the last `read` took."""
        self.pushed = PrinterStatus()
        """What the printer told on this connection without being asked (ASB)."""
        self.echoes: deque[bytes] = deque(maxlen=ECHOES_KEPT)
        """Process IDs that the printer has said on this connection; whoever takes note of them empties it."""

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def read(self) -> list[Reply]:
        """The replies that have arrived, in TURN_BYTES at most.

        Raises LinkLost at the end of the stream, after what came before it, and Talkative.
        """
        replies: list[Reply] = []
        for _ in range(TURN_BYTES // _PIECE):
            data = self._receive() if self._end is None else b""
            self.heard += len(data)
            self.more = bool(data)
            if self._talk.too_much(len(data), time.monotonic()):
                self._end = Talkative()
                raise self._end
            if not data:
                break
            for reply in self._reader.feed(data):
                if isinstance(reply, AsbUnit):
                    self.pushed = after_asb(self.pushed, reply)
                elif isinstance(reply, ProcessIdEcho):
                    self.echoes.append(reply.process_id)
                replies.append(reply)
        if self._end is not None and not replies:
            raise self._end
        return replies

    def _receive(self) -> bytes:
        """What lies ready; nothing if that is nothing, or if the stream has ended, which is then noted."""
        try:
            data = self._socket.recv(_PIECE)
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                self._drop_torn_block()
            else:
                # The kernel tells it once only, perhaps behind answers that still count.
                self._end = LinkLost(f"read: {error.strerror}")
            return b""
        if data:
            self._heard_at = time.monotonic()
        else:
            self._end = LinkLost("closed by the printer", orderly=True)
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Hand over as much as the kernel takes now; 0 = nothing. Raises LinkLost."""
        try:
            return self._socket.send(data, getattr(socket, "MSG_NOSIGNAL", 0))
        except OSError as error:
            if error.errno in _WOULD_BLOCK:
                return 0
            raise LinkLost(f"write: {error.strerror}") from error

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """Until something can be read (or, if asked, written), for `limit_s` or one slice, whichever is shorter.

        `also` is a further descriptor that ends the wait when it has something to read.
        """
        poll = select.poll()
        if also is not None:
            poll.register(also, select.POLLIN)
        poll.register(self._socket.fileno(), select.POLLIN | (select.POLLOUT if writable else 0))
        poll.poll(max(0.0, min(limit_s, SLICE_S)) * 1000)

    def queued(self) -> int:
        """Bytes that our kernel took and the peer's has not acknowledged."""
        answer = bytearray(4)
        fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, answer)
        return int(struct.unpack("i", answer)[0])

    def vitals(self) -> Vitals | None:
        """What the kernel knows about the peer; None where it does not tell."""
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
        """From now on the connection breaks when the peer's host is silent for `limit_s` and 1 s; None = as when idle.

        The kernel asks it each second, without a byte of data: a printer that lives acknowledges, whatever state it is
        in. Only while nothing else is on its way.
        """
        if limit_s is None:
            _set_keepalive(self._socket, *_IDLE_KEEPALIVE)
        else:
            _set_keepalive(self._socket, 1, 1, math.ceil(limit_s))

    def close(self, pulse: Callable[[], None]) -> None:
        """Orderly: say that we are done, listen to the printer's end for 1 s at most, so that nothing is reset."""
        until = time.monotonic() + CLOSE_LIMIT_S
        with contextlib.closing(self._socket):
            try:
                self.read()
                self._socket.shutdown(socket.SHUT_WR)
                while time.monotonic() < until:
                    pulse()
                    self.wait(until - time.monotonic())
                    self.read()
            except (LinkLost, OSError):
                return

    def drop(self) -> None:
        """Close without waiting. The kernel still delivers what it took."""
        self._socket.close()

    def abort(self) -> None:
        """Close and take back what the kernel has not delivered (RST)."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _drop_torn_block(self) -> None:
        if self._reader.pending and time.monotonic() - self._heard_at >= _BLOCK_LIMIT_S:
            self._reader.flush()


def open_link(
    family: socket.AddressFamily, where: tuple[str, int], *, limit_s: float, pulse: Callable[[], None]
) -> Link:
    """Connect. Raises Unreachable; an accepted connection is no promise that the printer listens."""
    at = _with_zone(where)
    try:
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
    return Link(sock)


def _with_zone(where: tuple[str, int]) -> _Where:
    """`fe80::1%eth0` with the number of eth0: Python drops the zone of an address without one. Raises Unreachable."""
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
    # Keepalive notices a host that died while idle. With data on its way it rests, and a short TCP_USER_TIMEOUT would
    # kill living printers that are out of paper: the deadlines in flight are our own.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    _set_keepalive(sock, *_IDLE_KEEPALIVE)


def _set_keepalive(sock: socket.socket, idle_s: int, every_s: int, times: int) -> None:
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, times)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, every_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)


def _connect(sock: socket.socket, where: _Where, limit_s: float, pulse: Callable[[], None]) -> None:
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
