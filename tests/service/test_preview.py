"""`kps preview` as people call it: the paper of a ticket without printing it, and without changing anything."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from kps.cli.schema import script
from kps.demo.orders import PosWriter
from tests.conftest import Database
from tests.service.harness import environment, free_port, shop


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and its words."""

    code: int
    out: str
    err: str


def preview(env: dict[str, str], *arguments: object) -> Said:
    result = subprocess.run(
        [sys.executable, "-m", "kps.cli", "preview", *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stderr
    return Said(result.returncode, result.stdout, result.stderr)


@dataclass(frozen=True, slots=True)
class Kitchen:
    """A POS with two printers, the tables of KPS, and no service."""

    pos: PosWriter
    database: Database
    env: dict[str, str]

    def everything(self) -> dict[str, list[object]]:
        """Every row of every table."""
        tables = self.pos.rows(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('public', 'kps')"
        )
        return {table["name"]: self.pos.rows(f"SELECT * FROM {table['name']}") for table in tables}  # type: ignore[misc]


@pytest.fixture
def kitchen(pos: PosWriter, pos_database: Database, tmp_path: Path) -> Kitchen:
    pos_database.connect().cursor().execute(script())
    pos.add_printer("127.0.0.1", free_port(), "kitchen", 1, "wide", chars_per_line=48, paper_width_mm=80)
    pos.add_printer("127.0.0.1", free_port(), "kitchen", 2, "narrow", chars_per_line=32, paper_width_mm=58)
    return Kitchen(pos, pos_database, environment(pos_database, tmp_path))


def test_the_preview_shows_the_paper_and_changes_nothing(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)], table="7", notes="tanpa bawang")
    before = kitchen.everything()
    said = preview(kitchen.env, ticket)
    assert (said.code, said.err) == (0, "")
    for words in ("7", "2 x Nasi Goreng", "tanpa bawang", f"#{ticket}", "cut"):
        assert words in said.out
    assert kitchen.everything() == before


def test_the_picture_is_as_wide_as_the_paper_of_the_printer(kitchen: Kitchen, tmp_path: Path) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    for printer, width in (("wide", 640), ("NARROW", 464)):
        said = preview(kitchen.env, ticket, "--printer", printer, "--png", tmp_path / "paper.png")
        assert (said.code, said.err) == (0, "")
        with Image.open(io.BytesIO((tmp_path / "paper.png").read_bytes())) as image:
            assert (image.format, image.width) == ("PNG", width)


def test_a_ticket_of_every_status_can_be_seen(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    for status in ("new", "printing", "printed", "failed"):
        kitchen.pos.execute("UPDATE kitchen_kitchenticket SET status = %s WHERE id = %s", [status, ticket])
        said = preview(kitchen.env, ticket)
        assert (said.code, said.err) == (0, ""), status
        assert "2 x Nasi Goreng" in said.out


def test_the_settings_of_the_paper_are_those_of_the_service(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)], table="7", notes="no wombat please")
    settings = {"TICKET_LANGUAGE": "id", "ALLERGY_WORDS": "wombat", "TOP_FEED_LINES": "2"}
    plain = preview(kitchen.env, ticket).out
    said = preview({**kitchen.env, **settings}, ticket)
    assert said.out.startswith("\n\n#")
    assert "MEJA 7" in said.out
    assert re.search(r"^#+ no wombat please #+$", said.out, re.MULTILINE)
    assert "TABLE 7" in plain
    assert not re.search(r"^#+ no wombat please #+$", plain, re.MULTILINE)


def test_a_ticket_that_no_printer_would_get_is_shown_on_usual_paper(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("dessert", [("Pisang Goreng", 1)])
    said = preview(kitchen.env, ticket)
    assert (said.code, said.err) == (0, "")
    assert "1 x Pisang Goreng" in said.out
    assert max(map(len, said.out.splitlines())) == 48


def test_a_character_that_no_font_has_is_shown_by_its_number_and_logged_nowhere(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi \U0010fffd", 2)])
    said = preview(kitchen.env, ticket)
    assert (said.code, said.err) == (0, "")
    assert "2 x Nasi [U+10FFFD]" in said.out


def test_a_ticket_that_is_not_there_is_one_sentence(kitchen: Kitchen) -> None:
    said = preview(kitchen.env, 999_999)
    assert (said.code, said.out, said.err) == (1, "", "kps: there is no ticket 999999\n")


def test_a_number_that_no_ticket_can_have_is_one_sentence(kitchen: Kitchen) -> None:
    said = preview(kitchen.env, "9" * 23)
    assert (said.code, said.out, said.err) == (1, "", f"kps: there is no ticket {'9' * 23}\n")


def test_an_output_that_takes_nothing_is_one_sentence(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kps.cli", "preview", str(ticket)],
            env=kitchen.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "kps: standard output cannot be written: No space left on device\n",
    )


def test_a_picture_on_standard_output_is_refused(
    kitchen: Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    said = preview(kitchen.env, ticket, "--png", "-")
    assert (said.code, said.out) == (2, "")
    assert said.err == "kps: standard output shows the text, so --png needs the name of a file\n"
    assert not (tmp_path / "-").exists()


def test_a_ticket_that_is_too_long_to_print_says_so(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)], notes="x" * 200_000)
    said = preview(kitchen.env, ticket)
    assert (said.code, said.out) == (1, "")
    assert said.err == f"kps: ticket {ticket} cannot be printed: its paper would be more than 3000 lines long\n"


def test_an_unknown_printer_is_answered_with_those_there_are(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    said = preview(kitchen.env, ticket, "--printer", "bar-9")
    assert (said.code, said.out) == (2, "")
    assert said.err == "kps: no printer is called bar-9; there are: narrow, wide\n"


def test_a_ticket_with_nothing_to_cook_says_so(kitchen: Kitchen) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    (item,) = kitchen.pos.ticket_items(ticket)
    kitchen.pos.void_item(item["bill_item_id"])
    said = preview(kitchen.env, ticket)
    assert (said.code, said.out) == (1, "")
    assert said.err == f"kps: ticket {ticket} cannot be printed: all items are void\n"


def test_a_file_that_cannot_be_written_is_named_with_the_cause(kitchen: Kitchen, tmp_path: Path) -> None:
    ticket = kitchen.pos.ticket("kitchen", [("Nasi Goreng", 2)])
    file = tmp_path / "no such folder" / "paper.png"
    said = preview(kitchen.env, ticket, "--png", file)
    assert said.code == 1
    assert said.err == f"kps: {file} cannot be written: No such file or directory\n"


def test_a_database_that_cannot_be_used_is_one_sentence(kitchen: Kitchen) -> None:
    said = preview({**kitchen.env, "DB_PORT": "1"}, 1)
    assert (said.code, said.out) == (1, "")
    assert "refuses connections" in said.err
    assert len(said.err.splitlines()) == 1


def test_before_the_first_start_of_the_service_the_preview_says_what_is_missing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    ticket = pos.ticket("kitchen", [("Nasi Goreng", 2)])
    said = preview(environment(pos_database, tmp_path), ticket)
    assert (said.code, said.out) == (1, "")
    assert "start the service first" in said.err


def test_bad_settings_exit_with_78() -> None:
    said = preview({**os.environ, "HEALTH_CHECK_PORT": "x"}, 1)
    assert (said.code, said.out) == (78, "")
    assert "HEALTH_CHECK_PORT" in said.err


def test_while_the_service_runs_the_preview_of_a_printed_ticket_is_the_paper_of_the_next_copy(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path) as here:
        ticket = pos.ticket("kitchen", [("Nasi Goreng", 2), ("宫保鸡丁", 1)], table="7")
        here.printed(ticket)
        said = preview(here.service.env, ticket)
        assert (said.code, said.err) == (0, "")
        assert "2 x Nasi Goreng" in said.out
        assert "1 x 宫保鸡丁" in said.out or "1 x [U+5BAB]" in said.out
        ((_, paper),) = here.papers_of(ticket)
        printed = [line.strip() for line in paper.splitlines() if line.strip()]
        shown = [line.strip("# ") for line in said.out.splitlines()]
        assert [line for line in printed if line.strip("# ") not in shown] == []
        assert here.service.stop() == 0
