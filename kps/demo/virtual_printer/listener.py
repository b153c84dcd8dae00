"""A listener that can refuse: its address stays ours while connects are refused."""

from __future__ import annotations

import select
import socket

_BACKLOG = 16
_SEND_BUFFER = 4096
"""A printer's is small, and the system's would hide that a host does not read."""


class Listener:
    """An address of this host, at first closed: connects are refused, and nobody else gets the port.

    Raises OSError if the address cannot be had. `receive_buffer` in bytes; None = as the system likes it.
    """

    def __init__(self, host: str, port: int, poll: select.poll, receive_buffer: int | None = None) -> None:
        self._host = host
        self._poll = poll
        self._receive_buffer = receive_buffer
        self.port = port
        self.open = False
        self.socket = self._bind()
        self.port = self.socket.getsockname()[1]

    def set_open(self, open_: bool) -> None:
        """Accept connects, or refuse them."""
        if open_ == self.open:
            return
        if open_:
            self.socket.listen(_BACKLOG)
            self._poll.register(self.socket, select.POLLIN)
        else:
            self._poll.unregister(self.socket)
            self.socket.close()
            self.socket = self._bind()
        self.open = open_

    def owns(self, descriptor: int) -> bool:
        """Whether this is our descriptor."""
        return descriptor == self.socket.fileno()

    def accept(self) -> socket.socket | None:
        """The next host that has connected; None = it has gone again."""
        try:
            accepted, _ = self.socket.accept()
        except (BlockingIOError, ConnectionError):
            return None
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return accepted

    def close(self) -> None:
        """Give the address up."""
        if self.open:
            self._poll.unregister(self.socket)
        self.open = False
        self.socket.close()

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._receive_buffer is not None:  # before listen, or the kernel would hide that the window closes
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            listener.setblocking(False)
            listener.bind((self._host, self.port))
        except OSError:
            listener.close()
            raise
        return listener
