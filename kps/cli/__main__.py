"""`python -m kps.cli` is the `kps` command."""

from kps.cli.main import main

if __name__ == "__main__":
    main()
