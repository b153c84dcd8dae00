"""A snapshot of a working kitchen, for the HTTP tests to change."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

from kps.core.health import ChildView, Counted, PrinterView, QueueView, Snapshot

NOON = datetime(2026, 2, 4, 14, 30, 0, 250_000, tzinfo=UTC)

DISPATCHER = ChildView(
    name="dispatcher",
    kind="dispatcher",
    pid=100,
    generation=1,
    state="up",
    heartbeat_age_s=0.2,
    started_at=NOON,
    ticket=None,
    last_exit="",
)
KITCHEN_PROCESS = ChildView(
    name="Kitchen 1",
    kind="printer",
    pid=101,
    generation=3,
    state="up",
    heartbeat_age_s=0.1,
    started_at=NOON,
    ticket=12,
    last_exit="signal 9",
    connected=True,
    counted=Counted(
        counters={
            "restarts_by_cause.exit": 1,
            "restarts_by_cause.hung": 1,
            "printed.process_id": 140,
            "printed.none": 5,
            "failed_tries.not_printed": 3,
            "bytes_sent": 4096,
            "reconnects": 2,
            "database_errors": 1,
            "log_records_dropped": 7,
            "marked_copies": 1,
            "stale_tokens": 1,
        },
        print_seconds_buckets={0.1: 100, 1.0: 140, math.inf: 145},
        print_seconds_sum=31.5,
    ),
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
    state_since=NOON,
    proof="process_id",
    cover="closed",
    cutter="ok",
    paper="ok",
    response_ms=4,
    checked_at=NOON,
    queued=3,
)
BAR = replace(
    KITCHEN,
    id=2,
    name="吧台",
    station="bar",
    ip="10.0.0.6",
    able=False,
    state="paper_out",
    reason="paper is out",
    queued=0,
)
DESSERT = replace(
    KITCHEN, id=3, name="Dessert", station="dessert", able=None, state="starting", checked_at=None, response_ms=None
)
KITCHEN_WORKS = Snapshot(
    version="0.1.0",
    instance="shop-7",
    uptime_s=3600.7,
    tick_age_s=0.1,
    draining=False,
    database="connected",
    database_ok=True,
    snapshot_age_s=0.5,
    last_poll=NOON,
    dispatcher_ok=True,
    dispatcher_crash_loop=False,
    children=(DISPATCHER, KITCHEN_PROCESS),
    printers=(KITCHEN,),
    queue=QueueView(new=3, printing=1, failed_today=2, printed_today=142, oldest_new_age_s=1.5),
    tickets_processed=145,
    notices=("the wake-up trigger is absent",),
    counters={
        "tickets.failed": 2,
        "released.death": 2,
        "counters.claims": 150,
        "counters.poll_found_work": 2,
        "counters.listener_reconnects": 1,
        "counters.rounds_ended": 3,
        "counters.rescued": 1,
    },
    failovers={("Kitchen 1", "吧台"): 4},
)
