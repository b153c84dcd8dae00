"""Names are looked up without making anybody wait."""

from __future__ import annotations

from kps.supervisor.resolver import Resolver
from tests.conftest import eventually


def test_an_address_is_its_own_answer() -> None:
    resolver = Resolver()
    assert resolver.address("192.168.1.9") == "192.168.1.9"
    assert resolver.address("2001:DB8:0::1") == "2001:db8::1"


def test_a_name_is_answered_once_its_lookup_has_come_back() -> None:
    resolver = Resolver()
    try:
        resolver.wait_for(["localhost"], 10.0)
        assert eventually(lambda: resolver.address("localhost"), what="an address") in ("127.0.0.1", "::1")
    finally:
        resolver.stop()


def test_a_name_that_does_not_exist_has_no_address() -> None:
    resolver = Resolver()
    try:
        assert resolver.address("printer.invalid") is None
        resolver.wait_for(["printer.invalid", "bad..name"], 20.0)
        assert resolver.address("printer.invalid") is None
        assert resolver.address("bad..name") is None
    finally:
        resolver.stop()
