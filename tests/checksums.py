"""Change the files of a run and update the checksums that cover them."""

from pathlib import Path
from typing import Any

from dartcli.storage.checksums import hash_file, read_json, write_document


def update_document(path: Path, **changes: Any) -> None:
    """Change top-level keys of the document in ``path`` and its checksum."""
    document = read_json(path)
    del document["checksum"]
    write_document(path, {**document, **changes})


def update_checksums(run: Path) -> None:
    """Write the checksums of a run's files, as they are now, into its documents."""
    for place in run.glob("seed_*"):
        found = [path for path in place.rglob("*.*") if path.name != "metrics.json"]
        files = {path.relative_to(place).as_posix(): hash_file(path) for path in found}
        update_document(place / "metrics.json", files=files)
    names = read_json(run / "metrics.json")["files"]
    update_document(run / "metrics.json", files={name: hash_file(run / name) for name in names})
