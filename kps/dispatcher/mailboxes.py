"""The dispatcher's side of the mailboxes: who has room, what was handed to whom."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from kps.core.tickets import PrinterKey, Token
from kps.core.work import Work
from kps.process.channels import Channel, PeerGone


@dataclass(slots=True)
class Mailbox:
    """The way to one printer process of ours."""

    key: PrinterKey
    generation: int
    channel: Channel
    epoch: int
    room: int = 0
    """For how many more tickets the printer has room; 0 until it has said hello."""
    held: set[Token] = field(default_factory=set)
    """Tokens that the printer holds, as far as we know."""
    greeted: bool = False
    reconciled: bool = False
    left: bool = False
    """Whether something that it does not hold could not be given back yet."""
    announced: bool = False
    """Whether it was told that a ticket comes, and nothing has come since. Who does not read is not told again."""

    def announce(self) -> None:
        """A ticket is about to be claimed for this printer, which is idle: it may ask its device meanwhile.

        Nothing is lost if nobody hears it.
        """
        if not self.held and not self.announced:
            self.announced = True
            with contextlib.suppress(PeerGone):
                self.channel.send(("soon",))

    def hand_over(self, work: Work) -> None:
        """Give claimed work to the printer. Raises PeerGone."""
        self.channel.send(("work", work))
        self.held.add(work.token)
        self.announced = False

    def read(self) -> bool:
        """Take what the printer says; True = it has room again. Raises PeerGone."""
        gained = False
        while (message := self.channel.receive()) is not None:
            match message:
                case ("hello", list(tokens), int(room)):
                    self.held = {Token(token) for token in tokens}
                    self.room = room
                    self.greeted = True
                    gained = True
                case ("room", int(token)):
                    self.held.discard(Token(token))
                    self.room += 1
                    gained = True
                case _:
                    raise PeerGone
        return gained
