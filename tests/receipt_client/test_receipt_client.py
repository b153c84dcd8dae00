"""Somebody else's host agrees with our printer: receiptio 2.1.2, an npm package, prints on it and says how it went.

It shares no code with us, so what it relies on is a second opinion about the virtual printer:
* hello: it asks `DLE EOT 2` and reads cover (04), paper end (20) and error (40) from the answer. Without one for 2 s
  it sends 8192 NULs and the hello again every second; after 10 more seconds the printer is "offline".
* it asks `GS I 66` and `67` for maker and name, and chooses its commands by them.
* it sends `ESC @`, `GS a FF`, and prints only when the four bytes of automatic status come and are untroubled. Without
  them for 2 s it takes an older picture for torn and sends the NULs as above.
* the ticket ends with a cut and `GS r 1`; the first byte that looks like its answer is "success". Until then pushed
  status ends the job: cover open, paper end, error; a lost connection is "disconnect", no answer in time "timeout".
* an error in the hello it tries to end with `DLE ENQ 2`, and reports it all the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kps.demo.virtual_printer import EventKind, VirtualPrinter
from tests.conftest import require

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / ".venv" / "receipt-client" / "node_modules" / "receiptio" / "bin" / "cli.js"
LIMIT_S = 60
RECEIPT = "^^^TABLE 5\n\n2 x soup\n"
CODES = {
    "success": 0,
    "online": 100,
    "coveropen": 101,
    "paperempty": 102,
    "error": 103,
    "offline": 104,
    "disconnect": 105,
    "timeout": 106,
}


@pytest.fixture(autouse=True)
def client_is_here() -> None:
    require(shutil.which("node"), "node (Debian: apt install nodejs npm)")
    require(CLIENT.exists(), "receiptio (make receipt-client)")


@contextmanager
def client(printer: VirtualPrinter, *options: str, receipt: str = RECEIPT) -> Iterator[subprocess.Popen[str]]:
    """The client at work on this receipt; killed if the test ends before it."""
    command = ["node", "--require", str(HERE / "port.cjs"), str(CLIENT), "-d", printer.host, "-l", "en", *options]
    environment = os.environ | {"RECEIPT_CLIENT_PORT": str(printer.port)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(receipt)
            process.stdin.close()
            process.stdin = None
            yield process
        finally:
            process.kill()


def verdict(process: subprocess.Popen[str]) -> str:
    """What the client says in the end, by word and by exit code."""
    out, told = process.communicate(timeout=LIMIT_S)
    assert out == ""
    word = told.strip()
    assert process.returncode == CODES.get(word), told
    return word


def print_on(printer: VirtualPrinter, *options: str) -> str:
    with client(printer, *options) as process:
        return verdict(process)


@pytest.fixture
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(profile="epson-t20iii") as printer:
        yield printer


@pytest.mark.parametrize("profile", ["generic", "epson-t20iii", "epson-u220", "impostor"])
def test_a_receipt_is_a_success_once_it_is_on_paper(profile: str) -> None:
    with VirtualPrinter(profile=profile) as printer:
        assert print_on(printer) == "success"
        (paper,) = printer.papers
    assert "TABLE 5" in paper.text
    assert "2 x soup" in paper.text
    assert paper.complete


def test_a_printer_that_is_well_is_online(printer: VirtualPrinter) -> None:
    assert print_on(printer, "-q", "printer") == "online"
    assert printer.papers == []


@pytest.mark.parametrize(("trouble", "word"), [("paper_out", "paperempty"), ("open_cover", "coveropen")])
def test_trouble_before_the_receipt_is_named_and_nothing_is_printed(
    printer: VirtualPrinter, trouble: str, word: str
) -> None:
    getattr(printer, trouble)()
    assert print_on(printer) == word
    printer.load_paper()
    printer.close_cover()
    assert printer.papers == []


def test_a_cutter_error_is_named_and_the_client_recovers_the_printer(printer: VirtualPrinter) -> None:
    printer.cutter_error()
    assert print_on(printer) == "error"
    assert b"\x10\x05\x02" in [event.data for event in printer.events if event.kind is EventKind.REALTIME]
    assert not printer.sensors.cutter_error


def test_a_roll_that_ends_inside_the_receipt_is_named_and_the_rest_comes_later(printer: VirtualPrinter) -> None:
    printer.paper_out(after_lines=2)
    assert print_on(printer) == "paperempty"
    assert printer.papers == []
    printer.load_paper()
    assert printer.wait_paper().held


def test_a_cover_that_opens_inside_the_receipt_is_named() -> None:
    with VirtualPrinter(profile="epson-t20iii", speed="real", lines_per_s=1.0) as printer, client(printer) as process:
        printer.wait_for(lambda: any(event.text == "GS V" for event in printer.events))
        printer.open_cover()
        assert verdict(process) == "coveropen"
        assert printer.papers == []


def test_a_printer_without_power_is_disconnected(printer: VirtualPrinter) -> None:
    printer.power_off()
    assert print_on(printer) == "disconnect"


@pytest.mark.parametrize("when", ["accept", "mid", "after_cut"])
def test_a_reset_is_a_disconnect_wherever_it_comes(printer: VirtualPrinter, when: str) -> None:
    printer.reset_next(when)
    assert print_on(printer) == "disconnect"
    assert len(printer.papers) == (when == "after_cut")


def test_a_fence_that_is_never_answered_is_a_timeout(printer: VirtualPrinter) -> None:
    printer.fence_fault("lost")
    assert print_on(printer, "-t", "1") == "timeout"
    assert printer.wait_paper().complete


def test_a_network_side_that_answers_at_arrival_fools_whoever_believes_it() -> None:
    with VirtualPrinter(profile="epson-t20iii", speed="real", lines_per_s=0.1) as printer:
        printer.fence_fault("at_arrival")
        assert print_on(printer) == "success"
        assert printer.papers == []


@pytest.mark.slow
def test_a_printer_that_answers_nothing_is_offline() -> None:
    with ExitStack() as stack:
        silent, hanging, swallowing = (stack.enter_context(VirtualPrinter(name=name)) for name in "abc")
        silent.silent()
        hanging.hang()
        swallowing.swallow()
        printers = (silent, hanging, swallowing)
        clients = [stack.enter_context(client(printer)) for printer in printers]
        assert [verdict(process) for process in clients] == ["offline"] * 3
        assert [printer.papers for printer in printers] == [[], [], []]


def test_a_torn_picture_eats_the_receipt_until_the_client_has_flushed_it(printer: VirtualPrinter) -> None:
    with socket.create_connection((printer.host, printer.port)) as torn:
        torn.sendall(b"\x1dv0\x00\x48\x00\x20\x00" + b"\xff" * 40)
        printer.wait_for(lambda: printer.bytes_in == 48)
    printer.wait_connections(0)
    assert print_on(printer) == "success"
    assert "2 x soup" in printer.wait_paper().text
    assert printer.papers[0].raster[0].height == 32
