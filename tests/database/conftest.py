"""Fixtures of the queue's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kps.database.connection import Database as Access
from kps.database.connection import Statement
from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.database.house import House, Instance
from tests.database.row_types import refuse_misfit


@pytest.fixture(scope="package", autouse=True)
def every_row_is_what_its_type_says() -> Iterator[None]:
    """Whatever the tests of this folder do: no row of a statement has a value that its row type denies."""
    run = Access.run

    def looked_at(access: Access, statement: Statement[Any], **values: Any) -> list[Any]:
        rows = run(access, statement, **values)
        for row in rows:
            refuse_misfit(statement, row)
        return rows

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Access, "run", looked_at)
        yield


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
