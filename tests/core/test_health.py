"""What /health says of a snapshot."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kps.core.health import (
    ChildView,
    HealthStatus,
    PrinterView,
    QueueView,
    Snapshot,
    Verdict,
    alive,
    ready,
    success_rate,
    uptime_formatted,
    verdict,
)

KITCHEN = PrinterView(
    id=1,
    name="Kitchen 1",
    station="kitchen",
    brand_id="b1",
    ip="10.0.0.5",
    port=9100,
    priority=1,
    active=True,
    usable=True,
    reason="",
    key=":10.0.0.5:9100",
    owner="kps",
    mine=True,
    state="ready",
    able=True,
    state_since=None,
    proof="process_id",
    paper="ok",
    cover="closed",
    cutter="ok",
    response_ms=4,
    checked_at=None,
    queued=0,
)
BAR = replace(KITCHEN, id=2, name="Bar", station="bar", ip="10.0.0.6", key=":10.0.0.6:9100")
WIN32 = replace(KITCHEN, id=3, name="Office", ip="", usable=False, able=None, reason="win32 printers need Windows")
CHILD = ChildView(
    name="Kitchen 1",
    kind="printer",
    pid=10,
    generation=1,
    state="up",
    heartbeat_age_s=0.1,
    started_at=None,
    ticket=None,
    last_exit="",
)
TEMPLATE = replace(CHILD, name="template", kind="template", pid=None, state="dead", refusal="no memory left")
WELL = Snapshot(
    version="1.0",
    instance="kps",
    uptime_s=3600,
    tick_age_s=0.1,
    draining=False,
    database="connected",
    database_ok=True,
    snapshot_age_s=1.0,
    last_poll=None,
    dispatcher_ok=True,
    dispatcher_crash_loop=False,
    children=(CHILD,),
    printers=(KITCHEN, BAR),
    queue=QueueView(),
    tickets_processed=0,
)


def test_a_service_that_prints_everywhere_is_healthy_and_says_nothing() -> None:
    assert verdict(WELL) == Verdict(HealthStatus.HEALTHY, ())
    assert verdict(replace(WELL, template=replace(TEMPLATE, refusal=""))) == verdict(WELL), "it is made at once"
    assert ready(WELL) == (True, ())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"database_ok": False, "database": "table kitchen_kitchenticket is missing"}, "kitchen_kitchenticket"),
        ({"snapshot_age_s": 30.0}, "has not been read"),
        ({"snapshot_age_s": math.inf}, "has not been read"),
        ({"dispatcher_ok": False}, "dispatcher is not running"),
        ({"tick_age_s": 12.0}, "stuck for 12 s"),
    ],
)
def test_a_service_that_cannot_print_at_all_is_unhealthy_and_not_ready(
    change: dict[str, object], sentence: str
) -> None:
    snapshot = replace(WELL, **change)  # type: ignore[arg-type]

    judged = verdict(snapshot)

    assert judged.status is HealthStatus.UNHEALTHY
    assert [reason for reason in judged.reasons if sentence in reason]
    able, why_not = ready(snapshot)
    assert not able
    assert [reason for reason in why_not if sentence in reason]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"printers": (KITCHEN, replace(BAR, able=False, reason="paper is out"))}, "printer Bar: paper is out"),
        ({"printers": (KITCHEN, replace(BAR, able=False, state="down"))}, "printer Bar: down"),
        ({"dispatcher_crash_loop": True}, "the dispatcher keeps crashing"),
        ({"children": (replace(CHILD, state="crash_loop"),)}, "the process of printer Kitchen 1 keeps crashing"),
        ({"config_reload_ok": False}, "could not be read again"),
        ({"printers": (KITCHEN, replace(BAR, active=False, queued=3))}, "wait for printer Bar, which is not active: 3"),
        ({"printers": (KITCHEN, replace(WIN32, station="bar"))}, "station bar has no printer that can be reached"),
        ({"draining": True}, "shutting down"),
        ({"template": TEMPLATE}, "the template process cannot be started, so no other can: no memory left"),
    ],
)
def test_what_needs_a_person_degrades_but_does_not_fail(change: dict[str, object], sentence: str) -> None:
    judged = verdict(replace(WELL, **change))  # type: ignore[arg-type]

    assert judged.status is HealthStatus.DEGRADED
    assert len(judged.reasons) == 1
    assert sentence in judged.reasons[0]


@pytest.mark.parametrize(
    "printers",
    [
        (KITCHEN, replace(BAR, able=None)),
        (KITCHEN, replace(BAR, active=False, able=False)),
        (KITCHEN, replace(WIN32, station=" KITCHEN ")),
    ],
    ids=["not known yet", "switched off on purpose", "win32 row beside a reachable one"],
)
def test_a_printer_that_is_nobodys_trouble_leaves_the_service_healthy(printers: tuple[PrinterView, ...]) -> None:
    assert verdict(replace(WELL, printers=printers)).status is HealthStatus.HEALTHY


def test_a_shop_without_printers_is_degraded_and_not_ready() -> None:
    empty = replace(WELL, printers=())

    assert verdict(empty) == Verdict(HealthStatus.DEGRADED, ("no active printer is set up",))
    assert ready(empty) == (False, ("no printer can print now",))


def test_the_same_station_of_two_brands_is_reported_for_each() -> None:
    lost = (replace(WIN32, brand_id="b1", station="grill"), replace(WIN32, brand_id="b2", station="grill", name="Two"))

    assert len(verdict(replace(WELL, printers=(KITCHEN, *lost))).reasons) == 2


def test_grave_reasons_come_first() -> None:
    both = replace(WELL, database_ok=False, database="no answer", printers=(replace(BAR, able=False), KITCHEN))

    assert verdict(both).reasons[0] == "database: no answer"
    assert len(verdict(both).reasons) == 2


def test_a_service_that_shuts_down_is_not_ready_though_its_printers_are() -> None:
    assert ready(replace(WELL, draining=True)) == (False, ("shutting down",))


def test_only_a_printer_in_service_makes_ready() -> None:
    one_down = replace(WELL, printers=(replace(KITCHEN, able=False), BAR))
    inactive = replace(WELL, printers=(replace(KITCHEN, active=False),))

    assert ready(one_down) == (True, ())
    assert ready(inactive) == (False, ("no printer can print now",))


def test_alive_asks_only_whether_the_main_loop_turns() -> None:
    assert alive(replace(WELL, tick_age_s=9.9, database_ok=False, dispatcher_ok=False))
    assert not alive(replace(WELL, tick_age_s=10.0))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0h 0m 0s"), (59.9, "0h 0m 59s"), (3600, "1h 0m 0s"), (90_061, "25h 1m 1s")]
)
def test_uptime_is_formatted_as_in_the_products_document(seconds: float, words: str) -> None:
    assert uptime_formatted(seconds) == words


@pytest.mark.parametrize(("processed", "failed", "rate"), [(145, 2, 98.64), (0, 0, 100.0), (0, 3, 0.0), (7, 0, 100.0)])
def test_the_success_rate_has_two_decimals(processed: int, failed: int, rate: float) -> None:
    assert success_rate(processed, failed) == rate
