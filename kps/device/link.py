"""One connection to a printer: the replies that come over it, whatever carries them."""

from __future__ import annotations

import contextlib
import time
from collections import deque

from kps.core.status import (
    AsbUnit,
    PrinterStatus,
    ProcessIdEcho,
    Reply,
    ReplyReader,
    Talk,
    after_asb,
    sentence,
    trouble,
)
from kps.core.tickets import Reason
from kps.device.transport import Pulse, Transport, Vitals

CLOSE_LIMIT_S = 1.0
"""How long an orderly close listens for the printer's own end."""

TURN_BYTES = 16 * 1024
"""Most that one `read` takes, so that the caller gets back to its heartbeat and its deadlines in between."""

ECHOES_KEPT = 1024
"""Most process IDs that wait for `Device.take_echoes`; beyond that the oldest are forgotten, as if they were lost."""

_PIECE = 4096
"""Bytes of one read."""

_BLOCK_LIMIT_S = 1.0
"""A reply that has begun and is not complete after so long is noise."""

_FINISH_LOOK_S = 0.05
"""While a connection is closed: pause between two looks whether everything has gone out."""


class LinkLost(Exception):
    """The connection ended without our doing. `orderly`: the printer closed it; else it was reset or broke."""

    reason = Reason.CONNECTION_LOST

    def __init__(self, what: str, *, orderly: bool = False) -> None:
        super().__init__(what)
        self.orderly = orderly


class Talkative(LinkLost):
    """More came than any printer says: nothing of it is believed, and the connection is not used any more."""

    reason = Reason.TALKATIVE

    def __init__(self) -> None:
        super().__init__(sentence(self.reason))


class Link:
    """An open connection. Reading and writing never wait; `wait` does, for one slice at most."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = ReplyReader()
        self._heard_at = time.monotonic()
        self._end: LinkLost | None = None
        self._talk = Talk(self._heard_at)
        self.heard = 0
        """Bytes that came on this connection."""
        self.more = False
        """Whether there may be more than the last `read` took."""
        self.pushed = PrinterStatus()
        """The status that the printer has pushed on this connection (automatic status back)."""
        self.echoes: deque[bytes] = deque(maxlen=ECHOES_KEPT)
        """Process IDs that came on this connection; `Device.take_echoes` empties it."""

    def fileno(self) -> int:
        """A descriptor that is readable when the printer has said something, or is gone."""
        return self._transport.fileno()

    def read(self) -> list[Reply]:
        """The replies that have arrived, in TURN_BYTES at most.

        Raises LinkLost at the end of the stream, after what came before it, and Talkative.
        """
        replies: list[Reply] = []
        for _ in range(TURN_BYTES // _PIECE):
            data = self._receive() if self._end is None else b""
            self.heard += len(data)
            self.more = bool(data)
            if self._talk.too_much(len(data), time.monotonic()):
                self._end = Talkative()
                raise self._end
            if not data:
                break
            for reply in self._reader.feed(data):
                if isinstance(reply, AsbUnit):
                    self.pushed = after_asb(self.pushed, reply)
                elif isinstance(reply, ProcessIdEcho):
                    self.echoes.append(reply.process_id)
                replies.append(reply)
        if self._end is not None and not replies:
            raise self._end
        return replies

    def _receive(self) -> bytes:
        """What can be read now; empty = nothing, or the stream has ended, and `_end` says how."""
        try:
            data = self._transport.read(_PIECE)
        except OSError as error:
            # The system reports it once only, and answers that came before it still count.
            self._end = LinkLost(f"read: {error.strerror}")
            return b""
        if data is None:
            self._drop_torn_block()
            return b""
        if data:
            self._heard_at = time.monotonic()
        else:
            self._end = LinkLost("closed by the printer", orderly=True)
        return data

    def write(self, data: bytes | memoryview) -> int:
        """Write as much as is taken now; returns how many bytes that were. Raises LinkLost."""
        try:
            return self._transport.write(data)
        except OSError as error:
            raise LinkLost(f"write: {error.strerror}") from error

    def wait(self, limit_s: float, *, writable: bool = False, also: int | None = None) -> None:
        """Until something can be read (or, if asked, written), for `limit_s` or one slice, whichever is shorter.

        `also` is a further descriptor that ends the wait when it has something to read.
        """
        self._transport.wait(limit_s, writable=writable, also=also)

    def queued(self) -> int:
        """Bytes that were written and that the far end does not have yet."""
        return self._transport.unsent()

    def vitals(self) -> Vitals | None:
        """What the system knows about the far end; None where it knows nothing."""
        return self._transport.vitals()

    def expect_life(self, limit_s: float | None) -> None:
        """From now on the connection breaks when the far end is silent for `limit_s` and 1 s; None = as when idle."""
        self._transport.expect_life(limit_s)

    def status(self) -> PrinterStatus:
        """What is known of the printer without asking it: what it pushed, or what the transport knows."""
        own = self._transport.status()
        return self.pushed if trouble(own) is None else own

    def close(self, pulse: Pulse) -> None:
        """Close in order: say that we are done, and wait until all has gone out, 1 s at most."""
        until = time.monotonic() + CLOSE_LIMIT_S
        with contextlib.closing(self._transport):
            try:
                self.read()
                self._transport.finish()
                while (left := until - time.monotonic()) > 0 and not self._transport.finished():
                    pulse()
                    self.wait(min(left, _FINISH_LOOK_S))
                    self.read()
            except (LinkLost, OSError):
                return

    def drop(self) -> None:
        """Close without waiting."""
        self._transport.close()

    def abort(self) -> None:
        """Close and take back what has not been delivered."""
        self._transport.abort()

    def _drop_torn_block(self) -> None:
        if self._reader.pending and time.monotonic() - self._heard_at >= _BLOCK_LIMIT_S:
            self._reader.flush()
