"""The faults of a run, from its seed alone: the same seed is the same plan, on every machine."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tests.chaos.devices import DEVICES, Trouble


class Harm(StrEnum):
    """What happens to our processes, to the database, and to the way there."""

    KILL_SUPERVISOR = "kill -9 supervisor"
    KILL_DISPATCHER = "kill -9 dispatcher"
    KILL_PRINTER_PROCESS = "kill -9 printer process"
    KILL_INSTANCE = "kill -9 whole instance"
    HALF_SENT = "printer process dies half-sent"
    """In the middle of a paper: mostly of a picture, which has most of its bytes. The printer waits for the rest."""
    STOP_SUPERVISOR = "SIGSTOP supervisor"
    STOP_DISPATCHER = "SIGSTOP dispatcher"
    STOP_PRINTER_PROCESS = "SIGSTOP printer process"
    STOP_INSTANCE = "SIGSTOP whole instance"
    DESCRIPTORS_EXHAUSTED = "descriptors exhausted"
    """Some of its processes get no further one for a while: no start, no connection, no file, no mailbox."""
    BACKEND_TERMINATED = "backend terminated"
    DATABASE_RESTART = "database restarted at once"
    DATABASE_FROZEN = "database frozen"
    ROW_LOCKED = "row locked by the POS"
    """A ticket or its bill, in a transaction that stays open; mostly one that is being printed."""
    WAY_CUT = "way to the database cut"
    WAY_SLOW = "way to the database slow"
    NAMES_SILENT = "name server silent"
    """The database and the printers are known by name."""
    REPLY_CUT = "connection cut after COMMIT"
    REPLY_DROPPED = "reply dropped after COMMIT"


Kind = Harm | Trouble
KINDS: Final[tuple[Kind, ...]] = (*Harm, *Trouble)

OF_A_PRINTER_PROCESS: Final = frozenset({Harm.KILL_PRINTER_PROCESS, Harm.STOP_PRINTER_PROCESS})
OF_THE_DATABASE: Final = frozenset({Harm.BACKEND_TERMINATED, Harm.DATABASE_RESTART, Harm.DATABASE_FROZEN})
OF_A_WAY: Final = frozenset({Harm.WAY_CUT, Harm.WAY_SLOW})
OF_A_REPLY: Final = frozenset({Harm.REPLY_CUT, Harm.REPLY_DROPPED})
NAME_SERVER: Final = "name server"
EVERY_INSTANCE: Final = "every instance"
"""Whoever runs the statement, or sends, next: an instance without printers claims nothing."""

STATEMENTS: Final = ("claim", "claim", "sending", "sending", "settle", "settle", "renew", "renew", "release", "acquire")
"""After whose COMMIT a reply is cut or dropped."""
RESETS: Final = ("accept", "mid", "after_cut")
POWER_CYCLES: Final = ("", "after standing open")
LOCKED_ROWS: Final = ("ticket", "saved ticket", "bill")
EXHAUSTED: Final = ("supervisor", "dispatcher", "printers", "all")
"""Which processes of an instance."""
LIES: Final = ("wrong", "constant", "late", "lost", "previous", "doubled")

PAUSE_S: Final = 0.2
"""Between two faults of one target."""
_STOPS_S: Final = (0.3, 1.0, 3.0, 8.0)
"""8 s is longer than a lease."""
_AT_ONCE: Final = frozenset(
    {
        Harm.KILL_SUPERVISOR, Harm.KILL_DISPATCHER, Harm.KILL_PRINTER_PROCESS, Harm.KILL_INSTANCE,
        Harm.BACKEND_TERMINATED, Harm.DATABASE_RESTART, Trouble.RESET,
    }
)  # fmt: skip
"""They have no end that somebody would have to make."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `at_s` seconds after the start, for `seconds`.

    `target` is a printer, `instance-N`, EVERY_INSTANCE, NAME_SERVER or `database`.
    """

    at_s: float
    kind: Kind
    target: str
    seconds: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at_s:7.2f} s  {self.kind} {self.target} {self.detail}".rstrip() + lasts


def plan(seed: int, seconds: float, instances: int, every_s: float = 1.0) -> list[Fault]:
    """The faults of `seconds`, one per `every_s` on average, in order of time; all are over by the end.

    Every kind comes once before any comes twice. A target has one fault at a time, so that the end of one is not the
    end of another.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    free_at: dict[tuple[str, str], float] = {}
    deck: list[Kind] = []
    at_s = chance.expovariate(1 / every_s)
    while at_s < seconds:
        deck = deck or chance.sample(KINDS, len(KINDS))
        fault = _first_possible(chance, at_s, deck, instances, free_at)
        if fault is not None:
            faults.append(replace(fault, seconds=min(fault.seconds, round(seconds - fault.at_s, 1))))
            deck.remove(fault.kind)
            free_at[_group(fault.kind), fault.target] = fault.at_s + fault.seconds + PAUSE_S
        at_s += chance.expovariate(1 / every_s)
    return faults


def _first_possible(
    chance: random.Random, at_s: float, deck: list[Kind], instances: int, free_at: dict[tuple[str, str], float]
) -> Fault | None:
    """A fault of the first kind in the deck that has a target without one; None if there is none."""
    for kind in deck:
        free = [target for target in _targets(kind, instances) if free_at.get((_group(kind), target), 0.0) <= at_s]
        if free:
            target = chance.choice(free)
            detail = _detail(chance, kind)
            return Fault(round(at_s, 3), kind, target, _seconds(chance, kind, detail), detail)
    return None


def _targets(kind: Kind, instances: int) -> list[str]:
    if isinstance(kind, Trouble):
        return [device.name for device in DEVICES if kind in device.troubles]
    if kind in OF_A_PRINTER_PROCESS:
        return [device.name for device in DEVICES]
    if kind in OF_THE_DATABASE or kind is Harm.ROW_LOCKED:
        return ["database"]
    if kind is Harm.NAMES_SILENT:
        return [NAME_SERVER]
    if kind in OF_A_REPLY or kind is Harm.HALF_SENT:
        return [EVERY_INSTANCE]
    return [f"instance-{n}" for n in range(1, instances + 1)]


def _group(kind: Kind) -> str:
    """Faults of one group must not overlap on one target."""
    if isinstance(kind, Trouble):
        return "machine"
    if kind in OF_A_WAY:
        return "way"
    if kind in OF_A_REPLY:
        return "reply"
    if kind is Harm.ROW_LOCKED:
        return "row"
    if kind is Harm.NAMES_SILENT:
        return "names"
    if kind is Harm.DESCRIPTORS_EXHAUSTED:
        return "descriptors"
    return "database" if kind in OF_THE_DATABASE else kind.removeprefix("kill -9 ").removeprefix("SIGSTOP ")


def _seconds(chance: random.Random, kind: Kind, detail: str) -> float:
    if kind in _AT_ONCE or (kind is Trouble.POWER_CYCLE and not detail):
        return 0.0
    if kind in (Harm.STOP_SUPERVISOR, Harm.STOP_DISPATCHER, Harm.STOP_PRINTER_PROCESS, Harm.STOP_INSTANCE):
        return chance.choice(_STOPS_S)
    if kind is Harm.ROW_LOCKED:
        return 10.0
    if kind is Harm.DESCRIPTORS_EXHAUSTED:
        return round(chance.uniform(2.0, 8.0), 1)
    if kind is Harm.NAMES_SILENT:
        return round(chance.uniform(3.0, 12.0), 1)
    if kind is Harm.DATABASE_FROZEN:
        return round(chance.uniform(0.5, 3.0), 1)
    return round(chance.uniform(0.5, 6.0), 1)


def _detail(chance: random.Random, kind: Kind) -> str:
    match kind:
        case Harm.REPLY_CUT | Harm.REPLY_DROPPED:
            return chance.choice(STATEMENTS)
        case Harm.ROW_LOCKED:
            return chance.choice(LOCKED_ROWS)
        case Harm.DESCRIPTORS_EXHAUSTED:
            return chance.choice(EXHAUSTED)
        case Harm.WAY_SLOW:
            return f"{chance.choice((0.02, 0.1, 0.4)):g}"
        case Trouble.RESET:
            return chance.choice(RESETS)
        case Trouble.POWER_CYCLE:
            return chance.choice(POWER_CYCLES)
        case Trouble.WRONG_ID:
            return chance.choice(LIES)
        case Trouble.PAPER_OUT:
            return str(chance.randint(0, 25))
        case _:
            return ""
