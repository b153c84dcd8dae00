"""Bytes on their way through the printer: buffers that know who sent what, and the real-time scanner between them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where bytes came from: their connection, their arrival, and how often the printer had been stopped by then."""

    connection: int
    t: float
    stops: int


NOWHERE = Origin(0, 0.0, 0)
"""The origin of what has no byte yet."""


class TaggedBuffer:
    """A byte queue that remembers the origin of every byte."""

    def __init__(self) -> None:
        self.data = bytearray()
        """What waits, oldest first; read it, never change it."""
        self._segments: deque[tuple[Origin, int]] = deque()

    def __len__(self) -> int:
        return len(self.data)

    def append(self, data: bytes, origin: Origin) -> None:
        """Add bytes of one origin at the end."""
        if data:
            self.data += data
            self._segments.append((origin, len(data)))

    def head(self) -> Origin:
        """The origin of the oldest byte. The buffer must not be empty."""
        return self._segments[0][0]

    def take(self, limit: int) -> list[tuple[Origin, bytes]]:
        """Remove up to `limit` of the oldest bytes; one pair for each origin."""
        taken = []
        while limit > 0 and self._segments:
            origin, length = self._segments.popleft()
            part = min(limit, length)
            taken.append((origin, bytes(self.data[:part])))
            del self.data[:part]
            limit -= part
            if part < length:
                self._segments.appendleft((origin, length - part))
        return taken

    def drop(self, count: int) -> None:
        """Forget the `count` oldest bytes."""
        self.take(count)

    def clear(self) -> int:
        """Forget everything; returns how many bytes that were."""
        lost = len(self.data)
        self.data.clear()
        self._segments.clear()
        return lost

    def discard(self, connection: int) -> int:
        """Forget the bytes of one connection; returns how many they were."""
        before = len(self.data)
        for origin, data in self.take(before):
            if origin.connection != connection:
                self.append(data, origin)
        return before - len(self.data)

    def holds(self, connection: int) -> bool:
        """Whether any byte of this connection waits here."""
        return any(origin.connection == connection for origin, _ in self._segments)


REAL_TIME = re.compile(
    rb"\x10(?:\x04[\x01-\x04]"
    rb"|\x05[\x01\x02]"
    rb"|\x14(?:\x01[\x00\x01][\x01-\x08]|\x02\x01\x08|\x08\x01\x03\x14\x01\x06\x02\x08))"
)
"""Commands that a printer executes on arrival, wherever they stand, also inside image data (Epson TM-T88III guide)."""

_LONGEST = 10


class RealTimeScanner:
    """Finds real-time commands in the stream of one connection, however it is cut into pieces."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Split `data` into pairs (bytes up to and including a command, that command); the last command may be b''.

        The pieces together are exactly `data`. Consume the iterator whole.
        """
        joined = self._tail + data
        offset = len(self._tail)
        done, seen = 0, 0
        for match in REAL_TIME.finditer(joined):
            yield data[done : match.end() - offset], match.group()
            done, seen = match.end() - offset, match.end()
        self._tail = joined[max(seen, len(joined) - _LONGEST + 1) :]
        yield data[done:], b""
