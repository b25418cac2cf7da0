"""Changing the files of a run on purpose, so that they still vouch for each other."""

from pathlib import Path
from typing import Any

from dartcli.storage.checksums import hash_file, read_json, write_document


def update(path: Path, **changes: Any) -> None:
    """Change keys of the sealed document in ``path``."""
    document = read_json(path)
    del document["checksum"]
    write_document(path, {**document, **changes})


def reseal(run: Path) -> None:
    """Let the hashes in a run's documents be those of its files as they are now."""
    for place in run.glob("seed_*"):
        found = [path for path in place.rglob("*.*") if path.name != "metrics.json"]
        files = {path.relative_to(place).as_posix(): hash_file(path) for path in found}
        update(place / "metrics.json", files=files)
    names = read_json(run / "metrics.json")["files"]
    update(run / "metrics.json", files={name: hash_file(run / name) for name in names})
