"""A serial or USB line to a virtual printer: a pseudo-terminal, whose device file a service can open.

As at a real line there is no connection: whoever opens the file next hears what the last one was not there to hear, and
the printer does not notice who is there.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import tty
from pathlib import Path
from types import TracebackType
from typing import Self

from kps.demo.virtual_printer.server import VirtualPrinter

_PIECE = 1024
_STOP_TIMEOUT = 10.0


class PseudoTerminal:
    """The line of a started printer; use it as a context manager. `path` is the host's end.

    With `link` that is a symbolic link, made here, as udev makes them: once unplugged it is gone, whereas the number of
    a pseudo-terminal is soon somebody else's. The printer takes from the line only what its buffer has room for.
    """

    def __init__(self, printer: VirtualPrinter, link: Path | None = None) -> None:
        self._near, far = os.openpty()
        tty.setraw(far)
        self._link = link
        self.path = os.ttyname(far)
        if link is not None:
            link.symlink_to(self.path)
            self.path = str(link)
        self._far: int | None = far  # held open: a line does not end because nobody listens at the moment
        self._printer = socket.create_connection((printer.host, printer.port), timeout=_STOP_TIMEOUT)
        # Small, so that a printer that reads nothing is felt at the host's end.
        self._printer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="pseudo-terminal", daemon=True)

    def start(self) -> Self:
        """Carry bytes both ways from now on."""
        for descriptor in (self._near, self._printer.fileno()):
            os.set_blocking(descriptor, False)
        self._thread.start()
        return self

    def unplug(self) -> None:
        """Pull the cable out of the host: its end hangs up. For good."""
        os.write(self._wake_writer, b"x")
        self._thread.join(_STOP_TIMEOUT)
        if self._far is not None:
            if self._link is not None:
                self._link.unlink()
            far, self._far = self._far, None
            os.close(far)
            os.close(self._near)
            self._printer.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _carry(self) -> None:
        """The thread: until it is woken, or the printer ends its side, as one does that is switched off."""
        there = self._printer.fileno()
        waiting = {self._near: b"", there: b""}
        other = {self._near: there, there: self._near}
        while True:
            poll = select.poll()
            poll.register(self._wake_reader, select.POLLIN)
            for end, data in waiting.items():
                # What the other end has not taken yet keeps this one from saying more.
                poll.register(end, (select.POLLOUT if data else 0) | (0 if waiting[other[end]] else select.POLLIN))
            for ready, events in poll.poll():
                if ready == self._wake_reader:
                    return
                if events & select.POLLOUT:
                    waiting[ready] = waiting[ready][os.write(ready, waiting[ready]) :]
                if events & select.POLLIN:
                    try:
                        heard = os.read(ready, _PIECE)
                    except ConnectionError:
                        return
                    if not heard:
                        return
                    waiting[other[ready]] += heard
                elif events & (select.POLLHUP | select.POLLERR):
                    return
