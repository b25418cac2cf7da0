"""SHA-256 checksums of files, and JSON documents that contain their own."""

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
"""Key of a document's own checksum."""


def read_json(path: Path) -> Any:
    """Return the JSON document in ``path``.

    Raises
    ------
    DataError
        If the file is missing or is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}. Run `dart doctor`.") from error


def find_mismatch(path: Path, digest: str | None) -> str | None:
    """Return why ``path`` does not have the SHA-256 ``digest``, or None if it has."""
    try:
        found = hash_file(path)
    except OSError as error:
        return os_reason(error)
    return None if found == digest else "checksum mismatch"


def read_verified(path: Path, digest: str | None) -> bytes:
    """Read a file and verify its SHA-256, opening it once.

    Raises
    ------
    DataError
        If the file is missing, or its checksum does not match.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {os_reason(error)}.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"cannot read {path}: checksum mismatch.")
    return content


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` as :func:`write_json` does, with its checksum as the last key."""
    write_json(path, {**document, CHECKSUM: _checksum(document)})


def read_document(path: Path) -> dict[str, Any]:
    """Return the document that :func:`write_document` wrote to ``path``, without its checksum.

    Raises
    ------
    DataError
        If the file is missing, is not a JSON object, or its checksum is missing or wrong.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise DataError(f"{path} is not a JSON object. Run `dart doctor`.")
    if not has_valid_checksum(document):
        raise DataError(f"checksum mismatch in {path}. Run `dart doctor`.")
    return {key: value for key, value in document.items() if key != CHECKSUM}


def has_valid_checksum(document: Mapping[str, Any]) -> bool:
    """Return whether ``document`` contains the checksum of its other keys."""
    rest = {key: value for key, value in document.items() if key != CHECKSUM}
    return document.get(CHECKSUM) == _checksum(rest)


def _checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of ``document``, whatever its layout and key order."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the file ``path`` as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()
