"""SHA-256 checksums, and JSON documents that carry their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dartcli.errors import DataError
from dartcli.storage.atomic import os_reason, write_json

CHUNK = 1 << 20
CHECKSUM: Final = "checksum"
"""Key of a document's own hash."""


def read_json(path: Path) -> Any:
    """Return the JSON document in ``path``.

    Raises
    ------
    DataError
        If the file is missing or does not hold JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a JSON document ({error}); dart doctor helps.") from error


def find_mismatch(path: Path, digest: str | None) -> str | None:
    """Return in words why the file ``path`` is not the one with the SHA-256 ``digest``, or None."""
    try:
        found = hash_file(path)
    except OSError as error:
        return os_reason(error)
    return None if found == digest else "another SHA-256"


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` as :func:`write_json` does, with a hash of itself as its last key."""
    write_json(path, {**document, CHECKSUM: _checksum(document)})


def read_document(path: Path, *, required: bool = True) -> dict[str, Any]:
    """Return the document in ``path``, without its seal.

    Parameters
    ----------
    path
        A file that :func:`write_sealed` wrote.
    required
        False takes a document without a seal as it is: one from before there were seals, or one
        that somebody else wrote.

    Raises
    ------
    DataError
        If the file is missing, holds no JSON object, or is not what was written.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path} holds no JSON object; dart doctor helps.")
    if not has_valid_checksum(document) and (required or CHECKSUM in document):
        raise DataError(
            f"{path} is not what was written (its seal does not fit); dart doctor helps."
        )
    return {key: value for key, value in document.items() if key != CHECKSUM}


def has_valid_checksum(document: Mapping[str, Any]) -> bool:
    """Return whether ``document`` has a seal, and it is that of the rest."""
    rest = {key: value for key, value in document.items() if key != CHECKSUM}
    return document.get(CHECKSUM) == _checksum(rest)


def _checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what ``document`` says, however it is laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the file ``path`` as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
