"""What is done once on a new connection before its first ticket.

Modes are set, the firmware is compared with that of the probe, and what an earlier ticket left behind is ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kps.core.abilities import Abilities
from kps.core.confirmation import FENCE
from kps.core.process_ids import ProcessIds, process_id_command
from kps.core.status import AsbUnit, ByteAnswer, ProcessIdEcho, Reply, TextBlock
from kps.core.tickets import ProofLevel
from kps.device.link import Link
from kps.device.transport import Limit

RESET = b"\x1b@"
"""`ESC @`: all modes as after switching on."""
PUSH_ALL = b"\x1d\x61\x0f"
"""`GS a 15`: push every change of drawer, online, error and paper. `ESC @` turns it off. Source: TM-T88III guide."""
ASK_FIRMWARE = b"\x1d\x49\x41"
"""`GS I 65`. Source: TM-U220 and HPRT TP80K manuals."""
_RASTER = b"\x1dv0"
"""`GS v 0`: a strip of a picture."""
_RASTER_HEAD = 8
"""Bytes of the command before its picture."""
_LARGEST_PICTURE = 72 * 128
"""Bytes of the largest raster strip that a ticket has: 128 rows of 576 dots."""
_MOST_S = 30.0
"""Longest wait for a printer that takes its data byte by byte, and so begins its limit anew each time."""
_LONGEST_COMMAND = 16
"""Bytes of the longest command without a picture: so many NULs complete any torn command; more are ignored."""


class Unanswered(Exception):
    """The printer can print and has not given an answer that it gave to the probe; the message says which."""


class Disbelieved(Exception):
    """The printer is not what the probe saw; the message is the evidence."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a printer must get before the next ticket, because one before it ended without proof."""

    fill: int = 0
    """NULs that complete a torn picture or command, which would eat the next ticket's first bytes."""
    process_id: bytes = b""
    """Asks whether the printer is done with all that is older; empty = not asked."""
    fence: bool = False
    """Whether a fence asks the same."""

    @staticmethod
    def after_unknown(level: ProofLevel | None, *, torn: bool = False) -> Recovery:
        """For the first connection of a process: the one before it may have died in the middle of anything.

        `torn`: the database says that it left a torn ticket there. A device without a proven level may print NULs, so
        it gets them only then.
        """
        proven = level is not None and level.proves_paper
        return Recovery(_LARGEST_PICTURE if proven or torn else 0)

    @staticmethod
    def after(data: bytes, accepted: int, level: ProofLevel, ids: ProcessIds | None) -> Recovery:
        """After `accepted` bytes of a ticket's `data`; how many of them arrived is not known."""
        picture = _longest_picture(data[:accepted])
        # A device without a proven level may print NULs, so it gets only those that complete a picture.
        fill = max(picture, _LONGEST_COMMAND) if level.proves_paper else picture
        asks = level is ProofLevel.PROCESS_ID and ids is not None
        return Recovery(fill, ids.after if ids is not None and asks else b"", level is ProofLevel.FENCE)


def _longest_picture(data: bytes) -> int:
    """Bytes of the largest raster strip (`GS v 0`) that begins in these bytes; it is torn at worst."""
    largest, at = 0, data.find(_RASTER)
    while at >= 0 and at + _RASTER_HEAD <= len(data):
        columns, rows = data[at + 4] | data[at + 5] << 8, data[at + 6] | data[at + 7] << 8
        size = columns * rows
        largest = max(largest, size)
        at = data.find(_RASTER, at + _RASTER_HEAD + size)
    return largest


def prepare(link: Link, abilities: Abilities, recovery: Recovery, *, pulse: Callable[[], None], limit_s: float) -> None:
    """Make a connection fit for tickets. Raises LinkLost, Unanswered, Disbelieved."""
    asker = _Asker(link, pulse, limit_s)
    asker.write(bytes(recovery.fill))
    if abilities.pushes:
        asker.ask(RESET + PUSH_ALL, lambda reply: isinstance(reply, AsbUnit), "the pushed status")
    level = abilities.level
    if level is None or not level.proves_paper:
        return
    if abilities.firmware:
        _compare(abilities.firmware, asker.ask(ASK_FIRMWARE, _is_identity, "its name"))
    # Is it done with everything older? It may be busy printing that; but it has to answer some time.
    if level is ProofLevel.PROCESS_ID and recovery.process_id:
        wanted = ProcessIdEcho(recovery.process_id)
        asker.ask(process_id_command(recovery.process_id), lambda reply: reply == wanted, "the process ID")
    elif level is ProofLevel.FENCE and recovery.fence:
        asker.ask(FENCE, lambda reply: isinstance(reply, ByteAnswer), "the fence")


def _is_identity(reply: Reply) -> bool:
    return isinstance(reply, TextBlock) and reply.identity


def _compare(known: str, answer: Reply) -> None:
    text = answer.body.decode("ascii", "replace").strip() if isinstance(answer, TextBlock) else ""
    if text != known:
        raise Disbelieved(f"its firmware was {known!r} at the probe and is {text!r} now")


class _Asker:
    """One question at a time, each with its own limit."""

    def __init__(self, link: Link, pulse: Callable[[], None], limit_s: float) -> None:
        self._link = link
        self._pulse = pulse
        self._limit_s = limit_s

    def write(self, data: bytes) -> None:
        """Hand everything to the kernel. Raises Unanswered if the printer takes nothing of it for the limit."""
        rest = memoryview(data)
        limit, most = Limit(self._limit_s), Limit(_MOST_S)
        while rest:
            left = min(limit.left(), most.left())
            self._pulse()
            count = self._link.write(rest)
            rest = rest[count:]
            if rest and not left:
                raise Unanswered("it does not take any data")
            if count:
                limit.again()
            else:
                self._link.wait(left, writable=True)

    def ask(self, question: bytes, fits: Callable[[Reply], bool], what: str) -> Reply:
        """The first reply that fits; others do not answer this question.

        Raises Unanswered if none comes within the limit. It counts from when the printer last took some of the bytes
        before the question: those may be many NULs on a slow line.
        """
        self.write(question)
        limit, most, queued = Limit(self._limit_s), Limit(_MOST_S), self._link.queued()
        while True:
            left = min(limit.left(), most.left())
            self._pulse()
            for reply in self._link.read():
                if fits(reply):
                    return reply
            if not left:
                raise Unanswered(f"{what} did not come")
            self._link.wait(left)
            if (still_queued := self._link.queued()) < queued:
                queued = still_queued
                limit.again()
