"""What is well and what is not: installation, devices, directories, and every file that is kept.

Everywhere else a file is looked at when it is read. Here all of them are, in full; what can be made
again is, where that is asked for.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from dartcli import catalog
from dartcli._version import __version__
from dartcli.data import registry
from dartcli.data.dataset import Dataset
from dartcli.data.download import fetch_dataset, load_record
from dartcli.data.logs.registry import list_logs, load_log
from dartcli.data.logs.scan import expand_patterns
from dartcli.data.manifest import SPLIT_FOLDER, check_files, read_manifest
from dartcli.data.prepare import HASHES, prepare_split
from dartcli.data.registry import LAST, find_dataset
from dartcli.errors import DartError, DataError
from dartcli.experiments import run_writer
from dartcli.experiments.run import METRICS, Run
from dartcli.experiments.run_index import RunListing, is_in_use, list_runs
from dartcli.experiments.run_writer import repair_run
from dartcli.experiments.sweep import DOCUMENT, ROWS, find_sweep, list_sweeps
from dartcli.settings import PROTOCOLS, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_write, find_leftovers, os_reason, remove
from dartcli.storage.checksums import find_mismatch, read_document

LITTLE: Final = 1 << 30
"""Bytes of room below which something should be said."""
WORLD: Final = stat.S_IWOTH


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: Literal["installation", "device", "directory", "data", "run", "sweep", "leftover"]
    """What it belongs to."""
    name: str
    """What was looked at."""
    state: Literal["well", "note", "broken", "repaired"]
    """``note``: it works, but should be known."""
    words: str
    """What was found."""
    remedy: str = ""
    """What to do about it."""
    mend: Callable[[], str] | None = None
    """Makes it well again, and says what it did; None where only the user can."""


def run_checks(*, repair: bool = False) -> Iterator[Finding]:
    """Yield what is found, part by part; ``repair`` mends what can be mended.

    Whatever goes wrong while it looks is a finding too.
    """
    for look in (
        installation, devices, directories, sources, prepared_data, logs, all_runs, all_sweeps,
        left_behind,
    ):  # fmt: skip
        for finding in look():
            yield _mended(finding) if repair and finding.mend is not None else finding


def _mended(finding: Finding) -> Finding:
    assert finding.mend is not None  # noqa: S101 - the caller looked
    try:
        done = finding.mend()
    except DartError as error:
        return replace(finding, words=f"{finding.words} It could not be repaired: {error}")
    return replace(finding, state="repaired", words=f"{finding.words} {done}", remedy="")


def installation() -> Iterator[Finding]:
    """Look at the program and its libraries."""
    import torch

    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "polars", "numpy")]
    words = ", ".join([f"Python {platform.python_version()}", *libraries])
    yield Finding("installation", f"dartcli {__version__}", "well", words)
    weight = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad((weight * weight).sum(), weight)
    if gradient.tolist() != [2.0, 2.0, 2.0]:
        words = "PyTorch computes wrong gradients; install it again."
        yield Finding("installation", "torch", "broken", words)
    from dartcli.training.acceleration import COMPILERS

    if not any(shutil.which(name) for name in COMPILERS):
        words = "there is none: long trainings on a CPU are not compiled, and slower."
        yield Finding("installation", "C++ compiler", "note", words)


def devices() -> Iterator[Finding]:
    """Let every device compute something."""
    import torch

    from dartcli.training import device as known

    names = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    for name in names:
        try:
            words = known.describe(known.resolve(name))
        except DartError as error:
            remedy = "look at it with nvidia-smi, or use another --device"
            yield Finding("device", name, "broken", str(error), remedy)
            continue
        if name != "cpu":
            free, whole = torch.cuda.mem_get_info(name)
            words += f", {free / 2**30:.1f} of {whole / 2**30:.1f} GiB free"
        yield Finding("device", name, "well", words)
    if len(names) == 1:
        words = f"PyTorch {torch.__version__} sees none; trainings run on the CPU."
        yield Finding("device", "cuda", "note", words)


def directories() -> Iterator[Finding]:
    """Write where files are kept, and look who else may."""
    home = paths.home()
    try:
        with atomic_write(home / ".doctor") as place:
            place.write_bytes(b"written")
        (home / ".doctor").unlink()
    except (DartError, OSError) as error:
        words = str(error) if isinstance(error, DartError) else os_reason(error)
        yield Finding("directory", str(home), "broken", words, "set DART_HOME to another directory")
        return
    free = shutil.disk_usage(home).free
    state: Literal["well", "note"] = "well" if free > LITTLE else "note"
    yield Finding("directory", str(home), state, f"{free / 2**30:.1f} GiB free")
    for path in (home, *(path for path in home.iterdir() if path.is_dir())):
        if os.name != "nt" and path.stat().st_mode & WORLD:
            yield Finding(
                "directory", str(path), "broken", "everybody may write here.",
                f"chmod o-w {path}", partial(_close, path),
            )  # fmt: skip
    mirror = paths.mirror()
    if mirror is not None and not mirror.is_dir():
        words = "DART_MIRROR names no directory."
        yield Finding("directory", str(mirror), "broken", words, "set it again, or unset it")


def _close(path: Path) -> str:
    path.chmod(path.stat().st_mode & ~WORLD)
    return "It was closed to others."


def sources() -> Iterator[Finding]:
    """Hash every file that was downloaded."""
    for name in catalog.names("datasets"):
        known: Dataset = catalog.load("datasets", name)
        folder = paths.raw_data(name)
        if not known.files or not folder.is_dir():
            continue
        record = load_record(folder)
        here = [file for file in known.files if (folder / file.path).is_file()]
        wrong = [
            file.path
            for file in here
            if file.path not in record
            or find_mismatch(folder / file.path, record[file.path].sha256)
        ]
        if not wrong:
            yield Finding("data", name, "well", f"{len(here)} of {len(known.files)} files, hashed")
            continue
        yield Finding(
            "data", name, "broken", f"{', '.join(wrong)} in {folder} is not what was downloaded.",
            f"dart download {name}", partial(_fetch_again, known, wrong),
        )  # fmt: skip


def _fetch_again(known: Dataset, wrong: Sequence[str]) -> str:
    for path in wrong:
        remove(paths.raw_data(known.name) / path)
    fetch_dataset(known)
    return "It was fetched again."


def prepared_data() -> Iterator[Finding]:
    """Hash every table that was prepared."""
    home = paths.home() / "processed"
    note = home / LAST
    if note.is_file():
        try:
            registry.last_prepared()
        except DataError as error:
            yield Finding(
                "data", LAST, "broken", _found(error), f"remove {note}",
                partial(_removed, [note]),
            )  # fmt: skip
    wholes = sorted(path for path in home.glob("*/*") if path.is_dir() and path.name[0] != ".")
    for whole in wholes:
        splits = sorted(whole.glob(f"{SPLIT_FOLDER}/[!.]*"))
        broken = 0
        for folder in (*splits, whole):
            try:
                check_files(folder)
            except DataError as error:
                broken += 1
                yield Finding(
                    "data", folder.relative_to(home).as_posix(), "broken", _found(error),
                    f"dart preprocess {whole.parent.name}", partial(_prepare_again, folder),
                )  # fmt: skip
        if not broken:
            words = f"prepared, {len(splits)} {'split' if len(splits) == 1 else 'splits'}, hashed"
            yield Finding("data", f"{whole.parent.name}/{whole.name}", "well", words)


def _prepare_again(folder: Path) -> str:
    manifest = read_manifest(folder)
    if manifest is None or manifest.protocol is None:
        return _removed([folder], ", and is made again when it is needed")
    remove(folder)
    try:
        known = find_dataset(manifest.dataset)
        options = validate(known.options, manifest.options, "dataset")
        prepare_split(known, options, PROTOCOLS[manifest.protocol], manifest.split_seed or 0)
    except DartError as error:
        return f"It was removed, but cannot be made again now: {error}"
    return "It was made again."


def _found(error: DartError) -> str:
    """Return what an error found, without what it says to do: the remedy stands beside it."""
    return f"{str(error).partition('; ')[0].rstrip('.')}."


def _removed(found: Sequence[Path], then: str = "") -> str:
    for path in found:
        remove(path)
    return f"{'They were' if len(found) > 1 else 'It was'} removed{then}."


def logs() -> Iterator[Finding]:
    """Look at the descriptions of the user's own logs."""
    hashes = paths.home() / "own" / HASHES
    if hashes.is_file():
        try:
            read_document(hashes)
        except DataError as error:
            yield Finding(
                "data", HASHES, "broken", _found(error), f"remove {hashes}",
                partial(_removed, [hashes]),
            )  # fmt: skip
    for name in list_logs():
        try:
            options = load_log(name)
            files = expand_patterns(options.inputs) if options else []
        except DartError as error:
            remedy = f"dart preprocess --input FILES --name {name}"
            yield Finding("data", name, "broken", _found(error), remedy)
            continue
        count = f"{len(files)} {'file' if len(files) == 1 else 'files'}"
        yield Finding("data", name, "well", f"your own log, {count}")


def all_runs() -> Iterator[Finding]:
    """Compare every file of every run with what was written."""
    for entry in list_runs():
        run = Run(paths.runs() / entry.name)
        if is_in_use(run.folder):
            yield Finding("run", entry.name, "note", "a process is at it; not looked at")
        elif entry.state == "unfinished":
            yield _unfinished(entry)
        else:
            yield _with_measures(run, entry)


def _unfinished(entry: RunListing) -> Finding:
    return Finding("run", entry.name, "note", entry.state, f"dart train --resume {entry.name}")


def _with_measures(run: Run, entry: RunListing) -> Finding:
    try:
        run.check()
    except DartError as error:
        return _broken_run(run, _found(error))
    if entry.state == "interrupted":
        return _unfinished(entry)
    return Finding("run", run.name, "well", "every file hashed")


def _broken_run(run: Run, words: str) -> Finding:
    try:
        run_writer.check_settings(run.folder)
    except DartError as error:
        remedy = f"dart runs remove {run.name}, and train it again"
        return Finding("run", run.name, "broken", _found(error), remedy)
    remedy = f"dart doctor --repair, then dart train --resume {run.name}"
    return Finding("run", run.name, "broken", words, remedy, partial(_mend_run, run))


def _mend_run(run: Run) -> str:
    gone = [*repair_run(run.folder), METRICS]
    return f"Removed: {', '.join(gone)}; go on with dart train --resume {run.name}."


def all_sweeps() -> Iterator[Finding]:
    """Read every row of every sweep."""
    for name in list_sweeps():
        sweep = find_sweep(name)
        try:
            total = len(sweep.document.entries)
        except DartError as error:
            remedy = f"remove {sweep.folder / DOCUMENT} and give the same dart sweep again"
            yield Finding("sweep", name, "broken", _found(error), remedy)
            continue
        rows = sorted((sweep.folder / ROWS).glob("*.json"))
        wrong = [path for path in rows if sweep.row(path.stem) is None]
        if wrong:
            yield Finding(
                "sweep", name, "broken", f"{len(wrong)} of {len(rows)} trainings cannot be read.",
                "give the same dart sweep again: it trains them anew",
                partial(_removed, wrong, "; the same dart sweep trains them anew"),
            )  # fmt: skip
        else:
            yield Finding("sweep", name, "well", f"{len(sweep.finished())} of {total} trained")


def left_behind() -> Iterator[Finding]:
    """Look for what processes that were killed were writing."""
    home = paths.home()
    found = list(find_leftovers(home, deep=True)) + list(paths.runs().glob(".*.removed"))
    if found:
        size = sum(file.stat().st_size for path in found for file in _files(path))
        yield Finding(
            "leftover", str(home), "note", f"{len(found)} unfinished files, {size / 1e6:,.1f} MB.",
            "dart doctor --repair removes them", partial(_removed, found),
        )  # fmt: skip


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
