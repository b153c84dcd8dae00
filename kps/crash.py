"""Named points at which a process can be made to vanish, for tests of what a crash there leaves behind.

`KPS_CRASH_AT` holds `point=file`, several separated by commas. A process that comes to the point ends at once, without
a last word, if it can delete the file: so it happens once, and whoever makes the file chooses when. Without the
variable nothing is looked at.
"""

from __future__ import annotations

import os
from enum import StrEnum

VARIABLE = "KPS_CRASH_AT"

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits: a death of its own, not a kill."""


class Point(StrEnum):
    """Where a crash would hurt most: between two steps of which only the first is on record."""

    CLAIMED = "claimed"
    """The dispatcher's claim is committed, and no printer process knows."""
    HAND_OVER = "hand-over"
    """Right before one ticket is put into its printer's mailbox."""
    HANDED_OVER = "handed-over"
    """Right after it."""
    PROMISED = "promised"
    """The printer process has committed `sending`; no byte has left."""
    HALF_SENT = "half-sent"
    """About half of the ticket's bytes have left."""
    ALL_SENT = "all-sent"
    """The last byte has left; no proof has been read."""
    SETTLING = "settling"
    """The outcome is known and not yet written."""
    SETTLED = "settled"
    """The outcome is committed; the dispatcher does not know."""


def crash_point(point: Point) -> None:
    """End the process here, if that is wanted."""
    for wish in _wishes():
        name, _, file = wish.partition("=")
        if name == point and _taken(file):
            os._exit(EXIT_CODE)


def _wishes() -> list[str]:
    wanted = os.environ.get(VARIABLE)
    return wanted.split(",") if wanted else []


def _taken(file: str) -> bool:
    try:
        os.unlink(file)
    except FileNotFoundError:
        return False
    return True
