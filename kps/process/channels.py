"""Pipes between processes: small frames, one reader, one writer, gone with either of them.

Nobody ever waits here for the other side. What the pipe does not take at once is kept and goes out later, whole and in
order; what has not arrived whole is kept until its rest is there.
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import pickle
import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from kps.process.clocks import monotonic

FRAME_LIMIT = 4000
"""Bytes. Ids and tokens fit easily, and the kernel takes so little as a whole or not at all."""
OUTBOX_LIMIT = 4000
"""Most frames that wait for a reader. A sender that replaces outdated frames never comes near it."""

_HEADER = struct.Struct("!I")
_WITH_END = 0x8000_0000
"""In the header of a frame that brings an end of another pipe."""
_READ_BYTES = 16384
_LATER = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""The kernel has no room for it now, whatever the reader does."""


class PeerGone(Exception):
    """The other end of the pipe is closed: its process has ended, or is about to."""


class PeerStuck(Exception):
    """The other end has not read its pipe for so long that nothing more is kept for it: it hangs."""


class FrameTooBig(Exception):
    """A message is not what a pipe is for: it carries more than ids."""


class EndLost(Exception):
    """The end that came with a frame found no free descriptor here. The frames before and after it are whole."""


class _Frame:
    """A frame on its way, and the end that goes with it."""

    __slots__ = ("begun", "bytes", "end", "topic")

    def __init__(self, data: bytes, end: Connection[Any, Any] | None, topic: object) -> None:
        self.bytes = memoryview(data)
        self.end = end
        self.topic = topic
        self.begun = False

    def drop(self) -> None:
        if self.end is not None:
            self.end.close()
            self.end = None


class Channel:
    """One end of a duplex pipe. Any broken end has one meaning: PeerGone."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        """Takes the connection over. Raises OSError where there is no descriptor for that."""
        self._own(os.dup(connection.fileno()))
        connection.close()

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Channel:
        """Takes over the descriptor of one end."""
        channel = cls.__new__(cls)
        channel._own(descriptor)
        return channel

    def _own(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._arrived = bytearray()
        self._ends: deque[int | None] = deque()
        """The ends that have come with frames that are not taken yet; None = lost."""
        self._brought: int | None = None
        self._brings = False
        self._outbox: deque[_Frame] = deque()
        self._unread_since: float | None = None
        self._pressed = False
        self.frame_limit = FRAME_LIMIT
        """Bytes of a frame, in both directions. A channel for more than ids has a higher one at both ends."""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, message: tuple[Any, ...], *, topic: object = None) -> None:
        """Send one frame, now or as soon as the pipe takes it. Raises PeerGone, PeerStuck or FrameTooBig.

        An older message of the same `topic` that still waits is not sent any more: this one replaces it.
        """
        self._post(_Frame(self._framed(message, 0), None, topic))

    def send_end(self, message: tuple[Any, ...], end: Connection[Any, Any]) -> None:
        """Send a frame together with an end of another pipe, which is ours no more whatever happens.

        Raises what `send` raises, and OSError where the kernel takes no end now.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(end.close)
            frame = _Frame(self._framed(message, _WITH_END), end, None)
            undo.pop_all()
        self._post(frame)
        if self._pressed and self._outbox and self._outbox[-1] is frame:
            self._outbox.pop().drop()
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    def _post(self, frame: _Frame) -> None:
        if frame.topic is not None and self._outbox:
            kept = [one for one in self._outbox if one.begun or one.topic != frame.topic]
            self._outbox = deque(kept)
        if len(self._outbox) >= OUTBOX_LIMIT:
            frame.drop()
            raise PeerStuck
        self._outbox.append(frame)
        self.flush()

    @property
    def waiting(self) -> int:
        """Frames that the pipe has not taken yet; `flush` when it is writable."""
        return len(self._outbox)

    @property
    def unread_since(self) -> float | None:
        """Monotonic time since which the pipe is full and its reader has taken nothing; None = it is not full."""
        return self._unread_since

    @property
    def awaited(self) -> int:
        """What to poll the descriptor for: frames, and, if it is worth waiting for, that the pipe takes what waits."""
        return select.POLLIN | (select.POLLOUT if self._outbox and not self._pressed else 0)

    def flush(self) -> None:
        """Hand over what the pipe takes now. Raises PeerGone."""
        self._pressed = False
        while self._outbox:
            frame = self._outbox[0]
            try:
                sent = self._write(frame)
            except BlockingIOError:
                self._unread_since = self._unread_since or monotonic()
                return
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in _LATER:
                    self._pressed = True
                    return
                self._throw_away()
                raise PeerGone from error
            self._unread_since = None
            frame.begun = True
            frame.drop()  # the kernel has a copy of its own
            frame.bytes = frame.bytes[sent:]
            if not frame.bytes:
                self._outbox.popleft()

    def _framed(self, message: tuple[Any, ...], flag: int) -> bytes:
        frame = bytes(ForkingPickler.dumps(message))
        if len(frame) > self.frame_limit:
            raise FrameTooBig(f"{message[0]}: {len(frame)} bytes")
        return _HEADER.pack(len(frame) | flag) + frame

    def _write(self, frame: _Frame) -> int:
        if frame.end is None:
            return self._socket.send(frame.bytes, socket.MSG_DONTWAIT)
        rights = array.array("i", [frame.end.fileno()])
        return self._socket.sendmsg(
            [frame.bytes], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT
        )

    def _throw_away(self) -> None:
        while self._outbox:
            self._outbox.popleft().drop()
        self._unread_since = None

    # -- receiving -------------------------------------------------------------------------------------------------

    def receive(self, timeout_s: float = 0.0) -> tuple[Any, ...] | None:
        """The next frame, or None if none came whole in time. Raises PeerGone after the last one.

        What waits to be sent goes out meanwhile.
        """
        self._drop_brought()
        if self._outbox:
            self._flush_or_leave_it()
        until = monotonic() + timeout_s if timeout_s > 0 else 0.0
        while (payload := self._next()) is None:
            if self._read():
                continue
            left = until - monotonic() if until else 0.0
            if left <= 0:
                return None
            poll = select.poll()
            poll.register(self._socket, self.awaited)
            poll.poll(left * 1000)
            self._flush_or_leave_it()
        message = pickle.loads(payload)  # noqa: S301 - from our own processes
        assert isinstance(message, tuple)
        return message

    def receive_end(self) -> Channel:
        """The end that came with the frame just received. Raises EndLost."""
        end, self._brought = self._brought, None
        if end is None:
            raise EndLost("no free descriptor" if self._brings else "the frame brought none")
        return Channel.of_descriptor(end)

    def _flush_or_leave_it(self) -> None:
        with contextlib.suppress(PeerGone):  # what it had sent before counts still
            self.flush()

    def _next(self) -> bytes | None:
        """The payload of the next frame that is here whole."""
        arrived = self._arrived
        if len(arrived) < _HEADER.size:
            return None
        (header,) = _HEADER.unpack_from(arrived)
        size = _HEADER.size + (header & ~_WITH_END)
        if size > _HEADER.size + self.frame_limit:
            raise PeerGone(f"a frame that claims {size} bytes")
        if len(arrived) < size:
            return None
        payload = bytes(arrived[_HEADER.size : size])
        del arrived[:size]
        self._brings = bool(header & _WITH_END)
        if self._brings:
            self._brought = self._ends.popleft() if self._ends else None
        return payload

    def _read(self) -> bool:
        """Take what lies ready; False = nothing does."""
        try:
            data, extra, flags, _ = self._socket.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return False
        except (OSError, ValueError) as error:
            raise PeerGone from error
        # One read never goes beyond the first end that it meets.
        for level, kind, content in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self._ends.extend(array.array("i", content[: len(content) // 4 * 4]))
        if flags & socket.MSG_CTRUNC:
            self._ends.append(None)
        if not data:
            raise PeerGone
        self._arrived += data
        return True

    def _drop_brought(self) -> None:
        if self._brought is not None:
            os.close(self._brought)
        self._brought, self._brings = None, False

    def close(self) -> None:
        """Close this end; closing twice is harmless."""
        self._throw_away()
        self._drop_brought()
        while self._ends:
            end = self._ends.popleft()
            if end is not None:
                os.close(end)
        self._socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_outbox"):
            self.close()

    @property
    def closed(self) -> bool:
        """Whether this end has been closed."""
        return self._socket.fileno() < 0


def drain(channel: Channel, take: Callable[[tuple[Any, ...]], None], limit_s: float) -> None:
    """Take every frame until the peer is gone, or nothing came for `limit_s`."""
    try:
        while (message := channel.receive(limit_s)) is not None:
            take(message)
    except PeerGone:
        return
