"""The second port of many LAN boards: `ESC v` in, four status bytes out, whatever the first port does."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

from kps.demo.virtual_printer.listener import Listener

QUERY = b"\x1bv"
_READ = 1024


class StatusPort:
    """One listener and its connections, served by the printer's thread. Raises OSError if the port cannot be had."""

    def __init__(self, host: str, port: int, poll: select.poll, answer: Callable[[], bytes]) -> None:
        self._poll = poll
        self._answer = answer
        self._clients: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        self._listener = Listener(host, port, poll)
        self.port = self._listener.port

    def set_open(self, open_: bool) -> None:
        """Serve, or refuse and end what is connected."""
        self._listener.set_open(open_)
        if not open_:
            self._drop_all()

    def sockets(self) -> Iterator[socket.socket]:
        """The listener and all connections."""
        yield self._listener.socket
        yield from self._clients.values()

    def serve(self, descriptor: int) -> None:
        """Do what poll() asks for, if it concerns us."""
        if self._listener.owns(descriptor):
            self._accept()
        elif descriptor in self._clients:
            self._read(descriptor)

    def close(self) -> None:
        """Close everything."""
        self._drop_all()
        self._listener.close()

    def _accept(self) -> None:
        client = self._listener.accept()
        if client is not None:
            self._clients[client.fileno()] = client
            self._tails[client.fileno()] = b""
            self._poll.register(client, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        client = self._clients[descriptor]
        try:
            data = client.recv(_READ)
            joined = self._tails[descriptor] + data
            if questions := joined.count(QUERY):
                client.send(self._answer() * questions)
        except BlockingIOError:
            return
        except OSError:
            self._drop(descriptor)
            return
        if data:
            self._tails[descriptor] = QUERY[:1] if joined.endswith(QUERY[:1]) else b""
        else:
            self._drop(descriptor)

    def _drop_all(self) -> None:
        for descriptor in list(self._clients):
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        client = self._clients.pop(descriptor)
        del self._tails[descriptor]
        self._poll.unregister(client)
        client.close()
