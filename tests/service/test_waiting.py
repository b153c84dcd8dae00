"""What waits, waits for its own moment: not for a poll, and not for a restart."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Database, eventually
from tests.service.harness import shop


def test_with_a_poll_interval_of_an_hour_nothing_waits_for_the_poll(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    settings = {"POLL_INTERVAL": 3600, "UNROUTABLE_GRACE_SECONDS": 1, "RETRY_DELAY_SECONDS": 1.5}
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, **settings) as here:
        here.printers["bar-1"].power_off()
        first = pos.ticket("bar", max_retries=2)
        eventually(lambda: (pos.ticket_row(first) or {})["print_attempts"] == 1, what="the first round is over")
        second = pos.ticket("bar", max_retries=2)
        here.ends(first, "failed")
        here.ends(second, "failed")
        unroutable = pos.ticket("terrace")
        assert "no printer for station terrace" in here.ends(unroutable, "failed")["error_message"]
        with VirtualPrinter(name="terrace-1") as added:
            pos.add_printer(added.host, added.port, "terrace", 1, "terrace-1", timeout_seconds=2)
            here.ends(unroutable, "printed")
            added.wait_paper(1)
            here.service.stop()


def test_a_dispatcher_that_takes_over_does_not_take_held_tickets_for_yesterdays(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, STALE_AFTER_MINUTES=1) as here:
        pos.update_printer(here.rows["bar-1"], is_active=False)
        eventually(lambda: here.service.text().count("printer rows") >= 2, what="the row is read again")
        ticket = pos.ticket("bar", created_at=datetime.now(UTC) - timedelta(minutes=2))
        eventually(lambda: "ticket held" in here.service.text(), what="the ticket is held")
        before = here.service.children()["dispatcher"]
        os.kill(before, signal.SIGKILL)
        eventually(lambda: here.service.children().get("dispatcher") not in (None, before), what="a new dispatcher")
        pos.update_printer(here.rows["bar-1"], is_active=True)
        here.printed(ticket)


def test_a_printer_renamed_again_and_again_is_no_crash(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        for number in range(6):
            pos.update_printer(here.rows["bar-1"], printer_name=f"bar {number}")
            here.service.signal(signal.SIGHUP)
            eventually(
                lambda number=number: f"bar {number}" in here.service.children(),  # type: ignore[misc]
                what=f"the process of bar {number}",
            )
        here.printed(pos.ticket("bar"))
        assert "child died" not in here.service.text()
