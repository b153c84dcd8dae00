"""The log files of an instance: which there are, and the end of one of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from kps import logs

PREFIX = "printer-"
"""A printer's process logs under its name with this before it."""


class NoSuchLog(Exception):
    """No log file answers to this name, or the folder is not there; the message says which there are."""


def names(folder: Path) -> list[str]:
    """The names by which `find` knows the logs of this folder, in order. Raises NoSuchLog if it cannot be read."""
    return [path.stem.removeprefix(PREFIX) for path in _files(folder)]


def listing(folder: Path) -> Iterator[str]:
    """One line for each log: name, size, time of the last line. Raises NoSuchLog if there is none."""
    files = _files(folder)
    if not files:
        raise NoSuchLog(f"no logs in {folder.resolve()}")
    for path in files:
        facts = path.stat()
        changed = datetime.fromtimestamp(facts.st_mtime, UTC)
        yield f"{path.stem.removeprefix(PREFIX):<30} {_size(facts.st_size):>9}  {changed:%Y-%m-%d %H:%M:%S}Z"


def find(folder: Path, name: str) -> Path:
    """The log of a process or printer. Raises NoSuchLog, naming those there are."""
    known = _files(folder)
    for candidate in (folder / f"{name}.log", logs.log_path(folder, name), logs.log_path(folder, PREFIX + name)):
        if candidate in known:
            return candidate
    listed = ", ".join(names(folder)) or "none"
    raise NoSuchLog(f"no log of {name!r} in {folder.resolve()}; there are: {listed}")


def show(path: Path, count: int, *, follow: bool, say: Callable[[str], None]) -> None:
    """The last `count` lines; with `follow` then each new one, until SIGINT or SIGTERM."""
    if not follow:
        for line in logs.tail_lines(path, count):
            say(line)
        return
    stopped: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        stopped.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for line in logs.follow(path, lambda: bool(stopped), last=count):
            say(line)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".log")
    except OSError as error:
        raise NoSuchLog(f"log folder {folder.resolve()} cannot be read: {error.strerror}") from error


def _size(count: int) -> str:
    return (
        f"{count} B" if count < 1024 else f"{count / 1024:.0f} kB" if count < 1024**2 else f"{count / 1024**2:.1f} MB"
    )
