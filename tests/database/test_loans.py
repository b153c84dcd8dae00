"""Borrowing a printer for a probe: nobody else has it meanwhile, its tickets wait, what it showed is stored once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kps.core.abilities import Abilities
from kps.core.routing import UNOWNED_GRACE_S, Ability, DeviceState, PrinterRow, WaitFor, Written, decide
from kps.core.settings import PrinterDownPolicy
from kps.core.tickets import ProofLevel
from kps.database.connection import Database
from kps.database.loans import LOAN_S, AlreadyBorrowed, Loans, shown
from tests.database.house import House, Instance, settings_of

ANNA, BUDI = "anna@till (process 4)", "budi@office (process 7)"
PROVEN = Abilities(ProofLevel.PROCESS_ID, pushes=True, clears=True, firmware="1.05")


@pytest.fixture
def loans(house: House) -> Iterator[Loans]:
    """Anna's."""
    database = Database(settings_of(house.target), "probe")
    yield Loans(database, ANNA)
    database.close()


def rival(loans: Loans) -> Loans:
    """Budi's, on the same connection."""
    return Loans(loans._database, BUDI)


def let_loan_end(house: House, row: PrinterRow, seconds_ago: float = 0.0) -> None:
    house.pos.execute(
        "UPDATE kps.printer SET borrowed_until = clock_timestamp() - %s * interval '1 second' WHERE printer_key = %s",
        [seconds_ago, row.key],
    )


def lapse(one: Instance, row: PrinterRow) -> None:
    """Its owner lets it go."""
    one.database.run(one.queue.sql.lapse, me=one.me, keys=[row.key])


def seen(one: Instance, row: PrinterRow) -> DeviceState:
    """What everybody thinks of the device."""
    (state, _, _) = one.queue.devices([row.key])[row.key]
    return state


def store(loans: Loans, row: PrinterRow, abilities: Abilities = PROVEN) -> bool:
    return loans.store(row.key, abilities, answers=True, model="EPSON TM-T20III", serial="X5")


def test_a_borrowed_printer_is_acquired_by_nobody_until_it_is_given_back(
    house: House, one: Instance, two: Instance, loans: Loans
) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    lapse(one, kitchen)
    assert one.acquire(kitchen) == two.acquire(kitchen) == []
    assert loans.give_back(kitchen.key)
    assert [row.printer_key for row in two.acquire(kitchen)] == [kitchen.key]


def test_borrowing_ends_no_lease_and_tells_whose_it_is(house: House, one: Instance, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    assert kitchen.key in one.renew()
    owner = loans.owner(kitchen.key)
    assert owner is not None
    assert (owner.owner_name, owner.sending) == ("one", False)
    claimed = one.claim(house.pos.ticket(), kitchen)
    one.send(claimed)
    owner = loans.owner(kitchen.key)
    assert owner is not None
    assert owner.sending
    one.release_dead(kitchen)
    lapse(one, kitchen)
    assert loans.owner(kitchen.key) is None


def test_a_device_that_was_never_owned_can_be_borrowed(house: House, two: Instance, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    assert loans.owner(kitchen.key) is None
    assert two.acquire(kitchen) == []
    assert store(loans, kitchen)
    (taken,) = two.acquire(kitchen)
    assert (taken.state, taken.proof_level, taken.contested) == ("starting", "process_id", False)


def test_a_second_probe_is_refused_and_told_who_has_the_printer(house: House, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    with pytest.raises(AlreadyBorrowed, match="anna@till"):
        rival(loans).borrow(kitchen.key, kitchen.name)
    rival(loans).borrow(house.row("kitchen-2").key, "kitchen-2")
    assert not rival(loans).give_back(kitchen.key)
    assert not store(rival(loans), kitchen)


def test_a_loan_that_is_not_renewed_ends_and_is_not_revived(house: House, two: Instance, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    assert loans.renew(kitchen.key)
    let_loan_end(house, kitchen)
    assert not loans.renew(kitchen.key)
    assert not store(loans, kitchen)
    assert house.lease(kitchen)["proof_level"] is None
    rival(loans).borrow(kitchen.key, kitchen.name)
    assert not loans.renew(kitchen.key)
    assert not loans.give_back(kitchen.key)
    assert two.acquire(kitchen) == []


def test_a_loan_lasts_as_long_as_it_says(house: House, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    (row,) = house.pos.rows(
        "SELECT extract(epoch FROM borrowed_until - clock_timestamp())::float8 AS left_s FROM kps.printer"
    )
    assert LOAN_S - 5 < row["left_s"] <= LOAN_S


def test_everybody_sees_that_a_printer_is_held_for_a_probe_and_by_whom(
    house: House, one: Instance, loans: Loans
) -> None:
    kitchen = house.row("kitchen-1")
    one.queue.set_state(
        kitchen.key, one.epochs[kitchen.key], state="down", text="refused", paper="unknown", response_ms=None,
        answers=None,
    )  # fmt: skip
    loans.borrow(kitchen.key, kitchen.name)
    state = seen(one, kitchen)
    assert (state.state, state.sentence, state.on_hold) == ("held", f"borrowed for a probe by {ANNA}", True)
    assert state.ability is Ability.UNABLE
    loans.give_back(kitchen.key)
    assert seen(one, kitchen).state == "down"


def test_a_ticket_waits_for_a_borrowed_printer_unless_it_has_a_backup(
    house: House, one: Instance, loans: Loans
) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    ready(one, kitchen, backup)
    ticket = one.seen(house.pos.ticket())
    loans.borrow(kitchen.key, kitchen.name)
    rooms = {kitchen.key: 2, backup.key: 2}

    def decision(*rows: PrinterRow) -> object:
        devices = {row.key: seen(one, row) for row in rows}
        return decide(ticket, rows, devices, rooms, written=Written.WHOLE, policy=PrinterDownPolicy.FAIL, grace_s=60.0)

    assert getattr(decision(kitchen, backup), "row", None) == backup
    assert decision(kitchen) is WaitFor.HELD
    one.queue.set_state(
        backup.key, one.epochs[backup.key], state="down", text="", paper="unknown", response_ms=None, answers=None
    )
    assert decision(kitchen, backup) is WaitFor.HELD


def ready(one: Instance, *rows: PrinterRow) -> None:
    for row in rows:
        one.queue.set_state(
            row.key, one.epochs[row.key], state="ready", text="", paper="ok", response_ms=3, answers=True
        )


@pytest.mark.parametrize("before", ["ready", "cover_open"])
def test_a_printer_that_was_just_given_back_is_about_to_be_taken_whatever_was_wrong_with_it(
    house: House, one: Instance, loans: Loans, before: str
) -> None:
    kitchen = house.row("kitchen-1")
    ready(one, kitchen)
    house.pos.execute("UPDATE kps.printer SET state = %s", [before])
    loans.borrow(kitchen.key, kitchen.name)
    lapse(one, kitchen)
    # A probe takes minutes: by then the lease has been over for longer than an owner may be missing.
    house.pos.execute("UPDATE kps.printer SET expires_at = expires_at - interval '5 minutes'")
    loans.give_back(kitchen.key)
    assert seen(one, kitchen).ability is Ability.UNKNOWN
    (taken,) = one.acquire(kitchen)
    assert taken.state == "starting"
    assert seen(one, kitchen).ability is Ability.UNKNOWN


def test_a_printer_that_nobody_takes_back_is_not_waited_for(house: House, one: Instance, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    lapse(one, kitchen)
    house.pos.execute("UPDATE kps.printer SET expires_at = expires_at - interval '5 minutes'")
    let_loan_end(house, kitchen, UNOWNED_GRACE_S + 1)
    state = seen(one, kitchen)
    assert (state.ability, state.sentence) == (Ability.UNABLE, "no instance serves it")


def test_storing_writes_what_was_shown_ends_the_loan_and_forgives_what_was_held_against_it(
    house: House, one: Instance, loans: Loans
) -> None:
    kitchen, backup = house.row("kitchen-1"), house.row("kitchen-2")
    house.pos.execute("UPDATE kps.printer SET demoted_at = clock_timestamp(), demoted_text = 'no echo'")
    loans.borrow(kitchen.key, kitchen.name)
    lapse(one, kitchen)
    assert store(loans, kitchen)
    row = shown(loans._database, [kitchen.key])[kitchen.key]
    assert (row.proof_level, row.pushes, row.clears, row.firmware, row.model, row.serial, row.answers) == (
        "process_id", True, True, "1.05", "EPSON TM-T20III", "X5", True,
    )  # fmt: skip
    assert (row.borrowed, row.borrowed_by, row.demoted_at, row.demoted_text) == (False, ANNA, None, "")
    assert row.probed_at is not None
    assert house.lease(backup)["demoted_text"] == "no echo"
    assert not store(loans, kitchen)
    assert len(one.acquire(kitchen)) == 1


def test_a_probe_that_stored_nothing_is_not_named_as_the_one_that_did(house: House, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    assert store(loans, kitchen)
    rival(loans).borrow(kitchen.key, kitchen.name)
    assert shown(loans._database, [kitchen.key])[kitchen.key].borrowed_by == BUDI
    rival(loans).give_back(kitchen.key)
    row = shown(loans._database, [kitchen.key])[kitchen.key]
    assert (row.borrowed_by, row.proof_level) == ("", "process_id")


def clock_goes_back(house: House) -> None:
    """By an hour: as seen from then on, whatever was written lies that much further ahead."""
    house.pos.execute(
        "UPDATE kps.printer SET borrowed_until = borrowed_until + interval '1 hour',"
        " expires_at = expires_at + interval '1 hour', state_since = state_since + interval '1 hour'"
    )


@pytest.mark.parametrize("stored", [True, False])
def test_a_clock_that_goes_back_does_not_revive_a_loan_that_was_given_back(
    house: House, one: Instance, loans: Loans, stored: bool
) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    lapse(one, kitchen)
    assert store(loans, kitchen) if stored else loans.give_back(kitchen.key)
    clock_goes_back(house)
    assert not seen(one, kitchen).on_hold
    one.renew()
    assert len(one.acquire(kitchen)) == 1
    row = shown(loans._database, [kitchen.key])[kitchen.key]
    assert (row.borrowed, row.borrowed_by) == (False, ANNA if stored else "")


def test_a_loan_that_seems_to_last_for_an_hour_is_cut_to_its_length_and_no_other_is(
    house: House, one: Instance, loans: Loans
) -> None:
    kitchen, other = house.row("kitchen-1"), house.row("kitchen-2")
    loans.borrow(kitchen.key, kitchen.name)
    clock_goes_back(house)
    rival(loans).borrow(other.key, other.name)
    house.pos.execute(
        "UPDATE kps.printer SET borrowed_until = clock_timestamp() + interval '100 seconds' WHERE printer_key = %s",
        [other.key],
    )
    clocks = "SELECT extract(epoch FROM borrowed_until - clock_timestamp())::float8 AS left_s FROM kps.printer"
    one.database.run(one.queue.sql.cut_loans)
    lasts = sorted(row["left_s"] for row in house.pos.rows(f"{clocks} WHERE isfinite(borrowed_until)"))
    assert LOAN_S - 5 < lasts[0] <= LOAN_S
    assert 90 < lasts[1] <= 100
    assert loans.renew(kitchen.key)


def test_a_loan_that_seems_to_last_for_an_hour_is_shown_as_one_to_be_cut(
    house: House, one: Instance, loans: Loans
) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)

    def overlong() -> bool:
        (row,) = one.database.run(one.queue.sql.printers, keys=[kitchen.key])
        return bool(row.overlong)

    assert not overlong()
    clock_goes_back(house)
    assert overlong()


def test_who_borrows_a_printer_whose_loan_seems_to_last_for_an_hour_need_not_wait_so_long(
    house: House, loans: Loans
) -> None:
    kitchen = house.row("kitchen-1")
    loans.borrow(kitchen.key, kitchen.name)
    clock_goes_back(house)
    with pytest.raises(AlreadyBorrowed, match="anna@till"):
        rival(loans).borrow(kitchen.key, kitchen.name)
    (row,) = house.pos.rows(
        "SELECT borrowed_until < clock_timestamp() + interval '31 seconds' AS cut FROM kps.printer "
        "WHERE isfinite(borrowed_until)"
    )
    assert row["cut"]


def test_process_ids_come_from_the_tickets_sequence(house: House, loans: Loans) -> None:
    first, second = loans.process_id(), loans.process_id()
    assert second > first
    (row,) = house.pos.rows("SELECT last_value FROM kps.process_id_seq")
    assert row["last_value"] == second


def test_the_dispatchers_are_told_when_a_printer_is_borrowed_stored_and_given_back(house: House, loans: Loans) -> None:
    kitchen = house.row("kitchen-1")
    listener = house.target.connect()
    with listener.cursor() as cursor:
        cursor.execute("LISTEN kps_printer")

        def told() -> bool:
            cursor.execute("SELECT 1")
            heard = bool(listener.notifies)
            listener.notifies.clear()
            return heard

        loans.borrow(kitchen.key, kitchen.name)
        assert told()
        loans.renew(kitchen.key)
        assert not told()
        loans.give_back(kitchen.key)
        assert told()
        loans.borrow(kitchen.key, kitchen.name)
        assert told()
        store(loans, kitchen)
        assert told()
