"""One round of status questions."""

from __future__ import annotations

from kps.core.status import ByteAnswer, RealtimeAnswer
from kps.core.status_round import StatusRound


def test_an_answer_that_nobody_asked_for_is_no_answer() -> None:
    questions = StatusRound()
    questions.hear(RealtimeAnswer(0x12))
    questions.asked()
    questions.hear(ByteAnswer(0))

    assert (questions.question, questions.waiting, questions.answers) == (1, True, 0)
