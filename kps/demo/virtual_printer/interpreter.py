"""Commands into work: what each command makes a virtual printer do."""

from __future__ import annotations

from kps.demo.virtual_printer.answers import Answers
from kps.demo.virtual_printer.buffers import NOWHERE, Origin
from kps.demo.virtual_printer.connection_table import ConnectionTable
from kps.demo.virtual_printer.decoder import Command, Kind
from kps.demo.virtual_printer.event_log import EventLog
from kps.demo.virtual_printer.faults import Faults, ResetWhen
from kps.demo.virtual_printer.mechanism import Mechanism
from kps.demo.virtual_printer.records import EventKind, Raster
from kps.demo.virtual_printer.settings import Cap, Settings, Unknown
from kps.demo.virtual_printer.sheet import Answer, Cut, Feed, PrintLine, PrintRaster
from kps.demo.virtual_printer.typesetter import Typesetter
from kps.demo.virtual_printer.writers import Writers

_SHOWN_BYTES = 16
"""So much of a command stands in its event."""
_NEEDS: dict[Kind, Cap] = {
    Kind.FENCE: Cap.FENCE,
    Kind.ASB: Cap.ASB,
    Kind.IDENTITY: Cap.IDENTITY,
    Kind.COUNTER: Cap.COUNTER,
    Kind.RESPONSE: Cap.PROCESS_ID,
}
_TRACELESS = frozenset({*_NEEDS, Kind.REAL_TIME, Kind.OTHER, Kind.PULSE, Kind.BEEP})
"""Commands that leave no trace on paper."""
_OFFLINE_RESPONSE = b"\x31"
"""Function 49 of `GS ( H`."""


class Interpreter:
    """Executes commands: modes and the line buffer change at once, what takes the mechanism's time is queued there."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        faults: Faults,
        connections: ConnectionTable,
        answers: Answers,
        mechanism: Mechanism,
    ) -> None:
        self._settings = settings
        self._log = log
        self._faults = faults
        self._connections = connections
        self._answers = answers
        self._mechanism = mechanism
        self.writers = Writers(connections)
        self.beeps = 0
        """How often it was heard."""
        self._raw = bytearray()
        self.boot()

    def boot(self) -> None:
        """The state after power-on."""
        self._typesetter = Typesetter(self._settings)
        self._line_origin = NOWHERE
        self.drop_paper()

    @property
    def mid_paper(self) -> bool:
        """Whether somebody has begun a paper, be it with text alone that waits for its line's end, and not cut it."""
        return bool(self.writers) or self._typesetter.pending

    def spoil(self) -> None:
        """Something of the paper that is being made is lost, or comes out as garbage."""
        self._spoiled = True

    def drop_line(self) -> None:
        """Forget the text of the unfinished line; modes stay."""
        self._typesetter.discard()

    def drop_paper(self) -> None:
        """The paper that was being made has ended without a cut."""
        self._spoiled = False
        self.writers.new_paper()
        self._raw.clear()

    def execute(self, command: Command, origin: Origin, now: float) -> None:
        """Do what this command says; `origin` is where its first byte came from."""
        kind = command.kind
        unknown = kind is Kind.UNKNOWN or not self._able(command)
        if kind is not Kind.REAL_TIME:
            self._log.note(
                EventKind.UNKNOWN if unknown else EventKind.COMMAND,
                origin.connection,
                kind.value,
                command.raw[:_SHOWN_BYTES],
                len(command.raw),
            )
        if unknown:
            self._not_understood(command, origin)
            return
        if kind not in _TRACELESS:
            self._raw += command.raw
        if kind is Kind.CODE_PAGE and command.params[0] not in self._settings.code_pages:
            self._log.note(EventKind.UNKNOWN, origin.connection, f"code page {command.params[0]}", command.raw)
        if not self._typesetter.apply(command):
            self._act(command, origin, now)

    def _able(self, command: Command) -> bool:
        if command.kind is Kind.RASTER:
            return self._settings.raster
        cap = _NEEDS.get(command.kind)
        if cap is Cap.PROCESS_ID and command.data[:1] == _OFFLINE_RESPONSE:
            cap = Cap.OFFLINE_RESPONSE
        return cap is None or cap in self._settings.caps

    def _not_understood(self, command: Command, origin: Origin) -> None:
        impact = command.kind is Kind.RASTER
        if self._settings.unknown is Unknown.GARBAGE or impact:
            self.spoil()
            self._raw += command.raw
            self._write(bytes(byte for byte in command.raw if byte >= 0x20), origin)

    def _act(self, command: Command, origin: Origin, now: float) -> None:
        match command.kind:
            case Kind.TEXT:
                self._write(command.raw, origin)
            case Kind.TAB:
                self._begin_line(origin)
                self._typesetter.tab()
            case Kind.LINE_FEED:
                self._feed_lines(1, origin, now)
            case Kind.FEED_LINES:
                self._feed_lines(command.params[0], origin, now)
            case Kind.FEED_DOTS:
                self._feed_dots(command.params[0], origin, now)
            case Kind.INIT:
                self._typesetter.reset()
                self._answers.asb_off()
            case Kind.RASTER:
                self._print_raster(command, origin, now)
            case Kind.CUT:
                self._cut(command, origin, now)
            case Kind.PULSE:
                self._log.note(EventKind.SENSOR, origin.connection, "drawer pulse", command.raw)
            case Kind.BEEP:
                self.beeps += 1
            case Kind.ASB:
                self._answers.switch_asb(command.params[0], origin.connection)
            case Kind.RESPONSE if command.data[:2] == b"\x31\x30":
                self._answers.set_offline_response(command.data[2:])
            case Kind.FENCE | Kind.IDENTITY | Kind.COUNTER | Kind.RESPONSE:
                self._mechanism.add(Answer(command, origin.connection), now)
            case Kind.SYMBOL | Kind.BARCODE:
                self.writers.note(origin.connection)
            case _:
                pass

    def _write(self, text: bytes, origin: Origin) -> None:
        self._begin_line(origin)
        self._typesetter.add(text)

    def _begin_line(self, origin: Origin) -> None:
        if not self._typesetter.pending:
            self._line_origin = origin
        self.writers.note(origin.connection)

    def _end_line(self, now: float) -> int:
        """Print what waits in the line buffer; returns how many lines that made."""
        lines = self._typesetter.take()
        for line in lines:
            self._mechanism.add(PrintLine(line, self._line_origin, self._take_raw()), now)
        if lines and self._faults.reset_when is ResetWhen.MID:
            self._faults.reset_when = None
            self._connections.reset_all([self._line_origin.connection])
        return len(lines)

    def _feed_lines(self, count: int, origin: Origin, now: float) -> None:
        self.writers.note(origin.connection)
        if self._end_line(now):
            count -= 1
        for _ in range(count):
            self._mechanism.add(PrintLine(self._typesetter.blank(), origin, self._take_raw()), now)

    def _feed_dots(self, rows: int, origin: Origin, now: float) -> None:
        self.writers.note(origin.connection)
        self._end_line(now)
        self._mechanism.add(Feed(rows, origin, self._take_raw()), now)

    def _print_raster(self, command: Command, origin: Origin, now: float) -> None:
        self.writers.note(origin.connection)
        self._end_line(now)
        mode, x_low, x_high, y_low, y_high = command.params[1:6]
        height = y_low + 256 * y_high
        rows = height * 2 if mode & 2 else height
        image = Raster(
            x_low + 256 * x_high, height, command.data, rows, scale=1 + (mode & 1), align=self._typesetter.align
        )
        self._mechanism.add(PrintRaster(image, origin, self._take_raw()), now)

    def _cut(self, command: Command, origin: Origin, now: float) -> None:
        self._end_line(now)
        if len(command.params) > 1:
            self._feed_dots(command.params[1], origin, now)
        self._mechanism.add(Cut(origin, self._take_raw(), self._spoiled), now)
        self._spoiled = False
        self.writers.new_paper()

    def _take_raw(self) -> bytes:
        """The commands that have shaped the paper since the last piece of work."""
        raw = bytes(self._raw)
        self._raw.clear()
        return raw
