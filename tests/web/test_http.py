"""The HTTP answers, asked for over real sockets, and the server that gives them while clients misbehave."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from snapshots import BAR, DESSERT, KITCHEN, KITCHEN_WORKS

from kps.core.health import Snapshot
from kps.web.app import health_app, widget_app
from kps.web.server import CannotListen, HttpServer, Limits, PortTaken

DATABASE_AWAY = replace(KITCHEN_WORKS, database="no answer from edge_db:5432", database_ok=False)
PATIENCE_S = 20.0


@dataclass
class Answer:
    """What came back for one request."""

    code: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body; infinity and not-a-number are refused, as every other language refuses them."""
        return json.loads(self.body, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


class Client:
    """One request per connection to a server of ours."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server

    def get(self, path: str, method: str = "GET", timeout: float = 10, **headers: str) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=timeout)) as connection:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def half_open(self) -> socket.socket:
        """A connection that has begun a request and leaves it at that."""
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=10)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        return connection


@contextmanager
def serving(app: Any, limits: Limits | None = None) -> Iterator[Client]:
    server = HttpServer(app, "127.0.0.1", 0, "test", limits=limits)
    server.bind()
    server.start()
    try:
        yield Client(server)
    finally:
        server.stop()


@contextmanager
def health(snapshot: Snapshot, token: str = "") -> Iterator[Client]:
    with serving(health_app(lambda: snapshot, token=token)) as client:
        yield client


@contextmanager
def widget(snapshot: Snapshot) -> Iterator[Client]:
    with serving(widget_app(lambda: snapshot)) as client:
        yield client


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"


def answers(client: Client) -> bool:
    try:
        return client.get("/healthz", timeout=1).code == 200
    except OSError:
        return False


def closed(connections: list[socket.socket]) -> bool:
    """Whether the server has hung up on all of them; takes those that it has off the list."""
    readable, _, _ = select.select(connections, [], [], 0.05)
    for connection in readable:
        try:
            gone = connection.recv(4096) == b""
        except ConnectionError:
            gone = True
        if gone:
            connections.remove(connection)
    return not connections


def test_health_has_exactly_the_documented_keys_and_ours_after_them() -> None:
    with health(KITCHEN_WORKS) as client:
        answer = client.get("/health")

    assert answer.code == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    documented = dict(list(answer.json.items())[:8])
    assert documented == {
        "status": "healthy",
        "service": "Kitchen Printer Service",
        "version": "0.1.0",
        "uptime_seconds": 3600,
        "uptime_formatted": "1h 0m 0s",
        "database": "connected",
        "last_poll": "2026-02-04T14:30:00",
        "metrics": {
            "tickets_processed": 145,
            "tickets_failed": 2,
            "success_rate": 98.64,
            "pending_tickets": 3,
            "printed_today": 142,
            "failed_tickets": 2,
        },
    }
    assert {"processes", "printers", "reasons", "notices"} <= answer.json.keys()
    assert answer.json["notices"] == ["the wake-up trigger is absent"]


def test_health_is_503_only_when_nothing_can_print() -> None:
    with health(replace(KITCHEN_WORKS, printers=(KITCHEN, BAR))) as client:
        degraded = client.get("/health")
    with health(DATABASE_AWAY) as client:
        unhealthy = client.get("/health")

    assert (degraded.code, degraded.json["status"]) == (200, "degraded")
    assert degraded.json["reasons"] == ["printer 吧台: paper is out"]
    assert (unhealthy.code, unhealthy.json["status"]) == (503, "unhealthy")
    assert unhealthy.json["database"] == "no answer from edge_db:5432"


def test_before_the_first_look_the_times_are_null_and_the_json_is_still_json() -> None:
    blank = replace(KITCHEN_WORKS, last_poll=None, snapshot_age_s=float("inf"), loop_lag_s=float("nan"))
    with health(blank) as client:
        assert client.get("/health").json["last_poll"] is None
        status = client.get("/status").json

    assert status["database"]["snapshot_age_seconds"] is None
    assert status["supervisor"]["loop_lag_seconds"] is None


def test_healthz_asks_nothing_but_whether_the_main_loop_turns() -> None:
    with health(replace(DATABASE_AWAY, dispatcher_ok=False, tick_age_s=9.0)) as client:
        assert client.get("/healthz").code == 200
    with health(replace(KITCHEN_WORKS, tick_age_s=10.5)) as client:
        assert client.get("/healthz").code == 503


def test_readyz_is_503_while_draining_and_says_why() -> None:
    with health(KITCHEN_WORKS) as client:
        assert client.get("/readyz").code == 200
    with health(replace(KITCHEN_WORKS, draining=True)) as client:
        draining = client.get("/readyz")

    assert draining.code == 503
    assert draining.json == {"ready": False, "reasons": ["shutting down"]}


def test_ping_answers_as_documented() -> None:
    with health(DATABASE_AWAY) as client:
        assert client.get("/ping").json == {"status": "ok", "service": "kitchen_printer_service"}


def test_status_tells_of_every_process_printer_queue_and_counter() -> None:
    with health(replace(KITCHEN_WORKS, printers=(KITCHEN, BAR, DESSERT))) as client:
        status = client.get("/status").json

    kitchen = status["processes"][1]
    assert (kitchen["name"], kitchen["state"], kitchen["pid"], kitchen["generation"]) == ("Kitchen 1", "up", 101, 3)
    assert kitchen["restarts"] == 2
    assert kitchen["restarts_by_cause"] == {"exit": 1, "hung": 1}
    assert (kitchen["ticket"], kitchen["last_exit"]) == (12, "signal 9")
    assert [printer["is_online"] for printer in status["printers"]] == [True, False, None]
    assert status["queue"]["new"] == 3
    assert status["counters"]["claims"] == 150
    assert status["failovers"] == [{"from": "Kitchen 1", "to": "吧台", "count": 4}]


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/ping", "/metrics", "/status"])
def test_routes_that_only_read_answer_get_and_head_and_refuse_the_rest(path: str) -> None:
    with health(KITCHEN_WORKS) as client:
        assert client.get(path).code == 200
        head = client.get(path, "HEAD")
        assert (head.code, head.body) == (200, b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            refused = client.get(path, method)
            assert refused.code == 405
            assert "GET" in refused.headers["Allow"]


def test_an_unknown_path_is_404_and_names_no_server() -> None:
    with health(KITCHEN_WORKS) as client:
        answer = client.get("/healthz/x")

    assert answer.code == 404
    assert answer.json == {"error": "Not Found"}
    assert "Server" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/status"])
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic s3cret-\u00e4", "Bearer \u00ff"])
def test_with_a_token_metrics_and_status_are_closed_to_everybody_else(path: str, given: str) -> None:
    with health(KITCHEN_WORKS, token="s3cret-ä") as client:
        refused = client.get(path, Authorization=given)

    assert refused.code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert b"kps_" not in refused.body


@pytest.mark.parametrize("path", ["/metrics", "/status"])
def test_the_right_token_opens_metrics_and_status(path: str) -> None:
    with health(KITCHEN_WORKS, token="s3cret-ä") as client:
        as_bytes = "Bearer s3cret-ä".encode().decode("latin-1")
        assert client.get(path, Authorization=as_bytes).code == 200
        assert client.get(path, Authorization=as_bytes.replace("Bearer", "bearer")).code == 200


def test_probes_need_no_token() -> None:
    with health(KITCHEN_WORKS, token="s3cret") as client:
        assert [client.get(path).code for path in ("/health", "/healthz", "/readyz", "/ping")] == [200] * 4


def test_metrics_come_in_the_format_that_the_scraper_asks_for() -> None:
    with health(KITCHEN_WORKS) as client:
        plain = client.get("/metrics")
        openmetrics = client.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"kps_db_up 1.0" in plain.body
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")


def test_the_pos_screen_turns_green_while_the_service_can_work() -> None:
    with widget(replace(KITCHEN_WORKS, printers=(KITCHEN, BAR))) as client:
        answer = client.get("/health")

    assert answer.json == {
        "status": "ok",
        "agent_name": "shop-7",
        "uptime_seconds": 3600,
        "tickets_processed": 145,
    }


def test_the_pos_screen_does_not_turn_green_when_nothing_can_print() -> None:
    with widget(DATABASE_AWAY) as client:
        assert client.get("/health").json["status"] != "ok"


def test_the_pos_screen_gets_the_active_printers_as_it_reads_them() -> None:
    off = replace(KITCHEN, id=9, name="Off", active=False, able=None)
    with widget(replace(KITCHEN_WORKS, printers=(KITCHEN, BAR, DESSERT, off))) as client:
        answer = client.get("/api/printers/status").json

    assert answer["overall"] == "partial"
    assert answer["counts"] == {"total": 3, "online": 1, "offline": 1}
    assert datetime.fromisoformat(answer["timestamp"]).utcoffset() is not None
    assert answer["last_check"] == "2026-02-04T14:30:00+00:00"
    assert answer["printers"][1] == {
        "id": 2,
        "station_code": "bar",
        "printer_name": "吧台",
        "printer_ip": "10.0.0.6",
        "printer_port": 9100,
        "is_online": False,
        "response_time_ms": 4,
        "error_message": "paper is out",
        "checked_at": "2026-02-04T14:30:00+00:00",
    }
    assert [printer["is_online"] for printer in answer["printers"]] == [True, False, None]


@pytest.mark.parametrize(
    ("printers", "overall"),
    [((KITCHEN,), "online"), ((BAR,), "offline"), ((KITCHEN, DESSERT), "unknown"), ((), "unknown")],
)
def test_overall_never_calls_an_unknown_printer_good_or_bad(printers: tuple[Any, ...], overall: str) -> None:
    with widget(replace(KITCHEN_WORKS, printers=printers)) as client:
        answer = client.get("/api/printers/status").json

    assert answer["overall"] == overall
    assert answer["counts"]["total"] == len(printers)


@pytest.mark.parametrize("path", ["/health", "/api/printers/status"])
def test_pages_of_every_origin_may_ask_and_preflight_is_204(path: str) -> None:
    with widget(KITCHEN_WORKS) as client:
        asked = client.get(path, Origin="https://pos.example")
        preflight = client.get(
            path, "OPTIONS", Origin="https://pos.example", Access_Control_Request_Private_Network="true"
        )
        refused = client.get(path, "POST")

    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert (preflight.code, preflight.body) == (204, b"")
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "GET" in preflight.headers["Access-Control-Allow-Methods"]
    assert preflight.headers["Access-Control-Allow-Private-Network"] == "true"
    assert refused.code == 405


def test_a_taken_port_is_told_apart_from_an_address_that_is_not_ours() -> None:
    app = health_app(lambda: KITCHEN_WORKS)
    with health(KITCHEN_WORKS) as first:
        with pytest.raises(PortTaken, match=f"127.0.0.1:{first.server.port}"):
            HttpServer(app, "127.0.0.1", first.server.port).bind()
        with pytest.raises(CannotListen) as other:
            HttpServer(app, "192.0.2.1", 0).bind()

    assert not isinstance(other.value, PortTaken)


def test_a_stopped_server_has_left_its_port_and_may_be_started_again() -> None:
    with health(KITCHEN_WORKS) as client:
        server, port = client.server, client.server.port
        idle = client.half_open()
        with idle:
            server.stop()
            until(lambda: closed([idle]), "the idle client is hung up on")
        assert not server.alive
        server.sweep()

        again = HttpServer(health_app(lambda: KITCHEN_WORKS), "127.0.0.1", port)
        for _ in range(2):
            again.bind()
            again.start()
            assert Client(again).get("/ping").code == 200
            again.stop()


def test_stopping_ends_every_thread_of_the_server() -> None:
    before = set(threading.enumerate())
    with health(KITCHEN_WORKS) as client:
        client.get("/ping")
        assert set(threading.enumerate()) > before

    until(lambda: set(threading.enumerate()) <= before, "all threads of the server have ended")


SMALL = Limits(connections=20, idle_s=1, cleanup_s=1, request_s=1.0)


def test_half_open_requests_cost_no_thread_and_are_closed() -> None:
    with serving(health_app(lambda: KITCHEN_WORKS), SMALL) as client, ExitStack() as stack:
        waiting = [stack.enter_context(client.half_open()) for _ in range(10)]

        assert client.get("/healthz").code == 200
        until(lambda: closed(waiting), "the half-open connections are closed")


def test_after_a_flood_over_the_limit_the_probe_comes_back() -> None:
    with serving(health_app(lambda: KITCHEN_WORKS), SMALL) as client, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(client.half_open())

        def sweep_and_probe() -> bool:
            client.server.sweep()
            return answers(client)

        until(sweep_and_probe, "the probe is answered")


def test_clients_that_drip_bytes_are_swept_away_and_the_probe_comes_back() -> None:
    with serving(health_app(lambda: KITCHEN_WORKS), SMALL) as client, ExitStack() as stack:
        drippers = [stack.enter_context(client.half_open()) for _ in range(30)]
        probe = stack.enter_context(socket.create_connection(("127.0.0.1", client.server.port), timeout=10))
        probe.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")

        def drip_sweep_and_look() -> bool:
            closed(drippers)
            for dripper in drippers:
                with_one_byte_more(dripper)
            client.server.sweep()
            return bool(select.select([probe], [], [], 0.05)[0])

        until(drip_sweep_and_look, "the probe behind the drippers is answered")
        assert probe.recv(4096).startswith(b"HTTP/1.1 200")


def with_one_byte_more(dripper: socket.socket) -> None:
    try:
        dripper.send(b"x")
    except ConnectionError:  # the server has hung up
        pass


def test_an_answer_in_the_making_is_never_swept() -> None:
    asked, let_go = threading.Event(), threading.Event()

    def slow_app(_: Any, start_response: Any) -> list[bytes]:
        asked.set()
        let_go.wait(PATIENCE_S)
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    with serving(slow_app, Limits(request_s=0.0, idle_s=60)) as client, ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.server.port), timeout=10))
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert asked.wait(PATIENCE_S)
        idle = stack.enter_context(client.half_open())

        def sweep_and_look() -> bool:
            client.server.sweep()
            return closed([idle])

        until(sweep_and_look, "the idle neighbour is swept")
        let_go.set()

        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


def test_oversized_requests_are_refused() -> None:
    with health(KITCHEN_WORKS) as client:
        assert client.get("/health", X_Long="x" * 20_000).code == 431
        with closing(http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=10)) as connection:
            connection.putrequest("POST", "/health")
            connection.putheader("Content-Length", str(10 * 1024 * 1024))
            connection.endheaders()
            assert connection.getresponse().status == 413


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


MOST_MEMORY = 4 * 1024 * 1024
ENDLESS = {
    "a request line": (b"GET /", b"x" * 4096),
    "a header": (b"GET /health HTTP/1.1\r\nX-Long: ", b"x" * 4096),
    "headers": (b"GET /health HTTP/1.1\r\n", b"X-More: 1\r\n" * 400),
    "a body in chunks": (
        b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"800\r\n" + b"x" * 2048 + b"\r\n",
    ),
    "the size of a chunk": (b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"1" * 4096),
    "what follows a chunk's size": (b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 4096),
    "trailers": (b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-More: 1\r\n" * 400),
    "no request at all": (b"", bytes(range(256)) * 16),
}


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("head", "more"), ENDLESS.values(), ids=ENDLESS)
def test_a_request_without_end_is_refused_and_its_connection_closed(head: bytes, more: bytes) -> None:
    with health(KITCHEN_WORKS) as client:
        talker = socket.create_connection(("127.0.0.1", client.server.port), timeout=PATIENCE_S)
        with talker:
            sent = 0
            with contextlib.suppress(ConnectionError):
                talker.sendall(head)
                while sent < 64 * 1024 * 1024:
                    sent += talker.send(more)
        assert sent < 16 * 1024 * 1024, "the server hung up; some of it lay in the kernels"
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
        assert client.get("/healthz").code == 200


@pytest.mark.usefixtures("traced")
def test_who_asks_without_end_and_reads_no_answer_costs_little_and_keeps_nobody_else() -> None:
    question = b"GET /status HTTP/1.1\r\nHost: kps\r\n\r\n" * 100
    with health(KITCHEN_WORKS) as client:
        askers = [socket.create_connection(("127.0.0.1", client.server.port), timeout=10) for _ in range(8)]
        with ExitStack() as stack:
            for asker in askers:
                stack.enter_context(asker)
                asker.setblocking(False)
            until(lambda: not any(wants_more(asker, question) for asker in askers), "all of them are stuck")
            assert client.get("/healthz").code == 200
            assert tracemalloc.get_traced_memory()[1] < 8 * MOST_MEMORY


def wants_more(asker: socket.socket, question: bytes) -> bool:
    """Send what is taken; whether any of it was."""
    try:
        return asker.send(question) > 0
    except (BlockingIOError, ConnectionError):
        return False


@pytest.mark.parametrize("length", [0, 1, 64 * 1024 - 1])
def test_a_body_for_a_route_that_only_reads_is_refused_and_the_connection_goes_on(length: int) -> None:
    with (
        health(KITCHEN_WORKS) as client,
        closing(http.client.HTTPConnection("127.0.0.1", client.server.port, timeout=10)) as connection,
    ):
        for _ in range(3):
            connection.request("POST", "/health", body=b"x" * length)
            response = connection.getresponse()
            response.read()
            assert response.status == 405


def ask(question: str, port: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HEALTH_CHECK_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "kps.health", *question.split()]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_the_containers_probe_says_0_when_well_and_1_when_not() -> None:
    with health(DATABASE_AWAY) as client:
        live = ask("live", client.server.port)
        ready = ask("ready", client.server.port)
    gone = ask("live", client.server.port)

    assert (live.returncode, live.stdout) == (0, "ok\n")
    assert ready.returncode == 1
    assert "no answer from edge_db" in ready.stdout
    assert gone.returncode == 1
    assert "no answer" in gone.stdout


def test_the_containers_probe_uses_no_exit_code_that_docker_reserves() -> None:
    assert ask("", 1).returncode == 1
    assert ask("alive", 1).returncode == 1


SECRETS = ("edge_db", "5432", "kps_user", "fnb_edge", "10.0.0.", "9100", "core_user")
NOTHING_WORKS = replace(
    KITCHEN_WORKS,
    database='no answer from edge_db:5432 (user "kps_user", database "fnb_edge")',
    database_ok=False,
    printers=(
        replace(KITCHEN, able=False, state="down", reason="10.0.0.5:9100 refuses connections"),
        replace(BAR, usable=False, reason="its port 9100 does not exist"),
        replace(DESSERT, active=False, able=False, queued=0, reason="switched off in the POS"),
    ),
    notices=("wake-up trigger is absent: permission denied for table core_user",),
)


@pytest.mark.parametrize("path", ["/health", "/readyz", "/healthz", "/ping", "/metrics", "/status"])
@pytest.mark.parametrize("given", ["", "Bearer wrong"])
def test_without_the_token_no_answer_names_a_host_a_user_or_an_address(path: str, given: str) -> None:
    with health(NOTHING_WORKS, token="s3cret") as client:
        answer = client.get(path, Authorization=given)

    assert [secret for secret in SECRETS if secret in answer.body.decode()] == []


def test_without_the_token_health_keeps_its_keys_its_status_and_says_in_general_words_what_is_wrong() -> None:
    with health(NOTHING_WORKS, token="s3cret") as client:
        closed, opened = client.get("/health"), client.get("/health", Authorization="Bearer s3cret")
        ready = client.get("/readyz")
    with health(NOTHING_WORKS) as client:
        without = client.get("/health")

    assert closed.code == opened.code == without.code == 503
    assert closed.json.keys() == opened.json.keys()
    assert closed.json["status"] == "unhealthy"
    assert closed.json["database"] == "unavailable"
    assert closed.json["reasons"] == [
        "database: unavailable",
        "printer Kitchen 1: down",
        "station bar has no printer that can be reached: 吧台: its row cannot be used",
    ]
    assert closed.json["notices"] == ["shown to those with HTTP_TOKEN only: 1"]
    assert [(row["ip"], row["port"]) for row in closed.json["printers"]] == [(None, None)] * 3
    assert closed.json["printers"][0].keys() == opened.json["printers"][0].keys()
    assert ready.json["reasons"][0] == "database: unavailable"
    assert opened.body == without.body
    assert opened.json["database"] == NOTHING_WORKS.database
    assert opened.json["printers"][0]["ip"] == "10.0.0.5"


def test_with_a_token_a_database_that_answers_is_still_connected() -> None:
    with health(KITCHEN_WORKS, token="s3cret") as client:
        answer = client.get("/health").json

    assert (answer["status"], answer["database"]) == ("healthy", "connected")


def test_at_a_full_door_the_longest_idle_connection_goes_and_everybody_who_asks_is_answered() -> None:
    few = Limits(connections=5, request_s=60.0, idle_s=60)
    with serving(health_app(lambda: KITCHEN_WORKS), few) as client, ExitStack() as stack:

        def crowd(count: int) -> list[socket.socket]:
            return [stack.enter_context(client.half_open()) for _ in range(count)]

        first = crowd(40)
        assert client.get("/healthz", timeout=PATIENCE_S).code == 200
        until(lambda: closed(first) or len(first) <= 5, "all but the last few have gone")
        client.server.connections = 30
        more = crowd(20)
        assert client.get("/healthz", timeout=PATIENCE_S).code == 200
        closed(more)
        assert len(more) == 20, "there is room for them now"
        everybody = first + more
        until(lambda: client.server.shed() or closed(everybody), "all idle ones have gone when they must")
        assert client.get("/healthz").code == 200


def test_a_door_without_a_descriptor_opens_again_by_itself() -> None:
    """In a process of its own: whoever waits costs no processor time, and is answered when there is a descriptor."""
    script = (
        "import os, resource, sys, time\n"
        "from snapshots import KITCHEN_WORKS\n"
        "from kps.web.app import health_app\n"
        "from kps.web.server import HttpServer\n"
        "server = HttpServer(health_app(lambda: KITCHEN_WORKS), '127.0.0.1', 0)\n"
        "server.bind(); server.start()\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "print(server.port, flush=True)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))\n"
        "print('full', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(time.process_time(), flush=True)\n"
        "sys.stdin.readline()\n"
        "print(time.process_time(), flush=True)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
        "sys.stdin.readline()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
        ExitStack() as stack,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        stack.callback(process.kill)
        port = int(process.stdout.readline())
        assert process.stdout.readline() == "full\n"
        waiting = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        stack.callback(waiting.close)
        waiting.request("GET", "/healthz")
        spent = []
        for _ in range(2):
            process.stdin.write("\n")
            process.stdin.flush()
            spent.append(float(process.stdout.readline()))
            assert not select.select([waiting.sock], [], [], 2.0)[0] or len(spent) == 2
        assert spent[1] - spent[0] < 1.0, "of two seconds"
        assert waiting.getresponse().status == 200
        process.stdin.close()
