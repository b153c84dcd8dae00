"""A printer's row of the POS says why it cannot print: by its owner, once, and never at the cost of a wait."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from kps.core.routing import PrinterRow
from tests.database.house import House, Instance


def row_of(house: House, row: PrinterRow) -> dict[str, Any]:
    found = house.pos.printer_row(row.id)
    assert found is not None
    return found


def age(house: House, row: PrinterRow, seconds: float) -> None:
    """Its last error happened so long ago."""
    house.pos.execute(
        "UPDATE kitchen_stationprinter SET last_error_at = clock_timestamp() - %s * interval '1 second' WHERE id = %s",
        [seconds, row.id],
    )


def test_rows_say_why_and_no_try_is_counted(house: House, one: Instance) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    before = row_of(house, kitchen)
    said = one.queue.say_why({kitchen.id: (kitchen.key, "paper out"), backup.id: (backup.key, "x" * 300)})
    assert said == {kitchen.id, backup.id}
    row = row_of(house, kitchen)
    assert row["last_error_message"] == "paper out"
    assert row["last_error_at"] is not None
    assert before == row | {"last_error_message": "", "last_error_at": None}
    assert row_of(house, backup)["last_error_message"] == "x" * 255


def test_a_printer_that_another_instance_owns_is_its_business_until_its_lease_has_ended(
    house: House, one: Instance, two: Instance
) -> None:
    kitchen = house.row("kitchen-1")
    assert two.queue.say_why({kitchen.id: (kitchen.key, "mine")}) == set()
    assert row_of(house, kitchen)["last_error_message"] == ""
    assert one.queue.say_why({kitchen.id: (kitchen.key, "paper out")}) == {kitchen.id}
    house.let_lease_end(kitchen)
    assert two.queue.say_why({kitchen.id: (kitchen.key, "no instance serves it")}) == {kitchen.id}


def test_a_row_that_is_being_written_keeps_nobody_waiting(house: House, one: Instance) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    why = {row.id: (row.key, "paper out") for row in (kitchen, backup)}
    with closing(house.target.connect()) as form, form, form.cursor() as cursor:
        cursor.execute("UPDATE kitchen_stationprinter SET updated_at = now() WHERE id = %s", [kitchen.id])
        assert one.queue.say_why(why) == {backup.id}
    assert one.queue.say_why(why) == {kitchen.id, backup.id}


def test_what_is_no_news_is_not_said_again_within_a_minute(house: House, one: Instance) -> None:
    kitchen = house.row("kitchen-1")
    why = {kitchen.id: (kitchen.key, "cover open")}
    assert one.queue.say_why(why, news=False) == {kitchen.id}
    assert one.queue.say_why({kitchen.id: (kitchen.key, "other")}, news=False) == set()
    age(house, kitchen, 61.0)
    assert one.queue.say_why(why, news=False) == {kitchen.id}
    house.pos.update_printer(kitchen.id, last_error_message="")
    assert one.queue.say_why(why, news=False) == {kitchen.id}
