"""Work: what is put on paper once, whatever it is; its life is the same for every kind.

It is claimed for a printer, promised before its first byte, sent, and settled with an outcome; or it is given back.
Where kinds differ, a `match` over WorkKind says so, and a new kind breaks the type check there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from kps.core.process_ids import ProcessIds
from kps.core.slips import Slip
from kps.core.tickets import PaperFormat, Ticket, Token


class WorkKind(StrEnum):
    """What a piece of work is; its value is the name of its number in the log."""

    TICKET = "ticket"
    """A kitchen ticket of the POS; it has rounds, a status there, and an audit log."""
    SLIP = "slip"
    """What KPS tells a station of its own accord; nobody but KPS knows of it."""

    @property
    def may_keep_others_waiting(self) -> bool:
        """Whether it stays first at its printer while the database promises nothing: a slip must not delay tickets."""
        return self is WorkKind.TICKET


class Seen(Protocol):
    """Open work as a look has seen it. A later token makes worthless what was decided on it."""

    @property
    def id(self) -> int:
        """As in `Work`."""

    @property
    def token(self) -> Token:
        """That of its last transition."""


@dataclass(frozen=True, slots=True)
class Work:
    """The right to put one piece of work on paper once. A later token makes it worthless."""

    kind: WorkKind
    id: int
    """The ticket's number in the POS, or `kps.slip.id`."""
    token: Token

    @property
    def log_field(self) -> dict[str, object]:
        """It, as a log line names it."""
        return {self.kind.value: self.id}


@dataclass(frozen=True, slots=True)
class Promised:
    """What is to be put on paper, now that the database knows that bytes of it may leave."""

    content: Ticket | Slip
    paper: PaperFormat
    ids: ProcessIds
    """Of this sending alone."""
    sends: int
    """Copies of which bytes may have left, this one included."""

    @property
    def marked(self) -> bool:
        """Whether the paper says that there may be another one."""
        if isinstance(self.content, Slip):
            return self.content.possible_duplicate
        return self.content.marks.possible_duplicate or bool(self.content.marks.moved_from)
