"""Faults of a printer's answers: which there are, for how often they are in force, and what they make of an answer."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=StrEnum)

LATE_BY = 2.0
"""Seconds that a late echo is held back at most."""
CONSTANT_ID = b"1234"
CHATTER = random.Random(0).randbytes(4096)
"""What a device says again and again that talks without end: a camera's picture has as little sense to a host."""
_PRINTABLE = range(0x20, 0x7F)
_NO_ANSWER = range(0x80, 0x100)
"""Bytes with which no answer begins (TM-T88III guide, table of transmitted status)."""
_TRAILING_TEXT = b"OK\r\n"


class IdFault(StrEnum):
    """What is wrong with the echo of a process ID."""

    LATE = "late"
    """It is held back until the next ID is due, or for LATE_BY seconds; then it goes out first."""
    LATEST_ONLY = "latest_only"
    """It goes out when the printer has nothing more to do, and only the newest (Epson TM-L90 guide: IDs that could
    not be sent are not queued)."""
    WRONG = "wrong"
    """Another ID than ours: its last character is the next one."""
    CONSTANT = "constant"
    """`1234`, whatever was asked."""
    DOUBLED = "doubled"
    """It comes twice."""
    LOST = "lost"
    """It never comes."""
    PREVIOUS = "previous"
    """It goes out when the asking connection has ended and there is a newer one, on the newest."""


class FenceFault(StrEnum):
    """What is wrong with the answer to `GS r`."""

    DOUBLED = "doubled"
    """It comes twice."""
    STALE = "stale"
    """It comes, and a copy of it comes with the next bytes that a host sends, on whatever connection."""
    AT_ARRIVAL = "at_arrival"
    """The network side says "all is well" as soon as the question arrives; the mechanism is not asked."""
    LOST = "lost"
    """It never comes."""


class Noise(StrEnum):
    """What comes along with every answer, pushed status included."""

    FLOW_CONTROL = "flow_control"
    """XOFF before it, XON behind it."""
    RANDOM = "random"
    """Up to eight bytes with which no answer begins, on both sides of it."""
    ASB_INSIDE = "asb_inside"
    """The four bytes of automatic status in the middle of it; before it, where it is a single byte."""
    TRAILING_TEXT = "trailing_text"
    """A line of text behind it."""


class Switch(Generic[K]):
    """A fault in force: for a number of times, or until it is taken back."""

    def __init__(self) -> None:
        self._kind: K | None = None
        self._left: int | None = None

    def set(self, kind: K | None, times: int | None = None) -> None:
        """Put this fault in force for `times` uses (None = for good), or none at all."""
        if times is not None and times < 1:
            raise ValueError(f"a fault is in force at least once, not {times} times")
        self._kind, self._left = kind, times

    @property
    def kind(self) -> K | None:
        """What the next use will be."""
        return self._kind

    def take(self) -> K | None:
        """What is in force now; this was one use of it."""
        kind = self._kind
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self.set(None)
        return kind


@dataclass(frozen=True, slots=True)
class Echo:
    """A process ID that its data has earned, and the connection that asked for it."""

    connection: int
    process_id: bytes

    @property
    def raw(self) -> bytes:
        """The answer as sent."""
        return b"\x37\x22" + self.process_id + b"\x00"


@dataclass(frozen=True, slots=True)
class _Late:
    due: float
    echo: Echo


class Echoes:
    """The echoes of process IDs on their way out, and what a fault does to them."""

    def __init__(self) -> None:
        self.fault: Switch[IdFault] = Switch()
        self._late: list[_Late] = []
        self._unsent: Echo | None = None
        self._orphans: list[Echo] = []

    def earned(self, echo: Echo, now: float) -> list[Echo]:
        """All before this ID is on paper: what goes out now."""
        before = [late.echo for late in self._late]
        self._late.clear()
        match self.fault.take():
            case None:
                return [*before, echo]
            case IdFault.LATE:
                self._late.append(_Late(now + LATE_BY, echo))
            case IdFault.LATEST_ONLY:
                self._unsent = echo
            case IdFault.WRONG:
                before.append(Echo(echo.connection, _another(echo.process_id)))
            case IdFault.CONSTANT:
                before.append(Echo(echo.connection, CONSTANT_ID))
            case IdFault.DOUBLED:
                before += [echo, echo]
            case IdFault.LOST:
                pass
            case IdFault.PREVIOUS:
                self._orphans.append(echo)
        return before

    def due(self, now: float) -> list[Echo]:
        """Late ones whose time has come."""
        due = [late.echo for late in self._late if late.due <= now]
        self._late = [late for late in self._late if late.due > now]
        return due

    def at_rest(self) -> list[Echo]:
        """The printer has nothing more to do: the newest of those that could not go out before."""
        unsent, self._unsent = self._unsent, None
        return [] if unsent is None else [unsent]

    def inherited(self, open_now: Collection[int]) -> list[Echo]:
        """What a newer connection gets of one that is not open any more. Connections are numbered as they are made."""
        heir = max(open_now, default=0)
        ready = [echo for echo in self._orphans if echo.connection not in open_now and echo.connection < heir]
        self._orphans = [echo for echo in self._orphans if echo not in ready]
        return [Echo(heir, echo.process_id) for echo in ready]

    def next_wake(self) -> list[float]:
        """When `due` will have something."""
        return [late.due for late in self._late]

    def owed_to(self, connection: int) -> bool:
        """Whether an echo is still to go out on this connection."""
        held = [late.echo for late in self._late] + ([] if self._unsent is None else [self._unsent])
        return any(echo.connection == connection for echo in held)

    def forget(self) -> None:
        """Power was lost. The fault stays in force."""
        self._late.clear()
        self._orphans.clear()
        self._unsent = None


def is_process_id(data: bytes) -> bool:
    """Whether these are the four characters of a process ID (Epson reference, GS ( H function 48)."""
    return len(data) == 4 and all(code in _PRINTABLE for code in data)


def soiled(answer: bytes, kind: Noise | None, asb: bytes, chance: random.Random) -> bytes:
    """An answer together with the noise around it."""
    match kind:
        case None:
            return answer
        case Noise.FLOW_CONTROL:
            return b"\x13" + answer + b"\x11"
        case Noise.RANDOM:
            return _random(chance) + answer + _random(chance)
        case Noise.ASB_INSIDE:
            middle = len(answer) // 2
            return answer[:middle] + asb + answer[middle:]
        case Noise.TRAILING_TEXT:
            return answer + _TRAILING_TEXT


def _another(process_id: bytes) -> bytes:
    last = process_id[-1] + 1
    return process_id[:-1] + bytes([last if last in _PRINTABLE else _PRINTABLE[0]])


def _random(chance: random.Random) -> bytes:
    return bytes(chance.choice(_NO_ANSWER) for _ in range(chance.randint(1, 8)))
