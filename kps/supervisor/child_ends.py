"""Ends of children: one that hangs is ended, one that has ended is reaped, and what it leaves behind is noted."""

from __future__ import annotations

import logging
import random
import signal
from collections.abc import Callable

from kps.core.printer_lifecycle import Event, Process
from kps.core.restart import Cause, Verdict, judge
from kps.core.tickets import Token
from kps.printer.config import DIED_S
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stage
from kps.supervisor.children import Child
from kps.supervisor.printer_lives import PrinterLives
from kps.supervisor.printers import NOBODY, Children, Printer

log = logging.getLogger("kps.supervisor")


class Ends:
    """Ends children that hang, and reaps those that have ended."""

    def __init__(self, children: Children, lives: PrinterLives, read: Callable[[Child], None]) -> None:
        """`read` hears all that a child has said."""
        self._children = children
        self._lives = lives
        self._read = read
        self.beats_count_from = monotonic()
        """Since when a missing heartbeat counts against a child."""

    def reap_printer(self, printer: Printer) -> None:
        """Reap the dead process of a printer; note what it may have died of, and whether its connection may last."""
        child = printer.child
        stage = Stage(int(child.stats[Cell.STAGE]))
        token = Token(int(child.stats[Cell.TOKEN]))
        ours = child.ended_for not in (None, Cause.HUNG)
        connected = bool(child.stats[Cell.CONNECTED]) or stage is not Stage.IDLE
        code = self.death(child)
        if code == 0:
            printer.contested_s = 0.0
        elif connected:
            printer.contested_s = DIED_S
        blamed = stage is Stage.TAKEN and code not in (0, -signal.SIGKILL) and not ours
        child.stats[Cell.STAGE] = child.stats[Cell.TICKET] = child.stats[Cell.CONNECTED] = 0.0
        printer.blamed = token if blamed else NOBODY
        self._lives.happens(printer, Event.ENDED)
        if printer.life.over and printer.row_gone and printer.config.key in self._lives.configs:
            log.info("printer row back", extra={"printer": printer.config.name})

    def death(self, child: Child) -> int:
        """Reap a child, log its end, plan its restart; that it has ended is still to be said to its state."""
        self._read(child)  # its last words
        code = child.reap()
        assert code is not None
        if code == 0 and child.state is Process.STOPPING:
            log.info("child ended", extra={"child": child.name})
            child.restart_at = monotonic()
            child.last_exit = "exit 0"
            return code
        looping = child.deaths.crash_loop(monotonic())
        cause = child.note_death(code, random.random())  # noqa: S311 - jitter
        log.error("child died", extra={"child": child.name, "exit": child.last_exit, "cause": cause.value})
        if child.deaths.crash_loop(monotonic()) and not looping:
            log.critical("crash loop", extra={"child": child.name})
        return code

    def judge(self, now: float) -> None:
        """End children that hang or do not come up."""
        for child in self._children.all():
            if child.process is None:
                continue
            verdict, cause = judge(
                now=now,
                started=child.started,
                up=child.state is not Process.STARTING,
                beat=child.stats[Cell.BEAT],
                beats_count_from=self.beats_count_from,
                aborted_at=child.aborted_at,
                unread_since=child.control.unread_since if child.control is not None else None,
            )
            if verdict is Verdict.ABORT:
                log.error("child hung", extra={"child": child.name, "cause": cause.value})
                child.abort(cause)
            elif verdict is Verdict.KILL:
                child.kill()
