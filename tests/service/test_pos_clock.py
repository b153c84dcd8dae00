"""A POS whose clock is wrong: `created_at` is its web host's time, and everything else is the database's."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import Shop, shop

STATIONS = {"bar-1": ("bar", 1)}
NOW = timedelta(0)
SLOW = timedelta(hours=5, minutes=1)
"""A wrong time zone, and what comes on top."""


def order(here: Shop, dish: str, behind: timedelta, ago: timedelta = NOW) -> int:
    """A ticket of so long ago, by a clock that is so far behind."""
    return here.pos.ticket("bar", [(dish, 1)], created_at=datetime.now(UTC) - behind - ago)


def learn(here: Shop, behind: timedelta) -> None:
    """Tickets that come one by one: so many that the service knows how late it is at the POS."""
    for number in range(3):
        here.printed(order(here, f"Learn{number}", behind))


def notices(here: Shop) -> str:
    return " / ".join((here.service.health() or {}).get("notices", []))


def check(here: Shop) -> str:
    """What `kps check` says of clocks."""
    said = subprocess.run(
        [sys.executable, "-m", "kps.cli", "check"], env=here.service.env, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    return "\n".join(line for line in said.stdout.splitlines() if "clock" in line)


def test_a_pos_clock_that_is_hours_slow_makes_no_ticket_late_or_stale(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, STATIONS, STALE_AFTER_MINUTES=60) as here:
        assert "clock of the POS: not known yet" in check(here)
        learn(here, SLOW)
        here.printed(order(here, "Soto", SLOW))
        assert "LATE" not in here.only_copy("Soto").text
        # What really waited says so.
        here.printed(order(here, "Sate", SLOW, timedelta(minutes=10, seconds=5)))
        assert "LATE 10 MIN" in here.only_copy("Sate").text
        eventually(lambda: "clock of the POS is 5 h 1 min behind" in notices(here), what="a word of it")
        here.service.wait_said("clock of the POS", "behind_s=180")
        assert "problem  clock of the POS: 5 h 1 min behind" in check(here)

        assert here.service.stop() == 0
        fresh = order(here, "Rawon", SLOW, timedelta(minutes=1))
        yesterday = order(here, "Gado", SLOW, timedelta(days=1))
        here.service.start().wait_ready(1)
        here.printed(fresh)
        assert "LATE" not in here.only_copy("Rawon").text
        assert "older than 60 minutes" in here.ends(yesterday, "failed")["error_message"]
        eventually(lambda: "clock of the POS is 5 h 1 min behind" in notices(here), what="a word of it again")

        # Somebody sets it.
        learn(here, NOW)
        eventually(lambda: "clock of the POS" not in notices(here), what="nothing to say")
        here.printed(order(here, "Bakso", NOW, timedelta(minutes=7, seconds=5)))
        assert "LATE 7 MIN" in here.only_copy("Bakso").text
        assert "ok       clock of the POS" in check(here)


def test_a_pos_clock_that_is_fast_hides_no_lateness(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    fast = -timedelta(minutes=6)
    with shop(pos, pos_database, tmp_path, STATIONS) as here:
        learn(here, fast)
        here.printed(order(here, "Sate", fast, timedelta(minutes=8, seconds=5)))
        assert "LATE 8 MIN" in here.only_copy("Sate").text
        eventually(lambda: "clock of the POS is 6 min ahead" in notices(here), what="a word of it")


def test_old_tickets_are_late_by_a_right_clock_whenever_they_come(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    """A backlog waited for our start; a till that was without its network hands in what was ordered meanwhile."""
    with shop(pos, pos_database, tmp_path, STATIONS, start=False) as here:

        def hand_in(name: str) -> list[tuple[int, str, str]]:
            minutes = range(14, 8, -1)
            return [
                (order(here, f"{name}{ago}", NOW, timedelta(minutes=ago, seconds=5)), f"{name}{ago}", f"LATE {ago} MIN")
                for ago in minutes
            ]

        backlog = hand_in("Back")
        here.service.start().wait_ready(1)
        here.all_end([ticket for ticket, _, _ in backlog])
        learn(here, NOW)
        for ticket, dish, late in backlog + hand_in("Late"):
            here.printed(ticket)
            assert late in here.only_copy(dish).text
        assert "clock of the POS" not in notices(here)
