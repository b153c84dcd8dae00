"""What the POS's own screen of printers shows: why one of them cannot print."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import Shop, shop

PAIR = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}


def row_of(here: Shop, name: str) -> dict[str, Any]:
    row = here.pos.printer_row(here.rows[name])
    assert row is not None
    return row


def wait_message(here: Shop, name: str, message: str, *, after: datetime | None = None) -> dict[str, Any]:
    """The printer's row as soon as it says so, newer than `after`."""

    def says() -> dict[str, Any] | None:
        row = row_of(here, name)
        new = row["last_error_at"] is not None and (after is None or row["last_error_at"] > after)
        return row if row["last_error_message"] == message and new else None

    try:
        found = eventually(says, what=f"the row of {name} says {message!r}")
    except BaseException:
        print(row_of(here, name))
        raise
    assert found is not None
    return found


def test_when_every_printer_of_a_station_is_off_each_of_their_rows_says_why_before_the_ticket_has_failed(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        assert [row_of(here, name)["last_error_message"] for name in PAIR] == ["", ""]
        for name in PAIR:
            here.printers[name].power_off()
        for name in PAIR:
            here.wait_state(name, "down")
        ticket = pos.ticket("kitchen", [("Dish1", 1)], max_retries=1)
        here.ends(ticket, "failed")
        for name in PAIR:
            row = wait_message(here, name, "connection refused")
            assert (row["total_prints"], row["failed_prints"]) == (0, 0), "a printer that was not asked is no try"

        here.printers["kitchen-1"].power_on()
        here.printed(ticket)
        row = row_of(here, "kitchen-1")
        assert (row["total_prints"], row["failed_prints"]) == (1, 0)
        assert row["last_error_message"] == "connection refused", "as every last error it stays, with its time"
        assert row["last_print_at"] > row["last_error_at"]


def test_every_row_of_a_device_says_why_once_for_each_change(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    tells_at_once: dict[str, Any] = {
        "printer": {"profile": "epson-t20iii"}, "PROOF_LEVELS": "kitchen-1=process_id+pushes",
    }  # fmt: skip
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, **tells_at_once) as here:
        device = here.printers["kitchen-1"]
        here.rows["bar-1"] = pos.add_printer(device.host, device.port, "bar", 1, "bar-1", timeout_seconds=2)
        here.service.wait_ready(2)
        device.paper_out()
        first = {name: wait_message(here, name, "paper out") for name in here.rows}
        device.open_cover()
        second = {name: wait_message(here, name, "cover open") for name in here.rows}
        here.wait_health("kitchen-1", error_code="cover_open")
        asked = device.bytes_in
        device.wait_for(lambda: device.bytes_in > asked, what="it is asked again")
        assert {name: row_of(here, name) for name in here.rows} == second, "nothing new, nothing written"
        device.load_paper()  # under the open cover: the other way round it would be out of paper once more
        device.close_cover()
        here.wait_state("kitchen-1", "ready")
        assert row_of(here, "bar-1")["last_error_message"] == "cover open"
        assert first["bar-1"]["updated_at"] == second["bar-1"]["updated_at"], "that is the POS's"


def test_a_row_that_the_pos_is_writing_is_told_when_it_is_free_and_keeps_nothing_waiting(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        with pos_database.connect() as form, form.cursor() as cursor:
            cursor.execute(
                "UPDATE kitchen_stationprinter SET updated_at = now() WHERE id = %s", [here.rows["kitchen-1"]]
            )
            here.printers["kitchen-1"].power_off()
            here.wait_state("kitchen-1", "down", timeout=8)
            here.wait_health("kitchen-1", is_online=False)
            here.printed(pos.ticket("kitchen", [("Dish1", 1)]))
            assert here.only_copy("Dish1").printer == "kitchen-2"
            assert row_of(here, "kitchen-1")["last_error_message"] == ""
        form.close()
        wait_message(here, "kitchen-1", "connection refused")


def test_a_ticket_that_ends_for_want_of_a_printer_says_so_in_the_rows_that_nobody_serves_or_has_told_of_late(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    windows = pos.add_printer("till-3", 9100, "bar", 1, "bar-1", printer_type="win32")
    off = pos.add_printer("127.0.0.1", port, "dessert", 1, "dessert-1", timeout_seconds=2)
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, UNROUTABLE_GRACE_SECONDS=0.5) as here:
        here.rows |= {"bar-1": windows, "dessert-1": off}
        wait_message(here, "dessert-1", "connection refused")
        long_ago = datetime.now(UTC) - timedelta(hours=3)
        pos.execute(
            "UPDATE kitchen_stationprinter SET last_error_message = 'paper out', last_error_at = %s WHERE id = %s",
            [long_ago, off],
        )
        tickets = [pos.ticket(station, [("Dish1", 1)], max_retries=1) for station in ("bar", "dessert")]
        for ticket in tickets:
            here.ends(ticket, "failed")
        wait_message(here, "dessert-1", "connection refused", after=long_ago)
        row = wait_message(here, "bar-1", "a win32 printer cannot be reached from here")
        assert (row["total_prints"], row["failed_prints"]) == (0, 0)
        assert row_of(here, "kitchen-1")["last_error_message"] == ""
