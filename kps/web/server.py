"""A WSGI application on a port, served by waitress in threads of its own, so that no client can starve a probe."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waitress.server import create_server
from waitress.task import ThreadedTaskDispatcher
from waitress.wasyncore import close_all

from kps.core.limits import is_shortage
from kps.web.ports import CannotListen, PortTaken, listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["CannotListen", "HttpServer", "Limits", "PortTaken"]

SLACK = 8
"""Connections that are let in beyond the limit while each of the others has an answer in the making."""
TAKEN = 8
"""Descriptors that a server opens for itself: half of them open would be lost for good."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the server one client, or a crowd of them, may use. Times in seconds."""

    connections: int = 512
    threads: int = 4
    idle_s: int = 5
    """A connection on which nothing moves is closed after this."""
    cleanup_s: int = 1
    request_s: float = 6.0
    """A connection without a complete request is closed after this, however busily it drips bytes."""
    response_s: float = 30.0
    """The same for a client that will not read its answer."""
    header_bytes: int = 8 * 1024
    body_bytes: int = 64 * 1024


class HttpServer:
    """One port. `bind`, then `start`; `sweep` in each round of the main loop; `stop` at the end, as often as you like.

    waitress buffers a request completely before one of its threads sees it, so half-open requests cost no thread.
    After the serving thread has died (`alive` is False) `stop`, `bind` and `start` open the port anew.
    """

    def __init__(
        self,
        app: WSGIApplication,
        host: str,
        port: int,
        name: str = "http",
        *,
        limits: Limits | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        """`listener`: the port as somebody has opened it already; the server's own from the first `bind` on."""
        self._app = app
        self._host = host
        self._wanted_port = port
        self.name = name
        self._limits = limits or Limits()
        self._connections = self._limits.connections
        self._listener = listener
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is really open: differs from the wanted one if that was 0."""
        return int(self._server.effective_port) if self._server is not None else self._wanted_port

    @property
    def alive(self) -> bool:
        """Whether the serving thread runs. False before `start` too."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def connections(self) -> int:
        """So many clients are let in; beyond that an idle one has to go for each that comes. May be set at any time."""
        return self._connections

    @connections.setter
    def connections(self, most: int) -> None:
        self._connections = most
        if self._server is not None:
            self._server.adj.connection_limit = _in_waitress(most)

    def bind(self) -> None:
        """Open the port. Raises PortTaken if somebody else has it, CannotListen for every other cause.

        Raises OSError or RuntimeError where the host has no descriptors or no threads for it.
        """
        _make_sure_of(TAKEN)
        self._listener = self._listener or listen(self._host, self._wanted_port)
        workers = ThreadedTaskDispatcher()
        try:
            workers.set_thread_count(self._limits.threads)
            self._server = self._waitress(self._listener, workers)
        except (OSError, RuntimeError):
            workers.shutdown(timeout=0)
            raise
        self._listener = None
        gate = _Gate(self, self._server)
        self._server.accept, self._server.maintenance = gate.accept, gate.maintenance

    def _waitress(self, listener: socket.socket, workers: ThreadedTaskDispatcher) -> Any:
        return create_server(
            self._app,
            _dispatcher=workers,
            sockets=[listener],
            threads=self._limits.threads,
            connection_limit=_in_waitress(self._connections),
            channel_timeout=self._limits.idle_s,
            cleanup_interval=self._limits.cleanup_s,
            max_request_header_size=self._limits.header_bytes,
            max_request_body_size=self._limits.body_bytes,
            asyncore_use_poll=True,  # select() raises above fd 1023, and that would end the serving thread
            asyncore_loop_timeout=1,
            log_socket_errors=False,
            ident=None,  # no Server header
        )

    def start(self) -> None:
        """Serve from a daemon thread. Needs `bind`. Raises RuntimeError if there may be no further thread."""
        thread = threading.Thread(target=self._server.run, name=f"http-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self.stop()
            raise
        self._thread = thread

    def sweep(self) -> None:
        """Close the connections that are overdue. Cheap, never blocks; meant for each round of the main loop.

        waitress counts its own time-out from the last byte, so a client that sends one byte now and then would keep
        its place for ever. Besides `shed` and _Gate this is all that looks into waitress.
        """
        self._have_closed(self._overdue)

    def shed(self) -> None:
        """Close every connection without a request: somebody needs their descriptors more. As cheap as `sweep`."""
        self._have_closed(self._idle)

    def _have_closed(self, which: Callable[[], Iterator[Any]]) -> None:
        # The serving thread empties the trigger's pipe: without it, our writes would fill the pipe and block. One wish
        # at a time is enough, and never fills it.
        if self.alive and not self._server.trigger.thunks and any(True for _ in which()):
            self._server.trigger.pull_trigger(lambda: self._close(which()))

    def stop(self) -> None:
        """Close the port and all its connections. Returns within seconds, whatever the clients do."""
        if self._server is None:
            return
        server, self._server = self._server, None
        held = dict(server._map)
        if self.alive:
            # An empty map ends the serving loop. It must not close the trigger itself: the thread may be woken by
            # another pull before ours has written, and our write would go to a closed, perhaps reused descriptor.
            server.trigger.pull_trigger(server._map.clear)
            assert self._thread is not None
            self._thread.join(timeout=2)
        for channel in list(server.active_channels.values()):
            channel.handle_close()  # tells a thread that is still writing an answer that its client is gone
        # The answering threads pull the trigger too: only when they have ended may it be closed.
        server.task_dispatcher.shutdown(timeout=2)
        close_all(held, ignore_all=True)
        self._thread = None

    def _overdue(self) -> Iterator[Any]:
        now = time.time()  # waitress stamps its channels with the wall clock
        for channel in list(self._server.active_channels.values()):
            limit = self._limits.response_s if channel.total_outbufs_len else self._limits.request_s
            if not channel.requests and not channel.will_close and channel.creation_time < now - limit:
                yield channel

    def _idle(self) -> Iterator[Any]:
        return (channel for channel in list(self._server.active_channels.values()) if _is_idle(channel))

    def _close(self, channels: Iterator[Any]) -> None:
        """Runs in the serving thread, so that no request can be completed between the look and the closing."""
        closed = 0
        for channel in channels:
            channel.will_close = True
            closed += 1
        if closed:
            log.debug("http connections closed", extra={"server": self.name, "connections": closed})


class _Gate:
    """How a waitress server lets clients in: where there is no more room, the longest idle one goes first."""

    def __init__(self, ours: HttpServer, server: Any) -> None:
        self._ours = ours
        self._server = server
        self._accept: Callable[[], Any] = server.accept
        self._maintain: Callable[[float], None] = server.maintenance

    def accept(self) -> Any:
        """In place of waitress's own, in its serving thread. None = nobody has come in this time."""
        if len(self._server.active_channels) >= self._ours.connections and self._close_longest_idle():
            return None  # what is known of its descriptor belongs to it until the next turn
        try:
            return self._accept()
        except OSError as error:
            if not is_shortage(error):
                raise
            # A client that waits keeps the listener readable: to accept again at once, for ever, would burn a core.
            self._close_longest_idle()
            self._server.accepting = False
            return None

    def maintenance(self, now: float) -> None:
        """In place of waitress's own, each second."""
        self._maintain(now)
        self._server.accepting = True

    def _close_longest_idle(self) -> bool:
        idle = [channel for channel in self._server.active_channels.values() if _is_idle(channel)]
        if not idle:
            return False
        min(idle, key=lambda channel: channel.last_activity).handle_close()
        return True


def _is_idle(channel: Any) -> bool:
    """Whether it has no whole request, and no answer is on its way."""
    return not channel.requests and not channel.total_outbufs_len and not channel.will_close


def _in_waitress(connections: int) -> int:
    """Its limit counts the listener and its trigger too, and there it stops accepting; we close an idle one instead."""
    return connections + SLACK + 2


def _make_sure_of(count: int) -> None:
    """Raises OSError if there are not so many free descriptors."""
    taken: list[int] = []
    try:
        for _ in range(count):
            taken.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in taken:
            os.close(descriptor)
