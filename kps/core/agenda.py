"""When the dispatcher does what next, and why it looks for tickets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

NEVER = float("inf")
UNWOKEN_POLL_S = 0.1
"""Between two looks, at most, while notifications are not known to arrive."""
ASKED_LIMIT_S = 0.25
"""So long a poll waits for the answer of the statement that makes slips."""


class Task(Enum):
    """What the dispatcher does when its moment has come."""

    LOOK = "look"
    """Look for `new` tickets."""
    ROUNDS = "rounds"
    """Look because the next round of a waiting ticket begins."""
    MAKE_SLIPS = "make slips"
    """Have slips made of what has happened to printed tickets, and hand out the open ones."""
    HAND_OUT_SLIPS = "hand out slips"
    """Hand out slips again after an error of the database that concerns slips alone."""
    READ_DEVICES = "read devices"
    """Read the devices before the next decision: what is known about them is too old for it."""
    READ_LEASES = "read leases"
    """Read which leases are alive although no ticket waits, see `kps.dispatcher.devices`."""
    RESCUE = "rescue"
    """Look for failed tickets that a printer could print now."""
    SURVEY = "survey"
    """Survey a backlog that is too large for one look."""
    GIVE_BACK = "give back"
    """Try again to give back claims whose tickets' rows were locked."""


WAKING = (Task.LOOK, Task.ROUNDS, Task.MAKE_SLIPS)
"""The loop wakes up for these. The others are done by the first look after their moment."""


class Why(Enum):
    """Why the next look is due when it is."""

    CALLED = "called"
    """Something has happened that may have changed what a look finds."""
    MORE = "more"
    """More could be claimed than one statement takes."""
    LOCKED = "locked"
    """A ticket's row was locked, or has changed since the look."""
    HALF_WRITTEN = "half-written"
    """Items of a ticket are still being written."""
    NO_PRINTER_ROW = "no printer row"
    """A ticket without any printer row becomes `failed` after a while."""
    GIVE_BACK = "give back"
    """Claims could not be given back yet."""
    SURVEY = "survey"
    """Only the next survey sees tickets that have become `new` again since the last."""
    TROUBLE = "trouble"
    """The database could not be asked."""
    UNWOKEN = "unwoken"
    """No notification would say that a ticket has come."""
    POLL = "poll"
    """No reason: whatever this look finds, its notification was missed."""
    ASKED = "asked"
    """The same, and the statement that makes slips was asked whether any ticket is `new`, but has not answered."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """A wish for another look, in so many seconds."""

    in_s: float
    why: Why


@dataclass(frozen=True, slots=True)
class NextLook:
    """When the next look is due, in seconds of a monotonic clock, and why."""

    at: float
    why: Why


def sooner(one: LookAgain | None, other: LookAgain | None) -> LookAgain | None:
    """The one that comes first; None = no wish."""
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda wish: wish.in_s)


def next_look(
    now: float,
    again: LookAgain | None,
    *,
    woken: bool,
    poll_s: float,
    give_back_at: float | None = None,
    survey_at: float | None = None,
) -> NextLook:
    """The look after one that has come to its end at `now`.

    `again`: what that look asks for. `woken`: whether a notification would come with the next ticket. `give_back_at`,
    `survey_at`: when claims are to be given back and when the next survey is due; None = not at all.
    """
    if again is not None:
        wishes = [NextLook(now + again.in_s, again.why)]
    elif woken:
        wishes = [NextLook(now + poll_s, Why.POLL)]
    else:
        wishes = [NextLook(now + min(poll_s, UNWOKEN_POLL_S), Why.UNWOKEN)]
    if give_back_at is not None:
        wishes.append(NextLook(give_back_at, Why.GIVE_BACK))
    if survey_at is not None:
        wishes.append(NextLook(max(survey_at, now + UNWOKEN_POLL_S), Why.SURVEY))
    return min(wishes, key=lambda wish: wish.at)


class Agenda:
    """One moment for each task, in seconds of a monotonic clock that the caller reads.

    At the start everything is due but ROUNDS: when the next round begins is not known yet.
    """

    def __init__(self) -> None:
        self._at = dict.fromkeys(Task, 0.0) | {Task.ROUNDS: NEVER}
        self._why = Why.CALLED

    def at(self, task: Task) -> float:
        """The moment of a task; 0 = at once."""
        return self._at[task]

    def due(self, task: Task, now: float) -> bool:
        """Whether its moment has come."""
        return now >= self._at[task]

    def due_in(self, now: float) -> float:
        """Seconds until the loop has to do something that no event tells it."""
        return max(0.0, min(self._at[task] for task in WAKING) - now)

    def put(self, task: Task, at: float) -> None:
        """The task is due at this moment, and no longer at another one. For a look, `look` says why as well."""
        self._at[task] = at

    def at_once(self, task: Task) -> None:
        """The task is due now."""
        self.put(task, 0.0)

    def look(self, look: NextLook) -> None:
        """When the next look is due, and why."""
        self._at[Task.LOOK], self._why = look.at, look.why

    def look_now(self) -> None:
        """Something has happened that may have changed what a look finds."""
        self.look(NextLook(0.0, Why.CALLED))

    def polls(self, now: float) -> bool:
        """Whether a look that is made now is nothing but the regular poll."""
        return self._why in (Why.POLL, Why.ASKED) and self.due(Task.LOOK, now)

    def may_ask(self, now: float) -> bool:
        """Whether the statement that makes slips is due, and may make the next poll too: no look is called for."""
        return self._why is Why.POLL and self.due(Task.MAKE_SLIPS, now)

    def ask(self, now: float) -> None:
        """That statement was asked; without an answer there is a look."""
        self.look(NextLook(now + ASKED_LIMIT_S, Why.ASKED))

    def answered(self, now: float, *, tickets_wait: bool, poll_s: float) -> bool:
        """It has answered. Whether that made the poll: no ticket waits, and no look was called for meanwhile."""
        if self._why is not Why.ASKED:
            return False
        self.look(NextLook(0.0 if tickets_wait else now + poll_s, Why.POLL))
        return not tickets_wait
