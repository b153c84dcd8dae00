"""The HTTP ports: ours at once, served when the children have started, for a ticket may wait for those."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import threading
from typing import TYPE_CHECKING

from kps.core.limits import http_connections
from kps.core.settings import Settings
from kps.process.clocks import monotonic
from kps.supervisor.loop import Supervisor
from kps.web.ports import CannotListen, listen

if TYPE_CHECKING:
    from kps.web.server import HttpServer

PORT_PATIENCE_S = 10.0
"""A port that the last generation has not closed yet may be free in a moment."""
SERVED_AFTER_S = 1.5
"""At the latest, whether the children are up or not: without a database /health has to say so."""
STOP_LIMIT_S = 5.0
OPEN_AGAIN_S = 2.0
"""Between tries to serve the ports, after one for which there was no descriptor or no thread."""
SPARE = 16
"""Descriptors that must be free, or HTTP closes idle connections: what a start and a mailbox take for a moment."""

log = logging.getLogger("kps.supervisor")


class HttpPorts:
    """`open` once, then a call in each turn of the main loop, `close` at the end."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._health: socket.socket | None = None
        self._widget: socket.socket | None = None
        self._made: tuple[HttpServer, ...] = ()
        self._servers: tuple[HttpServer, ...] = ()
        """The same, once all of them serve."""
        self._opening: threading.Thread | None = None
        self._serve_at = monotonic() + SERVED_AFTER_S
        self._watch_at = 0.0
        self._trouble: Exception | None = None

    def open(self) -> str | None:
        """Take the ports. None once they are ours; a sentence if one stays taken; '' if we were told to stop."""
        settings = self._settings
        end = monotonic() + PORT_PATIENCE_S
        while self._health is None:
            try:
                self._health = listen(settings.health_host, settings.health_port)
            except CannotListen as taken:
                if monotonic() >= end:
                    return str(taken)
                if self._supervisor.told_to_stop(within_s=0.25):
                    return ""
        if settings.widget_port:
            try:
                self._widget = listen(settings.health_host, settings.widget_port)
            except CannotListen as taken:
                log.warning("port taken", extra={"port": settings.widget_port, "cause": str(taken)})
        self._serve_at = monotonic() + SERVED_AFTER_S
        return None

    def __call__(self) -> None:
        """Have the ports served when it is time; then close overdue connections, and mend a server that has died."""
        now = monotonic()
        if self._opening is None:
            if self._supervisor.all_up or now >= self._serve_at:
                # Loading takes 0.2 s, and the main loop does no long work.
                opening = threading.Thread(target=self._serve, name="http-opening", daemon=True)
                try:
                    opening.start()
                except RuntimeError as error:  # the host allows no further thread now
                    self._trouble = error
                    self._open_again(now)
                else:
                    self._opening = opening
        elif self._servers:
            if self._supervisor.short_of_descriptors:
                for server in self._servers:
                    server.shed()
            if now >= self._watch_at:
                self._watch_at = now + 1.0
                self._share()
                for server in self._servers:
                    _watch(server)
        elif not self._opening.is_alive() and not self._servers:
            if self._trouble is None:
                raise RuntimeError("HTTP cannot be served")  # its own traceback is in the log
            self._open_again(now)

    def _open_again(self, now: float) -> None:
        log.error("http cannot be served", extra={"cause": str(self._trouble)})
        self._opening, self._trouble, self._serve_at = None, None, now + OPEN_AGAIN_S

    def _share(self) -> None:
        """Printing has the descriptors first: what it leaves is shared by the ports."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = http_connections(soft, self._supervisor.printers)
        for server in self._servers:
            server.connections = max(1, most // len(self._servers))
            if _low(soft):
                server.shed()

    def close(self) -> None:
        """Close the ports and all connections; within seconds."""
        if self._opening is not None:
            self._opening.join(STOP_LIMIT_S)
        for server in self._made:
            server.stop()
        for listener in (self._health, self._widget):
            if listener is not None:
                listener.close()

    def _serve(self) -> None:
        """In a thread of its own. What the host has no room for now is tried again later."""
        try:
            self._made = self._made or self._make()
            for server in self._made:
                if not server.alive:
                    server.bind()
                    server.start()
        except (ImportError, MemoryError, OSError, RuntimeError, CannotListen) as error:
            self._trouble = error
        else:
            self._servers = self._made

    def _make(self) -> tuple[HttpServer, ...]:
        from kps.web.app import health_app, widget_app
        from kps.web.server import HttpServer

        settings, snapshot = self._settings, self._supervisor.fresh_snapshot
        host = settings.health_host
        app = health_app(snapshot, token=settings.http_token)
        servers = [HttpServer(app, host, settings.health_port, "health", listener=self._health)]
        if self._widget is not None:
            app = widget_app(snapshot)
            servers.append(HttpServer(app, host, settings.widget_port, "widget", listener=self._widget))
        return tuple(servers)


def _watch(server: HttpServer) -> None:
    if server.alive:
        server.sweep()
        return
    log.error("http server died", extra={"server": server.name})
    with contextlib.suppress(CannotListen, OSError, RuntimeError):  # tried again in a second
        server.stop()
        server.bind()
        server.start()


def _low(soft: int) -> bool:
    """Whether few descriptors are left: the kernel gives out the lowest number that is free."""
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(lowest)
    return lowest >= soft - SPARE
