"""When a child process is aborted, killed and started again. Times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from kps.core.retry import Backoff

HANG_TIMEOUT_S = 15.0
"""A child without a heartbeat for so long hangs. Its longest call is one of SQL, with a limit of 5 s."""
BOOT_LIMIT_S = 30.0
"""A child that has not said that it works so long after its start hangs."""
TEMPLATE_BOOT_LIMIT_S = 30.0
TEMPLATE_ANSWERS_S = 5.0
"""A template that has not answered a request for so long hangs: a fork takes milliseconds."""
ABORT_GRACE_S = 1.0
"""Between SIGABRT, upon which a process writes its stacks, and SIGKILL, which always works."""
CRASH_LOOP_DEATHS = 5
CRASH_LOOP_WINDOW_S = 60.0
"""So many deaths within so many seconds are a crash loop."""
HEALTHY_AFTER_S = 60.0
"""A child that has lived for so long starts again with the shortest delay."""
DISPATCHER_DEATHS = 10
DISPATCHER_WINDOW_S = 300.0
"""If the dispatcher has died more often than that within so many seconds, the whole service is started anew."""

RESTART = Backoff(first=0.5, cap=30.0, at_once=True)
START_AGAIN = Backoff(first=0.25, cap=5.0)
"""After a start that the host refused: a try costs next to nothing, and the resource may be free in a moment."""
UNSTARTABLE_AFTER = 4
"""After so many refused starts in a row, some 2 s, the printer's tickets go to the backup."""
UNREAD_LIMIT_S = 60.0
"""A child that reads nothing from its full pipe for so long hangs. Longer than HANG_TIMEOUT_S, because one turn of its
loop may take many calls, each with a limit and a heartbeat of its own."""


class Verdict(Enum):
    """What the supervisor does with a running child now."""

    LEAVE = "leave"
    ABORT = "abort"
    KILL = "kill"


class Cause(StrEnum):
    """Why a child was restarted."""

    EXIT = "exit"
    SIGNAL = "signal"
    HUNG = "hung"
    BOOT_TIMEOUT = "boot_timeout"
    RELOAD = "reload"
    START_FAILED = "start_failed"
    """The host refused to start it: no descriptor, no process, no memory was left."""


@dataclass(slots=True)
class Deaths:
    """The deaths of one child."""

    times: list[float] = field(default_factory=list)
    """When it died, newest last."""
    streak: int = 0
    """Deaths in a row without HEALTHY_AFTER_S of life before them."""

    def note(self, now: float, lived_s: float) -> None:
        """It died after living for `lived_s`."""
        if lived_s >= HEALTHY_AFTER_S:
            self.streak = 0
        self.streak += 1
        self.times = [time for time in self.times if time > now - DISPATCHER_WINDOW_S] + [now]

    def restart_at(self, now: float, chance: float) -> float:
        """When to start it again."""
        return now + RESTART.delay(self.streak, chance)

    def crash_loop(self, now: float) -> bool:
        """Whether it dies so often that a person should look. It is started again all the same."""
        return sum(time > now - CRASH_LOOP_WINDOW_S for time in self.times) >= CRASH_LOOP_DEATHS

    def hopeless(self, now: float) -> bool:
        """Whether to start the whole service anew instead (of the dispatcher only)."""
        return sum(time > now - DISPATCHER_WINDOW_S for time in self.times) > DISPATCHER_DEATHS


def judge(
    *,
    now: float,
    started: float,
    up: bool,
    beat: float,
    beats_count_from: float,
    aborted_at: float | None,
    unread_since: float | None = None,
) -> tuple[Verdict, Cause]:
    """What to do with a running child.

    `beat` is its last heartbeat (0 = none). Before `beats_count_from` a missing one does not count: after a late turn
    of the supervisor, when the host stood still, every child has the whole time again. `unread_since`: since then its
    control pipe is full, and it has read nothing.
    """
    if aborted_at is not None:
        return (Verdict.KILL if now - aborted_at >= ABORT_GRACE_S else Verdict.LEAVE), Cause.HUNG
    if not up:
        late = now - max(started, beats_count_from) > BOOT_LIMIT_S
        return (Verdict.ABORT if late else Verdict.LEAVE), Cause.BOOT_TIMEOUT
    late = now - max(beat, started, beats_count_from) > HANG_TIMEOUT_S
    if unread_since is not None:
        late = late or now - max(unread_since, beats_count_from) > UNREAD_LIMIT_S
    return (Verdict.ABORT if late else Verdict.LEAVE), Cause.HUNG
