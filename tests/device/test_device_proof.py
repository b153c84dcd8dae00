"""The confirmation ladder over real sockets, with virtual printers that tell the truth, lie, stop and come back."""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from kps.core.abilities import Abilities
from kps.core.address import TcpAddress
from kps.core.confirmation import CLEAR
from kps.core.process_ids import ProcessIds
from kps.core.status import PrinterStatus
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.demo.virtual_printer import VirtualPrinter
from kps.demo.virtual_printer.faults import IdFault, Noise
from kps.device.connection import MISSING_TIMES, Device, Ready, Unable
from kps.device.preparing import PUSH_ALL

CUT = b"\x1dV\x42\x00"
ID = Abilities(ProofLevel.PROCESS_ID, pushes=True, clears=True)
FENCE = Abilities(ProofLevel.FENCE, pushes=True)
FIRST, SECOND, THIRD = ProcessIds(1000), ProcessIds(1004), ProcessIds(1008)


def ticket(name: str, *, lines: int = 3, raster: bytes = b"") -> bytes:
    """A ticket that names itself in its first line."""
    body = b"".join(b"line %d\n" % number for number in range(lines))
    return b"\x1b@" + PUSH_ALL + name.encode() + b"\n" + raster + body + CUT


class Desk:
    """One device and what its caller hears."""

    def __init__(
        self, printer: VirtualPrinter, abilities: Abilities, *, shared: bool = False, fresh_s: float = 0.0
    ) -> None:
        self.told: list[tuple[Reason, PrinterStatus]] = []
        self.on_blocked: Callable[[], None] = lambda: None
        self.device = Device(
            TcpAddress(printer.host, printer.port),
            timeout_s=2,
            pulse=lambda: None,
            answers=True,
            abilities=abilities,
            shared=shared,
            fresh_s=fresh_s,
        )

    def ready(self) -> Ready:
        answer = self.device.ask()
        assert isinstance(answer, Ready), answer
        return answer

    def send(self, data: bytes, ids: ProcessIds = FIRST, *, hold_s: float = 10) -> Printed | NotPrinted | Uncertain:
        return self.device.send(
            data,
            may_write=lambda: True,
            first_byte=lambda: None,
            blocked=self._blocked,
            hold_s=hold_s,
            ids=ids,
        )

    def print(self, name: str, ids: ProcessIds = FIRST, *, hold_s: float = 10) -> Printed | NotPrinted | Uncertain:
        self.ready()
        return self.send(ticket(name), ids, hold_s=hold_s)

    def _blocked(self, reason: Reason, status: PrinterStatus) -> None:
        self.told.append((reason, status))
        self.on_blocked()


MakeDesk = Callable[..., Desk]


@pytest.fixture
def epson() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(profile="epson-t20iii") as printer:
        yield printer


@pytest.fixture
def desk() -> Iterator[MakeDesk]:
    made: list[Desk] = []

    def make(printer: VirtualPrinter, abilities: Abilities = ID, *, shared: bool = False, fresh_s: float = 0.0) -> Desk:
        made.append(Desk(printer, abilities, shared=shared, fresh_s=fresh_s))
        return made[-1]

    yield make
    for each in made:
        each.device.close(abort=True)


# The process ID


def test_the_echo_of_its_id_prints_a_ticket(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)

    assert me.ready().level is ProofLevel.PROCESS_ID
    outcome = me.send(ticket("ONE"))

    assert isinstance(outcome, Printed)
    assert outcome.level is ProofLevel.PROCESS_ID
    assert "ONE" in epson.wait_paper(1).text
    assert me.device.take_echoes() == [FIRST.ticket]
    assert me.device.take_echoes() == []


def test_nothing_is_proven_before_the_paper_is_cut(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="epson-t20iii", speed="real") as printer:
        me = desk(printer)
        outcome = me.print("ONE")

        assert isinstance(outcome, Printed)
        assert len(printer.papers) == 1


@pytest.mark.parametrize("fault", [IdFault.LATE, IdFault.LATEST_ONLY, IdFault.DOUBLED])
def test_an_id_that_comes_as_it_likes_still_proves(epson: VirtualPrinter, desk: MakeDesk, fault: IdFault) -> None:
    epson.id_fault(fault)
    me = desk(epson)

    for number, ids in enumerate((FIRST, SECOND, THIRD), start=1):
        outcome = me.print(f"TICKET-{number}", ids)
        assert isinstance(outcome, Printed)
        assert outcome.level is ProofLevel.PROCESS_ID

    assert len(epson.papers) == 3
    assert me.device.disproof == ""


def test_a_lost_echo_is_asked_for_again(epson: VirtualPrinter, desk: MakeDesk) -> None:
    epson.id_fault(IdFault.LOST, times=1)
    me = desk(epson)

    outcome = me.print("ONE")

    assert isinstance(outcome, Printed)
    assert me.device.take_echoes() == [FIRST.again]
    assert len(epson.papers) == 1


@pytest.mark.parametrize("fault", [IdFault.LOST, IdFault.WRONG, IdFault.CONSTANT])
def test_a_printer_that_does_not_say_the_id_prints_without_proof_until_it_does(
    epson: VirtualPrinter, desk: MakeDesk, fault: IdFault
) -> None:
    epson.id_fault(fault)
    me = desk(epson)
    assert me.ready().level is ProofLevel.PROCESS_ID

    outcome = me.send(ticket("ONE"))

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole, outcome.cleared) == (Reason.UNPROVEN, True, False)
    assert me.told == []
    assert me.ready().level is ProofLevel.REALTIME
    assert me.device.disproof == ""
    epson.id_fault(None)
    assert isinstance(me.send(ticket("TWO"), SECOND), Printed)
    me.device.close()
    assert me.ready().level is ProofLevel.PROCESS_ID


def test_a_printer_that_owes_an_id_on_connection_after_connection_is_not_believed_any_more(
    epson: VirtualPrinter, desk: MakeDesk
) -> None:
    epson.id_fault(IdFault.LOST)
    me = desk(epson)
    assert isinstance(me.print("ONE"), Uncertain)
    for _ in range(MISSING_TIMES):
        assert me.device.disproof == ""
        assert me.ready().level is ProofLevel.REALTIME
        me.device.close()

    assert "process ID" in me.device.disproof
    epson.id_fault(None)
    assert me.ready().level is ProofLevel.REALTIME


def test_two_tickets_in_a_row_without_the_id_are_enough(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)
    for name, ids in (("ONE", FIRST), ("TWO", SECOND)):
        assert me.device.disproof == ""
        assert me.ready().level is ProofLevel.PROCESS_ID
        epson.id_fault(IdFault.LOST)
        assert isinstance(me.send(ticket(name), ids), Uncertain)
        epson.id_fault(None)

    assert "process_id" in me.device.disproof


def test_a_held_ticket_that_may_have_been_thrown_away_is_not_proven_by_a_second_id(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="epson-t20iii", connections="many_interleave") as printer:
        me = desk(printer, Abilities(ProofLevel.PROCESS_ID, pushes=True))
        me.ready()
        printer.paper_out(after_lines=2)

        def somebody_else_clears_and_loads() -> None:
            with socket.create_connection((printer.host, printer.port), timeout=5) as other:
                other.sendall(CLEAR)
                assert other.recv(3) == b"\x37\x25\x00"
            printer.load_paper()

        me.on_blocked = somebody_else_clears_and_loads

        outcome = me.send(ticket("ONE", lines=20))

        assert isinstance(outcome, Uncertain)
        assert me.device.disproof == ""


def test_without_trust_a_ticket_that_is_out_still_gets_its_proof(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="epson-t20iii", speed="real", lines_per_s=10.0) as printer:
        me = desk(printer)
        me.ready()
        data = ticket("ONE", lines=20)

        outcome = me.device.send(
            data,
            may_write=lambda: not printer.bytes_of("line 19"),
            first_byte=lambda: None,
            blocked=lambda reason, status: None,
            hold_s=5,
            ids=FIRST,
            lines=20,
        )

        assert isinstance(outcome, Printed)
        assert outcome.level is ProofLevel.PROCESS_ID


def test_a_sign_that_comes_and_goes_does_not_hold_a_ticket_for_ever(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, Abilities(ProofLevel.PROCESS_ID, pushes=True))
    me.ready()
    epson.id_fault(IdFault.LOST)
    over = threading.Event()

    def flap() -> None:
        while not over.wait(0.3):
            epson.open_cover()
            if over.wait(0.6):
                break
            epson.close_cover()

    flapping = threading.Thread(target=flap)
    flapping.start()
    try:
        outcome = me.send(ticket("ONE", lines=40), hold_s=2)
    finally:
        over.set()
        flapping.join()

    assert isinstance(outcome, (Uncertain, NotPrinted))


def test_an_id_that_comes_on_a_later_connection_is_heard(epson: VirtualPrinter, desk: MakeDesk) -> None:
    epson.id_fault(IdFault.PREVIOUS, times=2)
    me = desk(epson)
    assert isinstance(me.print("ONE"), Uncertain)
    epson.wait_connections(0)

    me.ready()

    assert FIRST.ticket in me.device.take_echoes()


@pytest.mark.parametrize("noise", [noise for noise in Noise if noise is not Noise.ASB_INSIDE])
def test_noise_around_the_answers_neither_proves_nor_disproves(
    epson: VirtualPrinter, desk: MakeDesk, noise: Noise
) -> None:
    epson.noise(noise)
    me = desk(epson)

    outcome = me.print("ONE")

    assert isinstance(outcome, Printed)
    assert outcome.level is ProofLevel.PROCESS_ID


def test_an_echo_that_is_torn_apart_is_none(epson: VirtualPrinter, desk: MakeDesk) -> None:
    epson.noise(Noise.ASB_INSIDE)

    outcome = desk(epson, Abilities(ProofLevel.PROCESS_ID)).print("ONE")

    assert isinstance(outcome, Uncertain)
    assert outcome.reason is Reason.UNPROVEN


def test_replies_in_pieces_are_put_together(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="epson-t20iii", reply_chunk=1) as printer:
        outcome = desk(printer).print("ONE")

        assert isinstance(outcome, Printed)
        assert outcome.level is ProofLevel.PROCESS_ID


# Trouble inside of a ticket


def test_paper_out_inside_a_ticket_is_told_at_once_and_loading_paper_proves_it(
    epson: VirtualPrinter, desk: MakeDesk
) -> None:
    me = desk(epson)
    me.ready()
    me.on_blocked = epson.load_paper
    epson.paper_out(after_lines=2)

    outcome = me.send(ticket("ONE", lines=20))

    assert isinstance(outcome, Printed)
    assert [reason for reason, _ in me.told] == [Reason.PAPER_OUT]
    assert epson.papers[0].held


def test_a_pushed_sign_is_acted_on_while_the_ticket_is_still_going_out(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="epson-t20iii", receive_buffer=256, nic_buffer=256) as printer:
        me = desk(printer)
        me.ready()
        me.on_blocked = printer.load_paper
        printer.paper_out(after_lines=2)

        # More than all buffers hold: the window is closed, and the sign comes all the same.
        outcome = me.send(ticket("ONE", lines=20_000))

        assert isinstance(outcome, Printed)
        assert [reason for reason, _ in me.told] == [Reason.PAPER_OUT]


def test_a_sign_that_is_there_before_the_first_byte_leaves_the_ticket_with_us(
    epson: VirtualPrinter, desk: MakeDesk
) -> None:
    me = desk(epson)
    me.ready()
    epson.open_cover()
    epson.wait_for(lambda: any(event.text.startswith("38 ") for event in epson.events if event.kind.value == "reply"))

    outcome = me.send(ticket("ONE"))

    assert isinstance(outcome, NotPrinted)
    assert outcome.reason is Reason.COVER_OPEN
    assert epson.bytes_of("ONE") == []


def test_a_ticket_in_a_blocked_printer_is_taken_back(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)
    me.ready()
    epson.paper_out()
    epson.load_paper()
    me.ready()
    epson.paper_out(after_lines=1)

    outcome = me.send(ticket("ONE", lines=8), hold_s=0.5)

    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.sent_whole, outcome.cleared) == (Reason.PAPER_OUT, True, True)
    epson.load_paper()
    me.ready()
    assert isinstance(me.send(ticket("TWO"), SECOND), Printed)
    assert "line 7" not in epson.paper_text(1)
    assert "TWO" in epson.paper_text(len(epson.papers))


@pytest.mark.parametrize("why", ["shared", "not proven"])
def test_nothing_is_taken_back_where_that_is_not_ours_to_do(epson: VirtualPrinter, desk: MakeDesk, why: str) -> None:
    me = desk(epson, ID if why == "shared" else Abilities(ProofLevel.PROCESS_ID, pushes=True), shared=why == "shared")
    me.ready()
    epson.paper_out(after_lines=1)

    outcome = me.send(ticket("ONE", lines=8), hold_s=0.5)

    assert isinstance(outcome, Uncertain)
    assert (outcome.sent_whole, outcome.cleared) == (True, False)
    epson.load_paper()
    assert "line 7" in epson.wait_paper(1).text


def test_a_printer_that_does_not_say_that_it_cleared_has_not(desk: MakeDesk) -> None:
    caps = VirtualPrinter(profile="epson-t20iii").settings.caps
    with VirtualPrinter(profile="epson-t20iii", caps=frozenset(cap for cap in caps if cap.value != "clear")) as printer:
        me = desk(printer)
        me.ready()
        printer.paper_out(after_lines=1)

        outcome = me.send(ticket("ONE", lines=8), hold_s=0.5)

        assert isinstance(outcome, Uncertain)
        assert not outcome.cleared


def test_a_power_cycle_behind_a_living_connection_is_no_proof(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)
    me.ready()
    epson.id_fault(IdFault.LOST)
    said = threading.Timer(0.2, lambda: epson.inject(b"\x3b\x31\x00"))
    said.start()

    outcome = me.send(ticket("ONE"))
    said.join()

    assert isinstance(outcome, Uncertain)
    assert outcome.reason is Reason.CONNECTION_LOST


# The fence


def test_the_fence_prints_a_ticket(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, FENCE)
    for number in range(1, 4):
        outcome = me.print(f"TICKET-{number}")
        assert isinstance(outcome, Printed)
        assert outcome.level is ProofLevel.FENCE
    assert len(epson.papers) == 3


@pytest.mark.parametrize("fault", ["doubled", "stale", "lost"])
def test_no_fault_of_the_fence_makes_a_ticket_printed_that_is_not(
    epson: VirtualPrinter, desk: MakeDesk, fault: str
) -> None:
    epson.fence_fault(fault)
    me = desk(epson, FENCE)
    outcomes = []
    for number in itertools.count(1):
        if not isinstance(me.device.ask(), Ready) or me.device.disproof or number > 4:
            break
        outcomes.append(me.send(ticket(f"TICKET-{number}")))
        if isinstance(outcomes[-1], Printed):
            assert epson.find(f"TICKET-{number}"), "said printed, and there is no paper"

    assert outcomes
    if fault == "lost":
        assert isinstance(outcomes[0], Uncertain)


def test_paper_that_ran_out_in_between_spoils_the_fence(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, FENCE)
    me.ready()
    me.on_blocked = epson.load_paper
    epson.paper_out(after_lines=2)

    outcome = me.send(ticket("ONE", lines=20))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason is Reason.UNPROVEN
    assert me.device.disproof == ""


# Before the first ticket of a connection


def test_automatic_status_is_switched_on_and_heard_while_idle(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)
    me.ready()

    epson.open_cover()

    descriptor = me.device.fileno()
    assert descriptor is not None
    answer = me.device.ask()
    assert isinstance(answer, Unable)
    assert answer.reason is Reason.COVER_OPEN


def test_what_was_not_proven_is_never_sent(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, Abilities())
    assert me.ready().level is ProofLevel.REALTIME

    me.send(b"\x1b@ONE\n" + CUT)

    executed = {event.data[:2] for event in epson.events if event.kind.value == "command"}
    assert {data for data in executed if data[0] < 0x20} == {b"\x1b@", b"\x1dV", b"\n"}


@pytest.mark.parametrize(("firmware", "level"), [("1.05 ESC/POS", "process_id"), ("9.99", "realtime")])
def test_another_firmware_than_at_the_probe_is_another_device(
    epson: VirtualPrinter, desk: MakeDesk, firmware: str, level: str
) -> None:
    me = desk(epson, Abilities(ProofLevel.PROCESS_ID, firmware=firmware))

    first = me.device.ask()
    answer = first if isinstance(first, Ready) else me.ready()

    assert answer.level.value == level
    assert ("firmware" in me.device.disproof) == (level == "realtime")


def test_a_torn_picture_does_not_eat_the_next_ticket(epson: VirtualPrinter, desk: MakeDesk) -> None:
    strip = b"\x1dv0\x00\x48\x00\x80\x00" + b"\xaa" * (72 * 128)
    me = desk(epson)
    me.ready()
    epson.reset_next("mid")

    outcome = me.send(ticket("ONE", raster=strip * 4))

    assert isinstance(outcome, Uncertain)
    me.ready()
    assert isinstance(me.send(ticket("TWO"), SECOND), Printed)
    assert epson.find("TWO")
    assert "line 2" in epson.find("TWO")[0].text


def test_after_a_lost_connection_the_printer_says_that_it_is_done_with_what_is_older(
    epson: VirtualPrinter, desk: MakeDesk
) -> None:
    me = desk(epson)
    me.ready()
    epson.reset_next("after_cut")
    assert isinstance(me.send(ticket("ONE")), Uncertain)

    me.ready()

    assert me.device.take_echoes() == [FIRST.after]
    assert isinstance(me.send(ticket("TWO"), SECOND), Printed)


def test_a_printer_that_never_says_that_it_is_done_is_not_believed_any_more(
    epson: VirtualPrinter, desk: MakeDesk
) -> None:
    me = desk(epson)
    me.ready()
    epson.reset_next("after_cut")
    assert isinstance(me.send(ticket("ONE")), Uncertain)
    epson.id_fault(IdFault.LOST)

    for _ in range(MISSING_TIMES):
        assert me.ready().level is ProofLevel.REALTIME
        me.device.close()

    assert "process ID" in me.device.disproof


def test_a_printer_that_stops_pushing_is_treated_like_one_that_was_never_probed(desk: MakeDesk) -> None:
    caps = VirtualPrinter(profile="epson-t20iii").settings.caps
    with VirtualPrinter(profile="epson-t20iii", caps=frozenset(cap for cap in caps if cap.value != "asb")) as printer:
        me = desk(printer, Abilities(ProofLevel.REALTIME, pushes=True))

        for _ in range(MISSING_TIMES):
            assert me.ready().level is ProofLevel.REALTIME
            me.device.close()

        assert "pushed status" in me.device.disproof
        assert not me.device.abilities.pushes
        me.ready()
        assert isinstance(me.send(ticket("ONE")), Printed)


def test_a_notice_is_not_taken_for_the_firmware(epson: VirtualPrinter, desk: MakeDesk) -> None:
    epson.noise(Noise.TRAILING_TEXT)
    me = desk(epson, Abilities(ProofLevel.PROCESS_ID, firmware="1.05 ESC/POS"))
    said = threading.Thread(target=lambda: [epson.inject(b"\x3b\x32\x00") for _ in range(50)])
    said.start()
    try:
        first = me.device.ask()
    finally:
        said.join()

    assert "firmware" not in me.device.disproof, first


def test_somebody_vouches_for_a_printer_that_answers_nothing(desk: MakeDesk) -> None:
    with VirtualPrinter(profile="mute") as printer:
        device = Device(
            TcpAddress(printer.host, printer.port), timeout_s=1, pulse=lambda: None, answers=None,
            abilities=Abilities(ProofLevel.PROCESS_ID),
        )  # fmt: skip
        try:
            answer = device.ask()
        finally:
            device.close(abort=True)

        assert isinstance(answer, Ready)
        assert answer.level is ProofLevel.NONE


@pytest.mark.parametrize("abilities", [Abilities(ProofLevel.NONE), Abilities()])
def test_a_torn_picture_does_not_eat_the_next_ticket_of_a_mute_printer(desk: MakeDesk, abilities: Abilities) -> None:
    strip = b"\x1dv0\x00\x48\x00\x80\x00" + b"\xaa" * (72 * 128)
    with VirtualPrinter(profile="mute") as printer:
        me = desk(printer, abilities)
        me.device.answers = None
        me.ready()
        printer.reset_next("mid")

        assert isinstance(me.send(ticket("ONE", raster=strip * 4)), Uncertain)

        me.ready()
        assert isinstance(me.send(ticket("TWO")), Printed)
        assert "line 2" in printer.wait_text("TWO").text


# What need not be asked


def wait_for_news(device: Device) -> None:
    """Until something that the printer has pushed has arrived."""
    descriptor = device.fileno()
    assert descriptor is not None
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000)


def asked(epson: VirtualPrinter, me: Desk, *, whole: bool = False) -> tuple[Ready | Unable, int]:
    """The answer, and how many questions it took."""
    before = epson.bytes_in
    return me.device.ask(whole=whole), (epson.bytes_in - before) // len(b"\x10\x04\x01")


def test_a_printer_that_pushes_its_state_is_asked_one_question(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson)
    me.ready()

    answer, questions = asked(epson, me)
    whole, all_questions = asked(epson, me, whole=True)

    assert isinstance(answer, Ready)
    assert (questions, all_questions) == (1, 4)
    assert whole.status == answer.status


@pytest.mark.parametrize("trouble", ["paper_out", "open_cover", "cutter_error", "go_offline"])
def test_one_question_is_enough_to_hear_of_a_trouble(epson: VirtualPrinter, desk: MakeDesk, trouble: str) -> None:
    me = desk(epson)
    me.ready()
    getattr(epson, trouble)()

    short = me.device.ask()

    assert isinstance(short, Unable)
    whole = me.device.ask(whole=True)
    assert isinstance(whole, Unable)
    assert short.reason is whole.reason


def test_who_shares_a_printer_asks_all_questions(epson: VirtualPrinter, desk: MakeDesk) -> None:
    # Another host's job may have turned the pushing off.
    me = desk(epson, shared=True, fresh_s=60)
    me.ready()

    assert asked(epson, me)[1] == 4


def test_a_proof_answers_for_the_next_ticket(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, fresh_s=60)
    assert isinstance(me.print("ONE", FIRST), Printed)

    answer, questions = asked(epson, me)

    assert isinstance(answer, Ready)
    assert questions == 0
    epson.paper_out()
    wait_for_news(me.device)
    assert isinstance(me.device.ask(), Unable)


def test_a_ticket_without_proof_answers_for_nothing(epson: VirtualPrinter, desk: MakeDesk) -> None:
    me = desk(epson, Abilities(ProofLevel.REALTIME), fresh_s=60)
    assert isinstance(me.print("ONE", FIRST), Printed)

    assert asked(epson, me)[1] == 4
