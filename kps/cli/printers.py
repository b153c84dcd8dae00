"""`kps printers`: what each printer has proven, and the probe by which it does."""

from __future__ import annotations

import getpass
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType
from typing import assert_never

from kps.cli.terminal import say
from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress, FileAddress, TcpAddress, printer_key
from kps.core.networks import Reach
from kps.core.process_ids import process_id_text
from kps.core.routing import Lookup, PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey, ProofLevel
from kps.database import Database, DatabaseTrouble
from kps.database.loans import LOAN_S, AlreadyBorrowed, LoanOwner, Loans, ShownDevice, shown
from kps.database.migrations import applied, available, migrate
from kps.database.names import addresses_of
from kps.database.pos import introspect
from kps.database.row_mappers import printer_rows
from kps.database.schema import SchemaUnusable
from kps.database.statements import Statements
from kps.device.address import Unresolvable, resolved
from kps.device.files import absence
from kps.device.probe import Card, Findings, Person, probe
from kps.device.probe_wire import ProbeFailed
from kps.process.clocks import boottime, monotonic
from kps.supervisor.devices import vouched_for, wanted_devices

EXIT_STORED, EXIT_NOT_STORED, EXIT_USAGE = 0, 1, 2
RENEW_EVERY_S = 5.0
RENEW_AGAIN_S = 1.0
"""After a renewal that failed."""
LOAN_MARGIN_S = 5.0
"""A loan is not trusted to its last second: what we write then may still be on its way."""
LET_GO_LIMIT_S = 90.0
"""How long its owner may need to end: it waits HOLD_SECONDS for a ticket that is stuck in the printer."""
LOOK_EVERY_S = 0.2
RESOLVE_LIMIT_S = 2.0

Say = Callable[[str], None]


class BadName(Exception):
    """No printer, or more than one, answers to this name; the message says which there are."""


class NotStored(Exception):
    """Nothing was stored; the message says why."""


@dataclass(slots=True)
class AtTheTerminal:
    """The person at this terminal, who stands at the printer too."""

    wakeup: int
    """A descriptor that becomes readable with every signal: between a question and the wait none may be missed."""
    present: bool = True
    _input: bytes = b""

    def tell(self, text: str) -> None:
        """A line of its own."""
        say(f"  {text}")

    def confirm(self, question: str) -> bool:
        """A clear yes or no. Raises NotStored at the end of the input."""
        while True:
            say(f"? {question} [y/n]: ", nl=False)
            answer = self._line().strip().lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")

    def _line(self) -> str:
        while b"\n" not in self._input:
            ready, _, _ = select.select([sys.stdin.fileno(), self.wakeup], [], [])
            if sys.stdin.fileno() not in ready:
                continue
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                say()
                raise NotStored("nobody answers here; where nobody stands at the printer, use --yes")
            self._input += data
        line, _, self._input = self._input.partition(b"\n")
        return line.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Nobody:
    """Nobody stands at the printer."""

    present: bool = False

    def tell(self, text: str) -> None:
        """For the record."""
        say(f"  {text}")

    def confirm(self, question: str) -> bool:
        """Whatever it is: it was not done, it was not seen."""
        return False


# The list.

_HEAD = ("NAME", "KEY", "STATE", "LEVEL", "PUSHES", "CLEARS", "MODEL", "PROBED", "BY")


def run_list(settings: Settings, say: Say) -> None:
    """One line for each printer row of the POS. Raises DatabaseTrouble and SchemaUnusable."""
    with _connected(settings) as database:
        rows = _rows(database)
        rows, keys = _with_devices(settings, rows)
        known = shown(database, keys.values()) if applied(database) == available()[-1][0] else {}
        given = _vouched(settings, rows, keys)
        table = [_HEAD, *(_line(row, keys.get(row.id), known, given) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        say("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())
    for key, device in known.items():
        if device.demoted_at is not None:
            say(f"{key} lost its level at {_time(device.demoted_at)}: {device.demoted_text}")


def _line(
    row: PrinterRow,
    key: PrinterKey | None,
    known: Mapping[PrinterKey, ShownDevice],
    given: Mapping[PrinterKey, Abilities],
) -> tuple[str, ...]:
    if key is None:
        return (row.name, "-", row.fault or row.trouble, "-", "-", "-", "-", "-", "-")
    device = known.get(key)
    if device is None:
        return (
            row.name,
            key,
            "not here" if row.absent else "unknown",
            *_in_force(None, given.get(key)),
            "-",
            "never",
            "-",
        )
    state = "held" if device.borrowed else device.state if device.live else "not served"
    level = _in_force(device, given.get(key))
    probed = _time(device.probed_at) if device.probed_at is not None else "never"
    return (row.name, key, state, *level, device.model or "-", probed, device.borrowed_by or "-")


def _in_force(device: ShownDevice | None, given: Abilities | None) -> tuple[str, str, str]:
    """Level, pushes, clears: as the service works with them."""
    if given is not None and given.level is not None:
        return (f"{given.level.value} (set)", _yes(given.pushes), _yes(given.clears))
    if device is None:
        return ("-", "-", "-")
    level = device.proof_level or (ProofLevel.REALTIME if device.answers else ProofLevel.NONE).value
    if device.probed_at is None:
        return (level, "-", "-")
    return (level, _yes(device.pushes), _yes(device.clears))


def _vouched(
    settings: Settings, rows: Iterable[PrinterRow], keys: Mapping[int, PrinterKey]
) -> dict[PrinterKey, Abilities]:
    """What PROOF_LEVELS says of the devices that the service with these settings has."""
    keyed = [replace(row, key=keys.get(row.id, row.key)) for row in rows]
    devices = wanted_devices(keyed, {}, settings)
    found = ((key, vouched_for(device, settings)) for key, device in devices.items())
    return {key: abilities for key, abilities in found if abilities is not None}


def _yes(able: bool) -> str:
    return "yes" if able else "no"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


# The probe.


def run_probe(settings: Settings, name: str, say: Say, *, yes: bool, overflow: bool) -> int:
    """Probe one printer and store what it shows; returns the exit code. Raises BadName."""
    by = _who()
    try:
        with _interruptible() as wakeup, _connected(settings) as database:
            rows = _rows(database)
            row = find(rows, name)
            person = Nobody() if yes else AtTheTerminal(wakeup)
            _store(settings, database, row, by, say, person, overflow=overflow)
            _tell_if_outweighed(settings, row, rows, say)
    except (NotStored, ProbeFailed, DatabaseTrouble, SchemaUnusable) as why:
        say(f"nothing stored: {why}")
    except AlreadyBorrowed as who:
        say(f"nothing stored: {name} is being probed already, by {who}")
    except KeyboardInterrupt:
        say("")  # the cursor may stand behind a question
        say("nothing stored: interrupted")
    else:
        return EXIT_STORED
    return EXIT_NOT_STORED


def find(rows: Iterable[PrinterRow], name: str) -> PrinterRow:
    """The row that is meant by its name, without case, or by its `ip:port`. Raises BadName."""
    rows = list(rows)
    wanted = name.strip().lower()
    found = [row for row in rows if wanted in (row.name.lower(), str(row.address).lower())]
    if not found:
        known = ", ".join(dict.fromkeys(row.name for row in rows)) or "none"
        raise BadName(f"no printer is called {name}; there are: {known}")
    devices = list(dict.fromkeys(str(row.address) for row in found))
    if len(devices) > 1:
        raise BadName(f"several printers are called {name}; say which: {', '.join(devices)}")
    return next((row for row in found if not row.fault), found[0])


def _store(
    settings: Settings, database: Database, row: PrinterRow, by: str, say: Say, person: Person, *, overflow: bool
) -> None:
    """Borrow, probe, store. Raises NotStored, ProbeFailed, AlreadyBorrowed and DatabaseTrouble."""
    if row.fault:
        raise NotStored(f"{row.name}: {row.fault}")
    if absent := _absence(settings, row):
        raise NotStored(f"{row.name}: {absent}; probe it at the host that has it")
    _need_tables(settings, database)
    key = _key(settings, row)
    loans = Loans(database, by)
    with Loan(settings, loans, key, row.name) as loan:
        say(f"{row.name} at {row.address} is borrowed for a probe")
        loan.wait_until_free(say)
        findings = probe(
            _resolved(row), person,
            card=Card(row.name, str(row.address), f"{datetime.now(UTC).astimezone():%Y-%m-%d %H:%M}"),
            next_id=lambda: process_id_text(loans.process_id()),
            may_go_on=loan.holds,
            has_answered=bool(shown(database, [key])[key].answers),
            overflow=overflow,
        )  # fmt: skip
        model = " ".join(word for word in (findings.maker, findings.model) if word)
        if not loans.store(key, findings.abilities, answers=findings.answers, model=model, serial=findings.serial):
            raise NotStored("the loan ran out before the end of the probe")
    _tell(findings, row, model, say)


def _tell(findings: Findings, row: PrinterRow, model: str, say: Say) -> None:
    abilities = findings.abilities
    assert abilities.level is not None
    say(f"stored for {row.name}:")
    say(f"  level     {abilities.level.value}")
    say(f"  pushes    {_yes(abilities.pushes)}")
    say(f"  clears    {_yes(abilities.clears)}")
    say(f"  model     {model or 'it does not say'}")
    say(f"  firmware  {abilities.firmware or 'it does not say'}")
    say(f"  serial    {findings.serial or 'it does not say'}")


def _tell_if_outweighed(settings: Settings, row: PrinterRow, rows: Iterable[PrinterRow], say: Say) -> None:
    """Say so where the setting, and not what was just stored, is what the service works with."""
    if not settings.proof_levels:
        return
    rows, keys = _with_devices(settings, rows)
    if (given := _vouched(settings, rows, keys).get(keys[row.id])) is not None:
        level, pushes, clears = _in_force(None, given)
        say(f"PROOF_LEVELS outweighs this: {level}, pushes {pushes}, clears {clears}")


class Loan:
    """A printer that is ours while this is entered: a thread renews it, also while a person thinks."""

    def __init__(
        self, settings: Settings, loans: Loans, key: PrinterKey, name: str, renew_every_s: float = RENEW_EVERY_S
    ) -> None:
        self._settings = settings
        self._loans = loans
        self._key = key
        self._name = name
        self._renew_every_s = renew_every_s
        self._until = 0.0
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="loan", daemon=True)

    def __enter__(self) -> Loan:
        asked_at = boottime()
        self._loans.borrow(self._key, self._name)
        self._until = asked_at + LOAN_S
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back, unless that was done by storing."""
        self._until = 0.0
        self._over.set()
        self._keeper.join(LOAN_MARGIN_S)

    def holds(self) -> bool:
        """Whether the printer is surely ours now: nobody else writes to it before this is False."""
        return boottime() < self._until - LOAN_MARGIN_S

    def wait_until_free(self, say: Say) -> None:
        """Until its owner has let it go. Raises NotStored if that takes too long."""
        until = monotonic() + LET_GO_LIMIT_S
        told = ""
        while (owner := self._loans.owner(self._key)) is not None:
            doing = "finishes the ticket in it" if owner.sending else "lets it go"
            if monotonic() >= until or not self.holds():
                raise NotStored(f"instance {owner.owner_name} does not let go of {self._name}: {_stuck(owner)}")
            if doing != told:
                say(f"waiting until instance {owner.owner_name} {doing}")
                told = doing
            self._over.wait(LOOK_EVERY_S)

    def _keep(self) -> None:
        """The thread: a connection of its own, so that an interrupted call of the other one costs nothing."""
        database = Database(self._settings.database, "loan")
        loans = Loans(database, self._loans.by)
        pause = self._renew_every_s
        try:
            while not self._over.wait(pause):
                pause = self._renew(loans)
            loans.give_back(self._key)
        except DatabaseTrouble:
            return  # it ends by itself
        finally:
            database.close()

    def _renew(self, loans: Loans) -> float:
        """Returns when to do it again."""
        asked_at = boottime()
        try:
            kept = loans.renew(self._key)
        except DatabaseTrouble:
            return RENEW_AGAIN_S
        if not self._over.is_set():
            self._until = asked_at + LOAN_S if kept else 0.0
        return self._renew_every_s


def _stuck(owner: LoanOwner) -> str:
    return owner.state_text or ("a ticket is printing" if owner.sending else "is it of an older version?")


def _need_tables(settings: Settings, database: Database) -> None:
    """Schema kps as this version knows it. One that is behind is left to the service, which may still work with it."""
    newest, present = available()[-1][0], applied(database)
    if present == 0 and settings.auto_migrate:
        migrate(database, automatic=True)
    elif present != newest:
        raise NotStored(f"schema kps is at version {present}, this KPS works with {newest}: start the service first")


def _rows(database: Database) -> list[PrinterRow]:
    return printer_rows(database.run(Statements(introspect(database)).rows), {})


def _with_devices(settings: Settings, rows: Iterable[PrinterRow]) -> tuple[list[PrinterRow], dict[int, PrinterKey]]:
    """The rows as the supervisor has them, and the keys of those that have a device."""
    found, keys = [], {}
    for row in rows:
        if not row.fault:
            try:
                keys[row.id] = _key(settings, row)
                row = replace(row, absent=_absence(settings, row))
            except _Unknown:
                row = replace(row, lookup=Lookup.FAILED)
            except NotStored as refused:
                row = replace(row, refused=str(refused).removeprefix(f"{row.name}: "))
        found.append(row)
    return found, keys


class _Unknown(NotStored):
    """Its host name has no address."""


def _key(settings: Settings, row: PrinterRow) -> PrinterKey:
    """As the supervisor makes it. Raises NotStored where there is no device, or none that may be a printer."""
    address = _resolved(row)
    if isinstance(address, FileAddress):
        return printer_key(settings.site, address)
    if refused := Reach.of(settings, addresses_of(settings.database.host)).refusal(address.host, address.port):
        raise NotStored(f"{row.name}: {refused}")
    return printer_key(settings.site, address)


def _absence(settings: Settings, row: PrinterRow) -> str:
    """Why this host cannot open the row's device, if that is a file; '' if it can."""
    match row.address:
        case TcpAddress():
            return ""
        case FileAddress() as file:
            return absence(file, settings)
        case unexpected:
            assert_never(unexpected)


def _resolved(row: PrinterRow) -> DeviceAddress:
    try:
        return resolved(row.address, limit_s=RESOLVE_LIMIT_S)
    except Unresolvable as error:
        raise _Unknown(f"the host name of {row.name}, {row.address.pos_ip}, has no address") from error


@contextmanager
def _connected(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database, "printers")
    try:
        database.connect()
        yield database
    finally:
        database.close()


def _who() -> str:
    """`user@host`, with the process: two probes of one person are two."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


@contextmanager
def _interruptible() -> Iterator[int]:
    """TERM and a closed terminal end the probe as Ctrl+C does; yields a descriptor that every signal makes readable."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with ExitStack() as undo:
        reader, writer = os.pipe()
        undo.callback(os.close, reader)
        undo.callback(os.close, writer)
        os.set_blocking(writer, False)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            undo.callback(signal.signal, number, signal.signal(number, interrupt))
        yield reader
