"""A process vanishes at each of the named points: what is on paper, on record and in the log afterwards.

Each point is met twice in one shop: by a ticket alone, then by the first of two that came in one commit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kps.crash import EXIT_CODE, VARIABLE, Point
from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import MARKS, Shop, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}

ONCE = ["print_start", "print_success"]
AGAIN = ["print_start", "retry", "print_start", "print_success"]
"""Given back without a try being counted, then printed."""

_HEADINGS = re.compile(r"^KITCHEN TICKET$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Piece:
    """What stands on paper of one copy: `marked` as one that may not be the only one, `whole` down to its last line."""

    marked: bool
    whole: bool


WHOLE = Piece(marked=False, whole=True)
TORN = Piece(marked=False, whole=False)
MARKED = Piece(marked=True, whole=True)


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a crash at a point may leave of the ticket that was worked on, and of the one behind it."""

    dies: str
    pieces: tuple[Piece, ...]
    sends: int
    actions: list[str]
    behind: list[str]
    """The log's actions for the other ticket, of which no byte had left."""


AFTERMATH = {
    # Committed, and told to nobody: the next dispatcher asks the printers what they hold, and takes the rest back.
    Point.CLAIMED: Aftermath("dispatcher", (WHOLE,), 1, AGAIN, AGAIN),
    Point.HAND_OVER: Aftermath("dispatcher", (WHOLE,), 1, AGAIN, AGAIN),
    # It lies in the mailbox, whose writer is dead: it is read to its end.
    Point.HANDED_OVER: Aftermath("dispatcher", (WHOLE,), 1, ONCE, AGAIN),
    # No byte has left, but only the dead process knew that: the only copy carries the mark.
    Point.PROMISED: Aftermath("kitchen-1", (MARKED,), 2, AGAIN, AGAIN),
    Point.HALF_SENT: Aftermath("kitchen-1", (TORN, MARKED), 2, AGAIN, AGAIN),
    Point.ALL_SENT: Aftermath("kitchen-1", (WHOLE, MARKED), 2, AGAIN, AGAIN),
    # The proof died with the process.
    Point.SETTLING: Aftermath("kitchen-1", (WHOLE, MARKED), 2, AGAIN, AGAIN),
    Point.SETTLED: Aftermath("kitchen-1", (WHOLE,), 1, ONCE, AGAIN),
}


def armed(folder: Path) -> dict[Point, Path]:
    """A file per point: who makes it wants the next process that comes there to vanish."""
    return {point: folder / f"crash-{point.value}" for point in Point}


def wishes(files: dict[Point, Path]) -> dict[str, Any]:
    """The setting that lets every process know the files."""
    return {VARIABLE: ",".join(f"{point.value}={file}" for point, file in files.items())}


def long(dish: str) -> list[tuple[str, int]]:
    """A ticket of several chunks, so that there is a half."""
    return [(dish, 1), *((f"Filler {n} with a name that takes room", 1) for n in range(80))]


def together(pos: PosWriter, *dishes: str) -> list[int]:
    """Tickets that become visible in one commit, so that one claim takes them all."""
    tickets = [pos.ticket("kitchen", long(dish), status="failed") for dish in dishes]
    pos.execute("UPDATE kitchen_kitchenticket SET status = 'new' WHERE id = ANY (%s)", [tickets])
    return tickets


def pieces(here: Shop, dish: str, ticket: int) -> list[Piece]:
    """Every copy of the dish that the kitchen's printer has begun, in order, torn ones included."""
    roll = "\n".join(here.printers["kitchen-1"].texts())
    heads = [match.start() for match in _HEADINGS.finditer(roll)]
    found = []
    for begin, end in zip(heads, [*heads[1:], len(roll)], strict=True):
        if re.search(rf"\b{dish}\b", roll[begin:end]):
            line_above = roll[:begin].rstrip("\n").rpartition("\n")[2]
            whole = re.search(rf"^#{ticket}$", roll[begin:end], re.MULTILINE) is not None
            found.append(Piece(any(mark in line_above for mark in MARKS), whole))
    return found


@pytest.mark.parametrize("point", list(Point))
def test_a_crash_at_this_point_loses_nothing_and_doubles_nothing_unmarked(
    point: Point, pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    expected = AFTERMATH[point]
    files = armed(tmp_path)
    with shop(pos, pos_database, tmp_path, STATIONS, **wishes(files)) as here:
        first_pid = here.service.wait_for_child(expected.dies)
        others = {name: pid for name, pid in here.service.children().items() if name != expected.dies}

        files[point].touch()
        (alone,) = together(pos, "Alone")
        here.printed(alone)
        somebody_came_to(files[point])
        second_pid = here.service.wait_for_child(expected.dies, other_than=first_pid)
        check(here, alone, "Alone", expected.pieces, expected.sends, expected.actions)

        files[point].touch()
        front, behind = together(pos, "Front", "Behind")
        here.all_end([front, behind])
        somebody_came_to(files[point])
        here.service.wait_for_child(expected.dies, other_than=second_pid)
        check(here, front, "Front", expected.pieces, expected.sends, expected.actions)
        check(here, behind, "Behind", (WHOLE,), 1, expected.behind)
        assert pos.ticket_row(front)["printed_at"] < pos.ticket_row(behind)["printed_at"]  # type: ignore[index]

        after = {dish: pos.ticket(station, [(dish, 1)]) for dish, station in (("Later", "kitchen"), ("Drink", "bar"))}
        here.all_end(after.values())
        for dish, ticket in after.items():
            here.only_copy(dish)
            assert here.actions(ticket) == ONCE

        died = f"exit {EXIT_CODE}"
        assert here.service.text().count(f'exit="{died}"') == 2
        processes = {process["name"]: process for process in here.service.status()["processes"]}
        assert (processes[expected.dies]["last_exit"], processes[expected.dies]["restarts"]) == (died, 2)
        assert {name: processes[name]["pid"] for name in others} == others, "the others were left alone"
        assert here.service.get("/health").json["status"] == "healthy"


def somebody_came_to(file: Path) -> None:
    """A ticket is `printed` for all the world a moment before its process comes to the point behind the commit."""
    eventually(lambda: not file.exists(), what="a process at the crash point")


def check(here: Shop, ticket: int, dish: str, expected: tuple[Piece, ...], sends: int, actions: list[str]) -> None:
    """Paper, ticket, job and log of a printed ticket."""
    row = here.pos.ticket_row(ticket)
    assert row is not None
    (job,) = here.pos.rows("SELECT * FROM kps.job WHERE ticket_id = %s", [ticket])
    assert tuple(pieces(here, dish, ticket)) == expected
    assert (here.actions(ticket), row["status"], row["print_attempts"]) == (actions, "printed", 1)
    assert (job["state"], job["sends"]) == ("printed", sends)
    assert job["maybe_at"] == (["kitchen-1"] if sends > 1 else [])


def test_a_ticket_over_which_both_processes_die_comes_marked_once(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    files = armed(tmp_path)
    with shop(pos, pos_database, tmp_path, STATIONS, **wishes(files)) as here:
        pids = {name: here.service.wait_for_child(name) for name in ("dispatcher", "kitchen-1")}
        for point in (Point.HANDED_OVER, Point.ALL_SENT):
            files[point].touch()
        front, behind = together(pos, "Front", "Behind")
        here.all_end([front, behind])
        for name, pid in pids.items():
            here.service.wait_for_child(name, other_than=pid)
        check(here, front, "Front", (WHOLE, MARKED), 2, AGAIN)
        assert pieces(here, "Behind", behind) == [WHOLE]
        assert pos.ticket_row(behind)["print_attempts"] == 1  # type: ignore[index]


@pytest.mark.parametrize("policy", ["one_refuse", "one_hang", "one_reset"])
def test_a_printer_that_seems_to_be_held_by_the_dead_process_costs_no_try_and_no_level(
    policy: str, pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    # Longer than what is tried at once, longer than a printer gets for its first answer, and shorter than its time-out.
    printer = {"connections": policy, "end_noticed_after": 3.5, "idle_timeout": None}
    files = armed(tmp_path)
    with shop(
        pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, timeout_s=8, printer=printer, **wishes(files)
    ) as here:
        first_pid = here.service.wait_for_child("kitchen-1")
        files[Point.SETTLING].touch()
        (alone,) = together(pos, "Alone")
        here.printed(alone)

        assert here.service.wait_for_child("kitchen-1", other_than=first_pid)
        assert tuple(pieces(here, "Alone", alone)) == (WHOLE, MARKED)
        assert pos.ticket_row(alone)["print_attempts"] == 1  # type: ignore[index]
        (job,) = pos.rows("SELECT * FROM kps.job WHERE ticket_id = %s", [alone])
        assert (job["sends"], job["proof"]) == (2, "realtime")
        (row,) = pos.rows("SELECT * FROM kitchen_stationprinter WHERE id = %s", [here.rows["kitchen-1"]])
        assert (row["total_prints"], row["failed_prints"]) == (1, 0)
        assert "print_failed" not in here.actions(alone)


def test_a_ticket_over_which_its_process_dies_twice_before_the_first_byte_fails_and_the_next_one_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    twice = [tmp_path / "first", tmp_path / "second"]
    setting = ",".join(f"{Point.PROMISED.value}={file}" for file in twice)
    given: dict[str, Any] = {VARIABLE: setting}
    with shop(pos, pos_database, tmp_path, STATIONS, **given) as here:
        first_pid = here.service.wait_for_child("kitchen-1")
        for file in twice:
            file.touch()
        bad, good = together(pos, "Bad", "Good")
        row = here.ends(bad, "failed")
        here.printed(good)
        assert "died twice" in row["error_message"]
        assert "poison" in {row["error_code"] for row in here.pos.log_rows(bad)}
        assert here.actions(bad) == ["print_start", "retry", "print_start", "print_failed"]
        assert pieces(here, "Bad", bad) == []
        assert pieces(here, "Good", good) == [WHOLE]
        here.service.wait_for_child("kitchen-1", other_than=first_pid)

        here.pos.reset_to_new(bad)
        here.printed(bad)
        assert pieces(here, "Bad", bad) == [MARKED], "only a dead process knew that no byte had left"
