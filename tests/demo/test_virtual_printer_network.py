"""The virtual printer on the network: its second port, a pulled cable, a host that does not read; pictures."""

from __future__ import annotations

import errno
import fcntl
import io
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from PIL import Image, ImageChops
from printer_host import ASB_ON, CUT, TIMEOUT, ask, dial, is_reset, process_id, read, says_nothing, status

from kps.core.status import AsbUnit, PaperState, PrinterStatus, after_asb
from kps.demo.virtual_printer import EventKind, VirtualPrinter

STATUS = b"\x1bv"


def dial_status(printer: VirtualPrinter) -> socket.socket:
    assert printer.status_port
    return socket.create_connection((printer.host, printer.status_port), TIMEOUT)


def unacknowledged(client: socket.socket) -> int:
    answer = bytearray(4)
    fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])


def retransmits(client: socket.socket) -> int:
    """How often TCP has sent the oldest data again in vain (`tcpi_retransmits`)."""
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[2]


@pytest.fixture
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(profile="epson-t20iii") as printer:
        yield printer


@pytest.fixture
def client(printer: VirtualPrinter) -> Iterator[socket.socket]:
    with closing(dial(printer)) as client:
        yield client


# The status port.


@pytest.mark.parametrize("trouble", ["silent", "hang", "swallow"])
def test_the_status_port_answers_though_the_first_port_does_not(trouble: str) -> None:
    with VirtualPrinter(profile="xprinter-80") as printer, closing(dial_status(printer)) as client:
        getattr(printer, trouble)()
        assert ask(client, STATUS, 4) == bytes.fromhex("10 00 00 00")
        printer.paper_out()
        unit = AsbUnit(ask(client, STATUS, 4))
    assert after_asb(PrinterStatus(), unit).paper is PaperState.OUT


def test_the_status_port_reads_questions_in_pieces_and_ignores_the_rest() -> None:
    with VirtualPrinter(status_port=0) as printer, closing(dial_status(printer)) as client:
        client.sendall(b"soup\n" + CUT + b"\x1b")
        assert ask(client, b"v" + STATUS + b"v", 8) == bytes.fromhex("10 00 00 00") * 2
        assert printer.papers == []
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


@pytest.mark.parametrize(("bit", "answer"), [(0x08, "18 08 00 00"), (0x04, "18 04 00 00")])
def test_the_status_port_has_either_cutter_bit(bit: int, answer: str) -> None:
    with VirtualPrinter(status_port=0, status_cutter_bit=bit) as printer, closing(dial_status(printer)) as client:
        printer.cutter_error()
        assert ask(client, STATUS, 4) == bytes.fromhex(answer)


def test_without_power_the_status_port_refuses() -> None:
    with VirtualPrinter(status_port=0) as printer:
        with closing(dial_status(printer)) as client:
            ask(client, STATUS, 4)
            printer.power_off()
            assert client.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            dial_status(printer)
        printer.power_on()
        with closing(dial_status(printer)) as client:
            assert len(ask(client, STATUS, 4)) == 4


def test_most_printers_have_no_status_port(printer: VirtualPrinter) -> None:
    assert printer.status_port is None


def test_a_taken_status_port_leaves_nothing_behind() -> None:
    with closing(socket.socket()) as squatter, closing(socket.socket()) as free:
        squatter.bind(("127.0.0.1", 0))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        taken = VirtualPrinter(port=port, status_port=squatter.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            taken.start()
        with closing(socket.socket()) as client:
            assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


# A pulled cable.


@pytest.mark.cables
def test_a_host_sends_again_and_again_to_a_printer_whose_cable_is_pulled(
    printer: VirtualPrinter, client: socket.socket, eventually: Callable[..., object]
) -> None:
    status(client)
    printer.pull_cable()
    client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
    eventually(lambda: retransmits(client) > 0)
    assert unacknowledged(client) > 0
    assert printer.papers == []
    printer.plug_cable()
    assert read(client, 7) == b"\x37\x22abcd\x00"
    assert printer.paper_text(1) == "soup"


@pytest.mark.cables
def test_a_pulled_cable_does_not_stop_what_is_inside(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.open_cover()
    ask(client, b"soup\n" + CUT + process_id(b"abcd") + b"\x10\x04\x01")
    printer.pull_cable()
    printer.close_cover()
    assert printer.wait_paper().text == "soup"
    assert says_nothing(client)
    printer.plug_cable()
    assert read(client, 7) == b"\x37\x22abcd\x00"


@pytest.mark.cables
def test_nobody_gets_through_to_a_pulled_cable_and_nobody_is_refused(printer: VirtualPrinter) -> None:
    printer.pull_cable()
    with closing(socket.socket()) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.connect((printer.host, printer.port))


@pytest.mark.cables
def test_a_silent_power_cut_resets_only_who_still_uses_the_old_connection(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    with closing(dial(printer)) as idle:
        status(client)
        status(idle)
        printer.power_off(silently=True)
        client.sendall(b"soup\n" + CUT)
        printer.power_on()
        assert is_reset(client)
        with closing(dial(printer)) as fresh:
            assert status(fresh) == bytes.fromhex("12 12 12 12")
        assert says_nothing(idle)
    assert printer.papers == []


@pytest.mark.cables
def test_a_printer_can_be_stopped_while_its_cable_is_pulled() -> None:
    before = threading.active_count()
    with VirtualPrinter(status_port=0) as printer, closing(dial(printer)) as client:
        status(client)
        printer.power_off(silently=True)
    assert threading.active_count() == before
    with closing(socket.socket()) as late:
        assert late.connect_ex((printer.host, printer.port)) == errno.ECONNREFUSED


# Answers.


def test_answers_come_together_or_in_pieces() -> None:
    with VirtualPrinter(profile="epson-t20iii", reply_chunk=1) as printer, closing(dial(printer)) as client:
        assert ask(client, b"soup\n" + CUT + process_id(b"abcd"), 7) == b"\x37\x22abcd\x00"
        assert [event.data for event in printer.events if event.kind is EventKind.REPLY] == [
            bytes([code]) for code in b"\x37\x22abcd\x00"
        ]


def test_answers_for_a_host_that_does_not_read_are_lost_in_the_end(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    def lost() -> bool:
        return any(event.kind is EventKind.REPLY_LOST for event in printer.events)

    client.setblocking(False)
    while not lost():
        select.select([], [client], [], 0.01)
        try:
            client.send(b"\x1dIC" * 1000)
        except BlockingIOError:
            continue
    assert printer.connections_open == 1


def test_faults_and_noise_are_switched_on_a_running_printer(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.id_fault("constant", 1)
    assert ask(client, b"soup\n" + CUT + process_id(b"abcd"), 7) == b"\x37\x221234\x00"
    printer.fence_fault("doubled", 1)
    assert ask(client, b"\x1dr\x01", 2) == b"\x00\x00"
    printer.noise("flow_control")
    assert ask(client, b"\x10\x04\x01", 3) == b"\x13\x12\x11"
    printer.noise(None)
    printer.inject(b"\xff")
    assert read(client, 1) == b"\xff"
    printer.swallow()
    client.sendall(b"gone\n" + CUT)
    printer.wait_for(lambda: any(event.text == "swallowed" for event in printer.events))
    printer.swallow(False)
    printer.foreign_print(["THEIRS"])
    assert printer.texts() == ["soup", "THEIRS"]
    printer.power_notice()
    printer.power_cycle()
    with closing(dial(printer)) as fresh:
        assert read(fresh, 3) == b"\x3b\x31\x00"
    for switch in (printer.id_fault, printer.fence_fault, printer.noise):
        with pytest.raises(ValueError):
            switch("nonsense")


def test_a_late_echo_comes_by_itself(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.id_fault("late")
    assert ask(client, b"soup\n" + CUT + process_id(b"abcd"), 7) == b"\x37\x22abcd\x00"


def test_an_echo_reaches_the_next_connection(printer: VirtualPrinter) -> None:
    printer.id_fault("previous")
    with closing(dial(printer)) as client:
        client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
        printer.wait_paper()
    printer.wait_connections(0)
    with closing(dial(printer)) as client:
        assert read(client, 7) == b"\x37\x22abcd\x00"


# What a ticket left behind.


def test_a_held_ticket_has_arrived_though_it_has_no_paper(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.paper_out()
    ask(client, ASB_ON + b"\x1b@K-42\n" + CUT + b"\x10\x04\x01")
    assert printer.papers == []
    assert printer.bytes_of("K-42") == [b"\x1b@K-42\n" + CUT]
    assert printer.bytes_of("K-43") == []


def picture_of(printer: VirtualPrinter, n: int = 1) -> Image.Image:
    return Image.open(io.BytesIO(printer.png(n)))


def dots(image: Image.Image) -> str:
    """Its dots row by row: # = black."""
    return "".join(".#"[level == 0] for level in image.convert("L").tobytes())


def ink(image: Image.Image, left: int, top: int, right: int, bottom: int) -> float:
    """How much of this part is black, 0 to 1."""
    part = image.crop((left, top, right, bottom)).convert("L")
    return part.histogram()[0] / (part.width * part.height)


def test_a_picture_shows_bitmaps_dot_by_dot_in_their_place(printer: VirtualPrinter, client: socket.socket) -> None:
    bits = bytes(range(0x30, 0x40)) * 8 + b"\xff"
    client.sendall(b"\n\x1dv0\x00\x03\x00\x2b\x00" + bits + b"\x1ba\x01\x1dv0\x03\x01\x00\x01\x00\xa0\x1ba\x02" + b"\n")
    client.sendall(b"\x1dv0\x00\x01\x00\x01\x00\x81" + CUT)
    printer.wait_paper()
    image = picture_of(printer)
    assert (image.width, image.height, image.mode) == (576, 30 + 43 + 2 + 30 + 1, "1")
    black = Image.frombytes("1", (24, 43), bits)
    assert dots(image.crop((0, 30, 24, 73))) == dots(ImageChops.invert(black))
    assert dots(image.crop((280, 73, 296, 75))) == "##..##.........." * 2
    assert dots(image.crop((568, 105, 576, 106))) == "#......#"
    assert ink(image, 24, 30, 576, 73) == 0


def test_a_picture_shows_text_in_its_cells(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(
        b"HH\n\x1ba\x02H\n\x1ba\x00\x1d!\x11H\n\x1d!\x00\x1dB\x01H\n\x1dB\x00\x1b-\x01 \n\x1b-\x00\x1bE\x01H\n" + CUT
    )
    printer.wait_paper()
    image = picture_of(printer)
    assert ink(image, 0, 0, 12, 24) > 0.1
    assert ink(image, 24, 0, 576, 30) == 0
    assert ink(image, 0, 30, 564, 60) == 0
    assert ink(image, 564, 30, 576, 54) > 0.1
    one, big = image.crop((0, 0, 12, 24)), image.crop((0, 60, 24, 108))
    assert dots(big) == dots(one.resize((24, 48), Image.Resampling.NEAREST))
    assert ink(image, 0, 108, 12, 132) > 0.5
    assert ink(image, 0, 160, 12, 162) == 1
    assert ink(image, 0, 168, 12, 192) > ink(image, 0, 0, 12, 24)


def test_characters_without_a_glyph_and_wide_ones_leave_their_mark(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    client.sendall(b"\x1c&\xb9\xac\x1c.W\n" + CUT)
    printer.wait_paper()
    image = picture_of(printer)
    assert ink(image, 0, 0, 24, 24) > 0
    assert ink(image, 24, 0, 36, 24) > 0.1


def test_a_picture_of_a_paper_without_anything_is_still_one(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(CUT)
    printer.wait_paper()
    assert picture_of(printer).size == (576, 1)


def test_a_picture_of_a_paper_whose_bitmaps_are_forgotten_keeps_its_length() -> None:
    with VirtualPrinter(keep_raw=1) as printer, closing(dial(printer)) as client:
        client.sendall((b"\x1dv0\x00\x01\x00\x28\x00" + b"\xff" * 40 + CUT) * 2)
        printer.wait_paper(2)
        assert (picture_of(printer, 1).height, picture_of(printer, 2).height) == (40, 40)
        assert (ink(picture_of(printer, 1), 0, 0, 8, 40), ink(picture_of(printer, 2), 0, 0, 8, 40)) == (0, 1)
