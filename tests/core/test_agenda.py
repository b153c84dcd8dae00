"""When the dispatcher does what next, and why it looks for tickets."""

from __future__ import annotations

import pytest

from kps.core.agenda import (
    ASKED_LIMIT_S,
    UNWOKEN_POLL_S,
    WAKING,
    Agenda,
    LookAgain,
    NextLook,
    Task,
    Why,
    next_look,
    sooner,
)

NOW = 1000.0
SOON = LookAgain(0.02, Why.HALF_WRITTEN)


def test_a_service_that_is_woken_looks_again_only_by_its_poll() -> None:
    assert next_look(NOW, None, woken=True, poll_s=30.0) == NextLook(NOW + 30.0, Why.POLL)


@pytest.mark.parametrize(("poll_s", "in_s"), [(30.0, UNWOKEN_POLL_S), (0.05, 0.05)])
def test_a_service_that_nothing_wakes_looks_again_soon(poll_s: float, in_s: float) -> None:
    assert next_look(NOW, None, woken=False, poll_s=poll_s) == NextLook(NOW + in_s, Why.UNWOKEN)


@pytest.mark.parametrize("woken", [True, False])
def test_what_a_look_asks_for_goes_before_the_poll(woken: bool) -> None:
    assert next_look(NOW, SOON, woken=woken, poll_s=30.0) == NextLook(NOW + 0.02, Why.HALF_WRITTEN)


def test_claims_that_could_not_be_given_back_are_not_left_to_the_poll() -> None:
    look = next_look(NOW, None, woken=True, poll_s=30.0, give_back_at=NOW + 1.0)
    assert look == NextLook(NOW + 1.0, Why.GIVE_BACK)
    assert next_look(NOW, SOON, woken=True, poll_s=30.0, give_back_at=NOW + 1.0).why is Why.HALF_WRITTEN


@pytest.mark.parametrize(("survey_at", "at"), [(NOW + 2.0, NOW + 2.0), (0.0, NOW + UNWOKEN_POLL_S)])
def test_the_next_survey_has_its_look_but_not_without_a_pause(survey_at: float, at: float) -> None:
    assert next_look(NOW, None, woken=True, poll_s=30.0, survey_at=survey_at) == NextLook(at, Why.SURVEY)


def test_the_sooner_wish_counts() -> None:
    later = LookAgain(1.0, Why.NO_PRINTER_ROW)
    assert sooner(None, None) is None
    assert sooner(SOON, None) is sooner(None, SOON) is SOON
    assert sooner(SOON, later) is sooner(later, SOON) is SOON


def polling() -> Agenda:
    """Nothing but the regular poll is due, in five seconds, and slips are to be made."""
    agenda = Agenda()
    agenda.look(NextLook(NOW + 5.0, Why.POLL))
    return agenda


def test_the_statement_that_makes_slips_makes_the_poll_too_if_no_ticket_waits() -> None:
    agenda = polling()
    assert agenda.may_ask(NOW)
    agenda.ask(NOW)
    assert agenda.answered(NOW + 0.1, tickets_wait=False, poll_s=30.0)
    assert agenda.at(Task.LOOK) == NOW + 30.1
    assert agenda.may_ask(NOW + 0.2), "a later poll likewise"


def test_a_ticket_that_it_has_seen_is_looked_for_at_once_and_was_found_by_a_poll() -> None:
    agenda = polling()
    agenda.ask(NOW)
    assert not agenda.answered(NOW + 0.1, tickets_wait=True, poll_s=30.0)
    assert agenda.polls(NOW + 0.1)


def test_without_its_answer_the_poll_is_a_look() -> None:
    agenda = polling()
    agenda.ask(NOW)
    assert not agenda.polls(NOW)
    assert agenda.polls(NOW + ASKED_LIMIT_S)


def test_a_look_that_is_called_for_meanwhile_is_not_put_off_by_the_answer() -> None:
    agenda = polling()
    agenda.ask(NOW)
    agenda.look_now()
    assert not agenda.answered(NOW + 0.1, tickets_wait=False, poll_s=30.0)
    assert agenda.due(Task.LOOK, NOW)


def test_nothing_is_asked_while_a_look_is_called_for_or_slips_are_not_due() -> None:
    called, made = Agenda(), polling()
    made.put(Task.MAKE_SLIPS, NOW + 1.0)
    assert not called.may_ask(NOW)
    assert not made.may_ask(NOW)


def test_at_the_start_all_is_due_but_a_round_of_which_nothing_is_known() -> None:
    agenda = Agenda()
    assert [task for task in Task if not agenda.due(task, 0.0)] == [Task.ROUNDS]
    assert agenda.due_in(NOW) == 0.0


@pytest.mark.parametrize("task", WAKING)
def test_the_wait_ends_with_the_first_task_that_ends_it(task: Task) -> None:
    agenda = Agenda()
    for other in WAKING:
        agenda.put(other, NOW + 9.0)
    agenda.put(task, NOW + 3.0)
    assert agenda.due_in(NOW) == 3.0
    assert agenda.due_in(NOW + 4.0) == 0.0
    assert not agenda.due(task, NOW)
    assert agenda.due(task, NOW + 3.0)


def test_what_is_done_with_a_look_ends_no_wait() -> None:
    agenda = Agenda()
    for task in Task:
        agenda.put(task, NOW + 9.0 if task in WAKING else NOW)
    assert agenda.due_in(NOW) == 9.0


def test_a_look_is_a_poll_only_if_nothing_has_called_for_it() -> None:
    agenda = Agenda()
    assert not agenda.polls(NOW)
    agenda.look(next_look(NOW, None, woken=True, poll_s=2.0))
    assert not agenda.polls(NOW + 1.0), "made earlier, for something else"
    assert agenda.polls(NOW + 2.0)
    agenda.look_now()
    assert agenda.due(Task.LOOK, NOW)
    assert not agenda.polls(NOW + 2.0)
