"""Display of the running demo: a live table on a terminal, lines of text anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

PLAIN_EVERY_S: Final = 5.0
EVENTS_SHOWN: Final = 3
EVENTS_REPEATED: Final = 40
FIXED_LINES: Final = 19
"""Lines of the live view without its tickets."""
_STATUS_STYLE = {"printed": "green", "printing": "yellow", "new": "cyan", "failed": "bold red"}


@dataclass(frozen=True, slots=True)
class PrinterLine:
    """A printer as the service sees it; `able` None = not known yet. `papers` came out of it so far."""

    name: str
    station: str
    able: bool | None
    state: str
    paper: str
    waiting: int
    papers: int


@dataclass(frozen=True, slots=True)
class TicketLine:
    """A ticket: its guest, its status, and the seconds from commit to first byte (None = nothing came out yet)."""

    id: int
    station: str
    guest: str
    status: str
    printer: str
    wait_s: float | None


@dataclass(frozen=True, slots=True)
class View:
    """The state of the running demo, as it is shown."""

    phase: str
    url: str
    orders: int
    statuses: Mapping[str, int]
    printers: Sequence[PrinterLine]
    tickets: Sequence[TicketLine]
    """The newest first."""

    @property
    def queue(self) -> str:
        """Orders and tickets in one line."""
        counts = ", ".join(f"{count} {status}" for status, count in self.statuses.items() if count)
        return f"{self.orders} orders, {sum(self.statuses.values())} tickets: {counts or 'none'}"


class Screen(Protocol):
    """Where the demo shows its progress."""

    def __enter__(self) -> Screen:
        """Begin to show views."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the display; events stay readable."""

    def say(self, text: str) -> None:
        """Show one event now."""

    def show(self, view: Callable[[int], View]) -> None:
        """Show the view if it is due. `view` is called with the number of tickets that can be shown."""


class PlainScreen:
    """Lines of text: each event, and the counts every five seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> PlainScreen:
        self._next = time.monotonic() + PLAIN_EVERY_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """One line with the seconds since the start."""
        print_line(self._console, f"{time.monotonic() - self._began:5.1f} s  {text}")

    def show(self, view: Callable[[int], View]) -> None:
        """The counts, every five seconds."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_S
            self.say(view(0).queue)


class LiveScreen:
    """Tables that are redrawn several times a second, on the terminal's alternate screen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._events: list[str] = []
        self._live: Live | None = None

    def __enter__(self) -> LiveScreen:
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        for event in self._events[-EVENTS_REPEATED:]:
            print_line(self._console, event)
        self._events.clear()

    def say(self, text: str) -> None:
        """Show an event below the tables; the last ones are printed again at the end."""
        line = f"{time.monotonic() - self._began:5.1f} s  {text}"
        if self._live is None:
            print_line(self._console, line)
        else:
            self._events.append(line)

    def show(self, view: Callable[[int], View]) -> None:
        """The tables as they are now."""
        if self._live is not None:
            tickets_shown = max(3, self._console.height - FIXED_LINES)
            self._live.update(_layout(view(tickets_shown), self._events[-EVENTS_SHOWN:]), refresh=True)


def print_line(console: Console, text: str) -> None:
    """Print one line as it is: no markup, no colours, not wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _layout(view: View, events: Sequence[str]) -> RenderableType:
    head = Text.assemble(("KPS demo  ", "bold"), view.phase, ("   Ctrl+C ends it", "dim"), no_wrap=True)
    foot = [Text(event, style="dim", no_wrap=True, overflow="ellipsis") for event in events]
    return Group(
        head,
        Text(f"{view.url}/health  /status  /metrics", style="dim", no_wrap=True, overflow="ellipsis"),
        Text(),
        _printers(view.printers),
        Text(),
        Text(view.queue, style="bold", no_wrap=True, overflow="ellipsis"),
        Text(),
        _tickets(view.tickets),
        Text(),
        *foot,
    )


def _printers(lines: Sequence[PrinterLine]) -> Table:
    table = _table("printer", "station", "state", "paper")
    table.columns[2].ratio = 1
    table.add_column("waiting", justify="right", no_wrap=True)
    table.add_column("papers", justify="right", no_wrap=True)
    for line in lines:
        style = {True: "green", False: "bold red", None: "yellow"}[line.able]
        table.add_row(
            line.name, line.station, Text(line.state, style), _paper(line.paper), str(line.waiting), str(line.papers)
        )
    return table


def _paper(word: str) -> Text:
    return Text(word, "green" if word == "ok" else "dim" if word == "unknown" else "bold red")


def _tickets(lines: Sequence[TicketLine]) -> Table:
    table = _table("ticket", "station", "for", "status", "printer")
    table.columns[2].ratio = 1
    table.add_column("to paper", justify="right", no_wrap=True)
    for line in lines:
        wait = "" if line.wait_s is None else f"{line.wait_s * 1000:.0f} ms"
        status = Text(line.status, _STATUS_STYLE.get(line.status, ""))
        table.add_row(f"#{line.id}", line.station, line.guest, status, line.printer, wait)
    return table


def _table(*titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, expand=True, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    return table
