"""A TCP proxy to PostgreSQL that cuts or delays connections, or withholds the reply to a committed statement."""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import threading
import time
from dataclasses import dataclass
from enum import Enum
from types import TracebackType

READY = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, idle: the transaction is over. Source: PostgreSQL's frontend/backend protocol, message formats."""


class ReplyFault(Enum):
    """How a reply fails."""

    CUT = "cut"
    """The client's connection ends instead."""
    DROPPED = "dropped"
    """Nothing arrives any more on that connection, until `stop_failing_replies` ends it."""


@dataclass(slots=True)
class _Leg:
    """One direction of a connection: what comes in here goes out at `other`."""

    other: socket.socket
    to_server: bool
    last_due: float = 0.0
    reply_fault: ReplyFault | None = None
    """How the next reply will fail; None = it will not."""
    failed: bool = False


class Proxy:
    """Forwards connections to (host, port). One thread; all methods may be called from any other.

    Bytes keep their order on a connection, however the delay changes.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._legs: dict[socket.socket, _Leg] = {}
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._delay_s = 0.0
        self._closed = False
        self._ending_failed = False
        self._stopping = False
        self._to_fail: tuple[bytes, ReplyFault] | None = None
        self.failed_replies = 0
        """Number of replies that were withheld."""
        self._thread = threading.Thread(target=self._work, name="chaos-proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._wake()
        self._thread.join(10)
        self._wake_writer.close()

    def slow(self, delay_s: float) -> None:
        """From now on every byte takes so much longer in each direction."""
        self._delay_s = delay_s

    def cut(self) -> None:
        """End all connections, and each new one at once, until `mend`."""
        self._closed = True
        self._wake()

    def mend(self) -> None:
        """Ends `cut`."""
        self._closed = False

    def fail_next_reply(self, words: bytes, reply_fault: ReplyFault) -> None:
        """Let the next request that contains these words be carried out, and its reply not arrive."""
        with self._lock:
            self._to_fail = (words, reply_fault)

    def stop_failing_replies(self) -> None:
        """Withhold no further reply, and end the connections on which nothing arrives any more."""
        with self._lock:
            self._to_fail = None
        self._ending_failed = True
        self._wake()

    def _wake(self) -> None:
        self._wake_writer.send(b"!")

    def _work(self) -> None:
        try:
            while not self._stopping:
                due = self._late[0][0] - time.monotonic() if self._late else None
                sources = [self._listener, self._wake_reader, *self._legs]
                ready, _, _ = select.select(sources, [], [], None if due is None else max(0.0, due))
                if self._wake_reader in ready:
                    self._wake_reader.recv(64)
                self._end_connections()
                self._forward_due()
                for one in ready:
                    if one is self._listener:
                        self._accept()
                    elif one in self._legs:
                        self._read(one)
        finally:
            for one in [self._listener, self._wake_reader, *self._legs]:
                one.close()

    def _end_connections(self) -> None:
        ending, self._ending_failed = self._ending_failed, False
        for one, leg in list(self._legs.items()):
            if self._closed or (ending and leg.failed):
                self._end(one)

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        if self._closed:
            here.close()
            return
        try:
            there = socket.create_connection(self._target, timeout=2)
        except OSError:
            here.close()
            return
        for one in (here, there):
            one.settimeout(2)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._legs[here], self._legs[there] = _Leg(there, to_server=True), _Leg(here, to_server=False)

    def _read(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._end(one)
            return
        leg = self._legs[one]
        if leg.to_server:
            self._look_for_request(leg, data)
        elif leg.reply_fault is not None:
            self._withhold(one, leg, data)
            return
        leg.last_due = max(leg.last_due, time.monotonic() + self._delay_s)
        heapq.heappush(self._late, (leg.last_due, next(self._count), one, data))
        self._forward_due()

    def _look_for_request(self, leg: _Leg, data: bytes) -> None:
        with self._lock:
            if self._to_fail is not None and self._to_fail[0] in data:
                self._legs[leg.other].reply_fault = self._to_fail[1]
                self._to_fail = None

    def _withhold(self, one: socket.socket, leg: _Leg, data: bytes) -> None:
        if leg.failed or not data.endswith(READY):
            return
        leg.failed = True
        self.failed_replies += 1
        if leg.reply_fault is ReplyFault.CUT:
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        """Pass on the end of a stream at once: delayed bytes are lost, as with a cut cable."""
        leg = self._legs.pop(one, None)
        if leg is not None:
            self._legs.pop(leg.other, None)
            leg.other.close()
        one.close()

    def _forward_due(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, one, data = heapq.heappop(self._late)
            leg = self._legs.get(one)
            if leg is None:
                continue
            try:
                leg.other.sendall(data)
            except OSError:
                self._end(one)
