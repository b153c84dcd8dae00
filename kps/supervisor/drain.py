"""The end in order: the dispatcher claims nothing more, then the printers finish and end, then the dispatcher ends."""

from __future__ import annotations

import logging

from kps.core.printer_lifecycle import Process
from kps.core.restart import Cause
from kps.process.clocks import monotonic
from kps.supervisor.printer_lives import PrinterLives
from kps.supervisor.printers import Children

KILL_AFTER_S = 2.0
"""Between the abort of those that did not drain in time and their end."""

log = logging.getLogger("kps.supervisor")


class Drain:
    """Whether the instance ends, and how far it is with that."""

    def __init__(self, children: Children, lives: PrinterLives, limit_s: float) -> None:
        """A child that has not ended `limit_s` seconds after the begin is killed."""
        self._children = children
        self._lives = lives
        self._limit_s = limit_s
        self._since: float | None = None
        self._at_once = False
        self._claims_ended = False

    @property
    def begun(self) -> bool:
        """Whether the instance ends."""
        return self._since is not None

    @property
    def finished(self) -> bool:
        """Whether the instance ends, and no child is left."""
        return self.begun and not any(child.running for child in self._children.all())

    def begin(self) -> None:
        """End in order; called a second time: at once."""
        if self.begun:
            self._at_once = True
            return
        self._since = monotonic()
        self._lives.ending = True
        log.info("draining")
        dispatcher = self._children.dispatcher
        dispatcher.tell(("drain",))
        if dispatcher.state is not Process.UP:
            self.no_more_claims()

    def no_more_claims(self) -> None:
        """The dispatcher claims nothing more, or there is none."""
        self._claims_ended = True

    def go_on(self, now: float) -> None:
        """Do what is to be done now."""
        if self._since is None:
            return
        if self._at_once or now - self._since > self._limit_s:
            self._at_once = True
            self._end_all(now)
        elif self._claims_ended or now - self._since > self._limit_s / 4:
            for printer in list(self._children.printers.values()):
                self._lives.replace_process(printer.child)
            if not any(printer.child.running for printer in self._children.printers.values()):
                self._lives.replace_process(self._children.dispatcher)

    def _end_all(self, now: float) -> None:
        for child in self._children.all():
            if child.running and child.aborted_at is None:
                log.warning("child did not drain in time", extra={"child": child.name})
                child.abort(Cause.RELOAD)
            elif child.aborted_at is not None and now - child.aborted_at > KILL_AFTER_S:
                child.kill()
