"""Printers behind device files: real pseudo-terminals, with virtual printers or a test's own hands at the other end."""

from __future__ import annotations

import itertools
import os
import tempfile
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kps.core.abilities import Abilities
from kps.core.address import FileAddress, FileKind, Flow, device_address
from kps.core.confirmation import FENCE
from kps.core.process_ids import ProcessIds, process_id_text
from kps.core.settings import Settings
from kps.core.status import PrinterStatus
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.demo.virtual_printer import VirtualPrinter
from kps.demo.virtual_printer.pseudo_terminal import PseudoTerminal
from kps.device.connection import Device, Ready, Unable
from kps.device.files import absence, open_file
from kps.device.probe import Card, probe
from kps.device.probe_wire import Limits
from kps.device.transport import Unreachable
from tests.device.watcher import Watcher

CUT = b"\x1dV\x42\x00"
IDS = ProcessIds(1000)
KINDS = (FileKind.USB, FileKind.SERIAL)
PLENTY = b"x" * 200_000
"""More than a pseudo-terminal holds."""


def at(path: str, kind: FileKind = FileKind.SERIAL) -> FileAddress:
    return FileAddress(kind, path, flow=Flow.NONE)


class Desk:
    """One device and what its caller hears."""

    def __init__(
        self, path: str, *, kind: FileKind = FileKind.SERIAL, answers: bool | None = None,
        abilities: Abilities | None = None,
    ) -> None:  # fmt: skip
        self.told: list[tuple[Reason, PrinterStatus]] = []
        self.on_blocked: Callable[[], None] = lambda: None
        self.on_pulse: Callable[[], None] = lambda: None
        self.device = Device(
            at(path, kind), timeout_s=1, pulse=lambda: self.on_pulse(), answers=answers, abilities=abilities
        )

    def send(self, data: bytes, *, hold_s: float = 10) -> Printed | NotPrinted | Uncertain:
        return self.device.send(
            data, may_write=lambda: True, first_byte=lambda: None, blocked=self._blocked, hold_s=hold_s, ids=IDS
        )

    def _blocked(self, reason: Reason, status: PrinterStatus) -> None:
        self.told.append((reason, status))
        self.on_blocked()


@pytest.fixture
def below_dev() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def bare() -> Iterator[tuple[int, str]]:
    """A line whose other end is in the test's hands: its descriptor, and the path of the host's end."""
    near, far = os.openpty()
    tty.setraw(far)
    yield near, os.ttyname(far)
    os.close(far)
    os.close(near)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("profile", "abilities", "level"),
    [
        ("epson-t20iii", Abilities(ProofLevel.PROCESS_ID, pushes=True), ProofLevel.PROCESS_ID),
        ("epson-t20iii", None, ProofLevel.REALTIME),
        ("mute", None, ProofLevel.NONE),
    ],
)
def test_a_ticket_comes_out_of_a_line_byte_for_byte(
    kind: FileKind, profile: str, abilities: Abilities | None, level: ProofLevel
) -> None:
    # CR, LF, XON, XOFF, the interrupt and the end of file: whatever a terminal would eat.
    picture = b"\x1dv0\x00\x20\x00\x01\x00" + bytes(range(32))
    data = b"\x1b@Kitchen\r\n" + picture + b"\x1cq" + CUT
    with VirtualPrinter(profile=profile) as printer, PseudoTerminal(printer) as line:
        me = Desk(line.path, kind=kind, abilities=abilities, answers=True if abilities else None)
        ready = me.device.ask()
        outcome = me.send(data)
        printer.wait_text("Kitchen")
        me.device.close()
        found = printer.bytes_of("Kitchen")
    assert isinstance(ready, Ready)
    assert isinstance(outcome, Printed)
    assert (ready.level, outcome.level) == (level, level)
    assert data in found[0]


def test_trouble_is_seen_before_the_first_byte() -> None:
    with VirtualPrinter() as printer, PseudoTerminal(printer) as line:
        printer.paper_out()
        answer = Desk(line.path).device.ask()
    assert isinstance(answer, Unable)
    assert answer.reason is Reason.PAPER_OUT


def test_nothing_rests_on_an_answer_that_does_not_say_what_it_answers() -> None:
    with VirtualPrinter(profile="epson-t20iii") as printer, PseudoTerminal(printer) as line:
        me = Desk(line.path, answers=True, abilities=Abilities(ProofLevel.FENCE, clears=True))
        me.device.ask()
        outcome = me.send(b"\x1b@Kitchen\n" + CUT)
        me.device.close()
        printer.wait_text("Kitchen")
        assert FENCE not in printer.bytes_of("Kitchen")[0]
    assert isinstance(outcome, Printed)
    assert outcome.level is ProofLevel.REALTIME
    assert not me.device.abilities.clears


def test_what_is_said_to_whoever_was_there_before_is_no_answer_to_us(bare: tuple[int, str]) -> None:
    near, path = bare
    me = Desk(path, answers=True)
    late = [b"\x12"] * 4  # all is well, to each of four questions

    def speak() -> None:
        if late:
            os.write(near, late.pop())

    me.on_pulse = speak
    answer = me.device.ask()
    assert isinstance(answer, Unable)
    assert answer.reason is Reason.SILENT


def test_a_line_that_takes_no_more_leaves_a_ticket_that_may_be_on_paper(bare: tuple[int, str]) -> None:
    _, path = bare
    me = Desk(path)
    assert isinstance(me.device.ask(), Ready)
    outcome = me.send(PLENTY, hold_s=0.2)
    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.BLOCKED, False)
    assert 0 < outcome.sent_bytes < len(PLENTY)
    assert [reason for reason, _ in me.told] == [Reason.BLOCKED]


def test_a_device_that_is_unplugged_in_mid_ticket_may_have_printed_it(below_dev: Path) -> None:
    with VirtualPrinter(profile="mute") as printer, PseudoTerminal(printer, below_dev / "kitchen-1") as line:
        printer.hang()
        me = Desk(line.path)
        me.on_blocked = line.unplug
        assert isinstance(me.device.ask(), Ready)
        outcome = me.send(PLENTY)
        assert isinstance(outcome, Uncertain)
        assert outcome.reason is Reason.CONNECTION_LOST
        assert outcome.sent_bytes > 0
        after = me.device.ask()
    assert isinstance(after, Unable)
    assert (after.reason, after.text, after.alive) == (Reason.REFUSED, f"{line.path} is not here", False)


def test_an_idle_device_that_is_unplugged_is_not_ready(below_dev: Path) -> None:
    with VirtualPrinter(profile="mute") as printer, PseudoTerminal(printer, below_dev / "kitchen-1") as line:
        me = Desk(line.path)
        assert isinstance(me.device.ask(), Ready)
        line.unplug()
        assert isinstance(me.device.ask(), Unable)


def test_what_a_device_that_is_gone_had_taken_last_counts_as_not_sent() -> None:
    with VirtualPrinter(profile="mute") as printer, PseudoTerminal(printer) as line:
        transport = open_file(at(line.path))
        assert transport.unsent() == 0
        assert transport.write(b"Kitchen") == 7
        line.unplug()
        assert transport.unsent() == 7
        transport.close()


def test_a_device_is_opened_by_one_at_a_time() -> None:
    with VirtualPrinter() as printer, PseudoTerminal(printer) as line:
        first, second = Desk(line.path), Desk(line.path)
        assert isinstance(first.device.ask(), Ready)
        refused = second.device.ask()
        first.device.close()
        assert isinstance(second.device.ask(), Ready)
        second.device.close()
    assert isinstance(refused, Unable)
    assert refused.text == f"{line.path}: another program has it"


def test_what_is_no_character_device_below_dev_is_not_opened(below_dev: Path) -> None:
    for name, target in (("shadow", "/etc/passwd"), ("null", "/dev/null"), ("nowhere", "/dev/nowhere")):
        (below_dev / name).symlink_to(target)
    (below_dev / "file").write_bytes(b"")
    os.mkfifo(below_dev / "pipe")
    settings = Settings(printer_devices=("/dev/shm/*/*",))
    expected = {
        "shadow": f"leads to {Path('/etc/passwd').resolve()}, outside of /dev",
        "nowhere": "is not here",
        "missing": "is not here",
        "file": "is no character device",
        "pipe": "is no character device",
    }
    for name, why in expected.items():
        address = at(str(below_dev / name), FileKind.USB)
        assert absence(address, settings) == f"its device {address.path} {why}"
        with pytest.raises(Unreachable, match=why):
            open_file(address)
    assert absence(at(str(below_dev / "null")), settings) == ""


@pytest.mark.parametrize(("kind", "why"), [(FileKind.USB, "is no USB printer"), (FileKind.SERIAL, "is no serial port")])
def test_a_character_device_that_is_no_printers_is_let_go(kind: FileKind, why: str) -> None:
    with pytest.raises(Unreachable, match=f"^/dev/null {why}$"):
        open_file(at("/dev/null", kind))


def test_only_what_printer_devices_has_is_ours() -> None:
    with VirtualPrinter() as printer, PseudoTerminal(printer) as line:
        address = device_address(f"serial:{line.path}", 9100)
        assert isinstance(address, FileAddress)
        closed = absence(address, Settings())
        opened = absence(address, Settings(printer_devices=("/dev/pts/*",)))
        elsewhere = absence(FileAddress(FileKind.SERIAL, line.path, "bar"), Settings(printer_devices=("/dev/pts/*",)))
    assert closed == f"its device {line.path} is outside of PRINTER_DEVICES"
    assert opened == ""
    assert elsewhere == "its device is at instance bar"


@pytest.mark.parametrize(
    ("profile", "level", "remarks"),
    [
        ("epson-t20iii", ProofLevel.PROCESS_ID, []),
        (
            "xprinter-80",
            ProofLevel.REALTIME,
            ["Its fence is not used: on this line an answer may belong to an earlier question."],
        ),
    ],
)
def test_a_probe_at_a_line_finds_what_can_be_told_apart_there(
    profile: str, level: ProofLevel, remarks: list[str]
) -> None:
    numbers = itertools.count(7_000_001, 4)
    limits = Limits(connect_s=2.0, answer_s=0.5, quiet_s=0.3, change_s=2.0, clear_s=0.5, stalled_s=2.0)
    with VirtualPrinter(profile=profile) as printer, PseudoTerminal(printer) as line:
        found = probe(
            at(line.path), Watcher(printer), card=Card("kitchen-1", "", ""),
            next_id=lambda: process_id_text(next(numbers)), may_go_on=lambda: True, limits=limits,
        )  # fmt: skip
    assert (found.abilities.level, found.abilities.clears) == (level, False)
    assert [remark for remark in found.remarks if "fence" in remark and "line" in remark] == remarks
