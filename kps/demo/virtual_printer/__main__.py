"""`python -m kps.demo.virtual_printer`: a virtual printer in a process of its own."""

from __future__ import annotations

import sys

from kps.demo.virtual_printer.console import main

if __name__ == "__main__":
    sys.exit(main())
