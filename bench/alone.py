"""One benchmark, as the process that bench.__main__ runs it in: its findings go into numbered files of a folder.

python -m bench.alone FOLDER UNIT [--quick] [--only]
"""

from __future__ import annotations

import argparse
import importlib
import pickle
from pathlib import Path

from bench.beside import Turn
from bench.figures import Findings
from bench.single import end_in_order


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("unit")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", action="store_true", help="nothing that another unit of a whole run would measure")
    chosen = parser.parse_args()
    end_in_order()
    for number, finding in enumerate(_findings(chosen.unit, chosen.quick, chosen.only, Turn(chosen.folder))):
        unfinished = chosen.folder / "unfinished"
        unfinished.write_bytes(pickle.dumps(finding))
        unfinished.rename(chosen.folder / f"{number:02}.found")


def _findings(unit: str, quick: bool, only: bool, turn: Turn) -> Findings:
    module = importlib.import_module(f"bench.{unit}")
    if hasattr(module, "findings") and not only:
        yield from module.findings(turn)
    else:
        yield unit, module.measure(quick)


if __name__ == "__main__":
    main()
