"""A serial or USB line to a virtual printer: a pseudo-terminal, whose device file a service can open.

A real line has no connections either: what the printer sends while the file is closed is read by whoever opens it next,
and the printer does not notice who has it open.
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
    """A line to a started printer; use it as a context manager. `path` is the host's end, a device file.

    With `link` it is a symbolic link, made here as udev makes them. Unplugging removes it, whereas the number of a
    pseudo-terminal is soon used again. The printer reads from the line only what its buffer has space for.
    """

    def __init__(self, printer: VirtualPrinter, link: Path | None = None) -> None:
        self._near, far = os.openpty()
        tty.setraw(far)
        self._link = link
        self.path = os.ttyname(far)
        if link is not None:
            link.symlink_to(self.path)
            self.path = str(link)
        self._far: int | None = far  # held open: the line must not hang up while no host has it open
        self._printer = socket.create_connection((printer.host, printer.port), timeout=_STOP_TIMEOUT)
        # Small, so that the host's writes block soon when the printer does not read.
        self._printer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _PIECE)
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="pseudo-terminal", daemon=True)

    def start(self) -> Self:
        """Carry bytes in both directions from now on."""
        for descriptor in (self._near, self._printer.fileno()):
            os.set_blocking(descriptor, False)
        self._thread.start()
        return self

    def unplug(self) -> None:
        """Pull the cable out of the host, for good: its end hangs up."""
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
        """The thread's work, until it is woken or the printer closes its side, as when it is switched off."""
        printer_end = self._printer.fileno()
        waiting = {self._near: b"", printer_end: b""}
        other = {self._near: printer_end, printer_end: self._near}
        while True:
            poll = select.poll()
            poll.register(self._wake_reader, select.POLLIN)
            for end, data in waiting.items():
                # An end is read only when the other end has taken what was read before.
                poll.register(end, (select.POLLOUT if data else 0) | (0 if waiting[other[end]] else select.POLLIN))
            for ready, events in poll.poll():
                if ready == self._wake_reader:
                    return
                if events & select.POLLOUT:
                    waiting[ready] = waiting[ready][os.write(ready, waiting[ready]) :]
                if events & select.POLLIN:
                    try:
                        data_in = os.read(ready, _PIECE)
                    except ConnectionError:
                        return
                    if not data_in:
                        return
                    waiting[other[ready]] += data_in
                elif events & (select.POLLHUP | select.POLLERR):
                    return
