"""LISTEN on a connection of its own; believed only as long as what another connection notifies arrives there."""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable

import psycopg2
from psycopg2.extensions import Notify

from kps.core.retry import Backoff
from kps.core.settings import DatabaseSettings
from kps.database.connection import Database, DatabaseTrouble
from kps.database.statements import CHANNEL_PRINTER, CHANNEL_TICKET
from kps.database.statements.dispatching import SPEAK

HEARTBEAT_S = 10.0
HEARTBEAT_LIMIT_S = 2.0
"""For a call, and for the way of a notification to ourselves."""
_NEVER = float("inf")
_RECONNECT = Backoff(first=0.05, cap=5.0)


class _Ear:
    """What psycopg2 gives notifications to, during whatever call they come in: none is kept, however large."""

    def __init__(self, append: Callable[[Notify], None]) -> None:
        self.append = append


class Listener:
    """Notifications of the ticket and printer channels. It never raises: while it is deaf, `proven` says so.

    `voice` is another connection: a pooler in transaction mode shows a listener what it notifies itself.
    """

    def __init__(
        self, settings: DatabaseSettings, name: str, voice: Database, pulse: Callable[[], None] | None = None
    ) -> None:
        self._database = Database(settings, f"{name}:listen", pulse)
        self._voice = voice
        self._own_channel = f"kps_beat_{random.getrandbits(64):016x}"
        self._word = 0
        self._heard: set[str] = set()
        self._answer_by = _NEVER
        """When the last word must have arrived; never = it has."""
        self._beat_due = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self.reconnects = 0
        self.errors = 0
        self.proven = False
        self.wakes: bool | None = None
        """Whether the wake-up trigger was there and enabled at the last heartbeat; None = there was none yet."""
        self.deaf_reason = "not connected yet"

    def fileno(self) -> int | None:
        """The socket to wait on; None while there is none."""
        return self._database.fileno() if self._database.connected else None

    def due_in(self) -> float:
        """Seconds until `step` has something to do."""
        due = min(self._beat_due, self._answer_by) if self._database.connected else self._retry_at
        return max(0.0, due - time.monotonic())

    def step(self) -> bool:
        """Reconnect or prove the connection if it is time; True = LISTEN took effect just now, so look once more."""
        if not self._database.connected:
            return time.monotonic() >= self._retry_at and self._listen()
        self._receive()
        now = time.monotonic()
        if now >= self._answer_by:
            return self._listen_again()
        if now >= self._beat_due:
            self._speak()
        return False

    def heard(self) -> set[str]:
        """Channels that were notified since the last call."""
        self._receive()
        heard, self._heard = self._heard, set()
        return heard

    def doubt(self) -> None:
        """Something was found that should have been notified: prove the connection with the next `step`."""
        self._beat_due = 0.0

    def close(self) -> None:
        """Stop listening."""
        self._database.close()
        self.proven = False

    def _receive(self) -> None:
        if not self._database.connected:
            return
        connection = self._database.raw
        readable = select.poll()  # select() knows no descriptor above 1023
        try:
            readable.register(connection.fileno(), select.POLLIN)
            # After a terminate the first poll succeeds and only the second one raises: poll until nothing is readable.
            connection.poll()
            for _ in range(100):  # who notifies without end does not keep us: the rest is read the next time
                if not readable.poll(0):
                    break
                connection.poll()
        except (psycopg2.Error, UnicodeError) as error:
            self._lost(" ".join(str(error).split()))

    def _hear(self, notify: Notify) -> None:
        if notify.channel != self._own_channel:
            self._heard.add(notify.channel)
        elif notify.payload == str(self._word) and self._answer_by != _NEVER:
            self._answer_by, self.proven, self.deaf_reason = _NEVER, True, ""

    def _listen(self) -> bool:
        try:
            self._database.connect()
            self._database.raw.notifies = _Ear(self._hear)  # type: ignore[assignment]
            self._ask_to_be_told()
        except DatabaseTrouble as trouble:
            self._lost(trouble.sentence)
            return False
        self._failures = 0
        self.reconnects += 1
        self._speak()
        return True

    def _ask_to_be_told(self) -> None:
        channels = (CHANNEL_TICKET, CHANNEL_PRINTER, self._own_channel)
        self._database.query("; ".join(f"LISTEN {channel}" for channel in channels), limit=HEARTBEAT_LIMIT_S)

    def _speak(self) -> None:
        self._beat_due = time.monotonic() + HEARTBEAT_S
        self._word += 1
        try:
            said = self._voice.run(SPEAK, channel=self._own_channel, word=str(self._word), limit=HEARTBEAT_LIMIT_S)
        except DatabaseTrouble as trouble:
            self._deaf(trouble.sentence)
            return
        self.wakes = said[0].wakes
        self._answer_by = time.monotonic() + HEARTBEAT_LIMIT_S

    def _listen_again(self) -> bool:
        """What we notified has not arrived: the connection is dead, or LISTEN has no effect."""
        self._deaf("notifications do not arrive (a pooler in transaction mode?)")
        try:
            self._ask_to_be_told()
        except DatabaseTrouble as trouble:
            self._lost(trouble.sentence)
            return False
        return True

    def _deaf(self, why: str) -> None:
        self._answer_by = _NEVER
        self.proven = False
        self.deaf_reason = why

    def _lost(self, why: str) -> None:
        self._database.close()
        self.errors += 1
        self._deaf(why)
        self._failures += 1
        delay = _RECONNECT.delay(self._failures, random.random())  # noqa: S311 - no secret
        self._retry_at = time.monotonic() + delay
