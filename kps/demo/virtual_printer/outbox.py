"""Answers that wait to be sent: delayed, in pieces if wanted, and in order on each connection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

CHUNK_PAUSE = 0.002
"""Seconds between two pieces of an answer that is sent in pieces."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are sent on a connection at a time."""

    due: float
    connection: int
    data: bytes


class Outbox:
    """The waiting answers. `delay` in seconds, `chunk` in bytes (None = answers stay whole)."""

    def __init__(self, delay: float, chunk: int | None) -> None:
        self._delay = delay
        self._chunk = chunk
        self._waiting: deque[Piece] = deque()
        self._free_at: dict[int, float] = {}

    def put(self, connection: int, data: bytes, now: float) -> None:
        """An answer is ready."""
        size, pause = (self._chunk, CHUNK_PAUSE) if self._chunk else (len(data), 0.0)
        due = max(now + self._delay, self._free_at.get(connection, 0.0))
        for start in range(0, len(data), size or 1):
            self._waiting.append(Piece(due, connection, data[start : start + size]))
            due += pause
        self._free_at[connection] = due

    def take(self, now: float) -> list[Piece]:
        """What is due, in the order of each connection."""
        due = [piece for piece in self._waiting if piece.due <= now]
        if due:
            self._waiting = deque(piece for piece in self._waiting if piece.due > now)
        return due

    def next_wake(self) -> list[float]:
        """When `take` will have something."""
        return [piece.due for piece in self._waiting]

    def owed_to(self, connection: int) -> bool:
        """Whether anything waits for this connection."""
        return any(piece.connection == connection for piece in self._waiting)

    def forget(self, connection: int) -> None:
        """The connection has ended; its number never comes again."""
        self._free_at.pop(connection, None)

    def clear(self) -> None:
        """Power was lost."""
        self._waiting.clear()
        self._free_at.clear()
