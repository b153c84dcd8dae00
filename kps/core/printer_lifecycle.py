"""The life of a printer under a supervisor, as tables: state x event -> state, and what is to be done for it.

Nothing here does anything; kps.supervisor.printer_lives carries the actions out.

The law:

1. A printer has at most one process, and one is started only while its lease is ours and it is wanted.
2. What a dead process held is given back in the database, under a new epoch, before its successor may print. The
   successor boots meanwhile.
3. Whoever is to leave is told to end, finishes what it prints, and then leaves: nothing wanted it back in between.
   What is wanted again is taken anew, as another life.
4. A lease that is still ours when its printer leaves is given back; one that is lost is not touched any more.

Three things are the case at a time, and each has a table of its own: how far the process is, whose the lease is, and
whether the printer is wanted. An event that a table does not name changes nothing there. The process's table is also
that of the dispatcher, which needs no lease and is always wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from kps.core.transitions import after


class Process(Enum):
    """How far a child's process is."""

    WAITING = "waiting"
    """There is none; one is started when its back-off is over."""
    STARTING = "starting"
    """The template was asked for it, or it boots."""
    UP = "up"
    STOPPING = "stopping"
    """It was told to end: it finishes what it prints, and gives the rest back."""
    DEAD = "dead"
    """There is none, and none is started any more."""


class Lease(Enum):
    """Whose the printer's lease is."""

    OURS = "ours"
    RELEASING = "releasing"
    """Ours, while what a dead process held is being given back: nobody may print under it."""
    LOST = "lost"
    """Another instance's, or nobody's."""


class Wish(Enum):
    """Whether this instance is to serve the printer."""

    SERVE = "serve"
    LEAVE = "leave"


class Event(Enum):
    """What happens to a printer."""

    STARTED = "started"
    """The template was asked for a process."""
    NOT_STARTED = "not started"
    """The host, or the template, has not made it after all."""
    READY = "ready"
    """Its process says that it works."""
    REPLACED = "replaced"
    """Its process is to make way for a new one, of another schema, device or name; or for none, when we end."""
    ENDED = "ended"
    """Its process has ended, told to or not."""
    RELEASED = "released"
    """What the dead process held is given back, and the lease is ours under a new epoch."""
    NOT_OURS = "not ours"
    """What the dead process held could not be given back, for the lease is ours no more."""
    TAKEN = "taken"
    """The lease is ours, again or under another epoch."""
    LOST = "lost"
    """The lease has lapsed, or another instance has it."""
    DISMISSED = "dismissed"
    """Its rows are gone or switched off, or a probe has borrowed it."""


class Action(Enum):
    """What the supervisor has to do."""

    TELL_TO_END = "tell to end"
    """Its process."""
    DISCONNECT = "disconnect"
    """Its mailbox is worth nothing any more, and the dispatcher has to know."""
    RELEASE = "release"
    """Have the database give back what the dead process held."""
    TELL_EPOCH = "tell epoch"
    """To its process: under this epoch it may print."""
    TELL_EPOCH_TO_ALL = "tell epoch to all"
    """To its process and to the dispatcher."""
    LAPSE = "lapse"
    """Give the lease back."""
    FORGET = "forget"
    """It is none of ours any more."""


class Life(NamedTuple):
    """What is the case with a printer."""

    process: Process = Process.WAITING
    lease: Lease = Lease.OURS
    wish: Wish = Wish.SERVE

    @property
    def startable(self) -> bool:
        """Whether a process is to be started for it. Who serves has not lost the lease, see WISH."""
        return self.process is Process.WAITING and self.wish is Wish.SERVE

    @property
    def connectable(self) -> bool:
        """Whether its process may have a mailbox: it works, and may print."""
        return self.process is Process.UP and self.lease is Lease.OURS and self.wish is Wish.SERVE

    @property
    def running(self) -> bool:
        """Whether it has a process, or will have one in a moment."""
        return self.process in RUNNING

    @property
    def over(self) -> bool:
        """Whether it has left."""
        return self.process is Process.DEAD


RUNNING: Final = frozenset({Process.STARTING, Process.UP, Process.STOPPING})

PROCESS: Final[Mapping[tuple[Process, Event], Process]] = {
    (Process.WAITING, Event.STARTED): Process.STARTING,
    (Process.STARTING, Event.NOT_STARTED): Process.WAITING,
    (Process.STARTING, Event.READY): Process.UP,
    (Process.STARTING, Event.REPLACED): Process.STOPPING,
    (Process.STARTING, Event.ENDED): Process.WAITING,
    (Process.UP, Event.REPLACED): Process.STOPPING,
    (Process.UP, Event.ENDED): Process.WAITING,
    (Process.STOPPING, Event.NOT_STARTED): Process.WAITING,
    (Process.STOPPING, Event.ENDED): Process.WAITING,
}

LEASE: Final[Mapping[tuple[Lease, Event], Lease]] = {
    (Lease.OURS, Event.ENDED): Lease.RELEASING,
    (Lease.OURS, Event.LOST): Lease.LOST,
    (Lease.RELEASING, Event.RELEASED): Lease.OURS,
    (Lease.RELEASING, Event.NOT_OURS): Lease.LOST,
    (Lease.RELEASING, Event.LOST): Lease.LOST,
    (Lease.LOST, Event.TAKEN): Lease.OURS,
}

WISH: Final[Mapping[tuple[Wish, Event], Wish]] = {
    (Wish.SERVE, Event.DISMISSED): Wish.LEAVE,
    (Wish.SERVE, Event.LOST): Wish.LEAVE,
    (Wish.SERVE, Event.NOT_OURS): Wish.LEAVE,
}
"""No event leads back: whoever leaves, leaves."""


def advance(life: Life, event: Event) -> tuple[Life, tuple[Action, ...]]:
    """What is the case after an event, and what is to be done for it, in this order."""
    process = after(PROCESS, life.process, event)
    lease = after(LEASE, life.lease, event)
    wish = after(WISH, life.wish, event)
    if wish is Wish.LEAVE:
        # What follows from the state alone: whoever leaves has its process told to end, and is gone when there is none.
        process = _LEAVING.get(process, process)
    then = Life(process, lease, wish)
    return then, tuple(action for action, holds in _ACTIONS if holds(life, event, then))


_LEAVING: Final[Mapping[Process, Process]] = {
    Process.STARTING: Process.STOPPING,
    Process.UP: Process.STOPPING,
    Process.WAITING: Process.DEAD,
}

_ACTIONS: Final[tuple[tuple[Action, Callable[[Life, Event, Life], bool]], ...]] = (
    (
        Action.TELL_TO_END,
        lambda before, _, then: then.process is Process.STOPPING and before.process is not Process.STOPPING,
    ),
    (Action.DISCONNECT, lambda before, event, then: event is Event.ENDED or (then.over and not before.over)),
    (Action.RELEASE, lambda before, _, then: before.lease is Lease.OURS and then.lease is Lease.RELEASING),
    (Action.TELL_EPOCH, lambda before, _, then: before.lease is Lease.RELEASING and then.lease is Lease.OURS),
    (Action.TELL_EPOCH_TO_ALL, lambda _, event, then: event is Event.TAKEN and then.lease is Lease.OURS),
    (Action.LAPSE, lambda before, _, then: then.over and not before.over and then.lease is not Lease.LOST),
    (Action.FORGET, lambda before, _, then: then.over and not before.over),
)
"""What is to be done, and of which change: (what was the case, what happened, what is the case)."""
