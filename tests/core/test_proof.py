"""What makes a ticket printed, not printed or uncertain, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.proof import Confirmation, Patience, StatusRound, Step, level_in_force, patience, realtime_query
from kps.core.status import AsbUnit, ByteAnswer, PaperState, RealtimeAnswer, Reply, trouble
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


def test_an_answer_that_nobody_asked_for_is_no_answer() -> None:
    questions = StatusRound()
    questions.hear(RealtimeAnswer(0x12))
    questions.asked()
    questions.hear(ByteAnswer(0))

    assert (questions.question, questions.waiting, questions.answers) == (1, True, 0)


def test_paper_out_after_the_last_byte_holds_the_ticket_until_it_clears() -> None:
    ticket = whole(ProofLevel.REALTIME)
    answer_all(ticket, PAPER_OUT)
    assert (ticket.step, ticket.complaint) == (Step.HOLD, Reason.PAPER_OUT)
    assert ticket.status.paper is PaperState.OUT

    ticket.ask_again()
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
    ticket.ask_again()
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
                ticket.ask_again()
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


@pytest.mark.parametrize(
    ("probed", "answered", "level"),
    [
        (None, True, ProofLevel.REALTIME),
        (None, False, ProofLevel.NONE),
        (ProofLevel.NONE, True, ProofLevel.NONE),
        (ProofLevel.REALTIME, True, ProofLevel.REALTIME),
        (ProofLevel.REALTIME, False, ProofLevel.NONE),
        (ProofLevel.PROCESS_ID, True, ProofLevel.REALTIME),
    ],
)
def test_the_level_is_what_the_device_shows_now(probed: ProofLevel | None, answered: bool, level: ProofLevel) -> None:
    assert level_in_force(probed, answered=answered) is level


@pytest.mark.parametrize("level", [ProofLevel.FENCE, ProofLevel.PROCESS_ID])
def test_a_level_that_is_not_in_force_is_not_pretended(level: ProofLevel) -> None:
    with pytest.raises(ValueError):
        Confirmation(level, 10)


def test_an_empty_ticket_is_refused() -> None:
    with pytest.raises(ValueError):
        Confirmation(ProofLevel.NONE, 0)


@pytest.mark.parametrize(
    ("stalled_s", "verdict"),
    [(0.0, Patience.WAITING), (4.9, Patience.WAITING), (5.0, Patience.BLOCKED), (25.0, Patience.OVER)],
)
def test_a_standstill_is_first_blocked_and_then_over(stalled_s: float, verdict: Patience) -> None:
    assert patience(stalled_s, timeout_s=5, hold_s=20) is verdict
