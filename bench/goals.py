"""What is wanted of KPS: one entry for each line of the goals, so that none can be missing without a word."""

from __future__ import annotations

from enum import Enum


class Goal(Enum):
    """What is measured, and the goal in words; the order is that of the page."""

    FIRST_BYTE_P50 = "commit to first byte, idle, p50", "<= 4 ms"
    FIRST_BYTE_P99 = "commit to first byte, idle, p99", "<= 15 ms"
    FASTER_THAN_POLLING = "commit to first byte, idle, against (a) polling every 2 s, p50", ">= 200 times faster"
    SETTLED = "commit to proof settled, idle, p50", "<= 8 ms"
    BURST = "burst over 4 printers, each ticket proven and settled", ">= 250 tickets/s"
    BURST_AGAINST_CUPS = "burst against (c) CUPS raw queues", ">= 2 x"
    BURST_AGAINST_CEILING = "burst against (d) python-escpos without database or proof", "reported"
    REAL_SPEED = "printers at 300 mm/s, 0.4 s cut, 4 KB buffer: share of their maximum rate, all proven", ">= 98 %"
    LOAD_FIRST_BYTE = "64 printers, 100 tickets/s for 60 s: commit to first byte, p99", "<= 50 ms"
    LOAD_QUEUE = "64 printers, 100 tickets/s for 60 s: growth of the queue", "none"
    ISOLATION = "a dead and a hung printer among 8: the others' p99 changes by", "<= 50 ms"
    KNOWN_DOWN = "primary refused, known down: first byte on the backup, p99", "<= 100 ms"
    JUST_OFF = "primary off a moment ago: first byte on the backup, p99", "<= 100 ms"
    MID_TICKET = "primary dead in mid-ticket: first byte on the backup", "<= its timeout + 1 s"
    BLOCKED_INSIDE = "primary blocked: first byte of the ticket inside on the backup", "<= HOLD_SECONDS + 1 s"
    BLOCKED_OTHERS = "primary blocked: first byte of the other tickets on the backup, p99", "<= 100 ms"
    PRINTER_KILLED = "printer process killed: first byte of its next ticket", "<= 1 s"
    SERVICE_KILLED = "whole service killed, supervisord restarts it: first byte", "<= 4 s"
    TAKE_OVER = "host of one instance gone, a second one takes over: first byte", "<= 8 s"
    IDLE_CPU = "idle, 8 printers: share of one core", "<= 1 %"
    IDLE_STATEMENTS = "idle, 8 printers: statements", "<= 4/s"
    IDLE_GROWTH = "idle, 8 printers: growth of memory in an hour", "none"
    MEMORY_8 = "memory (PSS), 8 printers, each has printed and drawn", "<= 70 + 20 MB per printer = 230 MB"
    MEMORY_20 = "memory (PSS), 20 printers, each has printed and drawn", "<= 450 MB"
    ROWS_FIRST_BYTE_P50 = "tickets table of 1,000,000 rows: commit to first byte, p50", "within 20 % of 1,000 rows"
    ROWS_FIRST_BYTE_P99 = "tickets table of 1,000,000 rows: commit to first byte, p99", "within 20 % of 1,000 rows"
    ROWS_SETTLED = "tickets table of 1,000,000 rows: commit to `printed`, p50", "within 20 % of 1,000 rows"
    START = "exec to first claim, 4 printers", "<= 2 s"

    @property
    def what(self) -> str:
        """What is measured."""
        return self.value[0]

    @property
    def words(self) -> str:
        """What it should be."""
        return self.value[1]
