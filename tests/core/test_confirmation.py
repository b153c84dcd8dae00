"""What makes a ticket printed, not printed or uncertain, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.confirmation import CLEAR, FENCE, Confirmation
from kps.core.process_ids import ProcessIds, process_id_command, process_id_text
from kps.core.proof import Step
from kps.core.status import (
    AsbUnit,
    ByteAnswer,
    Cleared,
    PaperState,
    ProcessIdEcho,
    RealtimeAnswer,
    Reply,
    TextBlock,
    trouble,
)
from kps.core.status_round import realtime_query
from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain

FINE = (0x12, 0x12, 0x12, 0x12)
PAPER_OUT = (0x1A, 0x32, 0x12, 0x7E)


def answer_all(ticket: Confirmation, values: tuple[int, int, int, int]) -> None:
    for value in values:
        assert ticket.question is not None
        ticket.asked()
        ticket.hear(RealtimeAnswer(value))


def whole(level: ProofLevel) -> Confirmation:
    ticket = Confirmation(level, 100)
    ticket.wrote(60)
    ticket.wrote(40)
    ticket.delivered()
    return ticket


def test_a_ticket_walks_from_writing_over_questions_and_delivery_to_printed() -> None:
    ticket = Confirmation(ProofLevel.REALTIME, 100)
    assert ticket.step is Step.WRITE
    ticket.wrote(100)
    assert ticket.step is Step.ASK
    answer_all(ticket, FINE)
    assert ticket.step is Step.DELIVER
    ticket.delivered()

    assert ticket.proven() == Printed(ProofLevel.REALTIME, 100)


def test_without_answers_delivery_is_all_that_can_be_known() -> None:
    assert whole(ProofLevel.NONE).proven() == Printed(ProofLevel.NONE, 100)


def test_questions_are_asked_in_order_and_one_at_a_time() -> None:
    ticket = whole(ProofLevel.REALTIME)
    asked = []
    while ticket.question is not None:
        asked.append(realtime_query(ticket.question))
        ticket.asked()
        assert ticket.question is None
        ticket.hear(RealtimeAnswer(0x12))

    assert asked == [b"\x10\x04\x01", b"\x10\x04\x02", b"\x10\x04\x03", b"\x10\x04\x04"]


def test_paper_out_after_the_last_byte_holds_the_ticket_until_it_clears() -> None:
    ticket = whole(ProofLevel.REALTIME)
    answer_all(ticket, PAPER_OUT)
    assert (ticket.step, ticket.complaint) == (Step.HOLD, Reason.PAPER_OUT)
    assert ticket.status.paper is PaperState.OUT

    ticket.look()
    answer_all(ticket, FINE)

    assert ticket.proven() == Printed(ProofLevel.REALTIME, 100)


def test_a_held_ticket_that_is_given_up_is_uncertain_for_the_sign_it_saw() -> None:
    ticket = whole(ProofLevel.REALTIME)
    answer_all(ticket, PAPER_OUT)

    given_up = ticket.given_up(ticket.complaint)

    assert given_up == Uncertain(Reason.PAPER_OUT, "paper out, 100 of 100 bytes sent", 100, sent_whole=True)


def test_a_pushed_status_speaks_against_a_ticket_even_where_nothing_can_be_asked() -> None:
    ticket = Confirmation(ProofLevel.NONE, 5)
    ticket.wrote(5)
    ticket.hear(AsbUnit(b"\x18\x00\x0f\x00"))
    ticket.delivered()
    assert ticket.step is Step.HOLD
    ticket.look()
    assert ticket.step is Step.HOLD

    ticket.hear(AsbUnit(b"\x10\x00\x00\x00"))

    assert ticket.step is Step.DONE


def test_what_is_overdue_is_named_by_the_step() -> None:
    stuck = Confirmation(ProofLevel.REALTIME, 5)
    stuck.wrote(1)
    assert stuck.complaint is Reason.BLOCKED
    assert whole(ProofLevel.REALTIME).complaint is Reason.SILENT


happenings = st.lists(
    st.one_of(
        st.tuples(st.just("wrote"), st.integers(1, 100)),
        st.tuples(st.just("delivered"), st.just(0)),
        st.tuples(st.just("asked"), st.just(0)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("answer"), st.sampled_from([0x12, 0x1A, 0x32, 0x7E, 0x16])),
        st.tuples(st.just("pushed"), st.sampled_from([0x10, 0x18])),
    ),
    max_size=40,
)


@given(st.sampled_from([ProofLevel.REALTIME, ProofLevel.NONE]), st.integers(1, 150), happenings)
def test_whatever_happens_the_outcome_keeps_the_law(
    level: ProofLevel, total: int, story: list[tuple[str, int]]
) -> None:
    ticket = Confirmation(level, total)
    delivered = False
    answers = 0
    for what, value in story:
        reply: Reply
        match what:
            case "wrote":
                ticket.wrote(min(value, total - ticket.accepted))
            case "delivered":
                if ticket.step is Step.DELIVER:
                    delivered = True
                    ticket.delivered()
            case "asked":
                if ticket.question is not None:
                    ticket.asked()
            case "again":
                ticket.look()
            case "answer":
                before = ticket.progress
                ticket.hear(RealtimeAnswer(value))
                answers += ticket.progress > before
            case _:
                reply = AsbUnit(bytes((value, 0, 0, 0)))
                ticket.hear(reply)

    given_up = ticket.given_up(Reason.CONNECTION_LOST)
    if ticket.accepted == 0:
        assert isinstance(given_up, NotPrinted)
    else:
        assert isinstance(given_up, Uncertain)
        assert given_up.sent_whole == (ticket.accepted == total)
    if ticket.step is Step.DONE:
        assert (ticket.accepted, delivered) == (total, True)
        assert trouble(ticket.status) is None
        assert answers >= (4 if level is ProofLevel.REALTIME else 0)
        assert ticket.proven() == Printed(level, total)
    else:
        with pytest.raises(ValueError):
            ticket.proven()


def test_a_ticket_at_process_id_needs_its_ids() -> None:
    with pytest.raises(ValueError):
        Confirmation(ProofLevel.PROCESS_ID, 10)


def test_an_empty_ticket_is_refused() -> None:
    with pytest.raises(ValueError):
        Confirmation(ProofLevel.NONE, 0)


# Process IDs

IDS_7 = ProcessIds(7)
POWER_ON = TextBlock(0x3B, b"1")
PUSHED_FINE, PUSHED_OUT = AsbUnit(b"\x10\x00\x00\x00"), AsbUnit(b"\x18\x00\x0f\x00")


def at(level: ProofLevel, *, written: bool = True) -> Confirmation:
    ticket = Confirmation(level, 100, IDS_7)
    if written:
        ticket.wrote(ticket.total)
    return ticket


def test_each_level_puts_its_own_question_behind_the_ticket() -> None:
    assert at(ProofLevel.PROCESS_ID).trailer == process_id_command(IDS_7.ticket) == b"\x1d(H\x06\x0000" + IDS_7.ticket
    assert at(ProofLevel.FENCE).trailer == FENCE == b"\x1dr\x01"
    assert at(ProofLevel.REALTIME).trailer == at(ProofLevel.NONE).trailer == b""


def test_only_the_exact_echo_proves() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    for wrong in (b"1234", process_id_text(6), process_id_text(8), IDS_7.again, IDS_7.after):
        ticket.hear(ProcessIdEcho(wrong))
    ticket.delivered()
    assert ticket.step is Step.CONFIRM

    ticket.hear(ProcessIdEcho(IDS_7.ticket))

    assert ticket.proven() == Printed(ProofLevel.PROCESS_ID, ticket.total)


def test_an_echo_before_the_last_byte_is_none() -> None:
    ticket = at(ProofLevel.PROCESS_ID, written=False)
    ticket.wrote(ticket.total - 1)
    ticket.hear(ProcessIdEcho(IDS_7.ticket))
    ticket.wrote(1)

    assert ticket.step is Step.CONFIRM


def test_a_paper_stop_in_between_does_not_weaken_the_echo() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.hear(PUSHED_OUT)
    assert (ticket.step, ticket.complaint) == (Step.HOLD, Reason.PAPER_OUT)
    ticket.hear(PUSHED_FINE)
    assert ticket.step is Step.CONFIRM

    ticket.hear(ProcessIdEcho(IDS_7.ticket))

    assert ticket.step is Step.DONE


def test_a_fine_status_is_no_proof_where_one_is_due() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.delivered()
    ticket.look()
    answer_all(ticket, FINE)

    assert (ticket.step, ticket.without_trouble, ticket.complaint) == (Step.CONFIRM, True, Reason.UNPROVEN)


def test_a_missing_echo_is_asked_for_once_more_and_then_the_ticket_is_given_up() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.delivered()

    assert ticket.ask_again() == process_id_command(IDS_7.again)
    assert ticket.ask_again() == b""
    ticket.overdue()

    assert (ticket.step, ticket.proof_withheld, ticket.evidence) == (Step.HOPELESS, True, "")
    assert ticket.given_up(ticket.complaint) == Uncertain(
        Reason.UNPROVEN, "printer gave no proof of print, 111 of 111 bytes sent", 111, sent_whole=True
    )


def test_no_proof_is_asked_for_again_or_overdue_where_none_is_due() -> None:
    unwritten, in_trouble, done = (
        at(ProofLevel.PROCESS_ID, written=False),
        at(ProofLevel.PROCESS_ID),
        at(ProofLevel.NONE),
    )
    in_trouble.hear(PUSHED_OUT)
    done.delivered()
    for ticket in (unwritten, in_trouble, done):
        assert ticket.ask_again() == b""
        with pytest.raises(ValueError):
            ticket.overdue()


def test_a_process_id_proves_nothing_where_a_fence_is_due() -> None:
    ticket = at(ProofLevel.FENCE)
    ticket.hear(ProcessIdEcho(IDS_7.ticket))

    assert ticket.step is Step.CONFIRM


def test_a_round_begins_behind_the_last_byte_one_at_a_time_and_keeps_what_is_known() -> None:
    ticket = at(ProofLevel.PROCESS_ID, written=False)
    assert not ticket.look()
    ticket.wrote(ticket.total)
    ticket.hear(PUSHED_FINE)
    assert ticket.look()
    assert not ticket.look()
    assert ticket.status.online is True


def test_a_printer_that_was_told_to_clear_is_asked_nothing() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.look()
    assert ticket.question == 1
    ticket.clear()

    assert ticket.question is None


def test_a_proof_is_missing_only_where_the_printer_says_that_it_can_print() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.delivered()
    assert ticket.complaint is Reason.SILENT
    ticket.look()
    answer_all(ticket, FINE)
    ticket.hear(PUSHED_OUT)
    assert (ticket.without_trouble, ticket.complaint) == (False, Reason.PAPER_OUT)
    ticket.hear(PUSHED_FINE)
    assert (ticket.without_trouble, ticket.complaint) == (True, Reason.UNPROVEN)


def test_the_second_id_proves_the_ticket_too() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.ask_again()
    ticket.hear(ProcessIdEcho(IDS_7.again))

    assert ticket.step is Step.DONE


def test_behind_a_trouble_nothing_is_asked_again_and_no_proof_is_withheld() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.hear(PUSHED_OUT)
    ticket.hear(PUSHED_FINE)

    assert ticket.ask_again() == b""
    ticket.overdue()
    assert not ticket.proof_withheld


def test_without_an_id_nobody_knows_what_a_clear_has_thrown_away() -> None:
    ticket = at(ProofLevel.FENCE)
    ticket.clear()
    ticket.hear(Cleared())
    outcome = ticket.given_up(Reason.PAPER_OUT)

    assert isinstance(outcome, Uncertain)
    assert not outcome.cleared


def test_a_fence_behind_the_good_news_is_no_lie_though_a_round_is_open() -> None:
    ticket = at(ProofLevel.FENCE)
    ticket.hear(PUSHED_OUT)
    ticket.look()
    ticket.asked()
    ticket.hear(PUSHED_FINE)
    assert ticket.trouble is not None
    ticket.hear(ByteAnswer(0))

    assert (ticket.step, ticket.evidence) == (Step.HOPELESS, "")


def test_other_levels_have_nothing_to_ask_again() -> None:
    assert at(ProofLevel.FENCE).ask_again() == at(ProofLevel.REALTIME).ask_again() == b""


def test_in_the_middle_of_a_round_a_sign_is_neither_told_nor_taken_back() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.look()
    ticket.asked()
    ticket.hear(RealtimeAnswer(0x1A))
    assert (ticket.trouble, ticket.cause_known) == (Reason.OFFLINE, False)
    for value in PAPER_OUT[1:]:
        ticket.asked()
        ticket.hear(RealtimeAnswer(value))
    assert (ticket.trouble, ticket.cause_known) == (Reason.PAPER_OUT, True)
    ticket.look()
    ticket.asked()
    ticket.hear(RealtimeAnswer(0x12))
    assert ticket.trouble is Reason.PAPER_OUT


def test_a_power_cycle_leaves_no_hope() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.hear(POWER_ON)

    assert (ticket.step, ticket.complaint) == (Step.HOPELESS, Reason.CONNECTION_LOST)


# The fence


def test_one_answer_behind_the_whole_ticket_is_the_fence() -> None:
    ticket = at(ProofLevel.FENCE)
    ticket.hear(ByteAnswer(0))
    assert ticket.step is Step.DELIVER
    ticket.delivered()

    assert ticket.proven() == Printed(ProofLevel.FENCE, 103)


def test_near_end_of_paper_is_no_trouble_for_the_fence() -> None:
    ticket = at(ProofLevel.FENCE)
    ticket.hear(ByteAnswer(0x03))
    ticket.delivered()

    assert ticket.step is Step.DONE


@pytest.mark.parametrize(
    ("story", "lied"),
    [
        ("early", True),
        ("twice", True),
        ("in trouble", True),
        ("paper end in the answer", False),
        ("after a trouble that has passed", False),
    ],
)
def test_a_fence_that_does_not_hold_never_proves(story: str, lied: bool) -> None:
    ticket = at(ProofLevel.FENCE, written=story != "early")
    match story:
        case "early":
            ticket.wrote(1)
            ticket.hear(ByteAnswer(0))
            ticket.wrote(ticket.total - 1)
        case "twice":
            ticket.hear(ByteAnswer(0))
            ticket.hear(ByteAnswer(0))
        case "in trouble":
            ticket.hear(AsbUnit(b"\x38\x00\x00\x00"))
            ticket.hear(ByteAnswer(0))
        case "paper end in the answer":
            ticket.hear(ByteAnswer(0x0C))
        case _:
            ticket.hear(PUSHED_OUT)
            ticket.hear(PUSHED_FINE)
            ticket.hear(ByteAnswer(0))
    ticket.delivered()

    assert ticket.step is Step.HOPELESS
    assert bool(ticket.evidence) is lied
    assert isinstance(ticket.given_up(ticket.complaint), Uncertain)


# Taking a ticket back


def test_a_cleared_ticket_is_uncertain_but_known_to_be_gone() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.hear(PUSHED_OUT)
    assert ticket.clear() == CLEAR
    assert ticket.step is Step.CLEAR

    ticket.hear(Cleared())

    assert ticket.step is Step.HOPELESS
    outcome = ticket.given_up(ticket.complaint)
    assert isinstance(outcome, Uncertain)
    assert (outcome.reason, outcome.cleared) == (Reason.PAPER_OUT, True)
    assert outcome.text == "paper out, 111 of 111 bytes sent, then cleared"


def test_the_id_before_the_clear_means_printed() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.clear()
    ticket.hear(ProcessIdEcho(IDS_7.ticket))
    ticket.hear(Cleared())

    assert ticket.step is Step.DONE


def test_a_clear_that_nobody_asked_for_clears_nothing() -> None:
    ticket = at(ProofLevel.PROCESS_ID)
    ticket.hear(Cleared())

    assert ticket.step is Step.CONFIRM
    assert ticket.given_up(Reason.PAPER_OUT).text == "paper out, 111 of 111 bytes sent"


def test_nothing_is_cleared_from_inside_a_ticket() -> None:
    ticket = at(ProofLevel.PROCESS_ID, written=False)
    ticket.wrote(50)
    with pytest.raises(ValueError):
        ticket.clear()


replies: st.SearchStrategy[Reply] = st.one_of(
    st.builds(ProcessIdEcho, st.sampled_from([IDS_7.ticket, IDS_7.again, IDS_7.after, b"1234", b"abcd"])),
    st.builds(ByteAnswer, st.sampled_from([0x00, 0x03, 0x0C])),
    st.sampled_from([Cleared(), POWER_ON, PUSHED_FINE, PUSHED_OUT]),
    st.builds(RealtimeAnswer, st.sampled_from([0x12, 0x1A, 0x32, 0x7E])),
)
acts = st.one_of(
    st.sampled_from(["wrote", "delivered", "asked", "look", "again", "clear", "overdue"]).map(lambda act: (act, None)),
    replies.map(lambda reply: ("hear", reply)),
)


@given(st.sampled_from(list(ProofLevel)), st.lists(acts, max_size=30))
def test_printed_is_never_said_without_the_proof_of_its_level(
    level: ProofLevel, story: list[tuple[str, Reply | None]]
) -> None:
    ticket = Confirmation(level, 100, IDS_7)
    half = ticket.total // 2 + 1
    echoed = fenced = delivered = asked_again = powered = False
    for act, reply in story:
        whole = ticket.accepted == ticket.total
        match act:
            case "wrote":
                ticket.wrote(min(half, ticket.total - ticket.accepted))
            case "delivered":
                if whole:
                    delivered = True
                    ticket.delivered()
            case "asked":
                if ticket.question is not None:
                    ticket.asked()
            case "look":
                ticket.look()
            case "again":
                asked_again |= whole and bool(ticket.ask_again())
            case "clear":
                if whole:
                    ticket.clear()
            case "overdue":
                if ticket.step is Step.CONFIRM:
                    ticket.overdue()
            case _:
                assert reply is not None
                powered |= reply == POWER_ON
                echoed |= whole and reply == ProcessIdEcho(IDS_7.ticket)
                echoed |= whole and asked_again and reply == ProcessIdEcho(IDS_7.again)
                fenced |= whole and reply in (ByteAnswer(0), ByteAnswer(3))
                ticket.hear(reply)
        if ticket.step is Step.DONE:
            assert ticket.accepted == ticket.total
            assert not powered
            assert echoed or level is not ProofLevel.PROCESS_ID
            assert (fenced and delivered) or level is not ProofLevel.FENCE
            assert delivered or level is ProofLevel.PROCESS_ID
            assert ticket.proven() == Printed(level, ticket.total)
        outcome = ticket.given_up(Reason.CONNECTION_LOST)
        assert isinstance(outcome, NotPrinted) is (ticket.accepted == 0)
        assert not (isinstance(outcome, Uncertain) and outcome.cleared and not outcome.sent_whole)
