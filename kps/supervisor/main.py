"""Start of the service: settings, ports, the sweep of a dead generation, then the loop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import cast

from kps import logs
from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, load
from kps.core.settings import Settings
from kps.process.child import name_process
from kps.process.clocks import monotonic
from kps.supervisor.generation import AlreadyRunning, RunDir, RunDirUnusable, sweep
from kps.supervisor.loop import EXIT_STOPPED, Supervisor
from kps.web.app import health_app, widget_app
from kps.web.server import CannotListen, HttpServer

EXIT_BUG = 1
PORT_PATIENCE_S = 10.0
"""A port that the last generation has not let go of yet may be free in a moment."""

log = logging.getLogger("kps.supervisor")


def main() -> int:
    """Run one instance. Returns the exit code for bad settings; otherwise it ends the process itself."""
    try:
        settings = load()
    except BadConfiguration as bad:
        for fault in bad.faults:
            print(f"kps: {fault}", file=sys.stderr)  # noqa: T201 - before there is a log
        return EXIT_BAD_CONFIGURATION
    name_process("supervisor")
    folder = Path(settings.log_dir) if settings.log_dir else None
    handle = logs.configure(
        "supervisor", level=settings.log_level, folder=folder, file_format=cast(logs.FileFormat, settings.log_format)
    )
    stacks = logs.enable_stack_dumps(folder, "supervisor")
    code = EXIT_BUG
    try:
        code = _serve(settings, handle, stacks)
    except Exception:
        log.critical("process failed", exc_info=True)
    finally:
        logging.shutdown()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        # multiprocessing's atexit would wait for ever for a child that we could not end.
        os._exit(code)


def _serve(settings: Settings, handle: logs.LogHandle, stacks: Path | None) -> int:
    run_dir = RunDir(Path(settings.run_dir))
    try:
        left = run_dir.take()
    except (AlreadyRunning, RunDirUnusable) as fault:
        log.critical("cannot start", extra={"cause": str(fault)})
        return EXIT_BAD_CONFIGURATION
    supervisor = Supervisor(settings, run_dir, handle, stacks)
    supervisor.install_signals()
    health = HttpServer(
        health_app(supervisor.fresh_snapshot, token=settings.http_token),
        settings.health_host,
        settings.health_port,
        "health",
    )
    bound = _bind_patiently(health, supervisor)
    if bound is not None:
        if bound:
            log.critical("cannot start", extra={"cause": bound})
        run_dir.leave()
        return EXIT_BAD_CONFIGURATION if bound else EXIT_STOPPED
    servers = [health]
    if settings.widget_port:
        widget = HttpServer(widget_app(supervisor.fresh_snapshot), settings.health_host, settings.widget_port, "widget")
        try:
            widget.bind()
            servers.append(widget)
        except CannotListen as taken:
            log.warning("port taken", extra={"port": settings.widget_port, "cause": str(taken)})
    for server in servers:
        server.start()
        supervisor.add_servant(_Watch(server))
    log.info(
        "started", extra={"instance": settings.instance_name, "port": settings.health_port, "owner": supervisor.owner}
    )
    gone = sweep(left)
    try:
        return supervisor.run(left.owner if gone else "")
    finally:
        for server in servers:
            server.stop()


def _bind_patiently(server: HttpServer, supervisor: Supervisor) -> str | None:
    """None once bound; a sentence if the port stays taken; '' if we were told to stop meanwhile."""
    end = monotonic() + PORT_PATIENCE_S
    while True:
        try:
            server.bind()
        except CannotListen as taken:
            if monotonic() >= end:
                return str(taken)
        else:
            return None
        if supervisor.told_to_stop(within_s=0.25):
            return ""


class _Watch:
    """Closes overdue HTTP connections, and starts a server again whose thread has ended."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._due = 0.0

    def __call__(self) -> None:
        if monotonic() < self._due:
            return
        self._due = monotonic() + 1.0
        if not self._server.alive:
            log.error("http server died", extra={"server": self._server.name})
            with contextlib.suppress(CannotListen):
                self._server.stop()
                self._server.bind()
                self._server.start()
            return
        self._server.sweep()
