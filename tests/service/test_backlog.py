"""The service starts with days of tickets before it: what is fresh prints at once, what is old fails beside it."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.pile import pile_up
from tests.service.harness import Shop, shop

OLD = 40_000
"""So many that they take some seconds."""
BAR = {"bar-1": ("bar", 1)}
YESTERDAY = timedelta(days=1)


def left(pos: PosWriter, first: int, last: int, status: str = "new") -> int:
    """How many of the old ones have this status."""
    return int(
        pos.rows(
            "SELECT count(*) AS n FROM kitchen_kitchenticket WHERE id BETWEEN %s AND %s AND status = %s",
            [first, last, status],
        )[0]["n"]
    )


def all_failed(here: Shop, first: int, last: int) -> None:
    """Wait until no old ticket is `new`, and look at what they say."""
    eventually(lambda: left(here.pos, first, last) == 0, timeout=60, what="no old ticket is new")
    rows = here.pos.rows(
        "SELECT t.status, left(t.error_message, 22) AS text, l.action, l.error_code, count(*) AS n"
        " FROM kitchen_kitchenticket t LEFT JOIN kitchen_kitchenticketlog l ON l.ticket_id = t.id"
        " WHERE t.id BETWEEN %s AND %s GROUP BY 1, 2, 3, 4",
        [first, last],
    )
    assert [tuple(row.values()) for row in rows] == [
        ("failed", "older than 240 minutes", "print_failed", "stale", last - first + 1)
    ]


def restarts(here: Shop) -> int:
    return int(here.service.text().count("child died"))


def test_a_fresh_ticket_is_printed_while_days_of_old_ones_are_still_being_failed(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, BAR, start=False) as here:
        first, last = pile_up(pos, OLD, "bar")
        fresh = pos.ticket("bar")
        here.service.start()
        eventually(lambda: pos.ticket_row(fresh)["status"] == "printed", timeout=30, what="the fresh one is printed")  # type: ignore[index]
        assert left(pos, first, last) > 0
        all_failed(here, first, last)
        here.printed(pos.ticket("bar"))
        assert len(here.printers["bar-1"].texts()) == 2
        assert restarts(here) == 0


def test_a_dispatcher_that_is_killed_meanwhile_does_not_print_the_rest_of_the_old_ones(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, BAR, start=False) as here:
        first, last = pile_up(pos, OLD // 2, "bar", items=True)
        here.service.start()
        eventually(lambda: left(pos, first, last, "failed"), timeout=30, what="the first ones are failed")
        os.kill(here.service.children()["dispatcher"], signal.SIGKILL)
        assert left(pos, first, last) > 0
        all_failed(here, first, last)
        here.printed(pos.ticket("bar"))
        assert restarts(here) == 1


def test_an_old_ticket_that_the_pos_has_locked_fails_later_and_what_is_wanted_prints_meanwhile(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    written = datetime.now(UTC) - YESTERDAY
    with shop(pos, pos_database, tmp_path, BAR, start=False) as here:
        locked, old = (pos.ticket("bar", created_at=written) for _ in range(2))
        reset = pos.ticket("bar", created_at=written, print_attempts=3)
        other = pos_database.connect(autocommit=False)
        other.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [locked])
        here.service.start().wait_ready(1)
        here.ends(old, "failed")
        here.printed(reset)
        # its web host's clock is a day behind
        here.printed(pos.ticket("bar", created_at=written))
        other.rollback()
        assert "older than 240 minutes" in here.ends(locked, "failed")["error_message"]
        here.printed(pos.ticket("bar"))
        assert here.papers_of(locked) == []
        assert len(here.printers["bar-1"].texts()) == 3


def test_another_shops_agent_keeps_the_tickets_that_it_prints(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, BAR, STATIONS="bar", RECLAIM_SECONDS=1) as here:
        theirs = pos.ticket("kitchen", status="printing", print_attempts=1)
        ours = pos.ticket("bar", status="printing", print_attempts=1)
        here.printed(ours)
        assert pos.ticket_row(theirs)["status"] == "printing"  # type: ignore[index]
