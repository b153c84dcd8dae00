"""Proof of print on the whole service: levels, tickets that are taken back, proofs that come late, levels lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from kps.core.process_ids import ProcessIds
from kps.core.status import ProcessIdEcho
from kps.demo.orders import PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from kps.demo.virtual_printer.faults import IdFault
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Shop, shop

PAIR = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
EPSON: dict[str, Any] = {"profile": "epson-t20iii"}
BEST = "kitchen-1=process_id+pushes+clears, kitchen-2=process_id+pushes+clears"


def printer_of(here: Shop, name: str) -> dict[str, Any]:
    """A printer in /status."""
    return next(printer for printer in here.service.status()["printers"] if printer["name"] == name)


def key(printer: VirtualPrinter) -> str:
    return f":{printer.host}:{printer.port}"


def vouch(here: Shop, name: str, level: str) -> None:
    """As if a probe had stored it; the service must not own the printer yet."""
    here.pos.execute(
        "UPDATE kps.printer SET proof_level = %s WHERE printer_key = %s", [level, key(here.printers[name])]
    )


def test_every_level_is_visible_in_the_log_in_status_and_in_the_metrics(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    stations = {"id-1": ("kitchen", 1), "fence-1": ("bar", 1), "plain-1": ("dessert", 1), "mute-1": ("checker", 1)}
    with shop(
        pos, pos_database, tmp_path, stations, printer=EPSON, each={"mute-1": {"profile": "mute"}},
        PROOF_LEVELS="id-1=process_id+pushes, fence-1=fence",
    ) as here:  # fmt: skip
        expected = {
            "kitchen": ("id-1", "process_id", "process_id", True),
            "bar": ("fence-1", "fence", "fence", True),
            "dessert": ("plain-1", "sent", "realtime", False),
            "checker": ("mute-1", "sent", "none", False),
        }
        for number, (station, (name, proof, level, proven)) in enumerate(expected.items()):
            ticket = pos.ticket(station, [(f"Dish{number}", 1)])
            here.printed(ticket)
            here.only_copy(f"Dish{number}")
            metadata = pos.log_rows(ticket)[-1]["metadata"]
            assert (metadata["proof"], metadata["level"], metadata["proven"]) == (proof, level, proven)
            assert printer_of(here, name)["proof"] == level
            sample = f'kps_tickets_printed_total{{printer="{name}",proof="{level}"}} 1.0'
            eventually(lambda: sample in here.service.get("/metrics").body, what=sample)  # noqa: B023
        assert printer_of(here, "id-1") | {"paper": "ok", "cover": "closed", "cutter": "ok"} == printer_of(here, "id-1")
        assert printer_of(here, "mute-1")["cover"] == "unknown"


def test_an_unprobed_printer_gets_no_command_beyond_those_that_every_printer_knows(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, printer=EPSON) as here:
        here.printed(pos.ticket("kitchen", [("Dish1", 1)]))
        commands = {event.data[:2] for event in here.printers["kitchen-1"].events if event.kind.value == "command"}
        assert not commands & {b"\x1d(", b"\x1dr", b"\x1da", b"\x1dI", b"\x1dg"}


def test_paper_in_the_air_is_news_at_once_where_the_printer_pushes(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, printer=EPSON, PROOF_LEVELS=BEST) as here:
        here.printers["kitchen-1"].open_cover()
        here.wait_state("kitchen-1", "cover_open")
        found = eventually(lambda: (printer_of(here, "kitchen-1")["cover"] == "open") or None, what="/status says so")
        assert found
        here.wait_health("kitchen-1", error_code="cover_open", is_online=True)
        here.printed(pos.ticket("kitchen", [("Dish1", 1)]))
        assert here.only_copy("Dish1").printer == "kitchen-2"


def test_a_ticket_in_a_blocked_printer_is_taken_back_and_its_copy_says_moved(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, printer=EPSON, PROOF_LEVELS=BEST, HOLD_SECONDS=1) as here:
        first = here.printers["kitchen-1"]
        first.paper_out(after_lines=2)
        ticket = pos.ticket("kitchen", [("Dish1", 1), ("Dish2", 2), ("Dish3", 3)])
        here.printed(ticket)
        (copy,) = [copy for copy in here.copies("Dish3") if copy.complete]
        assert copy.printer == "kitchen-2"
        assert "MOVED - PART MAY BE AT kitchen-1" in copy.text.replace("\n", " ")
        assert "DUPLICATE" not in copy.text
        tried = [row["metadata"] for row in pos.log_rows(ticket) if row["action"] == "print_failed"]
        assert [(entry["cleared"], entry["sent_whole"]) for entry in tried] == [(True, True)]

        first.load_paper()
        here.wait_state("kitchen-1", "ready")
        here.printed(pos.ticket("kitchen", [("Dish4", 1)]))
        assert here.only_copy("Dish4").printer == "kitchen-1"
        assert [copy.printer for copy in here.copies("Dish3")] == ["kitchen-2"], "it was thrown away"
        assert printer_of(here, "kitchen-1")["may_have_printed"] == []


def test_what_a_printer_may_still_have_printed_is_on_record_when_it_comes_back(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(
        pos, pos_database, tmp_path, PAIR, printer=EPSON, PROOF_LEVELS="kitchen-1=process_id+pushes", HOLD_SECONDS=1
    ) as here:
        first = here.printers["kitchen-1"]
        first.id_fault(IdFault.LOST)
        first.paper_out(after_lines=2)
        ticket = pos.ticket("kitchen", [("Dish1", 1), ("Dish2", 2)])
        here.printed(ticket)
        (copy,) = [copy for copy in here.copies("Dish2") if copy.printer == "kitchen-2"]
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in copy.text.replace("\n", " ")
        eventually(lambda: printer_of(here, "kitchen-1")["may_have_printed"] == [ticket], what="/status names it")

        first.load_paper()
        here.wait_state("kitchen-1", "ready")

        def told() -> bool:
            last = pos.log_rows(ticket)[-1]
            return (last["error_code"], last["old_status"]) == ("may_have_printed", "printed")

        eventually(told, what="the log says what may lie there")
        here.service.wait_said("may have printed", str(ticket))


def test_a_proof_that_comes_late_saves_the_second_copy(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(
        pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, printer=EPSON, RETRY_DELAY_SECONDS=30,
        PROOF_LEVELS="kitchen-1=process_id+pushes", timeout_s=1,
    ) as here:  # fmt: skip
        printer = here.printers["kitchen-1"]
        printer.id_fault(IdFault.LOST)
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        # The patience grows with the length of the paper.
        eventually(lambda: "print_failed" in here.actions(ticket), timeout=30, what="the ticket is given up")
        here.wait_state("kitchen-1", "ready")
        (job,) = pos.rows("SELECT process_ids FROM kps.job WHERE ticket_id = %s", [ticket])
        printer.wait_connections(1)
        printer.inject(ProcessIdEcho(ProcessIds(job["process_ids"][0]).ticket).raw)
        row = here.printed(ticket)
        here.only_copy("Dish1")
        assert (row["print_attempts"], row["error_message"]) == (1, "")
        last = pos.log_rows(ticket)[-1]["metadata"]
        assert (last["proof"], last["late"], last["twice"]) == ("process_id", True, False)
        here.service.wait_said("late proof", str(ticket))


def test_a_printer_that_lies_loses_its_level_and_keeps_printing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(
        pos, pos_database, tmp_path, PAIR, printer=EPSON, start=False, timeout_s=4,
    ) as here:  # fmt: skip
        here.service.start().wait_ready(2)
        here.service.stop()
        vouch(here, "kitchen-1", "process_id")
        here.service.start().wait_ready(2)
        assert printer_of(here, "kitchen-1")["proof"] == "process_id"
        here.printers["kitchen-1"].id_fault(IdFault.CONSTANT)

        first = pos.ticket("kitchen", [("Dish1", 1)])
        here.printed(first)
        (copy,) = [copy for copy in here.copies("Dish1") if copy.printer == "kitchen-2"]
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in copy.text.replace("\n", " ")

        def lost() -> bool:
            (row,) = pos.rows(
                "SELECT proof_level, demoted_text FROM kps.printer WHERE printer_key = %s",
                [key(here.printers["kitchen-1"])],
            )
            return row["proof_level"] == "realtime" and "process IDs that no ticket ever had" in row["demoted_text"]

        eventually(lost, what="the level is lost")
        here.service.wait_said("proof level lost")
        eventually(lambda: printer_of(here, "kitchen-1")["proof"] == "realtime", what="/status says so")
        eventually(lambda: printer_of(here, "kitchen-1")["proof_lost"], what="/status says why")
        second = pos.ticket("kitchen", [("Dish2", 1)])
        here.printed(second)
        assert here.only_copy("Dish2").printer == "kitchen-1"


def test_a_ticket_is_not_printed_before_the_paper_is(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(
        pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, printer=EPSON | SLOW,
        PROOF_LEVELS="kitchen-1=process_id",
    ) as here:  # fmt: skip
        ticket = pos.ticket("kitchen", [("Dish1", 1), ("Dish2", 1)])
        here.printed(ticket)
        assert [paper.complete for paper in here.printers["kitchen-1"].papers] == [True]
        assert pos.log_rows(ticket)[-1]["metadata"]["proof"] == "process_id"


def test_a_lost_level_stays_lost_through_a_crash_and_a_change_of_the_printers_row(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, PAIR, printer=EPSON, start=False, timeout_s=1) as here:
        here.service.start().wait_ready(2)
        here.service.stop()
        vouch(here, "kitchen-1", "process_id")
        here.service.start().wait_ready(2)
        here.printers["kitchen-1"].id_fault(IdFault.CONSTANT)
        here.printed(pos.ticket("kitchen", [("Dish1", 1)]))
        here.service.wait_said("proof level lost")
        eventually(lambda: printer_of(here, "kitchen-1")["proof"] == "realtime", what="/status says so")

        pid = here.service.children()["kitchen-1"]
        os.kill(pid, signal.SIGKILL)
        here.service.wait_for_child("kitchen-1", other_than=pid)
        here.wait_state("kitchen-1", "ready")
        here.printed(pos.ticket("kitchen", [("Dish2", 1)]))
        assert printer_of(here, "kitchen-1")["proof"] == "realtime"
        assert here.only_copy("Dish2").printer == "kitchen-1"

        pos.update_printer(here.rows["kitchen-1"], timeout_seconds=3)
        here.service.signal(signal.SIGHUP)
        here.wait_state("kitchen-1", "ready")
        here.printed(pos.ticket("kitchen", [("Dish3", 1)]))
        assert here.only_copy("Dish3").printer == "kitchen-1"
        assert printer_of(here, "kitchen-1")["proof"] == "realtime"


def test_a_return_is_on_record_although_the_service_was_restarted_in_between(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(
        pos, pos_database, tmp_path, PAIR, printer=EPSON, PROOF_LEVELS="kitchen-1=process_id+pushes", HOLD_SECONDS=1
    ) as here:
        here.printers["kitchen-1"].paper_out(after_lines=2)
        ticket = pos.ticket("kitchen", [("Dish1", 1), ("Dish2", 2)])
        here.printed(ticket)
        here.service.stop()
        here.service.start().wait_ready(1)
        here.printers["kitchen-1"].load_paper()

        eventually(lambda: pos.log_rows(ticket)[-1]["error_code"] == "may_have_printed", what="the log says so")
