"""Whoever does not take our log lines costs lines, never time: a journal, a terminal, a disk that stand still."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually, require
from tests.service.harness import Service, shop
from tests.service.test_logs import program


def fill(fd: int) -> None:
    """Until whoever writes next would have to wait."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 256 + b"\n")
    os.set_blocking(fd, True)


@contextlib.contextmanager
def stalled_journal() -> Iterator[int]:
    """The stream socket that systemd gives a service as its stdout, full, and read by nobody."""
    journal, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with journal, ours:
        fill(ours.fileno())
        yield ours.fileno()


@contextlib.contextmanager
def stopped_terminal() -> Iterator[int]:
    """A terminal at which somebody has pressed Ctrl-S."""
    screen, terminal = pty.openpty()
    try:
        termios.tcflow(terminal, termios.TCOOFF)
        fill(terminal)
        yield terminal
    finally:
        os.close(screen)
        os.close(terminal)


@pytest.mark.parametrize("stalled", [stalled_journal, stopped_terminal])
def test_a_stdout_that_takes_nothing_costs_lines_and_no_time(
    tmp_path: Path, stalled: contextlib.AbstractContextManager[int]
) -> None:
    script = """
        import os
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        for number in range(1000):
            log.info("line", extra={"number": number, "filler": "x" * 100})
        assert os.get_blocking(1)  # others share it
        handle.close()
        sys.stderr.write(str(handle.dropped))
        """
    with stalled() as stdout:  # type: ignore[operator]
        done = subprocess.run(
            [sys.executable, "-c", program(script), str(tmp_path)],
            stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=30, check=True,
        )  # fmt: skip

    assert int(done.stderr) == 1000
    assert len((tmp_path / "p.log").read_text().splitlines()) == 1000


def test_a_reader_of_a_stream_socket_gets_whole_lines_only(tmp_path: Path) -> None:
    script = """
        handle = logs.configure("p", level="INFO", folder=None, file_format="text")
        for number in range(3000):
            log.info("line", extra={"number": number, "filler": "x" * 1000})
        sys.stderr.write(str(handle.dropped))
        """
    journal, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with journal:
        with ours:
            done = subprocess.run(
                [sys.executable, "-c", program(script), str(tmp_path)],
                stdout=ours.fileno(), stderr=subprocess.PIPE, text=True, timeout=60, check=True,
            )  # fmt: skip
        with journal.makefile("r") as lines:
            arrived = lines.read().splitlines()

    dropped = int(done.stderr)
    assert dropped > 0
    assert len(arrived) == 3000 - dropped
    assert all(line.endswith("gen=0") for line in arrived)


class SilentService(Service):
    """An instance whose stdout and stderr go to a descriptor of the test."""

    def start_on(self, stdout: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kps.supervisor"],
            env=self.env, stdout=stdout, stderr=stdout, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


@pytest.mark.parametrize("stalled", [stalled_journal, stopped_terminal])
def test_a_journal_that_stands_still_keeps_no_ticket(
    pos: PosWriter, pos_database: Database, tmp_path: Path, stalled: contextlib.AbstractContextManager[int]
) -> None:
    with stalled() as stdout, shop(pos, pos_database, tmp_path, start=False) as here:  # type: ignore[operator]
        service = SilentService(pos_database, tmp_path, LOG_LEVEL="DEBUG")
        here.service = service
        try:
            service.start_on(stdout)
            service.wait_ready(3)
            tickets = [pos.ticket("kitchen", [("Soup", 1)]) for _ in range(5)]
            here.all_end(tickets)
            dropped = service.get("/metrics").body
            assert 'kps_log_records_dropped_total{child="supervisor"} 0.0' not in dropped
            assert service.stop() == 0
        finally:
            service.end()
    assert "ticket printed" in (tmp_path / "logs" / "printer-kitchen-1.log").read_text()


@pytest.fixture
def freezable(tmp_path: Path) -> Iterator[Path]:
    """A file system of the test's own that can be made to stand still."""
    disk, folder = tmp_path / "disk", tmp_path / "mounted"
    folder.mkdir()
    with disk.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    require(shutil.which("mkfs.ext4"), "mkfs.ext4 (Debian: apt install e2fsprogs)")
    for command in (["mkfs.ext4", "-q", str(disk)], ["mount", "-o", "loop", str(disk), str(folder)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        require(done.returncode == 0, f"a loop mount ({command[0]}: {done.stderr.strip()})")
    try:
        yield folder
    finally:
        _freeze(folder, thaw=True)
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=60)


def _freeze(folder: Path, *, thaw: bool = False) -> None:
    """The FIFREEZE and FITHAW of linux/fs.h: whoever writes there meanwhile waits, and no signal ends the wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError if thaw else ()):
            fcntl.ioctl(handle, 0xC0045878 if thaw else 0xC0045877, 0)
    finally:
        os.close(handle)


@pytest.mark.root
def test_a_disk_that_does_not_answer_keeps_no_ticket(
    pos: PosWriter, pos_database: Database, tmp_path: Path, freezable: Path
) -> None:
    """Log files and a stdout that is a file, both on it."""
    with shop(pos, pos_database, tmp_path, start=False) as here:
        service = SilentService(pos_database, tmp_path, LOG_DIR=freezable / "logs", LOG_LEVEL="DEBUG")
        here.service = service
        stdout = os.open(freezable / "stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            service.start_on(stdout)
            service.wait_ready(3)
            _freeze(freezable)
            tickets = [pos.ticket("kitchen", [("Soup", 1)]) for _ in range(20)]
            here.all_end(tickets)
            _freeze(freezable, thaw=True)
            printed = freezable / "logs" / "printer-kitchen-1.log"
            eventually(lambda: printed.read_text().count("ticket printed") == 20, what="the lines that waited")
            assert service.stop() == 0
        finally:
            _freeze(freezable, thaw=True)
            service.end()
            os.close(stdout)


def test_a_service_without_stdin_stdout_and_stderr_prints_and_ends_in_order(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    """No file or pipe of ours stands in their place."""
    with shop(pos, pos_database, tmp_path, start=False) as here:
        service = here.service
        service.process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" -m kps.supervisor <&- >&- 2>&-', sys.executable],
            env=service.env, start_new_session=True,
        )  # fmt: skip
        service.wait_ready(3)
        here.printed(pos.ticket("kitchen", [("Soup", 1)]))
        for pid in service.family():
            assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}, pid
        assert service.stop() == 0
    assert "exit=0" in (tmp_path / "logs" / "supervisor.log").read_text().splitlines()[-1]
    assert "child died" not in (tmp_path / "logs" / "supervisor.log").read_text()
