"""Checksums of prepared data and trained runs, to show that a change of the code keeps every bit.

    python tests/fingerprints.py record before.json
    python tests/fingerprints.py record after.json  # with the changed code
    python tests/fingerprints.py compare before.json after.json

``record`` works in a temporary ``DART_HOME`` and takes the real datasets from ``DART_MIRROR``;
without it, they are skipped. Make both records on the same machine, with the same libraries.
Columns, keys and tensors may be renamed in between (renames are listed); types and values may not
change.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import typer
from safetensors.numpy import load_file

import dartcli
from dartcli import catalog

Sums = dict[str, dict[str, str]]
"""File -> name of a column, tensor or number -> its checksum."""

PROTOCOLS = ("strict", "reference")
MIRRORED = ("movielens-100k", "adressa", "book-crossing", "jester-1", "jester-4")
SMALL = {"users": 400, "items": 250, "interactions": 20_000}
DEFAULTS: dict[str, Any] = {
    "dataset": "synthetic",
    "model": "fm",
    "strategy": "base",
    "options": {},
    "training": {},
    "protocol": "strict",
}
TRAINING = {"epochs": 6, "batch_size": 512, "learning_rate": 2e-3}
SHORT: dict[str, dict[str, Any]] = {
    "adt-ce-t": {"t_m": 50},
    "co-teaching": {"t_m": 50},
    **{name: {"t_i": 10, "t_m": 50, "tau_m": 0.1} for name in ("dart", "dart-disc", "dart-rel")},
    "influence": {"burn_in": 1, "every": 2, "clean_rows": 200},
    "popularity": {"a": 0.5, "b": 0.5},
}
"""Options with which a strategy acts within the few steps that are taken here."""
LOGS = {
    "log-plain": "",
    "log-full": "--label clicked --rating stars --noisy-if dwell<10 --field category "
    "--numeric-field price --time at --split temporal",
    "log-last": "--rating stars --time at --split leave-last-out",
}
"""Name of a log -> flags that describe it, besides those for user and item."""


def record(out: Path) -> None:
    """Prepare data and train with the code that is imported; write the checksums to OUT."""
    typer.echo(f"recording {Path(dartcli.__file__).parent}", err=True)
    mirrored = MIRRORED if os.environ.get("DART_MIRROR") else ()
    if not mirrored:
        typer.echo(f"DART_MIRROR is not set: skipping {', '.join(MIRRORED)}", err=True)
    sums: Sums = {}
    with tempfile.TemporaryDirectory(prefix="dart-fingerprints-") as folder:
        os.environ["DART_HOME"] = str(Path(folder) / "home")
        make_logs(Path(folder) / "log.csv")
        for name in ("synthetic", *mirrored, *LOGS):
            sums |= prepared(name)
        for split in ("temporal", "leave-last-out") if mirrored else ():
            sums |= prepared("movielens-100k", split=split)
        for choice in trainings((*mirrored[:2], *LOGS)):
            sums |= trained(choice)
    out.write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    typer.echo(f"recorded {_total(sums)}")


def make_logs(path: Path) -> None:
    """Write a CSV with text ids, missing ratings and repeated pairs; prepare it in several ways."""
    chance = random.Random(0)
    lines = ["who,what,clicked,stars,dwell,category,price,at"]
    for _ in range(6000):
        ids = f"u{chance.randrange(150):03},i{int(120 * chance.random() ** 2):03}"
        numbers = f"{chance.randrange(2)},{chance.choice('12345 ').strip()},{chance.randrange(60)}"
        rest = f"{chance.choice(['news', 'sports', 'café'])},{chance.uniform(1, 90):.2f}"
        at = f"2024-02-{chance.randint(1, 28):02}T{chance.randrange(24):02}:00:00"
        lines.append(f"{ids},{numbers},{rest},{at}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, flags in LOGS.items():
        words = ["preprocess", "--input", path.name, "--name", name, "--json", "--user", "who"]
        command = [sys.executable, "-m", "dartcli", *words, "--item", "what", *flags.split()]
        # the working directory comes before PYTHONPATH: no other copy of the code may be in it
        subprocess.run(command, cwd=path.parent, stdout=subprocess.DEVNULL, check=True)


def prepared(name: str, **options: Any) -> Sums:
    """Prepare a dataset under both protocols; return the checksums of its tables."""
    for protocol in PROTOCOLS:
        split = dartcli.preprocess(name, protocol=protocol, options=options).folder
    home = split.parent.parent
    return checksums("/".join(["preprocess", name, *options.values()]), home)


def trainings(datasets: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield what to train: every strategy and model on simulated data, the main ones on others."""
    for strategy in catalog.names("strategies"):
        yield {"strategy": strategy, "training": {"snapshots": [20, 300]}}
        yield {"strategy": strategy, "model": "deepfm"}
        yield {"strategy": strategy, "protocol": "reference"}
    for model, strategy in product(("lr", "wide-deep", "neumf"), ("base", "dart")):
        yield {"model": model, "strategy": strategy}
    for strategy, options in (
        ("dart", {"basis": "batch"}),
        ("dart", {"t_i": "1ep", "t_m": "2ep"}),
        ("co-teaching", {"basis": "positives"}),
        ("mentornet", {"basis": "positives"}),
        ("adt-ce-r", {"double_sigmoid": True}),
    ):
        yield {"strategy": strategy, "options": options}
    for model in ("fm", "deepfm"):
        yield {"strategy": "dart", "model": model, "training": {"optimizer": "sparse-adam"}}
    yield {"strategy": "dart", "seeds": [0, 1], "split_seed": 3}
    for dataset, protocol in product(datasets, PROTOCOLS):
        for strategy in ("base", "dart"):
            yield {"dataset": dataset, "protocol": protocol, "strategy": strategy}


def trained(choice: dict[str, Any]) -> Sums:
    """Train a run; return the checksums of its tables, weights, and metrics."""
    settings = {**DEFAULTS, **choice}
    name = "/".join(["train", *(str(value) for value in settings.values() if value)])
    dataset, strategy = settings.pop("dataset"), settings.pop("strategy")
    options = {**SHORT.get(strategy, {}), **settings.pop("options")}
    run = dartcli.train(
        dataset={"name": dataset, "options": SMALL if dataset == "synthetic" else {}},
        strategy={"name": strategy, "options": options},
        training={**TRAINING, **settings.pop("training")},
        device="cpu",
        **settings,
    )
    return checksums(name, run.folder)


def checksums(name: str, folder: Path) -> Sums:
    """Return the checksums of what a folder holds; versions and hashes of files are left out."""
    typer.echo(name, err=True)
    found = sorted([*folder.rglob("*.parquet"), *folder.rglob("*.safetensors")])
    paths = [*found, *folder.glob("metrics.json")]
    return {f"{name}/{path.relative_to(folder).as_posix()}": dict(_parts(path)) for path in paths}


def _parts(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the checksum of every column, tensor or number in a file."""
    if path.suffix == ".parquet":
        for column in pl.read_parquet(path, glob=False):
            yield column.name, _column(column)
    elif path.suffix == ".safetensors":
        for name, values in load_file(path).items():
            yield name, _sha256(str((values.dtype, values.shape)), values.tobytes())
    else:
        document = json.loads(path.read_text(encoding="utf-8"))
        for key, value in document.items():
            if isinstance(value, dict | list):
                yield from _numbers(key, value)


def _column(column: pl.Series) -> str:
    kind = column.dtype
    nulls = column.is_null().to_numpy().tobytes()
    if kind.is_numeric() or kind.is_temporal() or kind == pl.Boolean:
        return _sha256(str(kind), nulls, column.drop_nulls().to_physical().to_numpy().tobytes())
    return _sha256(str(kind), nulls, repr(column.to_list()).encode())


def _sha256(kind: str, *parts: bytes) -> str:
    return hashlib.sha256(b"\0".join([kind.encode(), *parts])).hexdigest()


def _numbers(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the path and the digits of every number in a JSON document."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(f"{path}.{key}", inner)
    elif isinstance(value, int | float):
        yield path, repr(value)


def compare(before: Path, after: Path) -> None:
    """Compare two records; exit with 1 if they differ."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    renamed: Counter[str] = Counter()
    wrong = [f"{file}: only in {before}" for file in sorted(old.keys() - new.keys())]
    wrong += [f"{file}: only in {after}" for file in sorted(new.keys() - old.keys())]
    for file in sorted(old.keys() & new.keys()):
        # what has kept its name goes first, so that only the others count as renamed
        left = dict(sorted(new[file].items() - old[file].items()))
        gone: list[str] = []
        for name, digest in sorted(old[file].items() - new[file].items()):
            same = next((other for other, its in left.items() if its == digest), None)
            if same is None:
                gone.append(name)
            else:
                del left[same]
                renamed[f"{Path(file).name}: {name} is now {same}"] += 1
        wrong += [f"{file}: {name} {'changed' if name in left else 'is gone'}" for name in gone]
        wrong += [f"{file}: {name} is new" for name in left if name not in gone]
    for words, times in sorted(renamed.items()):
        typer.echo(f"renamed in {times} files: {words}")
    if wrong:
        typer.echo("\n".join([*wrong, f"{len(wrong):,} differences"]))
        raise typer.Exit(1)
    typer.echo(f"equal: {_total(old)}")


def _total(sums: Sums) -> str:
    return f"{sum(map(len, sums.values())):,} checksums of {len(sums):,} files"


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(record)
    app.command()(compare)
    app()
