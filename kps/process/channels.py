"""Pipes between processes: small frames, one reader, one writer, gone with either of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from typing import Any

FRAME_LIMIT = 4000
"""Bytes. A bigger frame of a stopped writer could block its reader in mid-frame; ids and tokens fit easily."""


class PeerGone(Exception):
    """The other end of the pipe is closed: its process has ended, or has been told to."""


class PeerStuck(Exception):
    """The other end does not read its pipe any more: it hangs."""


class FrameTooBig(Exception):
    """A message is not what a pipe is for: it carries more than ids."""


class Channel:
    """One end of a duplex pipe. Any broken end has one meaning: PeerGone."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._connection.fileno()

    def send(self, message: tuple[Any, ...]) -> None:
        """Send one frame. Raises PeerGone, PeerStuck (non-blocking end, full pipe) or FrameTooBig."""
        frame = bytes(ForkingPickler.dumps(message))
        if len(frame) > FRAME_LIMIT:
            raise FrameTooBig(f"{message[0]}: {len(frame)} bytes")
        try:
            self._connection.send_bytes(frame)
        except BlockingIOError as error:
            raise PeerStuck from error
        except (EOFError, OSError, ValueError) as error:
            raise PeerGone from error

    def receive(self, timeout_s: float = 0.0) -> tuple[Any, ...] | None:
        """The next frame, or None if none came in time. Raises PeerGone after the last one."""
        try:
            if not self._connection.poll(timeout_s):
                return None
            # Not even a header that claims two gigabytes costs more than a frame has.
            message = ForkingPickler.loads(self._connection.recv_bytes(FRAME_LIMIT))
        except (EOFError, OSError, ValueError) as error:
            raise PeerGone from error
        assert isinstance(message, tuple)
        return message

    def send_end(self, message: tuple[Any, ...], end: Connection[Any, Any], pid: int) -> None:
        """Send a frame followed by an end of another pipe; the caller closes its own copy of the end."""
        self.send(message)
        try:
            send_handle(self._connection, end.fileno(), pid)
        except BlockingIOError as error:
            raise PeerStuck from error
        except (EOFError, OSError, ValueError) as error:
            raise PeerGone from error

    def receive_end(self) -> Channel:
        """The end that follows the frame just received; to be called right after it."""
        try:
            return Channel(Connection(recv_handle(self._connection)))
        except (EOFError, OSError, ValueError, RuntimeError) as error:
            raise PeerGone from error

    def set_nonblocking(self) -> None:
        """A full pipe raises PeerStuck instead of blocking the sender."""
        os.set_blocking(self._connection.fileno(), False)

    def close(self) -> None:
        """Close this end; closing twice is harmless."""
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._connection.closed


def drain(channel: Channel, take: Callable[[tuple[Any, ...]], None], limit_s: float) -> None:
    """Take every frame until the peer is gone, or nothing came for `limit_s`."""
    try:
        while (message := channel.receive(limit_s)) is not None:
            take(message)
    except PeerGone:
        return
