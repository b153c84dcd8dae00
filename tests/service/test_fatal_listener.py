"""supervisord's listener, which ends it when a program is given up, and wakes it when one has ended.

Its protocol over real pipes, and the shipped file.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

CONF = Path(__file__).parents[2] / "supervisord.conf"

# The listener sends TERM to its parent, so it needs one that is not the test runner.
PARENT = """
import sys
from subprocess import PIPE, Popen

with Popen([sys.executable, "-m", "kps.fatal_listener"], stdin=PIPE, stdout=PIPE) as listener:
    for event in sys.argv[1:]:
        assert listener.stdout.readline() == b"READY\\n"
        body = b"processname:kps groupname:kps from_state:BACKOFF"
        header = f"ver:3.0 server:supervisor serial:21 pool:fatal poolserial:10 eventname:{event} len:{len(body)}"
        listener.stdin.write(header.encode() + b"\\n" + body)
        listener.stdin.flush()
        assert listener.stdout.read(11) == b"RESULT 2\\nOK"
        print("acknowledged", event, flush=True)
    listener.stdin.close()
    assert listener.wait(20) == 0
print("still here", flush=True)
"""


def parent_of_listener(*events: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PARENT, *events]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_other_events_are_acknowledged_and_change_nothing() -> None:
    done = parent_of_listener("PROCESS_STATE_RUNNING", "TICK_5")

    assert done.stdout.splitlines() == ["acknowledged PROCESS_STATE_RUNNING", "acknowledged TICK_5", "still here"]
    assert done.returncode == 0


def test_a_program_that_is_given_up_ends_the_parent() -> None:
    done = parent_of_listener("PROCESS_STATE_RUNNING", "PROCESS_STATE_FATAL")

    assert done.returncode == -signal.SIGTERM
    assert "still here" not in done.stdout
    assert "kps cannot be kept running" in done.stderr


def test_supervisord_is_woken_when_a_program_that_ran_has_ended() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kps-run-") as run,
        socket.socket(socket.AF_UNIX) as supervisord,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as program,
    ):
        supervisord.bind(f"{run}/sock")
        supervisord.listen()
        supervisord.settimeout(20)
        listener = subprocess.Popen(
            [sys.executable, "-m", "kps.fatal_listener"],
            env=os.environ | {"SUPERVISOR_SERVER_URL": f"unix://{run}/sock"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with listener:
            assert listener.stdin is not None
            assert listener.stdout is not None
            assert listener.stdout.readline() == b"READY\n"
            body = f"processname:kps groupname:kps from_state:STARTING pid:{program.pid}".encode()
            listener.stdin.write(b"eventname:PROCESS_STATE_RUNNING len:%d\n%s" % (len(body), body))
            listener.stdin.flush()
            assert listener.stdout.read(11) == b"RESULT 2\nOK"
            program.kill()
            woken, _ = supervisord.accept()
            with woken:
                assert woken.recv(1) == b""
            listener.stdin.close()


def test_supervisord_with_the_shipped_file_ends_when_the_service_cannot_start(tmp_path: Path) -> None:
    text = CONF.read_text()
    assert "command=python -m kps.supervisor\n" in text
    assert "startretries=5\n" in text
    conf = tmp_path / "supervisord.conf"
    conf.write_text(
        text.replace("command=python -m kps.supervisor\n", "command=false\n")
        .replace("startretries=5\n", "startretries=0\n")
        .replace("command=python ", f"command={sys.executable} ")
    )

    # The path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="kps-run-") as run:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(conf)],
            env=os.environ | {"KPS_RUN_DIR": run, "PYTHONPATH": str(CONF.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert not Path(run, "supervisord.pid").exists()

    assert "kps entered FATAL state" in done.stdout
    assert "fatal: kps cannot be kept running" in done.stdout
    assert done.returncode == 0
