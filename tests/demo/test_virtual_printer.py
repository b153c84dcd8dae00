"""The virtual printer as a host sees it: plain sockets, literal bytes."""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from printer_host import ASB_ON, CLEAR, CUT, TIMEOUT, ask, dial, is_reset, process_id, read, says_nothing, status

from kps.demo.virtual_printer import EndedBy, EventKind, VirtualPrinter


@pytest.fixture
def printer() -> Iterator[VirtualPrinter]:
    with VirtualPrinter(profile="epson-t20iii") as printer:
        yield printer


@pytest.fixture
def client(printer: VirtualPrinter) -> Iterator[socket.socket]:
    with closing(dial(printer)) as client:
        yield client


def test_a_ready_printer_says_so(client: socket.socket) -> None:
    assert status(client) == bytes.fromhex("12 12 12 12")


def test_paper_out_is_told_by_real_time_and_automatic_status(printer: VirtualPrinter, client: socket.socket) -> None:
    assert ask(client, b"\x1b@" + ASB_ON, 4) == bytes.fromhex("10 00 00 00")
    printer.paper_out()
    assert read(client, 4) == bytes.fromhex("18 00 0F 00")
    assert status(client) == bytes.fromhex("1A 32 12 7E")


def test_near_end_cover_and_cutter_have_their_own_bits(printer: VirtualPrinter, client: socket.socket) -> None:
    ask(client, ASB_ON, 4)
    printer.paper_near_end()
    assert read(client, 4) == bytes.fromhex("10 00 03 00")
    printer.load_paper()
    assert read(client, 4) == bytes.fromhex("10 00 00 00")
    printer.open_cover()
    assert read(client, 4) == bytes.fromhex("38 00 00 00")
    assert status(client) == bytes.fromhex("1A 16 12 12")
    printer.close_cover()
    read(client, 4)
    printer.cutter_error()
    assert read(client, 4) == bytes.fromhex("18 08 00 00")
    assert status(client) == bytes.fromhex("1A 52 1A 12")
    printer.mend_cutter()
    assert read(client, 4) == bytes.fromhex("10 00 00 00")


def test_initialising_turns_automatic_status_off(printer: VirtualPrinter, client: socket.socket) -> None:
    ask(client, ASB_ON, 4)
    ask(client, b"\x1b@\x1dr\x01")
    printer.paper_out()
    assert ask(client, b"\x10\x04\x04") == b"\x7e"
    assert says_nothing(client)


def test_a_cut_makes_a_paper_with_sizes_looks_and_code_pages(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(
        b"\x1b@\x1ba\x01\x1d!\x21TABLE 5\n\x1d!\x00\x1ba\x00"
        b"\x1dB\x01NUTS\n\x1dB\x00"
        b"\x1bE\x012 x \x1bE\x00caf\x82\n"
        b"\x1bt\x10caf\xe9 \x80\n"
        b"\x1bt\x12\xa5\n\x1bt\x13\xd5\n\x1bt\x11\x8f\n"
        b"\x1dVB\x10"
    )
    paper = printer.wait_paper()
    table, nuts, two, euro = paper.lines[:4]
    assert (table.text, table.width, table.height, table.align) == ("TABLE 5", 3, 2, "center")
    assert (nuts.text, nuts.inverse, nuts.width) == ("NUTS", True, 1)
    assert (two.text, two.bold, two.inverse) == ("2 x café", True, False)
    assert [(span.text, span.bold) for span in two.spans] == [("2 x ", True), ("café", False)]
    assert [line.text for line in paper.lines[3:]] == ["café €", "ą", "€", "П"]
    assert euro.bold is False
    assert paper.complete
    assert paper.ended_by is EndedBy.CUT
    assert not paper.held
    assert printer.paper_text(1) == paper.text
    assert printer.find("TABLE 5") == [paper]
    assert printer.first_byte_times == [paper.t_first_byte]


def test_mode_byte_font_and_underline_are_understood(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(b"\x1b!\xb9A\n\x1b!\x00\x1bM\x01\x1b-\x02b\n\x1bG\x01c\n" + CUT)
    a, b, c = (line.spans[0] for line in printer.wait_paper().lines)
    assert (a.width, a.height, a.bold, a.underline, a.font) == (2, 2, True, True, 1)
    assert (b.width, b.height, b.bold, b.underline, b.font) == (1, 1, False, True, 1)
    assert c.bold


def test_a_line_that_is_too_long_is_wrapped_as_on_paper(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(b"x" * 50 + b"\n\x1d!\x10" + b"y" * 25 + b"\n" + CUT)
    assert [len(line.text) for line in printer.wait_paper().lines] == [48, 2, 24, 1]


def test_chinese_pairs_are_decoded_only_in_kanji_mode(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(b"\x1c&\xb9\xac\x1c. \xb9\n" + CUT)
    assert printer.wait_paper().text == "宫 ╣"


def test_a_raster_strip_is_kept_with_its_place(printer: VirtualPrinter, client: socket.socket) -> None:
    bits = bytes(range(0x20, 0x30)) * 9
    client.sendall(b"above\n\x1dv0\x00\x48\x00\x02\x00" + bits + b"below\n" + CUT)
    paper = printer.wait_paper()
    (image,) = paper.raster
    assert (image.width_bytes, image.height, image.data, image.row) == (72, 2, bits, 30)
    assert [(line.text, line.row) for line in paper.lines] == [("above", 0), ("below", 32)]


def test_symbols_and_unknown_settings_are_skipped_by_their_length(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    client.sendall(
        b"\x1d(k\x08\x00\x31\x50\x30HELLO\x1d(k\x03\x00\x31\x51\x30\x1dk\x04ABC\x00\x1dkI\x03XYZ"
        b"\x1bD\x08\x10\x00\x1b*\x21\x02\x00abcdef\x1dL\x41\x42rest\n" + CUT
    )
    assert printer.wait_paper().text == "rest"


def test_an_unknown_command_is_recorded_and_swallowed(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(b"a\x1b~b\n" + CUT)
    paper = printer.wait_paper()
    assert (paper.text, paper.complete) == ("ab", True)
    assert [event.data for event in printer.events if event.kind is EventKind.UNKNOWN] == [b"\x1b~"]


def test_a_clone_prints_what_it_does_not_know() -> None:
    with VirtualPrinter(caps={"realtime"}, unknown="garbage") as printer, closing(dial(printer)) as client:
        client.sendall(b"a\n" + process_id(b"abcd") + b"\n" + CUT)
        paper = printer.wait_paper()
    assert paper.text == "a\n(H00abcd"
    assert not paper.complete


def test_the_process_id_comes_back_only_after_its_paper(printer: VirtualPrinter, client: socket.socket) -> None:
    ask(client, ASB_ON, 4)
    printer.paper_out()
    read(client, 4)
    client.sendall(b"soup\n" + CUT + process_id(b"ab~ ") + b"\x10\x04\x01")
    assert read(client, 1) == b"\x1a"
    assert says_nothing(client)
    assert printer.papers == []
    printer.load_paper()
    assert read(client, 4) == bytes.fromhex("10 00 00 00")
    assert read(client, 7) == b"\x37\x22ab~ \x00"
    assert printer.papers[0].held
    assert printer.papers[0].complete


def test_a_fence_is_answered_only_after_its_paper(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.open_cover()
    assert ask(client, b"soup\n" + CUT + b"\x1dr\x01\x10\x04\x01") == b"\x1a"
    assert says_nothing(client)
    printer.close_cover()
    assert read(client, 1) == b"\x00"
    assert printer.paper_text(1) == "soup"


def test_identity_and_counter_are_told(client: socket.socket) -> None:
    assert ask(client, b"\x1dI\x01") == b"\x63"
    assert ask(client, b"\x1dIB", 7) == b"_EPSON\x00"
    assert ask(client, b"\x1dIC", 10) == b"_TM-T20III"
    read(client, 1)
    assert ask(client, b"x\n" + CUT + b"\x1dg2\x00\xb2\x00", 3) == b"_1\x00"


def test_a_mute_printer_prints_and_answers_nothing() -> None:
    with VirtualPrinter(profile="mute") as printer, closing(dial(printer)) as client:
        client.sendall(b"\x10\x04\x01" + ASB_ON + b"\x1dr\x01\x1dI\x01" + CLEAR + b"soup\n" + CUT + process_id(b"abcd"))
        assert printer.wait_paper().text == "soup"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""


def test_a_silent_printer_prints_and_keeps_its_answers(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.silent()
    client.sendall(b"\x10\x04\x01soup\n" + CUT + process_id(b"abcd"))
    printer.wait_paper()
    printer.silent(False)
    assert status(client) == bytes.fromhex("12 12 12 12")


def test_without_paper_the_window_closes_and_a_new_roll_prints_what_was_held() -> None:
    with VirtualPrinter(profile="epson-t20iii") as printer, closing(dial(printer)) as client:
        printer.paper_out()
        ticket = b"".join(b"line %04d %s\n" % (n, b"." * 30) for n in range(2500)) + CUT
        assert len(ticket) > 100_000
        client.settimeout(None)
        client.setblocking(False)
        sent = 0
        deadline = time.monotonic() + TIMEOUT
        while printer.bytes_in < 16_384 + 4096 or select.select([], [client], [], 0.2)[1]:
            assert time.monotonic() < deadline
            if select.select([], [client], [], 0.2)[1]:
                sent += client.send(ticket[sent:])
        assert sent < 60_000
        assert printer.bytes_in == 16_384 + 4096
        assert printer.papers == []
        printer.load_paper()
        client.settimeout(TIMEOUT)
        client.sendall(ticket[sent:])
        paper = printer.wait_paper()
        assert paper.held
        assert paper.complete
        assert [line.text[:9] for line in paper.lines] == [f"line {n:04d}" for n in range(2500)]


def test_data_of_a_host_that_has_gone_is_printed_on_reload(printer: VirtualPrinter) -> None:
    printer.paper_out()
    with closing(dial(printer)) as client:
        client.sendall(b"orphan\n" + CUT)
        printer.wait_connections(1)
    printer.wait_connections(0)
    printer.load_paper()
    assert printer.wait_paper().text == "orphan"
    assert printer.papers[0].held


def test_the_roll_can_end_inside_a_ticket(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.paper_out(after_lines=2)
    client.sendall(b"1\n2\n3\n" + CUT)
    printer.wait_for(lambda: printer.sensors.paper_end)
    assert printer.papers == []
    printer.load_paper()
    assert printer.wait_paper().text == "1\n2\n3"
    assert printer.papers[0].held


def test_a_jammed_cutter_leaves_the_paper_hanging_until_the_host_recovers_it(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    printer.cutter_error(at_next_cut=True)
    client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
    printer.wait_for(lambda: printer.sensors.cutter_error)
    assert printer.papers == []
    client.sendall(b"\x10\x05\x01")
    assert read(client, 7) == b"\x37\x22abcd\x00"
    assert printer.paper_text(1) == "soup"


def test_a_jam_that_waits_for_the_next_cut_does_not_come_once_the_cutter_is_mended(
    printer: VirtualPrinter, client: socket.socket
) -> None:
    printer.cutter_error(at_next_cut=True)
    printer.mend_cutter()
    client.sendall(b"soup\n" + CUT)
    assert printer.wait_paper().text == "soup"
    assert not printer.sensors.cutter_error


def test_clearing_drops_the_held_ticket_and_its_id(printer: VirtualPrinter, client: socket.socket) -> None:
    printer.open_cover()
    client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
    assert ask(client, CLEAR, 3) == b"\x37\x25\x00"
    printer.close_cover()
    assert ask(client, b"next\n" + CUT + process_id(b"efgh"), 7) == b"\x37\x22efgh\x00"
    assert printer.texts() == ["next"]


def test_a_real_time_pattern_inside_a_picture_is_executed(printer: VirtualPrinter, client: socket.socket) -> None:
    picture = b"\x00" * 30 + CLEAR + b"\x00" * 32
    client.sendall(b"\x1dv0\x00\x48\x00\x01\x00" + picture)
    assert read(client, 3) == b"\x37\x25\x00"
    assert any(event.kind is EventKind.REALTIME for event in printer.events)


def test_a_torn_picture_eats_the_next_job(printer: VirtualPrinter) -> None:
    with closing(dial(printer)) as client:
        client.sendall(b"\x1dv0\x00\x48\x00\x01\x00" + b"\xff" * 40)
        printer.wait_connections(1)
    printer.wait_connections(0)
    with closing(dial(printer)) as client:
        client.sendall(b"eaten" + b"\x00" * 27 + b"readable\n" + CUT)
        paper = printer.wait_paper()
    assert paper.text == "readable"
    assert paper.raster[0].data.endswith(b"eaten" + b"\x00" * 27)


def test_power_off_refuses_and_power_on_listens_on_the_same_port(printer: VirtualPrinter) -> None:
    client = dial(printer)
    printer.power_off()
    with closing(client):
        assert is_reset(client)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            dial(printer)
    printer.power_on()
    with closing(dial(printer)) as client:
        assert status(client) == bytes.fromhex("12 12 12 12")


def test_a_power_cycle_loses_what_was_buffered(printer: VirtualPrinter) -> None:
    with closing(dial(printer)) as client:
        client.sendall(b"half")
        ask(client, b"\n\x10\x04\x01")
        printer.paper_out()
        ask(client, b"rest\n" + CUT + b"\x10\x04\x01")
        printer.power_cycle()
    printer.load_paper()
    with closing(dial(printer)) as client:
        client.sendall(b"new\n" + CUT)
        printer.wait_text("new")
    torn, new = printer.papers
    assert (torn.text, torn.ended_by, torn.complete) == ("half", EndedBy.POWER_LOSS, False)
    assert (new.text, new.held, new.complete) == ("new", False, True)


def test_a_hanging_printer_accepts_and_never_reads(printer: VirtualPrinter) -> None:
    printer.hang()
    with closing(dial(printer)) as client:
        client.sendall(b"\x10\x04\x01soup\n" + CUT)
        printer.wait_connections(1)
        assert printer.bytes_in == 0
        printer.hang(False)
        assert read(client, 1) == b"\x12"
        assert printer.wait_paper().text == "soup"


def test_a_host_that_resets_a_hanging_printer_is_noticed(printer: VirtualPrinter) -> None:
    printer.hang()
    client = dial(printer)
    printer.wait_connections(1)
    client.sendall(b"soup")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    printer.wait_connections(0)


def test_an_idle_connection_is_closed_by_the_printer() -> None:
    with VirtualPrinter(idle_timeout=0.05) as printer, closing(dial(printer)) as client:
        assert client.recv(1) == b""
        printer.wait_connections(0)


def test_a_host_that_closes_its_half_still_gets_its_answer(printer: VirtualPrinter, client: socket.socket) -> None:
    client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
    client.shutdown(socket.SHUT_WR)
    assert read(client, 7) == b"\x37\x22abcd\x00"
    assert client.recv(1) == b""


def test_the_next_connection_can_be_reset_on_accept(printer: VirtualPrinter) -> None:
    printer.reset_next("accept")
    with pytest.raises(ConnectionResetError), closing(dial(printer)) as client:  # the reset may overtake connect()
        client.recv(1)
    with closing(dial(printer)) as client:
        assert ask(client, b"\x10\x04\x01") == b"\x12"


def test_a_connection_can_be_reset_inside_a_ticket(printer: VirtualPrinter) -> None:
    printer.reset_next("mid")
    with closing(dial(printer)) as client:
        client.sendall(b"first\nsecond\n" + CUT)
        assert is_reset(client)
    printer.power_cycle()
    assert printer.texts() == ["first"]


def test_a_connection_can_be_reset_after_the_cut_and_before_the_answer(printer: VirtualPrinter) -> None:
    printer.reset_next("after_cut")
    with closing(dial(printer)) as client:
        client.sendall(b"soup\n" + CUT + process_id(b"abcd"))
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    assert printer.paper_text(1) == "soup"


def test_a_printer_for_one_refuses_the_second_until_the_first_has_gone() -> None:
    with VirtualPrinter(connections="one_refuse") as printer:
        with closing(dial(printer)) as first:
            ask(first, b"\x10\x04\x01")
            with pytest.raises(ConnectionRefusedError):
                dial(printer)
        printer.wait_connections(0)
        printer.wait_for(lambda: printer.listening)
        with closing(dial(printer)) as second:
            assert ask(second, b"\x10\x04\x01") == b"\x12"


def test_a_printer_for_one_lets_the_second_hang_until_the_first_has_gone() -> None:
    with VirtualPrinter(connections="one_hang") as printer:
        first = dial(printer)
        with closing(dial(printer)) as second, closing(first):
            ask(first, b"\x10\x04\x01")
            second.sendall(b"\x10\x04\x01")
            ask(first, b"\x10\x04\x01")
            assert says_nothing(second)
            first.close()
            assert read(second, 1) == b"\x12"


def test_a_printer_for_one_resets_the_second() -> None:
    with (
        VirtualPrinter(connections="one_reset") as printer,
        closing(dial(printer)) as first,
    ):
        ask(first, b"\x10\x04\x01")
        with pytest.raises(ConnectionResetError), closing(dial(printer)) as second:
            second.recv(1)
        assert ask(first, b"\x10\x04\x01") == b"\x12"


def test_two_hosts_get_status_and_print_one_after_the_other(printer: VirtualPrinter) -> None:
    with closing(dial(printer)) as first, closing(dial(printer)) as second:
        ask(first, b"first 1\n\x10\x04\x01")
        second.sendall(b"second 1\n" + CUT)
        ask(first, b"first 2\n\x10\x04\x01")
        first.sendall(CUT)
        printer.wait_text("second")
    assert printer.texts() == ["first 1\nfirst 2", "second 1"]
    assert not printer.concurrent_writers_seen


def test_status_is_told_to_the_second_host_while_the_first_prints(printer: VirtualPrinter) -> None:
    with closing(dial(printer)) as first, closing(dial(printer)) as second:
        ask(first, b"first\n\x10\x04\x01")
        printer.paper_out()
        assert status(second) == bytes.fromhex("1A 32 12 7E")


def test_two_hosts_may_spoil_one_paper_and_it_is_seen() -> None:
    with (
        VirtualPrinter(connections="many_interleave") as printer,
        closing(dial(printer)) as first,
        closing(dial(printer)) as second,
    ):
        ask(first, b"first 1\n\x10\x04\x01")
        ask(second, b"second 1\n\x10\x04\x01")
        first.sendall(b"first 2\n" + CUT)
        assert printer.wait_paper().text == "first 1\nsecond 1\nfirst 2"
        assert printer.papers[0].connections == (1, 2)
        assert printer.concurrent_writers_seen


def test_a_small_receive_buffer_prints_a_large_picture() -> None:
    with VirtualPrinter(receive_buffer=45) as printer, closing(dial(printer)) as client:
        client.sendall(b"\x1dv0\x00\x48\x00\x80\x00" + b"\x55" * 9216 + b"end\n" + CUT)
        paper = printer.wait_paper()
    assert paper.raster[0].height == 128
    assert paper.text == "end"


def test_a_printer_without_flow_control_loses_bytes_and_the_paper_is_incomplete() -> None:
    with VirtualPrinter(overflow="drop") as printer, closing(dial(printer)) as client:
        printer.paper_out()
        client.sendall(b"x" * 47 + b"\n" + (b"y" * 47 + b"\n") * 800)
        printer.wait_for(lambda: printer.bytes_in == 801 * 48)
        printer.load_paper()
        client.sendall(b"\n" + CUT)
        paper = printer.wait_paper()
    assert not paper.complete
    assert len(paper.lines) < 801


def test_five_printers_share_a_process_and_leave_nothing_behind() -> None:
    before = threading.active_count()
    printers = [VirtualPrinter(f"127.0.0.{n}", name=f"kitchen-{n}").start() for n in range(1, 6)]
    for number, printer in enumerate(printers, 1):
        with closing(dial(printer)) as client:
            client.sendall(b"ticket %d\n" % number + CUT)
            assert printer.wait_paper().text == f"ticket {number}"
    for printer in printers:
        printer.stop()
    assert threading.active_count() == before
    for printer in printers:
        with closing(socket.socket()) as client:
            assert client.connect_ex((printer.host, printer.port)) == errno.ECONNREFUSED


def test_a_stopped_printer_still_tells_what_it_printed() -> None:
    with VirtualPrinter() as printer, closing(dial(printer)) as client:
        ask(client, b"uncut\n\x10\x04\x01")
    (paper,) = printer.papers
    assert (paper.text, paper.ended_by, paper.complete) == ("uncut", EndedBy.STOPPED, False)
    printer.stop()


def test_a_taken_port_is_an_error_of_the_caller() -> None:
    with VirtualPrinter() as printer, pytest.raises(OSError, match="in use"):
        VirtualPrinter(printer.host, printer.port).start()


def test_waiting_for_a_paper_that_does_not_come_says_what_there_is(printer: VirtualPrinter) -> None:
    with pytest.raises(TimeoutError, match=r"paper 1 .* last papers: \[\]"):
        printer.wait_paper(timeout=0.01)
