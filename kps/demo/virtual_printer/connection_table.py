"""The hosts of a virtual printer: who is connected, who of them is served, and how a connection ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from kps.demo.virtual_printer.buffers import Origin, TaggedBuffer
from kps.demo.virtual_printer.connection import Action, Close, Connection, Reset
from kps.demo.virtual_printer.event_log import EventLog
from kps.demo.virtual_printer.faults import Faults
from kps.demo.virtual_printer.records import EventKind
from kps.demo.virtual_printer.settings import Connections as Policy
from kps.demo.virtual_printer.settings import Overflow, Settings


class ConnectionTable:
    """Every connection from its beginning until the printer owes it nothing more, in the order of their numbers.

    It also collects what is to be done to the sockets. `received` is the printer's receive buffer: a reset throws away
    what it holds of the connection.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float], log: EventLog, faults: Faults, received: TaggedBuffer
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._faults = faults
        self._received = received
        self._connections: dict[int, Connection] = {}
        self._count = 0
        self._actions: list[Action] = []

    def __iter__(self) -> Iterator[Connection]:
        """All of them, as they are at the beginning: the table may change meanwhile."""
        return iter(list(self._connections.values()))

    def __getitem__(self, number: int) -> Connection:
        return self._connections[number]

    def get(self, number: int) -> Connection | None:
        """This connection; None = it is forgotten already."""
        return self._connections.get(number)

    def open_numbers(self) -> list[int]:
        """Connections whose peer has not closed."""
        return [connection.number for connection in self if connection.open]

    def is_open(self, number: int) -> bool:
        """Whether the peer of this connection has not closed."""
        connection = self.get(number)
        return connection is not None and connection.open

    def add(self) -> Connection:
        """A host has connected."""
        connection = self._new(Connection(self._count + 1, self._clock()))
        self._log.note(EventKind.CONNECT, connection.number, "connected")
        return connection

    def add_foreign(self, data: bytes, stops: int) -> None:
        """A host on another interface has sent all of its data and gone. `stops`: how often the printer had stopped."""
        now = self._clock()
        connection = self._new(Connection(self._count + 1, now, open=False, gone=True))
        connection.nic.append(data, Origin(connection.number, now, stops))
        self._log.note(EventKind.CONNECT, connection.number, "another host prints")

    def _new(self, connection: Connection) -> Connection:
        self._count = connection.number
        self._connections[connection.number] = connection
        return connection

    def served(self, connection: Connection) -> bool:
        """Whether the network side reads this connection at all."""
        if self._settings.connections is not Policy.ONE_HANG:
            return True
        return next((other for other in self if other.open), None) is connection

    def room(self, number: int) -> int:
        """How many bytes may be read from this connection now; 0 = its window closes."""
        connection = self.get(number)
        if connection is None or not connection.open or self._faults.hanging or not self.served(connection):
            return 0
        if connection.ended_at is not None:
            return 0
        if self._settings.overflow is Overflow.DROP:
            return self._settings.nic_buffer
        return max(0, self._settings.nic_buffer - len(connection.nic))

    def ended(self, number: int, *, reset: bool) -> None:
        """The peer has ended its connection; the printer notices it now, or after `end_noticed_after`."""
        connection = self.get(number)
        if connection is None:
            return
        connection.gone = connection.gone or reset
        if connection.open and connection.ended_at is None:
            self._log.note(EventKind.DISCONNECT, number, "reset by the host" if reset else "closed by the host")
            connection.ended_at = self._clock()
        self.notice_ends(self._clock())

    def notice_ends(self, now: float) -> None:
        """Connections whose end the printer has noticed by now are not open any more."""
        for connection in self:
            if connection.ended_at is not None and now >= connection.ended_at + self._settings.end_noticed_after:
                connection.open, connection.ended_at = False, None

    def reset(self, connection: Connection) -> None:
        """Break this connection off; what it sent and is not decoded yet is lost."""
        if not connection.gone:
            self.act(Reset(connection.number))
            self._log.note(EventKind.DISCONNECT, connection.number, "reset by the printer")
        connection.open, connection.gone = False, True
        lost = connection.nic.clear() + self._received.discard(connection.number)
        self._log.lost(connection.number, lost, "connection reset")

    def reset_all(self, numbers: Iterable[int]) -> None:
        """Break these connections off, as far as there still are any."""
        for number in numbers:
            connection = self.get(number)
            if connection is not None:
                self.reset(connection)

    def close_idle(self, now: float) -> None:
        """End the connections on which nothing has come for `idle_timeout`."""
        if self._settings.idle_timeout is None:
            return
        for connection in self:
            if connection.open and now >= connection.last_in + self._settings.idle_timeout and not connection.nic:
                connection.open, connection.gone = False, True
                self.act(Close(connection.number))
                self._log.note(EventKind.DISCONNECT, connection.number, "closed by the printer: idle")

    def forget_finished(self, owes: Callable[[int], bool]) -> list[int]:
        """Close connections whose peer has closed and that the printer owes nothing more; returns their numbers.

        They stay until then, so that a late answer still reaches the peer.
        """
        forgotten = []
        for connection in self:
            if connection.open or connection.nic:
                continue
            if not connection.gone and not owes(connection.number):
                self.act(Close(connection.number))
                connection.gone = True
            if connection.gone:
                del self._connections[connection.number]
                forgotten.append(connection.number)
        return forgotten

    def lose_power(self) -> None:
        """All of them are reset and forgotten."""
        for connection in self:
            self.reset(connection)
        self._connections.clear()

    def act(self, action: Action) -> None:
        """Something is to be done to a socket."""
        self._actions.append(action)

    def take_actions(self) -> list[Action]:
        """What is to be done to the sockets, in order; each is handed out once."""
        actions, self._actions = self._actions, []
        return actions

    def next_wake(self) -> list[float]:
        """When an end will be noticed, or a connection will have been idle for too long."""
        times = [
            connection.ended_at + self._settings.end_noticed_after
            for connection in self
            if connection.ended_at is not None
        ]
        if self._settings.idle_timeout is not None:
            times.extend(
                connection.last_in + self._settings.idle_timeout
                for connection in self
                if connection.open and not connection.nic
            )
        return times
