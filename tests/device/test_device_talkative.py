"""A device that talks without end is no printer, and costs neither memory nor a heartbeat."""

from __future__ import annotations

import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from watcher import Watcher

from kps.core.abilities import Abilities
from kps.core.address import TcpAddress
from kps.core.process_ids import ProcessIds
from kps.core.status import PrinterStatus, sentence
from kps.core.tickets import Printed, ProofLevel, Reason, Uncertain
from kps.demo.virtual_printer import VirtualPrinter
from kps.device import link
from kps.device.connection import Device, Ready, Unable
from kps.device.probe import Card, probe
from kps.device.probe_wire import ProbeFailed
from kps.device.tcp import TcpTransport
from tests.conftest import eventually
from tests.talker import NONSENSE, Talker

TICKET = b"1 x Nasi Goreng\n" * 4000
FLOODS = {
    "nonsense": NONSENSE,
    "answers that all is well": b"\x12" * 4096,
    "pushed status": b"\x14\x00\x00\x0f" * 1024,
    "process IDs": b"\x37\x22abcd\x00" * 600,
    "a text without end": b"\x5f" + b"x" * 4096,
    "fences": b"\x00" * 4096,
    "flow control": b"\x11\x13" * 2048,
}
MEMORY = 4 * 1024 * 1024


class TooLong(Exception):
    """A device kept its caller for longer than any limit of its allows."""


class Owner:
    """Who owns a device: it must be able to give a sign of life all the time."""

    def __init__(self, port: int, *, answers: bool | None = None, abilities: Abilities | None = None) -> None:
        self.pulses = 0
        self.told: list[Reason] = []
        self._until = time.monotonic() + 30
        self.device = Device(
            TcpAddress("127.0.0.1", port),
            timeout_s=1,
            pulse=self.pulse,
            answers=answers,
            abilities=abilities,
            fresh_s=0.0,
        )

    def pulse(self) -> None:
        self.pulses += 1
        if time.monotonic() > self._until:
            raise TooLong

    def send(self, ids: ProcessIds | None = None, first_byte: Callable[[], None] = lambda: None) -> object:
        return self.device.send(
            TICKET, may_write=lambda: True, first_byte=first_byte, blocked=lambda reason, _: self.told.append(reason),
            hold_s=1, ids=ids,
        )  # fmt: skip


MakeOwner = Callable[..., Owner]


@pytest.fixture
def owner() -> Iterator[MakeOwner]:
    made: list[Owner] = []

    def make(port: int, **settings: object) -> Owner:
        made.append(Owner(port, **settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.device.close(abort=True)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def unable(answer: Ready | Unable) -> bool:
    return answer == Unable(Reason.TALKATIVE, sentence(Reason.TALKATIVE), alive=True, status=PrinterStatus())


@pytest.mark.parametrize("said", FLOODS.values(), ids=FLOODS)
@pytest.mark.usefixtures("traced")
@pytest.mark.timeout(60)
def test_a_device_that_talks_without_end_is_found_out_with_little_memory_and_let_go(
    said: bytes, owner: MakeOwner
) -> None:
    with Talker(said) as there:
        me = owner(there.port)
        eventually(lambda: unable(me.device.ask(whole=True)), what="found out")
        assert not me.device.connected
        assert tracemalloc.get_traced_memory()[1] < MEMORY
        assert me.pulses
        # Now that it is known, no answer among all that it says is believed.
        assert all(unable(me.device.ask()) for _ in range(3))


def test_what_has_talked_is_a_printer_again_when_it_can_be_silent(owner: MakeOwner) -> None:
    with VirtualPrinter(talks=True) as there:
        me = owner(there.port)
        eventually(lambda: unable(me.device.ask(whole=True)), what="found out")
        there.talk(False)
        assert isinstance(me.device.ask(), Ready)
        assert isinstance(me.send(), Printed)


@pytest.mark.parametrize("level", ProofLevel)
@pytest.mark.usefixtures("traced")
@pytest.mark.timeout(60)
def test_a_printer_that_begins_to_talk_in_mid_ticket_leaves_it_uncertain(level: ProofLevel, owner: MakeOwner) -> None:
    with VirtualPrinter(profile="epson-t20iii") as there:
        me = owner(there.port, answers=True, abilities=Abilities(level))
        assert isinstance(me.device.ask(), Ready)
        there.hang()  # nothing of the ticket is proven before it talks

        def talks_instead() -> None:
            there.swallow()
            there.talk()
            there.hang(False)

        outcome = me.send(ProcessIds(1), first_byte=talks_instead)
        assert isinstance(outcome, Uncertain), outcome
        assert outcome.reason in (Reason.TALKATIVE, Reason.UNPROVEN)
        assert not me.device.connected
        assert tracemalloc.get_traced_memory()[1] < MEMORY
        if outcome.reason is Reason.TALKATIVE:
            assert unable(me.device.ask())
        else:  # given up for a first false proof: it is not known as a talker yet, and may say "paper out" first
            eventually(lambda: unable(me.device.ask()), what="found out")


def test_no_read_takes_more_than_its_share() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        for end in (here, there):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        one = link.Link(TcpTransport(here))
        there.sendall(b"\x11" * 40_000)
        one.read()
        assert one.heard == link.TURN_BYTES
        assert one.more


@pytest.mark.timeout(60)
def test_a_probe_of_what_is_no_printer_ends_and_says_so() -> None:
    with Talker() as there, VirtualPrinter() as nobody:
        with pytest.raises(ProbeFailed, match="sends data that no printer sends"):
            probe(
                TcpAddress(there.host, there.port), Watcher(nobody), card=Card("kitchen-1", "", ""),
                next_id=lambda: b"abcd", may_go_on=lambda: True,
            )  # fmt: skip
        assert there.connections < 5
