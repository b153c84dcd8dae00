"""The way in of a virtual printer: from the network side's buffers through the receive buffer to whole commands.

Real-time commands are seen where the receive buffer begins, whatever stands before them.
"""

from __future__ import annotations

from collections.abc import Iterator

from kps.demo.virtual_printer.buffers import NOWHERE, REAL_TIME, TaggedBuffer
from kps.demo.virtual_printer.connection import Connection
from kps.demo.virtual_printer.connection_table import ConnectionTable
from kps.demo.virtual_printer.decoder import Decoder, Step
from kps.demo.virtual_printer.settings import Connections as Policy
from kps.demo.virtual_printer.settings import Settings

_INTERLEAVED_PIECE = 256
"""Bytes that each host gets in at a time where all print at once."""
_STATUS_REQUEST = 0x04
"""The second byte of `DLE EOT n`."""

Arrived = tuple[Connection, bytes]
"""A connection whose data has moved, and the real-time command that stood there (b'' = none)."""


class Intake:
    """The receive buffer, the decoder behind it, and whose turn it is to fill it."""

    def __init__(self, settings: Settings, received: TaggedBuffer, connections: ConnectionTable) -> None:
        self._settings = settings
        self._received = received
        self._connections = connections
        self.boot()

    def boot(self) -> None:
        """The state after power-on."""
        self._received.clear()
        self._decoder = Decoder()
        self._turn: int | None = None
        self.command_origin = NOWHERE
        """Where the first byte of the command came from that is being decoded, or was last."""

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be decoded."""
        return not self._received

    def holds(self, connection: int) -> bool:
        """Whether any byte of this connection waits to be decoded."""
        return self._received.holds(connection)

    def discard(self) -> int:
        """Forget what waits, a command that is half decoded included; returns how many whole bytes that were."""
        self._decoder.reset()
        return self._received.clear()

    def transfer(self, mid_paper: bool) -> Iterator[Arrived]:
        """Move what has room into the receive buffer; each real-time command is to be executed as it comes.

        `mid_paper`: the host whose turn it is has begun a paper and not cut it. A printer that loses power meanwhile
        must not ask for more.
        """
        for connection, limit in self._whose_data(mid_paper):
            room = self._settings.receive_buffer - len(self._received)
            for origin, data in connection.nic.take(min(room, limit)):
                for part, command in connection.scanner.feed(data):
                    self._received.append(part, origin)
                    if command and self._decoder.idle and self._received.data == command:
                        self._received.clear()
                    yield connection, command

    def _whose_data(self, mid_paper: bool) -> list[tuple[Connection, int]]:
        """The connections whose data goes in now, each with how many bytes at a time."""
        waiting = [connection for connection in self._connections if connection.nic]
        if self._settings.connections is Policy.MANY_INTERLEAVE:
            return [(connection, _INTERLEAVED_PIECE) for connection in waiting]
        if waiting and self._turn_is_over(mid_paper):
            self._turn = waiting[0].number
        return [(connection, len(connection.nic)) for connection in waiting if connection.number == self._turn]

    def _turn_is_over(self, mid_paper: bool) -> bool:
        holder = self._connections.get(self._turn or 0)
        if holder is None:
            return True
        if holder.nic or self._received:
            return False
        return not (holder.open and (mid_paper or not self._decoder.idle))

    def status_requests(self) -> Iterator[Arrived]:
        """The status requests of hosts that wait for their turn: they are answered before it."""
        if self._settings.connections is not Policy.MANY_ONE_PRINTS:
            return
        for connection in self._connections:
            while connection.number != self._turn:
                request = REAL_TIME.match(connection.nic.data)
                if request is None or request.group()[1] != _STATUS_REQUEST:
                    break
                command = request.group()  # before the buffer moves below the match
                connection.nic.drop(len(command))
                yield connection, command

    def decode(self) -> Step:
        """Decode at the head of the receive buffer; nothing consumed = more has to come first."""
        if self._decoder.idle and self._received:
            self.command_origin = self._received.head()
        step = self._decoder.next(self._received.data)
        self._received.drop(step.consumed)
        return step
