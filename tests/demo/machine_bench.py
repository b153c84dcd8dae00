"""A virtual printer without sockets on a test bench: time passes when the test says so."""

from __future__ import annotations

from kps.demo.virtual_printer import Machine, settings_for
from kps.demo.virtual_printer.connection import Close, Send


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A machine with one connection, and what it has answered."""

    def __init__(self, profile: str = "epson-t20iii", speed: str = "real", **changes: object) -> None:
        self.clock = Clock()
        self.machine = Machine(settings_for(profile, speed, **changes), self.clock)
        self.answers = b""
        self.heard: dict[int, bytes] = {}
        self.closed = False
        self.connection = self.connect()

    def connect(self) -> int:
        """One more connection; what comes on it stands in `heard`, what comes at all in `answers`."""
        number = self.machine.connect()
        self.heard[number] = b""
        self.pass_time(0)
        return number

    def send(self, data: bytes, connection: int | None = None) -> None:
        """Put bytes in; there must be room for all of them."""
        number = connection or self.connection
        assert self.machine.room(number) >= len(data)
        self.machine.receive(number, data)
        self.pass_time(0)

    def ask(self, data: bytes) -> bytes:
        """What these bytes are answered with, at once."""
        before = len(self.answers)
        self.send(data)
        return self.answers[before:]

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.machine.run()
        for action in self.machine.take_actions():
            if isinstance(action, Send):
                self.answers += action.data
                self.heard[action.connection] = self.heard.get(action.connection, b"") + action.data
            self.closed |= isinstance(action, Close)
