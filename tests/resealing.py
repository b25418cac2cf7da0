"""Changing the files of a run on purpose, so that they still vouch for each other."""

from pathlib import Path
from typing import Any

from dartcli.files import read_json, sha256, write_sealed


def update(path: Path, **changes: Any) -> None:
    """Change keys of the sealed document in ``path``."""
    document = read_json(path)
    del document["seal"]
    write_sealed(path, {**document, **changes})


def reseal(run: Path) -> None:
    """Let the hashes in a run's documents be those of its files as they are now."""
    for place in run.glob("seed_*"):
        found = [path for path in place.rglob("*.*") if path.name != "metrics.json"]
        files = {path.relative_to(place).as_posix(): sha256(path) for path in found}
        update(place / "metrics.json", files=files)
    names = read_json(run / "metrics.json")["files"]
    update(run / "metrics.json", files={name: sha256(run / name) for name in names})
