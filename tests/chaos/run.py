"""The real service under seeded faults, and the table of what became of its tickets.

    python -m tests.chaos [--seed N] [--seconds S] [--instances K ...] [--rate R] [--naive | --beside] [--plan]

A long run is cut into rounds of at most ROUND_S seconds, each with a fresh house and the next seed. The seed is printed
first; `--seed` with the printed number, and the same seconds and instances, makes the same plan of faults again.
The exit code is 1 if KPS broke a promise.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg2

from tests.chaos.faults import Injector
from tests.chaos.house import Belongings, Design, House, belongings, open_house
from tests.chaos.plan import KINDS, plan
from tests.chaos.verdict import Ticket, Verdict, judge, pieces

ROUND_S: Final = 120.0
READY_LIMIT_S: Final = 90.0
QUIET_LIMIT_S: Final = 120.0
"""Without any progress. Generous: nothing is measured by it, and a crash loop's back-off alone may be 30 s."""
QUIET_LOOKS: Final = 3
"""So many looks in a row must find nothing to do."""
LOOK_S: Final = 0.25
COLUMNS: Final = (
    "tickets", "faults", "failed", "lost", "sent, not on paper", "unmarked", "marked", "inversions", "overlaps",
    "leftovers",
)  # fmt: skip


class NotReady(Exception):
    """The house did not come up, without any fault; the message says what was missing."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one run of faults came to."""

    seed: int
    instances: int
    design: Design
    verdict: Verdict
    faults: Counter[str]
    missed: int
    overlaps: list[str]
    """Printers on which two connections ever wrote at the same time."""
    leftovers: list[str]
    """In words: what was still at work, or there beyond the start's, when nothing should be."""
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, in words; empty = all were."""
        found = self.verdict
        columns: tuple[tuple[str, Sequence[object]], ...] = (
            ("lost", found.lost), ("sent, not on paper", found.sent_only), ("unmarked second copy", found.unmarked),
            ("inverted", found.inversions), ("two writers at", self.overlaps), ("left over", self.leftovers),
            ("on paper, and of no ticket", found.strangers),
        )  # fmt: skip
        return [f"{len(which)} {what}: {_first(which)}" for what, which in columns if which]


def _first(which: Sequence[object], count: int = 12) -> str:
    return ", ".join(map(str, which[:count])) + (" ..." if len(which) > count else "")


def run_round(
    seed: int, seconds: float, instances: int, rate: float, design: Design = Design.KPS, *, folder: Path | None = None
) -> Round:
    """Open a house, let the till ring, do the plan's faults for `seconds`, wait for quiet, judge.

    `folder` keeps the services' logs; without it a temporary one is used. Raises NotReady.
    """
    with tempfile.TemporaryDirectory(prefix="kps-chaos-") as temporary:
        place = folder or Path(temporary)
        with open_house(design, instances, rate, seed, place) as house:
            _wait(house, lambda: _not_ready(house), READY_LIMIT_S)
            for station in ("kitchen", "bar", "dessert", "checker"):
                house.till.ring_up(station)
            if unfinished := _wait(house, lambda: _unfinished(house), READY_LIMIT_S, fail=False):
                raise NotReady("; ".join(unfinished))
            before = belongings(house)
            injector = Injector(house)
            house.till.start()
            injector.carry_out(plan(seed, seconds, instances), seconds)
            house.till.stopping.set()
            house.till.join()
            ended = time.monotonic()
            leftovers = _wait(house, lambda: _restless(house, before), QUIET_LIMIT_S, fail=False)
            quiet_s = time.monotonic() - ended
            tickets = _tickets(house)
            notes = [f"quiet after {quiet_s:.0f} s", *_notes(house)]
            codes = [instance.end() for instance in house.instances]
            leftovers += [f"exit code {code} of an instance" for code in codes if design is Design.KPS and code != 0]
            leftovers += [
                f"{role} outlives its instance" for one in house.instances for role in one.processes().values()
            ]
            for printer in house.printers.values():
                printer.stop()
            papers = {name: pieces(name, printer.texts()) for name, printer in house.printers.items()}
            overlaps = [name for name, printer in house.printers.items() if printer.concurrent_writers_seen]
    return Round(
        seed, instances, design, judge(tickets, papers), +injector.hit, injector.missed, overlaps, leftovers, notes
    )


# -- waiting -------------------------------------------------------------------------------------------------------


def _wait(house: House, missing: Callable[[], list[str]], limit_s: float, *, fail: bool = True) -> list[str]:
    """Until `missing()` finds nothing, QUIET_LOOKS times in a row.

    Returns what is missing still when it has not become less for `limit_s`; raises NotReady instead if `fail`.
    """
    deadline = time.monotonic() + limit_s
    calm = 0
    last: list[str] = []
    least = sys.maxsize
    while calm < QUIET_LOOKS:
        house.keep()
        house.tend()
        try:
            last = missing()
        except psycopg2.Error as error:
            last = [f"the database: {error}"]
        calm = 0 if last else calm + 1
        if len(last) < least:
            least, deadline = len(last), time.monotonic() + limit_s
        if last and time.monotonic() > deadline:
            if fail:
                raise NotReady("; ".join(last))
            return last
        time.sleep(LOOK_S)
    return []


def _not_ready(house: House) -> list[str]:
    """What keeps the instances from printing."""
    if house.design is Design.NAIVE:
        return []
    found = []
    rows = house.pos.rows("SELECT name, state, expires_at > clock_timestamp() AS live FROM kps.printer")
    found += [f"{row['name']} is {row['state']}" for row in rows if row["state"] != "ready" or not row["live"]]
    listening = house.pos.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'kps:dispatcher:listen'"
    )[0]["n"]
    if listening != len(house.instances):
        found.append(f"{listening} of {len(house.instances)} dispatchers listen")
    return found


def _unfinished(house: House) -> list[str]:
    """What is still to be done about tickets."""
    rows = house.pos.rows(
        "SELECT id, status FROM kitchen_kitchenticket WHERE status IN ('new', 'printing') ORDER BY id"
    )
    found = [f"ticket {row['id']} is {row['status']}" for row in rows]
    if house.design is Design.NAIVE:
        return found
    jobs = house.pos.rows("SELECT ticket_id, state FROM kps.job WHERE state IN ('claimed', 'sending')")
    found += [f"job {row['ticket_id']} is {row['state']}" for row in jobs]
    waiting = house.pos.rows(
        "SELECT j.ticket_id FROM kps.job j JOIN kitchen_kitchenticket t ON t.id = j.ticket_id"
        " WHERE j.unreached AND t.status = 'failed'"
    )
    return found + [f"ticket {row['ticket_id']} may be rescued" for row in waiting]


def _restless(house: House, before: Belongings) -> list[str]:
    """All that keeps the house from being as it was before the faults."""
    return _unfinished(house) + _not_ready(house) + belongings(house).beyond(before)


# -- what became of the tickets ------------------------------------------------------------------------------------

_PROMPT: Final = ["print_start", "print_success"]
"""The log of a ticket that never waited: claimed once, proven once, and nothing in between."""


def _tickets(house: House) -> list[Ticket]:
    if house.design is Design.NAIVE:
        rows = house.pos.rows(
            "SELECT t.id, b.queue_number AS queue, t.status, t.printer_target AS station,"
            " t.print_attempts > 1 AS waited"
            " FROM kitchen_kitchenticket t JOIN pos_bill b ON b.id = t.bill_id ORDER BY t.id"
        )
        return [Ticket(row["id"], row["queue"], row["station"], row["status"], waited=row["waited"]) for row in rows]
    rows = house.pos.rows(
        "SELECT t.id, b.queue_number AS queue, t.printer_target AS station, t.status, coalesce(j.proof, '') AS proof,"
        "  (SELECT array_agg(l.action ORDER BY l.id) FROM kitchen_kitchenticketlog l"
        "    WHERE l.ticket_id = t.id AND l.action <> 'created') AS actions"
        " FROM kitchen_kitchenticket t JOIN pos_bill b ON b.id = t.bill_id LEFT JOIN kps.job j ON j.ticket_id = t.id"
        " ORDER BY t.id"
    )
    return [
        Ticket(row["id"], row["queue"], row["station"], row["status"], row["proof"], waited=row["actions"] != _PROMPT)
        for row in rows
    ]


def _notes(house: House) -> list[str]:
    """What helps to read the table."""
    restarts = sum(instance.restarts for instance in house.instances)
    notes = [f"instances started again: {restarts}"]
    if house.design is Design.KPS:
        rows = house.pos.rows("SELECT name, proof_level FROM kps.printer ORDER BY name")
        notes.append("proof levels in the end: " + ", ".join(f"{row['name']} {row['proof_level']}" for row in rows))
        proofs = house.pos.rows(
            "SELECT coalesce(proof, 'none yet') AS proof, count(*) AS n FROM kps.job GROUP BY 1 ORDER BY 2 DESC"
        )
        notes.append("tickets by proof: " + ", ".join(f"{row['proof']} {row['n']}" for row in proofs))
    return notes


# -- the tables ----------------------------------------------------------------------------------------------------


def summary(rounds: Sequence[Round]) -> str:
    """A Markdown table, one row per design and number of instances."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---|" + "--:|" * len(COLUMNS)]
    for design, instances in _rows(rounds):
        mine = [one for one in rounds if (one.design, one.instances) == (design, instances)]
        found = [one.verdict for one in mine]
        columns = (
            sum(one.tickets for one in found),
            sum(sum(one.faults.values()) for one in mine),
            sum(one.failed for one in found),
            sum(len(one.lost) for one in found),
            sum(len(one.sent_only) for one in found),
            sum(len(one.unmarked) for one in found),
            sum(one.marked for one in found),
            sum(len(one.inversions) for one in found),
            sum(len(one.overlaps) for one in mine),
            sum(len(one.leftovers) for one in mine),
        )
        lines.append(f"| {_name(design, instances)} | " + " | ".join(f"{column:,}" for column in columns) + " |")
    return "\n".join(lines)


def faults_by_kind(rounds: Sequence[Round]) -> str:
    """A Markdown table of the faults that found their target."""
    rows = _rows(rounds)
    lines = ["| fault | " + " | ".join(_name(*row) for row in rows) + " |", "|---|" + "--:|" * len(rows)]
    for kind in KINDS:
        counts = [
            sum(one.faults[kind] for one in rounds if (one.design, one.instances) == row) for row in rows
        ]  # fmt: skip
        lines.append(f"| {kind} | " + " | ".join(str(count) for count in counts) + " |")
    return "\n".join(lines)


def _rows(rounds: Iterable[Round]) -> list[tuple[Design, int]]:
    return list(dict.fromkeys((one.design, one.instances) for one in rounds))


def _name(design: Design, instances: int) -> str:
    of = "KPS" if design is Design.KPS else "naive loop"
    return f"{of}, {instances} instance{'s' if instances > 1 else ''}"


# -- the command ---------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the tables, and return 1 if KPS broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="makes the same plan again; without it a random one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults, for each number of instances")
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rate", type=float, default=50.0, help="tickets per second")
    parser.add_argument("--naive", action="store_true", help="the naive loop instead of KPS")
    parser.add_argument("--beside", action="store_true", help="the naive loop too, under the same plans")
    parser.add_argument("--plan", action="store_true", help="print the plan of the first round, and do nothing")
    parser.add_argument("--logs", type=Path, help="an empty folder that keeps the logs of all rounds")
    chosen = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    if chosen.plan:
        print(*plan(seed, min(chosen.seconds, ROUND_S), chosen.instances[0]), sep="\n")
        return 0
    designs = [Design.NAIVE] if chosen.naive else [Design.KPS, *([Design.NAIVE] if chosen.beside else [])]
    rounds = []
    for design in designs:
        for instances in chosen.instances:
            for number, seconds in enumerate(_lengths(chosen.seconds)):
                folder = chosen.logs / f"{design.name.lower()}-{instances}-{number}" if chosen.logs else None
                one = run_round(seed + number, seconds, instances, chosen.rate, design, folder=folder)
                rounds.append(one)
                _tell(one, seconds)
    print(f"\n{summary(rounds)}\n\n{faults_by_kind(rounds)}")
    return 1 if any(one.broken for one in rounds if one.design is Design.KPS) else 0


def _lengths(seconds: float) -> list[float]:
    """Rounds of at most ROUND_S."""
    rounds = max(1, -(-int(seconds) // int(ROUND_S)))
    return [seconds / rounds] * rounds


def _tell(one: Round, seconds: float) -> None:
    found = one.verdict
    print(
        f"{_name(one.design, one.instances)}, seed {one.seed}, {seconds:g} s: {found.tickets} tickets, "
        f"{sum(one.faults.values())} faults ({one.missed} missed), {found.failed} failed, {len(found.lost)} lost, "
        f"{len(found.unmarked)} unmarked, {found.marked} marked; {'; '.join(one.notes)}",
        flush=True,
    )
    if one.design is Design.KPS:
        for line in one.broken:
            print(f"  BROKEN {line}", flush=True)
