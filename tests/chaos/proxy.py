"""A TCP proxy to PostgreSQL that cuts the way, makes it slow, or withholds the reply to a committed statement."""

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


class Ruin(Enum):
    """What becomes of a reply."""

    CUT = "cut"
    """The client's connection ends instead."""
    DROPPED = "dropped"
    """Nothing comes any more on that connection, until it is spared."""


@dataclass(slots=True)
class _Leg:
    """One direction of a connection: what comes in here goes out at `other`."""

    other: socket.socket
    to_server: bool
    last_due: float = 0.0
    ruin: Ruin | None = None
    """The reply to come will not arrive."""
    ruined: bool = False


class Proxy:
    """Forwards connections to (host, port). One thread; all methods may be called from any other.

    Bytes keep their order on a connection, however the delay changes.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._door.setblocking(False)
        self.port = int(self._door.getsockname()[1])
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._legs: dict[socket.socket, _Leg] = {}
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._delay_s = 0.0
        self._closed = False
        self._sparing = False
        self._stopping = False
        self._wish: tuple[bytes, Ruin] | None = None
        self.ruined = 0
        """Replies that were withheld."""
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
        """From now on every byte takes so much longer, in each direction."""
        self._delay_s = delay_s

    def cut(self) -> None:
        """End all connections, and every new one at once, until `mend`."""
        self._closed = True
        self._wake()

    def mend(self) -> None:
        """Connections get through again."""
        self._closed = False

    def ruin_reply(self, words: bytes, ruin: Ruin) -> None:
        """The next request that contains these words is carried out, and its reply does not arrive."""
        with self._lock:
            self._wish = (words, ruin)

    def spare_replies(self) -> None:
        """Forget a wish that was not met, and end the connections on which nothing comes any more."""
        with self._lock:
            self._wish = None
        self._sparing = True
        self._wake()

    def _wake(self) -> None:
        self._wake_writer.send(b"!")

    def _work(self) -> None:
        try:
            while not self._stopping:
                due = self._late[0][0] - time.monotonic() if self._late else None
                sources = [self._door, self._wake_reader, *self._legs]
                ready, _, _ = select.select(sources, [], [], None if due is None else max(0.0, due))
                if self._wake_reader in ready:
                    self._wake_reader.recv(64)
                self._end_connections()
                self._forward_due()
                for one in ready:
                    if one is self._door:
                        self._accept()
                    elif one in self._legs:
                        self._read(one)
        finally:
            for one in [self._door, self._wake_reader, *self._legs]:
                one.close()

    def _end_connections(self) -> None:
        sparing, self._sparing = self._sparing, False
        for one, leg in list(self._legs.items()):
            if self._closed or (sparing and leg.ruined):
                self._end(one)

    def _accept(self) -> None:
        here, _ = self._door.accept()
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
            self._look_for_wish(leg, data)
        elif leg.ruin is not None:
            self._withhold(one, leg, data)
            return
        leg.last_due = max(leg.last_due, time.monotonic() + self._delay_s)
        heapq.heappush(self._late, (leg.last_due, next(self._count), one, data))
        self._forward_due()

    def _look_for_wish(self, leg: _Leg, data: bytes) -> None:
        with self._lock:
            if self._wish is not None and self._wish[0] in data:
                self._legs[leg.other].ruin = self._wish[1]
                self._wish = None

    def _withhold(self, one: socket.socket, leg: _Leg, data: bytes) -> None:
        if leg.ruined or not data.endswith(READY):
            return
        leg.ruined = True
        self.ruined += 1
        if leg.ruin is Ruin.CUT:
            self._end(one)

    def _end(self, one: socket.socket) -> None:
        """The end of a stream is passed on at once: what was on its way is lost, as with a cut cable."""
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
