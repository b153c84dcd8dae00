"""`kps printers` as people use it: at a terminal, with the service at work and without, and interrupted."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kps.cli.printers import Loan
from kps.config import load
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.database import Database as Access
from kps.database.loans import Loans
from kps.database.migrations import migrate
from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from kps.device import probe as steps
from tests.conftest import Database, eventually
from tests.device.watcher import Watcher
from tests.service.harness import SLOW, Shop, environment, long_order, shop

LIMIT_S = 60.0
ONE = {"kitchen-1": ("kitchen", 1)}
TWO = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
EPSON = {"kitchen-1": {"profile": "epson-t20iii"}}
_QUESTION = re.compile(r"^\? ([^\n]*) \[y/n\]: \Z", re.MULTILINE)


class Terminal:
    """`kps printers probe` in a process of its own; what it asks is answered by a person with the device."""

    def __init__(self, env: dict[str, str], name: str, person: Watcher | None, *options: str) -> None:
        self._person = person
        self._answered = 0
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kps.cli", "printers", "probe", name, *options],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def go_on(self) -> int:
        """Answer question after question to the end; the exit code."""
        self._answer(self._open_question())
        while self._hear():
            self._answer(self._open_question())
        return self._exit_code()

    def go_on_until(self, question: str) -> None:
        """Answer question after question up to this one, which stays open."""
        while self._open_question() != question:
            self._answer(self._open_question())
            assert self._hear(), f"it has ended: {self.text}"

    def wait_says(self, words: str) -> None:
        """Until it has said these words; no question is answered."""
        while words not in self.text:
            assert self._hear(), f"it has ended: {self.text}"

    def answer(self) -> None:
        """Answer the open question, and listen to nothing."""
        self._answer(self._open_question())

    def end_by(self, number: int) -> int:
        """Send a signal, answer nothing more; the exit code."""
        self.process.send_signal(number)
        while self._hear():
            pass
        return self._exit_code()

    def _hear(self) -> bool:
        """Take what it says next; False = it has ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT_S)
        assert ready, f"it says nothing more: {self.text}"
        data = os.read(self.process.stdout.fileno(), 65536)
        self.text += data.decode()
        return bool(data)

    def _exit_code(self) -> int:
        assert "Traceback" not in self.text, self.text
        return self.process.wait(LIMIT_S)

    def _open_question(self) -> str:
        found = _QUESTION.search(self.text[self._answered :])
        return found.group(1) if found else ""

    def _answer(self, question: str) -> None:
        if not question:
            return
        assert self._person is not None, question
        assert self.process.stdin is not None
        self._answered = len(self.text)
        self.process.stdin.write(b"y\n" if self._person.confirm(question) else b"n\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdout.close()
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            return


@contextmanager
def terminal(env: dict[str, str], printer: VirtualPrinter | None, name: str, *options: str) -> Iterator[Terminal]:
    made = Terminal(env, name, Watcher(printer, name=name) if printer is not None else None, *options)
    try:
        yield made
    finally:
        made.end()


@contextmanager
def at(here: Shop, name: str, *options: str) -> Iterator[Terminal]:
    """Probing a printer of a shop."""
    with terminal(here.service.env, here.printers[name], name, *options) as made:
        yield made


def kps(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kps.cli", "printers", *arguments],
        env=env, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def device(pos: PosWriter, printer: VirtualPrinter) -> dict[str, Any]:
    (row,) = pos.rows("SELECT * FROM kps.printer WHERE printer_key LIKE %s", [f"%:{printer.port}"])
    return row


def shown(here: Shop, name: str) -> dict[str, Any]:
    """The printer in /status."""
    status = here.service.status() or {"printers": []}
    return next((printer for printer in status["printers"] if printer["name"] == name), {})


def wait_shown(here: Shop, name: str, **values: object) -> None:
    eventually(
        lambda: all(shown(here, name).get(field) == value for field, value in values.items()),
        timeout=20, what=f"/status shows {name} with {values}",
    )  # fmt: skip


# With the service at work.


def test_a_probe_borrows_the_printer_its_tickets_wait_and_come_out_once_it_is_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, each=EPSON) as here:
        printer = here.printers["kitchen-1"]
        here.printed(pos.ticket("kitchen", [("Before", 1)]))
        with at(here, "kitchen-1") as probe:
            probe.go_on_until(steps.FENCE_CAME_OUT)
            wait_shown(here, "kitchen-1", state="held", is_online=False)
            assert shown(here, "kitchen-1")["reason"].startswith("borrowed for a probe by ")
            ticket = pos.ticket("kitchen", [("During", 1)])
            here.service.wait_said("ticket held", str(ticket), "held")
            assert probe.go_on() == 0
        assert "level     process_id" in probe.text
        here.printed(ticket)
        here.only_copy("During")
        assert here.actions(ticket)[0] == "print_start"
        assert pos.ticket_row(ticket)["print_attempts"] == 1  # type: ignore[index]
        here.printed(pos.ticket("kitchen", [("After", 1)]))
        here.only_copy("After")
        wait_shown(here, "kitchen-1", state="ready", proof="process_id")
        assert here.service.said("printer borrowed", "kitchen-1")
        assert not here.service.said("lease lost")
        assert not printer.concurrent_writers_seen
        row = device(pos, printer)
        assert (row["model"], row["pushes"], row["clears"]) == ("EPSON TM-T20III", True, True)


def test_meanwhile_the_backup_prints(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, TWO, each=EPSON) as here, at(here, "kitchen-1") as probe:
        probe.go_on_until(steps.OPEN_THE_COVER)
        ticket = pos.ticket("kitchen", [("Soto", 1)])
        here.printed(ticket)
        copy = here.only_copy("Soto")
        assert copy.printer == "kitchen-2"
        assert "BACKUP FOR kitchen-1" in copy.text
        assert probe.end_by(signal.SIGINT) == 1
        here.wait_state("kitchen-1", "ready")
        here.printed(pos.ticket("kitchen", [("Rawon", 1)]))
        assert here.only_copy("Rawon").printer == "kitchen-1"


def test_the_ticket_in_the_printer_is_finished_first_and_the_claimed_ones_are_given_back_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, each={"kitchen-1": SLOW}) as here:
        tickets = {f"Dish{n}": pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(4)}
        here.wait_sending(tickets["Dish0"])
        with at(here, "kitchen-1") as probe:
            probe.go_on_until(steps.CARD_IS_HERE)
            assert "waiting until instance" in probe.text
            statuses = {dish: pos.ticket_row(ticket)["status"] for dish, ticket in tickets.items()}  # type: ignore[index]
            assert statuses["Dish0"] == "printed"
            assert statuses["Dish3"] == "new"
            assert set(statuses.values()) == {"printed", "new"}
            assert probe.end_by(signal.SIGINT) == 1
        here.all_end(tickets.values())
        for dish, ticket in tickets.items():
            here.only_copy(dish)
            assert pos.ticket_row(ticket)["print_attempts"] == 1  # type: ignore[index]
        assert not here.printers["kitchen-1"].concurrent_writers_seen


def test_an_interrupted_probe_gives_the_printer_back_at_once_and_stores_nothing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, each=EPSON) as here:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with at(here, "kitchen-1") as probe:
                probe.go_on_until(steps.CLOSE_THE_COVER)
                assert probe.end_by(number) == 1
            assert "nothing stored: interrupted" in probe.text
            row = device(pos, here.printers["kitchen-1"])
            assert (row["proof_level"], row["probed_at"], row["borrowed_by"]) == (None, None, "")
            here.printers["kitchen-1"].close_cover()
            here.printed(pos.ticket("kitchen", [(f"Soto{number}", 1)]))
            here.only_copy(f"Soto{number}")
            assert all(paper.complete for paper in here.printers["kitchen-1"].papers)


def test_a_probe_that_is_interrupted_before_it_has_the_printer_costs_no_ticket_anything(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, each={"kitchen-1": SLOW}) as here:
        tickets = {f"Dish{n}": pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(2)}
        here.wait_sending(tickets["Dish0"])
        with at(here, "kitchen-1") as probe:
            probe.wait_says("waiting until instance")
            assert probe.end_by(signal.SIGINT) == 1
        here.all_end(tickets.values())
        for dish in tickets:
            here.only_copy(dish)


def test_a_probe_that_is_interrupted_while_it_waits_for_the_printer_gives_it_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE) as here, at(here, "kitchen-1") as probe:
        probe.go_on_until(steps.FENCE_CAME_OUT)
        probe.answer()
        here.printers["kitchen-1"].wait_text("40 of 40")  # this one never answers a process ID
        assert probe.end_by(signal.SIGINT) == 1
        here.printed(pos.ticket("kitchen", [("Soto", 1)]))
        here.only_copy("Soto")


def test_a_killed_probe_lapses_and_the_service_takes_the_printer_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, each=EPSON) as here, at(here, "kitchen-1") as probe:
        probe.go_on_until(steps.OPEN_THE_COVER)
        ticket = pos.ticket("kitchen", [("Soto", 1)])
        assert probe.end_by(signal.SIGKILL) == -signal.SIGKILL
        wait_shown(here, "kitchen-1", state="held")
        # As if the database's clock had gone back by an hour meanwhile.
        pos.execute("UPDATE kps.printer SET borrowed_until = borrowed_until + interval '1 hour'")
        cut = "SELECT 1 FROM kps.printer WHERE borrowed_until < clock_timestamp() + interval '31 seconds'"
        eventually(lambda: bool(pos.rows(cut)), timeout=20, what="the service cuts the loan")
        pos.execute("UPDATE kps.printer SET borrowed_until = clock_timestamp()")
        here.printed(ticket)
        here.only_copy("Soto")
        assert device(pos, here.printers["kitchen-1"])["proof_level"] is None


def test_a_second_probe_of_the_same_printer_is_refused_and_of_another_is_not(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with (
        shop(pos, pos_database, tmp_path, TWO, printer={"profile": "epson-t20iii"}) as here,
        at(here, "kitchen-1") as first,
    ):
        first.go_on_until(steps.OPEN_THE_COVER)
        with at(here, "kitchen-1") as second:
            assert second.go_on() == 1
            assert "kitchen-1 is being probed already, by " in second.text
            assert f"(process {first.process.pid})" in second.text
        with at(here, "kitchen-2") as other:
            other.go_on_until(steps.OPEN_THE_COVER)
        first.go_on_until(steps.CLOSE_THE_COVER)


def test_of_two_instances_neither_takes_a_borrowed_printer(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path / "a", ONE, each=EPSON, INSTANCE_NAME="one") as here:
        other = here.another(tmp_path / "b", INSTANCE_NAME="two")
        try:
            other.start().wait_ready(1)
            with at(here, "kitchen-1") as probe:
                probe.go_on_until(steps.OPEN_THE_COVER)
                assert here.printers["kitchen-1"].connections_open == 1
                assert probe.end_by(signal.SIGINT) == 1
            here.printed(pos.ticket("kitchen", [("Soto", 1)]))
            assert not here.printers["kitchen-1"].concurrent_writers_seen
        finally:
            other.end()


# The loan.


def test_a_loan_is_renewed_while_a_person_thinks_and_given_back_in_the_end(
    pos: PosWriter, lender: tuple[Settings, Loans]
) -> None:
    settings, loans = lender
    with Loan(settings, loans, KEY, "kitchen-1", renew_every_s=0.3) as loan:
        first = until(pos)
        eventually(lambda: until(pos) > first, what="a renewal")
        assert loan.holds()
    assert not loan.holds()
    assert pos.rows("SELECT 1 FROM kps.printer WHERE borrowed_until <= clock_timestamp()")


def test_a_loan_that_somebody_else_has_is_not_believed_any_more(pos: PosWriter, lender: tuple[Settings, Loans]) -> None:
    settings, loans = lender
    with Loan(settings, loans, KEY, "kitchen-1", renew_every_s=0.3) as loan:
        pos.execute("UPDATE kps.printer SET borrowed_by = 'somebody else'")
        theirs = until(pos)
        eventually(lambda: not loan.holds(), timeout=20, what="the loss is noticed")
    assert until(pos) == theirs


KEY = PrinterKey(":10.9.9.1:9100")


def until(pos: PosWriter) -> datetime:
    (row,) = pos.rows("SELECT borrowed_until FROM kps.printer")
    moment = row["borrowed_until"]
    assert isinstance(moment, datetime)
    return moment


@pytest.fixture
def lender(
    pos: PosWriter, pos_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, Loans]]:
    """The settings of an instance, and a person who has not borrowed anything yet."""
    for name, value in environment(pos_database, tmp_path).items():
        monkeypatch.setenv(name, value)
    settings = load()
    database = Access(settings.database, "test")
    migrate(database, automatic=True)
    yield settings, Loans(database, "anna@till (process 4)")
    database.close()


# Without the service.


@pytest.mark.parametrize(("options", "expected"), [((), "process_id"), (("--yes",), "realtime")])
def test_it_works_before_the_first_start_of_the_service(
    pos: PosWriter, pos_database: Database, tmp_path: Path, options: tuple[str, ...], expected: str
) -> None:
    with VirtualPrinter(name="bar-1", profile="epson-t20iii") as printer:
        pos.add_printer(printer.host, printer.port, "bar", 1, "Bar-1")
        env = environment(pos_database, tmp_path)
        with terminal(env, None if options else printer, "bar-1", *options) as probe:
            assert probe.go_on() == 0
        row = device(pos, printer)
        assert (row["proof_level"], row["pushes"], row["clears"]) == (expected, not options, not options)
        listed = kps(env, "list")
        assert listed.returncode == 0
        (line,) = [line for line in listed.stdout.splitlines() if line.startswith("Bar-1")]
        assert f":127.0.0.1:{printer.port}" in line
        assert f"not served  {expected}" in line
        assert "EPSON TM-T20III" in line
        assert f"(process {probe.process.pid})" in line


def test_what_proof_levels_says_is_shown_as_what_is_in_force(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with VirtualPrinter(name="bar-1", profile="epson-t20iii") as printer:
        pos.add_printer(printer.host, printer.port, "bar", 1, "Bar-1")
        pos.add_printer(printer.host, printer.port, "grill", 1, "Grill-1")
        pos.add_printer("10.9.9.1", 9100, "kitchen", 1, "kitchen-1")
        env = environment(pos_database, tmp_path, PROOF_LEVELS="GRILL-1=fence+clears")
        said = kps(env, "probe", "bar-1", "--yes").stdout
        assert "level     realtime" in said
        assert said.splitlines()[-1] == "PROOF_LEVELS outweighs this: fence (set), pushes no, clears yes"
        lines = kps(env, "list").stdout.splitlines()
        for name in ("Bar-1", "Grill-1"):
            (line,) = [line for line in lines if line.startswith(name)]
            assert re.search(r"not served  fence \(set\) +no +yes +EPSON TM-T20III", line), line
        assert "(set)" not in next(line for line in lines if line.startswith("kitchen-1"))
        plain = kps(environment(pos_database, tmp_path), "list").stdout
        assert "realtime" in plain
        assert "(set)" not in plain
        assert "PROOF_LEVELS" not in kps(environment(pos_database, tmp_path), "probe", "bar-1", "--yes").stdout


def test_a_name_in_proof_levels_that_no_printer_has_is_told_in_the_log_and_in_health(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, ONE, PROOF_LEVELS="kitchn-1=fence, Kitchen-1=realtime") as here:
        here.service.wait_said("proof level for no printer", "kitchn-1")
        notices = (here.service.status() or {})["notices"]
        assert [text for text in notices if "PROOF_LEVELS" in text] == [
            "PROOF_LEVELS names kitchn-1, and no printer is called so"
        ]


def test_a_name_that_fits_no_printer_or_several_is_refused_with_those_there_are(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    pos.add_printer("10.9.9.1", 9100, "kitchen", 1, "kitchen-1")
    pos.add_printer("10.9.9.2", 9100, "kitchen", 2, "twin")
    pos.add_printer("10.9.9.3", 9100, "bar", 1, "Twin")
    env = environment(pos_database, tmp_path)
    unknown = kps(env, "probe", "grill")
    assert unknown.returncode == 2
    said, _, known = unknown.stderr.strip().partition("; there are: ")
    assert said == "kps: no printer is called grill"
    assert sorted(known.split(", ")) == ["Twin", "kitchen-1", "twin"]
    several = kps(env, "probe", "TWIN")
    assert several.returncode == 2
    assert "10.9.9.2:9100" in several.stderr
    assert "10.9.9.3:9100" in several.stderr
    assert kps(env, "probe", "kitchen-1", "--yes", "--overflow").returncode == 2


def test_a_printer_that_cannot_be_reached_stores_nothing_and_is_given_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with VirtualPrinter(name="bar-1") as printer:
        pos.add_printer(printer.host, printer.port, "bar", 1, "bar-1")
        printer.power_off()
        said = kps(environment(pos_database, tmp_path), "probe", f"{printer.host}:{printer.port}", "--yes")
        assert said.returncode == 1
        assert "nothing stored: the printer cannot be reached: connection refused" in said.stdout
        assert pos.rows("SELECT 1 FROM kps.printer WHERE borrowed_until <= clock_timestamp() AND probed_at IS NULL")


def test_without_anybody_at_the_terminal_nothing_is_stored(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with VirtualPrinter(name="bar-1") as printer:
        pos.add_printer(printer.host, printer.port, "bar", 1, "bar-1")
        said = kps(environment(pos_database, tmp_path), "probe", "bar-1")
        assert (said.returncode, said.stdout.splitlines()[-1]) == (
            1,
            "nothing stored: nobody answers here; where nobody stands at the printer, use --yes",
        )


def test_without_a_database_it_says_so(pos_database: Database, tmp_path: Path) -> None:
    env = environment(pos_database, tmp_path, DB_PORT=1)
    assert "refuses connections" in kps(env, "list").stderr
    said = kps(env, "probe", "bar-1")
    assert said.returncode == 1
    assert "refuses connections" in said.stdout
