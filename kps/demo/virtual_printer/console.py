"""A virtual printer in a process of its own: every paper appears as lines of text on standard output."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TextIO

from kps.demo.virtual_printer.records import Align, Line, Paper, Raster
from kps.demo.virtual_printer.server import VirtualPrinter
from kps.demo.virtual_printer.settings import PROFILES, Connections, Speed, UnknownProfile

PAPERS_KEPT_WHOLE = 100
"""A demo may run for days: older papers keep their text, not their bytes and bitmaps."""
_LOOK_EVERY = 0.25


def run(
    host: str = "127.0.0.1",
    port: int = 9100,
    name: str = "kitchen-1",
    *,
    speed: Speed | str = Speed.FAST,
    profile: str = "generic",
    connections: Connections | str = Connections.MANY_ONE_PRINTS,
    talks: bool = False,
    out: TextIO | None = None,
) -> int:
    """Print until SIGINT or SIGTERM; returns the exit code. Call it from the main thread.

    0 = ended by a signal, 1 = the address cannot be had, 78 = unknown profile, speed or policy. The reason goes to
    standard error.
    """
    out = out or sys.stdout
    noted: list[int] = []
    before = {number: signal.signal(number, _noting(noted)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        printer = VirtualPrinter(
            host, port, name,
            profile=profile, speed=speed, connections=connections, talks=talks, keep_raw=PAPERS_KEPT_WHOLE,
        )  # fmt: skip
        with printer:
            _say(out, f"{name}: listening on {host}:{printer.port} ({profile}, {Speed(speed).value})")
            _show_papers(printer, out, noted)
    except BrokenPipeError:
        raise  # standard output is closed: the caller reports it
    except OSError as error:
        sys.stderr.write(f"{name}: cannot listen on {host}:{port}: {error.strerror or error}\n")
        return 1
    except (UnknownProfile, ValueError) as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 78
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _say(out, f"{name}: stopped after {len(printer.papers)} papers")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m kps.demo.virtual_printer`."""
    parser = argparse.ArgumentParser(prog="virtual_printer", description="A virtual ESC/POS network printer.")
    parser.add_argument("--host", default="127.0.0.1", help="address of this host to listen on")
    parser.add_argument("--port", type=int, default=9100, help="0 = any free port")
    parser.add_argument("--name", default="kitchen-1")
    parser.add_argument("--speed", choices=[speed.value for speed in Speed], default=Speed.FAST.value)
    parser.add_argument("--profile", choices=list(PROFILES), default="generic")
    parser.add_argument(
        "--connections",
        choices=[policy.value for policy in Connections],
        default=Connections.MANY_ONE_PRINTS.value,
        help="what becomes of a second connection",
    )
    parser.add_argument("--talks", action="store_true", help="send without end, as what is no printer may do")
    given = parser.parse_args(arguments)
    return run(
        given.host, given.port, given.name,
        speed=given.speed, profile=given.profile, connections=given.connections, talks=given.talks,
    )  # fmt: skip


def picture(paper: Paper, columns: int = 48) -> Iterator[str]:
    """The lines of a paper as text: alignment by spaces, bitmaps as a word, the look of a line behind it."""
    for part in paper.parts:
        if isinstance(part, Raster):
            yield part.text
        else:
            yield _line(part, columns)


def _line(line: Line, columns: int) -> str:
    room = max(1, columns // line.width)
    match line.align:
        case Align.LEFT:
            text = line.text
        case Align.CENTER:
            text = line.text.center(room).rstrip()
        case Align.RIGHT:
            text = line.text.rjust(room)
    looks = [f"{line.width}x{line.height}"] if line.width > 1 or line.height > 1 else []
    looks += ["bold"] * line.bold + ["inverse"] * line.inverse
    return f"{text}  <{' '.join(looks)}>" if looks and text.strip() else text


def _show_papers(printer: VirtualPrinter, out: TextIO, noted: list[int]) -> None:
    shown = 0
    while not noted:
        try:
            paper = printer.wait_paper(shown + 1, _LOOK_EVERY)
        except TimeoutError:
            continue  # look whether a signal came
        shown += 1
        _show(paper, printer.settings.columns, out)


def _show(paper: Paper, columns: int, out: TextIO) -> None:
    notes = ["held"] * paper.held + ["incomplete"] * (not paper.complete)
    ending = ", ".join([paper.ended_by.value.replace("_", " "), *notes])
    _say(out, f"{paper.printer}: paper {paper.sequence}, connection {paper.connection}, {ending}")
    lines = list(picture(paper, columns))
    while lines and not lines[-1].strip():
        lines.pop()
    for line in lines:
        _say(out, f"  | {line}".rstrip())


def _say(out: TextIO, text: str) -> None:
    """One line, at once, whatever characters the terminal has."""
    encoding = out.encoding or "utf-8"
    out.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    out.flush()


def _noting(noted: list[int]) -> Callable[[int, FrameType | None], None]:
    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)

    return note
