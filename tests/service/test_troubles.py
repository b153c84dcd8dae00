"""Printers in trouble: each row of the table of troubles that begins at a device, on the whole service."""

from __future__ import annotations

import os
import signal
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import shop

PAIR = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}


def test_a_silent_or_switched_off_printer_hands_over_to_its_backup_and_gets_the_next_ticket_when_it_is_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        here.printers["kitchen-1"].silent()
        first = pos.ticket("kitchen", [("Dish1", 1)])
        row = here.printed(first)
        copy = here.only_copy("Dish1")
        assert copy.printer == "kitchen-2"
        assert "BACKUP FOR kitchen-1" in copy.text
        assert row["print_attempts"] == 1
        assert here.actions(first) == ["print_start", "print_failed", "print_start", "print_success"]
        assert here.wait_health("kitchen-1", is_online=False)["error_code"] == "silent"
        here.wait_health("kitchen-2", is_online=True)
        tried = pos.printer_row(here.rows["kitchen-1"])
        assert tried is not None
        assert (tried["total_prints"], tried["failed_prints"]) == (1, 1)

        here.printers["kitchen-1"].power_off()
        here.wait_state("kitchen-1", "down")
        known_to_be_off = pos.ticket("kitchen", [("Dish2", 1)])
        here.printed(known_to_be_off)
        assert here.actions(known_to_be_off) == ["print_start", "print_success"]
        row = pos.printer_row(here.rows["kitchen-1"])
        assert row is not None
        assert row["last_error_message"] == "connection refused"
        said = {name: row[name] for name in ("last_error_message", "last_error_at")}
        assert row == tried | said, "a printer that was not asked is no try"

        here.printers["kitchen-1"].silent(False)
        here.printers["kitchen-1"].power_on()
        here.wait_state("kitchen-1", "ready")
        third = pos.ticket("kitchen", [("Dish3", 1)])
        here.printed(third)
        copy = here.only_copy("Dish3")
        assert copy.printer == "kitchen-1"
        assert "BACKUP" not in copy.text
        here.wait_health("kitchen-1", is_online=True)


def test_a_printer_that_is_switched_off_while_idle_is_known_to_be_down_before_the_next_ticket(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}) as here:
        here.printers["kitchen-1"].power_off()
        here.wait_state("kitchen-1", "down")
        assert here.wait_health("kitchen-1", is_online=False)["error_code"] == "refused"
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        assert here.actions(ticket) == ["print_start", "print_success"]
        assert here.only_copy("Dish1").printer == "kitchen-2"


def test_a_station_whose_only_printer_is_off_fails_after_its_rounds_and_is_rescued_late(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        here.printers["bar-1"].power_off()
        ordered = datetime.now(UTC) - timedelta(minutes=6, seconds=5)
        ticket = pos.ticket("bar", [("Dish1", 1)], created_at=ordered, max_retries=2)
        row = here.ends(ticket, "failed")
        assert row["print_attempts"] == 2
        assert "refuse" in row["error_message"]
        assert row["printer_ip"] == here.printers["bar-1"].host
        assert here.actions(ticket)[-1] == "print_failed"
        assert here.wait_health("bar-1", is_online=False)["error_code"] == "refused"
        eventually(lambda: here.service.health()["status"] == "degraded", what="/health says degraded")

        here.printers["bar-1"].power_on()
        row = here.printed(ticket)
        assert row["print_attempts"] == 3
        assert row["error_message"] == ""
        copy = here.only_copy("Dish1")
        assert "LATE 6 MIN" in copy.text
        assert here.actions(ticket)[-3:] == ["retry", "print_start", "print_success"]


def test_a_failed_ticket_that_an_operator_reprints_meanwhile_is_not_rescued_too(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        here.printers["bar-1"].power_off()
        ticket = pos.ticket("bar", [("Dish1", 1)], max_retries=1)
        here.ends(ticket, "failed")
        copy = pos.reprint(ticket)
        here.printers["bar-1"].power_on()
        here.printed(copy)
        later = pos.ticket("bar", [("Dish2", 1)])
        here.printed(later)
        assert len(here.copies("Dish1")) == 1
        row = pos.ticket_row(ticket)
        assert row is not None
        assert row["status"] == "failed"


def test_with_the_policy_hold_no_round_is_spent_until_the_printer_is_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, PRINTER_DOWN_POLICY="hold") as here:
        here.printers["bar-1"].power_off()
        here.wait_state("bar-1", "down", timeout=25)
        ticket = pos.ticket("bar", [("Dish1", 1)], max_retries=1)
        here.service.wait_said("ticket held", str(ticket))
        row = pos.ticket_row(ticket)
        assert row is not None
        assert (row["status"], row["print_attempts"]) == ("new", 0)
        here.printers["bar-1"].power_on()
        assert here.printed(ticket)["print_attempts"] == 1


def test_trouble_that_the_printer_tells_before_the_ticket_goes_to_the_backup_at_once_and_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {
        "out-1": ("out", 1),
        "open-1": ("open", 1),
        "jam-1": ("jam", 1),
        "menu-1": ("menu", 1),
        "spare": ("x", 1),
    }
    with shop(pos, pos_database, tmp_path, stations) as here:
        spare = here.printers["spare"]
        for station in ("out", "open", "jam", "menu"):
            pos.add_printer(spare.host, spare.port, station, 2, f"{station}-2")
        eventually(lambda: len((here.service.status() or {"printers": ()})["printers"]) == 9, what="nine printer rows")
        here.printers["out-1"].paper_out()
        here.printers["open-1"].open_cover()
        here.printers["jam-1"].cutter_error()
        here.printers["menu-1"].go_offline()
        tickets = {station: pos.ticket(station, [(f"Dish{station}", 1)]) for station in ("out", "open", "jam", "menu")}
        for station, ticket in tickets.items():
            here.printed(ticket)
            copy = here.only_copy(f"Dish{station}")
            assert copy.printer == "spare"
            assert f"BACKUP FOR {station}-1" in copy.text
        assert here.wait_health("out-1", paper_status="out")["is_online"] is True
        assert here.wait_health("open-1", error_code="cover_open")["is_online"] is True
        assert here.wait_health("jam-1", cutter_ok=False)["is_online"] is True
        assert here.wait_health("menu-1", error_code="offline")["is_online"] is True


def test_paper_that_runs_out_during_a_ticket_and_is_not_loaded_gives_a_marked_copy_on_the_backup(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, HOLD_SECONDS=1) as here:
        primary = here.printers["kitchen-1"]
        primary.paper_out(after_lines=3)
        first = pos.ticket("kitchen", [("Dish1", 1)])
        row = here.printed(first)
        assert row["print_attempts"] == 1
        assert "BACKUP FOR kitchen-1" in here.copies("Dish1")[0].text
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in here.copies("Dish1")[0].text
        primary.load_paper()
        held = primary.wait_text("Dish1")
        assert held.held
        assert here.actions(first) == ["print_start", "print_failed", "print_start", "print_success"]
        failed = next(entry for entry in pos.log_rows(first) if entry["action"] == "print_failed")
        assert failed["error_code"] == "paper_out"
        assert failed["metadata"]["bytes"] > 0


def test_paper_loaded_while_the_ticket_is_held_ends_it_where_it_is_and_the_others_have_gone_to_the_backup(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, HOLD_SECONDS=60) as here:
        primary = here.printers["kitchen-1"]
        primary.paper_out(after_lines=3)
        first = pos.ticket("kitchen", [("Dish1", 1)])
        here.wait_state("kitchen-1", "paper_out")
        others = [pos.ticket("kitchen", [(f"Other{n}", 1)]) for n in range(4)]
        here.all_end(others)
        stuck = pos.ticket_row(first)
        assert stuck is not None
        assert stuck["status"] == "printing"
        for n in range(4):
            copy = here.only_copy(f"Other{n}")
            assert copy.printer == "kitchen-2"
        primary.load_paper()
        here.printed(first)
        copy = here.only_copy("Dish1")
        assert copy.printer == "kitchen-1"
        here.wait_state("kitchen-1", "ready")


def test_the_cutter_that_jams_at_the_end_of_a_ticket_is_no_proof(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, HOLD_SECONDS=1) as here:
        here.printers["kitchen-1"].cutter_error(at_next_cut=True)
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        on_backup = here.printers["kitchen-2"].wait_text("Dish1")
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in on_backup.text


def test_one_printer_that_hangs_and_one_that_refuses_delay_no_other_station(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {
        "hung-1": ("hung", 1), "off-1": ("off", 1), "bar-1": ("bar", 1), "kitchen-1": ("kitchen", 1),
    }  # fmt: skip
    with shop(pos, pos_database, tmp_path, stations, timeout_s=15) as here:
        here.printers["hung-1"].hang()
        here.printers["off-1"].power_off()
        hung = pos.ticket("hung", [("Hung1", 1)], max_retries=1)
        off = pos.ticket("off", [("Off1", 1)], max_retries=1)
        eventually(lambda: pos.ticket_row(hung)["status"] == "printing", what="the hung printer has its ticket")  # type: ignore[index]
        others = [pos.ticket(station, [(f"Dish{n}", 1)]) for n, station in enumerate(["bar", "kitchen"] * 10)]
        here.all_end(others)
        here.ends(off, "failed")
        still = pos.ticket_row(hung)
        assert still is not None
        assert still["status"] == "printing", "its deadline still runs"
        assert all(entry["action"] in ("created", "print_start") for entry in pos.log_rows(hung))
        here.printers["hung-1"].hang(False)
        here.printed(hung)
        assert len(here.copies("Hung1")) == 1


def test_a_printer_that_never_reads_is_given_up_after_its_deadline_and_the_backup_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, timeout_s=1) as here:
        here.printers["kitchen-1"].hang()
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        copy = here.only_copy("Dish1")
        assert copy.printer == "kitchen-2"
        eventually(
            lambda: [
                row["is_online"] for row in here.health_rows("kitchen-1") if row["error_code"] in ("blocked", "silent")
            ],
            what="a health row that says that it does not answer",
        )
        here.printers["kitchen-1"].hang(False)
        here.wait_state("kitchen-1", "ready")


def test_a_printer_that_answers_nothing_any_more_is_unable_and_the_backup_prints_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, timeout_s=1) as here:
        here.printers["kitchen-1"].silent()
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        copy = here.only_copy("Dish1")
        assert copy.printer == "kitchen-2"


def test_a_printer_that_never_answers_prints_all_the_same_without_proof(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"mute-1": ("bar", 1)}, printer={"profile": "mute"}) as here:
        tickets = [pos.ticket("bar", [(f"Dish{n}", 1)]) for n in range(3)]
        here.all_end(tickets)
        for n, ticket in enumerate(tickets):
            here.only_copy(f"Dish{n}")
            done = pos.log_rows(ticket)[-1]
            assert (done["metadata"]["proof"], done["metadata"]["level"]) == ("sent", "none")


def test_a_printer_that_closes_idle_connections_loses_no_ticket_and_doubles_none(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, printer={"idle_timeout": 0.5}) as here:
        for n in range(4):
            here.printers["bar-1"].wait_connections(0)
            row = here.printed(pos.ticket("bar", [(f"Dish{n}", 1)]))
            assert row["print_attempts"] == 1
            here.only_copy(f"Dish{n}")


def test_a_connection_that_breaks_in_the_middle_of_a_ticket_gives_a_marked_copy(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR) as here:
        here.printers["kitchen-1"].reset_next("mid")
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(ticket)
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in here.copies("Dish1")[-1].text
        here.printers["kitchen-2"].wait_text("Dish1")


def test_an_idle_socket_is_let_go_where_the_site_wants_that(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, PRINTER_IDLE_CLOSE_SECONDS=0.5) as here:
        here.printers["bar-1"].wait_connections(0)
        here.printed(pos.ticket("bar", [("Dish1", 1)]))
        here.printers["bar-1"].wait_connections(0)
        here.printed(pos.ticket("bar", [("Dish2", 1)]))


def test_the_pos_test_button_that_holds_the_only_connection_costs_no_ticket(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    settings = {"connections": "one_hang", "idle_timeout": None}
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, printer=settings, PRINTER_IDLE_CLOSE_SECONDS=0.2,
              timeout_s=1) as here:  # fmt: skip
        device = here.printers["bar-1"]
        device.wait_connections(0, timeout=40)
        with socket.create_connection((device.host, device.port)):
            device.wait_connections(1)
            ticket = pos.ticket("bar", [("Dish1", 1)])
            eventually(
                lambda: "print_failed" in here.actions(ticket) or device.find("Dish1"), what="the first try ends"
            )
        here.printed(ticket)
        assert len(here.copies("Dish1")) == 1


def test_a_stopped_printer_process_is_aborted_and_its_ticket_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1), "kitchen-1": ("kitchen", 1)}) as here:
        pid = here.service.wait_for_child("bar-1")
        os.kill(pid, signal.SIGSTOP)
        ticket = pos.ticket("bar", [("Dish1", 1)])
        others = [pos.ticket("kitchen", [(f"Other{n}", 1)]) for n in range(3)]
        here.all_end(others)
        row = here.ends(ticket, "printed", timeout=40)
        assert row["print_attempts"] == 1
        here.only_copy("Dish1")
        assert here.service.said("child hung", "bar-1")
        assert here.service.wait_for_child("bar-1", other_than=pid)
