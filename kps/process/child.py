"""The start and the end of a child process, whatever it works on."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from kps import logs
from kps.core.settings import Settings
from kps.database import names
from kps.database.pos import PosAdapter
from kps.process.channels import Channel
from kps.process.shared_stats import Cell, Cells, ChildCells, Stats

EXIT_BUG = 1
TEMPORARY = "tmp"
"""Folder of the children's temporary files, in RUN_DIR."""


@dataclass(frozen=True, slots=True)
class ChildStart:
    """All that a child is given at its start."""

    name: str
    """`dispatcher`, or `printer-NAME`."""
    generation: int
    settings: Settings
    schema: PosAdapter
    owner: str
    """The instance's owner uuid."""
    cells: int
    """The number of its cells in the shared memory."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of the database's host, by name: the name server may be silent now."""


@dataclass(slots=True)
class ChildTools:
    """What a child's loop works with."""

    start: ChildStart
    control: Channel
    stats: Stats
    lease_cells: Cells
    log: logs.LogHandle


def run(start: ChildStart, control: Channel, pair: ChildCells, loop: Callable[[ChildTools], None]) -> None:
    """Set the process up, run its loop, and leave for good: no atexit of multiprocessing may hang the end."""
    name_process(start.name)
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        # Ctrl-C hits the whole group; children are stopped by message only.
        signal.signal(ignored, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    raise_descriptors()  # the supervisor's may just have been low
    settings = start.settings
    folder = Path(settings.log_dir) if settings.log_dir else None
    handle = logs.configure(
        start.name,
        level=settings.log_level,
        folder=folder,
        file_format=cast(logs.FileFormat, settings.log_format),
        generation=start.generation,
    )
    stacks = dump_stacks_on_usr2(logs.enable_stack_dumps(folder, start.name))
    _temporary_files_under(Path(settings.run_dir))
    # Our template may have been started with some blocked: only now does each of them have a handler.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    names.remember(start.names)
    tools = ChildTools(start, control, Stats(pair.stats), pair.lease_cells, handle)
    code = 0
    try:
        tools.stats.beat()
        loop(tools)
    except Exception:
        logging.getLogger("kps").critical("process failed", exc_info=True)
        code = EXIT_BUG
    finally:
        tools.stats.count(Cell.LOG_DROPPED, handle.dropped)
        handle.close()
        if sys.stdout is not None:  # it is, where we were started without one
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
        if stacks is not None:
            stacks.close()
        os._exit(code)


def raise_descriptors() -> None:
    """As many descriptors as the host allows. Nothing here goes through them by number, or waits with select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def dump_stacks_on_usr2(path: Path | None) -> IO[bytes] | None:
    """USR2 appends the stacks of all threads to the process's stack file; without one it is ignored."""
    if path is None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        return None
    try:
        file = path.open("ab", buffering=0)
    except OSError:  # no descriptor left: nobody gets these stacks, which is no reason to end
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        return None
    faulthandler.register(signal.SIGUSR2, file=file, all_threads=True)
    return file


def _temporary_files_under(run_dir: Path) -> None:
    """What a killed process leaves behind lies where the supervisor clears up, not in everybody's folder."""
    folder = run_dir / TEMPORARY
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.is_symlink():
            tempfile.tempdir = str(folder)


def name_process(name: str) -> None:
    """Show `kps:NAME` in ps and top; 15 characters are all the kernel keeps."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"kps:{name.removeprefix('printer-')}"[:15], encoding="utf-8")
