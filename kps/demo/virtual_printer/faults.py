"""Faults that a virtual printer can be given: which there are, for how often, and what they do to its answers."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

K = TypeVar("K", bound=StrEnum)

LATE_BY = 2.0
"""Seconds that a late echo is held back at most."""
CONSTANT_ID = b"1234"
CHATTER = random.Random(0).randbytes(4096)
"""What a device that talks without end says again and again. To a host it means nothing, like a camera's picture."""
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
    """The network side answers "no trouble" as soon as the question arrives; the mechanism is not asked."""
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


class ResetWhen(StrEnum):
    """When the printer breaks a connection off by RST, once."""

    ACCEPT = "accept"
    """The next connection, as soon as it is made."""
    MID = "mid"
    """The next connection that prints, after its first line; the rest of its data is lost."""
    AFTER_CUT = "after_cut"
    """The connection that printed the next paper, after the cut and before any answer that follows it."""


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


@dataclass(slots=True)
class Faults:
    """What is wrong with one printer besides what its sensors show. Tests and the demo set it."""

    hanging: bool = False
    """Connections are accepted, but nothing is read and nothing is answered."""
    silent: bool = False
    """Everything is printed, nothing is answered."""
    swallowing: bool = False
    """Everything is read, nothing is printed or answered."""
    unreachable: bool = False
    """Nothing gets through to or from the network: neither answers nor connects nor the end of a connection."""
    talking: bool = False
    """It sends without end, besides all that it does."""
    power_notice: bool = False
    """After each power-on the first host that connects gets a notice of it."""
    reset_when: ResetWhen | None = None
    process_id: Switch[IdFault] = field(default_factory=Switch)
    fence: Switch[FenceFault] = field(default_factory=Switch)
    noise: Switch[Noise] = field(default_factory=Switch)

    @property
    def cut_off(self) -> bool:
        """Whether the network side sends nothing at all."""
        return self.hanging or self.unreachable


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

    def __init__(self, fault: Switch[IdFault]) -> None:
        self._fault = fault
        self._late: list[_Late] = []
        self._unsent: Echo | None = None
        self._kept_back: list[Echo] = []

    def earned(self, echo: Echo, now: float) -> list[Echo]:
        """All before this ID is on paper: what goes out now."""
        before = [late.echo for late in self._late]
        self._late.clear()
        match self._fault.take():
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
                self._kept_back.append(echo)
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
        """Kept-back echoes of closed connections, for the newest open one: the one with the highest number."""
        newest = max(open_now, default=0)
        ready = [echo for echo in self._kept_back if echo.connection not in open_now and echo.connection < newest]
        self._kept_back = [echo for echo in self._kept_back if echo not in ready]
        return [Echo(newest, echo.process_id) for echo in ready]

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
        self._kept_back.clear()
        self._unsent = None


def is_process_id(data: bytes) -> bool:
    """Whether these are the four characters of a process ID (Epson reference, GS ( H function 48)."""
    return len(data) == 4 and all(code in _PRINTABLE for code in data)


def with_noise(answer: bytes, kind: Noise | None, asb: bytes, source: random.Random) -> bytes:
    """An answer together with the noise around it."""
    match kind:
        case None:
            return answer
        case Noise.FLOW_CONTROL:
            return b"\x13" + answer + b"\x11"
        case Noise.RANDOM:
            return _random(source) + answer + _random(source)
        case Noise.ASB_INSIDE:
            middle = len(answer) // 2
            return answer[:middle] + asb + answer[middle:]
        case Noise.TRAILING_TEXT:
            return answer + _TRAILING_TEXT


def _another(process_id: bytes) -> bytes:
    last = process_id[-1] + 1
    return process_id[:-1] + bytes([last if last in _PRINTABLE else _PRINTABLE[0]])


def _random(source: random.Random) -> bytes:
    return bytes(source.choice(_NO_ANSWER) for _ in range(source.randint(1, 8)))
