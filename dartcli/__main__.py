"""``python -m dartcli`` does what ``dart`` does."""

from __future__ import annotations

from dartcli.cli import main

if __name__ == "__main__":
    main()
