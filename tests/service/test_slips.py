"""Slips on the whole service: a void reaches the cook, an outage the backup, once, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Shop, shop

EPSON = {"profile": "epson-t20iii"}
PAIR = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}


def papers_with(here: Shop, *words: str) -> list[tuple[str, str]]:
    """(printer, text) of every paper that has all these words."""
    return [
        (name, text)
        for name, printer in here.printers.items()
        for text in printer.texts()
        if all(word in text for word in words)
    ]


def wait_paper(here: Shop, *words: str) -> tuple[str, str]:
    """The only paper with these words, once there is one."""
    eventually(lambda: papers_with(here, *words), what=f"a paper with {words}")
    (found,) = papers_with(here, *words)
    return found


def all_told(pos: PosWriter, count: int) -> None:
    """Wait until there are so many slips, all printed."""
    eventually(
        lambda: [row["state"] for row in pos.rows("SELECT state FROM kps.slip")] == ["printed"] * count,
        what=f"{count} printed slips",
    )


def items_of(pos: PosWriter, ticket: int) -> list[int]:
    """The bill items of a ticket."""
    return [row["bill_item_id"] for row in pos.ticket_items(ticket)]


def test_what_changes_after_its_print_is_told_at_its_station_by_one_of_two_instances(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}
    with shop(pos, pos_database, tmp_path / "a", stations) as here:
        other = here.another(tmp_path / "b", INSTANCE_NAME="second")
        try:
            other.start().wait_ready(2)
            kitchen = pos.ticket("kitchen", [("Soto", 2), ("Sate", 1)], table="5")
            bar = pos.ticket("bar", [("Teh", 1)], table="6")
            moved = pos.ticket("kitchen", [("Nasi", 1)], table="7")
            here.all_end([kitchen, bar, moved])
            pos.void_item(items_of(pos, kitchen)[0], "Salah pesan")
            pos.close_bill(pos.ticket_row(bar)["bill_id"], "cancelled")  # type: ignore[index]
            pos.move_table(pos.ticket_row(moved)["bill_id"], "8")  # type: ignore[index]
            all_told(pos, 3)
            printer, text = wait_paper(here, "VOID")
            assert (printer, "Soto" in text, "Sate" in text, "Salah pesan" in text) == ("kitchen-1", True, False, True)
            assert wait_paper(here, "CANCELLED", "Teh")[0] == "bar-1"
            assert wait_paper(here, "TABLE CHANGED", "T7 -> T8", "Nasi")[0] == "kitchen-1"
        finally:
            other.end()
        assert here.service.said("slip printed") or other.said("slip printed")


def test_a_slip_goes_to_the_backup_when_its_printer_cannot_print(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        ticket = pos.ticket("kitchen", [("Soto", 2)], table="5")
        here.printed(ticket)
        here.printers["kitchen-1"].power_off()
        here.wait_state("kitchen-1", "down")
        pos.void_item(items_of(pos, ticket)[0])
        assert wait_paper(here, "VOID", "Soto")[0] == "kitchen-2"


def test_a_printer_process_that_dies_with_a_slip_in_hand_leaves_none_untold_and_none_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(
        pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, printer=SLOW | EPSON,
        PROOF_LEVELS="kitchen-1=process_id+pushes",
    ) as here:  # fmt: skip
        ticket = pos.ticket("kitchen", [("Soto", 1)], table="5")
        here.printed(ticket)
        pos.void_item(items_of(pos, ticket)[0])
        eventually(lambda: pos.rows("SELECT 1 FROM kps.slip WHERE state = 'sending'"), what="a slip is sent")
        os.kill(here.service.children()["kitchen-1"], signal.SIGKILL)
        all_told(pos, 1)
        told = papers_with(here, "VOID", "Soto")
        assert [("POSSIBLE DUPLICATE" in text) for _, text in told] == [False] * (len(told) - 1) + [True]


def test_an_outage_is_told_at_the_backup_and_its_end_at_the_printer(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        here.printers["kitchen-1"].power_off()
        here.wait_state("kitchen-1", "down")
        tickets = [pos.ticket("kitchen", [(f"Dish{n}", 1)], table=str(n + 1)) for n in range(3)]
        here.all_end(tickets)
        printer, text = wait_paper(here, "kitchen-1 CANNOT PRINT")
        assert printer == "kitchen-2"
        assert "no connection" in text
        assert all("BACKUP FOR kitchen-1" in here.only_copy(f"Dish{n}").text for n in range(3))
        here.printers["kitchen-1"].power_on()
        printer, text = wait_paper(here, "kitchen-1 PRINTS AGAIN")
        assert printer == "kitchen-1"
        assert all(f"T{n + 1}" in text for n in range(3))
        assert "kitchen-2" in text
        all_told(pos, 2)


def test_slips_that_are_switched_off_do_not_come(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    stations = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}
    with shop(pos, pos_database, tmp_path, stations, VOID_SLIPS="bar") as here:
        tickets = [pos.ticket(station, [("Soto", 1)], table="5") for station in ("kitchen", "bar")]
        here.all_end(tickets)
        for ticket in tickets:
            pos.void_item(items_of(pos, ticket)[0])
        all_told(pos, 1)
        assert wait_paper(here, "VOID")[0] == "bar-1"


def test_trouble_with_slips_keeps_no_ticket(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}) as here:
        here.printed(pos.ticket("kitchen", [("Dish1", 1)]))
        pos.execute("ALTER TABLE kps.slip RENAME TO slip_away")
        here.service.wait_said("slips cannot be made")
        here.printed(pos.ticket("kitchen", [("Dish2", 1)]))
        assert here.only_copy("Dish2").complete
        assert here.service.get("/health").json["status"] == "healthy"
