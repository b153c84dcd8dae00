"""Loans: a printer that a person has for a probe is borrowed, kept, given back with what it has shown.

A loan is two columns of `kps.printer`: who, and until when by the database's clock. It needs no owner and no epoch;
while it is live nobody acquires the device, and its owner lets it go. Who does not renew it has lost it. One that was
given back has no end any more, so a clock that goes back cannot revive it; `borrowed_by` then is who has stored, or ''.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from kps.core.abilities import Abilities
from kps.core.tickets import PrinterKey
from kps.database.connection import Database, Statement
from kps.database.statements import CHANNEL_PRINTER
from kps.database.statements.fragments import OneDevice, ToldDevice
from kps.database.statements.leases import CUT_LOANS, LOAN_S

__all__ = [
    "LOAN_S",
    "LOAN_STATEMENTS",
    "AlreadyBorrowed",
    "LoanOwner",
    "LoanStatements",
    "Loans",
    "ShownDevice",
    "shown",
]

_TOLD = f"(SELECT count(pg_notify('{CHANNEL_PRINTER}', ''))) AS told"
_MINE = """p.printer_key = {key:text} AND p.borrowed_by = {by:text} AND p.borrowed_until > clock_timestamp()"""
_GIVEN_BACK = """borrowed_until = '-infinity', expires_at = greatest(p.expires_at, clock_timestamp()),
         state = CASE WHEN p.expires_at > clock_timestamp() THEN p.state ELSE 'starting' END,
         state_text = CASE WHEN p.expires_at > clock_timestamp() THEN p.state_text ELSE '' END,
         state_since = CASE WHEN p.expires_at > clock_timestamp() THEN p.state_since ELSE clock_timestamp() END"""
"""If its owner had let it go: what a probe has left behind nobody knows yet, and whoever may take the device back gets
as long as if its lease had ended now."""


class AlreadyBorrowed(Exception):
    """Somebody else has the printer for a probe; the message is who."""


@dataclass(frozen=True, slots=True)
class LoanStatements:
    """Every statement of a probe, by verb."""

    borrow: Statement[ToldDevice]
    borrower: Statement[Borrower]
    renew: Statement[OneDevice]
    give_back: Statement[ToldDevice]
    owner: Statement[LoanOwner]
    store: Statement[ToldDevice]
    cut_loans: Statement[OneDevice]
    process_id: Statement[ProcessIdTaken]
    shown: Statement[ShownDevice]


class Borrower(NamedTuple):
    """Who has a device for a probe."""

    borrowed_by: str


class LoanOwner(NamedTuple):
    """The instance that has a device."""

    owner_name: str
    state_text: str
    sending: bool


class ProcessIdTaken(NamedTuple):
    """A number that no ticket has."""

    number: int


class ShownDevice(NamedTuple):
    """What is known about a device, for people."""

    printer_key: PrinterKey
    state: str
    live: bool
    borrowed: bool
    proof_level: str | None
    answers: bool | None
    pushes: bool
    clears: bool
    model: str
    firmware: str
    serial: str
    probed_at: datetime | None
    demoted_at: datetime | None
    demoted_text: str
    borrowed_by: str


LOAN_STATEMENTS = LoanStatements(
    borrow=Statement(
        "borrow",
        ToldDevice,
        f"""WITH p AS (
  INSERT INTO kps.printer AS p (printer_key, name, borrowed_by, borrowed_until)
  VALUES ({{key:text}}, {{name:text}}, {{by:text}}, clock_timestamp() + {{for_s:float8}} * interval '1 second')
  ON CONFLICT (printer_key) DO UPDATE SET borrowed_by = excluded.borrowed_by, borrowed_until = excluded.borrowed_until
   WHERE p.borrowed_until <= clock_timestamp()
  RETURNING p.printer_key
)
SELECT printer_key, {_TOLD} FROM p""",
    ),
    borrower=Statement(
        "borrower",
        Borrower,
        """SELECT borrowed_by FROM kps.printer p
 WHERE p.printer_key = {key:text} AND p.borrowed_until > clock_timestamp()""",
    ),
    renew=Statement(
        "renew_loan",
        OneDevice,
        f"""UPDATE kps.printer p SET borrowed_until = clock_timestamp() + {{for_s:float8}} * interval '1 second'
 WHERE {_MINE} RETURNING p.printer_key""",
    ),
    give_back=Statement(
        "give_back",
        ToldDevice,
        f"""WITH p AS (
  UPDATE kps.printer p SET borrowed_by = '', {_GIVEN_BACK} WHERE {_MINE} RETURNING p.printer_key
)
SELECT printer_key, {_TOLD} FROM p""",
    ),
    owner=Statement(
        "owner",
        LoanOwner,
        """SELECT p.owner_name, p.state_text,
       EXISTS (SELECT 1 FROM kps.job j WHERE j.printer_key = p.printer_key AND j.state = 'sending') AS sending
  FROM kps.printer p WHERE p.printer_key = {key:text} AND p.expires_at > clock_timestamp()""",
    ),
    store=Statement(
        "store",
        ToldDevice,
        f"""WITH p AS (
  UPDATE kps.printer p
     SET proof_level = {{level:text}}, pushes = {{pushes:boolean}}, clears = {{clears:boolean}},
         firmware = {{firmware:text}}, model = {{model:text}}, serial = {{serial:text}}, answers = {{answers:boolean}},
         demoted_at = NULL, demoted_text = '', probed_at = clock_timestamp(), {_GIVEN_BACK}
   WHERE {_MINE}
  RETURNING p.printer_key
)
SELECT printer_key, {_TOLD} FROM p""",
    ),
    cut_loans=CUT_LOANS,
    process_id=Statement("process_id", ProcessIdTaken, "SELECT nextval('kps.process_id_seq') AS number"),
    shown=Statement(
        "shown",
        ShownDevice,
        """SELECT p.printer_key, p.state, p.expires_at > clock_timestamp() AS live,
       p.borrowed_until > clock_timestamp() AS borrowed, p.proof_level, p.answers, p.pushes, p.clears,
       coalesce(p.model, '') AS model, p.firmware, p.serial, p.probed_at, p.demoted_at, p.demoted_text,
       -- a loan that has run out says who has let it run out, not who has probed
       CASE WHEN p.borrowed_until > clock_timestamp() OR NOT isfinite(p.borrowed_until) THEN p.borrowed_by ELSE '' END
         AS borrowed_by
  FROM kps.printer p WHERE p.printer_key = ANY ({keys:text[]})""",
    ),
)


class Loans:
    """Printers that one person borrows for a probe. Every verb may raise DatabaseTrouble."""

    def __init__(self, database: Database, by: str) -> None:
        self._database = database
        self._sql = LOAN_STATEMENTS
        self.by = by
        """Who probes; no two living processes say the same."""

    def borrow(self, key: PrinterKey, name: str) -> None:
        """From now on the device is ours, once its owner has let it go. Raises AlreadyBorrowed.

        A loan from before the database's clock went back ends within LOAN_S, if nobody renews it.
        """
        self._database.run(self._sql.cut_loans)
        if not self._database.run(self._sql.borrow, key=key, name=name, by=self.by, for_s=LOAN_S):
            rows = self._database.run(self._sql.borrower, key=key)
            raise AlreadyBorrowed(rows[0].borrowed_by if rows else "somebody who is just giving it back")

    def renew(self, key: PrinterKey) -> bool:
        """Keep it for LOAN_S more; False = it is not ours any more."""
        return bool(self._database.run(self._sql.renew, key=key, by=self.by, for_s=LOAN_S))

    def give_back(self, key: PrinterKey) -> bool:
        """Its owner may have it again; False = it was not ours."""
        return bool(self._database.run(self._sql.give_back, key=key, by=self.by))

    def owner(self, key: PrinterKey) -> LoanOwner | None:
        """The instance that has not let it go yet; None = nobody holds it."""
        rows = self._database.run(self._sql.owner, key=key)
        return rows[0] if rows else None

    def store(self, key: PrinterKey, abilities: Abilities, *, answers: bool, model: str, serial: str) -> bool:
        """Write what it has shown, and give it back; False = it was not ours any more, and nothing is written."""
        assert abilities.level is not None
        return bool(
            self._database.run(
                self._sql.store, key=key, by=self.by, level=abilities.level.value, pushes=abilities.pushes,
                clears=abilities.clears, firmware=abilities.firmware, model=model, serial=serial, answers=answers,
            )
        )  # fmt: skip

    def process_id(self) -> int:
        """A number that no ticket's process ID has."""
        return self._database.run(self._sql.process_id)[0].number


def shown(database: Database, keys: Iterable[PrinterKey]) -> dict[PrinterKey, ShownDevice]:
    """What is known about devices, for people; devices that nobody has ever owned are missing."""
    rows = database.run(LOAN_STATEMENTS.shown, keys=sorted(set(keys)))
    return {row.printer_key: row for row in rows}
