"""Which printer gets a ticket now, and what happens when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.address import FileAddress, FileKind, TcpAddress, printer_key
from kps.core.routing import (
    UNOWNED_GRACE_S,
    Ability,
    ClaimFor,
    Crowd,
    Decision,
    DeviceState,
    EndRound,
    GiveUp,
    Lookup,
    PrinterRow,
    Routes,
    WaitFor,
    Waiting,
    Written,
    can_be_rescued,
    covers,
    decide,
    is_ours,
    normal,
    printer_for_slip,
    queued,
    served,
    why_not,
)
from kps.core.settings import PrinterDownPolicy
from kps.core.tickets import PrinterKey, Reason, TicketId, Token

FAIL, HOLD = PrinterDownPolicy.FAIL, PrinterDownPolicy.HOLD


def row(id: int, priority: int = 1, **changes: object) -> PrinterRow:
    made = PrinterRow(
        id=id, station="kitchen", brand="b", brand_code="dapur", brand_name="Dapur", name=f"P{id}",
        address=TcpAddress("10.0.0.1", 9100), kind="network", timeout_s=5.0, priority=priority,
        active=True, key=PrinterKey(f"k{id}"),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def device(
    id: int, state: str = "ready", text: str = "", live: bool = True, lapsed_s: float = -3.0, held_by: str = ""
) -> DeviceState:
    return DeviceState(PrinterKey(f"k{id}"), state, text, live, lapsed_s, held_by)


def ticket(**changes: object) -> Waiting:
    made = Waiting(
        id=TicketId(1), token=Token(0), station="kitchen", brand="b", brand_code="dapur", items=1,
        original_items=None, round_open=False, tried=frozenset(),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def decided(
    rows: list[PrinterRow],
    devices: list[DeviceState],
    free: dict[int, int] | None = None,
    *,
    subject: Waiting | None = None,
    written: Written = Written.WHOLE,
    policy: PrinterDownPolicy = FAIL,
) -> Decision:
    rooms = {row.key: 2 for row in rows} if free is None else {PrinterKey(f"k{id}"): room for id, room in free.items()}
    return decide(
        subject or ticket(), Routes(tuple(rows)).of("kitchen", "b"), {state.key: state for state in devices}, rooms,
        written=written, policy=policy, grace_s=60.0,
    )  # fmt: skip


def tried(*ids: int) -> Waiting:
    return ticket(tried=frozenset(PrinterKey(f"k{id}") for id in ids), round_open=True)


# The route.


def test_a_route_goes_by_priority_then_id() -> None:
    rows = [row(9, 1), row(3, 2), row(4, 1), row(1, 0)]
    assert [found.id for found in Routes(tuple(rows)).of("kitchen", "b")] == [1, 4, 9, 3]


ROWS = st.lists(
    st.builds(
        row, st.integers(1, 9), st.integers(0, 2), station=st.sampled_from(["kitchen", "bar", ""]),
        brand=st.sampled_from(["b", "B", ""]), active=st.booleans(), kind=st.sampled_from(["network", "win32"]),
    )
)  # fmt: skip


@given(rows=ROWS, station=st.sampled_from(["kitchen", "bar", "", "Kitchen"]), brand=st.sampled_from(["b", "B", ""]))
def test_the_index_of_routes_finds_what_a_look_at_every_row_finds(
    rows: list[PrinterRow], station: str, brand: str
) -> None:
    found = [one for one in rows if one.station == station and one.brand == brand]
    expected = sorted(found, key=lambda one: (one.priority, one.id))
    assert list(Routes(tuple(rows)).of(station, brand)) == expected


def test_a_route_has_only_its_own_station_and_brand_but_unusable_rows_too() -> None:
    rows = [row(1, station="bar"), row(2, brand="c"), row(3, active=False), row(4, kind="win32")]
    assert [found.id for found in Routes(tuple(rows)).of("kitchen", "b")] == [3, 4]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"kind": "win32"}, "win32"),
        ({"address": TcpAddress("", 9100)}, "no address"),
        ({"address": TcpAddress("10.0.0.1", 0)}, "port 0"),
        ({"address": TcpAddress("10.0.0.1", 65536)}, "port 65536"),
        ({"address": TcpAddress("10.0.0.1", -1)}, "port -1"),
        ({"address": TcpAddress("10.0.0.1", 65535)}, ""),
    ],
)
def test_a_row_that_can_never_print_says_why(changes: dict[str, object], fault: str) -> None:
    found = row(1, **changes).fault
    assert fault in found
    assert bool(fault) == bool(found)


def test_station_codes_are_compared_trimmed_and_without_case() -> None:
    assert normal("  KitChen ") == "kitchen"


@pytest.mark.parametrize(
    ("site", "address", "key"),
    [
        ("", "10.0.0.1", ":10.0.0.1:9100"),
        ("shop-7", "10.0.0.1", "shop-7:10.0.0.1:9100"),
        ("", "FE80:0:0:0::1", ":fe80::1:9100"),
    ],
)
def test_a_device_has_one_key_however_its_address_is_written(site: str, address: str, key: str) -> None:
    assert printer_key(site, TcpAddress(address, 9100)) == key


def test_a_name_is_no_device() -> None:
    with pytest.raises(ValueError, match=r"printer\.local"):
        printer_key("", TcpAddress("printer.local", 9100))


def unnamed(id: int, lookup: Lookup, **changes: object) -> PrinterRow:
    return row(id, address=TcpAddress("printer.local", 9100), key=PrinterKey(""), lookup=lookup, **changes)


def absent(id: int, **changes: object) -> PrinterRow:
    address = FileAddress(FileKind.USB, "/dev/usb/lp0")
    return row(id, address=address, absent="its device /dev/usb/lp0 is not here", **changes)


def test_a_printer_at_another_instance_is_a_printer_of_the_route_like_any_other() -> None:
    primary, backup = absent(1), row(2, priority=2)
    assert decided([primary, backup], [device(1), device(2)], {2: 2}) is WaitFor.BUSY
    gone = device(1, "ready", live=False, lapsed_s=60.0)
    assert decided([primary, backup], [gone, device(2)]) == ClaimFor(backup, "P1", PrinterKey("k1"), "not served")
    text = "no printer can print (P1: no instance serves it; its device /dev/usb/lp0 is not here)"
    assert decided([primary], [gone]) == EndRound(primary, Reason.NONE_ABLE, text)
    assert why_not([primary], {gone.key: gone}) == {1: (PrinterKey("k1"), text[len("no printer can print (P1: ") : -1])}


def test_a_device_that_no_instance_has_ever_served_is_waited_for_by_nobody() -> None:
    primary, backup = absent(1), row(2, priority=2)
    assert decided([primary, backup], [device(2)]) == ClaimFor(backup, "P1", PrinterKey("k1"), "not served")
    text = "its device /dev/usb/lp0 is not here"
    assert decided([primary], []) == EndRound(primary, Reason.NONE_ABLE, f"no printer can print (P1: {text})")
    assert why_not([primary], {}) == {1: (PrinterKey("k1"), text)}
    assert not can_be_rescued([primary], {})
    assert printer_for_slip([primary, backup], PrinterKey(""), {PrinterKey("k2"): device(2)}) == backup


def test_a_printer_whose_name_has_no_address_is_passed_over_like_one_that_is_off() -> None:
    primary, backup = unnamed(1, Lookup.FAILED), row(2, priority=2)
    assert decided([primary, backup], [device(2)]) == ClaimFor(backup, "P1", None, "not found by its name")
    text = "no printer can print (P1: its name printer.local is not resolved yet)"
    assert decided([primary], []) == EndRound(primary, Reason.NONE_ABLE, text)
    assert decided([primary], [], policy=HOLD) == WaitFor.HELD
    assert not can_be_rescued([primary], {})
    assert printer_for_slip([primary], PrinterKey(""), {}) is None


def test_a_name_that_was_asked_for_a_moment_ago_is_waited_for() -> None:
    assert decided([unnamed(1, Lookup.PENDING), row(2, priority=2)], [device(2)]) == WaitFor.PENDING


def test_a_printer_where_none_may_be_is_no_printer_of_the_route() -> None:
    refused, backup = row(1, key=PrinterKey(""), refused="its address 8.8.8.8 is outside"), row(2, priority=2)
    assert decided([refused, backup], [device(2)]) == ClaimFor(backup, "")
    given_up = decided([refused], [], subject=ticket(unroutable_noted=True, waited_s=61.0))
    assert isinstance(given_up, GiveUp)
    assert "P1: its address 8.8.8.8 is outside" in given_up.text


@pytest.mark.parametrize(
    ("stations", "brands", "covered"),
    [
        ("", "", True),
        ("kitchen", "", True),
        ("bar", "", False),
        ("", "dapur", True),
        ("", "b", True),
        ("", "other", False),
        ("kitchen bar", "other dapur", True),
        ("bar", "dapur", False),
    ],
)
def test_an_instance_covers_by_station_and_by_code_or_id_of_the_brand(
    stations: str, brands: str, covered: bool
) -> None:
    limits = frozenset(stations.split()), frozenset(brands.split())
    assert covers(*limits, row(1)) is covered
    assert covers(*limits, ticket()) is covered


# Devices.


@pytest.mark.parametrize(
    ("state", "ability"),
    [
        (device(1), Ability.ABLE),
        (device(1, "starting"), Ability.UNKNOWN),
        (device(1, "down"), Ability.UNABLE),
        (device(1, "paper_out"), Ability.UNABLE),
        (device(1, "a state of a newer version"), Ability.UNABLE),
        (device(1, held_by="Ani"), Ability.UNABLE),
        (device(1, live=False, lapsed_s=UNOWNED_GRACE_S), Ability.ABLE),
        (device(1, live=False, lapsed_s=UNOWNED_GRACE_S + 0.1), Ability.UNABLE),
        (device(1, "starting", live=False, lapsed_s=1e9), Ability.UNABLE),
    ],
)
def test_what_a_device_is_able_to_do(state: DeviceState, ability: Ability) -> None:
    assert state.ability is ability


# Deciding.

TWO = [row(1), row(2, 2)]
BOTH = [device(1), device(2)]
ROOM = {1: 2, 2: 2}
Case = tuple[str, list[PrinterRow], list[DeviceState], dict[int, int], Waiting, PrinterDownPolicy, object]
CASES: list[Case] = [
    ("the first able", TWO, BOTH, ROOM, ticket(), FAIL, (1, "")),
    ("the lower id of equals", [row(2), row(1)], BOTH, ROOM, ticket(), FAIL, (1, "")),
    ("backup of a dead one", TWO, [device(1, "down"), device(2)], {1: 0, 2: 2}, ticket(), FAIL, (2, "P1")),
    ("able but busy", TWO, BOTH, {1: 0, 2: 2}, ticket(), FAIL, WaitFor.BUSY),
    ("another instance's", TWO, BOTH, {2: 2}, ticket(), FAIL, WaitFor.BUSY),
    ("unknown yet", TWO, [device(1, "starting"), device(2)], {2: 2}, ticket(), FAIL, WaitFor.PENDING),
    ("never heard of", TWO, [device(2)], {2: 2}, ticket(), FAIL, WaitFor.PENDING),
    ("tried: the next", TWO, BOTH, ROOM, tried(1), FAIL, (2, "P1")),
    ("tried and the next busy", TWO, BOTH, {1: 2}, tried(1), FAIL, WaitFor.BUSY),
    ("all tried", TWO, BOTH, ROOM, tried(1, 2), FAIL, EndRound),
    ("all down", TWO, [device(1, "down"), device(2, "down")], {}, ticket(), FAIL, EndRound),
    ("held for a probe", [row(1)], [device(1, "held")], {}, ticket(), FAIL, WaitFor.HELD),
    ("held for a probe, a backup is there", TWO, [device(1, "held"), device(2)], ROOM, ticket(), FAIL, (2, "P1")),
    ("all down, hold", TWO, [device(1, "down"), device(2, "down")], {}, ticket(), HOLD, WaitFor.HELD),
    ("tried and down, hold", [row(1)], [device(1, "down")], {}, tried(1), HOLD, WaitFor.HELD),
    ("tried and able, hold", [row(1)], [device(1)], {1: 2}, tried(1), HOLD, EndRound),
    ("on hold by a person", TWO, [device(1, held_by="Ani"), device(2)], ROOM, ticket(), FAIL, (2, "P1")),
    ("inactive is skipped", [row(1, active=False), row(2, 2)], BOTH, ROOM, ticket(), FAIL, (2, "")),
    ("win32 is skipped", [row(1, kind="win32"), row(2, 2)], [device(2)], {2: 2}, ticket(), FAIL, (2, "")),
    ("all inactive", [row(1, active=False)], [device(1)], {1: 2}, ticket(), FAIL, WaitFor.INACTIVE),
    ("win32 and inactive", [row(1, kind="win32"), row(2, active=False)], [], {}, ticket(), FAIL, WaitFor.INACTIVE),
    ("no row", [], [], {}, ticket(), FAIL, WaitFor.GRACE),
    ("no row for long", [], [], {}, ticket(unroutable_noted=True, waited_s=60.0), FAIL, GiveUp),
    ("no row, not noted", [], [], {}, ticket(waited_s=600.0), FAIL, WaitFor.GRACE),
    ("only win32 for long", [row(1, kind="win32")], [], {}, ticket(unroutable_noted=True, waited_s=61.0), FAIL, GiveUp),
    ("forced by key", TWO, BOTH, ROOM, ticket(forced_printer="k2"), FAIL, (2, "")),
    ("forced by name", TWO, BOTH, ROOM, ticket(forced_printer="P2"), FAIL, (2, "")),
    ("forced and down", TWO, [device(1), device(2, "down")], {1: 2}, ticket(forced_printer="P2"), FAIL, EndRound),
    ("forced and unknown", [row(1)], [device(1)], {1: 2}, ticket(forced_printer="gone"), FAIL, (1, "")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "devices", "free", "subject", "policy", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_happens_to_a_ticket(
    rows: list[PrinterRow],
    devices: list[DeviceState],
    free: dict[int, int],
    subject: Waiting,
    policy: PrinterDownPolicy,
    expected: object,
) -> None:
    decision = decided(rows, devices, free, subject=subject, policy=policy)
    match expected:
        case (id, backup_for):
            assert isinstance(decision, ClaimFor)
            assert (decision.row.id, decision.backup_for) == (id, backup_for)
        case WaitFor():
            assert decision is expected
        case type():
            assert isinstance(decision, expected)


@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (device(1, "paper_out"), "paper_out"),
        (device(1, "cover_open"), "cover_open"),
        (device(1, "down"), "refused"),
        (device(1, "silent"), "silent"),
        (device(1, "error"), "printer_error"),
        (device(1, "blocked"), "blocked"),
        (device(1, held_by="Sari"), "in use"),
        (device(1, live=False, lapsed_s=20.0), "not served"),
    ],
)
def test_a_backup_knows_whom_it_stands_in_for_and_why(first: DeviceState, cause: str) -> None:
    decision = decided([row(1), row(2, 2)], [first, device(2)])
    assert isinstance(decision, ClaimFor)
    assert (decision.backup_for, decision.backup_for_key, decision.backup_reason) == ("P1", "k1", cause)


def test_a_printer_that_can_print_again_meanwhile_gives_no_reason() -> None:
    decision = decided([row(1), row(2, 2)], [device(1), device(2)], subject=tried(1))
    assert isinstance(decision, ClaimFor)
    assert (decision.backup_for, decision.backup_reason) == ("P1", "")


def test_a_slip_goes_along_its_route_or_to_its_one_printer() -> None:
    rows = [row(1), row(2, 2), row(3, 3)]
    devices = {state.key: state for state in (device(1, "down"), device(2), device(3))}
    anywhere = PrinterKey("")
    assert printer_for_slip(rows, anywhere, devices) == rows[1]
    assert printer_for_slip(rows, PrinterKey("k3"), devices) == rows[2]
    assert printer_for_slip(rows, PrinterKey("k1"), devices) is None
    assert printer_for_slip([row(2, active=False), row(3, kind="win32")], anywhere, devices) is None
    starting = devices | {PrinterKey("k1"): device(1, "starting")}
    assert printer_for_slip(rows, anywhere, starting) is None, "the better printer may be able in a moment"


def test_the_same_device_under_another_row_is_no_backup_of_itself() -> None:
    rows = [row(1, kind="win32"), row(2, 2), row(3, 3, key=PrinterKey("k2"))]
    decision = decided(rows, [device(2)])
    assert isinstance(decision, ClaimFor)
    assert decision.backup_for == ""


def test_a_half_written_ticket_waits_and_one_without_items_fails_without_rescue() -> None:
    assert decided([row(1)], [device(1)], written=Written.IN_PART) is WaitFor.ITEMS
    assert decided([row(1)], [device(1)], written=Written.EMPTY) == GiveUp(Reason.NO_ITEMS, "no items", rescue=False)


def test_an_unroutable_ticket_names_station_brand_and_why_and_can_be_rescued() -> None:
    subject = ticket(unroutable_noted=True, waited_s=60.0)
    decision = decided([row(1, kind="win32")], [], subject=subject)
    assert isinstance(decision, GiveUp)
    assert decision.rescue
    assert all(part in decision.text for part in ("station kitchen", "brand Dapur", "P1: a win32 printer"))
    without_rows = decided([], [], subject=subject)
    assert isinstance(without_rows, GiveUp)
    assert "brand dapur (none is set up)" in without_rows.text


def test_the_end_of_a_round_says_of_every_printer_why() -> None:
    decision = decided([row(1), row(2, 2)], [device(1), device(2, "paper_out", "paper out")], subject=tried(1))
    assert isinstance(decision, EndRound)
    assert decision.text == "no printer can print (P1: tried; P2: paper out)"
    assert decision.row.id == 1


def test_a_route_can_be_rescued_when_one_of_its_printers_is_able() -> None:
    devices = {PrinterKey("k1"): device(1, "down"), PrinterKey("k2"): device(2)}
    assert can_be_rescued([row(1), row(2)], devices)
    assert not can_be_rescued([row(1), row(2, active=False)], devices)
    assert not can_be_rescued([row(2, kind="win32")], devices)
    assert not can_be_rescued([row(3)], devices)


ROWS = st.lists(
    st.builds(
        row,
        st.integers(1, 6),
        st.integers(1, 3),
        active=st.booleans(),
        kind=st.sampled_from(["network", "win32"]),
    ),
    max_size=6,
    unique_by=lambda one: one.id,
)
DEVICES = st.lists(
    st.builds(
        device,
        st.integers(1, 6),
        st.sampled_from(["ready", "starting", "down", "paper_out"]),
        live=st.booleans(),
        lapsed_s=st.sampled_from([-3.0, 1.0, 20.0]),
        held_by=st.sampled_from(["", "", "Ani"]),
    ),
    max_size=6,
    unique_by=lambda one: one.key,
)
TICKETS = st.builds(
    ticket,
    tried=st.frozensets(st.integers(1, 6).map(lambda id: PrinterKey(f"k{id}"))),
    forced_printer=st.sampled_from(["", "k1", "P2", "gone"]),
    waited_s=st.sampled_from([0.0, 59.0, 61.0]),
    unroutable_noted=st.booleans(),
)
FREE = st.dictionaries(st.integers(1, 6), st.integers(0, 2))


@given(ROWS, DEVICES, FREE, TICKETS, st.sampled_from(PrinterDownPolicy))
def test_every_claim_is_for_an_able_untried_active_printer_with_room_and_no_better_one_was_passed_over(
    rows: list[PrinterRow],
    devices: list[DeviceState],
    free: dict[int, int],
    subject: Waiting,
    policy: PrinterDownPolicy,
) -> None:
    decision = decided(rows, devices, free, subject=subject, policy=policy)
    known = {state.key: state for state in devices}
    if isinstance(decision, ClaimFor):
        chosen = decision.row
        assert chosen.key not in subject.tried
        assert chosen.active
        assert not chosen.fault
        assert known[chosen.key].ability is Ability.ABLE
        assert free[chosen.id] > 0
        candidates = [one for one in rows if one.active and not one.fault]
        forced = [one for one in candidates if subject.forced_printer in (one.key, one.name)]
        for better in forced or candidates:
            if (better.priority, better.id) < (chosen.priority, chosen.id) and better.key not in subject.tried:
                assert known[better.key].ability is Ability.UNABLE
    if isinstance(decision, EndRound):
        assert not any(
            known[one.key].ability is not Ability.UNABLE
            for one in [decision.row]
            if one.key not in subject.tried and one.key in known
        )
        assert policy is FAIL or any(state.ability is Ability.ABLE for state in devices)
    if isinstance(decision, GiveUp):
        assert not [one for one in rows if not one.fault]
        assert subject.unroutable_noted


def test_one_address_has_one_key_however_it_is_spelt() -> None:
    plain = printer_key("", TcpAddress("10.0.0.5", 9100))
    assert printer_key("", TcpAddress("::ffff:10.0.0.5", 9100)) == plain
    assert printer_key("", TcpAddress("2001:DB8:0:0::1", 9100)) == printer_key("", TcpAddress("2001:db8::1", 9100))
    assert printer_key("shop-2", TcpAddress("10.0.0.5", 9100)) != plain


def test_a_waiting_ticket_counts_once_where_it_is_claimed_or_where_its_route_leads_now() -> None:
    nobody = PrinterKey("")
    rows = (
        row(1), row(2, priority=2), row(3, station="bar", active=False), row(4, station="grill", kind="win32"),
        row(5, station="pass", key=PrinterKey("k1")),
    )  # fmt: skip
    waiting = [
        Crowd("kitchen", "b", nobody, 3),
        Crowd("kitchen", "b", PrinterKey("k2"), 2),
        Crowd("pass", "b", PrinterKey("k1"), 4),
        Crowd("bar", "b", nobody, 5),
        Crowd("grill", "b", nobody, 6),
        Crowd("terrace", "b", nobody, 7),
        Crowd("kitchen", "b", PrinterKey("k9"), 1),
    ]

    def found(*devices: DeviceState) -> dict[int, int]:
        return queued(Routes(rows), waiting, {state.key: state for state in devices})

    assert found(device(1), device(2)) == {1: 4, 2: 2, 5: 4, 3: 5}
    assert found(device(1, "down"), device(2)) == {2: 6, 5: 4, 3: 5}
    assert found(device(1, "down"), device(2, "down")) == {1: 4, 2: 2, 5: 4, 3: 5}


# What a limited instance looks at.


PLACES = st.sampled_from(["kitchen", "bar"])


@given(
    st.lists(st.tuples(PLACES, st.integers(1, 3)), max_size=5),
    PLACES,
    st.frozensets(PLACES),
    st.frozensets(st.sampled_from(["dapur", "warung"])),
    st.frozensets(st.integers(1, 3).map(lambda id: PrinterKey(f"k{id}"))),
)
def test_an_instance_reads_all_of_its_tickets_and_no_others(
    places: list[tuple[str, int]],
    station: str,
    stations: frozenset[str],
    brands: frozenset[str],
    owned: frozenset[PrinterKey],
) -> None:
    routes = Routes(tuple(row(id, station=place, key=f"k{id}") for place, id in places))
    subject = ticket(station=station)
    reads = served(routes, stations, brands, owned)
    is_read = covers(reads.stations, reads.brands, subject) or (subject.station, subject.brand) in reads.routes
    assert is_read == is_ours(subject, routes, stations, brands, owned)


def test_a_lease_that_was_seen_alive_has_not_ended_before() -> None:
    leapt = device(1, live=False, lapsed_s=1e9)
    assert leapt.ability is Ability.UNABLE
    assert leapt.lapsed_at_most(2.0).ability is Ability.ABLE
    assert device(1).lapsed_at_most(2.0) == device(1)
