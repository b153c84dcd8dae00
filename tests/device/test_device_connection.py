"""A device, asked and sent to over real loopback sockets, keeps the promises of its outcomes."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from scripted_printer import (
    COVER_OPEN,
    FINE,
    PAPER_OUT,
    Script,
    ScriptedPrinter,
    go_deaf,
    never_read,
    oblige,
    obliging,
    reset,
)

from kps.core.abilities import Abilities
from kps.core.address import TcpAddress
from kps.core.status import PaperState, PrinterStatus
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.device import tcp
from kps.device.connection import Device, Ready, Unable
from kps.device.preparing import PUSH_ALL
from kps.device.transport import Limit

TICKET = b"1 x Nasi Goreng\n" * 20
LONG_TICKET = b"x" * 60_000

MakePrinter = Callable[..., ScriptedPrinter]


@pytest.fixture
def printer() -> Iterator[MakePrinter]:
    made: list[ScriptedPrinter] = []

    def make(*scripts: Script, receive_buffer: int | None = None) -> ScriptedPrinter:
        made.append(ScriptedPrinter(*(scripts or (oblige,)), receive_buffer=receive_buffer))
        return made[-1]

    yield make
    for each in made:
        each.stop()


class Caller:
    """Who owns a device in these tests: pulses, consents, and remembers what it was told."""

    def __init__(
        self, port: int, *, answers: bool | None = True, abilities: Abilities | None = None, fresh_s: float = 0.0
    ) -> None:
        self.pulses = 0
        self.first_bytes = 0
        self.told: list[tuple[Reason, PrinterStatus]] = []
        self.on_pulse: Callable[[], None] = lambda: None
        self.on_blocked: Callable[[], None] = lambda: None
        self.may_write: Callable[[], bool] = lambda: True
        self.device = Device(
            TcpAddress("127.0.0.1", port),
            timeout_s=1,
            pulse=self._pulse,
            answers=answers,
            abilities=abilities,
            fresh_s=fresh_s,
        )

    def send(self, data: bytes = TICKET, *, hold_s: float = 5) -> Printed | NotPrinted | Uncertain:
        return self.device.send(
            data, may_write=lambda: self.may_write(), first_byte=self._first_byte, blocked=self._blocked, hold_s=hold_s
        )

    def _pulse(self) -> None:
        self.pulses += 1
        self.on_pulse()

    def _first_byte(self) -> None:
        self.first_bytes += 1

    def _blocked(self, reason: Reason, status: PrinterStatus) -> None:
        self.told.append((reason, status))
        self.on_blocked()


@pytest.fixture
def caller() -> Iterator[Callable[..., Caller]]:
    made: list[Caller] = []

    def make(target: ScriptedPrinter | int, **settings: object) -> Caller:
        port = target if isinstance(target, int) else target.port
        made.append(Caller(port, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.device.close(abort=True)


MakeCaller = Callable[..., Caller]


def wait_for_end(device: Device) -> None:
    """Until the printer's end of the connection has arrived."""
    descriptor = device.fileno()
    assert descriptor is not None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# Asking


def test_a_good_printer_is_ready_and_prints(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there, answers=None)

    ready = me.device.ask()
    outcome = me.send()

    assert isinstance(ready, Ready)
    assert (ready.level, ready.status.paper, ready.response_ms >= 1) == (ProofLevel.REALTIME, PaperState.OK, True)
    assert me.device.answers is True
    assert outcome == Printed(ProofLevel.REALTIME, len(TICKET))
    assert bytes(there.paper) == TICKET
    assert there.questions == [1, 2, 3, 4, 1, 2, 3, 4]
    assert (me.first_bytes, me.told, me.device.bytes_sent) == (1, [], len(TICKET))


def test_a_connection_is_kept_for_the_next_ticket(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there)

    for _ in range(3):
        assert isinstance(me.device.ask(), Ready)
        assert isinstance(me.send(), Printed)

    assert (there.connections, me.device.reconnects) == (1, 0)
    assert bytes(there.paper) == TICKET * 3


def test_a_closed_port_is_refused(caller: MakeCaller) -> None:
    me = caller(free_port())

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.alive, answer.status) == (Reason.REFUSED, False, PrinterStatus())
    assert not me.device.connected
    assert isinstance(me.send(), NotPrinted)


def test_a_host_name_is_looked_up() -> None:
    device = Device(TcpAddress("localhost", free_port()), timeout_s=1, pulse=lambda: None, answers=None)

    answer = device.ask()

    assert isinstance(answer, Unable)
    assert answer.reason is Reason.REFUSED


@pytest.mark.parametrize(("host", "port"), [("a..b", 9100), ("127.0.0.1", 70_000), ("127.0.0.1", 0)])
def test_an_address_that_is_none_is_unresolvable(host: str, port: int) -> None:
    answer = Device(TcpAddress(host, port), timeout_s=1, pulse=lambda: None, answers=None).ask()

    assert isinstance(answer, Unable)
    assert answer.reason is Reason.UNRESOLVABLE


def link_local() -> str:
    """An address of this host with its zone; '' if it has none."""
    for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines() if socket.has_ipv6 else ():
        digits, _, _, scope, _, interface = line.split()
        if scope == "20":
            return f"{ip_address(bytes.fromhex(digits))}%{interface}"
    return ""


def test_a_link_local_address_is_reached_in_its_zone() -> None:
    host = link_local()
    if not host:
        pytest.skip("lacks a network interface with a link-local IPv6 address")
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4])
        listening.listen()
        device = Device(TcpAddress(host, listening.getsockname()[1]), timeout_s=1, pulse=lambda: None, answers=None)
        device.ask()
        connected = device.connected
        device.close()
    assert connected


ASKED_WITHOUT_A_DESCRIPTOR = """
import contextlib, os, resource, sys
from kps.core.address import TcpAddress
from kps.device.connection import Device
device = Device(TcpAddress(sys.argv[1], 9100), timeout_s=1, pulse=lambda: None, answers=None)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
with contextlib.suppress(OSError):
    while True:
        os.dup(0)
print(device.ask().reason.value)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "fe80::1%lo"])
def test_a_process_without_a_free_descriptor_says_so_and_lives(host: str) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASKED_WITHOUT_A_DESCRIPTOR, host],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (asked.returncode, asked.stdout.strip()) == (0, "host_full"), asked.stderr


@pytest.mark.parametrize("zone", ["no-such-if", "4294967296", "²", "x" * 300])
def test_a_zone_that_this_host_has_not_is_a_trouble_with_a_sentence(zone: str) -> None:
    answer = Device(TcpAddress(f"fe80::1%{zone}", 9100), timeout_s=1, pulse=lambda: None, answers=None).ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.text) == (Reason.UNRESOLVABLE, f"this host has no network interface {zone}")


def test_a_device_that_never_answered_is_ready_without_proof(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    there.answers = None
    me = caller(there, answers=None)

    ready = me.device.ask()
    outcome = me.send()

    assert isinstance(ready, Ready)
    assert (ready.level, ready.status) == (ProofLevel.NONE, PrinterStatus())
    assert me.device.answers is None
    assert outcome == Printed(ProofLevel.NONE, len(TICKET))
    there.wait_for(lambda: bytes(there.paper) == TICKET)
    assert me.pulses >= 2


def test_a_mute_device_is_not_asked_before_each_ticket(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    there.answers = None
    me = caller(there, answers=False)

    for _ in range(3):
        assert isinstance(me.device.ask(), Ready)
        assert isinstance(me.send(), Printed)

    there.wait_for(lambda: bytes(there.paper) == TICKET * 3)
    assert there.questions == [1]


def test_a_device_that_used_to_answer_and_is_silent_is_unable(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    there.answers = None
    me = caller(there, answers=True)

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.alive, answer.status) == (Reason.SILENT, True, PrinterStatus())
    there.answers = FINE
    assert isinstance(me.device.ask(), Ready)
    assert there.connections == 2


def test_a_first_answer_that_comes_late_is_learned_on_a_new_connection(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    asked_again = threading.Event()

    def answer_late(there: ScriptedPrinter, connection: socket.socket) -> None:
        asked_again.wait(10)
        connection.sendall(b"\x12")
        oblige(there, connection)

    there = printer(answer_late, oblige)
    me = caller(there, answers=None)
    assert isinstance(me.device.ask(), Ready)

    asked_again.set()
    levels = iter(lambda: me.device.ask(), None)
    ready = next(answer for answer in levels if isinstance(answer, Ready) and answer.level is ProofLevel.REALTIME)

    assert ready.status.online is True
    assert me.device.answers is True
    assert there.connections == 2


@pytest.mark.parametrize(
    ("answers", "reason", "text"),
    [(PAPER_OUT, Reason.PAPER_OUT, "paper out"), (COVER_OPEN, Reason.COVER_OPEN, "cover open")],
)
def test_a_printer_in_trouble_says_so_before_a_byte_of_a_ticket_leaves(
    printer: MakePrinter, caller: MakeCaller, answers: tuple[int, int, int, int], reason: Reason, text: str
) -> None:
    there = printer()
    there.answers = answers
    me = caller(there)

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.text, answer.alive) == (reason, text, True)
    assert answer.status.online is False
    assert bytes(there.paper) == b""
    there.answers = FINE
    assert isinstance(me.device.ask(), Ready)
    assert there.connections == 1


def test_answers_are_found_among_noise_and_pushed_status_in_any_portions(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def chatter(there: ScriptedPrinter, connection: socket.socket) -> None:
        for data in there.incoming(connection):
            for query in data[2::3]:
                for portion in (b"\xff\x10", b"\x00\x00", b"\x00\x13\x11\x81" + bytes((PAPER_OUT[query - 1],))):
                    connection.sendall(portion)

    there = printer(chatter)
    me = caller(there)

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert answer.reason is Reason.PAPER_OUT


def test_bytes_that_are_no_answer_do_not_count_as_one(printer: MakePrinter, caller: MakeCaller) -> None:
    def nonsense(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in there.incoming(connection):
            connection.sendall(b"\xf7\x00\x40\x91")

    me = caller(printer(nonsense))

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.status) == (Reason.SILENT, PrinterStatus())


def test_stale_bytes_from_before_are_not_taken_for_answers(printer: MakePrinter, caller: MakeCaller) -> None:
    pushed = threading.Event()

    def push_later(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4 and not pushed.is_set():
                connection.sendall(bytes(PAPER_OUT))
                pushed.set()

    there = printer(push_later)
    me = caller(there)
    assert isinstance(me.device.ask(), Ready)
    assert pushed.wait(10)

    assert isinstance(me.device.ask(), Ready)


def test_an_idle_connection_that_the_printer_closed_is_replaced_before_the_ticket(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def close_after_hello(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                return

    there = printer(close_after_hello, oblige)
    me = caller(there)
    assert isinstance(me.device.ask(), Ready)

    assert isinstance(me.device.ask(), Ready)
    assert me.send() == Printed(ProofLevel.REALTIME, len(TICKET))

    assert bytes(there.paper) == TICKET
    assert (there.connections, me.device.reconnects) == (2, 1)


def test_a_connection_that_is_reset_at_every_hello_is_unable(printer: MakePrinter, caller: MakeCaller) -> None:
    me = caller(printer(lambda _, connection: reset(connection)))

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert answer.reason in (Reason.CONNECTION_LOST, Reason.REFUSED)
    assert not me.device.connected


@pytest.mark.root  # some kernels let only root filter what arrives at a socket
def test_a_host_that_died_while_idle_is_told_from_a_silent_printer(printer: MakePrinter, caller: MakeCaller) -> None:
    deaf = threading.Event()

    def die_after_hello(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                go_deaf(connection)
                deaf.set()
                there.over.wait(10)

    me = caller(printer(die_after_hello))
    assert isinstance(me.device.ask(), Ready)
    assert deaf.wait(10)

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.alive) == (Reason.CONNECTION_LOST, False)


def test_a_printer_that_has_just_answered_is_not_asked_again(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there, fresh_s=60)

    first, second = me.device.ask(), me.device.ask()

    assert isinstance(second, Ready)
    assert (there.questions, second.status) == ([1, 2, 3, 4], first.status)
    assert isinstance(me.device.ask(whole=True), Ready)
    assert there.questions == [1, 2, 3, 4] * 2
    # After a ticket that has proven nothing it is asked again.
    assert isinstance(me.send(), Printed)
    there.questions.clear()
    there.answers = PAPER_OUT
    assert isinstance(me.device.ask(), Unable)
    assert there.questions == [1, 2, 3, 4]


def test_an_answer_counts_for_a_short_time_only(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there, fresh_s=0)

    assert isinstance(me.device.ask(), Ready)
    there.answers = COVER_OPEN

    assert isinstance(me.device.ask(), Unable)


def test_a_connection_that_has_just_ended_is_noticed_although_it_has_just_answered(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def end_after_hello(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                return

    there = printer(end_after_hello, oblige)
    me = caller(there, fresh_s=60)
    assert isinstance(me.device.ask(), Ready)
    there.wait_for(lambda: there.connections == 1)
    wait_for_end(me.device)

    assert isinstance(me.device.ask(), Ready)
    assert (there.connections, len(there.questions)) == (2, 8)


def test_a_probed_level_none_asks_nothing(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there, answers=True, abilities=Abilities(ProofLevel.NONE))

    assert isinstance(me.device.ask(), Ready)
    assert me.send() == Printed(ProofLevel.NONE, len(TICKET))

    there.wait_for(lambda: bytes(there.paper) == TICKET)
    assert there.questions == []


# Sending


def test_a_printer_that_never_reads_holds_the_ticket_and_then_leaves_it_uncertain(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    me = caller(printer(never_read, receive_buffer=4096), abilities=Abilities(ProofLevel.NONE))
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(LONG_TICKET, hold_s=1)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.BLOCKED, False)
    assert 0 < outcome.sent_bytes < len(LONG_TICKET)
    assert [reason for reason, _ in me.told] == [Reason.BLOCKED]
    assert not me.device.connected
    assert me.pulses >= 4


def test_a_printer_that_reads_again_within_the_hold_prints_the_ticket(printer: MakePrinter, caller: MakeCaller) -> None:
    reading = threading.Event()

    def pause_then_oblige(there: ScriptedPrinter, connection: socket.socket) -> None:
        reading.wait(15)
        oblige(there, connection)

    there = printer(pause_then_oblige, receive_buffer=4096)
    me = caller(there, abilities=Abilities(ProofLevel.NONE))
    me.on_blocked = reading.set
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(LONG_TICKET, hold_s=15)

    assert outcome == Printed(ProofLevel.NONE, len(LONG_TICKET))
    there.wait_for(lambda: bytes(there.paper) == LONG_TICKET)
    assert len(me.told) == 1


def test_a_ticket_given_up_leaves_nothing_in_our_kernel(printer: MakePrinter, caller: MakeCaller) -> None:
    reading = threading.Event()

    def read_after_the_end(there: ScriptedPrinter, connection: socket.socket) -> None:
        reading.wait(15)
        oblige(there, connection)

    there = printer(read_after_the_end, receive_buffer=4096)
    me = caller(there, abilities=Abilities(ProofLevel.NONE))
    assert isinstance(me.device.ask(), Ready)
    outcome = me.send(LONG_TICKET, hold_s=0.2)
    assert isinstance(outcome, Uncertain)

    reading.set()
    there.stop()

    assert len(there.paper) < outcome.sent_bytes


@pytest.mark.root  # some kernels let only root filter what arrives at a socket
def test_a_host_that_dies_in_mid_ticket_is_given_up_without_holding(printer: MakePrinter, caller: MakeCaller) -> None:
    deaf = threading.Event()

    def die_after_hello(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                go_deaf(connection)
                deaf.set()
                there.over.wait(20)

    me = caller(printer(die_after_hello))
    assert isinstance(me.device.ask(), Ready)
    assert deaf.wait(10)

    outcome = me.send(hold_s=3600)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.CONNECTION_LOST, True)
    assert me.told == []


@pytest.mark.root  # some kernels let only root filter what arrives at a socket
def test_a_host_that_dies_when_it_has_acknowledged_everything_is_not_held(
    printer: MakePrinter, caller: MakeCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing of ours is on its way that would go unacknowledged, and the keepalive of idle connections does not help.
    monkeypatch.setattr(tcp, "_IDLE_KEEPALIVE", (3600, 3600, 100))

    def die_when_asked_how_it_is(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken:
                there.answers = None
            if taken and len(there.questions) > 4:
                go_deaf(connection)
                there.over.wait(60)

    me = caller(printer(die_when_asked_how_it_is), abilities=Abilities(ProofLevel.FENCE))
    assert isinstance(me.device.ask(), Ready)
    until = time.monotonic() + 30

    def not_for_ever() -> None:
        assert time.monotonic() < until, "it is still held"

    me.on_pulse = not_for_ever
    outcome = me.send(hold_s=3600)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.CONNECTION_LOST, True)


def test_a_reset_in_mid_ticket_is_uncertain(printer: MakePrinter, caller: MakeCaller) -> None:
    def reset_at_the_first_bytes(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken:
                reset(connection)
                return

    me = caller(printer(reset_at_the_first_bytes, oblige))
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(LONG_TICKET)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.CONNECTION_LOST, False)
    assert not me.device.connected
    assert isinstance(me.device.ask(), Ready)


@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_connection_that_ends_between_hello_and_ticket_prints_nothing(
    printer: MakePrinter, caller: MakeCaller, end: Callable[[socket.socket], None]
) -> None:
    ended = threading.Event()

    def end_after_hello(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                end(connection)
                ended.set()
                return

    me = caller(printer(end_after_hello))
    assert isinstance(me.device.ask(), Ready)
    assert ended.wait(10)

    outcome = me.send()

    assert isinstance(outcome, NotPrinted)
    assert outcome.reason is Reason.CONNECTION_LOST
    assert (me.first_bytes, me.device.bytes_sent, me.device.connected) == (0, 0, False)


def test_a_printer_without_answers_that_closes_after_the_job_had_it_all(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def take_one_job(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken == len(TICKET):
                return

    there = printer(take_one_job)
    me = caller(there, abilities=Abilities(ProofLevel.NONE))
    assert isinstance(me.device.ask(), Ready)

    assert me.send() == Printed(ProofLevel.NONE, len(TICKET))
    assert isinstance(me.device.ask(), Ready)


def test_paper_that_is_loaded_within_the_hold_makes_the_ticket_printed(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def run_out(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken == len(TICKET) and not me.told:
                there.answers = PAPER_OUT

    def load_paper() -> None:
        there.answers = FINE

    there = printer(run_out)
    me = caller(there)
    me.on_blocked = load_paper
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send()

    assert outcome == Printed(ProofLevel.REALTIME, len(TICKET))
    assert [(reason, status.paper) for reason, status in me.told] == [(Reason.PAPER_OUT, PaperState.OUT)]


def test_paper_that_stays_out_makes_the_ticket_uncertain(printer: MakePrinter, caller: MakeCaller) -> None:
    def run_out(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken == len(TICKET):
                there.answers = PAPER_OUT

    me = caller(printer(run_out))
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(hold_s=1)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.PAPER_OUT, True)
    assert len(me.told) == 1
    assert not me.device.connected


def test_silence_after_the_ticket_is_no_proof(printer: MakePrinter, caller: MakeCaller) -> None:
    def fall_silent(there: ScriptedPrinter, connection: socket.socket) -> None:
        for taken in obliging(there, connection):
            if taken:
                there.answers = None

    there = printer(fall_silent)
    me = caller(there)
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(hold_s=0.5)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.SILENT, True)
    assert [reason for reason, _ in me.told] == [Reason.SILENT]
    assert there.questions[4:] in ([1], [1, 2])  # the first may have come in one portion with the ticket


def test_a_pushed_paper_out_speaks_against_a_ticket_of_a_mute_printer(printer: MakePrinter, caller: MakeCaller) -> None:
    def push_in_mid_ticket(there: ScriptedPrinter, connection: socket.socket) -> None:
        pushed = False
        for _ in obliging(there, connection):
            if not pushed:
                connection.sendall(b"\x18\x00\x0f\x00")
                pushed = True

    # The small buffer keeps most of the ticket with us until the news is out.
    me = caller(printer(push_in_mid_ticket, receive_buffer=4096), abilities=Abilities(ProofLevel.NONE))
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(LONG_TICKET, hold_s=0.5)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole) == (Reason.PAPER_OUT, True)
    assert [(reason, status.paper) for reason, status in me.told] == [(Reason.PAPER_OUT, PaperState.OUT)]


def test_a_mute_printer_that_pushed_its_trouble_is_unable(printer: MakePrinter, caller: MakeCaller) -> None:
    pushed = threading.Event()

    def push_at_once(there: ScriptedPrinter, connection: socket.socket) -> None:
        connection.sendall(b"\x38\x00\x00\x00")
        pushed.set()
        oblige(there, connection)

    me = caller(printer(push_at_once), abilities=Abilities(ProofLevel.NONE))
    me.device.ask()
    assert pushed.wait(10)

    answer = me.device.ask()

    assert isinstance(answer, Unable)
    assert (answer.reason, answer.alive) == (Reason.COVER_OPEN, True)


PROVEN = Abilities(ProofLevel.PROCESS_ID, pushes=True)
WELL = b"\x10\x00\x00\x00"
"""The pushed status of a printer that has nothing to tell."""


def test_a_printer_that_eats_slowly_what_completes_a_torn_picture_keeps_its_level(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    def eat_slowly(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                break
        connection.settimeout(10)
        while PUSH_ALL not in there.paper:
            there.paper += connection.recv(512)
            there.over.wait(0.08)  # some 6 KB/s: all of it takes longer than the limit
        connection.sendall(WELL)
        connection.settimeout(0.02)
        oblige(there, connection)

    answer = caller(printer(eat_slowly, receive_buffer=2048), abilities=PROVEN).device.ask()

    assert isinstance(answer, Ready)
    assert answer.level is ProofLevel.PROCESS_ID


def test_a_printer_that_eats_nothing_of_it_is_not_waited_for(printer: MakePrinter, caller: MakeCaller) -> None:
    def eat_nothing(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if len(there.questions) == 4:
                break
        never_read(there, connection)

    answer = caller(printer(eat_nothing, receive_buffer=2048), abilities=PROVEN).device.ask()

    assert isinstance(answer, Ready)
    assert answer.level is ProofLevel.REALTIME


def test_time_in_which_the_host_stood_still_is_not_the_printers(printer: MakePrinter, caller: MakeCaller) -> None:
    awake = threading.Event()

    def stand_still_too(there: ScriptedPrinter, connection: socket.socket) -> None:
        for _ in obliging(there, connection):
            if PUSH_ALL in there.paper:
                assert awake.wait(10)
                connection.sendall(WELL)
                break
        oblige(there, connection)

    there = printer(stand_still_too)
    me = caller(there, abilities=PROVEN)
    turns: list[int] = []

    def stand_still_once() -> None:
        if PUSH_ALL in there.paper:
            turns.append(me.pulses)
            if len(turns) == 1:
                time.sleep(1.5)  # longer than the limit
            else:
                awake.set()

    me.on_pulse = stand_still_once

    answer = me.device.ask()

    assert len(turns) > 1
    assert isinstance(answer, Ready)
    assert answer.level is ProofLevel.PROCESS_ID


def test_a_limit_ends_however_often_it_is_late() -> None:
    limit = Limit(0.6)

    time.sleep(0.7)

    assert limit.left() > 0
    while limit.left():
        time.sleep(0.01)
    assert limit.left() == 0


def test_without_the_right_to_write_nothing_is_printed(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there)
    me.may_write = lambda: False
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send()

    assert isinstance(outcome, NotPrinted)
    assert outcome.reason is Reason.LEASE_LOST
    assert (me.first_bytes, bytes(there.paper)) == (0, b"")
    assert me.device.connected


def test_losing_the_right_to_write_in_mid_ticket_stops_it(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there)
    consents = iter([True, True])
    me.may_write = lambda: next(consents, False)
    assert isinstance(me.device.ask(), Ready)

    outcome = me.send(LONG_TICKET)

    assert outcome == Uncertain(
        Reason.LEASE_LOST, "printer passed to another instance, 2048 of 60000 bytes sent", 2048, sent_whole=False
    )
    assert not me.device.connected


class Interrupted(Exception):
    """The caller wants to stop."""


def interrupt() -> None:
    raise Interrupted


def test_an_exception_of_the_caller_in_mid_ticket_goes_through_and_ends_the_connection(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    me = caller(printer(never_read, receive_buffer=4096), abilities=Abilities(ProofLevel.NONE))
    me.on_blocked = lambda: setattr(me, "on_pulse", interrupt)
    assert isinstance(me.device.ask(), Ready)

    with pytest.raises(Interrupted):
        me.send(LONG_TICKET, hold_s=30)

    assert not me.device.connected
    assert me.device.bytes_sent > 0


def test_an_exception_before_the_first_byte_leaves_the_printer_alone(printer: MakePrinter, caller: MakeCaller) -> None:
    there = printer()
    me = caller(there)
    assert isinstance(me.device.ask(), Ready)
    me.on_pulse = interrupt

    with pytest.raises(Interrupted):
        me.send()

    me.on_pulse = lambda: None
    assert (me.device.connected, me.device.bytes_sent) == (True, 0)
    assert isinstance(me.device.ask(), Ready)
    assert there.connections == 1


def test_an_exception_of_the_caller_while_asking_leaves_no_open_question(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    there = printer()
    there.answers = None
    me = caller(there)
    me.on_pulse = lambda: interrupt() if there.questions else None

    with pytest.raises(Interrupted):
        me.device.ask()

    assert not me.device.connected


# Closing


def test_an_orderly_close_delivers_everything_and_hears_the_printer_out(
    printer: MakePrinter, caller: MakeCaller
) -> None:
    ended_in_order = threading.Event()

    def chatty_end(there: ScriptedPrinter, connection: socket.socket) -> None:
        oblige(there, connection)
        connection.sendall(b"\x10\x00\x00\x00")  # raises, if the peer had reset the connection
        ended_in_order.set()

    there = printer(chatty_end)
    me = caller(there)
    assert isinstance(me.device.ask(), Ready)
    assert isinstance(me.send(), Printed)

    me.device.close()

    assert ended_in_order.wait(10)
    assert not me.device.connected
    assert bytes(there.paper) == TICKET
    me.device.close()


def test_a_printer_that_never_ends_its_side_does_not_keep_us(printer: MakePrinter, caller: MakeCaller) -> None:
    def stay(there: ScriptedPrinter, connection: socket.socket) -> None:
        oblige(there, connection)
        there.over.wait(10)

    me = caller(printer(stay))
    assert isinstance(me.device.ask(), Ready)

    me.device.close()

    assert not me.device.connected
    assert isinstance(me.device.ask(), Ready)
