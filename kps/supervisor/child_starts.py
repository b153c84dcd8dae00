"""Starts of children: the template is asked for each that is due; where the host refuses, it is tried again later."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator

from kps.core.printer_lifecycle import Event, Lease, Process
from kps.core.settings import Settings
from kps.database.pos import PosAdapter
from kps.process.clocks import monotonic
from kps.supervisor.children import Child
from kps.supervisor.printer_lives import PrinterLives
from kps.supervisor.printers import Children
from kps.supervisor.template import Answer, CannotStart, Template
from kps.supervisor.wiring import Shortage

BOOT_TOGETHER = 8
"""Printer processes that start at the same time: more would only make each of them miss its boot limit."""

log = logging.getLogger("kps.supervisor")


class Starts:
    """Which children are started, and what becomes of it."""

    def __init__(
        self,
        settings: Settings,
        owner: str,
        template: Template,
        children: Children,
        lives: PrinterLives,
        shortage: Shortage,
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._template = template
        self._children = children
        self._lives = lives
        self._shortage = shortage
        self.schema: PosAdapter | None = None
        """The POS's tables, which a child is given; nothing is started before they are known."""

    def due(self) -> float:
        """When the next child is to be started; infinite while nobody is, or as long as one has to be up before."""
        full = self._children.booting >= BOOT_TOGETHER  # the first that is up wakes the loop
        waiting = [child.restart_at for child in self.startable() if not (full and child.kind == "printer")]
        return min(waiting, default=float("inf"))

    def hear_template(self) -> None:
        """Learn which children have been forked and which have not, and see that there is a template."""
        lacking = self._template.state != "up"
        heard = [*self._template.answers(), *self._template.look_after(monotonic())]
        if lacking and self._template.state == "up":
            self._start_refused()
        if not heard:
            return
        asked = {child.request: child for child in self._children.all() if child.request is not None}
        for number, answer, value in heard:
            child = asked.get(number)
            if child is None:
                continue
            if answer is Answer.FORKED:
                child.forked(value)
                self._shortage.over()
            else:
                self._not_forked(child, answer, value)

    def _start_refused(self) -> None:
        """There is a template again: a child that was refused because there was none need not wait for its back-off."""
        for child in self._children.all():
            if child.refused:
                child.restart_at = min(child.restart_at, monotonic())

    def _not_forked(self, child: Child, answer: Answer, error: int) -> None:
        child.not_forked()
        if answer is Answer.REFUSED:
            self._refused(child, OSError(error, os.strerror(error)), os.strerror(error))
        else:
            self._refused(child, None, "its template process is gone")
        if (printer := self._children.printer_of(child)) is not None:
            self._lives.happens(printer, Event.NOT_STARTED)
        else:
            child.happens(Event.NOT_STARTED)

    def startable(self) -> Iterator[Child]:
        """The children that are to be started when their back-off is over."""
        if self.schema is None or self._lives.ending or self._template.booting:
            return
        if self._children.dispatcher.state is Process.WAITING:
            yield self._children.dispatcher
        for printer in self._children.printers.values():
            if printer.life.startable:
                yield printer.child

    def start_due(self, now: float) -> None:
        """Ask for the children whose back-off is over, not too many printer processes at a time."""
        if self.schema is None:
            return
        booting = self._children.booting
        configs = {id(printer.child): printer for printer in self._children.printers.values()}
        for child in list(self.startable()):
            if now < child.restart_at:
                continue
            printer = configs.get(id(child))
            if printer is None:
                self._start(child, self.schema, ())
            elif booting < BOOT_TOGETHER:
                booting += 1
                epoch = printer.epoch if printer.lease is Lease.OURS else -1
                self._start(child, self.schema, (self._lives.config_of_next(printer), epoch))

    def _start(self, child: Child, schema: PosAdapter, given: tuple[object, ...]) -> None:
        """Start it, or plan the next try: what the host refuses now it may allow in a moment."""
        try:
            child.start(self._template, self._settings, schema, self._owner, given)
        except CannotStart as why:
            self._refused(child, why.__cause__, str(why))
        else:
            child.happens(Event.STARTED)

    def _refused(self, child: Child, error: BaseException | None, why: str) -> None:
        """The host has not let us start it."""
        child.note_refusal(why, random.random())  # noqa: S311 - jitter
        self._shortage.note(error)
        if child.refused in (1, 10) or child.refused % 100 == 0:
            log.error("child cannot be started", extra={"child": child.name, "cause": why, "failures": child.refused})
