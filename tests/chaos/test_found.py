"""What the chaos has found, made to happen again without chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kps.demo.orders import PosWriter
from tests.chaos.proxy import Proxy, ReplyFault
from tests.conftest import Database
from tests.service.harness import shop


@pytest.mark.parametrize("statement", ["expire_owner", "renew", "acquire"])
def test_a_connection_that_breaks_during_the_first_look_at_the_database_only_delays_the_start(
    statement: str, pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with Proxy(pos_database.host, pos_database.port) as proxy:
        through = replace(pos_database, port=proxy.port)
        with shop(pos, through, tmp_path, {"bar-1": ("bar", 1)}) as here:
            here.printed(pos.ticket("bar", [("Dish0", 1)]))
            proxy.fail_next_reply(f"EXECUTE kps_{statement} ".encode(), ReplyFault.CUT)
            here.service.kill_group()
            here.service.start().wait_ready(1)
            here.printed(pos.ticket("bar", [("Dish1", 1)]))
            here.only_copy("Dish1")
            assert proxy.failed_replies == 1
