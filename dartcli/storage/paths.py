"""Where files live on disk.

Everything is in one directory: ``$DART_HOME`` if set, else the user data directory of the platform
(``~/.local/share/dartcli`` on Linux).
"""

from __future__ import annotations

import os
from pathlib import Path

from dartcli.errors import UsageError


def home() -> Path:
    """Return the directory that holds everything else; it may not exist yet."""
    chosen = os.environ.get("DART_HOME")
    if chosen:
        path = Path(chosen).expanduser()
        if path.exists() and not path.is_dir():
            raise UsageError(f"DART_HOME is a file: {path}. Set it to a directory, or unset it.")
        return path.absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("dartcli", appauthor=False))


def raw_data(dataset: str) -> Path:
    """Return the directory of the downloaded files of ``dataset``."""
    return home() / "raw" / dataset


def processed_data(dataset: str) -> Path:
    """Return the directory of the encoded tables and splits of ``dataset``."""
    return home() / "processed" / dataset


def runs() -> Path:
    """Return the directory that holds one folder per run."""
    return home() / "runs"


def reports() -> Path:
    """Return the directory of the pages written by ``dart report``."""
    return home() / "reports"


def mirror() -> Path | None:
    """Return the directory named by ``DART_MIRROR``, or None if it is not set."""
    chosen = os.environ.get("DART_MIRROR")
    return Path(chosen).expanduser().absolute() if chosen else None
