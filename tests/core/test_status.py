"""The reply reader is total and knows no packets; unknown is never folded into a known state."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.status import (
    MAX_BLOCK,
    REALTIME_QUERIES,
    TALK_BYTES,
    TALK_BYTES_PER_S,
    AsbUnit,
    ByteAnswer,
    Cleared,
    OfflineCauses,
    PaperState,
    PrinterStatus,
    ProcessIdEcho,
    RealtimeAnswer,
    Reply,
    ReplyReader,
    Talk,
    TextBlock,
    after_asb,
    after_realtime,
    port_status,
    sentence,
    trouble,
)
from kps.core.tickets import Reason

EVERY_BYTE = range(256)
SENSOR_BYTES = [byte for byte in EVERY_BYTE if byte & 0x90 == 0]
WITHOUT_END = st.lists(st.integers(1, 255), max_size=MAX_BLOCK - 3).map(bytes)

replies = st.one_of(
    st.sampled_from([byte for byte in EVERY_BYTE if byte & 0x93 == 0x12]).map(RealtimeAnswer),
    st.sampled_from(SENSOR_BYTES).map(ByteAnswer),
    st.builds(
        lambda first, rest: AsbUnit(bytes((first, *rest))),
        st.sampled_from([byte for byte in EVERY_BYTE if byte & 0x93 == 0x10]),
        st.lists(st.sampled_from(SENSOR_BYTES), min_size=3, max_size=3),
    ),
    st.lists(st.integers(0x20, 0x7E), min_size=4, max_size=4).map(bytes).map(ProcessIdEcho),
    st.just(Cleared()),
    WITHOUT_END.map(OfflineCauses),
    st.builds(TextBlock, st.sampled_from([0x3B, 0x3D, 0x35, 0x5F]), WITHOUT_END),
)
# Heads, ends and masks more often than chance would bring them.
bytes_like_replies = st.lists(
    st.one_of(st.integers(0, 255), st.sampled_from([0x37, 0x22, 0x23, 0x25, 0x5F, 0x10, 0x12, 0x11, 0x13, 0x00])),
    max_size=600,
).map(bytes)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(data)) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@given(st.lists(replies), st.lists(st.integers(0, 2000)))
def test_every_kind_of_reply_is_read_however_the_network_cuts_it(sent: list[Reply], places: list[int]) -> None:
    reader = ReplyReader()
    stream = b"".join(reply.raw for reply in sent)

    heard = [reply for portion in cut(stream, places) for reply in reader.feed(portion)]

    assert heard == sent
    assert (reader.noise, reader.pending) == (0, 0)


@given(bytes_like_replies, st.lists(st.integers(0, 600)))
def test_the_cutting_changes_nothing_even_for_nonsense(data: bytes, places: list[int]) -> None:
    whole, cut_up = ReplyReader(), ReplyReader()

    at_once = whole.feed(data)
    in_portions = [reply for portion in cut(data, places) for reply in cut_up.feed(portion)]

    assert in_portions == at_once
    assert (cut_up.noise, cut_up.pending) == (whole.noise, whole.pending)


@given(bytes_like_replies)
def test_every_byte_is_a_reply_or_noise_or_flow_control_or_waits(data: bytes) -> None:
    reader = ReplyReader()

    used = sum(len(reply.raw) for reply in reader.feed(data))

    dropped = len(data) - used - reader.noise - reader.pending
    assert 0 <= dropped <= sum(byte in (0x11, 0x13) for byte in data)
    assert reader.pending < MAX_BLOCK
    waiting = reader.pending
    before = reader.noise
    reader.flush()
    assert (reader.noise - before, reader.pending) == (waiting, 0)
    assert reader.feed(b"\x12") == [RealtimeAnswer(0x12)]


@pytest.mark.parametrize(
    ("data", "expected", "noise"),
    [
        (b"\x11\x12\x13", [RealtimeAnswer(0x12)], 0),
        (b"\xff\x80\x12", [RealtimeAnswer(0x12)], 2),
        (b"\x10\x00\x03\x00\x12", [AsbUnit(b"\x10\x00\x03\x00"), RealtimeAnswer(0x12)], 0),
        (b"\x10\x12", [RealtimeAnswer(0x12)], 1),
        (b"\x37\x12", [RealtimeAnswer(0x12)], 1),
        (
            b"\x37\x22ABC\x7f\x00",
            [ByteAnswer(0x22), ByteAnswer(ord("A")), ByteAnswer(ord("B")), ByteAnswer(ord("C"))],
            1,
        ),
        (b"\x3b\x31\x00", [TextBlock(0x3B, b"1")], 0),
        (b"\x5f\x12" * (MAX_BLOCK // 2) + b"\x12", [RealtimeAnswer(0x12)], MAX_BLOCK),
    ],
)
def test_the_reader_finds_its_way_back(data: bytes, expected: list[Reply], noise: int) -> None:
    reader = ReplyReader()

    heard = reader.feed(data)

    assert heard[: len(expected)] == expected
    if not isinstance(expected[0], ByteAnswer):
        assert heard == expected
        assert reader.noise == noise


def test_a_torn_text_is_never_read_as_answers() -> None:
    reader = ReplyReader()

    assert reader.feed(b"\x5fTM-T20") == []
    reader.flush()

    assert reader.noise == 7
    assert reader.feed(b"\x16") == [RealtimeAnswer(0x16)]


def test_a_power_notice_is_told_from_other_texts() -> None:
    assert TextBlock(0x3B, b"1").power_on
    assert not TextBlock(0x5F, b"1").power_on
    assert not TextBlock(0x3B, b"0").power_on


def whole_round(answers: tuple[int, int, int, int], start: PrinterStatus | None = None) -> PrinterStatus:
    status = start or PrinterStatus()
    for query, value in enumerate(answers, start=1):
        status = after_realtime(status, query, RealtimeAnswer(value))
    return status


GOOD = PrinterStatus(
    online=True, cover_open=False, paper=PaperState.OK, cutter_ok=True, error=False, temperature_ok=True
)


@pytest.mark.parametrize(
    ("answers", "reason", "paper"),
    [
        ((0x12, 0x12, 0x12, 0x12), None, PaperState.OK),
        ((0x16, 0x12, 0x12, 0x1E), None, PaperState.LOW),
        ((0x1A, 0x32, 0x12, 0x7E), Reason.PAPER_OUT, PaperState.OUT),
        ((0x1A, 0x32, 0x12, 0x12), Reason.PAPER_OUT, PaperState.OUT),
        ((0x12, 0x12, 0x12, 0x72), Reason.PAPER_OUT, PaperState.OUT),
        ((0x1A, 0x16, 0x12, 0x12), Reason.COVER_OPEN, PaperState.OK),
        ((0x1A, 0x36, 0x12, 0x7E), Reason.COVER_OPEN, PaperState.OUT),
        ((0x1A, 0x52, 0x1A, 0x12), Reason.CUTTER_ERROR, PaperState.OK),
        ((0x1A, 0x52, 0x12, 0x12), Reason.PRINTER_ERROR, PaperState.OK),
        ((0x1A, 0x12, 0x32, 0x12), Reason.PRINTER_ERROR, PaperState.OK),
        ((0x1A, 0x12, 0x52, 0x12), Reason.PRINTER_ERROR, PaperState.OK),
        ((0x1A, 0x12, 0x12, 0x12), Reason.OFFLINE, PaperState.OK),
    ],
)
def test_a_round_of_answers_names_the_trouble(
    answers: tuple[int, int, int, int], reason: Reason | None, paper: PaperState
) -> None:
    status = whole_round(answers)

    assert trouble(status) is reason
    assert status.paper is paper


@pytest.mark.parametrize(
    ("unit", "reason", "paper"),
    [
        (b"\x10\x00\x00\x00", None, PaperState.OK),
        (b"\x10\x00\x03\x00", None, PaperState.LOW),
        (b"\x18\x00\x0f\x00", Reason.PAPER_OUT, PaperState.OUT),
        (b"\x38\x00\x00\x00", Reason.COVER_OPEN, PaperState.OK),
        (b"\x18\x08\x00\x00", Reason.CUTTER_ERROR, PaperState.OK),
        (b"\x18\x20\x00\x00", Reason.PRINTER_ERROR, PaperState.OK),
        (b"\x18\x40\x00\x00", Reason.PRINTER_ERROR, PaperState.OK),
        (b"\x18\x00\x00\x00", Reason.OFFLINE, PaperState.OK),
    ],
)
def test_a_pushed_status_names_the_trouble(unit: bytes, reason: Reason | None, paper: PaperState) -> None:
    status = after_asb(PrinterStatus(), AsbUnit(unit))

    assert trouble(status) is reason
    assert status.paper is paper


def test_what_no_reply_told_stays_unknown() -> None:
    nothing = PrinterStatus()
    assert trouble(nothing) is None
    assert nothing.paper is PaperState.UNKNOWN

    only_online = after_realtime(nothing, 1, RealtimeAnswer(0x12))
    assert only_online == PrinterStatus(online=True)

    only_cutter = after_realtime(nothing, 3, RealtimeAnswer(0x12))
    assert only_cutter == PrinterStatus(cutter_ok=True, temperature_ok=True)


ANSWER = st.sampled_from([byte for byte in EVERY_BYTE if byte & 0x93 == 0x12])
ANY_STATUS = st.builds(
    PrinterStatus,
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.sampled_from(PaperState),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    st.none() | st.booleans(),
)


PUSHED = st.builds(
    lambda first, rest: AsbUnit(bytes((first, *rest))),
    st.sampled_from([byte for byte in EVERY_BYTE if byte & 0x93 == 0x10]),
    st.tuples(*[st.sampled_from(SENSOR_BYTES)] * 3),
)
HEARD = st.lists(
    st.one_of(PUSHED, st.tuples(st.sampled_from(REALTIME_QUERIES), ANSWER.map(RealtimeAnswer))), max_size=8
)
ALWAYS_TOLD = {1: {"online"}, 2: {"cover_open", "error"}, 3: {"cutter_ok", "temperature_ok"}, 4: {"paper"}}
TOLD_BY_BIT = {(2, 0x20): "paper", (3, 0x20): "error"}


def after(status: PrinterStatus, heard: AsbUnit | tuple[int, RealtimeAnswer]) -> PrinterStatus:
    return after_asb(status, heard) if isinstance(heard, AsbUnit) else after_realtime(status, *heard)


def told(heard: AsbUnit | tuple[int, RealtimeAnswer]) -> set[str]:
    """The facts of which this reply speaks, by Epson's tables."""
    if isinstance(heard, AsbUnit):
        return set(KNOWN_BY)
    query, answer = heard
    return ALWAYS_TOLD[query] | {
        fact for (asked, bit), fact in TOLD_BY_BIT.items() if asked == query and answer.value & bit
    }


KNOWN_BY = {
    "online": [Reason.OFFLINE],
    "cover_open": [Reason.COVER_OPEN],
    "paper": [Reason.PAPER_OUT],
    "cutter_ok": [Reason.CUTTER_ERROR],
    "error": [Reason.PRINTER_ERROR],
    "temperature_ok": [Reason.PRINTER_ERROR],
}
"""Every fact, and the troubles that it can be."""


def known(status: PrinterStatus) -> set[str]:
    return {fact for fact in KNOWN_BY if getattr(status, fact) not in (None, PaperState.UNKNOWN)}


def test_every_fact_of_a_status_is_examined_here() -> None:
    assert set(KNOWN_BY) == {field.name for field in fields(PrinterStatus)}


@given(HEARD)
def test_no_fact_is_stated_of_which_no_reply_has_spoken(heard: list[AsbUnit | tuple[int, RealtimeAnswer]]) -> None:
    status = PrinterStatus()
    spoken: set[str] = set()
    for reply in heard:
        status = after(status, reply)
        spoken |= told(reply)
        assert known(status) <= spoken


@given(ANY_STATUS, HEARD.filter(bool))
def test_a_reply_leaves_alone_what_it_does_not_speak_of(
    status: PrinterStatus, heard: list[AsbUnit | tuple[int, RealtimeAnswer]]
) -> None:
    for reply in heard:
        before, status = status, after(status, reply)
        for fact in set(KNOWN_BY) - told(reply):
            taken_back = fact == "paper" and before.paper is PaperState.OUT and status.paper is PaperState.UNKNOWN
            assert getattr(status, fact) == getattr(before, fact) or taken_back


@given(ANY_STATUS)
def test_trouble_is_named_only_by_a_fact_that_is_known(status: PrinterStatus) -> None:
    reason = trouble(status)
    assert reason is None or any(reason in KNOWN_BY[fact] for fact in known(status))


@given(ANY_STATUS, st.sampled_from(sorted(KNOWN_BY)))
def test_forgetting_a_fact_never_makes_trouble(status: PrinterStatus, fact: str) -> None:
    unknown = PaperState.UNKNOWN if fact == "paper" else None
    forgetful = replace(status, **{fact: unknown})
    assert trouble(status) is not None or trouble(forgetful) is None


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ((0x1A,), PrinterStatus(online=False)),
        ((0x12, 0x12), PrinterStatus(online=True, cover_open=False, error=False)),
        ((0x12, 0x32), PrinterStatus(online=True, cover_open=False, error=False, paper=PaperState.OUT)),
    ],
)
def test_a_round_that_breaks_off_leaves_the_rest_unknown(answers: tuple[int, ...], status: PrinterStatus) -> None:
    heard = PrinterStatus()
    for query, value in enumerate(answers, start=1):
        heard = after_realtime(heard, query, RealtimeAnswer(value))
    assert heard == status


@given(st.lists(replies))
def test_noise_between_replies_hides_none_of_them(sent: list[Reply]) -> None:
    reader = ReplyReader()
    heard = reader.feed(b"\xff".join(reply.raw for reply in sent))
    assert heard == sent
    assert reader.noise == max(0, len(sent) - 1)


@given(ANY_STATUS, st.tuples(ANSWER, ANSWER, ANSWER, ANSWER))
def test_a_whole_round_replaces_every_older_fact(before: PrinterStatus, answers: tuple[int, int, int, int]) -> None:
    assert whole_round(answers, before) == whole_round(answers)


@given(ANY_STATUS)
def test_a_pushed_status_replaces_every_older_fact(before: PrinterStatus) -> None:
    assert after_asb(before, AsbUnit(b"\x10\x00\x00\x00")) == GOOD


def test_only_four_queries_exist() -> None:
    with pytest.raises(ValueError):
        after_realtime(PrinterStatus(), 5, RealtimeAnswer(0x12))


def test_every_reason_has_a_short_sentence_of_its_own() -> None:
    sentences = [sentence(reason) for reason in Reason]

    assert all(0 < len(text) <= 40 for text in sentences)
    assert len(set(sentences)) == len(sentences)


# How much a printer says.


def test_a_stream_is_too_much_within_a_moment_and_a_busy_printer_never() -> None:
    assert Talk(0.0).too_much(TALK_BYTES + 1, 0.0)
    assert not Talk(0.0).too_much(TALK_BYTES, 0.0)
    busy = Talk(0.0)
    assert not any(busy.too_much(count, tick / 100) for tick in range(100_000) for count in (20, 0))


def test_what_waited_while_nobody_listened_came_over_all_that_time_but_silence_is_not_saved_up() -> None:
    waited = Talk(0.0)
    assert not waited.too_much(4096, 60.0)
    assert not any(waited.too_much(4096, 60.0) for _ in range(60 * TALK_BYTES_PER_S // 4096))
    silent = Talk(0.0)
    assert not silent.too_much(0, 60.0)
    assert silent.too_much(TALK_BYTES + 1, 60.0)


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(0.0, 0.2)), min_size=60, max_size=60))
def test_who_says_more_than_the_limit_in_the_long_run_is_found_out(portions: list[tuple[int, float]]) -> None:
    talk, now, said = Talk(0.0), 0.0, 0
    for count, pause in portions:
        now += pause
        said += count
        found = talk.too_much(count, now)
        assert found == (said - TALK_BYTES_PER_S * now > TALK_BYTES)


@pytest.mark.parametrize(
    ("value", "reason"), [(0x18, None), (0x38, Reason.PAPER_OUT), (0x20, Reason.PAPER_OUT), (0x00, None)]
)
def test_of_a_usb_printers_own_status_byte_only_the_paper_is_believed(value: int, reason: Reason | None) -> None:
    assert trouble(port_status(value)) is reason
