"""The POS has a transaction open on a ticket, while the one who held that ticket dies: everybody else goes on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Shop, long_order, shop

STATIONS = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1), "grill-1": ("grill", 1)}


@contextlib.contextmanager
def locked(database: Database, ticket: int) -> Iterator[None]:
    """A form of the POS is being saved, and that takes long."""
    till = database.connect(autocommit=False)
    till.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [ticket])
    try:
        yield
    finally:
        till.rollback()


def two_at_the_kitchen(here: Shop) -> tuple[int, int]:
    """A ticket that is being sent there, and one that waits behind it."""
    sent, waiting = (here.pos.ticket("kitchen", long_order(dish)) for dish in ("Sent", "Waiting"))
    here.wait_sending(sent)
    eventually(
        lambda: here.pos.rows("SELECT 1 FROM kps.job WHERE ticket_id = %s AND state = 'claimed'", [waiting]),
        what="the second ticket is claimed",
    )
    return sent, waiting


def test_a_locked_ticket_keeps_no_printer_of_a_dead_instance_from_the_next(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path / "a", STATIONS, each={"kitchen-1": SLOW}, INSTANCE_NAME="first") as here:
        other = here.another(tmp_path / "b", INSTANCE_NAME="second")
        with contextlib.ExitStack() as stack:
            stack.callback(other.end)
            other.start().wait_ready(len(STATIONS))
            sent, waiting = two_at_the_kitchen(here)
            with locked(pos_database, sent):
                here.service.kill_group()
                orders = {f"{station}-new": pos.ticket(station, [(f"{station}-new", 1)]) for station in
                          ("kitchen", "bar", "grill")}  # fmt: skip
                here.all_end([*orders.values(), waiting])
                assert pos.rows("SELECT owner_name FROM kps.printer WHERE owner_name <> 'second'") == []
                row = pos.ticket_row(sent)
                assert row is not None
                assert row["status"] == "printing"
            here.printed(sent)
            here.only_copy("Waiting")
            eventually(
                lambda: [copy.marked for copy in here.copies("Sent")][-1:] == [True], what="the marked copy lies there"
            )
            here.no_unmarked_duplicate(["Sent", "Waiting", *orders])
            assert other.stop() == 0


def test_a_locked_ticket_keeps_its_printer_from_no_other_ticket_when_the_process_has_died(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, each={"kitchen-1": SLOW}) as here:
        sent, waiting = two_at_the_kitchen(here)
        with locked(pos_database, sent):
            os.kill(here.service.children()["kitchen-1"], signal.SIGKILL)
            here.printed(waiting)
            here.printed(pos.ticket("kitchen", [("Later", 1)]))
        here.printed(sent)
        here.only_copy("Waiting")
        eventually(
            lambda: [copy.marked for copy in here.copies("Sent")][-1:] == [True], what="the marked copy lies there"
        )
        here.no_unmarked_duplicate(["Sent", "Waiting", "Later"])


def test_a_locked_ticket_that_is_next_lets_the_others_of_its_printer_pass(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, printer=SLOW) as here:
        sent, waiting = two_at_the_kitchen(here)
        with locked(pos_database, waiting):
            here.all_end([sent, *(pos.ticket("kitchen", [(f"Later{n}", 1)]) for n in range(3))])
        here.printed(waiting)
        for dish in ("Sent", "Waiting", "Later0", "Later1", "Later2"):
            here.only_copy(dish)
