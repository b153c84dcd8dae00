"""What a virtual printer sends to its hosts: which answers go out, when, and what comes along with them."""

from __future__ import annotations

import random
from collections.abc import Callable

from kps.demo.virtual_printer.connection import Send
from kps.demo.virtual_printer.connection_table import ConnectionTable
from kps.demo.virtual_printer.event_log import EventLog
from kps.demo.virtual_printer.faults import Faults, with_noise
from kps.demo.virtual_printer.outbox import Outbox
from kps.demo.virtual_printer.records import EventKind
from kps.demo.virtual_printer.sensors import Sensors
from kps.demo.virtual_printer.settings import Settings


class Replies:
    """Takes the printer's answers and hands them to the sockets, unless a fault keeps them back."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float],
        log: EventLog,
        faults: Faults,
        sensors: Sensors,
        connections: ConnectionTable,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._log = log
        self._faults = faults
        self._sensors = sensors
        self._connections = connections
        self._outbox = Outbox(settings.reply_delay, settings.reply_chunk)
        self._random = random.Random(0)

    def send(self, number: int, data: bytes) -> None:
        """Let an answer go out on this connection; empty = there is none."""
        if not data:
            return
        connection = self._connections.get(number)
        not_ready = self._settings.silent_when_not_ready and self._sensors.offline
        if self._faults.silent or self._faults.swallowing or not_ready or connection is None or connection.gone:
            self.lost(number, data)
            return
        noisy = with_noise(data, self._faults.noise.take(), self._sensors.automatic(), self._random)
        self._outbox.put(number, noisy, self._clock())

    def send_to_all(self, data: bytes) -> None:
        """Let a notice go out on every connection that is open and served."""
        for connection in self._connections:
            if connection.open and self._connections.served(connection):
                self.send(connection.number, data)

    def inject(self, data: bytes) -> None:
        """Send these bytes on every open connection, as they are."""
        for number in self._connections.open_numbers():
            self._outbox.put(number, data, self._clock())

    def lost(self, number: int, data: bytes) -> None:
        """An answer is dropped: it cannot be sent, or too many wait already for a host that does not read."""
        self._log.note(EventKind.REPLY_LOST, number, data.hex(" "), data)

    def release(self, now: float) -> None:
        """Hand out the answers that are due. A network side that hangs or has no cable sends nothing."""
        if self._faults.cut_off:
            return
        for piece in self._outbox.take(now):
            connection = self._connections.get(piece.connection)
            if connection is None or connection.gone:
                self.lost(piece.connection, piece.data)
                continue
            self._log.note(EventKind.REPLY, piece.connection, piece.data.hex(" "), piece.data)
            self._connections.act(Send(piece.connection, piece.data))

    def next_wake(self) -> list[float]:
        """When `release` will have something."""
        return [] if self._faults.cut_off else self._outbox.next_wake()

    def owed_to(self, number: int) -> bool:
        """Whether an answer waits for this connection."""
        return self._outbox.owed_to(number)

    def forget(self, number: int) -> None:
        """The connection has ended; its number never comes again."""
        self._outbox.forget(number)

    def lose_power(self) -> None:
        """What waits is gone."""
        self._outbox.clear()
