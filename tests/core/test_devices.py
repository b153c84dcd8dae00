"""Printer rows -> devices: one process for each physical one, with a name of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.core.abilities import Abilities
from kps.core.address import FileAddress, FileKind, TcpAddress, printer_key
from kps.core.routing import Lookup, PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, ProofLevel
from kps.supervisor.devices import vouched_for, vouched_for_none, wanted_devices


def row(id: int, host: str = "", name: str = "", **changes: object) -> PrinterRow:
    address = host or f"10.0.0.{id}"
    made = PrinterRow(
        id=id, station="kitchen", brand="b", brand_code="dapur", brand_name="Dapur", name=name or f"P{id}",
        address=TcpAddress(address, 9100), kind="network", timeout_s=5.0, priority=1, active=True,
        key=PrinterKey(f":{address}:9100"),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def names(rows: list[PrinterRow], settings: Settings | None = None) -> list[str]:
    return [config.name for config in wanted_devices(rows, {}, settings or Settings()).values()]


def test_two_rows_of_one_device_are_one_process_named_by_the_lower_id() -> None:
    rows = [row(2, "10.0.0.1", "bar", timeout_s=9.0), row(1, "10.0.0.1", "kitchen")]
    (config,) = wanted_devices(rows, {rows[0].key: TcpAddress("192.168.0.9", 9100)}, Settings()).values()
    assert (config.name, config.rows, config.timeout_s, str(config.address)) == (
        "kitchen", (1, 2), 9.0, "192.168.0.9:9100",
    )  # fmt: skip


def test_inactive_and_unusable_rows_need_no_process() -> None:
    assert names([row(1, active=False), row(2, kind="win32"), row(3, address=TcpAddress("10.0.0.3", 0)), row(4)]) == [
        "P4"
    ]


def test_a_row_whose_name_has_no_address_and_one_that_is_refused_need_no_process() -> None:
    nowhere = PrinterKey("")
    rows = [row(1, "printer.local", key=nowhere, lookup=Lookup.FAILED), row(2, refused="outside", key=nowhere), row(3)]
    assert names(rows) == ["P3"]


def test_a_device_that_is_not_here_needs_no_process_here() -> None:
    address = FileAddress(FileKind.USB, "/dev/usb/lp0")
    assert names([row(1, address=address, absent="not here"), row(2, address=address, key=PrinterKey("k2"))]) == ["P2"]


def test_what_is_vouched_for_at_a_line_is_what_can_be_told_apart_there() -> None:
    address = FileAddress(FileKind.SERIAL, "/dev/ttyS0", baud=19200)
    rows = [row(1, address=address, key=printer_key("", address))]
    for name in ("serial:/dev/ttys0?baud=19200", "serial:/dev/ttys0", "p1"):
        settings = Settings(proof_levels=((name, Abilities(ProofLevel.FENCE, pushes=True, clears=True)),))
        (config,) = wanted_devices(rows, {}, settings).values()
        assert vouched_for(config, settings) == Abilities(ProofLevel.REALTIME, pushes=True)
    settings = Settings(proof_levels=(("p1", Abilities(ProofLevel.PROCESS_ID)),))
    assert vouched_for(config, settings) == Abilities(ProofLevel.PROCESS_ID)


def test_an_inactive_row_of_an_active_device_is_not_served_with_it() -> None:
    (config,) = wanted_devices([row(1, "10.0.0.1", active=False), row(2, "10.0.0.1")], {}, Settings()).values()
    assert config.rows == (2,)


def test_an_instance_serves_the_devices_that_it_covers_with_all_their_rows() -> None:
    rows = [row(1, "10.0.0.1", station="bar"), row(2, "10.0.0.1"), row(3, station="bar")]
    (config,) = wanted_devices(rows, {}, Settings(stations=frozenset({"kitchen"}))).values()
    assert config.rows == (1, 2)
    assert names(rows, Settings(brands=frozenset({"other"}))) == []
    assert len(names(rows, Settings(brands=frozenset({"dapur"})))) == 2


@pytest.mark.parametrize(("given_s", "used_s"), [(0.0, 1.0), (-5.0, 1.0), (5.0, 5.0), (600.0, 30.0)])
def test_the_timeout_of_a_device_is_kept_within_reason(given_s: float, used_s: float) -> None:
    (config,) = wanted_devices([row(1, timeout_s=given_s)], {}, Settings()).values()
    assert config.timeout_s == used_s


def test_equal_names_are_told_apart_by_station_then_by_id() -> None:
    assert names([row(1, name="Printer"), row(2, name="printer", station="bar"), row(3, name="Printer")]) == [
        "Printer", "printer bar", "Printer kitchen",
    ]  # fmt: skip


def test_names_that_look_like_the_invented_ones_are_told_apart_too() -> None:
    found = names([row(1, name="P"), row(2, name="P kitchen"), row(3, name="P 4"), row(4, name="P")])
    assert len({name.lower() for name in found}) == 4


@given(
    st.lists(
        st.builds(
            row,
            st.integers(1, 9),
            name=st.sampled_from(["P", "p", "P kitchen", "P 3", "P 4", "P 5", "x" * 90, "x" * 100]),
            station=st.sampled_from(["kitchen", "bar", "s" * 40]),
        ),
        unique_by=lambda one: one.id,
    )
)
def test_every_device_has_a_name_of_its_own_whatever_the_rows_are_called(rows: list[PrinterRow]) -> None:
    found = wanted_devices(rows, {}, Settings())
    assert len({config.name.lower() for config in found.values()}) == len(rows)
    assert all(config.name and len(config.name) <= 80 for config in found.values())
    assert {key for config in found.values() for key in [config.key]} == set(found)


def test_a_name_does_not_depend_on_which_devices_the_instance_covers() -> None:
    rows = [row(1, name="P", station="bar"), row(2, name="P")]
    everything = {key: config.name for key, config in wanted_devices(rows, {}, Settings()).items()}
    kitchen = wanted_devices(rows, {}, Settings(stations=frozenset({"kitchen"})))
    assert {key: config.name for key, config in kitchen.items()} == {
        PrinterKey(":10.0.0.2:9100"): everything[PrinterKey(":10.0.0.2:9100")]
    }


def vouching(*names: str) -> Settings:
    return Settings(proof_levels=tuple((name, Abilities(ProofLevel.FENCE)) for name in names))


@pytest.mark.parametrize(
    "name", ["kitchen", "bar", "old bar", "printer.local:9100", "192.168.0.9:9100"], ids=lambda name: name
)
def test_a_device_is_vouched_for_by_the_name_of_any_of_its_rows_or_by_its_address(name: str) -> None:
    key = printer_key("shop", TcpAddress("192.168.0.9", 9100))
    rows = [
        row(1, "192.168.0.9", "Kitchen", key=key),
        row(2, "printer.local", "Bar", key=key),
        row(3, "192.168.0.9", "Old Bar", key=key, active=False),
        row(4),
    ]
    settings = vouching(name)
    devices = wanted_devices(rows, {}, settings)
    assert {key for key, config in devices.items() if vouched_for(config, settings)} == {key}
    assert vouched_for_none(rows, settings) == ()


def test_a_device_is_vouched_for_by_the_name_that_it_is_given_among_its_namesakes() -> None:
    rows = [row(1, name="Printer"), row(2, name="Printer", station="bar")]
    settings = vouching("printer bar")
    first, second = wanted_devices(rows, {}, settings).values()
    assert vouched_for(first, settings) is None
    assert vouched_for(second, settings) == Abilities(ProofLevel.FENCE)
    assert vouched_for_none(rows, settings) == ()


def test_a_vouched_name_that_no_row_of_the_pos_has_is_told_once() -> None:
    rows = [row(1, name="Kitchen"), row(2, name="Off", active=False), row(3, name="Usb", kind="win32")]
    settings = vouching("kitchen", "kitchn", "off", "usb", "10.0.0.1:9100", "10.0.0.1:9101", "kitchn")
    assert vouched_for_none(rows, settings) == ("kitchn", "10.0.0.1:9101")
    elsewhere = replace(settings, stations=frozenset({"bar"}))
    assert vouched_for_none(rows, elsewhere) == ("kitchn", "10.0.0.1:9101")
