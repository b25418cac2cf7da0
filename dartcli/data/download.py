"""Fetch the files of a dataset: verified, whole or absent, never fetched twice.

Where a file may come from, in this order: the place that the user names (``--from``), the mirror
(``DART_MIRROR``), the dataset's own addresses. A place is a directory, the file itself, a zip
archive that holds it, or a URL of either. Hashes are of the file itself; one that is not known is
recorded at the first download and checked ever after.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from dartcli.data.dataset import Dataset, SourceFile
from dartcli.data.transfer import download, forget, part_of
from dartcli.errors import DataError, DownloadError, UsageError
from dartcli.settings import Options, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_write, os_reason
from dartcli.storage.checksums import CHUNK, hash_file, read_document, write_document
from dartcli.storage.locks import lock

logger = logging.getLogger(__name__)

Note = Callable[[str], None]
Progress = Callable[[str, int, int | None], None]

RECORD: Final = "download.json"
"""Seconds without a byte after which a server counts as silent."""
ZIPPED: Final = (".zip", ".xlsx")
"""Endings of files that are zip archives themselves."""
BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a compression method that Python does not know
    RuntimeError,  # a password
)
"""What reading a member of a damaged or encrypted archive raises."""


class Fetched(Options):
    """What is known of a file that was fetched and verified."""

    sha256: str
    """Hash of the file."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of its last change, in nanoseconds."""
    source: str
    """Where it came from."""


def fetch_dataset(
    dataset: Dataset,
    source: str | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Return the folder with every file of ``dataset``, verified; fetch what is missing.

    Parameters
    ----------
    dataset
        What to fetch.
    source
        A directory, file or URL that is used instead of mirror and addresses, even where the
        files are here already. A plain file that has the name of one of several files of the
        dataset stands for that one only.
    progress
        Called with (file name, bytes so far, bytes in all or None).

    Raises
    ------
    DownloadError
        If a file cannot be had from anywhere, or is not what it should be. Files that the data
        set can do without are then logged.
    """
    folder = paths.raw_data(dataset.name)
    if not dataset.files or (source is None and is_complete(dataset)):
        return folder
    with lock(folder.parent / f".{dataset.name}.lock"):
        record = load_record(folder)
        for file, given in _wanted(dataset, source):
            known = record.get(file.path)
            if given is None and _verified(folder / file.path, known):
                continue
            try:
                record[file.path] = _obtain(dataset, file, given, folder, known, progress)
            except DownloadError as error:
                if file.required:
                    raise
                logger.warning(f"going on without {file.path}: {error}")
                continue
            logger.info(f"{dataset.name}: {file.path} from {record[file.path].source}")
            write_document(folder / RECORD, {path: it.model_dump() for path, it in record.items()})
    return folder


def is_complete(dataset: Dataset) -> bool:
    """Return whether every file of ``dataset`` is here and as it was when it was verified."""
    return len(source_hashes(dataset)) == len(dataset.files)


def is_readable(dataset: Dataset) -> bool:
    """Return whether every file that ``dataset`` cannot do without is here and verified."""
    here = source_hashes(dataset)
    return all(file.path in here for file in dataset.files if file.required)


def fetched_sizes(dataset: Dataset) -> dict[str, int]:
    """Return file -> bytes of those files of ``dataset`` that are here and verified."""
    folder = paths.raw_data(dataset.name)
    return {path: (folder / path).stat().st_size for path in source_hashes(dataset)}


def source_hashes(dataset: Dataset) -> dict[str, str]:
    """Return file -> SHA-256 of those files of ``dataset`` that are here and verified."""
    folder = paths.raw_data(dataset.name)
    record = load_record(folder)
    return {
        file.path: record[file.path].sha256
        for file in dataset.files
        if _verified(folder / file.path, record.get(file.path))
    }


def load_record(folder: Path) -> dict[str, Fetched]:
    """Return what is recorded in ``folder``; nothing where the record is not what was written."""
    path = folder / RECORD
    try:
        document = read_document(path)
        return {file: validate(Fetched, entry, str(path)) for file, entry in document.items()}
    except (DataError, UsageError, TypeError, ValueError):
        return {}


def _verified(path: Path, known: Fetched | None) -> bool:
    """Compare size and time with those recorded; hash the file only where the time differs."""
    if known is None or not path.is_file():
        return False
    here = path.stat()
    if here.st_size != known.size:
        return False
    if here.st_mtime_ns == known.mtime_ns:
        return True
    if hash_file(path) != known.sha256:
        return False
    with contextlib.suppress(OSError):  # so that the next look is a cheap one
        os.utime(path, ns=(known.mtime_ns, known.mtime_ns))
    return True


def _wanted(dataset: Dataset, source: str | None) -> Iterator[tuple[SourceFile, str | None]]:
    """Yield each file with the place that the user named for it, if any."""
    names = {file.name for file in dataset.files}
    named = Path(source).name if source is not None else None
    for file in dataset.files:
        other = named in names and named != file.name
        yield file, None if other else source


def _obtain(
    dataset: Dataset,
    file: SourceFile,
    given: str | None,
    folder: Path,
    known: Fetched | None,
    progress: Progress | None,
) -> Fetched:
    """Get ``file`` from the first place that has it."""
    expected = file.sha256 or (known.sha256 if known else None)
    failures: list[str] = []
    for place in _places(file, given):
        try:
            return _copy(place, file, folder / file.path, expected, progress)
        except DownloadError as error:
            failures.append(str(error).rstrip("."))
    where = "; ".join(failures) or "no address of it is known"
    again = (
        "" if file.sha256 or not known else f" (remove {folder / RECORD} to take another version)"
    )
    raise DownloadError(
        f"cannot fetch {file.path} of {dataset.name}: {where}{again}; get {file.name} by other "
        f"means and run dart download {dataset.name} --from FILE, or set DART_MIRROR to a "
        f"directory that holds {file.path}."
    )


def _places(file: SourceFile, given: str | None) -> Iterable[str]:
    if given is not None:
        return [given]
    mirror = paths.mirror()
    return [*([str(mirror)] if mirror else []), *file.urls]


def _copy(
    place: str, file: SourceFile, target: Path, expected: str | None, progress: Progress | None
) -> Fetched:
    """Copy ``file`` from one place to ``target``: verified first, then renamed."""
    if place.startswith(("http://", "https://", "ftp://")):
        arrived = part_of(target.parent, place.rpartition("/")[2] or file.name)
        download(place, arrived, progress=progress, room=file.size or 0)
        try:
            _check_archive(arrived, place, file)
            return _unpack(arrived, place, file, target, expected)
        finally:
            forget(arrived)
    local = _find(Path(place).expanduser(), file)
    return _unpack(local, str(local), file, target, expected)


def _check_archive(arrived: Path, place: str, file: SourceFile) -> None:
    """Refuse an archive that has another hash than the one declared."""
    if file.archive_sha256 is None:
        return
    found = hash_file(arrived)
    if found not in {file.archive_sha256, file.sha256}:
        raise DownloadError(
            f"{place} has the SHA-256 {found}, but {file.archive_sha256} was expected; it was not "
            "kept: it is truncated, or another version."
        )


def _find(place: Path, file: SourceFile) -> Path:
    """Return the file, or an archive that may hold it, at or below ``place``."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise DownloadError(f"{place} does not exist.")
    archives = [url.rpartition("/")[2] for url in file.urls if url.endswith(".zip")]
    parent = file.path.rpartition("/")[0]
    names = (*file.aliases, *archives)
    for candidate in (file.path, file.name, *names, *(f"{parent}/{name}" for name in names)):
        if (place / candidate).is_file():
            return place / candidate
    raise DownloadError(f"{place} holds no {file.path}.")


def _unpack(
    arrived: Path, place: str, file: SourceFile, target: Path, expected: str | None
) -> Fetched:
    """Make ``target`` of what arrived from ``place``: the file itself, or an archive of it."""
    with atomic_write(target) as temporary:
        with _opened(arrived, place, file) as source:
            found = _copied(source, temporary, file, place)
        if expected not in {None, found}:
            raise DownloadError(
                f"{file.path} from {place} has the SHA-256 {found}, but {expected} was expected; "
                "it was not kept: it is truncated, or another version."
            )
    here = target.stat()
    return Fetched(sha256=found, size=here.st_size, mtime_ns=here.st_mtime_ns, source=place)


@contextlib.contextmanager
def _opened(arrived: Path, place: str, file: SourceFile) -> Iterator[IO[bytes]]:
    """Open ``file``: the file that arrived, or the one member of that archive."""
    with contextlib.ExitStack() as stack:
        try:
            source: IO[bytes] = stack.enter_context(arrived.open("rb"))
            if place.rpartition("/")[2] != file.name and zipfile.is_zipfile(source):
                archive = stack.enter_context(zipfile.ZipFile(source))
                member = _member(archive, file, place)
                if member is not None:
                    _check_member(archive.getinfo(member), place)
                    source = stack.enter_context(archive.open(member))
            elif place.endswith(".zip") and not file.name.endswith(ZIPPED):
                raise DownloadError(
                    f"{place} is no zip archive, or a truncated one "
                    f"({arrived.stat().st_size:,} bytes)."
                )
        except BROKEN as error:
            raise DownloadError(f"the archive {place} is broken ({error}).") from error
        except OSError as error:
            raise DownloadError(f"cannot read {place}: {os_reason(error)}.") from error
        if not isinstance(source, zipfile.ZipExtFile):
            source.seek(0)
        yield source


def _check_member(member: zipfile.ZipInfo, place: str) -> None:
    """Refuse what is no plain file: a link could lead out of the folder."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise DownloadError(f"{member.filename} in {place} is no plain file; it was not unpacked.")
    if member.flag_bits & 0x1:
        raise DownloadError(f"{member.filename} in {place} is encrypted; it was not unpacked.")


def _member(archive: zipfile.ZipFile, file: SourceFile, place: str) -> str | None:
    """Return the member that is ``file``; None where the archive is the file itself."""
    members = archive.namelist()
    for known in (file.path, file.name, *file.aliases):
        if known in members:
            return known
    for member in members:
        if member.rpartition("/")[2] == file.name:
            return member
    if file.name.endswith(ZIPPED):
        return None
    raise DownloadError(f"the archive {place} holds no {file.path}.")


def _copied(source: IO[bytes], target: Path, file: SourceFile, place: str) -> str:
    """Copy ``source`` to ``target``, at most the file's limit; return the SHA-256."""
    digest, written = hashlib.sha256(), 0
    with target.open("wb") as output:
        while block := _block(source, place):
            written += len(block)
            if written > file.limit:
                raise DownloadError(
                    f"{file.path} in {place} is larger than {file.limit:,} bytes, which is more "
                    "than this dataset can have; it was not kept."
                )
            digest.update(block)
            output.write(block)
    return digest.hexdigest()


def _block(source: IO[bytes], place: str) -> bytes:
    try:
        return source.read(CHUNK)
    except BROKEN as error:
        raise DownloadError(f"the archive {place} is broken ({error}).") from error
    except OSError as error:
        raise DownloadError(f"cannot read {place}: {os_reason(error)}.") from error
