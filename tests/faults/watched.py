"""Run ``dart``, and end it by SIGKILL at its n-th file operation below DART_HOME; or count them.

    python watched.py N COUNT-FILE WORD...

Every file that Python opens, makes, renames or removes counts; N = 0 only counts.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def main() -> None:
    last, counted, words = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    home = os.environ["DART_HOME"]
    seen = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(home):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if not last:
        atexit.register(lambda: counted.write_text(str(seen)))
    sys.argv = ["dart", *words]
    from dartcli.cli import main as dart

    dart()


if __name__ == "__main__":
    main()
