"""Named points at which a process can be made to vanish, for tests of what a crash there leaves behind.

`KPS_CRASH_AT` holds `point=file`, several separated by commas. A process that comes to the point ends at once, without
cleaning up, if it can delete the file. So it happens once, and a test decides when by making the file. Without the
variable no file is looked for.
"""

from __future__ import annotations

import os
from enum import StrEnum

VARIABLE = "KPS_CRASH_AT"

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits. It is not the code of a process that was killed."""


class Point(StrEnum):
    """The points: each lies between two steps of which only the first is on record."""

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
    """End the process here, if a test has asked for this point."""
    for request in _requests():
        name, _, file = request.partition("=")
        if name == point and _deleted(file):
            os._exit(EXIT_CODE)


def _requests() -> list[str]:
    wanted = os.environ.get(VARIABLE)
    return wanted.split(",") if wanted else []


def _deleted(file: str) -> bool:
    try:
        os.unlink(file)
    except FileNotFoundError:
        return False
    return True
