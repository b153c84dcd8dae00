"""From the POS's ticket to paper: the whole service, real processes, real PostgreSQL, real sockets."""

from __future__ import annotations

from pathlib import Path

from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.service.harness import shop


def test_a_ticket_that_the_pos_commits_comes_out_of_its_stations_printer(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path) as here:
        ticket = pos.ticket("bar", [("Es Teh", 2)], table="7")
        row = here.printed(ticket)
        assert row["print_attempts"] == 1
        ((printer, text),) = here.papers_of(ticket)
        assert printer == "bar-1"
        assert "Es Teh" in text
        assert here.service.stop() == 0
