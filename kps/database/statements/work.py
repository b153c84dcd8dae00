"""What the statements of every kind of work have in common: verbs, row types, and conditions on a job or a slip.

A row that somebody works on (`kps.job` j of a ticket, `kps.slip` s) has the same columns in each table: state, token,
settled_token, owner, epoch, printer_key, printer_name, sends, maybe_at, maybe_keys. Fragments take the alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from kps.core.tickets import PrinterKey, Token
from kps.database.connection import Statement


class ClaimedWork(NamedTuple):
    """Something that was claimed for a printer just now."""

    printer_key: PrinterKey
    id: int
    token: Token


class Standing(NamedTuple):
    """What has become of a claim."""

    state: str | None
    """Of the job or slip; None = there is none."""
    mine: bool
    """It still has this token."""
    settled: bool
    """An outcome was written with this token."""
    wanted: bool
    """Its paper is still to be made: a ticket that the POS has taken out of `printing` is not."""
    status: str | None
    """The ticket's status in the POS, None = it was deleted; a slip's state."""


class Settled(NamedTuple):
    """Whether an outcome was written, and what its ticket or slip is now."""

    settled: int
    status: str | None
    woken: int


class GivenBack(NamedTuple):
    """How many claims were given back, and the ids of those that are left to their locks."""

    released: int
    left: list[int]
    woken: int


class Unsent(NamedTuple):
    """Whether it was given back."""

    released: int
    lost: bool
    """Surely somebody else's now. Who has been given back by an earlier try of the same is not lost."""
    woken: int


class OneWork(NamedTuple):
    """A ticket or slip that it took effect on."""

    id: int


class Verbs(Protocol):
    """What is done with one kind of work, but for its promise, which returns what its paper says.

    A statement uses of these values what its table has a place for: id (ids), token (tokens), and what its verb says.
    """

    @property
    def claim(self) -> Statement[ClaimedWork]:
        """Open -> claimed, for the printers (keys, epochs, rows, names) of `me` that these ids and tokens go to."""

    @property
    def standing(self) -> Statement[Standing]:
        """Why a promise was refused, or an outcome not written."""

    @property
    def settle(self) -> Statement[Settled]:
        """What became of it at its printer: `outcome` is printed, retry (open again) or failed."""

    @property
    def unsent(self) -> Statement[Unsent]:
        """Its holder gives it back: no byte has left, although the promise may have been committed."""

    @property
    def release(self) -> Statement[GivenBack]:
        """Their holder gives claimed ones back, unmarked: no byte of them has left."""

    @property
    def reconcile(self) -> Statement[GivenBack]:
        """Give back what is claimed for a printer (key) of `me` with none of the tokens that are held."""

    @property
    def give_up(self) -> Statement[OneWork]:
        """Open -> failed at once, if nothing has changed since they were seen with these tokens."""


NEEDED = "clock_timestamp() + {need:float8} * interval '1 second'"
"""A lease must last so long for a promise: what is sent under it takes a while."""


def leased(of: str, until: str = "clock_timestamp()") -> str:
    """Whether printer p is leased, up to then, as it was when job j or slip s was claimed."""
    return f"""p.printer_key = {of}.printer_key AND p.owner = {of}.owner AND p.epoch = {of}.epoch
     AND p.expires_at > {until}"""


def live(of: str) -> str:
    """Whether the lease that job j or slip s was claimed under lives."""
    return f"EXISTS (SELECT 1 FROM kps.printer p WHERE {leased(of)})"


def left_at(of: str, when: str) -> str:
    """Assignments that note the printer of job j or slip s where an unproven copy may lie, if `when` holds."""
    new = f"({when}) AND {of}.printer_key <> ALL ({of}.maybe_keys)"
    return f"""maybe_at = CASE WHEN {new} THEN {of}.maybe_at || {of}.printer_name ELSE {of}.maybe_at END,
         maybe_keys = CASE WHEN {new} THEN {of}.maybe_keys || {of}.printer_key ELSE {of}.maybe_keys END"""


def taken_back(of: str, sent: str) -> str:
    """The copies (sends) of job j or slip s: the promised one does not count if no byte of it was `sent`."""
    return f"{of}.sends - CASE WHEN {of}.state = 'sending' AND NOT {sent} THEN 1 ELSE 0 END"


def wanted(more: Mapping[str, str] | None = None) -> str:
    """CTEs want and mine: what is to be claimed for which printer, and which of these printers are surely still ours.

    `more`: further columns of text, by the name of their parameter.
    """
    given = {
        "ids:bigint": "id", "tokens:bigint": "token", "keys:text": "printer_key", "epochs:bigint": "epoch",
        "rows:bigint": "row_id", "names:text": "name",
    } | {f"{parameter}:text": column for parameter, column in (more or {}).items()}  # fmt: skip
    return f"""want AS MATERIALIZED (
  SELECT * FROM unnest({", ".join(f"{{{parameter}[]}}" for parameter in given)}) AS w({", ".join(given.values())})
), mine AS MATERIALIZED (
  SELECT p.printer_key, p.epoch FROM kps.printer p
   WHERE p.owner = {{me:uuid}} AND p.expires_at > clock_timestamp()
     AND (p.printer_key, p.epoch) IN (SELECT printer_key, epoch FROM want)
   ORDER BY p.printer_key FOR NO KEY UPDATE
)"""
