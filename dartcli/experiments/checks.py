"""Check the installation and every stored file, and repair what can be recreated.

Elsewhere in the package a file is verified when it is read; here all of them are read in full.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from dartcli import catalog
from dartcli._version import __version__
from dartcli.data.dataset import Dataset
from dartcli.data.download import fetch_dataset, load_record
from dartcli.data.logs.labels import load_labels, read_labels
from dartcli.data.logs.registry import HASHES, list_logs, load_log
from dartcli.data.logs.scan import expand_patterns
from dartcli.data.manifest import SPLIT_FOLDER, check_files, read_manifest
from dartcli.data.prepare import prepare_split
from dartcli.data.registry import LAST, find_dataset
from dartcli.errors import DartError, DataError
from dartcli.experiments import run_writer
from dartcli.experiments.findings import Finding, get_cause, repair_finding
from dartcli.experiments.run import METRICS, Run
from dartcli.experiments.run_index import is_in_use, list_runs
from dartcli.experiments.study import DOCUMENT as STUDY
from dartcli.experiments.study import StudyDocument, studies_directory
from dartcli.experiments.sweep import DOCUMENT, ROWS, Sweep, find_sweep, list_sweeps
from dartcli.settings import PROTOCOLS, validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_write, find_leftovers, os_reason, remove
from dartcli.storage.checksums import find_mismatch, read_document

MINIMUM_FREE: Final = 1 << 30
"""Bytes of free disk space below which doctor reports it."""


def run_checks(*, repair: bool = False) -> Iterator[Finding]:
    """Yield one finding per check; ``repair`` repairs what can be repaired."""
    for check in (
        check_installation, check_devices, check_directories, check_downloads, check_caches,
        check_prepared_data, check_logs, check_labels, check_runs, check_sweeps, check_studies,
        check_leftovers,
    ):  # fmt: skip
        for finding in check():
            yield repair_finding(finding) if repair else finding


def _count(found: Sequence[object], noun: str) -> str:
    return f"{len(found)} {noun}{'s' * (len(found) != 1)}"


def check_installation() -> Iterator[Finding]:
    """Check the program and its libraries."""
    import torch

    libraries = [f"{name} {metadata.version(name)}" for name in ("torch", "polars", "numpy")]
    versions = ", ".join([f"Python {platform.python_version()}", *libraries])
    yield Finding("installation", f"dartcli {__version__}", "ok", versions)
    weight = torch.ones(3, requires_grad=True)
    (gradient,) = torch.autograd.grad((weight * weight).sum(), weight)
    if gradient.tolist() != [2.0, 2.0, 2.0]:
        message = "PyTorch computes wrong gradients"
        yield Finding("installation", "torch", "error", message, "Reinstall PyTorch.")


def check_devices() -> Iterator[Finding]:
    """Run a small computation on every device."""
    import torch

    from dartcli.training.device import describe, resolve

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    for name in ("cpu", *gpus):
        try:
            message = describe(resolve(name))
        except DartError as error:
            remedy = "Check it with `nvidia-smi`, or choose another `--device`."
            yield Finding("device", name, "error", get_cause(error), remedy)
            continue
        if name != "cpu":
            free, total = torch.cuda.mem_get_info(name)
            message += f", {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield Finding("device", name, "ok", message)
    if not gpus:
        message = f"not available to PyTorch {torch.__version__}; trainings use the CPU"
        yield Finding("device", "cuda", "note", message)


def check_directories() -> Iterator[Finding]:
    """Check that ``DART_HOME`` is writable for its owner only, and that the mirror exists."""
    home = paths.home()
    try:
        with atomic_write(home / ".doctor") as temporary:
            temporary.write_bytes(b"test")
        (home / ".doctor").unlink()
    except (DartError, OSError) as error:
        cause = get_cause(error) if isinstance(error, DartError) else os_reason(error)
        remedy = "Set DART_HOME to another directory."
        yield Finding("directory", str(home), "error", cause, remedy)
        return
    free = shutil.disk_usage(home).free
    state: Literal["ok", "note"] = "ok" if free >= MINIMUM_FREE else "note"
    yield Finding("directory", str(home), state, f"{free / 2**30:.1f} GiB free")
    for path in (home, *(path for path in home.iterdir() if path.is_dir())):
        if os.name != "nt" and path.stat().st_mode & stat.S_IWOTH:
            remedy, close = f"Run `chmod o-w {path}`.", partial(_make_private, path)
            yield Finding("directory", str(path), "error", "writable by everyone", remedy, close)
    mirror = paths.mirror()
    if mirror is not None and not mirror.is_dir():
        remedy = "Set DART_MIRROR to a directory, or unset it."
        yield Finding("directory", str(mirror), "error", "DART_MIRROR does not exist", remedy)


def _make_private(path: Path) -> str:
    path.chmod(path.stat().st_mode & ~stat.S_IWOTH)
    return "made private"


def check_downloads() -> Iterator[Finding]:
    """Verify the checksum of every downloaded file."""
    for name in catalog.names("datasets"):
        dataset: Dataset = catalog.load("datasets", name)
        folder = paths.raw_data(name)
        if not dataset.files or not folder.is_dir():
            continue
        record = load_record(folder)
        found = [file.path for file in dataset.files if (folder / file.path).is_file()]
        corrupt = [
            path
            for path in found
            if path not in record or find_mismatch(folder / path, record[path].sha256)
        ]
        if corrupt:
            message = f"checksum mismatch in {folder}: {', '.join(corrupt)}"
            remedy, repair = f"Run `dart download {name}`.", partial(_redownload, dataset, corrupt)
            yield Finding("data", name, "corrupt", message, remedy, repair)
        else:
            yield Finding("data", name, "ok", f"{len(found)} of {len(dataset.files)} files")


def _redownload(dataset: Dataset, corrupt: Sequence[str]) -> str:
    for path in corrupt:
        remove(paths.raw_data(dataset.name) / path)
    fetch_dataset(dataset)
    return "downloaded again"


def check_caches() -> Iterator[Finding]:
    """Verify the checksums of documents that speed up or default later commands."""
    for path in (paths.home() / "processed" / LAST, paths.home() / "own" / HASHES):
        if path.is_file():
            try:
                read_document(path)
            except DataError as error:
                repair = partial(_remove_all, [path], "removed")
                remedy = f"Remove {path}."
                yield Finding("data", path.name, "corrupt", get_cause(error), remedy, repair)


def check_prepared_data() -> Iterator[Finding]:
    """Verify the checksum of every prepared table."""
    home = paths.home() / "processed"
    for prepared in sorted(path for path in home.glob("*/*") if path.is_dir()):
        if prepared.name.startswith("."):
            continue
        splits = sorted(prepared.glob(f"{SPLIT_FOLDER}/[!.]*"))
        corrupt = 0
        for folder in (*splits, prepared):
            try:
                check_files(folder)
            except DataError as error:
                corrupt += 1
                name = folder.relative_to(home).as_posix()
                remedy = f"Run `dart preprocess {prepared.parent.name}`."
                repair = partial(_prepare_again, folder)
                yield Finding("data", name, "corrupt", get_cause(error), remedy, repair)
        if not corrupt:
            name = prepared.relative_to(home).as_posix()
            yield Finding("data", name, "ok", f"prepared, {_count(splits, 'split')}")


def _prepare_again(folder: Path) -> str:
    manifest = read_manifest(folder)
    remove(folder)
    if manifest is None or manifest.protocol is None:
        return "removed; it is recreated when needed"
    try:
        dataset = find_dataset(manifest.dataset)
        options = validate(dataset.options, manifest.options, "dataset")
        prepare_split(dataset, options, PROTOCOLS[manifest.protocol], manifest.split_seed or 0)
    except DartError as error:
        return f"removed, but it cannot be prepared again now: {get_cause(error)}"
    return "prepared again"


def _remove_all(found: Sequence[Path], done: str) -> str:
    for path in found:
        remove(path)
    return done


def check_logs() -> Iterator[Finding]:
    """Check the descriptions of the user's own logs, and that their files exist."""
    for name in list_logs():
        try:
            options = load_log(name)
            files = expand_patterns(options.inputs, options) if options else []
        except DartError as error:
            remedy = f"Run `dart preprocess --input FILES --name {name}` again."
            yield Finding("data", name, "error", get_cause(error), remedy)
        else:
            yield Finding("data", name, "ok", f"your own log, {_count(files, 'file')}")


def check_labels() -> Iterator[Finding]:
    """Read every registered file of labels."""
    for path in sorted((paths.home() / "labels").glob("*.json")):
        name = path.stem
        try:
            files = load_labels(name)
            for file in files:
                read_labels(Path(file))
        except DartError as error:
            remedy = f"Restore the file, or run `dart label {name} --forget`."
            yield Finding("data", name, "error", get_cause(error), remedy)
        else:
            yield Finding("data", name, "ok", f"trusted labels, {_count(files, 'file')}")


def check_runs() -> Iterator[Finding]:
    """Verify the checksum of every file of every run."""
    for entry in list_runs():
        run = Run(paths.runs() / entry.name)
        if is_in_use(run.folder):
            yield Finding("run", run.name, "note", "in use by another process; skipped")
            continue
        try:
            if entry.state != "unfinished":
                run.check()
        except DartError as error:
            yield _describe_corrupt_run(run, error)
            continue
        if entry.state == "finished":
            yield Finding("run", run.name, "ok", "all checksums match")
        else:
            yield Finding("run", run.name, "note", entry.state, f"Run `dart resume {run.name}`.")


def _describe_corrupt_run(run: Run, error: DartError) -> Finding:
    try:
        run_writer.check_settings(run.folder)
    except DartError as settings_error:
        remedy = f"Run `dart runs remove {run.name}` and train it again."
        return Finding("run", run.name, "corrupt", get_cause(settings_error), remedy)
    remedy = f"Run `dart doctor --repair`, then `dart resume {run.name}`."
    repair = partial(_repair_run, run)
    return Finding("run", run.name, "corrupt", get_cause(error), remedy, repair)


def _repair_run(run: Run) -> str:
    removed = [*run_writer.repair_run(run.folder), METRICS]
    return f"removed {', '.join(removed)}. Run `dart resume {run.name}` to train what is missing"


def check_sweeps() -> Iterator[Finding]:
    """Read every row of every sweep."""
    for name in list_sweeps():
        sweep = find_sweep(name)
        try:
            total = len(sweep.document.entries)
        except DartError as error:
            remedy = f"Remove {sweep.folder / DOCUMENT} and run the same `dart sweep` again."
            yield Finding("sweep", name, "corrupt", get_cause(error), remedy)
            continue
        again = "Run the same `dart sweep` again to repeat them."
        yield _find_corrupt("sweep", sweep, again) or Finding(
            "sweep", name, "ok", f"{len(sweep.finished())} of {total} trained"
        )


def check_studies() -> Iterator[Finding]:
    """Read the document and every row of every study."""
    for path in sorted(studies_directory().glob(f"*/{STUDY}")):
        study = Sweep(path.parent)
        try:
            validate(StudyDocument, read_document(path), str(path))
        except DartError as error:
            remedy = f"Remove {study.folder} and run the same `dart tune` again."
            yield Finding("study", study.name, "corrupt", get_cause(error), remedy)
            continue
        again = "Run the same `dart tune` again; it repeats those that it still needs."
        rows = _count(list((study.folder / ROWS).glob("*.json")), "training")
        yield _find_corrupt("study", study, again) or Finding("study", study.name, "ok", rows)


def _find_corrupt(part: Literal["sweep", "study"], sweep: Sweep, remedy: str) -> Finding | None:
    """Return what to do about rows that cannot be read; None if all can be."""
    rows = sorted((sweep.folder / ROWS).glob("*.json"))
    corrupt = [path for path in rows if sweep.row(path.stem) is None]
    if not corrupt:
        return None
    message = f"{len(corrupt)} of {len(rows)} trainings cannot be read"
    repair = partial(_remove_all, corrupt, f"removed. {remedy.rstrip('.')}")
    return Finding(part, sweep.name, "corrupt", message, remedy, repair)


def check_leftovers() -> Iterator[Finding]:
    """Find temporary files of processes that were killed."""
    home = paths.home()
    found = [*find_leftovers(home, deep=True), *paths.runs().glob(".*.removed")]
    if found:
        files = [file for path in found for file in (path, *path.rglob("*")) if file.is_file()]
        size = sum(file.stat().st_size for file in files) / 1e6
        message = f"{_count(found, 'temporary file')}, {size:,.1f} MB"
        remedy, repair = "Run `dart doctor --repair`.", partial(_remove_all, found, "removed")
        yield Finding("leftover", str(home), "note", message, remedy, repair)
