"""Run the command line as ``python -m dartcli``."""

from __future__ import annotations

from dartcli.cli import main

if __name__ == "__main__":
    main()
