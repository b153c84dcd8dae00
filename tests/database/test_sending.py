"""The promise before the first byte, and what the paper must say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg2.extras
import pytest

from kps.core.tickets import NotPrinted, Printed, ProofLevel, Reason, Uncertain
from kps.database.printer_queue import ClaimLost, LeaseEnded, Withdrawn
from kps.demo.order_book import Line, Modifier
from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.database.house import House, Instance

PROVEN = Printed(ProofLevel.FENCE, 300)
LOST = Uncertain(Reason.CONNECTION_LOST, "connection lost after 120 bytes", 120, False)


def test_the_first_copy_is_unmarked(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    marks = sending.ticket.marks
    assert sending.sends == 1
    assert (marks.reprint, marks.possible_duplicate, marks.check_printers, marks.backup_for) == (None, False, (), "")
    assert house.job(ticket)["sends"] == 1


def test_the_second_copy_after_an_uncertain_one_names_the_printer_to_check(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, LOST)
    sending = one.send(one.claim(ticket, house.row("kitchen-2"), backup_for="kitchen-1"))
    marks = sending.ticket.marks
    assert sending.sends == 2
    assert (marks.possible_duplicate, marks.check_printers, marks.backup_for) == (True, ("kitchen-1",), "kitchen-1")


def test_a_copy_of_which_no_byte_left_does_not_mark_the_next(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, NotPrinted(Reason.CONNECTION_LOST, "closed"))
    assert house.job(ticket)["sends"] == 0
    _, sending = one.claim_and_send(ticket, house.row("kitchen-2"))
    assert (sending.sends, sending.ticket.marks.possible_duplicate) == (1, False)


def test_a_promise_that_was_never_settled_marks_the_next_copy(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    one.claim_and_send(ticket, house.row("kitchen-1"))
    one.release_dead(house.row("kitchen-1"))
    _, sending = one.claim_and_send(ticket, house.row("kitchen-2"))
    assert sending.ticket.marks.possible_duplicate
    assert sending.ticket.marks.check_printers == ("kitchen-1",)


@pytest.mark.parametrize("status", ["failed", "printed"])
def test_a_ticket_that_was_taken_out_of_printing_is_withdrawn(house: House, one: Instance, status: str) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = %s WHERE id = %s", [status, ticket])
    with pytest.raises(Withdrawn, match=status):
        one.send(claimed)
    job = house.job(ticket)
    assert (job["state"], job["sends"], house.status(ticket)) == (status, 0, status)
    with pytest.raises(ClaimLost):
        one.send(claimed)


def test_a_ticket_reset_to_new_while_it_was_claimed_is_requeued_unmarked(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    house.pos.reset_to_new(ticket)
    with pytest.raises(Withdrawn, match="new"):
        one.send(claimed)
    assert house.job(ticket)["state"] == "requeued"
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert (sending.sends, sending.ticket.marks.possible_duplicate) == (1, False)
    assert house.ticket(ticket)["print_attempts"] == 1


def test_a_ticket_deleted_while_it_was_claimed_is_gone(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    house.pos.delete_ticket(ticket)
    with pytest.raises(Withdrawn, match="gone"):
        one.send(claimed)
    assert house.job(ticket)["state"] == "failed"


def test_a_lease_that_ends_too_soon_allows_no_byte_and_keeps_the_claim(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    with pytest.raises(LeaseEnded):
        one.send(claimed, need_s=3600)
    house.let_lease_end(house.row("kitchen-1"))
    with pytest.raises(LeaseEnded):
        one.send(claimed)
    job = house.job(ticket)
    assert (job["state"], job["sends"], job["token"]) == ("claimed", 0, claimed.work.token)
    one.acquire(house.row("kitchen-1"))
    assert one.send(claimed).sends == 1


def test_an_old_epoch_allows_no_byte(house: House, one: Instance) -> None:
    claimed = one.claim(house.pos.ticket(), house.row("kitchen-1"))
    house.pos.execute("UPDATE kps.printer SET epoch = epoch + 1")
    with pytest.raises(LeaseEnded):
        one.send(claimed)
    assert house.job(claimed.work.id)["sends"] == 0


def test_a_wrong_token_allows_no_byte(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed = one.claim(ticket, house.row("kitchen-1"))
    one.queue.release([claimed.work], "")
    one.claim(ticket, house.row("kitchen-1"))
    with pytest.raises(ClaimLost):
        one.send(claimed)
    assert house.job(ticket)["sends"] == 0


def test_one_claim_can_be_promised_once_only(house: House, one: Instance) -> None:
    claimed, _ = one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    with pytest.raises(ClaimLost):
        one.send(claimed)


def test_a_reprint_of_what_came_out_says_when_and_where(house: House, one: Instance) -> None:
    original = house.pos.ticket()
    claimed, _ = one.claim_and_send(original, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    copy = house.pos.reprint(original)
    _, sending = one.claim_and_send(copy, house.row("kitchen-2"))
    reprint = sending.ticket.marks.reprint
    assert reprint is not None
    assert (reprint.printed_at, reprint.printer) == (house.ticket(original)["printed_at"], "kitchen-1")
    assert not sending.ticket.marks.possible_duplicate


def test_a_reprint_of_what_another_service_printed_is_a_reprint_too(house: House, one: Instance) -> None:
    printed_at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    original = house.pos.ticket(status="printed", printed_at=printed_at)
    _, sending = one.claim_and_send(house.pos.reprint(original), house.row("kitchen-1"))
    assert sending.ticket.marks.reprint is not None
    assert sending.ticket.marks.reprint.printed_at == printed_at


def test_a_reprint_of_what_never_printed_is_a_first_print(house: House, one: Instance) -> None:
    original = house.pos.ticket(status="failed")
    _, sending = one.claim_and_send(house.pos.reprint(original), house.row("kitchen-1"))
    assert (sending.ticket.marks.reprint, sending.ticket.marks.possible_duplicate) == (None, False)


def test_a_reprint_of_what_may_be_on_paper_is_a_possible_duplicate(house: House, one: Instance) -> None:
    original = house.pos.ticket()
    claimed, _ = one.claim_and_send(original, house.row("kitchen-1"))
    one.settle(claimed, LOST)
    house.pos.mark_failed(original)
    _, sending = one.claim_and_send(house.pos.reprint(original), house.row("kitchen-2"))
    assert sending.ticket.marks.possible_duplicate
    assert sending.ticket.marks.check_printers == ("kitchen-1",)


def test_an_original_is_marked_when_its_reprint_may_be_on_paper(house: House, one: Instance) -> None:
    original = house.pos.ticket()
    copy = house.pos.reprint(original)
    one.claim_and_send(copy, house.row("kitchen-1"))
    _, sending = one.claim_and_send(original, house.row("kitchen-2"))
    assert sending.ticket.marks.possible_duplicate


def test_a_cousin_in_the_family_marks_too(house: House, one: Instance) -> None:
    original = house.pos.ticket(status="failed")
    first = house.pos.reprint(original)
    second = house.pos.reprint(original)
    third = house.pos.reprint(first)
    one.claim_and_send(third, house.row("kitchen-1"))
    _, sending = one.claim_and_send(second, house.row("kitchen-2"))
    assert sending.ticket.marks.possible_duplicate


def test_a_stranger_does_not_mark(house: House, one: Instance) -> None:
    one.claim_and_send(house.pos.ticket(), house.row("kitchen-1"))
    _, sending = one.claim_and_send(house.pos.ticket(), house.row("kitchen-2"))
    assert not sending.ticket.marks.possible_duplicate


def test_a_reset_of_a_printed_ticket_is_a_reprint(house: House, one: Instance) -> None:
    ticket = house.pos.ticket()
    claimed, _ = one.claim_and_send(ticket, house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    house.pos.reset_to_new(ticket)
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.marks.reprint is not None
    assert sending.ticket.marks.reprint.printer == "kitchen-1"


def test_an_old_ticket_is_late_by_the_databases_clock(house: House, one: Instance) -> None:
    written = datetime.now(UTC) - timedelta(minutes=17)
    _, sending = one.claim_and_send(house.pos.ticket(created_at=written), house.row("kitchen-1"))
    assert sending.ticket.marks.late_minutes == 17
    _, fresh = one.claim_and_send(house.pos.ticket(), house.row("kitchen-2"))
    assert fresh.ticket.marks.late_minutes == 0


@pytest.mark.parametrize(
    ("minutes_behind", "late"), [(0, 17), (6, 11), (-6, 23), (60 * 7, 0)], ids=["right", "slow", "fast", "zone"]
)
def test_a_wrong_clock_of_the_pos_makes_nothing_late_and_hides_nothing(
    house: House, one: Instance, minutes_behind: int, late: int
) -> None:
    one.queue.learn_pos_clock(1.0)
    one.queue.learn_pos_clock(minutes_behind * 60.0)
    assert one.queue.pos_behind_s() == minutes_behind * 60.0
    written = datetime.now(UTC) - timedelta(minutes=17)
    ticket = house.pos.ticket(created_at=written)
    shown = max(0.0, 60.0 * (17 - minutes_behind))
    assert shown <= one.database.run(one.queue.sql.counts)[0].oldest_new_age_s < shown + 60
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.marks.late_minutes == late
    assert sending.ticket.created_at == written


def test_nobody_knows_the_clock_of_the_pos_before_tickets_have_come(one: Instance) -> None:
    assert one.queue.pos_behind_s() is None


def test_the_facts_of_the_paper_are_those_of_the_bill(house: House, one: Instance) -> None:
    lines = [
        Line("Kopi Susu", 2, "kitchen", (Modifier("Less sugar"), Modifier("Oat")), "no ice"),
        Line("Ramen ラーメン", 1, "kitchen"),
    ]
    ticket = house.pos.ticket(
        items=lines, table="12", guest_count=4, customer_name="Ibu Renée", bill_notes="birthday", waiter="ani"
    )
    void = house.pos.ticket_items(ticket)[1]["bill_item_id"]
    house.pos.void_item(void)
    house.pos.execute("UPDATE pos_billitem SET quantity = 99")
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    fact = sending.ticket
    assert (fact.id, fact.station, fact.checker, fact.table, fact.bill_type) == (
        ticket,
        "kitchen",
        False,
        "12",
        "dine_in",
    )
    assert (fact.guest_count, fact.customer_name, fact.bill_notes, fact.timezone) == (
        4, "Ibu Renée", "birthday", "Asia/Jakarta",
    )  # fmt: skip
    assert fact.waiter
    coffee, ramen = fact.items
    assert (coffee.quantity, coffee.name, coffee.modifiers, coffee.notes, coffee.void) == (
        2, "Kopi Susu", ("Less sugar", "Oat"), "no ice", False,
    )  # fmt: skip
    assert (ramen.quantity, ramen.name, ramen.void, ramen.station) == (1, "Ramen ラーメン", True, "kitchen")
    assert (house.job(fact.id)["printer_name"], sending.paper.width_mm) == ("kitchen-1", 80)
    assert str(house.ticket(fact.id)["printer_ip"]) == "127.0.77.1"


def test_a_takeaway_has_its_queue_number_and_no_table(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(queue_number=42)
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert (sending.ticket.bill_type, sending.ticket.queue_number, sending.ticket.table) == ("takeaway", 42, "")


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ([], ()),
        (["Pedas"], ("Pedas",)),
        ([{"id": "1", "name": "Pedas", "price": 0}, {"id": "2"}], ("Pedas", '{"id": "2"}')),
        ({"a": 1}, ('{"a": 1}',)),
        ({"name": "Besar", "price": 1}, ("Besar",)),
        ([{"id": "1", "name": ""}, "", None, {}], ('{"id": "1", "name": ""}',)),
        ([{"name": {"en": "hot"}}, ["deep"], 3], ('{"name": {"en": "hot"}}', '["deep"]', "3")),
        ("Pedas", ("Pedas",)),
        ('[{"name": "Pedas"}]', ("Pedas",)),
    ],
)
def test_modifiers_are_shown_whatever_form_they_have(
    house: House, one: Instance, stored: object, shown: tuple[str, ...]
) -> None:
    ticket = house.pos.ticket()
    house.pos.execute("UPDATE pos_billitem SET modifiers = %s", [psycopg2.extras.Json(stored)])
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.items[0].modifiers == shown


def _template(house: House, table: str, header: str, brand: str | None, minutes: int, active: bool = True) -> None:
    house.pos.execute(
        f"""INSERT INTO {table} SELECT (json_populate_record(x, json_build_object(
              'id', (SELECT max(id) + 1 FROM {table}), 'header_line_1', %s::text, 'brand_id', %s::uuid, 'feed_lines', 5,
              'is_active', %s::boolean, 'updated_at', clock_timestamp() + %s * interval '1 minute'))).*
            FROM {table} x ORDER BY x.id LIMIT 1""",
        [header, brand, active, minutes],
    )


@pytest.mark.parametrize(
    ("station", "table"),
    [("kitchen", "kitchen_kitchentickettemplate"), (" Checker ", "kitchen_checkertemplate")],
)
def test_the_template_is_the_brands_own_active_one_else_the_one_for_all_the_newest_first(
    house: House, one: Instance, station: str, table: str
) -> None:
    (brand,) = house.pos.rows("SELECT id FROM core_brand")
    stranger = house.pos.add_brand("OTHER", "Other")
    if not house.pos.rows(f"SELECT 1 FROM {table}"):
        pytest.fail(f"the shop has no template in {table} to copy")
    house.pos.execute(f"UPDATE {table} SET is_active = false")
    kitchen = house.row("kitchen-1")

    def header() -> str:
        claimed, sending = one.claim_and_send(house.pos.ticket(station, brand="DAPUR"), kitchen)
        one.settle(claimed, PROVEN)
        return sending.ticket.template.header_lines[0]

    _template(house, table, "stranger's", stranger, 60)
    _template(house, table, "for all, old", None, 10)
    _template(house, table, "for all", None, 20)
    assert header() == "for all"
    _template(house, table, "own, old", brand["id"], 1)
    _template(house, table, "own", brand["id"], 2)
    _template(house, table, "own, off", brand["id"], 90, active=False)
    assert header() == "own"


def test_the_checker_sees_each_items_station(house: House, one: Instance) -> None:
    ticket = house.pos.ticket("checker", items=[Line("Soto", 1, "kitchen"), Line("Es Teh", 1, "bar")])
    _, sending = one.claim_and_send(ticket, house.row("kitchen-1"))
    assert sending.ticket.checker
    assert [item.station for item in sending.ticket.items] == ["kitchen", "bar"]


@pytest.fixture(params=["older_pos_database", "oldest_pos_database"])
def old_house(request: pytest.FixtureRequest) -> Iterator[House]:
    target: Database = request.getfixturevalue(request.param)
    with PosWriter(target.dsn) as pos:
        pos.seed_reference_data()
        made = House(pos, target)
        made.printer("kitchen-1")
        made.printer("kitchen-2", priority=2)
        yield made
        made.close()


def test_on_older_schemas_a_ticket_goes_all_the_way(old_house: House) -> None:
    one = old_house.instance("one")
    one.acquire(*old_house.rows())
    ticket = old_house.pos.ticket()
    assert one.seen(ticket).brand != ""
    claimed, sending = one.claim_and_send(ticket, old_house.row("kitchen-1"))
    assert sending.ticket.template.header_lines == ()
    assert one.settle(claimed, PROVEN) == "printed"
    assert str(old_house.ticket(ticket)["printer_ip"]) == "127.0.77.1"
    assert old_house.log(ticket) == [("print_start", "new", "printing"), ("print_success", "printing", "printed")]


def test_on_older_schemas_a_round_ends_too(old_house: House) -> None:
    one = old_house.instance("one")
    ticket = old_house.pos.ticket(max_retries=1)
    (ended,) = one.queue.end_round([one.seen(ticket)], ip="127.0.77.1", code="x", error="none", delay_s=0, budget=3)
    assert ended.status == "failed"
    assert str(old_house.ticket(ticket)["printer_ip"]) == "127.0.77.1"


@pytest.mark.parametrize("table", ["kitchen_kitchentickettemplate", "kitchen_checkertemplate"])
def test_a_template_for_all_brands_of_another_company_is_not_ours(house: House, one: Instance, table: str) -> None:
    station = "checker" if "checker" in table else "kitchen"
    house.pos.execute(f"UPDATE {table} SET is_active = false")
    house.pos.execute(
        """INSERT INTO core_company SELECT (json_populate_record(c, json_build_object('id', gen_random_uuid()))).*
             FROM core_company c LIMIT 1"""
    )
    (ours,) = house.pos.rows("SELECT company_id FROM core_brand")
    _template(house, table, "ours", None, 1)
    _template(house, table, "theirs", None, 60)
    changed = house.pos.execute(
        f"UPDATE {table} SET company_id = (SELECT id FROM core_company WHERE id <> %s) WHERE header_line_1 = 'theirs'",
        [ours["company_id"]],
    )
    assert changed == 1
    claimed, sending = one.claim_and_send(house.pos.ticket(station, brand="DAPUR"), house.row("kitchen-1"))
    one.settle(claimed, PROVEN)
    assert sending.ticket.template.header_lines == ("ours",)
