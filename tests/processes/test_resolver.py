"""Names are looked up without making anybody wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kps.supervisor.resolver import Resolver
from tests.conftest import eventually, require
from tests.names import NameServer, lacking


def test_an_address_is_its_own_answer() -> None:
    resolver = Resolver()
    assert resolver.find("192.168.1.9")[0] == "192.168.1.9"
    assert resolver.find("2001:DB8:0::1")[0] == "2001:db8::1"


def test_a_name_is_answered_once_its_lookup_has_come_back() -> None:
    resolver = Resolver()
    try:
        resolver.wait_for(["localhost"], 10.0)
        assert eventually(lambda: resolver.find("localhost")[0], what="an address") in ("127.0.0.1", "::1")
    finally:
        resolver.stop()


def test_a_name_that_does_not_exist_has_no_address() -> None:
    resolver = Resolver()
    try:
        assert resolver.find("printer.invalid")[0] is None
        resolver.wait_for(["printer.invalid", "bad..name"], 20.0)
        assert resolver.find("printer.invalid")[0] is None
        assert resolver.find("bad..name")[0] is None
    finally:
        resolver.stop()


ASK = """
import sys
from kps.supervisor import resolver

resolver.REFRESH_S = resolver.RETRY_S = 0.05
one = resolver.Resolver()
for line in sys.stdin:
    address, lookup = one.find(line.strip())
    print(address or "-", lookup.value, flush=True)
"""
"""A process that looks the names up that it is told; every answer is old at once."""


class Asker:
    def __init__(self, names: NameServer) -> None:
        self._process = subprocess.Popen(
            [*names.prefix, sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def find(self, host: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(host + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    require(not lacking(), lacking())
    with NameServer(tmp_path, one="127.0.77.1", two="127.0.77.2") as made:
        yield made


@pytest.fixture
def asker(names: NameServer) -> Iterator[Asker]:
    made = Asker(names)
    yield made
    made.close()


def test_names_that_nobody_answers_for_do_not_keep_the_others_waiting(names: NameServer, asker: Asker) -> None:
    dead = [f"dead{n}" for n in range(4)]
    names.silent_for = frozenset(dead)
    assert [asker.find(name) for name in dead] == [["-", "pending"]] * 4
    eventually(lambda: asker.find("one") == ["127.0.77.1", "done"], what="the address of a name behind four dead ones")
    eventually(lambda: asker.find("dead0") == ["-", "failed"], what="a name that has no answer in time to be given up")


def test_a_silent_name_server_takes_no_address_away_and_a_new_address_is_taken(names: NameServer, asker: Asker) -> None:
    eventually(lambda: asker.find("one") == ["127.0.77.1", "done"], what="the address")
    names.addresses["one"] = "127.0.77.9"
    eventually(lambda: asker.find("one") == ["127.0.77.9", "done"], what="the new address")
    del names.addresses["one"]
    asked = len(names.asked)
    eventually(lambda: asker.find("one") and len(names.asked) > asked + 20, what="several more questions")
    assert asker.find("one") == ["127.0.77.9", "done"]
