"""The `kps` command: starts quickly, and ends without a traceback when the person or the pipe has gone."""

from __future__ import annotations

import os
import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        # Imported here: Ctrl+C during the imports ends as quietly as later.
        from kps.cli.commands import app

        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # a menu has letters that a terminal may not
        app()
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED)
    except BrokenPipeError:
        _leave(1)


def _leave(code: int) -> None:
    """Exit without writing what nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
