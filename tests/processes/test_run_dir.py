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

from kps.supervisor.run_dir import AlreadyRunning, Left, RunDir, RunDirUnusable, start_time, sweep
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
    first.take()
    assert first.left() == Left("", ())
    first.write("the-owner", [os.getpid()])
    assert json.loads((folder / "children.json").read_text()) == {
        "owner": "the-owner",
        "children": [[os.getpid(), start_time(os.getpid())]],
    }
    # As a kill -9 would: the lock goes, the file stays.
    assert first._lock_fd is not None
    os.close(first._lock_fd)
    second = RunDir(folder)
    second.take()
    assert second.left() == Left("the-owner", ((os.getpid(), start_time(os.getpid())),))
    second.leave()
    assert not folder.exists()


def test_two_supervisors_of_one_name_do_not_run_side_by_side(tmp_path: Path) -> None:
    first = RunDir(tmp_path / "run")
    first.take()
    second = RunDir(tmp_path / "run")
    with pytest.raises(AlreadyRunning, match="INSTANCE_NAME"):
        second.take()
    first.leave()
    second.take()
    assert second.left() == Left("", ())
    second.leave()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 1}', '{"owner": "x", "children": [[1]]}'])
def test_a_broken_children_file_counts_as_none(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "children.json").write_text(text)
    directory = RunDir(folder)
    directory.take()
    assert directory.left() == Left("", ())
    directory.leave()


def test_a_run_dir_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirUnusable, match="RUN_DIR"):
        RunDir(tmp_path / "file" / "run").take()


def somebodys_folder(place: Path) -> Path:
    """With a file of somebody's in the place where we keep temporary ones."""
    (place / "somebody" / "tmp").mkdir(parents=True)
    (place / "somebody" / "tmp" / "letter").write_text("dear")
    return place / "somebody"


def test_a_link_in_the_place_of_the_run_dir_is_refused_and_nothing_is_removed_behind_it(tmp_path: Path) -> None:
    target = somebodys_folder(tmp_path)
    (tmp_path / "run").symlink_to(target)
    directory = RunDir(tmp_path / "run")
    with pytest.raises(RunDirUnusable, match="symbolic link"):
        directory.take()
    directory.leave()
    assert sorted(path.name for path in target.rglob("*")) == ["letter", "tmp"]


def test_a_link_above_the_run_dir_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "var").symlink_to(tmp_path / "real")
    directory = RunDir(tmp_path / "var" / "kps")
    directory.take()
    assert (tmp_path / "real" / "kps" / "lock").exists()
    directory.leave()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_a_run_dir_that_others_can_write_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(RunDirUnusable, match=f"chmod go-w {folder}"):
        RunDir(folder).take()
    assert list(folder.iterdir()) == []


@pytest.mark.root
def test_a_run_dir_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(RunDirUnusable, match="another user"):
        RunDir(folder).take()


def test_links_inside_the_run_dir_lead_nowhere(tmp_path: Path) -> None:
    target = somebodys_folder(tmp_path)
    (target / "children.json").write_text('{"owner": "somebody", "children": [[1, 1]]}')
    folder = tmp_path / "run"
    folder.mkdir()
    for name, there in (("tmp", "tmp"), ("children.json", "children.json"), ("children.json.new", "tmp/letter")):
        (folder / name).symlink_to(target / there)
    directory = RunDir(folder)
    directory.take()
    assert directory.left() == Left("", ())
    directory.write("the-owner", [os.getpid()])
    assert not (folder / "tmp").is_symlink()
    directory.leave()
    assert (target / "tmp" / "letter").read_text() == "dear"
    assert "somebody" in (target / "children.json").read_text()


def test_a_run_dir_that_is_swapped_for_a_link_while_we_run_is_left_alone(tmp_path: Path) -> None:
    target = somebodys_folder(tmp_path)
    folder = tmp_path / "run"
    directory = RunDir(folder)
    directory.take()
    folder.rename(tmp_path / "moved")
    folder.symlink_to(target)
    directory.write("the-owner", [os.getpid()])
    directory.leave()
    assert sorted(path.name for path in target.rglob("*")) == ["letter", "tmp"]
