"""The connection of a probe: what is written, and what was heard since the current step began."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kps.core.address import DeviceAddress
from kps.core.patience import confirm_limit_s
from kps.core.status import AsbUnit, ByteAnswer, Cleared, PrinterStatus, ProcessIdEcho, Reply, after_asb, trouble
from kps.core.status_round import StatusRound, realtime_query
from kps.core.tickets import Reason
from kps.device.link import Link, LinkLost, Talkative
from kps.device.opening import open_link
from kps.device.preparing import RESET
from kps.device.transport import Unreachable

FEED_AND_CUT = b"\x1bd\x03\x1dV\x42\x00"
"""`ESC d 3`, then `GS V 66`: the text leaves the head, and the paper is cut."""
_AGAIN_S = 0.25
"""Pause between two tries to connect."""
_HEARD_MOST = 10_000
"""Replies of one step; a printer has some ten to give."""


class ProbeFailed(Exception):
    """The probe could not be carried out, so nothing was learned. The message says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds."""

    connect_s: float = 10.0
    """For a connection that answers: the process that had the printer before may not have closed its own yet."""
    answer_s: float = 1.0
    """For the answer to a question that needs no printing."""
    quiet_s: float = 1.5
    """If nothing came for so long, nothing will come."""
    change_s: float = 5.0
    """Until the answers show what a person has done, such as opening the cover."""
    clear_s: float = 3.0
    """Until a printer says that it has cleared its buffers."""
    stalled_s: float = 15.0
    """How long a printer may take no byte."""
    proof_s: Callable[[int], float] = confirm_limit_s
    """For the proof of so many lines."""


class Wire:
    """The connection, and the replies that came since the current step began."""

    def __init__(self, link: Link, may_go_on: Callable[[], bool], limits: Limits) -> None:
        self._link = link
        self._may_go_on = may_go_on
        self._limits = limits
        self.heard: list[Reply] = []
        """The replies since the current step began."""

    def begin(self) -> None:
        """A step begins: forget what was heard."""
        self.listen(0.0)
        self.heard.clear()

    def say(self, data: bytes) -> None:
        """Write all of it. Raises LinkLost, and ProbeFailed if the printer stops reading."""
        rest = memoryview(data)
        until = time.monotonic() + self._limits.stalled_s
        while rest:
            self._check()
            count = self._link.write(rest)
            rest = rest[count:]
            if count:
                until = time.monotonic() + self._limits.stalled_s
            elif time.monotonic() >= until:
                raise ProbeFailed("the printer takes no data")
            else:
                self._link.wait(self._limits.stalled_s, writable=True)
            self._hear()

    def until(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Listen until the condition holds; False = it did not within the limit."""
        end = time.monotonic() + limit_s
        while True:
            self._check()
            self._hear()
            if condition():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._link.wait(left)

    def listen(self, seconds: float) -> None:
        """Hear whatever comes for so long."""
        self.until(lambda: False, seconds)

    def status(self) -> PrinterStatus | None:
        """One round of `DLE EOT` 1 to 4; None = a question stayed without an answer."""
        self.listen(0.0)  # a late answer must not be taken for the answer to one of these
        questions = StatusRound()
        while (question := questions.question) is not None:
            known, answers = len(self.heard), questions.answers
            self.say(realtime_query(question))
            questions.asked()

            def answered(known: int = known, answers: int = answers) -> bool:
                if questions.answers == answers:
                    for reply in self.heard[known:]:
                        questions.hear(reply)
                return questions.answers > answers

            if not self.until(answered, self._limits.answer_s):
                return None
        return questions.status

    @property
    def unread(self) -> bool:
        """Whether something that we wrote has not even arrived."""
        return self._link.queued() > 0

    @property
    def echoes(self) -> list[bytes]:
        """The process IDs of this step, in order, each once."""
        return list(dict.fromkeys(reply.process_id for reply in self.heard if isinstance(reply, ProcessIdEcho)))

    @property
    def byte_answers(self) -> list[int]:
        """The one-byte answers of this step."""
        return [reply.value for reply in self.heard if isinstance(reply, ByteAnswer)]

    @property
    def cleared(self) -> bool:
        """Whether the printer said in this step that it has cleared its buffers."""
        return any(isinstance(reply, Cleared) for reply in self.heard)

    @property
    def pushed_trouble(self) -> bool:
        """Whether a status that says why it cannot print was pushed in this step."""
        pushed = (after_asb(PrinterStatus(), reply) for reply in self.heard if isinstance(reply, AsbUnit))
        return any(trouble(status) is not None for status in pushed)

    def leave(self) -> None:
        """Cut the paper, and close. If the printer is not ours any more, write nothing, and take back what can be."""
        if not self._may_go_on():
            self._link.abort()
            return
        try:
            # Written once, without waiting: what the printer does not take now, it does not get.
            self._link.write(RESET + FEED_AND_CUT)
        except LinkLost:
            self._link.drop()
            return
        self._link.close(lambda: None)

    def _hear(self) -> None:
        self.heard += self._link.read()
        if len(self.heard) > _HEARD_MOST:
            raise Talkative

    def _check(self) -> None:
        if not self._may_go_on():
            raise ProbeFailed("the printer is not borrowed any more: the database could not be told in time")


def connect(address: DeviceAddress, may_go_on: Callable[[], bool], limits: Limits) -> Wire:
    """A connection on which the printer answers, or at least takes data. Raises ProbeFailed."""
    until = time.monotonic() + limits.connect_s
    while True:
        try:
            return _that_takes_data(address, may_go_on, limits)
        except Talkative as error:
            raise ProbeFailed(f"the device {error}") from error
        except (Unreachable, LinkLost) as error:
            if time.monotonic() >= until or error.reason is Reason.UNRESOLVABLE:
                raise ProbeFailed(f"the printer cannot be reached: {error}") from error
        # It has refused us, or closed: there is no event for when that is over.
        time.sleep(_AGAIN_S)


def _that_takes_data(address: DeviceAddress, may_go_on: Callable[[], bool], limits: Limits) -> Wire:
    link = open_link(address, limit_s=limits.connect_s, pulse=lambda: None)
    try:
        wire = Wire(link, may_go_on, limits)
        if not address.fresh:
            wire.listen(limits.quiet_s)  # what comes now answers the program that had the file before us
        answer = wire.status()
        if answer is None and wire.unread:
            raise LinkLost("it takes the connection and no data, perhaps because somebody else is connected")
    except BaseException:
        link.drop()
        raise
    return wire
