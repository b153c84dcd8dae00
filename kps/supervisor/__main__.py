"""`python -m kps.supervisor`. Thin: a spawned child skips any main module named `__main__`."""

import sys

from kps.supervisor.main import main

if __name__ == "__main__":
    sys.exit(main())
