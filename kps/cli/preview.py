"""`kps preview`: the paper of a ticket as text and as a picture, without printing or changing anything."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from kps.core.document import compose
from kps.core.settings import Settings
from kps.core.tickets import TicketId
from kps.database import Database
from kps.database.migrations import applied, available
from kps.database.pos import introspect
from kps.database.preview import Previewed, preview
from kps.paper.layout import Sheet, lay_out
from kps.paper.preview import png_of, text_of
from kps.paper.style import style_of

NOBODY = str(UUID(int=0))
"""An owner that owns nothing: a preview only reads."""
_LARGEST_ID = 2**63 - 1
"""Of a bigint; the database would call a larger one a fault."""


class NothingToShow(Exception):
    """There is no such ticket, or the service has never been started here; the message says which."""


class NotWritten(Exception):
    """The text could not be shown, or the picture not be stored; the message says where and why."""


class NoFile(Exception):
    """`-` is asked for as the picture's file, but standard output shows the text."""


def run(settings: Settings, ticket: int, printer: str, png: Path | None, say: Callable[[str], None]) -> None:
    """Show the paper of a ticket; the picture goes to `png`, if given.

    Without a printer's name it is that of the printer which had the ticket last, else of the first of its route.
    Raises NothingToShow, UnknownPrinter, NotWritten, NoFile, Unrenderable, DatabaseTrouble and SchemaUnusable.
    """
    if png == Path("-"):
        raise NoFile("standard output shows the text, so --png needs the name of a file")
    # A person reads the paper, which shows what has no font, and no log.
    logging.getLogger("kps").addHandler(logging.NullHandler())
    sheet = _sheet(_look(settings, TicketId(ticket), printer), settings)
    _show(text_of(sheet), say)
    if png is not None:
        _write(png, png_of(sheet))


def _show(text: str, say: Callable[[str], None]) -> None:
    try:
        say(text)
    except BrokenPipeError:  # The reader has closed its end: it has seen enough.
        raise
    except OSError as error:
        # What is still in the buffer would be tried once more at exit, and fail as a traceback.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise NotWritten(f"standard output cannot be written: {error.strerror or error}") from error


def _look(settings: Settings, ticket: TicketId, printer: str) -> Previewed:
    if ticket > _LARGEST_ID:
        raise NothingToShow(f"there is no ticket {ticket}")
    database = Database(settings.database, "preview")
    try:
        database.connect()
        # Whatever we ask from here on, PostgreSQL itself refuses to change anything.
        database.query("SET default_transaction_read_only = on")
        pos = introspect(database)
        _need_tables(database)
        found = preview(
            database,
            pos,
            ticket,
            printer,
            site=settings.site,
            late_after_minutes=settings.late_after_minutes,
            day_start_minutes=settings.day_start_minutes,
        )
    finally:
        database.close()
    if found is None:
        raise NothingToShow(f"there is no ticket {ticket}")
    return found


def _need_tables(database: Database) -> None:
    newest, present = available()[-1][0], applied(database)
    if present != newest:
        raise NothingToShow(
            f"schema kps is at version {present}, this KPS works with {newest}: start the service first"
        )


def _sheet(found: Previewed, settings: Settings) -> Sheet:
    document = compose(found.ticket, found.paper, style_of(settings))
    return lay_out(document, found.paper, font_dirs=settings.font_dirs)


def _write(file: Path, picture: bytes) -> None:
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise NotWritten(f"{file} cannot be written: {error.strerror or error}") from error
