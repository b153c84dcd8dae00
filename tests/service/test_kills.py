"""kill -9 of any of our processes, under the shipped supervisord file: nothing lost, nothing doubled unmarked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Service, Shop, group, long_order, shop

CONF = Path(__file__).parents[2] / "supervisord.conf"
STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


class Supervised(Service):
    """An instance under the real supervisord with the shipped file; `process` is supervisord."""

    run: Path
    """Its folder has a short path, whatever the user is called: a socket's may have 107 characters."""

    def start(self) -> Supervised:
        run = self.run
        text = CONF.read_text()
        assert "command=python -m kps.supervisor\n" in text
        conf = run / "supervisord.conf"
        conf.write_text(text.replace("command=python ", f"command={sys.executable} "))
        environment = self.env | {"KPS_RUN_DIR": str(run), "PYTHONPATH": str(CONF.parent)}
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
                env=environment, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        return self

    def supervisor_pid(self) -> int:
        """The pid of kps.supervisor, once supervisord has started it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def there() -> int | None:
            for pid in children.read_text().split():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if b"kps.supervisor" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        return int(pid)
            return None

        pid = eventually(there, what="supervisord has started the service")
        assert pid is not None
        return pid


@contextlib.contextmanager
def supervised(
    pos: PosWriter, database: Database, folder: Path, each: dict[str, dict[str, object]] | None = None
) -> Iterator[tuple[Shop, Supervised]]:
    """A shop whose instance runs under supervisord; nothing of it is left at the end."""
    with (
        shop(pos, database, folder, STATIONS, start=False, each=each) as here,
        tempfile.TemporaryDirectory(prefix="kps-run-") as run,
    ):
        service = Supervised(database, folder)
        service.run = Path(run)
        here.service = service
        groups: set[int] = set()
        try:
            service.start().wait_ready(2)
            groups.add(service.supervisor_pid())
            yield here, service
            groups.add(service.supervisor_pid())
            assert service.stop() == 0
            eventually(lambda: not any(group(leader) for leader in groups), what="every process has ended")
        finally:
            service.end()
            for leader in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(leader, signal.SIGKILL)


def orders(pos: PosWriter, name: str, count: int = 3) -> dict[str, int]:
    """Tickets for both printers in turn: dish -> ticket."""
    stations = ["kitchen", "bar"]
    return {f"{name}{n}": pos.ticket(stations[n % 2], [(f"{name}{n}", 1)]) for n in range(count * 2)}


def test_killed_idle_processes_are_replaced_and_the_next_tickets_print_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with supervised(pos, pos_database, tmp_path) as (here, service):
        for name in ("kitchen-1", "dispatcher"):
            pid = service.wait_for_child(name)
            os.kill(pid, signal.SIGKILL)
            tickets = orders(pos, name.replace("-", ""))
            here.all_end(tickets.values())
            assert service.wait_for_child(name, other_than=pid)
            for dish, ticket in tickets.items():
                here.only_copy(dish)
                assert pos.ticket_row(ticket)["print_attempts"] == 1  # type: ignore[index]

        first = service.supervisor_pid()
        children = group(first)
        assert len(children) >= 4
        os.kill(first, signal.SIGKILL)
        tickets = orders(pos, "supervisor")
        here.all_end(tickets.values())
        eventually(lambda: not group(first), what="no process of the dead generation is left")
        for dish in tickets:
            here.only_copy(dish)
        assert service.supervisor_pid() != first


def test_a_printer_process_killed_in_mid_ticket_is_replaced_and_its_ticket_comes_marked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with supervised(pos, pos_database, tmp_path, {"kitchen-1": SLOW}) as (here, service):
        pid = service.wait_for_child("kitchen-1")
        tickets = {f"Dish{n}": pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(3)}
        here.wait_sending(tickets["Dish0"])
        os.kill(pid, signal.SIGKILL)
        here.all_end(tickets.values())
        here.no_unmarked_duplicate(tickets)
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in here.copies("Dish0")[-1].text
        for dish in ("Dish1", "Dish2"):
            here.only_copy(dish)
        assert [pos.ticket_row(ticket)["print_attempts"] for ticket in tickets.values()] == [1, 1, 1]  # type: ignore[index]


def test_a_supervisor_killed_in_mid_ticket_loses_nothing_and_the_outcome_is_kept(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with supervised(pos, pos_database, tmp_path, {"kitchen-1": SLOW}) as (here, service):
        tickets = {f"Dish{n}": pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(4)}
        here.wait_sending(tickets["Dish0"])
        first = service.supervisor_pid()
        os.kill(first, signal.SIGKILL)
        here.all_end(tickets.values(), timeout=40)
        here.no_unmarked_duplicate(tickets)
        eventually(lambda: not group(first), what="no process of the dead generation is left")


def test_a_dispatcher_killed_under_load_loses_nothing_and_marks_nothing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with supervised(pos, pos_database, tmp_path, {"kitchen-1": SLOW}) as (here, service):
        printers = {name: service.wait_for_child(name) for name in STATIONS}
        tickets: dict[str, int] = {}
        for turn in range(3):
            pid = service.wait_for_child("dispatcher")
            tickets |= orders(pos, f"Turn{turn}x", 1)
            os.kill(pid, signal.SIGKILL)
            tickets |= orders(pos, f"Turn{turn}y", 1)
            service.wait_for_child("dispatcher", other_than=pid)
        here.all_end(tickets.values(), timeout=40)
        for dish in tickets:
            here.only_copy(dish)
        assert {name: service.wait_for_child(name) for name in STATIONS} == printers, "the printers were left alone"


def test_a_printer_that_seems_to_be_held_by_the_last_generation_costs_no_try(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    printer = {"connections": "one_refuse", "end_noticed_after": 7.0, "idle_timeout": None}
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, printer=printer) as here:
        here.service.kill_group()
        ticket = pos.ticket("bar", [("Dish1", 1)])
        here.service.start()
        here.service.wait_said("perhaps still held")
        row = here.printed(ticket)
        assert row["print_attempts"] == 1
        assert "print_failed" not in here.actions(ticket)
        here.only_copy("Dish1")


def test_a_copy_that_a_killed_process_left_is_told_of_by_a_successor_that_was_there_before_it_was_given_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, each={"kitchen-1": SLOW}) as here:
        pid = here.service.wait_for_child("kitchen-1")
        ticket = pos.ticket("kitchen", long_order("Dish1"))
        here.wait_sending(ticket)
        with contextlib.closing(psycopg2.connect(pos_database.dsn)) as locker, locker, locker.cursor() as cursor:
            cursor.execute("SELECT 1 FROM kps.printer FOR NO KEY UPDATE")
            os.kill(pid, signal.SIGKILL)
            successor = here.service.wait_for_child("kitchen-1", other_than=pid)
            here.service.wait_said("printer state", "state=ready", f"pid={successor}")
        here.printed(ticket)
        eventually(
            lambda: "may_have_printed" in [row["error_code"] for row in pos.log_rows(ticket)],
            what="the log says that a copy may have come out",
        )


def test_a_printer_process_that_aborts_again_and_again_comes_back_and_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS) as here:
        pid = here.service.wait_for_child("bar-1")
        for _ in range(3):
            os.kill(pid, signal.SIGABRT)
            pid = here.service.wait_for_child("bar-1", other_than=pid)
        ticket = pos.ticket("bar", [("Dish1", 1)])
        here.printed(ticket)
        here.only_copy("Dish1")
        assert here.service.stop() == 0
        eventually(lambda: not here.service.family(), what="every process has ended")
