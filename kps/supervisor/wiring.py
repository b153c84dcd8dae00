"""What the supervisor passes on: an end of a mailbox to dispatcher and printer process, and the printer rows."""

from __future__ import annotations

import contextlib
import logging
import random
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing import Pipe

from kps.core.limits import is_shortage
from kps.core.printer_lifecycle import Process
from kps.core.restart import START_AGAIN
from kps.core.routing import PrinterRow
from kps.core.tickets import PrinterKey
from kps.process.channels import Channel, FrameTooBig, PeerGone, PeerStuck
from kps.process.clocks import monotonic
from kps.supervisor.children import Child
from kps.supervisor.printers import Printer

log = logging.getLogger("kps.supervisor")


class Shortage:
    """Whether something that printing needs could not be opened, and nothing has been since."""

    def __init__(self) -> None:
        self._since: float | None = None

    def __bool__(self) -> bool:
        return self._since is not None

    def note(self, error: BaseException | None) -> None:
        """Something could not be opened: if no descriptor was free, others must close some of theirs."""
        if error is not None and is_shortage(error):
            self._since = self._since or monotonic()

    def over(self) -> None:
        """Something could be opened."""
        self._since = None


class Mailboxes:
    """A mailbox for every pair of a dispatcher and a printer incarnation."""

    def __init__(self, dispatcher: Child, shortage: Shortage) -> None:
        self._dispatcher = dispatcher
        self._shortage = shortage

    def missing(self, printers: Iterable[Printer]) -> Iterator[Printer]:
        """Printers that work and have no mailbox with the dispatcher that works now."""
        dispatcher = self._dispatcher
        if dispatcher.state is not Process.UP or dispatcher.control is None:
            return
        for printer in printers:
            pair = (dispatcher.generation, printer.child.generation)
            if printer.life.connectable and printer.child.control is not None and printer.mailbox.pair != pair:
                yield printer

    def make(self, printers: Iterable[Printer], now: float) -> None:
        """Those that are missing.

        Only while both sides read: ends that wait for a reader would be descriptors that we hold for nothing.
        """
        dispatcher = self._dispatcher.control
        for printer in list(self.missing(printers)):
            control = printer.child.control
            assert dispatcher is not None
            assert control is not None
            if now < printer.mailbox.due or control.waiting:
                continue
            if dispatcher.waiting:
                return
            try:
                self._connect(dispatcher, control, printer)
            except OSError as error:
                self._shortage.note(error)
                self._failed(printer, error.strerror or str(error))

    def _connect(self, dispatcher: Channel, control: Channel, printer: Printer) -> None:
        """Raises OSError where the host has no descriptors for it; nothing is left open then."""
        pair = (self._dispatcher.generation, printer.child.generation)
        theirs, its = Pipe()
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(theirs.close)
                control.send_end(("mailbox", pair[0]), its)
                undo.pop_all()
            # From here on it is the channel's, which may have to keep it until the dispatcher reads.
            dispatcher.send_end(("printer", printer.config.key, pair[1], printer.epoch), theirs)
        except (PeerGone, PeerStuck):
            return  # its end will be noticed, and its next incarnation gets a mailbox of its own
        printer.mailbox.pair = pair
        self._shortage.over()

    def lost(self, printers: Iterable[Printer], child: Child, key: PrinterKey, generation: int) -> None:
        """An end of a mailbox found no descriptor in the process `child` that it was for."""
        for printer in printers:
            of_dispatcher = child is self._dispatcher and (printer.config.key, printer.child.generation) == (
                key, generation,
            )  # fmt: skip
            of_printer = printer.child is child and self._dispatcher.generation == generation
            if of_dispatcher or of_printer:
                self._failed(printer, f"{child.name} has no free descriptor")

    def _failed(self, printer: Printer, cause: str) -> None:
        mailbox = printer.mailbox
        mailbox.pair = (0, 0)
        mailbox.failures += 1
        mailbox.due = monotonic() + START_AGAIN.delay(mailbox.failures, random.random())  # noqa: S311 - jitter
        if mailbox.failures in (1, 10) or mailbox.failures % 100 == 0:
            log.warning(
                "mailbox lost",
                extra={"printer": printer.config.name, "cause": cause, "failures": mailbox.failures},
            )


class RowsSender:
    """Sends the printer rows to each dispatcher, and again when they have changed."""

    def __init__(self, dispatcher: Child) -> None:
        self._dispatcher = dispatcher
        self._version = 0
        self._rows: tuple[PrinterRow, ...] = ()
        self._sent = (0, 0)
        self._left: deque[tuple[object, ...]] = deque()

    def changed(self, rows: tuple[PrinterRow, ...]) -> None:
        """These are the rows now."""
        self._rows = rows
        self._version += 1

    def send(self) -> None:
        """Send what its pipe takes now. If not all rows fit into it, the rest goes out with later turns."""
        dispatcher = self._dispatcher
        version = (dispatcher.generation, self._version)
        if dispatcher.state is not Process.UP or not self._version:
            return
        if self._sent != version:
            self._sent = version
            # They replace those that have not gone out yet.
            self._left = deque(
                [("rows", self._version), *(("row", row) for row in self._rows), ("rows_end", self._version)]
            )
        with contextlib.suppress(PeerGone):
            while self._left and dispatcher.control is not None and not dispatcher.control.waiting:
                self._send_one(dispatcher.control, self._left.popleft())

    @staticmethod
    def _send_one(control: Channel, message: tuple[object, ...]) -> None:
        try:
            control.send(message)
        except FrameTooBig as error:
            log.error("message too big", extra={"child": "dispatcher", "text": str(error)})
