"""A printer of ours: the device, the child that serves it, and what is the case with both."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.core.printer_lifecycle import Lease, Life, Wish
from kps.core.tickets import Token
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
    """For so long its last owner or process may still seem to hold the device, from the next process's start."""
    blamed: Token = NOBODY
    """The work that its last process died of."""
    told_down: bool = False
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
