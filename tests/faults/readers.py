"""The readers that are our own code, under coverage-guided fuzzing: a result, or a sentence.

    python tests/faults/readers.py -atheris_runs=1000000 -max_total_time=300

Needs ``atheris``, which is no dependency of the tests.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dartcli"]):
    from dartcli import settings
    from dartcli.data.logs.reader import _check_expression
    from dartcli.datasets import _text, book_crossing
    from dartcli.errors import DartError
    from dartcli.storage.checksums import read_document
    from dartcli.training.checkpoint import parse_interval

PLACE = Path(tempfile.mkdtemp(prefix="dart-readers-"))
READERS = (
    lambda path: read_document(path),
    lambda path: settings.load_tree(path),
    lambda path: settings.load_tree(path.rename(path.with_suffix(".toml"))),
    lambda path: settings.validate(settings.Settings, settings.load_tree(path), "settings"),
    lambda path: _text.whole_numbers(path, ("user", "item", "read")),
    lambda _path: book_crossing.read(PLACE, book_crossing.Options()),
    lambda path: settings.parse_seeds(path.read_text("latin-1")),
    lambda path: settings.parse_assignments(path.read_text("latin-1").split("\n")),
    lambda path: parse_interval(path.read_text("latin-1")),
    lambda path: _check_expression(path.read_text("latin-1")),
)


def one_input(content: bytes) -> None:
    """Give the rest of ``content`` to the reader that its first byte names."""
    if not content:
        return
    reader = READERS[content[0] % len(READERS)]
    path = PLACE / "it.json"
    if content[0] % len(READERS) == 5:
        path = PLACE / book_crossing.PATH
        path.parent.mkdir(exist_ok=True)
    path.write_bytes(content[1:])
    try:
        reader(path)
    except DartError as error:
        assert len(str(error)) > 10


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
