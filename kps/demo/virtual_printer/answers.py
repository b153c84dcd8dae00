"""A virtual printer's answers to its hosts' questions, and the status that it sends unasked."""

from __future__ import annotations

import re

from kps.demo.virtual_printer.connection import Connection
from kps.demo.virtual_printer.connection_table import ConnectionTable
from kps.demo.virtual_printer.decoder import Kind
from kps.demo.virtual_printer.faults import Echo, Echoes, Faults, FenceFault, is_process_id
from kps.demo.virtual_printer.replies import Replies
from kps.demo.virtual_printer.sensors import Sensors, asb_differs
from kps.demo.virtual_printer.settings import Cap, Settings
from kps.demo.virtual_printer.sheet import Answer

CUT_COUNTER = 178
POWER_NOTICE = b"\x3b\x31\x00"
_FENCE = re.compile(rb"\x1dr[\x01\x02\x31\x32]")
_NO_TROUBLE = b"\x12"
"""The answer to `DLE EOT n` of a printer in order, for every n."""
_ALL_CAUSES = 2
"""`GS ( H` function 49: the mode in which the causes are named."""


class Answers:
    """Makes the answers. It also keeps what hosts have subscribed to: automatic status (ASB), the offline response."""

    def __init__(
        self, settings: Settings, sensors: Sensors, faults: Faults, connections: ConnectionTable, replies: Replies
    ) -> None:
        self._settings = settings
        self._sensors = sensors
        self._faults = faults
        self._connections = connections
        self._replies = replies
        self._echoes = Echoes(faults.process_id)
        self._stale_fence = b""
        self._notice_due = False
        self.boot()

    def boot(self) -> None:
        """The state after power-on."""
        self._asb_mask = 0x0F if self._settings.asb_at_boot and Cap.ASB in self._settings.caps else 0
        self._last_status = self._sensors.automatic()
        self._offline_response = 0

    def power_on(self) -> None:
        """The notice of a power-on is due, if this printer gives it."""
        self._notice_due = self._faults.power_notice

    def lose_power(self) -> None:
        """Answers that were kept back are gone."""
        self._echoes.forget()
        self._stale_fence = b""

    def welcome(self, number: int) -> None:
        """What a host that connects gets unasked."""
        if self._notice_due:
            self._notice_due = False
            self._replies.send(number, POWER_NOTICE)
        if self._settings.asb_at_boot and self._asb_mask:
            self._replies.send(number, self._sensors.automatic())

    def answer_at_arrival(self, connection: Connection, data: bytes) -> None:
        """Answers of a faulty network side to bytes that the printer behind it has not read yet."""
        if self._stale_fence:
            stale, self._stale_fence = self._stale_fence, b""
            self._replies.send(connection.number, stale)
        joined = connection.tail + data
        connection.tail = joined[-2:]
        if self._faults.fence.kind is FenceFault.AT_ARRIVAL and Cap.FENCE in self._settings.caps:
            for _ in _FENCE.finditer(joined):
                if self._faults.fence.take() is FenceFault.AT_ARRIVAL:
                    connection.answered_at_arrival += 1
                    self._replies.send(connection.number, b"\x00")

    def answer_status_request(self, number: int, n: int) -> None:
        """`DLE EOT n`."""
        if Cap.REALTIME in self._settings.caps:
            self._replies.send(number, _NO_TROUBLE if self._settings.constant_ok else self._sensors.real_time(n))

    def answer(self, answer: Answer, now: float, cuts: int) -> None:
        """The mechanism has come to a question. `cuts`: how many the cutter has counted."""
        command = answer.command
        match command.kind:
            case Kind.FENCE:
                self._answer_fence(answer.connection, self._sensors.fence(command.params[0]))
            case Kind.IDENTITY:
                self._replies.send(answer.connection, self._identity(command.params[0]))
            case Kind.COUNTER:
                self._replies.send(answer.connection, _counter(command.params, cuts))
            case _:
                self._answer_process_id(answer.connection, command.data, now)

    def _answer_process_id(self, number: int, data: bytes, now: float) -> None:
        """`GS ( H` function 48 with its four characters; anything else has no answer."""
        if data[:2] == b"\x30\x30" and is_process_id(data[2:]):
            self._send_echoes(self._echoes.earned(Echo(number, data[2:]), now))

    def _answer_fence(self, number: int, answer: bytes) -> None:
        connection = self._connections.get(number)
        if connection is not None and connection.answered_at_arrival:
            connection.answered_at_arrival -= 1
            return
        match self._faults.fence.take():
            case FenceFault.DOUBLED:
                answer *= 2
            case FenceFault.STALE:
                self._stale_fence = answer
            case FenceFault.LOST:
                answer = b""
            case FenceFault.AT_ARRIVAL | None:
                pass
        self._replies.send(number, answer)

    def _identity(self, n: int) -> bytes:
        identity = self._settings.identity
        numbers = {1: identity.model, 49: identity.model, 2: identity.kind, 50: identity.kind}
        texts = {65: identity.firmware, 66: identity.maker, 67: identity.name, 68: identity.serial}
        number, text = numbers.get(n), texts.get(n, "")
        if number is not None:
            return bytes([number])
        return b"\x5f" + text.encode("ascii") + b"\x00" if text else b""

    def release_echoes(self, now: float, *, at_rest: bool) -> None:
        """Send the process IDs that a fault has kept back and whose time has come. `at_rest`: nothing is to be done."""
        self._send_echoes(self._echoes.due(now))
        if at_rest:
            self.release_unsent_echo()
        self._send_echoes(self._echoes.inherited(self._connections.open_numbers()))

    def release_unsent_echo(self) -> None:
        """Send the newest process ID of those that could not be sent before."""
        self._send_echoes(self._echoes.at_rest())

    def _send_echoes(self, echoes: list[Echo]) -> None:
        for echo in echoes:
            self._replies.send(echo.connection, echo.raw)

    def owed_to(self, number: int) -> bool:
        """Whether a process ID is still to be sent on this connection."""
        return self._echoes.owed_to(number)

    def next_wake(self) -> list[float]:
        """When `release_echoes` will have something."""
        return self._echoes.next_wake()

    def switch_asb(self, mask: int, number: int) -> None:
        """`GS a mask`: which changes of status are sent unasked from now on; the state of now is sent at once."""
        self._asb_mask = mask & 0x0F
        self._last_status = self._sensors.automatic()
        if self._asb_mask:
            self._replies.send(number, self._last_status)

    def asb_off(self) -> None:
        """`ESC @` ends automatic status."""
        self._asb_mask = 0

    def set_offline_response(self, parameters: bytes) -> None:
        """`GS ( H` function 49, by what stands behind its two function bytes; of another length = off."""
        self._offline_response = parameters[0] % 48 if len(parameters) == 1 else 0

    def tell_offline(self) -> None:
        """Send the offline response to all hosts, if the printer went offline for a cause that it reports."""
        causes = self._sensors.causes()
        if not self._offline_response or not causes:
            return
        named = causes if self._offline_response == _ALL_CAUSES else b""
        self._replies.send_to_all(b"\x37\x23" + named + b"\x00")

    def push_status(self, *, powered: bool) -> None:
        """A sensor may have changed: automatic status goes out if somebody has asked for this change."""
        status = self._sensors.automatic()
        if powered and asb_differs(self._asb_mask, self._last_status, status):
            self._replies.send_to_all(status)
        self._last_status = status


def _counter(params: bytes, cuts: int) -> bytes:
    """`GS g 2`: only the counter of cuts is kept."""
    if params[:2] == b"\x32\x00" and int.from_bytes(params[2:], "little") == CUT_COUNTER:
        return b"\x5f" + str(cuts).encode("ascii") + b"\x00"
    return b""
