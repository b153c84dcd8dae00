"""The printer's side of its mailbox: what the dispatcher hands over, and what it is told of room."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kps.core.tickets import Token
from kps.core.work import Work
from kps.process.channels import Channel, PeerGone, drain

DRAIN_S = 1.0
"""So long, at most, what a dead dispatcher had put into its mailbox is read."""

log = logging.getLogger("kps.printer")


class PrinterMailbox:
    """The way from and to the dispatcher; there is none while there is no dispatcher."""

    def __init__(self, on_work: Callable[[Work], None]) -> None:
        """`on_work` gets all that is handed over."""
        self._on_work = on_work
        self.channel: Channel | None = None
        self.expected = False
        """Whether a ticket was announced; whoever acts on it takes it back."""

    def replace(self, channel: Channel | None) -> None:
        """A new dispatcher: what the old one had put into its mailbox still counts as ours."""
        old, self.channel = self.channel, channel
        if old is not None:
            drain(old, self._take, limit_s=DRAIN_S)
            old.close()

    def hello(self, held: Sequence[Token], room: int) -> None:
        """Tell the dispatcher what is here, and for how much more there is room."""
        self._post(("hello", list(held), room))

    def room_for_one(self, token: Token) -> None:
        """What was claimed with this token is done with: there is room for one more."""
        self._post(("room", token))

    def read(self) -> None:
        """Take what has come."""
        if self.channel is None:
            return
        try:
            while (message := self.channel.receive()) is not None:
                self._take(message)
        except PeerGone:
            self._close()

    def fileno(self) -> int | None:
        """Readable when something has come; None = there is no dispatcher."""
        return None if self.channel is None else self.channel.fileno()

    def _take(self, message: tuple[object, ...]) -> None:
        match message:
            case ("work", Work() as work):
                self._on_work(work)
            case ("soon",):
                self.expected = True
            case _:
                log.error("unknown message", extra={"text": str(message[0])})

    def _post(self, message: tuple[object, ...]) -> None:
        if self.channel is None:
            return
        try:
            self.channel.send(message)
        except PeerGone:
            self._close()

    def _close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
