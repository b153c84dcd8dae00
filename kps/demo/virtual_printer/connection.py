"""A connection to the printer, and what is to be done to its socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.demo.virtual_printer.buffers import RealTimeScanner, TaggedBuffer


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the connection."""

    connection: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection with FIN."""

    connection: int


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection with RST."""

    connection: int


Action = Send | Close | Reset


@dataclass(slots=True)
class Connection:
    """A host, as the network side of the printer sees it."""

    number: int
    last_in: float
    nic: TaggedBuffer = field(default_factory=TaggedBuffer)
    scanner: RealTimeScanner = field(default_factory=RealTimeScanner)
    open: bool = True
    """The peer may still send."""
    ended_at: float | None = None
    """When the peer ended it, as long as the printer has not noticed."""
    gone: bool = False
    """Nothing can be sent to the peer any more."""
    tail: bytes = b""
    """The last bytes that came in: a question may begin in them."""
    answered_at_arrival: int = 0
    """Fences that the network side has answered, and the mechanism must not."""
