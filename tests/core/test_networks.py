"""Where a printer may be, and where none can be, whatever its row says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kps.core.networks import Reach, parse_networks
from kps.core.settings import Settings

REACH = Reach.of(Settings(health_host="127.0.0.1"), {"10.0.0.9", "fd00::9"})


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.31.255.1", "192.168.1.50", "100.64.0.7", "169.254.3.4", "127.0.77.1", "::ffff:10.0.0.1",
        "fd12::5", "fe80::1%eth0", "::1",
    ],
)  # fmt: skip
def test_private_link_local_and_loopback_addresses_are_allowed(address: str) -> None:
    assert REACH.refusal(address, 9100) == ""


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "192.0.2.1", "::ffff:8.8.8.8", "2001:db8::1"])
def test_any_other_is_outside_until_it_is_named(address: str) -> None:
    assert REACH.refusal(address, 9100) == f"its address {address} is outside of PRINTER_NETWORKS"
    assert replace(REACH, networks=parse_networks("any")).refusal(address, 9100) == ""
    named = parse_networks("private, 8.8.8.0/24, 172.32.0.1, 192.0.2.0/24, 2001:db8::/32")
    assert replace(REACH, networks=named).refusal(address, 9100) == ""


def test_a_list_without_private_leaves_that_out() -> None:
    assert "outside" in replace(REACH, networks=parse_networks("192.168.5.0/24")).refusal("192.168.6.1", 9100)


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"]
)
def test_what_is_nobodys_address_is_no_printers_even_where_any_is_allowed(address: str) -> None:
    assert replace(REACH, networks=("any",)).refusal(address, 9100) == f"its address {address} can be no printer's"


def test_a_link_local_address_needs_a_zone_even_where_any_is_allowed() -> None:
    everywhere = replace(REACH, networks=("any",))
    sentence = "its address fe80::1 is link-local and needs a zone, such as fe80::1%eth0"
    assert REACH.refusal("fe80::1", 9100) == everywhere.refusal("fe80::1", 9100) == sentence
    assert everywhere.refusal("fe80::1%eth0", 9100) == everywhere.refusal("169.254.3.4", 9100) == ""


@pytest.mark.parametrize("address", ["10.0.0.9", "::ffff:10.0.0.9", "fd00::9"])
def test_the_database_is_no_printer_even_where_any_is_allowed(address: str) -> None:
    reach = replace(REACH, networks=("any",))
    assert reach.refusal(address, 5432) == f"its address {address}:5432 is the database's"
    assert reach.refusal(address, 9100) == ""


def test_a_database_on_this_host_is_no_printer_by_any_address_of_the_host() -> None:
    reach = replace(REACH, database=frozenset({"127.0.0.1"}))
    assert "the database's" in reach.refusal("127.0.0.2", 5432)
    assert "the database's" in reach.refusal("::1", 5432)


@pytest.mark.parametrize(
    ("host", "address", "own"),
    [
        ("0.0.0.0", "127.0.0.1", True), ("0.0.0.0", "127.0.77.1", True), ("::", "::1", True),
        ("localhost", "127.0.0.1", True), ("127.0.0.1", "127.0.0.1", True), ("127.0.0.1", "127.0.77.1", False),
        ("0.0.0.0", "10.0.0.1", False),
    ],
)  # fmt: skip
def test_our_own_http_is_no_printer(host: str, address: str, own: bool) -> None:
    reach = replace(REACH, http_host=host)
    assert ("own" in reach.refusal(address, 9100)) is own
    assert ("own" in reach.refusal(address, 5001)) is own
    assert reach.refusal(address, 9101) == ""
