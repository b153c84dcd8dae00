"""The printer process's end of its mailbox: it takes work from the dispatcher, and says when there is room for more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from kps.core.tickets import Token
from kps.core.work import Work, WorkKind
from kps.process.channels import Channel, PeerGone, drain

DRAIN_S = 1.0
"""Longest time for reading what a dispatcher that died has left in the mailbox."""

log = logging.getLogger("kps.printer")


class PrinterMailbox:
    """The connection to the dispatcher; there is none while there is no dispatcher."""

    def __init__(self, on_work: Callable[[Work], None]) -> None:
        """`on_work` is called with each piece of work that is handed over."""
        self._on_work = on_work
        self.channel: Channel | None = None
        self.expected = False
        """Whether a ticket was announced. The caller sets it back."""

    def replace(self, channel: Channel | None) -> None:
        """Of a new dispatcher. What the old one has put into its own is still taken, for it is claimed for us."""
        old, self.channel = self.channel, channel
        if old is not None:
            drain(old, self._take, limit_s=DRAIN_S)
            old.close()

    def hello(self, held: Sequence[Token], room: int) -> None:
        """Tell the dispatcher which claims are here, and for how many more there is room."""
        self._post(("hello", list(held), room))

    def room_for_one(self, token: Token) -> None:
        """Tell the dispatcher that this claim has ended, and that there is room for another."""
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
            case ("work", str(kind), int(number), int(token)):
                self._on_work(Work(WorkKind(kind), number, Token(token)))
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
