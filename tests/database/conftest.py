"""Fixtures of the queue's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.database.house import House, Instance


@pytest.fixture
def house(pos: PosWriter, pos_database: Database) -> Iterator[House]:
    """The newer POS with schema kps, the trigger, and two kitchen printers: kitchen-1, then its backup kitchen-2."""
    made = House(pos, pos_database)
    made.printer("kitchen-1")
    made.printer("kitchen-2", priority=2)
    yield made
    made.close()


@pytest.fixture
def one(house: House) -> Instance:
    """An instance that owns both kitchen printers."""
    made = house.instance("one")
    made.acquire(*house.rows())
    made.renew()
    return made


@pytest.fixture
def two(house: House) -> Instance:
    """A second instance, which owns nothing yet."""
    made = house.instance("two")
    made.renew()
    return made
