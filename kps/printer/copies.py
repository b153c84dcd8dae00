"""One copy of a ticket or slip on paper: composed, rendered and sent to the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kps.core.document import Unrenderable, compose
from kps.core.limits import is_shortage
from kps.core.process_ids import ProcessIds
from kps.core.slip_document import compose_slip
from kps.core.slips import Slip
from kps.core.status import PrinterStatus, sentence
from kps.core.tickets import NotPrinted, Outcome, PaperFormat, Reason, Ticket, Unprintable
from kps.core.wording import PaperStyle
from kps.device.connection import Device
from kps.device.preparing import PUSH_ALL
from kps.paper.escpos import render


@dataclass(frozen=True, slots=True)
class Copy:
    """All bytes of one copy, and how many lines it is high."""

    data: bytes
    lines: int


@dataclass(frozen=True, slots=True)
class Copier:
    """Makes copies of tickets and slips, and sends them. Its functions are called while it does."""

    style: PaperStyle
    font_dirs: tuple[str, ...]
    hold_s: float
    """Seconds that a printer in trouble gets to finish a copy that is inside it."""
    pulse: Callable[[], None]
    may_write: Callable[[], bool]
    first_byte: Callable[[], None]
    blocked: Callable[[Reason, PrinterStatus], None]
    """For this, the two above and the next see `kps.device.attempt.Consent`."""
    wake: Callable[[], int | None]

    def make(self, content: Ticket | Slip, paper: PaperFormat, device: Device) -> Copy | NotPrinted | Unprintable:
        """The bytes for that device; or, if they cannot be made, the outcome: no byte has left."""
        try:
            if isinstance(content, Slip):
                document = compose_slip(content, paper, self.style)
            else:
                document = compose(content, paper, self.style)
            data = render(
                document,
                paper,
                font_dirs=self.font_dirs,
                after_reset=PUSH_ALL if device.abilities.pushes else b"",
                pulse=self.pulse,
            )
        except Unrenderable as why:
            return Unprintable(why.reason, str(why))
        except (ImportError, OSError, MemoryError) as error:
            if not (is_shortage(error) or isinstance(error, ImportError)):
                raise
            # It could not be made for want of memory or descriptors; the ticket itself is all right.
            return NotPrinted(Reason.HOST_FULL, sentence(Reason.HOST_FULL))
        return Copy(data, document.height)

    def send(self, copy: Copy, ids: ProcessIds, device: Device) -> Outcome:
        """Send a copy that is promised with these IDs."""
        return device.send(
            copy.data,
            may_write=self.may_write,
            first_byte=self.first_byte,
            blocked=self.blocked,
            wake=self.wake,
            hold_s=self.hold_s,
            ids=ids,
            lines=copy.lines,
        )
