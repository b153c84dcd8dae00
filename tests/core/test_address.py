"""What a printer row says of where its printer is."""

from __future__ import annotations

import pytest

from kps.core.address import FileAddress, FileKind, Flow, TcpAddress, device_address, printer_key


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5", "10.0.0.5", 9100),
        ("printer.local", "printer.local", 9100),
        ("fe80::1%eth0", "fe80::1%eth0", 9100),
        ("tcp://10.0.0.5", "10.0.0.5", 9100),
        ("tcp://10.0.0.5:9101", "10.0.0.5", 9101),
        ("tcp://[fe80::1%eth0]:9101/", "fe80::1%eth0", 9101),
        ("tcp://[2001:db8::1]", "2001:db8::1", 9100),
        ("tcp://10.0.0.5:0", "10.0.0.5", 0),
        ("tcp://", "tcp://", 9100),
        ("tcp://10.0.0.5:9100/etc", "tcp://10.0.0.5:9100/etc", 9100),
        ("", "", 9100),
    ],
)
def test_a_row_names_a_host_by_its_two_columns_or_by_one_text(text: str, host: str, port: int) -> None:
    assert device_address(text, 9100) == TcpAddress(host, port)


@pytest.mark.parametrize("address", [TcpAddress("10.0.0.5", 9100), TcpAddress("2001:db8::1", 9101)])
def test_an_address_is_what_its_uri_says(address: TcpAddress) -> None:
    assert device_address(address.uri, 1) == address


LONG = "/dev/serial/by-id/usb-Prolific_Technology_Inc._USB-Serial_Controller_D-if00-port0"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("usb:/dev/usb/lp0", FileAddress(FileKind.USB, "/dev/usb/lp0")),
        ("usb:///dev/usb/lp0", FileAddress(FileKind.USB, "/dev/usb/lp0")),
        ("usb://Bar-2/dev/usb/lp0", FileAddress(FileKind.USB, "/dev/usb/lp0", "bar-2")),
        (f"serial:{LONG}", FileAddress(FileKind.SERIAL, LONG)),
        (f"serial:{LONG}?baud=19200", FileAddress(FileKind.SERIAL, LONG, baud=19200)),
        (
            "serial://bar/dev/ttyS0?baud=38400&flow=none",
            FileAddress(FileKind.SERIAL, "/dev/ttyS0", "bar", 38400, Flow.NONE),
        ),
    ],
)
def test_a_row_names_a_device_file(text: str, address: FileAddress) -> None:
    assert device_address(text, 9100) == address
    assert address.fault == ""
    assert device_address(str(address), 1) == address


@pytest.mark.parametrize(
    "text",
    [
        "usb:", "usb:lp0", "usb:/etc/shadow", "usb:/dev", "usb:/dev/", "usb:/dev/../etc/shadow", "usb:/dev/./sda",
        "usb:/dev/usb/..", "usb://bar", "usb:/devil/lp0", "usb:/dev/usb/lp0?baud=9600", "usb://bar:9100/dev/usb/lp0",
        "serial:/dev//ttyS0", "serial:/dev/tty S0", "serial:/dev/ttyS0\n", "serial:/dev/ttyS0?baud=123",
        "serial:/dev/ttyS0?baud=", "serial:/dev/ttyS0?x=1", "serial:/dev/ttyS0?flow=wet",
    ],
)  # fmt: skip
def test_what_names_no_file_of_a_printer_says_so_and_keeps_its_text(text: str) -> None:
    address = device_address(text, 9100)
    assert isinstance(address, FileAddress)
    assert "its address" in address.fault


def test_a_device_file_has_one_key_whatever_the_line_is_set_to() -> None:
    plain = printer_key("shop", FileAddress(FileKind.SERIAL, "/dev/ttyS0"))
    assert plain == "shop:serial:/dev/ttyS0"
    assert printer_key("shop", FileAddress(FileKind.SERIAL, "/dev/ttyS0", baud=19200, flow=Flow.NONE)) == plain
    assert printer_key("shop", FileAddress(FileKind.SERIAL, "/dev/ttyS0", "bar")) == "shop:serial://bar/dev/ttyS0"
    assert printer_key("shop", FileAddress(FileKind.USB, "/dev/ttyS0")) != plain
