"""Words and times on paper: KPS's own messages in the kitchen's language, times in the store's time zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from string import Formatter
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kps.core.limits import is_shortage
from kps.core.text import clean
from kps.core.tickets import Reason

_NEAR = timedelta(hours=12)
"""A time nearer than this is printed without its day: it cannot be mistaken for another day's."""


def _as_written(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class PaperStyle:
    """What a site has chosen for all of its paper."""

    say: Callable[[str], str] = _as_written
    """English message with {named} fields -> the same in the language of the kitchen."""
    allergy_words: tuple[str, ...] = ()
    """Beginnings of words that state an allergy, in addition to the built-in ones."""
    top_feed_lines: int = 0
    """Blank lines before the first one, for rails that clamp the head of the paper."""
    beep: bool = False


@dataclass(frozen=True, slots=True)
class Wording:
    """The words and times of one paper. Names of printers, stations and dishes are data: they are never translated."""

    style: PaperStyle
    timezone: str
    """IANA name of the store's zone; with an unknown one every time is UTC and says so."""

    def say(self, message: str, **fields: object) -> str:
        """`message` in the kitchen's language, with its fields filled in: clean, on one line.

        `message` is always a literal, so that a test can compare the catalogues with the code. A translation whose
        fields are not those of the message is not used; the English message is.
        """
        return clean(_valid_translation(message, self.style.say(message)).format(**fields))

    def name(self, name: str) -> str:
        """A clean name; `(no name)` in the kitchen's language if it is empty."""
        return clean(name) or self.say("(no name)")

    def names(self, names: Iterable[str]) -> str:
        """Names one after the other; empty ones are left out."""
        return ", ".join(filter(None, map(clean, names)))

    def cause(self, text: str) -> str:
        """Why a printer cannot print, in words for a cook. `text` is a `Reason`, or free text."""
        match clean(text):
            case Reason.PAPER_OUT:
                return self.say("out of paper")
            case Reason.COVER_OPEN:
                return self.say("cover open")
            case Reason.CUTTER_ERROR:
                return self.say("cutter jammed")
            case Reason.OFFLINE | Reason.PRINTER_ERROR | Reason.TALKATIVE:
                return self.say("printer fault")
            case (
                Reason.REFUSED
                | Reason.TIMEOUT
                | Reason.UNRESOLVABLE
                | Reason.SILENT
                | Reason.CONNECTION_LOST
                | Reason.HOST_FULL
            ):
                return self.say("no connection")
            case Reason.BLOCKED:
                return self.say("printer stuck")
            case Reason.UNPROVEN:
                return self.say("no confirmation")
            case other:
                return other.replace("_", " ")

    def place(self, table: str, queue_number: int | None) -> str:
        """A table or queue number in short, like `T5` or `Q17`; empty if there is neither."""
        name = clean(table)
        if name:
            return f"T{name}" if "0" <= name[0] <= "9" else name
        return "" if queue_number is None else f"Q{queue_number}"

    def clock(self, moment: datetime) -> str:
        """`19:45`."""
        local, known = self._local(moment)
        return f"{local.hour:02}:{local.minute:02}{'' if known else ' UTC'}"

    def day_and_clock(self, moment: datetime) -> str:
        """`2026-11-22 19:45`."""
        return f"{self._local(moment)[0].date().isoformat()} {self.clock(moment)}"

    def past(self, moment: datetime, now: datetime) -> str:
        """The clock, and the day unless it is today."""
        today = self._local(moment)[0].date() == self._local(now)[0].date()
        return self.clock(moment) if today else self.day_and_clock(moment)

    def soon(self, moment: datetime, now: datetime) -> str:
        """The clock, and the day if it is half a day away or more."""
        return self.clock(moment) if abs(moment - now) < _NEAR else self.day_and_clock(moment)

    def _local(self, moment: datetime) -> tuple[datetime, bool]:
        """The moment in the store's time zone, and whether that zone is known."""
        zone = _zone(self.timezone)
        try:
            return moment.astimezone(zone or UTC), zone is not None
        except OverflowError:  # the first or last day of the calendar, which other zones do not have
            return moment, False


@lru_cache(maxsize=1024)
def _valid_translation(message: str, translation: str) -> str:
    """The translation, if it has the fields of the message and no other."""
    try:
        return translation if fields_of(translation) == fields_of(message) else message
    except ValueError:
        return message


def fields_of(message: str) -> frozenset[str]:
    """The fields of a message, as they are written between its braces. Raises ValueError if those do not match."""
    return frozenset(
        f"{name}{'!' if conversion else ''}{conversion or ''}{':' if spec else ''}{spec}"
        for _, name, spec, conversion in Formatter().parse(message)
        if name is not None
    )


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo | None:
    """The time zone of that IANA name; None if this machine knows none. A name from a row may also be a folder's.

    Raises OSError where its file cannot be opened for want of a descriptor: a wrong time would be on the paper.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return None
    except OSError as error:
        if is_shortage(error):
            raise
        return None
