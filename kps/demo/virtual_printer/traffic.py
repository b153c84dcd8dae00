"""The bytes that hosts have sent, kept so that a test can look up what arrived of a ticket."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from kps.demo.virtual_printer.decoder import Decoder, Kind


class Traffic:
    """The bytes of every connection as they came; of more than `limit` bytes the oldest are forgotten."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._pieces: deque[tuple[int, bytes]] = deque()

    def note(self, connection: int, data: bytes) -> None:
        """These bytes came in."""
        self._pieces.append((connection, data))
        self._size += len(data)
        while self._size > self._limit and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft()[1])

    def holding(self, code: bytes) -> list[bytes]:
        """Every ticket that contains `code`, from `ESC @` to the cut, oldest connection first."""
        return [ticket for stream in self._streams() if code in stream for ticket in _tickets(stream) if code in ticket]

    def _streams(self) -> list[bytearray]:
        streams: dict[int, bytearray] = {}
        for connection, data in self._pieces:
            streams.setdefault(connection, bytearray()).extend(data)
        return list(streams.values())


def _tickets(stream: bytearray) -> Iterator[bytes]:
    """The stream in parts, each from `ESC @`, if there is one, to the cut; the last may lack its cut.

    Bytes between a cut and the next `ESC @` are left out.
    """
    ticket = bytearray()
    command = bytearray()
    decoder = Decoder()
    rest = bytearray(stream)
    while rest and (step := decoder.next(rest)).consumed:
        command += rest[: step.consumed]
        del rest[: step.consumed]
        if step.command is None:
            continue
        if step.command.kind is Kind.INIT:
            ticket.clear()
        ticket += command
        command.clear()
        if step.command.kind is Kind.CUT:
            yield bytes(ticket)
            ticket.clear()
    yield bytes(ticket + command + rest)
