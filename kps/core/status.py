"""Reply bytes of a printer -> what is known about it.

`ReplyReader` cuts the stream of bytes that a printer sends back into replies. Every byte becomes part of exactly one
reply, or is noise, or flow control, or waits for the rest of its reply; how the network has cut the stream does not
matter. `PrinterStatus` says what the replies mean; what no reply has said stays unknown.

The order of the tests and the masks are those of Epson's table "transmitted status identification" (TM-T88III guide).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from kps.core.tickets import Reason

REALTIME_QUERIES = (1, 2, 3, 4)
"""The n of `DLE EOT n`: printer, cause of offline, cause of error, paper. Asked in this order, one at a time."""

MAX_BLOCK = 256
"""Bytes of the longest reply that is waited for, first and last byte included; texts of `GS I` have at most 80."""

_XON, _XOFF = 0x11, 0x13
_ID_OR_NOTICE_HEAD = 0x37
"""First byte of what `GS ( H` and `DLE DC4` 8 answer; the second says what it is."""
_POWER_HEAD = 0x3B
"""First byte of the notice that power was switched on or off."""
_IDENTITY_HEAD = 0x5F
"""First byte of a text that answers `GS I`."""
_TEXT_HEADS = frozenset((_POWER_HEAD, 0x3D, 0x35, _IDENTITY_HEAD))


@dataclass(frozen=True, slots=True)
class RealtimeAnswer:
    """The answer to a `DLE EOT n`. It does not name its n; only who asked knows which it answers."""

    value: int

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return bytes((self.value,))


@dataclass(frozen=True, slots=True)
class AsbUnit:
    """Automatic status back: the printer's state, pushed without being asked. Four bytes."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class ByteAnswer:
    """The answer to a buffered one-byte query (`GS r n`, `GS I 1..3`); its meaning is that of the query."""

    value: int

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return bytes((self.value,))


@dataclass(frozen=True, slots=True)
class ProcessIdEcho:
    """All data before the process ID of these four characters is finished (`GS ( H` function 48)."""

    process_id: bytes

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return b"\x37\x22" + self.process_id + b"\x00"


@dataclass(frozen=True, slots=True)
class Cleared:
    """The printer threw its buffers away, as asked (`DLE DC4` function 8)."""

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return b"\x37\x25\x00"


@dataclass(frozen=True, slots=True)
class OfflineCauses:
    """The printer went offline, and why, in its own codes (`GS ( H` function 49)."""

    causes: bytes

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return b"\x37\x23" + self.causes + b"\x00"


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A text that ends with 00: `GS I` names and counters under head 5F, notices under the other heads."""

    head: int
    body: bytes

    @property
    def power_on(self) -> bool:
        """Whether this is the notice that the printer has just been switched on."""
        return self.head == _POWER_HEAD and self.body == b"1"

    @property
    def identity(self) -> bool:
        """Whether this is a text of `GS I`, and no notice."""
        return self.head == _IDENTITY_HEAD

    @property
    def raw(self) -> bytes:
        """The bytes as they came."""
        return bytes((self.head,)) + self.body + b"\x00"


Reply = RealtimeAnswer | AsbUnit | ByteAnswer | ProcessIdEcho | Cleared | OfflineCauses | TextBlock


class ReplyReader:
    """Bytes in, replies out; no socket, no clock."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = 0
        """Bytes that belonged to no reply, so far."""

    @property
    def pending(self) -> int:
        """Bytes of a reply that has begun and is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Reply]:
        """Take what arrived, in any portions; return the replies that it completes, in order."""
        self._buffer += data
        replies: list[Reply] = []
        while self._buffer:
            taken = _first_unit(bytes(self._buffer[:MAX_BLOCK]))
            if taken is None:
                break
            del self._buffer[: taken.length]
            self.noise += taken.noise
            if taken.reply is not None:
                replies.append(taken.reply)
        return replies

    def flush(self) -> None:
        """Drop the reply that is not complete; the caller does so after 1 s.

        All its bytes are noise: the rest of a torn text must not be read as answers.
        """
        self.noise += len(self._buffer)
        self._buffer.clear()


TALK_BYTES, TALK_BYTES_PER_S = 16 * 1024, 4 * 1024
"""A device that sends so many bytes at once, beyond so many a second, is no printer. A busy printer sends 20 bytes for
a ticket and 4 for each change of its state; up to 512 may wait in a network board (Epson UB-E02)."""


class Talk:
    """Whether a device sends more than a printer would. `now` is any clock that does not go back."""

    def __init__(self, now: float) -> None:
        self._ahead = 0.0
        """Bytes beyond what TALK_BYTES_PER_S allows so far."""
        self._at = now

    def too_much(self, count: int, now: float) -> bool:
        """Note that `count` bytes were read (0 = nothing could be read); True = it is too much.

        Bytes that nobody has read for a while came over all that time, so it counts; but silence gives no credit.
        """
        self._ahead += count - TALK_BYTES_PER_S * (now - self._at)
        self._at = now
        if not count:
            self._ahead = max(0.0, self._ahead)
        return self._ahead > TALK_BYTES


@dataclass(frozen=True, slots=True)
class _Taken:
    """What the first `length` bytes of the buffer are: a reply, or noise, or, if neither, flow control."""

    length: int
    reply: Reply | None = None
    noise: int = 0


_ONE_BYTE_OF_NOISE = _Taken(1, noise=1)


def _first_unit(data: bytes) -> _Taken | None:
    """What `data` begins with; None = more bytes are needed to say that."""
    first = data[0]
    if first == _ID_OR_NOTICE_HEAD:
        return _notice(data)
    if first in _TEXT_HEADS:
        return _text(data)
    if first & 0x93 == 0x12:
        return _Taken(1, RealtimeAnswer(first))
    if first & 0x93 == 0x10:
        return _asb(data)
    if first & 0x90 == 0:
        return _Taken(1, ByteAnswer(first))
    if first in (_XON, _XOFF):
        return _Taken(1)
    return _ONE_BYTE_OF_NOISE


def _notice(data: bytes) -> _Taken | None:
    if len(data) < 2:
        return None
    match data[1]:
        case 0x22:
            return _process_id(data)
        case 0x25:
            if len(data) < 3:
                return None
            return _Taken(3, Cleared()) if data[2] == 0 else _ONE_BYTE_OF_NOISE
        case 0x23:
            end = data.find(0, 2)
            return _unended(data) if end < 0 else _Taken(end + 1, OfflineCauses(data[2:end]))
        case _:
            return _ONE_BYTE_OF_NOISE


def _process_id(data: bytes) -> _Taken | None:
    process_id = data[2:6]
    if not all(0x20 <= byte <= 0x7E for byte in process_id):
        return _ONE_BYTE_OF_NOISE
    if len(data) < 7:
        return None
    return _Taken(7, ProcessIdEcho(process_id)) if data[6] == 0 else _ONE_BYTE_OF_NOISE


def _text(data: bytes) -> _Taken | None:
    end = data.find(0, 1)
    return _unended(data) if end < 0 else _Taken(end + 1, TextBlock(data[0], data[1:end]))


def _unended(data: bytes) -> _Taken | None:
    return _Taken(MAX_BLOCK, noise=MAX_BLOCK) if len(data) >= MAX_BLOCK else None


def _asb(data: bytes) -> _Taken | None:
    rest = data[1:4]
    if any(byte & 0x90 for byte in rest):
        return _ONE_BYTE_OF_NOISE
    return _Taken(4, AsbUnit(data[:4])) if len(rest) == 3 else None


class PaperState(StrEnum):
    """The paper roll, as far as the sensors see it."""

    OK = "ok"
    LOW = "low"
    OUT = "out"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PrinterStatus:
    """What a printer has said about itself. None and UNKNOWN mean: it has said nothing about that."""

    online: bool | None = None
    cover_open: bool | None = None
    paper: PaperState = PaperState.UNKNOWN
    cutter_ok: bool | None = None
    error: bool | None = None
    """Whether there is an error from which the printer does not recover by itself."""
    temperature_ok: bool | None = None
    """False = the head is too hot; the printer goes on by itself when it has cooled."""


def after_realtime(status: PrinterStatus, query: int, answer: RealtimeAnswer) -> PrinterStatus:
    """The status after the answer to `DLE EOT query` (query 1..4).

    A whole round 1, 2, 3, 4 replaces every fact. "Stopped by paper end" in answer 2 outweighs an untroubled answer 4:
    cheap printers have no sensor for the latter. Bits: TM-T88III guide.
    """
    value = answer.value
    match query:
        case 1:
            return replace(status, online=not value & 0x08)
        case 2:
            return replace(
                status, cover_open=bool(value & 0x04), error=bool(value & 0x40), paper=_paper_after_2(status, value)
            )
        case 3:
            return replace(
                status,
                cutter_ok=not value & 0x08,
                temperature_ok=not value & 0x40,
                error=True if value & 0x20 else status.error,
            )
        case 4:
            stopped = status.paper is PaperState.OUT
            return replace(status, paper=PaperState.OUT if stopped else _paper(out=value & 0x60, low=value & 0x0C))
        case _:
            raise ValueError(f"DLE EOT has queries 1 to 4, not {query}")


def after_asb(status: PrinterStatus, unit: AsbUnit) -> PrinterStatus:
    """The status after a pushed one, which names every fact. Bits: TM-T88III guide."""
    printer, errors, paper, _ = unit.raw
    return replace(
        status,
        online=not printer & 0x08,
        cover_open=bool(printer & 0x20),
        paper=_paper(out=paper & 0x0C, low=paper & 0x03),
        cutter_ok=not errors & 0x08,
        error=bool(errors & 0x20),
        temperature_ok=not errors & 0x40,
    )


def port_status(value: int) -> PrinterStatus:
    """What the status byte of the USB printer class says (GET_PORT_STATUS).

    Only that paper is out is believed: many printers answer the same byte for ever, and some 0, which would be an error
    and not selected.
    """
    return PrinterStatus(paper=PaperState.OUT if value & 0x20 else PaperState.UNKNOWN)


def _paper(*, out: int, low: int) -> PaperState:
    if out:
        return PaperState.OUT
    return PaperState.LOW if low else PaperState.OK


def _paper_after_2(status: PrinterStatus, value: int) -> PaperState:
    if value & 0x20:
        return PaperState.OUT
    # Answer 2 takes back an older "out"; whether the roll is low or all right is said in answer 4.
    return PaperState.UNKNOWN if status.paper is PaperState.OUT else status.paper


def trouble(status: PrinterStatus) -> Reason | None:
    """Why this printer cannot print now; None = nothing that it has said speaks against it.

    The cover comes first, because an open one hides the paper from its sensor; plain "offline" last, because every
    other trouble is also one.
    """
    if status.cover_open:
        return Reason.COVER_OPEN
    if status.paper is PaperState.OUT:
        return Reason.PAPER_OUT
    if status.cutter_ok is False:
        return Reason.CUTTER_ERROR
    if status.error or status.temperature_ok is False:
        return Reason.PRINTER_ERROR
    if status.online is False:
        return Reason.OFFLINE
    return None


_SENTENCES = {
    Reason.REFUSED: "connection refused",
    Reason.TIMEOUT: "no connection in time",
    Reason.UNRESOLVABLE: "host name unknown",
    Reason.SILENT: "no answer to the status query",
    Reason.CONNECTION_LOST: "connection lost",
    Reason.OFFLINE: "printer offline",
    Reason.PAPER_OUT: "paper out",
    Reason.COVER_OPEN: "cover open",
    Reason.CUTTER_ERROR: "cutter error",
    Reason.PRINTER_ERROR: "printer error",
    Reason.BLOCKED: "printer takes no data",
    Reason.TALKATIVE: "sends data that no printer sends",
    Reason.HOST_FULL: "host of KPS out of descriptors or memory",
    Reason.UNPROVEN: "printer gave no proof of print",
    Reason.LEASE_LOST: "printer passed to another instance",
    Reason.NO_ITEMS: "ticket has no items",
    Reason.UNRENDERABLE: "ticket cannot be rendered",
    Reason.POISON: "ticket crashed its printer process twice",
    Reason.NO_PRINTER: "no printer for the station",
    Reason.NONE_ABLE: "no printer of the station is able",
    Reason.STALE: "ticket too old",
    Reason.RECLAIMED: "taken back from a dead process",
    Reason.RELEASED: "given back",
}


def sentence(reason: Reason) -> str:
    """A reason in a few words for people: "paper out"."""
    return _SENTENCES[reason]
