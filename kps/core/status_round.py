"""One round of status questions to a printer: which one is next, and what the answers say."""

from __future__ import annotations

from collections.abc import Sequence

from kps.core.status import REALTIME_QUERIES, AsbUnit, PrinterStatus, RealtimeAnswer, Reply, after_asb, after_realtime


def realtime_query(query: int) -> bytes:
    """The bytes of `DLE EOT query`, query 1..4."""
    return bytes((0x10, 0x04, query))


class StatusRound:
    """One round of `DLE EOT` 1 to 4, one question at a time: the answers do not say which question they answer."""

    def __init__(self, status: PrinterStatus | None = None, queries: Sequence[int] = REALTIME_QUERIES) -> None:
        self._queries = queries
        self.status = status or PrinterStatus()
        """What is known so far; after a whole round nothing older is in it."""
        self.answers = 0
        """How many of the questions are answered."""
        self.waiting = False
        """Whether a question was sent and is not answered yet."""

    @property
    def question(self) -> int | None:
        """The question to ask, or to await, next; None = the round is complete."""
        return self._queries[self.answers] if self.answers < len(self._queries) else None

    def asked(self) -> None:
        """The question was sent."""
        self.waiting = True

    def hear(self, reply: Reply) -> None:
        """Take any reply; one that answers no question of this round is ignored."""
        if isinstance(reply, AsbUnit):
            self.status = after_asb(self.status, reply)
        elif isinstance(reply, RealtimeAnswer) and self.waiting and self.question is not None:
            self.status = after_realtime(self.status, self.question, reply)
            self.answers += 1
            self.waiting = False
