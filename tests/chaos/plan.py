"""The faults of a run, from its seed alone: the same seed is the same plan, on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tests.chaos.devices import DEVICES, PAIRS, Trouble


class Harm(StrEnum):
    """Faults of the service's processes, of the database, and of the network between them."""

    KILL_SUPERVISOR = "kill -9 supervisor"
    KILL_DISPATCHER = "kill -9 dispatcher"
    KILL_PRINTER_PROCESS = "kill -9 printer process"
    KILL_TEMPLATE = "kill -9 template"
    KILL_INSTANCE = "kill -9 whole instance"
    HALF_SENT = "printer process dies half-sent"
    """In the middle of a paper: mostly of a picture, which has most of its bytes. The printer waits for the rest."""
    STOP_SUPERVISOR = "SIGSTOP supervisor"
    STOP_DISPATCHER = "SIGSTOP dispatcher"
    STOP_PRINTER_PROCESS = "SIGSTOP printer process"
    STOP_TEMPLATE = "SIGSTOP template"
    STOP_INSTANCE = "SIGSTOP whole instance"
    DESCRIPTORS_EXHAUSTED = "descriptors exhausted"
    """For a while some processes can open no descriptor: no start, no connection, no file, no mailbox."""
    BACKEND_TERMINATED = "backend terminated"
    DATABASE_RESTART = "database restarted at once"
    DATABASE_FROZEN = "database frozen"
    ROW_LOCKED = "row locked by the POS"
    """A ticket or its bill is locked by an open transaction; mostly of a ticket that is being printed."""
    WAY_CUT = "way to the database cut"
    WAY_SLOW = "way to the database slow"
    NAMES_SILENT = "name server silent"
    """No answers for a while, where database and printers are known by name."""
    REPLY_CUT = "connection cut after COMMIT"
    REPLY_DROPPED = "reply dropped after COMMIT"


Kind = Harm | Trouble
KINDS: Final[tuple[Kind, ...]] = (*Harm, *Trouble)

OF_A_PRINTER_PROCESS: Final = frozenset({Harm.KILL_PRINTER_PROCESS, Harm.STOP_PRINTER_PROCESS})
OF_THE_DATABASE: Final = frozenset({Harm.BACKEND_TERMINATED, Harm.DATABASE_RESTART, Harm.DATABASE_FROZEN})
OF_THE_NETWORK: Final = frozenset({Harm.WAY_CUT, Harm.WAY_SLOW})
OF_A_REPLY: Final = frozenset({Harm.REPLY_CUT, Harm.REPLY_DROPPED})
NAME_SERVER: Final = "name server"
EVERY_INSTANCE: Final = "every instance"
"""Target of faults that hit the instance that next runs a statement or sends: one without printers never does."""

STATEMENTS: Final = ("claim", "claim", "promise", "promise", "settle", "settle", "renew", "renew", "release", "acquire")
"""Statements whose reply is cut or dropped after their COMMIT."""
RESETS: Final = ("accept", "mid", "after_cut")
POWER_CYCLES: Final = ("", "after standing open")
LOCKED_ROWS: Final = ("ticket", "saved ticket", "bill")
EXHAUSTED: Final = ("supervisor", "dispatcher", "printers", "all")
"""Processes of an instance whose descriptors are exhausted."""
LIES: Final = ("wrong", "constant", "late", "lost", "previous", "doubled")

KEEPS_AWAY: Final = frozenset(
    {
        Harm.STOP_SUPERVISOR, Harm.STOP_INSTANCE, Harm.DESCRIPTORS_EXHAUSTED, Harm.DATABASE_FROZEN, Harm.ROW_LOCKED,
        Harm.WAY_CUT, Harm.WAY_SLOW, Harm.REPLY_DROPPED,
    }
)  # fmt: skip
"""Faults that delay the end of a printer's trouble: meanwhile it may not be asked or connected, or its recovery not be
recorded. Which instance has the printer is not known here. A silent name server is none of them: printers keep their
last addresses."""
BLOCKS_STARTS: Final = frozenset({"supervisor", "all"})
"""While the descriptors of these are exhausted, a printer process that has died is not replaced."""
STILL_ANSWERS: Final = frozenset({Trouble.PAPER_OUT, Trouble.COVER_OPEN, Trouble.CUTTER_JAM})
"""Troubles in which a printer still answers, so that it is asked again within 1.2 s."""
ANSWERING_BACK_S: Final = 3.0
"""For so long after its trouble such a printer may be away: it must answer, and a ticket inside it may wait for
HOLD_SECONDS."""
BACK_S: Final = 7.0
"""The same for other troubles: a printer is asked again after at most 6 s, the longest back-off with its jitter."""
CONNECTS_S: Final = 6.0
"""For so long after the death of its supervisor an instance's printer processes may have no connection yet."""
BLOCKS_CONNECTIONS: Final = frozenset({"printers", "all"})
"""While the descriptors of these are exhausted, a printer process without a connection gets none."""
REPLACED_S: Final = 3.0
"""For so long a killed printer process may not be replaced yet."""
_LOOK_BACK_S: Final = 60.0
"""Longer than any fault keeps a printer away."""

PAUSE_S: Final = 0.2
"""Between two faults of one target."""
_STOPS_S: Final = (0.3, 1.0, 3.0, 8.0)
"""8 s is longer than a lease, and longer than a template may keep others waiting."""
_STOPS: Final = frozenset(
    {
        Harm.STOP_SUPERVISOR, Harm.STOP_DISPATCHER, Harm.STOP_PRINTER_PROCESS, Harm.STOP_TEMPLATE, Harm.STOP_INSTANCE,
    }
)  # fmt: skip
_AT_ONCE: Final = frozenset(
    {
        Harm.KILL_SUPERVISOR, Harm.KILL_DISPATCHER, Harm.KILL_PRINTER_PROCESS, Harm.KILL_TEMPLATE, Harm.KILL_INSTANCE,
        Harm.BACKEND_TERMINATED, Harm.DATABASE_RESTART, Trouble.RESET,
    }
)  # fmt: skip
"""Faults that are over at once and need not be ended."""


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


def plan(seed: int, seconds: float, instances: int, every_s: float = 1.0, *, outages: bool = False) -> list[Fault]:
    """The faults of `seconds`, one per `every_s` on average, in order of time; all are over by the end.

    Every kind comes once before any comes twice. A target has one fault at a time, so that the end of one is not the
    end of another. Of each station one printer is never `away`, unless there may be `outages`.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    free_at: dict[tuple[str, str], float] = {}
    deck: list[Kind] = []
    at_s = chance.expovariate(1 / every_s)
    while at_s < seconds:
        deck = deck or chance.sample(KINDS, len(KINDS))
        recent = [fault for fault in faults if fault.at_s > at_s - _LOOK_BACK_S]
        for fault in _possible(chance, at_s, deck, instances, free_at):
            lasting = replace(fault, seconds=min(fault.seconds, round(seconds - fault.at_s, 1)))
            if outages or not without_printer([*recent, lasting]):
                faults.append(lasting)
                deck.remove(fault.kind)
                free_at[_group(fault.kind), fault.target] = fault.at_s + fault.seconds + PAUSE_S
                break
        at_s += chance.expovariate(1 / every_s)
    return faults


def _possible(
    chance: random.Random, at_s: float, deck: Sequence[Kind], instances: int, free_at: dict[tuple[str, str], float]
) -> Iterator[Fault]:
    """Faults of the kinds in the deck, in its order, at the targets that have none."""
    for kind in deck:
        free = [target for target in _targets(kind, instances) if free_at.get((_group(kind), target), 0.0) <= at_s]
        for target in chance.sample(free, len(free)):
            detail = _detail(chance, kind)
            yield Fault(round(at_s, 3), kind, target, _seconds(chance, kind, detail), detail)


def without_printer(faults: Iterable[Fault]) -> list[tuple[str, str, float]]:
    """Where both printers of a station are `away` at once: the two, and since when in seconds after the start."""
    spans = away(faults)
    return [
        (one, other, max(since_s, then_s))
        for one, other in PAIRS
        for since_s, until_s in spans.get(one, ())
        for then_s, end_s in spans.get(other, ())
        if since_s < end_s and then_s < until_s
    ]


def away(faults: Iterable[Fault]) -> dict[str, list[tuple[float, float]]]:
    """When printers may be unable to print: printer -> (from, until), in seconds after the start.

    A printer is away from the start of its trouble until KPS has surely noticed its end; longer if a fault that
    KEEPS_AWAY overlaps that time, or SIGSTOP of its process. The death of its process alone does not take it away: its
    tickets wait for the next one, which is there at once, unless it cannot be started. All printers are away where the
    processes of an instance that has just begun get no descriptor for a connection.
    """
    faults = list(faults)
    keeps_away = [fault for fault in faults if fault.kind in KEEPS_AWAY]
    no_start = [fault for fault in faults if fault.kind is Harm.STOP_TEMPLATE or fault.detail in BLOCKS_STARTS]
    spans: dict[str, list[tuple[float, float]]] = {}
    for fault in faults:
        if isinstance(fault.kind, Trouble):
            back_s = ANSWERING_BACK_S if fault.kind in STILL_ANSWERS else BACK_S
            stops = [one for one in faults if one.kind is Harm.STOP_PRINTER_PROCESS and one.target == fault.target]
            overlapping = _overlapping(fault, back_s, keeps_away + stops)
        elif fault.kind in (Harm.KILL_PRINTER_PROCESS, Harm.HALF_SENT):
            back_s = REPLACED_S
            overlapping = _overlapping(fault, back_s, no_start)
            if not overlapping:
                continue
        elif fault.kind is Harm.DESCRIPTORS_EXHAUSTED and fault.detail in BLOCKS_CONNECTIONS:
            back_s, overlapping = BACK_S, []
            if not any(_just_begun(one, fault) for one in faults):
                continue
        else:
            continue
        until_s = max([fault.at_s + fault.seconds + back_s, *(one.at_s + one.seconds + BACK_S for one in overlapping)])
        of_all = fault.kind in (Harm.HALF_SENT, Harm.DESCRIPTORS_EXHAUSTED)
        for name in [device.name for device in DEVICES] if of_all else [fault.target]:
            spans.setdefault(name, []).append((fault.at_s, until_s))
    return spans


def _just_begun(death: Fault, fault: Fault) -> bool:
    """Whether the instance that a fault hits may just have been restarted after this death, without connections yet."""
    dead = death.kind in (Harm.KILL_SUPERVISOR, Harm.KILL_INSTANCE) and death.target == fault.target
    return dead and fault.at_s - CONNECTS_S < death.at_s < fault.at_s + fault.seconds


def _overlapping(fault: Fault, back_s: float, others: Iterable[Fault]) -> list[Fault]:
    """The faults that begin before another one and its `back_s` are over, and end after its start."""
    over_s = fault.at_s + fault.seconds + back_s
    return [one for one in others if one.at_s < over_s and one.at_s + one.seconds > fault.at_s]


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
    if kind in OF_THE_NETWORK:
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
    if kind in _STOPS:
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
