"""`kps demo`: the real command, its summary, and what it leaves behind, which is nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from kps.demo.instance import INHERITED
from kps.demo.kitchen import Copy, Papers
from kps.demo.report import TicketEnd, percentile, report, summary
from tests.conftest import eventually


@dataclass(slots=True)
class Run:
    """A `kps demo` of which everything, its temporary files and children too, carries the name of one folder."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text("utf-8", "replace")

    def wait_for(self, words: str, timeout: float = 60.0) -> None:
        eventually(lambda: words in self.output or self.process.poll() is not None, timeout, f"{words!r}")
        assert words in self.output, self.output

    def wait(self, timeout: float = 90.0) -> int:
        return self.process.wait(timeout)

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def assert_nothing_is_left(self) -> None:
        eventually(lambda: not self.alive(), 10, "the end of all processes")
        assert list(self.temporary.iterdir()) == []

    def alive(self) -> list[str]:
        """Processes that have our temporary folder in their environment."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


class Demos:
    """Starts demos and ends those that a failed test has left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Run] = []

    def start(self, *arguments: str, home: str = "/nonexistent") -> Run:
        folder = self._folder / str(len(self._runs))
        (folder / "tmp").mkdir(parents=True)
        environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "HOME": home, "DB_HOST": "nowhere.invalid"}
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "kps.cli", "demo", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._runs.append(Run(folder, process))
        return self._runs[-1]

    def end(self) -> None:
        for run in self._runs:
            if run.process.poll() is None:
                run.process.kill()
            run.process.wait(10)


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Demos]:
    started = Demos(tmp_path)
    yield started
    started.end()


@pytest.mark.slow
def test_a_demo_prints_every_ticket_and_leaves_nothing_behind(demos: Demos) -> None:
    run = demos.start("--seconds", "6", "--plain", "--seed", "1")
    assert run.wait() == 0, run.output
    assert "kitchen-1 is out of paper" in run.output
    assert "came out of the backup kitchen-2" in run.output
    assert re.search(r"time to paper +p50 [\d.]+ ms, p99 [\d.]+ ms", run.output)
    orders = re.search(r"orders +(\d+)\n", run.output)
    assert orders is not None
    assert int(orders[1]) > 0
    assert "Every ticket was printed" in run.output
    run.assert_nothing_is_left()


@pytest.mark.slow
def test_ctrl_c_while_guests_order_ends_with_a_summary(demos: Demos) -> None:
    run = demos.start("--seconds", "600", "--rate", "600", "--calm")
    run.wait_for("guests order")
    run.wait_for("tickets:")  # the counts, which come every five seconds
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 0, run.output
    assert "Every ticket was printed" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting PostgreSQL", "starting the service"])
def test_ctrl_c_during_the_start_ends_quietly(demos: Demos, moment: str) -> None:
    run = demos.start("--plain")
    run.wait_for(moment)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130, run.output
    assert "interrupted" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_slow_printers(demos: Demos) -> None:
    run = demos.start("--seconds", "600", "--rate", "6000", "--speed", "real", "--calm")
    run.wait_for("tickets:")
    run.process.send_signal(signal.SIGINT)
    run.wait_for("interrupted")
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 1, run.output
    assert "NOT WELL" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_a_killed_demo_leaves_no_process(demos: Demos) -> None:
    run = demos.start("--seconds", "600", "--calm")
    run.wait_for("guests order")
    run.process.kill()
    run.wait()
    eventually(lambda: not run.alive(), 40, "the end of database and service")


def in_its_environment(kept: Path, command: str, *, at: Path) -> str:
    """What a kps command says in another terminal, after `. DIR/env`, in the folder `at`."""
    shell = ["/bin/sh", "-c", '. "$0/env" && exec "$@"', str(kept), sys.executable, "-m", "kps.cli", command]
    inherited = {name: value for name, value in os.environ.items() if name in INHERITED}
    return subprocess.run(
        shell, cwd=at, env=inherited, capture_output=True, text=True, timeout=60, check=False
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_kept_are_the_database_the_logs_and_every_paper(demos: Demos, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with ExitStack() as squatting:
        with suppress(OSError):  # somebody else listens there: just as well
            squatting.enter_context(socket.create_server(("127.0.0.1", 9100)))
        run = demos.start("--orders", "3", "--rate", "600", "--keep", str(kept))
        assert run.wait() == 0, run.output
    assert "port 9100 is taken: using" in run.output
    assert "orders         3\n" in run.output
    assert (kept / "database" / "data" / "PG_VERSION").is_file()
    assert (kept / "logs" / "supervisor.log").is_file()
    assert "checker-1" in in_its_environment(kept, "logs", at=tmp_path).split()
    port = re.search(r"port 9100 is taken: using (\d+)\n", run.output)
    assert port is not None
    checked = in_its_environment(kept, "check", at=tmp_path)
    assert "settings: instance demo, database fnb_edge_db at " in checked
    assert f"HEALTH_CHECK_PORT {port[1]}: " in checked
    assert (kept / "env").stat().st_mode & 0o077 == 0
    tickets = re.search(r"tickets +(\d+):", run.output)
    assert tickets is not None
    papers = [path.read_text("utf-8") for path in (kept / "papers").glob("*/*.txt")]
    assert all(re.search(r"#\d+", paper) for paper in papers)
    slips = [paper for paper in papers if re.search(r"^\s*slip #\d+", paper, re.MULTILINE)]
    assert len(papers) - len(slips) == int(tickets[1])
    run.assert_nothing_is_left()

    again = demos.start("--keep", str(kept))
    assert again.wait() == 1
    assert "is not empty" in again.output
    assert len(again.output.splitlines()) == 1


def test_a_demo_without_postgresql_names_the_extra(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kps.cli", "demo"],
        env={**os.environ, "KPS_PG_BIN": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "the demo cannot run: " in result.stdout
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


# The report.


def copy(ticket: int, t: float, *, marked: bool = False, backup: bool = False) -> Copy:
    return Copy(ticket, "kitchen-1", t, marked, backup)


def papers_of(*copies: Copy) -> Papers:
    papers = Papers()
    for one in copies:
        papers.add(one)
    return papers


PRINTED = [TicketEnd(1, "kitchen", "printed", "fence"), TicketEnd(2, "bar", "printed", "realtime")]


def test_a_ticket_on_paper_once_keeps_the_promise() -> None:
    found = report(1, {1: 10.0, 2: 10.0}, PRINTED, papers_of(copy(1, 10.5), copy(2, 10.25)), {})
    assert found.kept_all_promises
    assert found.waits == [0.25, 0.5]
    assert found.proofs == {"fence": 1, "realtime": 1}


def test_a_further_copy_must_be_marked() -> None:
    marked = papers_of(copy(1, 11.0), copy(1, 12.0, marked=True, backup=True), copy(2, 11.0))
    found = report(1, {1: 10.0, 2: 10.0}, PRINTED, marked, {})
    assert found.kept_all_promises
    assert (found.marked, found.failovers) == (1, 1)
    unmarked = papers_of(copy(1, 11.0), copy(1, 12.0), copy(2, 11.0))
    found = report(1, {1: 10.0, 2: 10.0}, PRINTED, unmarked, {})
    assert found.doubled == [1]
    assert not found.kept_all_promises


def test_a_printed_ticket_without_paper_breaks_the_promise() -> None:
    found = report(1, {1: 10.0, 2: 10.0}, PRINTED, papers_of(copy(1, 11.0)), {})
    assert found.without_paper == [2]
    assert not found.kept_all_promises
    assert "no paper for #2" in summary(found)[-1]


@pytest.mark.parametrize("status", ["failed", "new", "printing", ""])
def test_a_ticket_that_did_not_end_printed_breaks_the_promise(status: str) -> None:
    ends = [PRINTED[0], TicketEnd(2, "bar", status, error="no printer")]
    found = report(1, {1: 10.0, 2: 10.0}, ends, papers_of(copy(1, 11.0), copy(2, 11.0)), {})
    assert not found.kept_all_promises


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert percentile([7.0], 0.5) == 7.0
