"""The template process and its copies on the whole service: whatever becomes of it, its children print."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections import defaultdict
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Service, group, long_order, shop
from tests.service.test_limits import no_more_processes, says

TWO = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}
BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR2, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program as somebody does who has signals blocked and ignored."""


def zombies(pid: int) -> list[int]:
    """Its children that have ended and that it has not reaped."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{child}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z":
                found.append(int(child))
    return found


def process(service: Service, name: str) -> dict[str, object]:
    """What /status says of a child."""
    return next(dict(child) for child in service.status()["processes"] if child["name"] == name)


def stopped(pids: list[int]) -> None:
    """SIGSTOP, and wait until they stand."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: "T (stopped)" in Path(f"/proc/{pid}/status").read_text("utf-8"), what=f"{pid} stands")  # noqa: B023


def test_children_outlive_their_template_and_a_new_one_forks_the_next(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO, PYTHONWARNINGS="always::DeprecationWarning") as here:
        service = here.service
        assert service.process is not None
        pids = {name: service.wait_for_child(name) for name in (*TWO, "dispatcher")}
        template = service.wait_for_template()
        os.kill(template, signal.SIGKILL)
        os.kill(pids["bar-1"], signal.SIGKILL)
        tickets = [pos.ticket(station, [(f"Dish{n}", 1)]) for n, station in enumerate(("kitchen", "bar", "kitchen"))]
        fresh = service.wait_for_template(other_than=template)
        another = service.wait_for_child("bar-1", other_than=pids["bar-1"])
        here.all_end(tickets)
        assert service.children() == pids | {"bar-1": another}, "the others have not noticed"
        found = process(service, "bar-1")
        assert found["last_exit"] == "SIGKILL, perhaps out of memory", "its exit code needs no template"
        assert found["restarts_by_cause"]["signal"] == 1  # type: ignore[index]

        os.kill(pids["kitchen-1"], signal.SIGKILL)
        service.wait_for_child("kitchen-1", other_than=pids["kitchen-1"])
        here.printed(pos.ticket("kitchen", [("Soto", 1)]))
        assert process(service, "kitchen-1")["last_exit"] == "SIGKILL, perhaps out of memory"
        assert service.wait_for_template() == fresh
        metrics = service.get("/metrics").body
        assert 'kps_child_up{child="template"} 1.0' in metrics
        assert 'kps_child_restarts_total{child="template",reason="signal"} 1.0' in metrics
        assert service.said("template gone", "signal")
        eventually(lambda: service.process is not None and not zombies(service.process.pid), what="all are reaped")
        assert service.stop() == 0
        assert "multi-threaded" not in service.text(), "no fork beside a second thread"
        eventually(lambda: not service.family(), what="every process has ended")


def test_a_stopped_template_is_noticed_by_the_first_that_waits_for_it_and_replaced(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        template = service.wait_for_template()
        pid = service.wait_for_child("kitchen-1")
        stopped([template])
        os.kill(pid, signal.SIGKILL)
        waits = pos.ticket("kitchen", [("Soto", 1)])
        here.printed(pos.ticket("bar", [("Kopi", 1)]))
        here.printed(waits)
        here.only_copy("Soto")
        assert service.said("template gone", "hung")
        assert service.wait_for_template() != template
        assert process(service, "kitchen-1")["restarts_by_cause"]["start_failed"] == 1  # type: ignore[index]
        eventually(lambda: not says(service, "cannot be started"), what="nothing is wrong any more")
        assert service.stop() == 0


def test_a_template_that_cannot_be_started_is_named_and_the_service_goes_on_without(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here, contextlib.ExitStack() as stack:
        service = here.service
        pid = service.wait_for_child("kitchen-1")
        template = service.wait_for_template()
        lift = no_more_processes(service, stack)
        os.kill(template, signal.SIGKILL)
        service.wait_said("template cannot be started", "Resource temporarily unavailable")
        why = "the template process cannot be started, so no other can: Resource temporarily unavailable"
        eventually(lambda: says(service, why), what="/health names it")
        assert (service.health() or {})["status"] == "degraded"
        assert 'kps_child_up{child="template"} 0.0' in service.get("/metrics").body
        os.kill(pid, signal.SIGKILL)
        service.wait_said("child cannot be started", "kitchen-1", "template process is gone")
        eventually(lambda: says(service, "kitchen-1 cannot be started: its template process"), what="a reason")
        here.printed(pos.ticket("bar", [("Kopi", 1)]))
        waiting = pos.ticket("kitchen", [("Soto", 1)])
        lift.close()
        here.printed(waiting)
        here.only_copy("Soto")
        assert service.wait_for_template() != template
        eventually(lambda: not says(service, "cannot be started"), what="nothing is wrong any more")
        assert process(service, "kitchen-1")["restarts_by_cause"]["start_failed"] > 0  # type: ignore[index]
        assert service.stop() == 0


def signals(pid: int, what: str) -> set[int]:
    """SigBlk, SigIgn or SigCgt of a process, all threads together."""
    found: set[int] = set()
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        mask = int(re.findall(rf"^{what}:\s*([0-9a-f]+)$", path.read_text("utf-8"), re.MULTILINE)[0], 16)
        found |= {number for number in range(1, 65) if mask >> (number - 1) & 1}
    return found


def test_signals_are_what_they_are_meant_to_be_whatever_our_starter_has_blocked_or_ignored(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO, start=False) as here:
        service = here.service
        service.prefix = [sys.executable, "-c", BLOCKED]
        first = service.start().wait_ready(2).wait_for_template()
        os.kill(first, signal.SIGKILL)  # a child of each kind of template: forked off, and launched
        template = service.wait_for_template(other_than=first)
        pid = service.wait_for_child("bar-1")
        os.kill(pid, signal.SIGKILL)
        fresh = service.wait_for_child("bar-1", other_than=pid)
        assert process(service, "bar-1")["last_exit"] == "SIGKILL, perhaps out of memory"
        ignored = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
        for child in (service.wait_for_child("dispatcher"), service.wait_for_child("kitchen-1"), fresh):
            assert signals(child, "SigBlk") == set()
            assert signals(child, "SigIgn") >= ignored
            assert not signals(child, "SigIgn") & {signal.SIGCHLD, signal.SIGABRT, signal.SIGUSR2}
            assert signal.SIGUSR2 in signals(child, "SigCgt"), "it writes its stacks"
        assert signals(template, "SigBlk") == set()
        assert signals(template, "SigIgn") >= ignored | {signal.SIGUSR2}
        here.all_end([pos.ticket(station, [(f"Dish{station}", 1)]) for station in ("kitchen", "bar")])
        assert service.stop() == 0, "it hears TERM"


def opened(pid: int) -> set[str]:
    """What a process has open beyond the standard descriptors: sockets, pipes and files, each by a name of its own."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if int(path.name) > 2:
                found.add(str(path.readlink()))
    return {name for name in found if not name.startswith(("anon_inode:", "/memfd:kps-stats", "/dev/"))}


def test_nobody_inherits_a_descriptor_and_a_killed_supervisor_leaves_its_folders_free(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        assert service.process is not None
        first = service.wait_for_template()
        os.kill(service.wait_for_child("bar-1"), signal.SIGKILL)  # when all the others have all that they ever open
        os.kill(first, signal.SIGKILL)
        template = service.wait_for_template(other_than=first)
        here.all_end([pos.ticket(station, [(f"Dish{station}", 1)]) for station in ("kitchen", "bar")])
        supervisor = service.process.pid
        holders = defaultdict(list)
        for pid in (supervisor, template, *service.children().values()):
            for name in opened(pid):
                holders[name].append(pid)
        assert {name: pids for name, pids in holders.items() if len(pids) > 1} == {}
        locks = [name for name in holders if name.endswith("lock")]
        assert locks, "the folders are locked"
        assert all(holders[name] == [supervisor] for name in locks)
        assert len(opened(template)) == 1, "its pipe"

        family = service.family()
        service.kill()
        eventually(lambda: not group(supervisor), what=f"all of {family} have ended by themselves")
        service.start().wait_ready(2)
        assert not service.said("cannot start")
        here.printed(pos.ticket("kitchen", [("Soto", 1)]))
        assert service.stop() == 0


def test_the_next_start_ends_a_stopped_template_and_its_stopped_children(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        assert service.process is not None
        leader = service.process.pid
        stopped([service.wait_for_template(), *service.children().values()])
        service.kill()
        assert len(group(leader)) == 4, "they stand where they stood"
        service.start().wait_ready(2)
        assert group(leader) == set()
        assert service.said("children of a dead supervisor", "count=4")
        here.all_end([pos.ticket(station, [(f"Dish{station}", 1)]) for station in ("kitchen", "bar")])
        assert service.stop() == 0


def test_term_to_the_whole_group_drains_and_kill_to_it_loses_nothing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO, each={"kitchen-1": SLOW}) as here:
        service = here.service
        for number, code in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
            assert service.process is not None
            leader = service.process.pid
            dishes = {f"{number.name}{n}": pos.ticket("kitchen", long_order(f"{number.name}{n}")) for n in range(3)}
            first = f"{number.name}0"
            here.wait_sending(dishes[first])
            os.killpg(leader, number)
            assert service.wait_exit() == code
            eventually(lambda: not group(leader), what="every process has ended")  # noqa: B023
            if number is signal.SIGTERM:
                assert pos.ticket_row(dishes[first])["status"] == "printed", "what was printing was finished"  # type: ignore[index]
                assert not service.said("child died")
                assert not service.said("template gone")
            service.start().wait_ready(2)
            here.all_end(dishes.values())
            if number is signal.SIGTERM:
                for dish in dishes:
                    here.only_copy(dish)
            else:
                here.no_unmarked_duplicate(dishes)
        assert service.stop() == 0


def speakers(file: Path) -> set[int]:
    """The pids in the whole lines of a log file, which are written a moment after they are said."""
    return {json.loads(line)["pid"] for line in file.read_text("utf-8").rpartition("\n")[0].splitlines()}


def test_two_copies_of_one_template_draw_at_once_and_say_their_own_pids(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    chinese = [(f"宫保鸡丁{n}", 1) for n in range(12)]
    with shop(
        pos, pos_database, tmp_path, TWO, printer={"profile": "epson-t20iii"}, LOG_FORMAT="json", LOG_LEVEL="DEBUG"
    ) as here:
        service = here.service
        here.all_end([pos.ticket(("kitchen", "bar")[n % 2], chinese) for n in range(8)])
        pictures = [paper.raster for printer in here.printers.values() for paper in printer.papers]
        assert len(pictures) == 8
        assert all(len(picture) >= len(chinese) for picture in pictures)
        assert all(picture == pictures[0] for picture in pictures), "each draws what the others draw"
        pids = service.children()
        for name in TWO:
            (file,) = (tmp_path / "logs").glob(f"*{name}.log")
            eventually(lambda: speakers(file) == {pids[name]}, what="its lines, and only its own")  # noqa: B023
        assert service.stop() == 0


def test_rows_that_a_frame_does_not_hold_reach_a_process_that_is_about_to_begin(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        service = here.service
        template = service.wait_for_template()
        pid = service.wait_for_child("kitchen-1")
        stopped([template])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: process(service, "kitchen-1")["state"] == "starting", what="another one is asked for")
        row = pos.printer_row(here.rows["kitchen-1"])
        assert row is not None
        columns = ", ".join(f'"{name}"' for name in row if name != "id")
        with pos_database.connect().cursor() as cursor:
            cursor.execute(
                f"INSERT INTO kitchen_stationprinter ({columns}) SELECT {columns}"
                " FROM kitchen_stationprinter, generate_series(1, 1500) WHERE id = %s",
                [row["id"]],
            )
        service.signal(signal.SIGHUP)
        service.wait_said("printer rows", "count=1502")
        os.kill(template, signal.SIGCONT)
        service.wait_for_child("kitchen-1", other_than=pid)

        def last_looked_at() -> bool:
            looked = "SELECT max(printer_id) = (SELECT max(id) FROM kitchen_stationprinter) AS last"
            return bool(pos.rows(f"{looked} FROM kitchen_printerhealthcheck")[0]["last"])

        eventually(last_looked_at, what="its process knows the last of its rows")
        assert service.stop() == 0
