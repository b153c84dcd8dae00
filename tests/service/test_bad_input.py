"""What a POS can throw at us, on the whole service: bad tickets, bad printer rows, an operator's hands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kps.demo.orders import Line, PosWriter
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Database, eventually
from tests.service.harness import SLOW, Shop, long_order, shop

TWO = {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}


def rows_seen(here: Shop, **names_and_able: bool | None) -> None:
    """Wait until the service knows these printer rows, each with this ability."""

    def there() -> bool:
        status = here.service.status() or {"printers": ()}
        able = {printer["name"]: printer["is_online"] for printer in status["printers"]}
        wanted = {name.replace("_", "-"): value for name, value in names_and_able.items()}
        return all(name in able and able[name] is value for name, value in wanted.items())

    eventually(there, timeout=20, what=f"printer rows {names_and_able}")


def row_of(pos: PosWriter, ticket: int) -> dict[str, object]:
    row = pos.ticket_row(ticket)
    assert row is not None
    return dict(row)


def test_strange_tickets_print_or_fail_by_themselves_and_stop_nobody(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here:
        empty = pos.ticket("kitchen", [])
        one_void = pos.ticket("kitchen", [Line("Kept1", 1), Line("Void1", 1, void=True)])
        all_void = pos.ticket("kitchen", [Line("Void2", 1, void=True)])
        huge = pos.ticket("kitchen", [(f"Row{n}", 1) for n in range(200)])
        long_note = pos.ticket("kitchen", [("Dish1", 1)], notes="mild " * 2000)
        control = pos.ticket(
            "kitchen", [("Dish2", 1)], notes="\x1b@\x1dV\x00\x10\x04\x01 \x07tidak pedas\x1b".replace("\x00", "")
        )
        no_brand = pos.ticket("kitchen", [("Dish3", 1)], brand_id=None)
        shouting = pos.ticket("  KITCHEN ", [("Dish4", 1)])
        last = pos.ticket("kitchen", [("Last1", 1)])
        here.all_end([one_void, huge, long_note, control, no_brand, shouting, last])
        assert "Void1" not in here.only_copy("Kept1").text
        text = here.only_copy("Row199").text
        assert [f"Row{n}" in text.split() for n in range(200)] == [True] * 200
        assert here.only_copy("Dish1").text.split().count("mild") == 2000
        assert "tidak pedas" in here.only_copy("Dish2").text
        for dish in ("Dish3", "Dish4", "Last1"):
            here.only_copy(dish)
        assert here.ends(empty, "failed")["error_message"] == "no items"
        assert here.ends(all_void, "failed")["error_message"] == "all items are void"
        assert not here.papers_of(empty)
        assert not here.papers_of(all_void)
        assert not any(printer.concurrent_writers_seen for printer in here.printers.values())
        assert all(paper.complete for paper in here.printers["kitchen-1"].papers)


def test_tickets_that_are_too_long_or_too_hard_to_draw_fail_or_print_and_stop_nobody(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    han = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000)))
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}) as here:
        process = here.service.children()["kitchen-1"]
        endless = pos.ticket("kitchen", [("Dish1", 1)], notes=han * 3)
        marks = pos.ticket("kitchen", [("Dish2", 1)], notes="ก" + "\u0e48" * 40_000)
        accents = pos.ticket("kitchen", [("Dish3", 1)], notes="a" + "\u0301\u0323" * 50_000)
        hard = pos.ticket(
            "kitchen", [Line(f"Row{n}", 1, notes=han[n * 250 : n * 250 + 250]) for n in range(40)], notes="mild"
        )
        last = pos.ticket("kitchen", [("Last1", 1)])
        here.printed(last)
        here.only_copy("Last1")
        for ticket in (endless, marks, accents):
            assert here.ends(ticket, "failed")["error_message"] == "its paper would be more than 3000 lines long"
        here.printed(hard)
        assert "Row39" in here.only_copy("Row0").text
        assert here.service.said("too much to draw")
        assert here.service.children()["kitchen-1"] == process


def test_a_ticket_that_vanishes_is_noted_and_the_next_one_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, each={"kitchen-1": SLOW}) as here:
        printing = pos.ticket("kitchen", long_order("Dish1"))
        claimed = pos.ticket("kitchen", [("Dish2", 1)])
        waiting = [pos.ticket("kitchen", [(f"Gone{n}", 1)]) for n in range(2)]
        here.wait_sending(printing)
        eventually(lambda: row_of(pos, claimed)["status"] == "printing", what="the second ticket is claimed")
        for ticket in (printing, claimed, *waiting):
            pos.delete_ticket(ticket)
        last = pos.ticket("kitchen", [("Last1", 1)])
        here.printed(last)
        here.only_copy("Last1")
        here.only_copy("Dish1")
        for dish in ("Dish2", "Gone0", "Gone1"):
            assert not here.copies(dish)
        assert here.service.children()["kitchen-1"]


def test_a_deleted_bill_takes_its_ticket_along(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with shop(pos, pos_database, tmp_path, TWO, start=False) as here:
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        bill = row_of(pos, ticket)["bill_id"]
        pos.delete_ticket(ticket)
        pos.execute("DELETE FROM pos_billitem WHERE bill_id = %s", [bill])
        pos.execute("DELETE FROM pos_bill WHERE id = %s", [bill])
        here.service.start().wait_ready(2)
        last = pos.ticket("kitchen", [("Last1", 1)])
        here.printed(last)
        assert not here.copies("Dish1")


def test_printer_rows_that_cannot_print_are_passed_over_with_a_reason(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    bad: dict[str, dict[str, Any]] = {
        "no-host": {"host": "", "port": 9100}, "no-name": {"host": "printer.invalid", "port": 9100},
        "port-0": {"host": "127.0.0.1", "port": 0}, "port-70000": {"host": "127.0.0.1", "port": 70000},
        "windows": {"host": "127.0.0.1", "port": 9100, "printer_type": "win32"},
    }  # fmt: skip
    with shop(pos, pos_database, tmp_path, {"spare": ("x", 1)}, start=False) as here:
        spare = here.printers["spare"]
        for station, columns in bad.items():
            host, port = columns.pop("host"), columns.pop("port")
            pos.add_printer(host, port, station, 1, station, **columns)
            pos.add_printer(spare.host, spare.port, station, 2, f"{station}-2")
        pos.add_printer(spare.host, spare.port, "narrow", 1, "narrow", chars_per_line=0, printer_brand="NO SUCH")
        here.service.start().wait_ready(1)
        tickets = {station: pos.ticket(station, [(f"Dish{n}", 1)]) for n, station in enumerate([*bad, "narrow"])}
        here.all_end(tickets.values())
        for n, station in enumerate(bad):
            copy = here.only_copy(f"Dish{n}")
            # A row that can never print is no printer of the route: what comes next is its first.
            assert ("BACKUP FOR" in copy.text) is (station == "no-name"), copy.text
        here.only_copy(f"Dish{len(bad)}")
        reasons = {printer["name"]: printer for printer in here.service.status()["printers"]}
        assert all(reasons[station]["is_online"] is False for station in bad)
        words = {station: reasons[station]["state"] for station in bad}
        assert words == dict.fromkeys(bad, "skipped") | {"no-name": "down"}
        for station in ("no-host", "port-0", "port-70000", "windows"):
            assert here.service.said("printer row skipped", station)


def test_a_station_that_nobody_prints_fails_after_the_grace_and_is_rescued_by_a_new_row(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, UNROUTABLE_GRACE_SECONDS=0.3) as here:
        ticket = pos.ticket("grill", [("Dish1", 1)])
        row = here.ends(ticket, "failed")
        assert "grill" in row["error_message"]
        assert row["print_attempts"] == 0
        failed = pos.log_rows(ticket)[-1]
        assert (failed["action"], failed["error_code"]) == ("print_failed", "no_printer")
        bar = here.printers["bar-1"]
        pos.add_printer(bar.host, bar.port, "grill", 1, "grill-1")
        here.printed(ticket)
        here.only_copy("Dish1")


def test_inactive_rows_hold_their_tickets_until_one_is_switched_on(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO, UNROUTABLE_GRACE_SECONDS=0.1) as here:
        pos.update_printer(here.rows["kitchen-1"], is_active=False)
        rows_seen(here, kitchen_1=False)
        ticket = pos.ticket("kitchen", [("Dish1", 1)])
        here.service.wait_said("ticket held", str(ticket))
        here.printed(pos.ticket("bar", [("Dish2", 1)]))
        assert row_of(pos, ticket)["status"] == "new"
        pos.update_printer(here.rows["kitchen-1"], is_active=True)
        assert here.printed(ticket)["print_attempts"] == 1
        here.only_copy("Dish1")


def test_rows_are_added_changed_and_switched_off_without_touching_the_other_processes(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, TWO) as here, VirtualPrinter(name="new") as device:
        before = here.service.children()
        row = pos.add_printer(device.host, device.port, "grill", 1, "grill-1")
        rows_seen(here, grill_1=True)
        here.printers["grill-1"] = device
        here.printed(pos.ticket("grill", [("Dish1", 1)]))
        here.only_copy("Dish1")
        grown = here.service.children()
        assert grown == before | {"grill-1": grown["grill-1"]}

        with VirtualPrinter(name="moved") as moved:
            here.printers["grill-1"] = moved
            pos.update_printer(row, printer_port=moved.port)
            eventually(lambda: moved.connections_open == 1 and device.connections_open == 0, what="the row has moved")
            here.printed(pos.ticket("grill", [("Dish2", 1)]))
            here.only_copy("Dish2")

            pos.update_printer(here.rows["bar-1"], timeout_seconds=9, chars_per_line=32)
            pos.update_printer(row, is_active=False)
            eventually(lambda: moved.connections_open == 0, what="the row's process has ended")
        here.printed(pos.ticket("bar", [("Dish3", 1)]))
        assert "-" * 32 in here.only_copy("Dish3").text.splitlines()
        eventually(lambda: here.service.children() == before, what="the processes that were there first, and no other")


def test_a_row_that_is_switched_off_under_load_finishes_its_ticket_and_the_backup_prints_the_rest_unmarked(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    pair = {"kitchen-1": ("kitchen", 1), "kitchen-2": ("kitchen", 2)}
    with shop(pos, pos_database, tmp_path, pair, each={"kitchen-1": SLOW}) as here:
        tickets = [pos.ticket("kitchen", long_order(f"Dish{n}")) for n in range(8)]
        here.wait_sending(tickets[0])
        pos.update_printer(here.rows["kitchen-1"], is_active=False)
        here.all_end(tickets)
        used = [here.only_copy(f"Dish{n}").printer for n in range(8)]
        assert used[0] == "kitchen-1"
        assert used[-1] == "kitchen-2"
        assert all(row_of(pos, ticket)["print_attempts"] == 1 for ticket in tickets)


def test_two_rows_that_name_one_device_share_one_process_and_one_socket(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}) as here:
        device = here.printers["kitchen-1"]
        here.rows["bar-1"] = pos.add_printer(device.host, device.port, "bar", 1, "bar-1")
        rows_seen(here, bar_1=True)
        tickets = [pos.ticket(["kitchen", "bar"][n % 2], [(f"Dish{n}", 1)]) for n in range(10)]
        here.all_end(tickets)
        for n in range(10):
            here.only_copy(f"Dish{n}")
        assert set(here.service.children()) == {"dispatcher", "kitchen-1"}
        assert device.connections_open == 1
        assert not device.concurrent_writers_seen
        assert pos.log_rows(tickets[1])[-1]["metadata"]["printer_name"] == "bar-1"
        here.wait_health("bar-1", is_online=True)
        here.wait_health("kitchen-1", is_online=True)
        counted = [pos.printer_row(here.rows[name])["total_prints"] for name in ("kitchen-1", "bar-1")]  # type: ignore[index]
        assert counted == [5, 5]


def test_a_template_with_an_over_long_header_is_wrapped(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    header = " ".join(f"Word{n}" for n in range(40))[:200].rpartition(" ")[0]
    width = pos.rows(
        "SELECT character_maximum_length AS n FROM information_schema.columns "
        "WHERE table_name = 'kitchen_kitchentickettemplate' AND column_name = 'header_line_1'"
    )[0]["n"]
    header = header[:width].rpartition(" ")[0] if width and width < len(header) else header
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        pos.execute("UPDATE kitchen_kitchentickettemplate SET header_line_1 = %s, feed_lines = 999", [header])
        here.printed(pos.ticket("bar", [("Dish1", 1)]))
        text = here.only_copy("Dish1").text
        assert header in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 48


def test_a_reprint_that_is_written_slowly_waits_for_its_items(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        first = pos.ticket("bar", [("Dish1", 1), ("Dish2", 2), ("Dish3", 3)])
        here.printed(first)
        copy = pos.begin_reprint(first)
        eventually(lambda: here.service.status() is not None, what="the service still answers")
        pos.finish_reprint(copy)
        here.printed(copy)
        ((_, text),) = here.papers_of(copy)
        assert "REPRINT - printed" in text
        assert "on bar-1" in text
        assert all(dish in text for dish in ("Dish1", "Dish2", "Dish3"))


def test_a_reprint_of_a_ticket_that_never_printed_is_not_called_one(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        never = pos.ticket("bar", [("Dish1", 1)], status="failed")
        copy = pos.reprint(never)
        here.printed(copy)
        here.only_copy("Dish1")


def test_an_operators_reset_of_a_printed_ticket_prints_again_headed_reprint_and_is_logged(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        ticket = pos.ticket("bar", [("Dish1", 1)])
        here.printed(ticket)
        pos.reset_to_new(ticket)
        eventually(lambda: len(here.papers_of(ticket)) == 2, what="the second copy")
        row = here.printed(ticket)
        assert row["print_attempts"] == 1
        assert "REPRINT - printed" in here.copies("Dish1")[1].text
        assert here.actions(ticket) == ["print_start", "print_success", "manual_reset", "print_start", "print_success"]


def test_a_reset_in_the_middle_of_printing_gives_a_marked_copy_after_the_first_never_two_at_once(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, printer=SLOW) as here:
        ticket = pos.ticket("bar", long_order("Dish1"))
        here.wait_sending(ticket)
        pos.reset_to_new(ticket)
        eventually(lambda: len(here.copies("Dish1")) == 2, timeout=20, what="the second copy")
        here.printed(ticket)
        first, second = here.copies("Dish1")
        assert not first.marked
        assert second.marked
        assert not here.printers["bar-1"].concurrent_writers_seen


def test_a_ticket_that_staff_mark_failed_before_its_first_byte_does_not_print(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, printer=SLOW) as here:
        first = pos.ticket("bar", long_order("Dish1"))
        claimed = pos.ticket("bar", [("Dish2", 1)])
        waiting = pos.ticket("bar", [("Dish3", 1)])
        here.wait_sending(first)
        pos.mark_failed(first)
        eventually(lambda: row_of(pos, claimed)["status"] == "printing", what="the second ticket is claimed")
        pos.mark_failed(claimed)
        pos.mark_failed(waiting)
        last = pos.ticket("bar", [("Last1", 1)])
        here.printed(last)
        assert row_of(pos, first)["status"] == "printed", "it was on its way: proof counts"
        assert pos.log_rows(first)[-1]["old_status"] == "failed"
        assert [row_of(pos, ticket)["status"] for ticket in (claimed, waiting)] == ["failed", "failed"]
        here.only_copy("Last1")
        assert not here.copies("Dish2")
        assert not here.copies("Dish3")


def test_a_log_table_that_may_not_be_written_any_more_stops_printing_and_health_says_why(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    role = f"kps_{pos_database.name}"
    pos.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        pos.execute(f"GRANT CREATE ON DATABASE {pos_database.name} TO {role}")
        pos.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        pos.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
        with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}, DB_USER=role, DB_PASSWORD="x") as here:
            here.printed(pos.ticket("bar", [("Dish1", 1)]))
            pos.execute(f"REVOKE INSERT ON kitchen_kitchenticketlog FROM {role}")
            ticket = pos.ticket("bar", [("Dish2", 1)])
            here.service.wait_said("missing right", "kitchen_kitchenticketlog")
            here.service.wait_unhealthy("kitchen_kitchenticketlog")
            assert not here.copies("Dish2")
            pos.execute(f"GRANT INSERT ON kitchen_kitchenticketlog TO {role}")
            here.printed(ticket)
            here.only_copy("Dish2")
            eventually(lambda: here.service.get("/health").status == 200, what="/health is well again")
            assert here.service.stop() == 0
    finally:
        pos.execute(f"DROP OWNED BY {role} CASCADE")
        pos.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "lock", ["SELECT 1 FROM core_brand FOR NO KEY UPDATE", "SELECT 1 FROM pos_bill FOR NO KEY UPDATE"]
)
def test_a_pos_transaction_that_holds_bills_or_brands_delays_no_ticket(
    lock: str, pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        pos.ticket("bar", [("Dish0", 1)])
        holder = pos_database.connect(autocommit=False)
        with holder.cursor() as cursor:
            cursor.execute(lock)
            ticket = pos.ticket("bar", [("Dish1", 1)])
            here.printed(ticket)
        holder.rollback()
