"""Kill ``dart`` with SIGKILL at its n-th file operation below DART_HOME, or count them.

    python watched.py N COUNT-FILE WORD...

Every file that Python opens, creates, renames, or removes counts. N = 0 only counts, and writes
the number to COUNT-FILE.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


def main() -> None:
    last, count_file, words = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    home = os.environ["DART_HOME"]
    seen = 0

    def count_operations(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event in EVENTS and str(arguments[0]).startswith(home):
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count_operations)
    if not last:
        atexit.register(lambda: count_file.write_text(str(seen)))
    sys.argv = ["dart", *words]
    from dartcli.cli import main as dart

    dart()


if __name__ == "__main__":
    main()
