"""Log lines of one process: to a file of its own and to stdout. The process never waits for a disk or a reader."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Literal

from kps.core.printable import printable
from kps.sinks import Background, Sink, sink_for, within

FileFormat = Literal["text", "json"]

MAX_FILE_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5
STDOUT_LINE_BYTES = 4000
"""Below PIPE_BUF (4096 on Linux): one write to a pipe is then whole or nothing, also among several writers."""
FIRST_FIELDS = ("ticket", "token", "printer", "ms")
"""Extra fields that stand before all others."""

OPEN_LIMIT_S = 0.5
"""How long a start waits until its log file is open. A slower disk is waited for by the thread alone."""

_STDOUT = 1
_BUILT_IN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_log = logging.getLogger(__name__)


class LogHandle:
    """The log of this process, as `configure` set it up."""

    def __init__(self, stdout: _StdoutHandler, file: _FileHandler | None) -> None:
        self._stdout = stdout
        self._file = file

    @property
    def dropped(self) -> int:
        """Lines that did not reach stdout or the file, since `configure`. It never decreases."""
        return self._stdout.dropped + (self._file.dropped if self._file else 0)

    def reopen(self) -> None:
        """Open the file again by its name, after it was moved away. Not for signal handlers."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        """Take our handlers off the root logger, close the file and put the old exception hooks back.

        Waits for lines on their way, with a limit: to be called at the end of a process, in place of
        `logging.shutdown`.
        """
        sys.excepthook = sys.__excepthook__
        threading.excepthook = threading.__excepthook__
        for handler in (self._stdout, self._file):
            if handler is not None:
                logging.getLogger().removeHandler(handler)
                handler.close()


def configure(
    process: str, *, level: str, folder: Path | None, file_format: FileFormat, generation: int = 0
) -> LogHandle:
    """Log everything of this process to `<folder>/<slug of process>.log` and, the same lines, to stdout.

    Call it before anything that may call `logging.basicConfig` is imported (python-escpos's printers do): a root logger
    that has handlers is left alone. Without a folder, or if the file cannot be opened, stdout is all there is.
    Exceptions that nobody catches go to the same places. A second call replaces the first.
    """
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    formatter = _formatter(_Identity(printable(process), os.getpid(), generation), file_format)
    stdout = _StdoutHandler(sink_for(_STDOUT), formatter)
    root.addHandler(stdout)
    root.setLevel(level)
    file = _open_file(folder, process, formatter)
    if file is not None:
        root.addHandler(file)
    _log_uncaught_exceptions()
    return LogHandle(stdout, file)


def log_path(folder: Path, process: str) -> Path:
    """The log file of a process of this name."""
    return folder / f"{slug(process)}.log"


def folder_of(log_dir: Path, instance: str) -> Path:
    """The log folder of an instance: LOG_DIR, or its own folder in it, which exists once two have shared LOG_DIR."""
    own = log_dir / instance
    try:
        return own if within(OPEN_LIMIT_S, own.is_dir) else log_dir
    except OSError:
        return log_dir


def slug(name: str) -> str:
    """`name` as a safe part of a file name: letters and digits of any script, `-`, `_` and `.`, at most 100 bytes.

    A name that had to be changed gets six characters of its hash, so that `bar/1` and `bar 1` keep files of their own.
    """
    plain = unicodedata.normalize("NFC", name)
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in plain)
    kept = kept.strip("-.").encode()[:90].decode("utf-8", "ignore")
    if kept and kept == name:
        return kept
    # Imported only here: it is seldom needed, and links OpenSSL, 0.5 MB in each process.
    import hashlib

    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{kept}-{mark}" if kept else mark


def enable_stack_dumps(folder: Path | None, process: str) -> Path | None:
    """On a fatal signal (SIGABRT, SIGSEGV ...) write all threads' stacks to `<folder>/<slug>.stack`; its path.

    The file is not the log: after a rotation the dump would be in an old one that nobody reads. Without a folder, or
    if the file cannot be opened, the stacks go to stderr and None comes back.
    """
    global _stack_file
    path = folder / f"{slug(process)}.stack" if folder is not None else None
    opened: IO[bytes] | None = None
    if path is not None:
        try:
            opened = within(OPEN_LIMIT_S, lambda: path.open("ab", buffering=0))
        except (FileNotFoundError, NotADirectoryError):
            pass  # no folder, which has been logged already
        except OSError as error:
            _log.warning("stack file cannot be opened", extra={"path": str(path), "cause": error.strerror})
    faulthandler.enable(file=opened if opened is not None else 2, all_threads=True)
    if _stack_file is not None:
        _stack_file.close()
    _stack_file = opened
    return path if opened is not None else None


_stack_file: IO[bytes] | None = None


class _Identity:
    """Process name, pid and generation, which are the same in all lines of a process."""

    __slots__ = ("generation", "pid", "process")

    def __init__(self, process: str, pid: int, generation: int) -> None:
        self.process = process
        self.pid = pid
        self.generation = generation


class _TextFormatter(logging.Formatter):
    """`2026-02-04 14:30:00.123 INFO  printer-kitchen-1 printed ticket=12 ms=48 pid=77 gen=1`, then the traceback."""

    def __init__(self, identity: _Identity) -> None:
        super().__init__()
        self._identity = identity

    def format(self, record: logging.LogRecord) -> str:
        who = self._identity
        moment = f"{_moment(record):%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d}Z"
        fields = {**_extra(record), **_error(record), "pid": who.pid, "gen": who.generation}
        pairs = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
        line = f"{moment} {record.levelname:<5} {who.process} {printable(_event(record))} {pairs}"
        return line + "".join("\n  " + printable(part) for part in _traceback(self, record).split("\n") if part)


class _JsonFormatter(logging.Formatter):
    """The same fields as one JSON object per line."""

    def __init__(self, identity: _Identity) -> None:
        super().__init__()
        # Imported only here: text is the default and does not need it.
        from pythonjsonlogger.json import JsonFormatter

        self._identity = identity
        self._serialized = JsonFormatter(json_ensure_ascii=False, json_default=str).serialize_log_record

    def format(self, record: logging.LogRecord) -> str:
        head = self._head(record)
        fields = head | _extra(record) | _error(record) | head
        if traceback := _traceback(self, record):
            fields["traceback"] = traceback
        return self._line_of(fields)

    def short(self, record: logging.LogRecord) -> str:
        """A short form of a record that is too long for stdout, still a whole JSON object."""
        fields = self._head(record) | {name: value for name, value in _extra(record).items() if name in FIRST_FIELDS}
        shortened = {name: value[:200] if isinstance(value, str) else value for name, value in fields.items()}
        return self._line_of(shortened | {"cut": True})

    def _line_of(self, fields: dict[str, Any]) -> str:
        # Characters that are not printable can only be inside strings.
        return printable(self._serialized(fields), json.dumps)

    def _head(self, record: logging.LogRecord) -> dict[str, Any]:
        who = self._identity
        return {
            "ts": f"{_moment(record):%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "proc": who.process,
            "pid": who.pid,
            "gen": who.generation,
            "event": _event(record),
        }


_Formatter = _TextFormatter | _JsonFormatter


def _formatter(identity: _Identity, file_format: FileFormat) -> _Formatter:
    return _JsonFormatter(identity) if file_format == "json" else _TextFormatter(identity)


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _event(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # the arguments do not fit the phrase: log the line anyway
        return f"{record.msg} {record.args!r}"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    own = {name: value for name, value in vars(record).items() if name not in _BUILT_IN}
    first = {name: own[name] for name in FIRST_FIELDS if name in own}
    return first | own


def _error(record: logging.LogRecord) -> dict[str, str]:
    """The exception in one phrase. It stands before the traceback, so that a shortened line keeps it."""
    error = record.exc_info[1] if record.exc_info else None
    return {} if error is None else {"error": f"{type(error).__name__}: {error}"}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _quoted(value: object) -> str:
    words = str(value)
    plain = words and words.isprintable() and not any(sign in words for sign in ' "=')
    return words if plain else printable(json.dumps(words, ensure_ascii=False), json.dumps)


class _StdoutHandler(logging.Handler):
    """Writes lines to stdout. If the reader does not keep up, lines are dropped and counted."""

    def __init__(self, sink: Sink, formatter: _Formatter) -> None:
        super().__init__()
        self._sink = sink
        self._not_written = 0
        self._line_formatter = formatter
        self.setFormatter(formatter)

    @property
    def dropped(self) -> int:
        return self._not_written + self._sink.dropped

    def emit(self, record: logging.LogRecord) -> None:
        try:
            whole = self._sink.write(self._line(record))
        except (ValueError, TypeError):  # a field that will not become text
            whole = False
        if not whole:
            self._not_written += 1

    def close(self) -> None:
        self._sink.finish()
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        line = _encoded(self._line_formatter.format(record))
        if len(line) < STDOUT_LINE_BYTES:
            return line + b"\n"
        if isinstance(self._line_formatter, _JsonFormatter):
            return _encoded(self._line_formatter.short(record))[: STDOUT_LINE_BYTES - 1] + b"\n"
        return line[: STDOUT_LINE_BYTES - 4].decode("utf-8", "ignore").encode() + b"...\n"


class _FileHandler(logging.Handler):
    """Hands lines to a thread that writes them, because a disk may be full or not answer."""

    def __init__(self, path: Path, formatter: _Formatter) -> None:
        super().__init__()
        self._file = Background("log-file", lambda: _RotatingFile(path))
        self._not_written = 0
        self.setFormatter(formatter)

    @property
    def dropped(self) -> int:
        return self._not_written + self._file.dropped

    def fault(self) -> OSError | None:
        """Why the file could not be opened; None if it could, or is not known within OPEN_LIMIT_S."""
        return self._file.fault(OPEN_LIMIT_S)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            whole = self._file.write(_encoded(self.format(record)) + b"\n")
        except (ValueError, TypeError):  # a field that will not become text
            whole = False
        if not whole:
            self._not_written += 1

    def reopen(self) -> None:
        """Close the file; the next line opens it again by its name."""
        self._file.ask(lambda file: file.close_file() if isinstance(file, _RotatingFile) else None)

    def close(self) -> None:
        self._file.finish()
        super().close()


class _RotatingFile:
    """The log file as a sink, used by the thread alone. It is rotated when it is full."""

    dropped = 0

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file: BinaryIO | None = self._opened()

    def write(self, line: bytes) -> bool:
        """False if it could not be written whole: disk full, folder gone."""
        try:
            if self._file is None:
                self._file = self._opened()
            if self._file.tell() + len(line) > MAX_FILE_BYTES and self._path.is_file():
                self._rotate()
            return self._file.write(line) == len(line)
        except OSError:
            return False

    def close_file(self) -> None:
        """Close the file; the next line opens it again by its name."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def finish(self) -> None:
        """Close it."""
        self.close_file()

    def _opened(self) -> BinaryIO:
        # Without a buffer: a line that did not fit on the disk is lost, and not written again with each later one.
        return self._path.open("ab", buffering=0)

    def _rotate(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, KEPT_FILES + 1))]
        try:
            for name, next_name in reversed(list(pairwise(names))):
                if name.exists():
                    name.replace(next_name)
            fresh = self._opened()
        except OSError:  # files cannot be renamed here: go on writing to this one
            return
        self.close_file()
        self._file = fresh


def _open_file(folder: Path | None, process: str, formatter: _Formatter) -> _FileHandler | None:
    if folder is None:
        return None
    path = log_path(folder, process)
    handler = _FileHandler(path, formatter)
    if (error := handler.fault()) is None:
        return handler
    handler.close()
    _log.warning("log file cannot be opened", extra={"path": str(path), "cause": error.strerror})
    return None


def _encoded(words: str) -> bytes:
    return words.encode("utf-8", "backslashreplace")


def _log_uncaught_exceptions() -> None:
    def of_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            _log.critical("uncaught exception", exc_info=(kind, error, trace))

    def of_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None and not issubclass(found.exc_type, SystemExit):
            name = found.thread.name if found.thread else "?"
            trace = (found.exc_type, found.exc_value, found.exc_traceback)
            _log.critical("uncaught exception", exc_info=trace, extra={"in_thread": name})

    sys.excepthook = of_main
    threading.excepthook = of_thread


def tail_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log, without line ends; the rotated files before it are read where it is short.

    Raises FileNotFoundError if there is no such log.
    """
    return _last_lines(_lines(path.read_bytes()), path, count)


def follow(path: Path, stop: Callable[[], bool], *, last: int = 0, pause_s: float = 0.2) -> Iterator[str]:
    """The last lines of a log, then each new one as it is written, through rotations, until `stop()`.

    A log that is not there yet is waited for. Lines come without line ends; half a line waits for its rest.
    """
    file = _open(path)
    half = b""
    try:
        if file is not None:
            # One read gives the last lines and the place to go on, so that no line is lost or repeated between them.
            whole, _, half = file.read().rpartition(b"\n")
            yield from _last_lines(_lines(whole), path, last)
        while True:
            stopping = stop()  # asked before the read, so that all lines written until now are still delivered
            replaced = file is None or _was_replaced(file, path)
            *lines, half = (half + (file.read() if file else b"")).split(b"\n")
            yield from (_decoded(line) for line in lines)
            if stopping:
                return
            if replaced and (successor := _open(path)):
                if half:
                    yield _decoded(half)
                if file is not None:
                    file.close()
                file, half = successor, b""
            elif not lines:
                time.sleep(pause_s)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _was_replaced(file: BinaryIO, path: Path) -> bool:
    """Whether `path` is another file by now, or has been emptied. False while there is none: the next comes soon."""
    ours = os.fstat(file.fileno())
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino) or now.st_size < file.tell()


def _last_lines(lines: list[str], path: Path, count: int) -> list[str]:
    for number in range(1, KEPT_FILES + 1):
        older = path.with_name(f"{path.name}.{number}")
        if len(lines) >= count or not older.exists():
            break
        lines = _lines(older.read_bytes()) + lines
    return lines[len(lines) - min(count, len(lines)) :]


def _lines(content: bytes) -> list[str]:
    # Not splitlines(): it also splits at characters that may be part of a name.
    return [_decoded(line) for line in content.removesuffix(b"\n").split(b"\n")] if content else []


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace")
