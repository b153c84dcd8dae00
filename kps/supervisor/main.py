"""Start of the service: settings, ports, the sweep of a dead generation, then the loop."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

from kps import logs
from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, load
from kps.core.settings import Settings
from kps.process.child import name_process, raise_descriptors
from kps.process.limits import host_limits
from kps.supervisor.http_ports import HttpPorts
from kps.supervisor.log_folder import LogFolder
from kps.supervisor.loop import EXIT_STOPPED, Supervisor
from kps.supervisor.run_dir import AlreadyRunning, RunDir, RunDirUnusable, sweep
from kps.supervisor.template import Template

EXIT_BUG = 1

log = logging.getLogger("kps.supervisor")


def main(template: Template) -> int:
    """Run one instance. Returns the exit code for bad settings; otherwise it ends the process itself."""
    try:
        settings = load()
    except BadConfiguration as bad:
        for fault in bad.faults:
            print(f"kps: {fault}", file=sys.stderr)  # noqa: T201 - before there is a log
        return EXIT_BAD_CONFIGURATION
    name_process("supervisor")
    raise_descriptors()
    run_dir = RunDir(Path(settings.run_dir))
    log_folder = LogFolder(Path(settings.log_dir), settings.instance_name) if settings.log_dir else None
    refused: AlreadyRunning | RunDirUnusable | None = None
    try:
        run_dir.take()
        with contextlib.ExitStack() as undo:
            undo.callback(run_dir.leave)
            folder = log_folder.take() if log_folder is not None else None
            undo.pop_all()
    except (AlreadyRunning, RunDirUnusable) as why:
        refused, folder = why, None  # a log file may be the other one's
    handle = logs.configure(
        "supervisor", level=settings.log_level, folder=folder, file_format=cast(logs.FileFormat, settings.log_format)
    )
    code = EXIT_BUG
    try:
        if refused is not None:
            log.critical("cannot start", extra={"cause": str(refused)})
            code = EXIT_BAD_CONFIGURATION
        else:
            if folder is not None and folder != Path(settings.log_dir):
                log.warning("log folder shared", extra={"path": settings.log_dir, "text": str(folder)})
                settings = replace(settings, log_dir=str(folder))
            code = _serve(settings, run_dir, handle, logs.enable_stack_dumps(folder, "supervisor"), template)
    except Exception:
        log.critical("process failed", exc_info=True)
    finally:
        handle.close()
        if sys.stdout is not None:  # it is, where we were started without one
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        # multiprocessing's atexit would wait for ever for a child that we could not end.
        os._exit(code)


def _serve(settings: Settings, run_dir: RunDir, handle: logs.LogHandle, stacks: Path | None, template: Template) -> int:
    left = run_dir.left()
    supervisor = Supervisor(settings, run_dir, handle, stacks, host_limits(), template)
    supervisor.install_signals()
    http_ports = HttpPorts(settings, supervisor)
    closed = http_ports.open()
    if closed is not None:
        if closed:
            log.critical("cannot start", extra={"cause": closed})
        run_dir.leave()
        return EXIT_BAD_CONFIGURATION if closed else EXIT_STOPPED
    supervisor.each_turn(http_ports)
    log.info(
        "started", extra={"instance": settings.instance_name, "port": settings.health_port, "owner": supervisor.owner}
    )
    gone = sweep(left)
    try:
        return supervisor.run(left.owner if gone else "")
    finally:
        http_ports.close()
