"""What the printer process knows of its device and writes to the database: state, health rows, lost proof level."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import wait

from kps.core.retry import Backoff
from kps.core.settings import Settings
from kps.core.status import PaperState, PrinterStatus
from kps.core.tickets import ProofLevel, Reason
from kps.database import DatabaseTrouble
from kps.database.printer_queue import PrinterQueue
from kps.database.statements.retention import PRUNED_AT_ONCE
from kps.device.connection import Device, Ready, Unable
from kps.printer.config import DeviceConfig
from kps.process.clocks import monotonic
from kps.process.shared_stats import Cell, Stats

HELLO_EVERY_S = 20.0
"""How often an idle printer is asked how it is."""
HEALTH_EVERY_S = 60.0
"""How often a health row of the POS is written although nothing has changed."""
PRUNE_EVERY_S = 3600.0
WHY_AGAIN_S = 1.0
"""A row that was locked by the POS gets its text, why its printer cannot print, in another try after this long."""
BUSY_PATIENCE_S = 3.0
"""After an idle connection was closed: how long the device may be busy with another client before that is a fault."""
FORETOLD_S = 0.1
"""How long an answer counts that the device gave when the dispatcher announced a ticket."""
_ASK_AGAIN = Backoff(first=0.5, cap=5.0)
_ASK_ALIVE_AGAIN = Backoff(first=0.5, cap=1.0)
"""For a device that answers: that somebody loads paper or shuts the cover should be noticed at once."""
_ASK_TALKER_AGAIN = Backoff(first=1.0, cap=5.0)
"""For a device that talks without end: a person must mend it, and each try lets it send until it is cut off."""
_BUSY_SIGNS = frozenset({Reason.REFUSED, Reason.TIMEOUT, Reason.SILENT, Reason.CONNECTION_LOST})

log = logging.getLogger("kps.printer")


class DeviceMonitor:
    """One device between its tickets: it is asked how it is, kept connected, and its state is published."""

    def __init__(
        self,
        queue: PrinterQueue,
        stats: Stats,
        settings: Settings,
        config: DeviceConfig,
        epoch: int,
        *,
        pulse: Callable[[], None],
        trusted: Callable[[], bool],
        on_disproof: Callable[[], None],
    ) -> None:
        self.config = config
        self._queue = queue
        self._stats = stats
        self._settings = settings
        self._epoch = epoch
        self._pulse = pulse
        self._trusted = trusted
        self._on_disproof = on_disproof
        self.device = self._make_device(config.answers)
        self.unable: Unable | None = None
        """Why it cannot print, as far as is known; None = it can."""
        self.due = 0.0
        """When it is to be asked next (`monotonic`)."""
        self._status = PrinterStatus()
        self._response_ms: int | None = None
        self._let_go_at: float | None = None
        self._asked_at = 0.0
        self._ask_failures = 0
        self._published: tuple[object, ...] | None = None
        self._wanted: tuple[str, str] | None = None
        self._publish_due = 0.0
        self._health_due = 0.0
        self._health_told: tuple[object, ...] | None = None
        self._why_told = ""
        self._why_due = 0.0
        self._prune_due = monotonic() + random.uniform(30, 300)  # noqa: S311 - spreads the load
        self._contested_until = monotonic() + config.contested_s
        self._disproof_told = ""
        self._foretold: tuple[Ready | Unable | None, float] = (None, 0.0)
        """What it answered when a ticket was announced, and when that was."""
        self._owes_news = True  # an earlier process may have left tickets there

    def new_epoch(self, epoch: int) -> None:
        """The lease was taken anew: the state that we had published may be overwritten."""
        self._epoch = epoch
        self._published = None
        self._owes_news = True  # only now the tickets of a process that died are back in the database

    def reconfigure(self, config: DeviceConfig) -> None:
        """Rows, timeout or the text of the address have changed; the device itself, its key, is the same."""
        changed = (config.address, config.timeout_s) != (self.config.address, self.config.timeout_s)
        answers = self.device.answers
        # Its abilities are read when the process starts; what it has lost since then stays lost.
        self.config = replace(config, abilities=self.device.abilities)
        if changed:
            self.device.close()
            self.device = self._make_device(answers)
        self._health_told = None
        self._why_told = ""

    def _make_device(self, answers: bool | None) -> Device:
        config = self.config
        return Device(
            config.address,
            timeout_s=config.timeout_s,
            pulse=self._pulse,
            answers=answers,
            abilities=config.abilities,
            # PRINTER_IDLE_CLOSE_SECONDS is set where other hosts print on it too.
            shared=self._settings.idle_close_s > 0,
        )

    def ask(self, *, whole: bool = False) -> Ready | Unable:
        """Ask it how it is, and publish the answer if it is not published yet."""
        answer = self.device.ask(whole=whole)
        if isinstance(answer, Unable) and answer.reason is Reason.CONNECTION_LOST:
            answer = self.device.ask()  # the old connection is gone; whether the device is, only a new one shows
        self._asked_at = monotonic()
        self._status = answer.status
        if isinstance(answer, Ready):
            self.unable = None
            self._contested_until = 0.0
            self._ask_failures = 0
            self._response_ms = answer.response_ms
            self.due = monotonic() + HELLO_EVERY_S
            self._stats.set(Cell.UNREACHED_SINCE, 0.0)
            self._stats.set(Cell.PROOF_LEVEL, 1 + list(ProofLevel).index(answer.level))
            self._publish("ready", "")
        else:
            self._note_unable(answer)
        return answer

    def _note_unable(self, answer: Unable) -> None:
        self.unable = answer
        self._ask_failures += 1
        self._response_ms = None
        held = self.perhaps_still_held(answer)
        again = _ASK_ALIVE_AGAIN if answer.alive or held else _ASK_AGAIN
        if answer.reason is Reason.TALKATIVE:
            again = _ASK_TALKER_AGAIN
        self.due = monotonic() + again.delay(self._ask_failures, random.random())  # noqa: S311 - jitter
        if not answer.alive and not self._stats.get(Cell.UNREACHED_SINCE):
            self._stats.set(Cell.UNREACHED_SINCE, monotonic())
        if answer.alive:
            self._stats.set(Cell.UNREACHED_SINCE, 0.0)
        if held:
            self._publish("starting", "perhaps still held by its last owner")
        else:
            self._publish(_state_of(answer.reason), answer.text)

    def perhaps_still_held(self, answer: Ready | Unable) -> bool:
        """Whether it may refuse us only because the connection of a vanished owner or process is not closed yet."""
        if isinstance(answer, Ready):
            return False
        return monotonic() < self._contested_until and answer.reason in _BUSY_SIGNS

    def ask_patiently(self) -> Ready | Unable:
        """Ask before a ticket. A device that is busy is asked again for a while, for that must not count as a failure.

        It may be busy with another host, after we have closed an idle connection, or with the connection of a process
        that has died.
        """
        (foretold, asked_at), self._foretold = self._foretold, (None, 0.0)
        if isinstance(foretold, Unable) and self._let_go_at is None and monotonic() - asked_at < FORETOLD_S:
            return foretold  # asked when the ticket was announced: it need not wait for the same answer twice
        answer = self.ask()
        if self._let_go_at is None and not self.perhaps_still_held(answer):
            return answer
        give_up_at = monotonic() + BUSY_PATIENCE_S
        while isinstance(answer, Unable) and answer.reason in _BUSY_SIGNS and monotonic() < give_up_at:
            self._pulse()
            wait([], 0.2)
            answer = self.ask()
        self._let_go_at = None
        return answer

    def blocked(self, reason: Reason, status: PrinterStatus) -> None:
        """A ticket is stuck in it: publish that at once, so that the printer's other tickets go elsewhere."""
        self._status = status
        self.unable = Unable(reason, "blocked with a ticket inside", True, status)
        self._publish(_state_of(reason), f"blocked with a ticket inside: {reason.value.replace('_', ' ')}")
        self._keep_health()

    def left_uncertain(self) -> None:
        """It may still print the ticket that was given up: when it can print again, that is written down."""
        self._owes_news = True

    def _publish(self, state: str, text: str) -> None:
        if self._wanted is None or self._wanted[0] != state:
            level = logging.INFO if state == "ready" else logging.WARNING
            log.log(level, "printer state", extra={"state": state, "cause": text})
        self._wanted = (state, text)
        self._publish_due = 0.0
        self.publish_wanted()

    def publish_wanted(self) -> None:
        """Write its state to the database, until that has succeeded."""
        if self._wanted is None:
            return
        status = self._status
        news = (*self._wanted, status.paper, status.cover_open, status.cutter_ok)
        if news == self._published or monotonic() < self._publish_due:
            return
        state, text = self._wanted
        try:
            self._queue.set_state(
                self.config.key,
                self._epoch,
                state=state,
                text=text,
                paper=status.paper.value,
                response_ms=self._response_ms,
                answers=self.device.answers,
                cover_open=status.cover_open,
                cutter_ok=status.cutter_ok,
            )
        except DatabaseTrouble:
            # The connection counts it; it is tried again in a moment.
            self._publish_due = monotonic() + 0.5
            return
        self._published = news

    def keep_up(self, *, expected: bool = False) -> None:
        """Between tickets: keep the connection, publish the state, write health rows.

        `expected`: a ticket is announced, so the printer is asked now, and the ticket need not wait for its answer.
        """
        if not self._trusted():
            if self.device.connected:
                log.warning("lease not trusted")
                self.device.close()
            return
        self._let_go()
        if monotonic() >= self.due:
            self.ask(whole=True)
        elif expected and self.device.connected:
            self._foretold = (self.ask(), monotonic())
        self.publish_wanted()
        self._keep_health()

    def _keep_health(self) -> None:
        """Write the POS's health rows, on each change and each HEALTH_EVERY_S."""
        try:
            self._say_why()
            self._write_health()
            self._prune_health()
        except DatabaseTrouble as trouble:
            log.warning("database trouble", extra={"cause": trouble.sentence})
            self._health_due = monotonic() + 5.0

    def _say_why(self) -> None:
        """Write into the printer's rows why it cannot print, for the POS's own screen; on each change."""
        state, text = self._wanted or ("", "")
        if self.unable is None or state == "starting":
            self._why_told = ""
        elif text != self._why_told and monotonic() >= self._why_due:
            self._why_due = monotonic() + WHY_AGAIN_S
            told = self._queue.say_why(dict.fromkeys(self.config.rows, (self.config.key, text)))
            if told.issuperset(self.config.rows):
                self._why_told, self._why_due = text, 0.0

    def _let_go(self) -> None:
        """With PRINTER_IDLE_CLOSE_SECONDS an idle connection is closed; the device is then asked once a minute only."""
        idle_close_s = self._settings.idle_close_s
        if not idle_close_s or not self.device.connected or self.unable is not None:
            return
        if monotonic() - max(self._stats.get(Cell.LAST_OK), self._asked_at) >= idle_close_s:
            self.device.close()
            self._let_go_at = monotonic()
            self.due = self._let_go_at + HEALTH_EVERY_S

    def tell_news(self) -> None:
        """Write down what has happened to it besides its state. Raises DatabaseTrouble: then later."""
        self._tell_disproof()
        self._tell_return()

    def _tell_disproof(self) -> None:
        """If it has lost its proof level, store that: it counts until the next probe."""
        disproof = self.device.disproof
        if not disproof or disproof == self._disproof_told:
            return
        self._queue.demote(self.config.key, self._epoch, disproof)
        self._disproof_told = disproof
        self.config = replace(self.config, abilities=self.device.abilities)
        self._on_disproof()
        self._stats.add(Cell.DEMOTED)
        log.error("proof level lost", extra={"cause": disproof})

    def _tell_return(self) -> None:
        """If it can print again, write down which tickets may have come out of its memory now."""
        if not self._owes_news or self.unable is not None:
            return
        tickets = self._queue.came_back(self.config.key, self.config.rows)
        self._owes_news = False
        if tickets:
            log.warning("may have printed", extra={"tickets": ", ".join(map(str, tickets))})

    def _write_health(self) -> None:
        status, unable = self._status, self.unable
        online = unable is None or (unable.alive and unable.reason not in (Reason.SILENT, Reason.TALKATIVE))
        code = "" if unable is None else unable.reason.value
        text = "" if unable is None else unable.text
        told = (online, status.paper, status.cutter_ok, status.temperature_ok, code)
        if self._wanted is None or (monotonic() < self._health_due and told == self._health_told):
            return
        self._queue.health(
            self.config.key,
            self.config.rows,
            online=online,
            response_ms=self._response_ms,
            paper=_paper_word(status.paper),
            code=code,
            error=text,
            temperature_ok=status.temperature_ok,
            cutter_ok=status.cutter_ok,
        )
        self._health_told = told
        self._health_due = monotonic() + HEALTH_EVERY_S

    def _prune_health(self) -> None:
        if monotonic() < self._prune_due:
            return
        pruned = self._queue.prune_health(self.config.rows, self._settings.health_retention_days)
        self._prune_due = monotonic() + (1.0 if pruned >= PRUNED_AT_ONCE else PRUNE_EVERY_S)


_STATES = {
    Reason.REFUSED: "down",
    Reason.TIMEOUT: "down",
    Reason.UNRESOLVABLE: "down",
    Reason.HOST_FULL: "down",
    Reason.CONNECTION_LOST: "down",
    Reason.SILENT: "silent",
    Reason.OFFLINE: "offline",
    Reason.PAPER_OUT: "paper_out",
    Reason.COVER_OPEN: "cover_open",
    Reason.CUTTER_ERROR: "error",
    Reason.PRINTER_ERROR: "error",
    Reason.BLOCKED: "blocked",
    Reason.TALKATIVE: "error",
}


def _state_of(reason: Reason) -> str:
    return _STATES.get(reason, "down")


def _paper_word(paper: PaperState) -> str:
    """How the POS names the state of the paper."""
    return {PaperState.OK: "ok", PaperState.LOW: "low", PaperState.OUT: "out"}.get(paper, "unknown")
