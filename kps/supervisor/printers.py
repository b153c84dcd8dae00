"""A printer of this instance, with the child that serves it; and all children together."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.core.printer_lifecycle import Lease, Life, Process, Wish
from kps.core.tickets import PrinterKey, Token
from kps.printer.config import DeviceConfig
from kps.supervisor.children import Child

NOBODY = Token(0)
"""No work is to blame for a death."""


@dataclass(slots=True)
class MailboxState:
    """The mailbox between the dispatcher and a printer process."""

    pair: tuple[int, int] = (0, 0)
    """(dispatcher generation, printer generation) of the one in use."""
    due: float = 0.0
    """When one may be made again, after one could not be made or was lost on its way."""
    failures: int = 0


@dataclass(slots=True)
class Printer:
    """A physical device of ours and the child that serves it."""

    config: DeviceConfig
    child: Child
    epoch: int
    """Of our lease; while its lease is RELEASING, the one whose claims are being given back."""
    lease: Lease = Lease.OURS
    wish: Wish = Wish.SERVE
    row_gone: bool = False
    """It leaves because no row names it any more."""
    contested_s: float = 0.0
    """For so long after the next process's start the device may still be connected to its last owner or process."""
    blamed: Token = NOBODY
    """The work that its last process died of."""
    reported_down: bool = False
    """Its row says that its process does not work."""
    yield_asked_at: float = 0.0
    mailbox: MailboxState = field(default_factory=MailboxState)

    @property
    def life(self) -> Life:
        """What is the case with it, see kps.core.printer_lifecycle."""
        return Life(self.child.state, self.lease, self.wish)

    @life.setter
    def life(self, life: Life) -> None:
        self.child.state, self.lease, self.wish = life


class Children:
    """The children of this supervisor: the dispatcher, and the process of each printer of ours."""

    def __init__(self, dispatcher: Child) -> None:
        self.dispatcher = dispatcher
        self.printers: dict[PrinterKey, Printer] = {}

    def all(self) -> list[Child]:
        """Those that run and those that do not."""
        return [self.dispatcher, *(printer.child for printer in self.printers.values())]

    def printer_of(self, child: Child) -> Printer | None:
        """The printer that a child serves; None for the dispatcher."""
        return next((printer for printer in self.printers.values() if printer.child is child), None)

    @property
    def booting(self) -> int:
        """So many printer processes have been asked for, and are not up yet."""
        return sum(printer.child.state is Process.STARTING for printer in self.printers.values())
