"""A start that cannot succeed ends with 78 and a sentence for each fault."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.conftest import Database, eventually
from tests.service.harness import Service


def test_every_bad_setting_is_named_in_a_sentence_of_its_own(pos_database: Database, tmp_path: Path) -> None:
    service = Service(
        pos_database, tmp_path, DB_PORT=0, POLL_INTERVAL="soon", PRINTER_DOWN_POLICY="pray", DB_PASSWORD="S3cret"
    )
    try:
        assert service.start().wait_exit() == 78
        lines = service.text().splitlines()
        assert [line.split(":")[1].strip() for line in lines] == ["DB_PORT", "POLL_INTERVAL", "PRINTER_DOWN_POLICY"]
        assert all(line.startswith("kps: ") for line in lines)
        assert "S3cret" not in service.text()
        eventually(lambda: not service.family(), what="every process has ended")
    finally:
        service.end()


def test_a_health_port_that_stays_taken_ends_the_start_with_one_sentence(
    pos_database: Database, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        service = Service(pos_database, tmp_path, HEALTH_CHECK_PORT=port)
        try:
            assert service.start().wait_exit() == 78
            (line,) = [line for line in service.text().splitlines() if "cannot start" in line]
            assert str(port) in line
            eventually(lambda: not service.family(), what="every process has ended")
        finally:
            service.end()


def test_a_taken_widget_port_is_a_warning_and_no_stop(pos_database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        service = Service(pos_database, tmp_path, POS_WIDGET_PORT=holder.getsockname()[1])
        try:
            service.start().wait_said("port taken")
            service.wait_ready(0)
            assert service.stop() == 0
        finally:
            service.end()


def test_term_before_anything_works_ends_with_0(pos_database: Database, tmp_path: Path) -> None:
    service = Service(pos_database, tmp_path, DB_PORT=1)
    try:
        service.start().wait_unhealthy("refuses connections")
        assert service.stop() == 0
        eventually(lambda: not service.family(), what="every process has ended")
    finally:
        service.end()


def test_a_run_dir_that_is_a_link_ends_the_start_with_one_sentence_and_kps_check_says_so(
    pos_database: Database, tmp_path: Path
) -> None:
    letter = tmp_path / "somebody" / "tmp" / "letter"
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    (tmp_path / "link").symlink_to(tmp_path / "somebody")
    service = Service(pos_database, tmp_path, RUN_DIR=tmp_path / "link")
    try:
        assert service.start().wait_exit() == 78
        (line,) = [line for line in service.text().splitlines() if "cannot start" in line]
        assert "is a symbolic link" in line
    finally:
        service.end()
    assert letter.read_text() == "dear"
    checked = subprocess.run(
        [sys.executable, "-m", "kps.cli", "check"], env=service.env, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode != 0
    assert f"RUN_DIR {tmp_path / 'link'} is a symbolic link" in " ".join(checked.stdout.split())
