"""The limits of the host: descriptors, processes, full pipes. One trouble stays one trouble."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Database, eventually
from tests.service.harness import Service, shop

TWO = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}
DESCRIPTORS = 256
CROWD = 400
PIDS = Path("/sys/fs/cgroup/pids")


class Narrow(Service):
    """An instance whose processes may have no more than so many open, whatever they ask for."""

    descriptors = DESCRIPTORS

    def start(self) -> Narrow:
        command = [sys.executable, "-m", "kps.supervisor"]
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", f'ulimit -n {self.descriptors}; exec "$@"', "sh", *command],
                env=self.env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self


class Crowd:
    """So many connections to a port that say nothing; one that is closed comes again."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._seats: list[socket.socket | None] = [None] * count
        self.there = 0
        """How many have been let in so far, as far as they know."""
        self._thread = threading.Thread(target=self._sit, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)
        for seat in self._seats:
            if seat is not None:
                seat.close()

    def _sit(self) -> None:
        while not self._stop.wait(0.05):
            for number, seat in enumerate(self._seats):
                if self._stop.is_set():
                    return
                if seat is not None and _hung_up(seat):
                    seat.close()
                    self._seats[number] = seat = None
                if seat is None:
                    with contextlib.suppress(OSError):
                        self._seats[number] = socket.create_connection(("127.0.0.1", self._port), timeout=2)
                        self.there += 1


def _hung_up(seat: socket.socket) -> bool:
    seat.setblocking(False)
    try:
        return seat.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def at_most(pid: int, count: int) -> Iterator[None]:
    """A running process gets no new descriptor whose number is `count` or more; those that it has it keeps."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def connections_at(port: int) -> list[str]:
    """The open connections at a port of this host, as /proc names their inodes."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [one[9] for one in fields if one[1].endswith(f":{port:04X}") and one[3] != "0A" and one[9] != "0"]


def room_for_http_only(pid: int, child: int) -> int:
    """A limit under which one or two descriptors are free once `child` is dead: a start needs three at a time."""
    opened = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    watched = next(
        number for number in opened if f"Pid:\t{child}\n" in Path(f"/proc/{pid}/fdinfo/{number}").read_text()
    )
    # Its control pipe goes as well, and is not told from the others.
    free = (number for number in itertools.count() if number not in opened - {watched})
    return next(free) + 1


def deaths(service: Service) -> list[str]:
    """The children that have died so far."""
    return [line for line in service.text().splitlines() if " child died " in line]


def alive(service: Service) -> bool:
    return service.process is not None and service.process.poll() is None


def test_a_crowd_at_the_door_takes_no_descriptor_that_a_printer_needs(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, start=False) as here:
        here.service = service = Narrow(pos_database, tmp_path)
        try:
            service.start().wait_ready(3)
            assert service.process is not None
            supervisor = service.process.pid
            quiet = descriptors(supervisor)
            pid = service.wait_for_child("kitchen-1")
            with Crowd(service.port, CROWD) as crowd:
                eventually(lambda: crowd.there >= CROWD and descriptors(supervisor) > quiet + 16, what="a crowd")
                os.kill(pid, signal.SIGKILL)
                tickets = [pos.ticket(("kitchen", "bar")[n % 2], [(f"Dish{n}", 1)]) for n in range(16)]
                here.all_end(tickets)
                assert service.wait_for_child("kitchen-1", other_than=pid)
                assert (service.health() or {}).get("status") in ("healthy", "degraded"), "and /health still answers"
                assert descriptors(supervisor) < DESCRIPTORS * 3 // 4
            assert alive(service)
            assert len(deaths(service)) == 1
            assert service.stop() == 0
        finally:
            service.end()


def test_a_limit_that_is_too_low_is_named_and_so_is_for_how_many_printers_it_is_enough(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, start=False) as here:
        here.service = service = Narrow(pos_database, tmp_path)
        service.descriptors = 83
        try:
            service.start().wait_ready(3)
            sentence = "ulimit -n 83 is enough for 1 of 3 printers: all of them need 86"
            eventually(lambda: sentence in (service.health() or {"notices": []})["notices"], what="a notice")
            here.printed(pos.ticket("kitchen", [("Soto", 1)]))
            found = subprocess.run(
                ["/bin/sh", "-c", 'ulimit -n 83; exec "$@"', "sh", sys.executable, "-m", "kps.cli", "check"],
                env=service.env, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert f"limits: {sentence}" in found.stdout
            assert found.returncode == 1
        finally:
            service.end()


def test_a_child_that_cannot_be_started_is_tried_again_and_the_others_print_on(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        assert service.process is not None
        supervisor = service.process.pid
        pids = {name: service.wait_for_child(name) for name in (*TWO, "dispatcher")}
        eventually(lambda: not connections_at(service.port), what="no HTTP connection is open")
        before = descriptors(supervisor)
        with at_most(supervisor, room_for_http_only(supervisor, pids["kitchen-1"])):
            os.kill(pids["kitchen-1"], signal.SIGKILL)
            service.wait_said("child cannot be started", "kitchen-1", "Too many open files")
            here.printed(pos.ticket("bar", [("Kopi", 1)]))
            waiting = pos.ticket("kitchen", [("Soto", 1)])
            eventually(lambda: says(service, "kitchen-1 cannot be started: Too many open files"), what="a reason")
            restarts = 'kps_child_restarts_total{child="kitchen-1",reason="start_failed"} 0.0'
            assert restarts not in service.get("/metrics").body
        here.printed(waiting)
        here.only_copy("Soto")
        fresh = service.wait_for_child("kitchen-1", other_than=pids["kitchen-1"])
        eventually(lambda: not says(service, "cannot be started"), what="no reason any more")
        assert {name: service.wait_for_child(name) for name in (*TWO, "dispatcher")} == pids | {"kitchen-1": fresh}
        eventually(lambda: descriptors(supervisor) <= before, what="nothing has leaked")
        assert service.stop() == 0


def says(service: Service, words: str) -> bool:
    return any(words in reason for reason in (service.health() or {"reasons": []})["reasons"])


def test_a_host_without_room_for_a_process_costs_one_printer_and_for_a_while(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here, contextlib.ExitStack() as stack:
        service = here.service
        assert service.process is not None
        pid = service.wait_for_child("kitchen-1")
        lift = no_more_processes(service, stack)
        os.kill(pid, signal.SIGKILL)
        service.wait_said("child cannot be started", "kitchen-1")
        here.printed(pos.ticket("bar", [("Kopi", 1)]))
        waiting = pos.ticket("kitchen", [("Soto", 1)])
        lift.close()
        here.printed(waiting)
        here.only_copy("Soto")
        assert len(deaths(service)) == 1
        assert service.stop() == 0


def no_more_processes(service: Service, stack: contextlib.ExitStack) -> contextlib.ExitStack:
    """From now on its supervisor may not even replace one; closing what comes back lets it."""
    assert service.process is not None
    lift = stack.enter_context(contextlib.ExitStack())
    if os.getuid() != 0:
        for pid in service.family():  # the template forks, and the supervisor would make another template
            before = resource.prlimit(pid, resource.RLIMIT_NPROC)
            resource.prlimit(pid, resource.RLIMIT_NPROC, (1, before[1]))
            lift.callback(_allow_again, pid, before)
        return lift
    group = PIDS / f"kps-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"root has no limit of processes but a cgroup's, and none can be made here: {error}")
    if not (group / "pids.max").exists():
        group.rmdir()
        pytest.skip("root has no limit of processes but a cgroup's, and this kernel counts none in its cgroups")
    stack.callback(eventually, lambda: _gone(group), what="the cgroup is empty")
    stack.callback(service.end)
    for pid in service.family():
        (group / "cgroup.procs").write_text(str(pid))
    (group / "pids.max").write_text("1")
    lift.callback((group / "pids.max").write_text, "max")
    return lift


def _allow_again(pid: int, limit: tuple[int, int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NPROC, limit)


def _gone(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_a_printer_process_without_a_descriptor_for_its_device_says_so_and_lives(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
    with shop(pos, pos_database, tmp_path, stations) as here:
        pid = here.service.wait_for_child("kitchen-1")
        with at_most(pid, 4):
            here.printers["kitchen-1"].power_cycle()
            here.wait_state("kitchen-1", "down")
            ticket = here.printed(pos.ticket("kitchen", [("Soto", 1)]))
            assert ticket["status"] == "printed"
            assert here.only_copy("Soto").printer == "kitchen-2"
        here.wait_state("kitchen-1", "ready")
        here.printed(pos.ticket("kitchen", [("Bakso", 1)]))
        assert here.only_copy("Bakso").printer == "kitchen-1"
        assert here.service.wait_for_child("kitchen-1") == pid
        assert not deaths(here.service)


def test_a_font_that_cannot_be_opened_now_sends_the_ticket_to_the_backup_and_is_not_forgotten(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
    with shop(pos, pos_database, tmp_path, stations) as here:
        pid = here.service.wait_for_child("kitchen-1")
        with at_most(pid, 4):
            ticket = pos.ticket("kitchen", [("Soto", 1), ("宫保鸡丁", 1)])
            here.printed(ticket)
            assert here.only_copy("Soto").printer == "kitchen-2"
        here.printed(pos.ticket("kitchen", [("Bakso", 1), ("宫保鸡丁", 1)]))
        paper = here.only_copy("Bakso")
        assert paper.printer == "kitchen-1"
        assert "U+5BAB" not in paper.text
        assert here.service.wait_for_child("kitchen-1") == pid
        assert not deaths(here.service)
        assert not here.service.said("font skipped")


@pytest.mark.parametrize("who", ["dispatcher", "kitchen-1"])
def test_an_end_of_a_mailbox_that_finds_no_descriptor_is_sent_again(
    pos: PosWriter, pos_database: Database, tmp_path: Path, who: str
) -> None:
    other = {"dispatcher": "kitchen-1", "kitchen-1": "dispatcher"}[who]
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        pids = {name: service.wait_for_child(name) for name in (*TWO, "dispatcher")}
        with at_most(pids[who], 8 if who == "dispatcher" else 4):
            os.kill(pids[other], signal.SIGKILL)
            service.wait_said("mailbox lost", timeout=30)
        here.all_end([pos.ticket(station, [(f"Dish{station}", 1)]) for station in ("kitchen", "bar")])
        fresh = service.wait_for_child(other, other_than=pids[other])
        assert {name: service.wait_for_child(name) for name in pids} == pids | {other: fresh}
        assert len(deaths(service)) == 1, "only the one that was killed"


def test_500_printer_rows_work_and_a_full_pipe_kills_nobody(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        kitchen = here.printers["kitchen-1"]
        service = here.service
        with contextlib.ExitStack() as stack:
            stations = [f"station-{n}" for n in range(4)]
            devices: list[VirtualPrinter] = [
                stack.enter_context(VirtualPrinter(name=f"more-{n}")) for n, _ in enumerate(stations)
            ]
            for n in range(200):
                pos.add_printer(kitchen.host, kitchen.port, f"kitchen-{n}", 1, f"Kitchen of {n}")
            for n in range(298):
                device = devices[n % len(devices)]
                pos.add_printer(device.host, device.port, stations[n % len(devices)], 2 + n // 4, f"Row {n}")
            service.signal(signal.SIGHUP)
            eventually(lambda: len((service.health() or {"printers": []})["printers"]) == 500, what="500 rows")
            service.wait_ready(500, timeout=40)
            here.all_end([pos.ticket(f"kitchen-{n}", [(f"Nasi{n}", 1)]) for n in range(0, 200, 40)])

            pids = service.children()
            dispatcher, printer = pids["dispatcher"], pids["bar-1"]
            os.kill(dispatcher, signal.SIGSTOP)
            try:
                pos.execute("UPDATE kitchen_stationprinter SET timeout_seconds = 3")
                service.signal(signal.SIGHUP)
                eventually(lambda: service.text().count(" printer rows ") >= 3, what="the rows are on their way again")
                os.kill(printer, signal.SIGKILL)
                service.wait_for_child("bar-1", other_than=printer)
            finally:
                os.kill(dispatcher, signal.SIGCONT)
            tickets = [
                pos.ticket(station, [(f"Dish{n}", 1)]) for n, station in enumerate([*stations, "kitchen", "bar"])
            ]
            here.all_end(tickets)
            fresh = service.wait_for_child("bar-1", other_than=printer)
            assert service.children() == pids | {"bar-1": fresh}
            assert not service.said("child does not listen")
            assert len(deaths(service)) == 1, "only the one that was killed"
            assert service.stop() == 0
