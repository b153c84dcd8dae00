"""LISTEN on a connection of its own; believed only as long as it proves that it is alive."""

from __future__ import annotations

import random
import select
import time
from collections.abc import Callable

import psycopg2

from kps.core.retry import Backoff
from kps.core.settings import DatabaseSettings
from kps.database.connection import Database, DatabaseTrouble
from kps.database.statements import CHANNEL_PRINTER, CHANNEL_TICKET

HEARTBEAT_S = 5.0
HEARTBEAT_LIMIT_S = 2.0
_RECONNECT = Backoff(first=0.05, cap=5.0)


class Listener:
    """Notifications of the ticket and printer channels. It never raises: while it is deaf, `proven` says so."""

    def __init__(self, settings: DatabaseSettings, name: str, pulse: Callable[[], None] | None = None) -> None:
        self._database = Database(settings, f"{name}:listen", pulse)
        self._beat_due = 0.0
        self._retry_at = 0.0
        self._failures = 0
        self.reconnects = 0
        self.proven = False
        self.deaf_reason = "not connected yet"

    def fileno(self) -> int | None:
        """The socket to wait on; None while there is none."""
        return self._database.fileno() if self._database.connected else None

    def due_in(self) -> float:
        """Seconds until `step` has something to do."""
        due = self._beat_due if self._database.connected else self._retry_at
        return max(0.0, due - time.monotonic())

    def step(self) -> bool:
        """Reconnect or prove the connection if it is time; True = LISTEN took effect just now, so look once more."""
        now = time.monotonic()
        if not self._database.connected:
            return now >= self._retry_at and self._listen()
        if now >= self._beat_due:
            self._prove()
        return False

    def heard(self) -> set[str]:
        """Channels that were notified since the last call."""
        if not self._database.connected:
            return set()
        connection = self._database.raw
        try:
            # After a terminate the first poll succeeds and only the second one raises: poll until nothing is readable.
            connection.poll()
            for _ in range(100):
                if not select.select([connection], [], [], 0)[0]:
                    break
                connection.poll()
        except psycopg2.Error as error:
            self._lost(" ".join(str(error).split()))
            return set()
        channels = {notify.channel for notify in connection.notifies}
        connection.notifies.clear()
        return channels

    def close(self) -> None:
        """Stop listening."""
        self._database.close()
        self.proven = False

    def _listen(self) -> bool:
        try:
            self._database.connect()
            self._database.query(f"LISTEN {CHANNEL_TICKET}; LISTEN {CHANNEL_PRINTER}", limit=HEARTBEAT_LIMIT_S)
            self._prove_channels()
        except DatabaseTrouble as trouble:
            self._lost(trouble.sentence)
            return False
        self._failures = 0
        self.reconnects += 1
        self._beat_due = time.monotonic() + HEARTBEAT_S
        return True

    def _prove(self) -> None:
        try:
            self._prove_channels()
        except DatabaseTrouble as trouble:
            self._lost(trouble.sentence)
            return
        self._beat_due = time.monotonic() + HEARTBEAT_S

    def _prove_channels(self) -> None:
        rows = self._database.query(
            "SELECT count(*) AS heard FROM pg_listening_channels() AS c WHERE c = ANY(%(names)s)",
            {"names": [CHANNEL_TICKET, CHANNEL_PRINTER]},
            limit=HEARTBEAT_LIMIT_S,
        )
        # A transaction pooler accepts LISTEN and delivers nothing.
        self.proven = rows[0].heard == 2
        self.deaf_reason = "" if self.proven else "LISTEN has no effect (a pooler in transaction mode?)"

    def _lost(self, why: str) -> None:
        self._database.close()
        self.proven = False
        self.deaf_reason = why
        self._failures += 1
        delay = _RECONNECT.delay(self._failures, random.random())  # noqa: S311 - no secret
        self._retry_at = time.monotonic() + delay
