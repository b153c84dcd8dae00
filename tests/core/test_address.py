"""What a printer row says of where its printer is."""

from __future__ import annotations

import pytest

from kps.core.address import TcpAddress, device_address


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
