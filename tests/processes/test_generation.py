"""What a killed supervisor leaves behind is ended by its successor, and nothing else is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kps.supervisor.generation import AlreadyRunning, Left, RunDir, RunDirUnusable, start_time, sweep
from tests.conftest import eventually


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"],
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()


def left(process: subprocess.Popen[bytes]) -> Left:
    return Left("owner", ((process.pid, start_time(process.pid)),))


def test_an_orphan_that_does_not_end_by_itself_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    assert sweep(left(sleeper), grace_s=0.05)
    assert sleeper.wait(10) == -signal.SIGKILL


def test_a_stopped_orphan_is_killed_too(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    eventually(
        lambda: Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", what="stopped"
    )
    assert sweep(left(sleeper), grace_s=0.05)
    assert sleeper.wait(10) == -signal.SIGKILL


def test_an_orphan_that_ends_by_itself_within_the_grace_is_not_killed(sleeper: subprocess.Popen[bytes]) -> None:
    found = left(sleeper)
    sleeper.terminate()
    assert sweep(found, grace_s=10.0)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_process_that_got_the_pid_of_a_dead_child_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert sweep(Left("owner", ((sleeper.pid, start_time(sleeper.pid) - 1),)), grace_s=0.05)
    assert sleeper.poll() is None


def test_a_dead_pid_counts_as_gone(sleeper: subprocess.Popen[bytes]) -> None:
    found = left(sleeper)
    sleeper.kill()
    sleeper.wait(10)
    assert sweep(found, grace_s=0.05)


def test_the_next_generation_reads_what_the_last_one_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = RunDir(folder)
    assert first.take() == Left("", ())
    first.write("the-owner", [os.getpid()])
    assert json.loads((folder / "children.json").read_text()) == {
        "owner": "the-owner",
        "children": [[os.getpid(), start_time(os.getpid())]],
    }
    # As a kill -9 would: the lock goes, the file stays.
    assert first._lock_fd is not None
    os.close(first._lock_fd)
    second = RunDir(folder)
    assert second.take() == Left("the-owner", ((os.getpid(), start_time(os.getpid())),))
    second.leave()
    assert not folder.exists()


def test_two_supervisors_of_one_name_do_not_run_side_by_side(tmp_path: Path) -> None:
    first = RunDir(tmp_path / "run")
    first.take()
    second = RunDir(tmp_path / "run")
    with pytest.raises(AlreadyRunning, match="INSTANCE_NAME"):
        second.take()
    first.leave()
    assert second.take() == Left("", ())
    second.leave()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 1}', '{"owner": "x", "children": [[1]]}'])
def test_a_broken_children_file_counts_as_none(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "children.json").write_text(text)
    directory = RunDir(folder)
    assert directory.take() == Left("", ())
    directory.leave()


def test_a_run_dir_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirUnusable, match="RUN_DIR"):
        RunDir(tmp_path / "file" / "run").take()
