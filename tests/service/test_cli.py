"""The `kps` command as people call it: check, logs, schema, virtual-printer, demo-pos."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import parse_dsn

from kps.cli.schema import script
from kps.database.migrations import available, step_sql
from kps.demo.orders import PosWriter
from kps.demo.till import BadPrinter, Named, parse_printer, printer_seeds
from kps.demo.virtual_printer import VirtualPrinter
from kps.paper import fonts
from tests.conftest import Database, eventually
from tests.service.harness import Service, environment, free_port, shop


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and its words."""

    code: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        return [line.removeprefix("problem").strip() for line in self.out.splitlines() if line.startswith("problem")]


def kps(*arguments: str, env: dict[str, str] | None = None) -> Said:
    result = subprocess.run(
        [sys.executable, "-m", "kps.cli", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stderr
    return Said(result.returncode, result.stdout, result.stderr)


@contextmanager
def running(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on until it is told to stop; its words are in `folder/output`."""
    with (folder / "output").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kps.cli", *arguments], env=env, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def ended(process: subprocess.Popen[bytes], number: int) -> int:
    process.send_signal(number)
    return process.wait(20)


# check


def test_check_finds_a_good_host_good_and_changes_nothing(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with VirtualPrinter(name="kitchen-1") as printer:
        pos.add_printer(printer.host, printer.port, "kitchen", 1, "kitchen-1")
        said = kps("check", env=environment(pos_database, tmp_path, POS_WIDGET_PORT=free_port()))
    assert (said.code, said.problems) == (0, [])
    assert re.search(r"^ok +adapter for the POS: newer tables$", said.out, re.MULTILINE)
    assert "newer POS schema" in said.out
    assert "schema kps: not there yet" in said.out
    assert "printer kitchen-1 (kitchen)" in said.out
    assert re.search(r"^ok +limits: ulimit -n \d+, and 1 printer needs 82$", said.out, re.MULTILINE)
    assert not pos.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'kps'")
    assert printer.papers == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"DB_PASSWORD": "wrong"}, "wrong password"),
        ({"DB_NAME": "no_such_database"}, "no_such_database does not exist"),
        ({"DB_PORT": "1"}, "refuses connections"),
        ({"DB_HOST": "nowhere.invalid"}, "cannot be resolved"),
    ],
)
def test_check_says_why_the_database_cannot_be_used(
    pos_database: Database, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    said = kps("check", env=environment(pos_database, tmp_path, **change))
    assert said.code == 1
    (problem,) = said.problems
    assert words in problem


def test_check_and_health_name_the_writings_that_no_font_here_draws(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    """With a package of fonts taken out: an empty one of its name stands before it."""
    if not {"Chinese", "Japanese", "Korean"} <= {*fonts.Fonts(tuple(fonts._files(fonts._SYSTEM))).lacking()}:
        pytest.skip(
            "the system's fonts would stand in for those of the installation (remove fonts-noto-cjk, fonts-wqy-*)"
        )
    (tmp_path / "noto_cjk_sans_otc").mkdir()
    (tmp_path / "noto_cjk_sans_otc" / "__init__.py").touch()
    sentence = "draws Chinese, Japanese, Korean: it comes out as [U+XXXX]"
    said = kps("check", env=environment(pos_database, tmp_path, POS_WIDGET_PORT=free_port(), PYTHONPATH=tmp_path))
    assert sum(sentence in problem for problem in said.problems) == 1
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, PYTHONPATH=tmp_path) as here:
        here.printed(pos.ticket("kitchen", [("宫保鸡丁", 1)]))
        assert "[U+5BAB]" in here.printers["kitchen-1"].papers[0].text
        assert [sentence in notice for notice in here.service.health()["notices"]] == [True]


def test_check_names_the_missing_tables(pos_database: Database, tmp_path: Path) -> None:
    said = kps("check", env=environment(replace(pos_database, name="postgres"), tmp_path))
    assert said.code == 1
    (problem,) = said.problems
    assert "tables of the POS are missing: kitchen_kitchenticket" in problem


def test_check_names_the_missing_rights(pos_database: Database, tmp_path: Path) -> None:
    role = f"kps_test_{uuid.uuid4().hex[:12]}"
    cursor = pos_database.connect().cursor()
    cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
    try:
        env = environment(replace(pos_database, user=role, password="secret"), tmp_path)
        said = kps("check", env=env)
        assert said.code == 1
        assert "rights are missing: SELECT on kitchen_kitchenticket" in said.problems[0]
        cursor.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role)))
        cursor.execute(
            sql.SQL("REVOKE TRIGGER ON kitchen_kitchenticket FROM {}").format(sql.Identifier(role)),
        )
        said = kps("check", env=env)
        assert f"user {role} lacks CREATE on database {pos_database.name}" in said.out
        assert f"user {role} lacks TRIGGER on kitchen_kitchenticket" in said.out
    finally:
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(role)))


def test_check_tells_every_bad_setting_and_exits_78() -> None:
    said = kps("check", env={**os.environ, "HEALTH_CHECK_PORT": "x", "POLL_INTERVAL": "-1"})
    assert said.code == 78
    assert [problem.split(":")[1].strip() for problem in said.problems] == ["HEALTH_CHECK_PORT", "POLL_INTERVAL"]


def test_check_tells_what_each_printer_lacks(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    with VirtualPrinter(name="empty") as printer:
        printer.paper_out()
        pos.add_printer(printer.host, printer.port, "kitchen", 1, "empty")
        pos.add_printer("127.0.0.1", free_port(), "kitchen", 2, "off")
        pos.add_printer("printer.invalid", 9100, "bar", 1, "nameless")
        pos.add_printer("127.0.0.1", 9100, "bar", 2, "windows", printer_type="win32")
        pos.add_printer("127.0.0.1", 9100, "bar", 3, "asleep", is_active=False)
        said = kps("check", env=environment(pos_database, tmp_path))
    assert said.code == 1
    told = {problem.split()[1]: problem for problem in said.problems}
    assert set(told) == {"empty", "off", "nameless", "windows"}
    assert "paper out" in told["empty"]
    assert "busy or unreachable" in told["off"]
    assert "cannot be resolved" in told["nameless"]
    assert "win32" in told["windows"]
    assert "asleep (bar): switched off" in said.out


def test_check_survives_a_program_on_our_port_that_speaks_no_http(pos_database: Database, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            peer, _ = other.accept()
            with peer:
                peer.sendall(b"SSH-2.0-other\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        port = other.getsockname()[1]
        said = kps("check", env=environment(pos_database, tmp_path, HEALTH_CHECK_PORT=port))
        greeter.join(10)
    assert said.code == 1
    assert any("HEALTH_CHECK_PORT" in problem for problem in said.problems)
    assert "Traceback" not in said.out + said.err


def test_check_tells_a_port_that_another_program_has(pos_database: Database, tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        said = kps("check", env=environment(pos_database, tmp_path, HEALTH_CHECK_PORT=port))
    assert f"HEALTH_CHECK_PORT {port}: cannot listen" in said.out
    assert said.code == 1


def test_check_does_not_disturb_a_running_instance(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    stations = {"kitchen-1": ("kitchen", 1)}
    with shop(pos, pos_database, tmp_path, stations, POS_WIDGET_PORT=free_port()) as here:
        connections = here.printers["kitchen-1"].connections_open
        said = kps("check", env=here.service.env)
        assert (said.code, said.problems) == (0, [])
        assert "held by the running instance kps, ready" in said.out
        assert said.out.count("served by a running KPS") == 2
        assert f"schema kps: version {available()[-1][0]}, up to date" in said.out
        assert here.printers["kitchen-1"].connections_open == connections
        here.printed(pos.ticket())


# schema


def test_the_printed_schema_is_all_that_a_site_without_auto_migrate_needs(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    env = environment(pos_database, tmp_path, AUTO_MIGRATE="off")
    assert "run what `kps schema` prints" in kps("check", env=env).out
    said = kps("schema")
    assert said.code == 0
    pos_database.connect().cursor().execute(said.out)
    checked = kps("check", env=env)
    assert f"schema kps: version {available()[-1][0]}, up to date" in checked.out
    assert "wake-up trigger: present" in checked.out
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, AUTO_MIGRATE="off") as here:
        here.printed(pos.ticket())


def test_a_service_that_may_not_migrate_says_what_to_run_from_where_it_stands(
    pos_database: Database, tmp_path: Path
) -> None:
    number, _, text = available()[0]
    pos_database.connect().cursor().execute(step_sql(number, text))
    checked = kps("check", env=environment(pos_database, tmp_path, AUTO_MIGRATE="off"))
    advice = f"`kps schema --after {number}` prints, then block C of the README again"
    assert any(advice in problem for problem in checked.problems)
    service = Service(pos_database, tmp_path, AUTO_MIGRATE="off").start()
    try:
        service.wait_unhealthy(advice)
        pos_database.connect().cursor().execute(kps("schema", "--after", str(number)).out)
        eventually(lambda: "AUTO_MIGRATE" not in service.get("/health").body, what="the service goes on")
    finally:
        service.end()


def test_check_names_a_sequence_without_rights(pos_database: Database, tmp_path: Path) -> None:
    role = sql.Identifier(f"kps_test_{uuid.uuid4().hex[:12]}")
    cursor = pos_database.connect().cursor()
    cursor.execute(script())
    cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(role))
    try:
        for schema in ("public", "kps"):
            cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {0} TO {1}").format(sql.Identifier(schema), role))
            cursor.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA {0} TO {1}").format(sql.Identifier(schema), role))
        cursor.execute(sql.SQL("GRANT USAGE ON SEQUENCE kps.token_seq TO {}").format(role))
        said = kps("check", env=environment(replace(pos_database, user=role.string, password="secret"), tmp_path))
        assert said.code == 1
        assert "rights are missing: USAGE on kps.process_id_seq" in "".join(said.problems)
        assert "token_seq" not in said.out
    finally:
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def test_nothing_is_printed_after_the_last_migration() -> None:
    newest = available()[-1][0]
    assert "CREATE" not in script(newest)
    assert f"VALUES ({newest})" in script(newest - 1)


# logs


@pytest.fixture
def log_env(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "supervisor.log").write_text("".join(f"line {number}\n" for number in range(100)))
    (folder / "printer-kitchen-1.log").write_text("hello\n")
    (folder / "supervisor.stack").write_text("")
    return {**os.environ, "LOG_DIR": str(folder)}


def test_logs_without_a_name_lists_them(log_env: dict[str, str]) -> None:
    said = kps("logs", env=log_env)
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["kitchen-1", "supervisor"]


def test_logs_shows_the_last_lines(log_env: dict[str, str]) -> None:
    assert kps("logs", "-n", "2", "supervisor", env=log_env).out == "line 98\nline 99\n"
    assert kps("logs", "kitchen-1", env=log_env).out == "hello\n"


def test_an_unknown_log_is_answered_with_those_there_are(log_env: dict[str, str]) -> None:
    said = kps("logs", "bar-9", env=log_env)
    assert said.code == 1
    assert said.err.strip().endswith("there are: kitchen-1, supervisor")
    assert len(said.err.splitlines()) == 1


def test_a_missing_log_folder_is_one_sentence(tmp_path: Path) -> None:
    said = kps("logs", env={**os.environ, "LOG_DIR": str(tmp_path / "none")})
    assert said.code == 1
    assert "cannot be read" in said.err
    assert kps("logs", env={**os.environ, "LOG_DIR": ""}).code == 1


def test_a_followed_log_shows_new_lines_until_ctrl_c(log_env: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "output"
    with running(tmp_path, "logs", "-f", "-n", "1", "kitchen-1", env=log_env) as process:
        eventually(lambda: output.read_text() == "hello\n", 20, "the last line")
        with (tmp_path / "logs" / "printer-kitchen-1.log").open("a") as log:
            log.write("news\n")
        eventually(lambda: output.read_text() == "hello\nnews\n", 20, "the new line")
        assert ended(process, signal.SIGINT) == 0
    assert output.read_text() == "hello\nnews\n"


# virtual-printer


def test_a_virtual_printer_prints_to_its_output(tmp_path: Path) -> None:
    port, output = free_port(), tmp_path / "output"
    with running(tmp_path, "virtual-printer", "--port", str(port), "--host", "127.0.0.1") as process:
        eventually(lambda: "listening" in output.read_text(), 20, "the printer")
        with closing(socket.create_connection(("127.0.0.1", port), 5)) as host:
            host.sendall(b"\x1b@Nasi Goreng\n\x1dV\x00")
            eventually(lambda: "Nasi Goreng" in output.read_text(), 20, "the paper")
        assert ended(process, signal.SIGTERM) == 0


# demo-pos


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[Database]:
    name = f"kps_test_{uuid.uuid4().hex[:12]}"
    server = parse_dsn(postgres_server)
    with closing(psycopg2.connect(postgres_server)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made = Database(name, server["host"], int(server["port"]), server["user"], server.get("password", ""))
        try:
            yield made
        finally:
            made.close()
            cursor.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_a_demo_pos_makes_its_tables_and_orders_until_it_is_stopped(empty_database: Database, tmp_path: Path) -> None:
    env = environment(empty_database, tmp_path)
    command = ["demo-pos", "--printer", "kitchen=10.0.0.1:9100", "--printer", "bar=bar.invalid:9100", "--rate", "6000"]
    output = tmp_path / "output"
    for _ in range(2):  # the second start finds everything there
        with running(tmp_path, *command, env=env) as process:
            eventually(lambda: output.read_text().count("ordered") >= 3, 30, "three orders")
            assert ended(process, signal.SIGTERM) == 0
    with PosWriter(empty_database.dsn) as pos:
        rows = pos.rows("SELECT station_code, printer_ip FROM kitchen_stationprinter ORDER BY id")
        assert {row["station_code"]: row["printer_ip"] for row in rows} == {
            "kitchen": "10.0.0.1",
            "bar": "bar.invalid",
            "dessert": "10.0.0.1",
            "checker": "10.0.0.1",
        }
        assert len(rows) == 4
        assert len(pos.rows("SELECT 1 FROM kitchen_kitchenticket WHERE status = 'new'")) >= 6


def test_a_demo_pos_refuses_the_database_of_a_real_pos(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    pos.execute("UPDATE core_company SET code = 'REAL'")
    said = kps("demo-pos", "--printer", "kitchen=10.0.0.1:9100", env=environment(pos_database, tmp_path))
    assert said.code == 1
    assert "belongs to a real POS" in said.err
    assert not pos.rows("SELECT 1 FROM kitchen_kitchenticket")
    assert not pos.rows("SELECT 1 FROM kitchen_stationprinter")


def test_a_printer_is_written_as_name_station_and_address() -> None:
    assert parse_printer("kitchen=printer:9100") == Named("kitchen", "kitchen", "printer", 9100)
    assert parse_printer("k2=Kitchen@10.0.0.5:9101") == Named("k2", "kitchen", "10.0.0.5", 9101)
    assert parse_printer("bar=[::1]:9100") == Named("bar", "bar", "::1", 9100)


@pytest.mark.parametrize("text", ["", "kitchen", "kitchen=", "kitchen=host", "=host:9100", "k=host:0", "k=@host:1"])
def test_what_is_no_printer_is_refused(text: str) -> None:
    with pytest.raises(BadPrinter, match="NAME=HOST:PORT"):
        parse_printer(text)


def test_the_second_printer_of_a_station_is_the_backup_of_the_first() -> None:
    seeds = printer_seeds([parse_printer("a=kitchen@h:1"), parse_printer("b=kitchen@h:2")])
    assert [(seed.name, seed.priority) for seed in seeds if seed.station == "kitchen"] == [("a", 1), ("b", 2)]


# Mistakes


@pytest.mark.parametrize("arguments", [["nonsense"], ["demo", "--seconds", "many"], ["demo-pos"], ["logs", "a", "b"]])
def test_a_mistake_on_the_command_line_is_a_sentence(arguments: list[str]) -> None:
    said = kps(*arguments)
    assert said.code == 2
    assert "Error: " in said.err


def test_version_is_printed() -> None:
    said = kps("version")
    assert said.code == 0
    assert said.out.startswith("kps ")


def test_no_name_of_the_pos_commands_the_terminal(pos: PosWriter, pos_database: Database, tmp_path: Path) -> None:
    pos.add_printer("10.99.0.1", 9100, "bar", 1, "bar\x1b[2J\u202e", timeout_seconds=1)
    env = environment(pos_database, tmp_path)

    for command in (("printers", "list"), ("check",)):
        said = kps(*command, env=env)
        assert r"bar\x1b[2J\u202e" in said.out
        assert [sign for sign in said.out + said.err if not (sign.isprintable() or sign == "\n")] == []
