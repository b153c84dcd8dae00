"""LOG_DIR, of which two instances on a host may have been given the same: each logs to a folder of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from kps import logs
from kps.sinks import within
from kps.supervisor.run_dir import AlreadyRunning


class LogFolder:
    """The folder of this instance's logs, kept from others by a lock as long as it runs."""

    def __init__(self, log_dir: Path, instance: str) -> None:
        self._log_dir = log_dir
        self._instance = instance

    def take(self) -> Path:
        """LOG_DIR itself, or the instance's own folder below it if another one logs there.

        Raises AlreadyRunning if one of the same name logs there. A folder that cannot be locked (missing rights, a dead
        disk) is used all the same: the kitchen prints without logs, and each process says what is wrong with its file.
        """
        if not self._lock(self._log_dir, f".lock-{self._instance}"):
            raise AlreadyRunning(
                f"another supervisor called {self._instance} logs to {self._log_dir}; set INSTANCE_NAME or LOG_DIR"
            )
        own = self._log_dir / self._instance
        chosen = logs.folder_of(self._log_dir, self._instance)
        return chosen if chosen == own or self._lock(chosen, ".lock") else own

    def _lock(self, folder: Path, name: str) -> bool:
        """False if somebody else has it; kept until this process ends, and the file stays: one that is removed keeps
        nobody out."""
        try:
            within(logs.OPEN_LIMIT_S, lambda: _locked(folder, name))
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


def _locked(folder: Path, name: str) -> int:
    """Raises BlockingIOError if somebody else has it locked, other OSErrors if it cannot be locked at all."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = _opened(folder / name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _opened(lock: Path) -> int:
    with contextlib.suppress(FileExistsError):
        # Group and others may lock it too: instances of several users share a folder that lets them.
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    return os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
