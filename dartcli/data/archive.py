"""Extract one file from a zip archive, or copy a file that is not in one."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from dartcli.data.dataset import SourceFile
from dartcli.errors import DownloadError
from dartcli.storage.atomic import os_reason
from dartcli.storage.checksums import CHUNK

ZIPPED: Final = (".zip", ".xlsx")
"""Suffixes of files that are zip archives themselves."""
BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # an unknown compression method
    RuntimeError,  # a password
)
"""What reading a member of a corrupt or encrypted archive raises."""


def extract(arrived: Path, place: str, file: SourceFile, target: Path) -> str:
    """Write ``file`` to ``target`` and return its SHA-256.

    Parameters
    ----------
    arrived
        The file itself, or an archive that contains it.
    place
        Where ``arrived`` comes from, for error messages; its suffix tells whether an archive is
        expected.
    file
        What to extract: only this member, wherever the paths of other members point.
    target
        Where to write it.

    Raises
    ------
    DownloadError
        If the archive is corrupt or does not contain the file, the member is encrypted or not a
        regular file, or the content is larger than ``file.limit``.
    """
    digest, written = hashlib.sha256(), 0
    with _open_source(arrived, place, file) as source, target.open("wb") as output:
        while block := _read_block(source, place):
            written += len(block)
            if written > file.limit:
                raise DownloadError(
                    f"{file.path} in {place} was rejected: it is larger than {file.limit:,} bytes, "
                    "the limit for this file."
                )
            digest.update(block)
            output.write(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _open_source(arrived: Path, place: str, file: SourceFile) -> Iterator[IO[bytes]]:
    """Open the file itself, or its member in the archive ``arrived``."""
    with contextlib.ExitStack() as stack:
        try:
            source: IO[bytes] = stack.enter_context(arrived.open("rb"))
            if place.rpartition("/")[2] != file.name and zipfile.is_zipfile(source):
                archive = stack.enter_context(zipfile.ZipFile(source))
                member = _find_member(archive, file, place)
                if member is not None:
                    _check_member(archive.getinfo(member), place)
                    source = stack.enter_context(archive.open(member))
            elif place.endswith(".zip") and not file.name.endswith(ZIPPED):
                raise DownloadError(
                    f"{place} is not a zip archive, or is truncated "
                    f"({arrived.stat().st_size:,} bytes)."
                )
        except BROKEN as error:
            raise DownloadError(f"the archive {place} is corrupt: {error}.") from error
        except OSError as error:
            raise DownloadError(f"cannot read {place}: {os_reason(error)}.") from error
        if not isinstance(source, zipfile.ZipExtFile):
            source.seek(0)
        yield source


def _find_member(archive: zipfile.ZipFile, file: SourceFile, place: str) -> str | None:
    """Return the member that is ``file``, or None if the archive is itself the file."""
    members = archive.namelist()
    for known in (file.path, file.name, *file.aliases):
        if known in members:
            return known
    for member in members:
        if member.rpartition("/")[2] == file.name:
            return member
    if file.name.endswith(ZIPPED):
        return None
    raise DownloadError(f"the archive {place} does not contain {file.path}.")


def _check_member(member: zipfile.ZipInfo, place: str) -> None:
    """Reject links, which could lead out of the folder, and encrypted members."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise DownloadError(f"{member.filename} in {place} was rejected: not a regular file.")
    if member.flag_bits & 0x1:
        raise DownloadError(f"{member.filename} in {place} was rejected: it is encrypted.")


def _read_block(source: IO[bytes], place: str) -> bytes:
    try:
        return source.read(CHUNK)
    except BROKEN as error:
        raise DownloadError(f"the archive {place} is corrupt: {error}.") from error
    except OSError as error:
        raise DownloadError(f"cannot read {place}: {os_reason(error)}.") from error
