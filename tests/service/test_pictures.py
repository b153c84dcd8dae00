"""Drawn lines on the whole service: they arrive whole, and one that was torn does not eat the next ticket."""

from __future__ import annotations

from pathlib import Path

import pytest

from kps.crash import Point
from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import shop

ALONE = {"kitchen-1": ("kitchen", 1)}
CHINESE = [(f"宫保鸡丁{n}", 1) for n in range(12)]


@pytest.mark.parametrize("proof", ["", "kitchen-1=process_id+pushes"])
def test_a_process_that_dies_in_a_picture_leaves_a_printer_that_reads_the_next_ticket(
    proof: str, pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    wish = tmp_path / "half"
    with shop(
        pos, pos_database, tmp_path, ALONE, printer={"profile": "epson-t20iii"}, PROOF_LEVELS=proof,
        KPS_CRASH_AT=f"{Point.HALF_SENT.value}={wish}",
    ) as here:  # fmt: skip
        printer = here.printers["kitchen-1"]
        here.printed(pos.ticket("kitchen", CHINESE))
        assert len(printer.papers[0].raster) >= len(CHINESE), "this machine has no Chinese font"
        wish.touch()
        torn = pos.ticket("kitchen", CHINESE, table="5")
        here.printed(torn)
        assert not wish.exists()
        after = pos.ticket("kitchen", [("Soto", 1)])
        here.printed(after)
        eventually(lambda: here.papers_of(torn) and here.papers_of(after), what="both papers")
        ((_, text),) = here.papers_of(torn)
        assert "POSSIBLE DUPLICATE - CHECK kitchen-1" in " ".join(text.split())
        assert "TABLE 5" in text
        assert here.only_copy("Soto").complete
