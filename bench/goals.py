"""The goals of KPS, one entry for each line of the table: a goal that is not measured is missed."""

from __future__ import annotations

from enum import Enum


class Goal(Enum):
    """`what` is measured, what it should be in `words`, and its `limit` as a number; the order is that of the page.

    A limit is in the unit of the words. None = there is none, or what was set for the measurement decides it.
    """

    FIRST_BYTE_P50 = "commit to first byte, idle, p50", "<= 3 ms", 3.0
    FIRST_BYTE_P99 = "commit to first byte, idle, p99", "<= 8 ms", 8.0
    FASTER_THAN_POLLING = (
        "commit to first byte, idle, against (a) polling every 2 s, p50",
        ">= 200 times faster",
        200.0,
    )
    SETTLED = "commit to proof settled, idle, p50", "<= 5 ms", 5.0
    BURST = "burst over 4 printers, each ticket proven and settled", ">= 600 tickets/s", 600.0
    BURST_AGAINST_CUPS = "burst against (c) CUPS raw queues", ">= 2 x", 2.0
    BURST_AGAINST_CEILING = "burst against (d) python-escpos without database or proof", "reported", None
    REAL_SPEED = (
        "printers at 300 mm/s, 0.4 s cut, 4 KB buffer: share of their maximum rate, all proven",
        ">= 98 %",
        98.0,
    )
    LOAD_FIRST_BYTE = (
        "64 printers, 100 tickets/s for 60 s: commit to first byte, p99",
        "<= 50 ms in three runs of three",
        50.0,
    )
    LOAD_QUEUE = "64 printers, 100 tickets/s for 60 s: growth of the queue", "none", None
    ISOLATION = "a dead and a hung printer among 8: the others' p99 changes by", "<= 50 ms", 50.0
    KNOWN_DOWN = "primary refused, known down: first byte on the backup, p99", "<= 100 ms", 100.0
    JUST_OFF = "primary off a moment ago: first byte on the backup, p99", "<= 100 ms", 100.0
    MID_TICKET = "primary dead in mid-ticket: first byte on the backup", "<= its timeout + 1 s", None
    BLOCKED_INSIDE = "primary blocked: first byte of the ticket inside on the backup", "<= HOLD_SECONDS + 1 s", None
    BLOCKED_OTHERS = "primary blocked: first byte of the other tickets on the backup, p99", "<= 100 ms", 100.0
    PRINTER_KILLED = "printer process killed: first byte of its next ticket", "<= 80 ms", 80.0
    SERVICE_KILLED = "whole service killed, supervisord restarts it: first byte", "<= 1.5 s", 1.5
    TAKE_OVER = "host of one instance gone, a second one takes over: first byte", "<= 4 s", 4.0
    IDLE_CPU = "idle, 8 printers: share of one core", "<= 0.25 %", 0.25
    IDLE_STATEMENTS = "idle, 8 printers: statements", "<= 2/s", 2.0
    IDLE_GROWTH = "idle, 8 printers: growth of memory in an hour", "none", None
    LOAD_GROWTH = "20 printers, 2 of them under load: growth of memory in an hour", "none", None
    MEMORY_8 = "memory (PSS), 8 printers, each has printed and drawn", "<= 60 + 7 MB per printer = 116 MB", 116.0
    MEMORY_20 = "memory (PSS), 20 printers, each has printed and drawn", "<= 200 MB", 200.0
    MEMORY_64 = "memory (PSS), 64 printers, each has printed and drawn", "<= 500 MB", 500.0
    ROWS_FIRST_BYTE_P50 = "tickets table of 1,000,000 rows: commit to first byte, p50", "within 20 % of 1,000 rows", 1.2
    ROWS_FIRST_BYTE_P99 = "tickets table of 1,000,000 rows: commit to first byte, p99", "within 20 % of 1,000 rows", 1.2
    ROWS_SETTLED = "tickets table of 1,000,000 rows: commit to `printed`, p50", "within 20 % of 1,000 rows", 1.2
    START = "exec to first claim, 4 printers", "<= 0.5 s", 0.5
    READY_64 = "exec to all of 64 printers ready", "<= 2 s", 2.0

    def __init__(self, what: str, words: str, limit: float | None) -> None:
        self.what = what
        self.words = words
        self.limit = limit
