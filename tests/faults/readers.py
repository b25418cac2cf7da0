"""Fuzz our own parsers, guided by coverage: each returns a value or raises a DartError.

    python tests/faults/readers.py -atheris_runs=1000000 -max_total_time=300

Needs ``atheris``, which the ``test`` extra does not install.
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

FOLDER = Path(tempfile.mkdtemp(prefix="dart-readers-"))


def _read_ratings(path: Path) -> object:
    target = FOLDER / book_crossing.PATH
    target.parent.mkdir(exist_ok=True)
    path.rename(target)
    return book_crossing.read(FOLDER, book_crossing.Options())


READERS = (
    lambda path: read_document(path),
    lambda path: settings.load_tree(path),
    lambda path: settings.load_tree(path.rename(path.with_suffix(".toml"))),
    lambda path: settings.validate(settings.Settings, settings.load_tree(path), "settings"),
    lambda path: _text.whole_numbers(path, ("user", "item", "read")),
    _read_ratings,
    lambda path: settings.parse_seeds(path.read_text("latin-1")),
    lambda path: settings.parse_assignments(path.read_text("latin-1").split("\n")),
    lambda path: parse_interval(path.read_text("latin-1")),
    lambda path: _check_expression(path.read_text("latin-1")),
)


def read_one(content: bytes) -> None:
    """Pass all but the first byte to the reader that the first byte selects."""
    if not content:
        return
    path = FOLDER / "input.json"
    path.write_bytes(content[1:])
    try:
        READERS[content[0] % len(READERS)](path)
    except DartError as error:
        assert len(str(error)) > 10


if __name__ == "__main__":
    atheris.Setup(sys.argv, read_one)
    atheris.Fuzz()
