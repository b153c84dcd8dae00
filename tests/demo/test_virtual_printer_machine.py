"""The virtual printer without sockets: speed and order by a clock of our own, streams cut anywhere."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from machine_bench import Bench, Clock

from kps.demo.virtual_printer import EndedBy, EventKind, Machine, settings_for
from kps.demo.virtual_printer.buffers import Origin, RealTimeScanner, TaggedBuffer
from kps.demo.virtual_printer.connection import Send

CUT = b"\x1dV\x00"
ID = b"\x1d(H\x06\x00\x30\x30abcd"
TICKET = (
    b"\x1b@\x1c.\x1da\x0f\x1bt\x10\x1d!\x11TABLE 5\n\x1d!\x00caf\xe9\n"
    b"\x1dv0\x00\x02\x00\x03\x00\x10\x04\x01\xff\x00\x0a"
    b"\x1d(k\x03\x00\x31\x51\x30\x1b$\x20\x00end\n\x1bd\x02\x10\x04\x04" + CUT + ID
)


def test_lines_and_the_cut_take_their_time() -> None:
    bench = Bench(lines_per_s=10.0, cut_s=0.5)
    bench.send(b"1\n2\n3\n" + CUT + ID)
    assert bench.machine.next_wake() == 100.1
    bench.pass_time(0.79)
    assert (bench.machine.papers, bench.answers) == ([], b"")
    bench.pass_time(0.02)
    (paper,) = bench.machine.papers
    assert (paper.t_first_byte, paper.t_first_dot) == (100.0, 100.0)
    assert round(paper.t_cut or 0, 6) == 100.8
    assert bench.answers == b"\x37\x22abcd\x00"
    assert bench.machine.next_wake() is None


def test_double_height_and_pictures_take_longer() -> None:
    bench = Bench(lines_per_s=10.0, cut_s=0.0)
    bench.send(b"\x1d!\x11big\n\x1dv0\x00\x01\x00\x1e\x00" + b"\x55" * 30 + CUT)
    bench.pass_time(0.25)
    assert bench.machine.papers == []
    bench.pass_time(0.02)
    assert round(bench.machine.papers[0].t_cut or 0, 6) == 100.26


def test_a_stop_inside_a_line_stops_its_time_too() -> None:
    bench = Bench(lines_per_s=1.0, cut_s=0.0)
    bench.send(b"slow\n" + CUT)
    bench.pass_time(0.25)
    bench.machine.change("cover open", cover_open=True)
    assert bench.machine.next_wake() is None
    bench.pass_time(60.0)
    assert bench.machine.papers == []
    bench.machine.change("cover closed", cover_open=False)
    bench.pass_time(0.74)
    assert bench.machine.papers == []
    bench.pass_time(0.02)
    assert bench.machine.papers[0].held


def test_a_ticket_that_came_after_the_stop_is_not_held() -> None:
    bench = Bench(lines_per_s=1000.0, cut_s=0.0)
    bench.machine.paper_out()
    bench.machine.load_paper()
    bench.send(b"new\n" + CUT)
    bench.pass_time(1.0)
    assert not bench.machine.papers[0].held


def test_the_decoder_waits_for_a_slow_mechanism_and_the_window_closes() -> None:
    bench = Bench(lines_per_s=1.0, nic_buffer=100, receive_buffer=20)
    bench.send(b"a\n" * 50)
    while bench.machine.room(bench.connection) > 0:
        bench.send(b"a\n"[: bench.machine.room(bench.connection)])
    assert bench.machine.next_wake() == 101.0
    bench.pass_time(1.0)
    assert bench.machine.room(bench.connection) > 0


def test_real_time_status_overtakes_print_data() -> None:
    bench = Bench(lines_per_s=1.0)
    bench.send(b"a\nb\n" + CUT + ID + b"\x10\x04\x01")
    assert bench.answers == b"\x12"


def test_status_requests_alone_never_fill_an_offline_printer() -> None:
    bench = Bench(receive_buffer=45)
    bench.machine.paper_out()
    for _ in range(10_000):
        bench.send(b"\x10\x04\x04")
    assert bench.answers == b"\x7e" * 10_000


def test_status_requests_behind_a_full_receive_buffer_are_not_seen() -> None:
    bench = Bench(receive_buffer=45)
    bench.machine.paper_out()
    bench.send(b"x" * 45 + b"\x10\x04\x04")
    assert bench.answers == b""
    bench.machine.load_paper()
    bench.pass_time(0)
    assert bench.answers == b"\x12"


def test_the_cut_counter_forgets_what_it_had_not_saved() -> None:
    bench = Bench(lines_per_s=1000.0, cut_s=0.0)
    bench.send(b"1\n" + CUT)
    bench.pass_time(60.0)
    bench.send(b"2\n" + CUT)
    bench.pass_time(1.0)
    bench.machine.power_off()
    bench.machine.power_on()
    bench.connection = bench.machine.connect()
    bench.send(b"\x1dg2\x00\xb2\x00")
    assert bench.answers == b"_1\x00"


def test_answers_can_come_late() -> None:
    bench = Bench(reply_delay=0.2)
    bench.send(b"\x10\x04\x01")
    assert (bench.answers, bench.machine.next_wake()) == (b"", 100.2)
    bench.pass_time(0.2)
    assert bench.answers == b"\x12"


def test_a_clone_that_is_not_ready_answers_nothing() -> None:
    bench = Bench(silent_when_not_ready=True)
    bench.machine.paper_out()
    bench.send(b"\x10\x04\x01")
    assert bench.answers == b""
    bench.machine.load_paper()
    bench.send(b"\x10\x04\x01")
    assert bench.answers == b"\x12"


def test_an_impact_printer_prints_pictures_as_garbage() -> None:
    machine = Machine(settings_for("epson-u220"), Clock())
    machine.receive(machine.connect(), b"\x1dv0\x00\x01\x00\x02\x00##\n" + CUT)
    machine.run()
    assert (machine.papers[0].text, machine.papers[0].complete) == ("v0##", False)


def test_an_idle_connection_is_closed_when_its_time_is_over() -> None:
    bench = Bench(idle_timeout=300.0)
    bench.pass_time(200.0)
    bench.send(b"\x10\x04\x01")
    assert bench.machine.next_wake() == 600.0
    bench.pass_time(299.0)
    assert not bench.closed
    bench.pass_time(1.0)
    assert bench.closed
    assert bench.machine.connections_open == 0


def test_an_answer_for_a_host_that_has_reset_is_lost_and_recorded() -> None:
    bench = Bench(lines_per_s=1.0)
    bench.send(b"a\n" + CUT + ID)
    bench.machine.peer_closed(bench.connection, reset=True)
    bench.pass_time(10.0)
    assert bench.answers == b""
    assert [event.data for event in bench.machine.events if event.kind is EventKind.REPLY_LOST] == [b"\x37\x22abcd\x00"]


def test_old_papers_keep_their_text_and_lose_their_bytes() -> None:
    bench = Bench(lines_per_s=1e9, cut_s=0.0, keep_raw=1)
    for text in (b"a", b"b", b"c"):
        bench.send(text + b"\n" + CUT)
        bench.pass_time(1.0)
    assert [paper.text for paper in bench.machine.papers] == ["a", "b", "c"]
    assert [bool(paper.raw) for paper in bench.machine.papers] == [False, False, True]


def test_a_printer_whose_status_is_on_at_boot_says_so_to_whoever_connects() -> None:
    machine = Machine(settings_for("hprt-tp80k"), Clock())
    machine.connect()
    machine.run()
    assert machine.take_actions() == [Send(1, b"\x10\x00\x00\x00")]


def whole() -> tuple[object, bytes]:
    return printed([TICKET])


def printed(pieces: list[bytes]) -> tuple[object, bytes]:
    """What comes of a ticket that arrives in these pieces: the paper without its times, and the answers."""
    bench = Bench(lines_per_s=1e9, cut_s=0.0)
    for piece in pieces:
        bench.send(piece)
    bench.pass_time(1.0)
    (paper,) = bench.machine.papers
    assert paper.ended_by is EndedBy.CUT
    return (paper.lines, paper.raster, paper.raw), bytes(sorted(bench.answers))


@given(st.lists(st.integers(0, len(TICKET)), max_size=40))
def test_how_the_stream_is_cut_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(TICKET)]
    pieces = [TICKET[a:b] for a, b in pairwise(edges)]
    assert printed(pieces) == whole()


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_survived_and_all_are_consumed_or_waited_for(pieces: list[bytes]) -> None:
    bench = Bench(lines_per_s=1e9, cut_s=0.0)
    for piece in pieces:
        if bench.machine.powered:
            bench.send(piece)
    bench.pass_time(1000.0)
    bench.machine.finish()
    assert sum(len(paper.raw) for paper in bench.machine.papers) <= sum(map(len, pieces))


@given(st.lists(st.sampled_from([b"\x10", b"\x04", b"\x01", b"\x14", b"\x08\x01\x03\x14\x01\x06\x02\x08", b"x"])))
def test_the_scanner_finds_the_same_commands_however_the_stream_is_cut(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    together = [command for _, command in RealTimeScanner().feed(stream) if command]
    scanner = RealTimeScanner()
    apart = [pair for part in parts for pair in scanner.feed(part)]
    assert [command for _, command in apart if command] == together
    assert b"".join(data for data, _ in apart) == stream


@given(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=9))), st.lists(st.integers(0, 12)))
def test_a_buffer_gives_back_what_went_in_with_its_origin(puts: list[tuple[int, bytes]], takes: list[int]) -> None:
    buffer = TaggedBuffer()
    for connection, data in puts:
        buffer.append(data, Origin(connection, 0.0, 0))
    parts = [pair for count in takes for pair in buffer.take(count)] + buffer.take(len(buffer))
    came = [(origin.connection, byte) for origin, data in parts for byte in data]
    assert came == [(connection, byte) for connection, data in puts for byte in data]
    assert len(buffer) == 0
