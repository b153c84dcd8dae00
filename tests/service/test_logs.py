"""The log of a process, written by real processes to real files, pipes and full disks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kps.logs import STDOUT_LINE_BYTES, follow, log_path, slug, tail_lines

PREAMBLE = """
import logging, sys
from pathlib import Path
from kps import logs
folder = Path(sys.argv[1])
log = logging.getLogger("test")
"""


def program(script: str) -> str:
    return PREAMBLE + textwrap.dedent(script)


def run(script: str, folder: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program(script), str(folder)]
    # python-escpos leaves a temporary folder at each import: it goes with the test's own.
    environment = os.environ | {"TMPDIR": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=check)


def test_a_line_has_time_level_process_phrase_and_fields_and_is_the_same_in_the_file_and_on_stdout(
    tmp_path: Path,
) -> None:
    done = run(
        """
        logs.configure("printer-kitchen-1", level="INFO", folder=folder, file_format="text", generation=3)
        log.info("printed", extra={"cause": "no paper", "ms": 48, "ticket": 12, "printer": ":10.0.0.5:9100"})
        log.debug("not at this level")
        """,
        tmp_path,
    )

    assert (tmp_path / "printer-kitchen-1.log").read_text() == done.stdout
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z INFO  printer-kitchen-1 printed "
        r'ticket=12 printer=:10\.0\.0\.5:9100 ms=48 cause="no paper" pid=\d+ gen=3\n',
        done.stdout,
    )


def test_times_are_utc_whatever_the_zone_of_the_host(tmp_path: Path) -> None:
    done = run(
        """
        import os, time
        os.environ["TZ"] = "Asia/Singapore"
        time.tzset()
        logs.configure("p", level="INFO", folder=None, file_format="text")
        record = logging.makeLogRecord({"msg": "noon", "created": 1770206400.5, "msecs": 500.0, "levelno": 20})
        logging.getLogger().handle(record)
        """,
        tmp_path,
    )

    assert done.stdout.startswith("2026-02-04 12:00:00.500Z ")


def test_json_lines_hold_the_same_fields(tmp_path: Path) -> None:
    done = run(
        """
        logs.configure("dispatcher", level="INFO", folder=folder, file_format="json", generation=1)
        log.warning("printer %s", "down", extra={"token": 7, "cause": "厨房 \\n offline", "level": "forged"})
        """,
        tmp_path,
    )

    line = json.loads(done.stdout)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line.pop("pid") > 0
    assert line == {
        "level": "WARNING",
        "proc": "dispatcher",
        "gen": 1,
        "event": "printer down",
        "token": 7,
        "cause": "厨房 \n offline",
    }
    assert (tmp_path / "dispatcher.log").read_text() == done.stdout


def test_text_from_outside_cannot_forge_a_line(tmp_path: Path) -> None:
    done = run(
        """
        logs.configure("p", level="INFO", folder=None, file_format="text")
        log.info("got %s", "a\\nb\\x1b[2J", extra={"cause": "x\\n2026-01-01 fake", "quote": 'say "hi" a=b'})
        """,
        tmp_path,
    )

    assert done.stdout.count("\n") == 1
    assert r"got a\nb\x1b[2J" in done.stdout
    assert r'cause="x\n2026-01-01 fake" quote="say \"hi\" a=b"' in done.stdout


SIGNS = "\x1b\x7f\x85\x9b\u200f\u202e\u2028\u2066\ufeff\U000e0041\ue000"
"""What a terminal obeys (ESC, C1), what ends a line, what turns words around, and what nobody sees."""


@pytest.mark.parametrize("file_format", ["text", "json"])
def test_no_line_holds_a_sign_that_is_not_printable(tmp_path: Path, file_format: str) -> None:
    done = run(
        f"""
        signs = {SIGNS!r}
        logs.configure("printer-" + signs, level="INFO", folder=folder, file_format={file_format!r})
        try:
            raise ValueError(signs)
        except ValueError:
            log.exception("phrase " + signs, extra={{"printer": "a" + signs + "b", "cause": signs + " spaced"}})
        """,
        tmp_path,
    )

    (file,) = tmp_path.glob("*.log")
    for written in (done.stdout, file.read_text()):
        assert [sign for line in written.split("\n") for sign in line if not sign.isprintable()] == []
        assert "\\u202e" in written
    if file_format == "json":
        line = json.loads(done.stdout)
        assert line["printer"] == f"a{SIGNS}b"  # nothing is lost for who reads it as JSON
        assert line["event"] == f"phrase {SIGNS}"


def test_a_phrase_whose_arguments_do_not_fit_is_logged_all_the_same(tmp_path: Path) -> None:
    done = run(
        """
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        log.info("printed %d", "twelve")
        assert handle.dropped == 0
        """,
        tmp_path,
    )

    assert "printed %d ('twelve',)" in done.stdout
    assert done.stderr == ""


def test_a_stdout_that_nobody_reads_never_blocks_the_work_and_the_drops_are_counted(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    script = """
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        for number in range(3000):
            log.info("line", extra={"number": number, "filler": "x" * 100})
        sys.stderr.write(str(handle.dropped))
        """
    try:
        done = subprocess.run(
            [sys.executable, "-c", program(script), str(tmp_path)],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
        os.close(writer)
        writer = -1
        with os.fdopen(reader, closefd=False) as pipe:
            arrived = pipe.read().splitlines()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)

    written = log_path(tmp_path, "p").read_text().splitlines()
    assert len(written) == 3000
    assert 0 < len(arrived) < 3000
    assert arrived == written[: len(arrived)]  # whole lines, none torn
    assert int(done.stderr) == 3000 - len(arrived)


def test_a_stdout_that_is_no_pipe_is_left_as_it_was(tmp_path: Path) -> None:
    script = """
        import os
        logs.configure("p", level="INFO", folder=None, file_format="text")
        sys.exit(0 if os.get_blocking(1) else 1)
        """
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", program(script), "."], stdout=out, timeout=60, check=True)


def test_a_closed_stdout_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    script = program(
        """
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        log.info("one")
        assert handle.dropped == 1, handle.dropped
        """
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" "$2" >&-', sys.executable, script, str(tmp_path)]
    subprocess.run(command, timeout=60, check=True)

    assert " one " in log_path(tmp_path, "p").read_text()


@pytest.mark.parametrize("file_format", ["text", "json"])
def test_a_huge_record_is_cut_on_stdout_and_whole_in_the_file(tmp_path: Path, file_format: str) -> None:
    done = run(
        f"""
        logs.configure("p", level="INFO", folder=folder, file_format={file_format!r})
        try:
            raise ValueError("bad bytes")
        except ValueError:
            log.exception("cannot print", extra={{"ticket": 12, "blob": "厨" * 3000}})
        log.info("next")
        """,
        tmp_path,
    )

    first, following = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert len(first.encode()) < STDOUT_LINE_BYTES
    assert "cannot print" in first
    assert "next" in following
    assert log_path(tmp_path, "p").read_text().count("厨") == 3000
    if file_format == "json":
        assert json.loads(first)["cut"] is True
        assert json.loads(first)["ticket"] == 12


def test_uncaught_exceptions_of_the_main_thread_and_of_others_reach_the_log(tmp_path: Path) -> None:
    done = run(
        """
        import threading
        logs.configure("p", level="INFO", folder=folder, file_format="text")
        def fall():
            raise KeyError("in a thread")
        thread = threading.Thread(target=fall, name="clerk")
        thread.start()
        thread.join()
        raise RuntimeError("in main")
        """,
        tmp_path,
        check=False,
    )

    assert done.returncode == 1
    written = log_path(tmp_path, "p").read_text()
    assert "uncaught exception in_thread=clerk error=\"KeyError: 'in a thread'\"" in written
    assert 'uncaught exception error="RuntimeError: in main"' in written
    assert "\n  Traceback (most recent call last):" in written


def test_escpos_finds_a_configured_root_logger_and_adds_nothing(tmp_path: Path) -> None:
    done = run(
        """
        logs.configure("p", level="WARNING", folder=folder, file_format="text")
        before = logging.getLogger().handlers[:]
        import escpos.printer
        assert logging.getLogger().handlers == before and len(before) == 2
        assert logging.getLogger().level == logging.WARNING
        """,
        tmp_path,
    )

    assert done.stderr == ""


def test_a_second_configure_replaces_the_first(tmp_path: Path) -> None:
    done = run(
        """
        logs.configure("one", level="INFO", folder=folder, file_format="text")
        handle = logs.configure("two", level="INFO", folder=folder, file_format="text")
        log.info("hello")
        handle.close()
        assert logging.getLogger().handlers == []
        """,
        tmp_path,
    )

    assert done.stdout.count("hello") == 1
    assert (tmp_path / "one.log").read_text() == ""


def test_a_folder_that_cannot_be_used_is_a_warning_and_no_stop(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run(
        """
        logs.configure("p", level="INFO", folder=folder / "file", file_format="text")
        log.info("work goes on")
        """,
        tmp_path,
    )

    assert "WARNING p log file cannot be opened" in done.stdout
    assert "work goes on" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_lines_of_the_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "p.log").symlink_to("/dev/full")

    done = run(
        """
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        log.info("one")
        log.info("two")
        handle.close()
        assert handle.dropped == 2, handle.dropped
        """,
        tmp_path,
    )

    assert " one " in done.stdout
    assert " two " in done.stdout
    assert done.stderr == ""


SMALL_FILES = """
logs.MAX_FILE_BYTES = 1000
logs.configure("p", level="INFO", folder=folder, file_format="text")
"""


def numbers(lines: list[str]) -> list[int]:
    return [int(found[1]) for line in lines if (found := re.search(r"number=(\d+)", line))]


def test_rotation_keeps_every_line_and_tail_reads_across_the_files(tmp_path: Path) -> None:
    done = run(SMALL_FILES + 'for n in range(50): log.info("line", extra={"number": n})', tmp_path)

    assert len(done.stdout.splitlines()) == 50
    path = log_path(tmp_path, "p")
    assert path.with_name("p.log.2").exists()
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())
    assert numbers(tail_lines(path, 1000)) == list(range(50))
    assert numbers(tail_lines(path, 30)) == list(range(20, 50))
    assert tail_lines(path, 0) == []


def test_a_file_that_cannot_be_rotated_is_written_on(tmp_path: Path) -> None:
    (tmp_path / "p.log.4").touch()
    (tmp_path / "p.log.5").mkdir()  # a folder cannot be replaced by the older file

    run(SMALL_FILES + 'for n in range(50): log.info("line", extra={"number": n})', tmp_path)

    assert numbers(log_path(tmp_path, "p").read_text().splitlines()) == list(range(50))


def test_after_reopen_lines_go_to_a_new_file_of_the_old_name(tmp_path: Path) -> None:
    run(
        """
        handle = logs.configure("p", level="INFO", folder=folder, file_format="text")
        log.info("before")
        (folder / "p.log").rename(folder / "moved")
        log.info("still the moved one")
        handle.reopen()
        log.info("after")
        """,
        tmp_path,
    )

    assert [line.split()[4] for line in (tmp_path / "moved").read_text().splitlines()] == ["before", "still"]
    assert [line.split()[4] for line in (tmp_path / "p.log").read_text().splitlines()] == ["after"]


def next_numbers(lines: Iterator[str], last: int) -> list[int]:
    seen: list[int] = []
    while not seen or seen[-1] != last:
        seen += numbers([next(lines)])
    return seen


def test_follow_delivers_every_line_once_through_rotations(tmp_path: Path) -> None:
    writer = SMALL_FILES + "\n".join(
        [
            "number = 0",
            "for order in sys.stdin:",
            "    for _ in range(int(order)):",
            "        log.info('line', extra={'number': number}); number += 1",
        ]
    )
    deadline = time.monotonic() + 60
    with subprocess.Popen(
        [sys.executable, "-c", program(writer), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        path = log_path(tmp_path, "p")
        lines = follow(path, lambda: time.monotonic() > deadline or process.poll() is not None, last=5, pause_s=0.01)
        # The log is not there when we begin to look; each order is about half a file, so files change in between.
        seen: list[int] = []
        for last in range(6, 70, 7):
            process.stdin.write("7\n")
            seen += next_numbers(lines, last)
        process.stdin.close()
        process.wait(30)
        assert list(lines) == []

    assert seen == list(range(70))
    assert path.with_name("p.log.3").exists()


def test_follow_begins_with_the_last_lines_and_goes_on_with_the_half_one(tmp_path: Path) -> None:
    path = tmp_path / "p.log"
    path.write_text("one\ntwo\nthr")
    lines = follow(path, lambda: False, last=1, pause_s=0.01)

    assert next(lines) == "two"
    with path.open("a") as more:
        more.write("ee\n")
    assert next(lines) == "three"
    path.write_text("4\n")  # emptied and begun anew, as copytruncate does
    assert next(lines) == "4"
    lines.close()


def test_follow_stops_when_told_even_without_a_file(tmp_path: Path) -> None:
    assert list(follow(tmp_path / "never", lambda: True)) == []


def test_tail_of_a_log_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tail_lines(tmp_path / "never", 10)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("printer-kitchen-1", "printer-kitchen-1"),
        ("厨房", "厨房"),
        ("Bar 1", r"Bar-1-[0-9a-f]{6}"),
        ("bar/1", r"bar-1-[0-9a-f]{6}"),
        ("../../etc/passwd", r"etc-passwd-[0-9a-f]{6}"),
        ("..", r"[0-9a-f]{6}"),
        ("", r"[0-9a-f]{6}"),
    ],
)
def test_names_become_file_names_that_people_recognise(name: str, safe: str) -> None:
    assert re.fullmatch(safe, slug(name))


@given(st.text(max_size=300))
def test_every_name_makes_a_safe_file_name(name: str) -> None:
    made = slug(name)

    assert made
    assert len(made.encode()) <= 100
    assert made[0] not in "-."
    assert not set(made) & set("/\\\0\n \"'*?")
    assert Path(made).name == made


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_names_never_share_a_file(one: str, other: str) -> None:
    assert (slug(one) == slug(other)) == (one == other)


def test_a_fatal_signal_leaves_the_stacks_in_the_process_own_file(tmp_path: Path) -> None:
    script = """
        import os, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        print(logs.enable_stack_dumps(folder, "printer-bar"), flush=True)
        def stuck_here():
            os.abort()
        stuck_here()
        """
    done = run(script, tmp_path, check=False)

    assert done.returncode < 0
    assert done.stdout.strip() == str(tmp_path / "printer-bar.stack")
    assert "stuck_here" in (tmp_path / "printer-bar.stack").read_text()
    assert done.stderr == ""


def test_without_a_folder_the_stacks_go_to_stderr_and_no_folder_is_made(tmp_path: Path) -> None:
    script = """
        import os, resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        assert logs.enable_stack_dumps(None, "p") is None
        assert logs.enable_stack_dumps(folder / "missing", "p") is None
        os.abort()
        """
    done = run(script, tmp_path, check=False)

    assert "Fatal Python error: Aborted" in done.stderr
    assert list(tmp_path.iterdir()) == []
