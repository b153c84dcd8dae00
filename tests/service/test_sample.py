"""Thirty real bills, on every age of the POS's schema, from the tables to paper."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kps.core.text import clean
from kps.demo.orders import PosWriter
from kps.demo.pos_tables import SchemaAge
from kps.demo.virtual_printer import VirtualPrinter
from tests.conftest import Databases, eventually
from tests.sample import load_sample
from tests.service.harness import Service

PRINTERS = {1: "kitchen", 2: "backup", 3: "bar", 4: "dessert", 5: "checker"}
FIRST_OF = {"kitchen": 1, "bar": 3, "dessert": 4, "checker": 5}


def squeezed(text: str) -> str:
    """Text without the white space and line ends at which the paper's lines were broken, and without frames."""
    return "".join(char for char in text if not char.isspace() and char not in "│┌┐└┘─|")


def is_native(text: str) -> bool:
    """Whether the printer writes this with its own font; anything else in the sample is drawn."""
    # Western letters and the General Punctuation block; the sample has nothing between them and the rest.
    return all(ord(char) < 0x250 or 0x2000 <= ord(char) < 0x2070 for char in text)


def expected_words(pos: PosWriter, ticket: int) -> Iterator[str]:
    """Names, modifiers and notes of the ticket's items that are not void."""
    for item in pos.rows(
        """SELECT p.name, b.notes, b.modifiers FROM kitchen_kitchenticketitem i
             JOIN pos_billitem b ON b.id = i.bill_item_id JOIN core_product p ON p.id = b.product_id
            WHERE i.kitchen_ticket_id = %s AND NOT b.is_void""",
        [ticket],
    ):
        yield item["name"]
        modifiers = json.loads(item["modifiers"]) if isinstance(item["modifiers"], str) else item["modifiers"]
        yield from (modifier["name"] for modifier in modifiers or ())
        for part in item["notes"].replace("\n", "|").split("|"):
            yield part.strip().lstrip("+ ")


@pytest.mark.parametrize("age", list(SchemaAge))
def test_every_ticket_of_the_sample_comes_out_of_its_printer_with_every_dish_modifier_and_note(
    age: SchemaAge, databases: Databases, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(databases.copy(age))
        pos = stack.enter_context(PosWriter(database.dsn))
        devices = {row: stack.enter_context(VirtualPrinter(name=name)) for row, name in PRINTERS.items()}
        load_sample(database.connect(autocommit=False), age, {row: (p.host, p.port) for row, p in devices.items()})
        tickets = pos.rows("SELECT * FROM kitchen_kitchenticket ORDER BY id")
        assert len(tickets) == 86
        before = {row["id"]: row["total_prints"] for row in pos.rows("SELECT * FROM kitchen_stationprinter")}
        new = [ticket for ticket in tickets if ticket["status"] == "new"]
        service = Service(database, tmp_path)
        stack.callback(service.end)
        service.start().wait_ready(5)

        def open_tickets() -> list[dict[str, Any]]:
            return pos.rows("SELECT id, status, error_message FROM kitchen_kitchenticket WHERE status <> 'printed'")

        eventually(lambda: not open_tickets(), timeout=60, what="every ticket is printed")
        assert service.stop() == 0

        for ticket in new:
            _came_out(pos, devices[FIRST_OF[ticket["printer_target"]]], ticket["id"])
        after = {row["id"]: row["total_prints"] for row in pos.rows("SELECT * FROM kitchen_stationprinter")}
        gained = {row: after[row] - before[row] for row in after}
        assert gained == {row: len(devices[row].papers) for row in devices}
        assert sum(gained.values()) == len(new)
        checked = {row["printer_id"] for row in pos.rows("SELECT DISTINCT printer_id FROM kitchen_printerhealthcheck")}
        assert checked == set(PRINTERS)


def _came_out(pos: PosWriter, device: VirtualPrinter, ticket: int) -> None:
    """The ticket is on one paper of this printer, whole, and the tables say so."""
    (paper,) = [paper for paper in device.papers if f"#{ticket}" in paper.text.splitlines()]
    assert paper.complete
    text = squeezed(paper.text)
    words = [clean(word) for word in expected_words(pos, ticket)]
    missing = [word for word in words if is_native(word) and squeezed(word) not in text]
    assert not missing, f"ticket {ticket} lacks {missing}:\n{paper.text}"
    drawn = [word for word in words if not is_native(word)]
    assert len(paper.raster) >= len(set(drawn)), f"ticket {ticket} lacks pictures of {drawn}"
    row = pos.ticket_row(ticket)
    assert row is not None
    assert row["print_attempts"] == 1
    assert row["printed_at"] is not None
    assert row["error_message"] == ""
    log = [entry for entry in pos.log_rows(ticket) if entry["actor"] == "printer_service"]
    assert [entry["action"] for entry in log] == ["print_start", "print_success"]
    assert [entry["old_status"] for entry in log] == ["new", "printing"]
    assert [entry["new_status"] for entry in log] == ["printing", "printed"]
    own = pos.rows("SELECT printer_ip FROM kitchen_stationprinter WHERE printer_port = %s", [device.port])[0]
    assert {entry["printer_ip"] for entry in log} == {own["printer_ip"]} == {row["printer_ip"]}
    assert log[1]["duration_ms"] >= 1
