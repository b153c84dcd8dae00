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
from kps.supervisor.doors import Doors
from kps.supervisor.generation import AlreadyRunning, RunDir, RunDirUnusable, sweep
from kps.supervisor.loop import EXIT_STOPPED, Supervisor

EXIT_BUG = 1

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
    doors = Doors(settings, supervisor)
    closed = doors.open()
    if closed is not None:
        if closed:
            log.critical("cannot start", extra={"cause": closed})
        run_dir.leave()
        return EXIT_BAD_CONFIGURATION if closed else EXIT_STOPPED
    supervisor.add_servant(doors)
    log.info(
        "started", extra={"instance": settings.instance_name, "port": settings.health_port, "owner": supervisor.owner}
    )
    gone = sweep(left)
    try:
        return supervisor.run(left.owner if gone else "")
    finally:
        doors.close()
