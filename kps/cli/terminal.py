"""What the commands say to a terminal: names and texts of the POS and of devices may command it to nothing."""

from __future__ import annotations

import sys

import typer

from kps.core.printable import printable


def say(text: str = "", *, nl: bool = True) -> None:
    """One line, every sign that is not printable spelled out, line ends too: a name must not forge a line."""
    typer.echo(printable(text), nl=nl)


def complain(sentence: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"kps: {printable(sentence)}\n")
