"""What may go wrong with a printer's answers, one switch each; by a clock of our own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_bench import Bench

from kps.core.status import AsbUnit, ByteAnswer, Cleared, ProcessIdEcho, RealtimeAnswer, Reply, ReplyReader
from kps.demo.virtual_printer import PROFILES, EventKind, FenceFault, Identity, IdFault, Noise, settings_for
from kps.demo.virtual_printer.faults import LATE_BY

CUT = b"\x1dV\x00"
FENCE = b"\x1dr\x01"
COUNTER = b"\x1dg2\x00\xb2\x00"
CLEAR = b"\x10\x14\x08\x01\x03\x14\x01\x06\x02\x08"
ASB_ON = b"\x1da\x0f"


def ask_id(four: bytes) -> bytes:
    return b"\x1d(H\x06\x00\x30\x30" + four


def ticket(name: bytes) -> bytes:
    """A ticket with a process ID behind it."""
    return name + b"\n" + CUT + ask_id(name)


def echo(four: bytes) -> bytes:
    return b"\x37\x22" + four + b"\x00"


def fast(**changes: object) -> Bench:
    return Bench(speed="fast", **changes)


def with_id_fault(kind: str, times: int | None = None, **changes: object) -> Bench:
    bench = fast(**changes)
    bench.machine.faults.process_id.set(IdFault(kind), times)
    return bench


def with_fence_fault(kind: str) -> Bench:
    bench = fast()
    bench.machine.faults.fence.set(FenceFault(kind))
    return bench


# Process IDs.


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("wrong", echo(b"abce")),
        ("constant", echo(b"1234")),
        ("doubled", echo(b"abcd") * 2),
        ("lost", b""),
    ],
)
def test_an_echo_can_be_spoiled_though_the_paper_is_fine(kind: str, answer: bytes) -> None:
    bench = with_id_fault(kind)
    assert bench.ask(ticket(b"abcd")) == answer
    assert bench.machine.papers[0].complete


def test_the_id_behind_the_last_character_is_the_first() -> None:
    assert with_id_fault("wrong").ask(ticket(b"abc~")) == echo(b"abc ")


def test_a_late_echo_comes_two_seconds_later() -> None:
    bench = with_id_fault("late")
    bench.send(ticket(b"abcd"))
    assert bench.machine.next_wake() == 100.0 + LATE_BY
    bench.pass_time(LATE_BY - 0.1)
    assert bench.answers == b""
    bench.pass_time(0.1)
    assert bench.answers == echo(b"abcd")


def test_a_late_echo_goes_out_before_the_next_one() -> None:
    bench = with_id_fault("late", times=1)
    assert bench.ask(ticket(b"1st.")) == b""
    assert bench.ask(ticket(b"2nd.")) == echo(b"1st.") + echo(b"2nd.")
    bench.pass_time(LATE_BY)
    assert bench.answers.count(b"1st.") == 1


def test_a_host_that_has_closed_its_half_still_gets_a_late_echo() -> None:
    bench = with_id_fault("late")
    bench.send(ticket(b"abcd"))
    bench.machine.peer_closed(bench.connection)
    bench.pass_time(0.1)
    assert not bench.closed
    bench.pass_time(LATE_BY)
    assert bench.answers == echo(b"abcd")
    assert bench.closed


def test_of_several_echoes_that_could_not_be_sent_only_the_newest_goes_out() -> None:
    bench = with_id_fault("latest_only")
    assert bench.ask(ticket(b"1st.") + ticket(b"2nd.")) == echo(b"2nd.")
    assert bench.ask(ticket(b"3rd.")) == echo(b"3rd.")
    assert len(bench.machine.papers) == 3


def test_a_clear_is_answered_behind_the_echo_that_was_still_to_go_out() -> None:
    bench = with_id_fault("latest_only")
    bench.machine.paper_out(after_lines=2)
    bench.send(ticket(b"1st.") + b"held\nmore\n")
    assert bench.answers == b""
    assert bench.ask(CLEAR) == echo(b"1st.") + b"\x37\x25\x00"


def test_an_echo_can_wait_for_the_next_connection() -> None:
    bench = with_id_fault("previous")
    other, first = bench.connection, bench.connect()
    bench.send(ticket(b"abcd"), first)
    bench.machine.peer_closed(first)
    bench.pass_time(0)
    assert bench.answers == b""
    following = bench.connect()
    assert bench.heard == {other: b"", first: b"", following: echo(b"abcd")}


def test_an_echo_also_reaches_a_connection_that_was_made_before_the_old_one_ended() -> None:
    bench = with_id_fault("previous")
    bench.send(ticket(b"abcd"))
    following = bench.connect()
    assert bench.answers == b""
    bench.machine.peer_closed(bench.connection, reset=True)
    bench.pass_time(0)
    assert bench.heard == {bench.connection: b"", following: echo(b"abcd")}


def test_a_cleared_fence_leaves_the_next_one_to_the_mechanism() -> None:
    bench = with_fence_fault("at_arrival")
    bench.machine.paper_out()
    assert bench.ask(b"soup\n" + CUT + FENCE + CLEAR) == b"\x00\x37\x25\x00"
    bench.machine.faults.fence.set(None)
    bench.machine.load_paper()
    assert bench.ask(FENCE) == b"\x00"


def test_a_power_cycle_forgets_every_echo_and_no_fault() -> None:
    bench = with_id_fault("late")
    bench.send(ticket(b"abcd"))
    bench.machine.power_off()
    bench.machine.power_on()
    bench.connection = bench.connect()
    bench.pass_time(LATE_BY)
    assert bench.answers == b""
    assert bench.ask(ticket(b"efgh")) == b""


def test_a_fault_is_over_after_its_times_or_when_it_is_taken_back() -> None:
    bench = with_id_fault("lost", times=2)
    assert bench.ask(ticket(b"1st.") + ticket(b"2nd.") + ticket(b"3rd.")) == echo(b"3rd.")
    bench.machine.faults.process_id.set(IdFault.LOST)
    bench.send(ticket(b"4th."))
    bench.machine.faults.process_id.set(None)
    assert bench.ask(ticket(b"5th.")) == echo(b"5th.")
    with pytest.raises(ValueError, match="at least once"):
        bench.machine.faults.process_id.set(IdFault.LOST, 0)


@pytest.mark.parametrize("data", [b"\x30\x30abc\x7f", b"\x30\x30abc\x1f", b"\x30\x31abcd", b"\x32\x30abcd"])
def test_only_four_printable_characters_are_a_process_id(data: bytes) -> None:
    assert fast().ask(b"\x1d(H\x06\x00" + data) == b""


# Fences.


@pytest.mark.parametrize(("kind", "answer"), [("doubled", b"\x00\x00"), ("lost", b"")])
def test_a_fence_can_be_answered_wrongly(kind: str, answer: bytes) -> None:
    bench = with_fence_fault(kind)
    assert bench.ask(b"soup\n" + CUT + FENCE) == answer
    assert bench.machine.papers[0].complete


def test_a_stale_fence_comes_with_the_next_bytes_on_any_connection() -> None:
    bench = with_fence_fault("stale")
    assert bench.ask(b"soup\n" + CUT + FENCE) == b"\x00"
    bench.machine.faults.fence.set(None)
    other = bench.connect()
    bench.machine.paper_out()
    bench.send(b"next\n" + CUT + FENCE, other)
    assert bench.heard[other] == b"\x00"
    bench.machine.load_paper()
    bench.pass_time(0)
    assert bench.heard[other] == b"\x00\x00"


def test_a_network_side_may_answer_the_fence_while_the_cover_is_open() -> None:
    bench = with_fence_fault("at_arrival")
    bench.machine.change("cover open", cover_open=True)
    assert bench.ask(b"soup\n" + CUT + FENCE[:1]) == b""
    assert bench.ask(FENCE[1:]) == b"\x00"
    assert bench.machine.papers == []
    bench.machine.change("cover closed", cover_open=False)
    bench.pass_time(0)
    assert bench.machine.papers[0].text == "soup"
    assert bench.answers == b"\x00"
    bench.machine.faults.fence.set(None)
    assert bench.ask(FENCE) == b"\x00"


def test_a_network_side_answers_no_question_that_the_printer_does_not_know() -> None:
    bench = Bench("hprt-tp80k", "fast")
    bench.machine.faults.fence.set(FenceFault.AT_ARRIVAL)
    bench.answers = b""
    assert bench.ask(FENCE) == b""


# Noise.


def read_by(reader: ReplyReader, answers: bytes) -> list[Reply]:
    return [reply for reply in reader.feed(answers) if not isinstance(reply, AsbUnit)]


@pytest.mark.parametrize("kind", [Noise.FLOW_CONTROL, Noise.RANDOM])
def test_noise_around_answers_hides_none_of_them(kind: Noise) -> None:
    bench = fast()
    bench.machine.faults.noise.set(kind)
    reader = ReplyReader()
    heard = read_by(reader, bench.ask(b"\x10\x04\x01" + ticket(b"abcd") + FENCE))
    assert heard == [RealtimeAnswer(0x12), ProcessIdEcho(b"abcd"), ByteAnswer(0)]
    assert len(bench.answers) > 9
    assert (reader.noise > 0) == (kind is Noise.RANDOM)


def test_status_inside_an_echo_spoils_it_and_what_follows_is_read_again() -> None:
    bench = fast()
    bench.machine.faults.noise.set(Noise.ASB_INSIDE, 1)
    reader = ReplyReader()
    torn = bench.ask(ticket(b"abcd"))
    assert torn == b"\x37\x22a\x10\x00\x00\x00bcd\x00"
    assert ProcessIdEcho(b"abcd") not in reader.feed(torn)
    reader.flush()
    assert reader.feed(bench.ask(ticket(b"efgh"))) == [ProcessIdEcho(b"efgh")]


def test_status_stands_before_an_answer_of_one_byte() -> None:
    bench = fast()
    bench.machine.faults.noise.set(Noise.ASB_INSIDE)
    assert bench.ask(b"\x10\x04\x01") == b"\x10\x00\x00\x00\x12"


def test_text_may_trail_behind_an_answer() -> None:
    bench = fast()
    bench.machine.faults.noise.set(Noise.TRAILING_TEXT, 1)
    assert bench.ask(b"\x10\x04\x01") == b"\x12OK\r\n"
    assert bench.ask(b"\x10\x04\x01") == b"\x12"


def test_any_bytes_can_be_injected() -> None:
    bench = fast()
    other = bench.connect()
    bench.machine.inject(b"\x00\xff")
    bench.pass_time(0)
    assert bench.heard == {bench.connection: b"\x00\xff", other: b"\x00\xff"}


# Answers on their way.


def test_an_answer_in_pieces_keeps_its_order() -> None:
    bench = fast(reply_chunk=2)
    bench.send(ticket(b"abcd"))
    bench.send(ticket(b"efgh"))
    pieces = [bench.answers]
    while bench.machine.next_wake() is not None:
        before = len(bench.answers)
        bench.pass_time(max(0.0, (bench.machine.next_wake() or 0.0) - bench.clock.now))
        pieces.append(bench.answers[before:])
    assert b"".join(pieces) == echo(b"abcd") + echo(b"efgh")
    assert max(map(len, pieces)) == 2


@given(st.integers(1, 9), st.floats(0, 3), st.lists(st.sampled_from([b"ab12", b"cd34", b"\x10"]), max_size=8))
def test_delay_and_pieces_change_no_byte(chunk: int, delay: float, questions: list[bytes]) -> None:
    data = b"".join(b"\x1dI\x43" if one == b"\x10" else ask_id(one) for one in questions)
    plain, slow = fast(), fast(reply_chunk=chunk, reply_delay=delay)
    plain.send(data)
    slow.send(data)
    slow.pass_time(10.0)
    assert slow.answers == plain.answers


def test_an_answer_has_at_least_a_byte_at_a_time() -> None:
    with pytest.raises(ValueError, match="one byte"):
        settings_for(reply_chunk=0)


def test_a_printer_may_claim_to_be_well_whatever_is_wrong() -> None:
    bench = fast(constant_ok=True)
    bench.machine.paper_out()
    assert bench.ask(b"\x10\x04\x01\x10\x04\x02\x10\x04\x03\x10\x04\x04") == b"\x12" * 4


def test_a_swallowing_printer_takes_everything_and_gives_nothing() -> None:
    bench = fast()
    bench.machine.faults.swallowing = True
    assert bench.ask(b"\x10\x04\x01" + ticket(b"abcd")) == b""
    assert bench.machine.papers == []
    assert bench.machine.room(bench.connection) > 0
    bench.machine.faults.swallowing = False
    assert bench.ask(b"\x10\x04\x01") == b"\x12"


# Notices.


@pytest.mark.parametrize(
    ("wanted", "told"),
    [(b"\x00", b""), (b"\x01", b"\x37\x23\x00"), (b"\x02", b"\x37\x23A\x00"), (b"2", b"\x37\x23A\x00")],
)
def test_going_offline_can_be_told_with_or_without_its_cause(wanted: bytes, told: bytes) -> None:
    bench = fast()
    bench.send(b"\x1d(H\x03\x00\x31\x30" + wanted)
    bench.machine.change("cover open", cover_open=True)
    bench.pass_time(0)
    assert bench.answers == told


def test_a_second_cause_and_the_feed_button_are_not_told() -> None:
    bench = fast()
    bench.send(b"\x1d(H\x03\x00\x31\x30\x02")
    bench.machine.change("taken offline", taken_offline=True)
    bench.machine.paper_out()
    bench.pass_time(0)
    assert bench.answers == b""
    bench.machine.load_paper()
    bench.machine.change("online", taken_offline=False)
    bench.machine.cutter_error()
    bench.pass_time(0)
    assert bench.answers == b"\x37\x23C\x00"


def test_what_knows_process_ids_need_not_tell_why_it_is_offline() -> None:
    bench = fast(caps={"process_id"})
    bench.send(b"\x1d(H\x03\x00\x31\x30\x02" + ask_id(b"abcd"))
    bench.machine.paper_out()
    bench.pass_time(0)
    assert bench.answers == echo(b"abcd")
    assert [event.data for event in bench.machine.events if event.kind is EventKind.UNKNOWN] == [
        b"\x1d(H\x03\x00\x31\x30\x02"
    ]


def test_switching_on_is_told_to_whoever_connects_first() -> None:
    bench = fast(power_notice=True)
    assert bench.answers == b""
    bench.machine.power_off()
    bench.machine.power_on()
    first, second = bench.connect(), bench.connect()
    assert (bench.heard[first], bench.heard[second]) == (b"\x3b\x31\x00", b"")
    bench.machine.faults.power_notice = False
    bench.machine.power_off()
    bench.machine.power_on()
    assert bench.heard[bench.connect()] == b""


# Other hosts, other troubles.


def test_a_foreign_paper_raises_the_counter_and_leaves_status_on() -> None:
    bench = fast()
    bench.send(ASB_ON)
    bench.machine.foreign_print(["THEIRS", "café"])
    bench.pass_time(0)
    assert bench.machine.papers[0].text == "THEIRS\ncafé"
    assert bench.machine.connections_open == 1
    bench.answers = b""
    assert bench.ask(COUNTER) == b"_1\x00"
    bench.machine.paper_out()
    bench.pass_time(0)
    assert bench.answers.endswith(b"\x18\x00\x0f\x00")
    assert [event.text for event in bench.machine.events if event.kind is EventKind.COUNTER] == ["1 cuts"]


def test_a_foreign_host_that_initialises_turns_status_off() -> None:
    bench = fast()
    bench.send(ASB_ON)
    bench.answers = b""
    bench.machine.foreign_print(["THEIRS"], initialise=True)
    bench.pass_time(0)
    bench.machine.paper_out()
    bench.pass_time(0)
    assert bench.answers == b""


def test_a_foreign_paper_waits_until_ours_is_cut() -> None:
    bench = fast()
    bench.send(b"ours 1\n")
    bench.machine.foreign_print(["THEIRS"])
    bench.send(b"ours 2\n" + CUT)
    assert [paper.text for paper in bench.machine.papers] == ["ours 1\nours 2", "THEIRS"]


def test_opening_the_cover_may_lose_the_line_under_the_head() -> None:
    bench = Bench(lines_per_s=1.0, cut_s=0.0, cover_loses_line=True)
    bench.send(b"1\n2\n3\n" + CUT)
    bench.pass_time(1.5)
    bench.machine.change("cover open", cover_open=True)
    bench.machine.change("cover closed", cover_open=False)
    bench.pass_time(10.0)
    (paper,) = bench.machine.papers
    assert (paper.text, paper.complete, paper.held) == ("1\n3", False, True)


def test_a_paper_that_is_nearly_at_its_end_still_prints_and_warns() -> None:
    bench = fast()
    bench.machine.change("paper near end", near_end=True)
    assert bench.ask(b"\x10\x04\x04" + b"soup\n" + CUT + FENCE) == b"\x1e\x03"
    assert bench.machine.papers[0].complete


def test_a_clear_behind_a_full_buffer_is_not_seen_before_there_is_room() -> None:
    bench = fast(receive_buffer=45)
    bench.machine.paper_out()
    bench.send(b"x" * 40 + b"\n" + b"y" * 40 + b"\n" + CLEAR)
    assert bench.answers == b""
    bench.machine.load_paper()
    bench.pass_time(0)
    assert bench.answers == b"\x37\x25\x00"


def test_a_pulse_and_the_power_switch_hide_in_pictures_too() -> None:
    bench = fast()
    row = b"\x10\x14\x01\x00\x01" + b"\x00" * 27
    bench.send(b"\x1dv0\x00\x20\x00\x01\x00" + row)
    assert "drawer pulse" in [event.text for event in bench.machine.events]
    bench.send(b"\x1dv0\x00\x20\x00\x01\x00" + b"\x10\x14\x02\x01\x08" + b"\x00" * 27)
    assert not bench.machine.powered


def test_lost_bytes_do_not_keep_a_fence_from_being_answered() -> None:
    bench = fast(overflow="drop", nic_buffer=100, receive_buffer=45)
    bench.machine.paper_out()
    bench.machine.receive(bench.connection, b"x" * 400)
    bench.machine.load_paper()
    bench.pass_time(0)
    assert bench.ask(b"\n" + CUT + FENCE) == b"\x00"
    assert not bench.machine.papers[0].complete


@pytest.mark.parametrize(("bit", "expected"), [(0x08, b"\x18\x08\x00\x00"), (0x04, b"\x18\x04\x00\x00")])
def test_the_second_status_has_either_cutter_bit(bit: int, expected: bytes) -> None:
    bench = fast(status_cutter_bit=bit)
    bench.machine.cutter_error()
    assert bench.machine.status_answer() == expected
    with pytest.raises(ValueError, match="04 or 08"):
        settings_for(status_cutter_bit=2)


def test_what_arrived_of_a_ticket_is_told_whether_it_was_printed_or_not() -> None:
    bench = fast()
    first, held = b"\x1b@K-1\x1dv0\x00\x01\x00\x03\x00" + CUT + b"\n" + CUT, b"\x1b@K-2\nhalf"
    bench.send(b"\x10\x04\x01" + ASB_ON + first + ask_id(b"abcd") + b"\x10\x04\x01")
    bench.machine.paper_out()
    bench.send(held)
    assert bench.machine.bytes_of("K-1") == [first]
    assert bench.machine.bytes_of("K-2") == [held]
    assert bench.machine.bytes_of("K-3") == []


def test_copies_of_a_ticket_are_told_apart() -> None:
    bench = fast()
    other = bench.connect()
    bench.send(b"K-1\n" + CUT + b"K-1 again\n" + CUT)
    bench.send(b"K-1\n" + CUT, other)
    assert bench.machine.bytes_of("K-1") == [b"K-1\n" + CUT, b"K-1 again\n" + CUT, b"K-1\n" + CUT]


# The models.


@pytest.mark.parametrize(
    ("profile", "model", "maker", "name"),
    [
        ("epson-t20iii", b"\x63", b"_EPSON\x00", b"_TM-T20III\x00"),
        ("epson-u220", b"\x0d", b"_EPSON\x00", b"_TM-U220\x00"),
        ("hprt-tp80k", b"\x27", b"_HPRT\x00", b"_CAPD347\x00"),
        ("xprinter-80", b"", b"", b""),
        ("impostor", b"\x20", b"_EPOSN\x00", b"_TM-T88V\x00"),
        ("mute", b"", b"", b""),
    ],
)
def test_a_model_tells_its_name(profile: str, model: bytes, maker: bytes, name: bytes) -> None:
    bench = Bench(profile, "fast")
    bench.answers = b""
    assert (bench.ask(b"\x1dI\x01"), bench.ask(b"\x1dIB"), bench.ask(b"\x1dIC")) == (model, maker, name)


@pytest.mark.parametrize(
    ("profile", "able"),
    [
        ("epson-t20iii", {"status", "fence", "asb", "id", "clear", "counter"}),
        ("epson-u220", {"status", "fence", "asb", "clear", "counter"}),
        ("hprt-tp80k", {"status", "asb", "clear"}),
        ("xprinter-80", {"status", "fence", "asb"}),
        ("impostor", {"status", "fence", "asb"}),
        ("mute", set()),
    ],
)
def test_a_model_answers_what_it_knows(profile: str, able: set[str]) -> None:
    questions = {
        "status": b"\x10\x04\x01",
        "fence": FENCE,
        "asb": ASB_ON,
        "id": ask_id(b"abcd"),
        "clear": CLEAR,
        "counter": COUNTER,
    }
    bench = Bench(profile, "fast")
    assert {what for what, question in questions.items() if bench.ask(question)} == able


def test_an_unnamed_model_takes_any_name() -> None:
    bench = Bench("xprinter-80", "fast", identity=Identity(maker="XP"))
    assert bench.ask(b"\x1dIB") == b"_XP\x00"
    assert PROFILES["xprinter-80"].status_port == 4000


def test_an_impact_printer_is_slow() -> None:
    assert PROFILES["epson-u220"].lines_per_s == 5.0
    assert settings_for("epson-u220").lines_per_s == math.inf


def test_a_clear_is_read_as_such() -> None:
    assert ReplyReader().feed(fast().ask(CLEAR)) == [Cleared()]
