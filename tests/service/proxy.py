"""A TCP proxy between the service and PostgreSQL that makes the way, or single statements, take long, or cuts it."""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import threading
import time
from types import TracebackType


class Proxy:
    """Forwards connections to (host, port); every byte takes `delay_s` longer in each direction. One thread."""

    def __init__(self, host: str, port: int, delay_s: float = 0.0, slow: dict[bytes, float] | None = None) -> None:
        """`slow`: words of a request -> how much later its reply comes, as if it took the server so long."""
        self._target = (host, port)
        self.delay_s = delay_s
        self._slow = slow or {}
        self._clients: set[socket.socket] = set()
        self._busy: dict[socket.socket, float] = {}
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.setblocking(False)
        self.port = int(self._door.getsockname()[1])
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._late: list[tuple[float, int, socket.socket, bytes]] = []
        self._count = itertools.count()
        self._thread = threading.Thread(target=self._work, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wake_writer.close()
        self._thread.join(10)

    def _work(self) -> None:
        try:
            while True:
                due = self._late[0][0] - time.monotonic() if self._late else None
                ready, _, _ = select.select(
                    [self._door, self._wake_reader, *self._pairs], [], [], None if due is None else max(0.0, due)
                )
                if self._wake_reader in ready:
                    return
                self._forward_due()
                for one in ready:
                    if one is self._door:
                        self._accept()
                    elif one in self._pairs:
                        self._read(one)
        finally:
            for one in [self._door, self._wake_reader, *self._pairs]:
                one.close()

    def _accept(self) -> socket.socket:
        """Returns the server's end."""
        here, _ = self._door.accept()
        there = socket.create_connection(self._target, timeout=5)
        self._pairs[here], self._pairs[there] = there, here
        self._clients.add(here)
        return there

    def _read(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
        except OSError:
            data = b""
        if data:
            if one in self._clients:
                took_s = max((seconds for words, seconds in self._slow.items() if words in data), default=0.0)
                self._busy[self._pairs[one]] = time.monotonic() + took_s
            due = max(time.monotonic() + self.delay_s, self._busy.get(one, 0.0))
            heapq.heappush(self._late, (due, next(self._count), one, self._passing(one, data)))
        else:
            self._half_closed(one)

    def _passing(self, _one: socket.socket, data: bytes) -> bytes:
        """What goes on of the bytes that came from this end."""
        return data

    def _half_closed(self, one: socket.socket) -> None:
        """The end of a stream is passed on at once: what was on its way is lost, as with a cut cable."""
        other = self._pairs.pop(one, None)
        if other is not None:
            self._pairs.pop(other, None)
            other.close()
            for end in (one, other):
                self._clients.discard(end)
                self._busy.pop(end, None)
        one.close()

    def _forward_due(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, one, data = heapq.heappop(self._late)
            other = self._pairs.get(one)
            if other is not None:
                try:
                    other.sendall(data)
                except OSError:
                    self._half_closed(one)


class Pooler(Proxy):
    """What a pooler in transaction mode does to whoever listens: LISTEN is taken, and no notification comes."""

    def __init__(self, host: str, port: int, *, deaf: bool) -> None:
        super().__init__(host, port)
        self.deaf = deaf
        self._unframed: dict[socket.socket, bytes] = {}

    def _accept(self) -> socket.socket:
        there = super()._accept()
        self._unframed[there] = b""
        return there

    def _passing(self, one: socket.socket, data: bytes) -> bytes:
        if one not in self._unframed:
            return data
        data, passed = self._unframed[one] + data, b""
        # A message of the server: its kind in one byte, its length without that byte in four.
        while len(data) >= 5 and len(data) > (length := int.from_bytes(data[1:5])):
            message, data = data[: length + 1], data[length + 1 :]
            if not (self.deaf and message[:1] == b"A"):
                passed += message
        self._unframed[one] = data
        return passed
