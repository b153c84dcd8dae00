"""A WSGI application on a port, served by waitress in threads of its own, so that no client can starve a probe."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waitress.server import create_server
from waitress.wasyncore import close_all

from kps.web.ports import CannotListen, PortTaken, listen

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["CannotListen", "HttpServer", "Limits", "PortTaken"]

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

    def bind(self) -> None:
        """Open the port. Raises PortTaken if somebody else has it, CannotListen for every other cause."""
        listener, self._listener = self._listener or listen(self._host, self._wanted_port), None
        self._server = create_server(
            self._app,
            sockets=[listener],
            threads=self._limits.threads,
            connection_limit=self._limits.connections,
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
        """Serve from a daemon thread. Needs `bind`."""
        self._thread = threading.Thread(target=self._server.run, name=f"http-{self.name}", daemon=True)
        self._thread.start()

    def sweep(self) -> None:
        """Close the connections that are overdue. Cheap, never blocks; meant for each round of the main loop.

        waitress counts its own time-out from the last byte, so a client that sends one byte now and then would keep
        its place for ever. This is the only function that looks into waitress.
        """
        # The serving thread empties the trigger's pipe: without it, our writes would fill the pipe and block.
        if self.alive and any(True for _ in self._overdue()):
            self._server.trigger.pull_trigger(self._close_overdue)

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

    def _close_overdue(self) -> None:
        """Runs in the serving thread, so that no request can be completed between the look and the closing."""
        closed = 0
        for channel in self._overdue():
            channel.will_close = True
            closed += 1
        if closed:
            log.debug("http connections closed", extra={"server": self.name, "connections": closed})
