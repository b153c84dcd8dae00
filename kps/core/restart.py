"""Heartbeats and deaths of a child -> start it, abort it, kill it; times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

from kps.core.retry import Backoff

HANG_TIMEOUT_S = 15.0
"""Longer than any bounded call of a child (SQL 5 s, device in slices) plus its beat interval."""
BOOT_LIMIT_S = 30.0
TEMPLATE_BOOT_LIMIT_S = 30.0
TEMPLATE_ANSWERS_S = 5.0
"""A fork takes milliseconds; a template that has not answered for so long is stopped, or waits for a page from disk."""
ABORT_GRACE_S = 1.0
"""Between SIGABRT, which leaves the stacks, and SIGKILL, which always works."""
CRASH_LOOP_DEATHS = 5
CRASH_LOOP_WINDOW_S = 60.0
HEALTHY_AFTER_S = 60.0
DISPATCHER_DEATHS = 10
DISPATCHER_WINDOW_S = 300.0

RESTART = Backoff(first=0.5, cap=30.0, at_once=True)
START_AGAIN = Backoff(first=0.25, cap=5.0)
"""After a start that the host refused: to try costs next to nothing, and what is used up may be free in a moment."""
UNSTARTABLE_AFTER = 4
"""So many refused starts in a row, some 2 s: its printer's tickets go to the backup."""
UNREAD_LIMIT_S = 60.0
"""A child that takes nothing from its full pipe for so long hangs. Longer than HANG_TIMEOUT_S: a turn of its loop may
take many calls, each of them bounded, and it beats in each."""


class Verdict(Enum):
    """What the supervisor does to a child now."""

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
    """The deaths of one child, newest last."""

    times: list[float] = field(default_factory=list)
    streak: int = 0

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
        """Whether it dies so often that a person should look; it is retried all the same."""
        return sum(time > now - CRASH_LOOP_WINDOW_S for time in self.times) >= CRASH_LOOP_DEATHS

    def hopeless(self, now: float) -> bool:
        """Whether a fresh process tree is the better remedy (dispatcher only)."""
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

    `beat` is its last heartbeat (0 = none), `beats_count_from` the time from which a missing beat counts: after a round
    of the supervisor that came late, everybody has a full timeout to beat again. `unread_since`: its control pipe is
    full, and it has taken nothing since then.
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
