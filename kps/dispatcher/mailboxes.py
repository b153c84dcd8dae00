"""The dispatcher's side of a mailbox: for how much its printer has room, and what that has in hand."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from kps.core.tickets import PrinterKey, Token
from kps.core.work import Work
from kps.process.channels import Channel, PeerGone


@dataclass(slots=True)
class Mailbox:
    """The channel to one printer process, and what is known of that process."""

    key: PrinterKey
    generation: int
    """The number of the process, by the supervisor's count of this printer's processes."""
    channel: Channel
    epoch: int
    """The epoch of the printer's lease, under which work is claimed for it; 0 = none is known."""
    room: int = 0
    """How many more tickets or slips it takes; 0 until it has said hello."""
    in_hand: set[Token] = field(default_factory=set)
    """The tokens of the work that it has, as far as we know: what it said in its hello, and what it was given since."""
    greeted: bool = False
    """Whether it has said hello, and so what it has in hand."""
    reconciled: bool = False
    """Whether what is claimed for it has been compared with what it has in hand; nothing is claimed for it before."""
    left: bool = False
    """Whether something that is claimed for it, and that it does not have, could not be given back yet."""
    announced: bool = False
    """Whether a ticket was announced, and nothing has been handed over since. A process that does not read its mailbox
    gets no second announcement, so that they do not fill it."""

    def announce(self) -> None:
        """A ticket is about to be claimed for this printer, which is idle: it may ask its device meanwhile.

        Nothing is lost if the announcement does not arrive.
        """
        if not self.in_hand and not self.announced:
            self.announced = True
            with contextlib.suppress(PeerGone):
                self.channel.send(("soon",))

    def hand_over(self, work: Work) -> None:
        """Give claimed work to the printer. Raises PeerGone."""
        # Plain values: to pickle the object itself takes ten times as long, and a ticket waits for it.
        self.channel.send(("work", work.kind.value, work.id, work.token))
        self.in_hand.add(work.token)
        self.announced = False

    def read(self) -> bool:
        """Read what the printer process says; True = it has room again. Raises PeerGone."""
        gained = False
        while (message := self.channel.receive()) is not None:
            match message:
                case ("hello", list(tokens), int(room)):
                    self.in_hand = {Token(token) for token in tokens}
                    self.room = room
                    self.greeted = True
                    gained = True
                case ("room", int(token)):
                    self.in_hand.discard(Token(token))
                    self.room += 1
                    gained = True
                case _:
                    raise PeerGone
        return gained
