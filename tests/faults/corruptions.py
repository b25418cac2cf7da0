"""Corrupt every kind of file; check that each command fails or returns its usual result.

    python tests/faults/corruptions.py --number 500

As with a failing disk, the modification time of a corrupt file stays the same. A corruption must be
detected (an error message, or a list that shows it) or have no effect; a different result is a
failure.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pipeline import DATASET, write_source
from typer.testing import CliRunner, Result

TINY = ["--epochs", "3", "--patience", "3", "--set", "dataset.interactions=1500"]


def dart(*words: str) -> Result:
    """Run a command in this process; ``history`` stands for the library function of that name."""
    from dartcli.cli import app
    from dartcli.cli.errors import guarded

    if words[0] == "history":
        reader = typer.Typer()
        reader.command()(guarded(_print_history))
        return CliRunner().invoke(reader, [words[1]])

    return CliRunner().invoke(app, list(words))


def _print_history(name: str) -> None:
    from dartcli.experiments.run_index import find_run

    run = find_run(name)
    typer.echo(json.dumps([run.history(seed).to_dicts() for seed in run.seeds]))


@dataclass(frozen=True)
class Kind:
    """A kind of file and the commands that read it."""

    name: str
    pattern: str
    """Glob pattern relative to the home."""
    readers: tuple[tuple[str, ...], ...]
    """Commands, as arguments of ``dart``."""
    setup: Callable[[Path], None] = lambda _home: None
    """Remove what would make reading the file unnecessary."""


def _remove_prepared(home: Path) -> None:
    shutil.rmtree(home / "processed" / DATASET)


def _remove_splits(home: Path) -> None:
    for path in (home / "processed" / DATASET).glob("*/splits"):
        shutil.rmtree(path)


ANALYZE = ("analyze", "precision-recall", "one", "--json")
SHOW = ("runs", "show", "one", "--json")
EVAL = ("eval", "one", "--json", "--device", "cpu")
RESUME = ("resume", "stopped", "--json")
PREPARE = ("preprocess", DATASET, "--json")
COMPARE = ("analyze", "compare", "sweep-strict", "--json")
LIST = ("runs", "--json")
TRAIN = ("train", DATASET, "--epochs", "1", "--name", "new", "--json")
DEFAULT = ("train", "--epochs", "1", "--name", "new", "--json")
OWN = ("train", "shop", "--epochs", "1", "--name", "new", "--json")

HISTORY = ("history", "one")
ACTIVITY = ("analyze", "user-activity", "one", "--json")
LOSSES = ("analyze", "loss-distribution", "one", "--json")

KINDS = (
    Kind("source", f"raw/{DATASET}/*/*.xls", (PREPARE, TRAIN), _remove_prepared),
    Kind("unneeded source", f"raw/{DATASET}/*/*.xls", (PREPARE, TRAIN)),
    Kind("download record", f"raw/{DATASET}/download.json", (PREPARE, TRAIN)),
    Kind("interactions", f"processed/{DATASET}/*/interactions.parquet", (TRAIN,), _remove_splits),
    Kind("ids", f"processed/{DATASET}/*/ids/*.parquet", (PREPARE, TRAIN)),
    Kind("manifest", f"processed/{DATASET}/*/manifest.json", (TRAIN,), _remove_splits),
    Kind("split", f"processed/{DATASET}/*/splits/*/*.parquet", (TRAIN,)),
    Kind("split manifest", f"processed/{DATASET}/*/splits/*/manifest.json", (PREPARE, TRAIN)),
    Kind("default dataset", "processed/last.json", (DEFAULT,)),
    Kind("log description", "own/shop.json", (OWN,)),
    Kind("log checksums", "own/hashes.json", (OWN,)),
    Kind("settings", "runs/one/settings.json", (SHOW, EVAL, ANALYZE)),
    Kind("metrics", "runs/one/metrics.json", (SHOW, LIST, ANALYZE)),
    Kind("environment", "runs/one/environment.json", (EVAL, ANALYZE)),
    Kind("seed metrics", "runs/one/seed_*/metrics.json", (EVAL, ANALYZE)),
    Kind("weights", "runs/one/seed_*/model.safetensors", (EVAL,)),
    Kind("history", "runs/one/seed_*/history.parquet", (HISTORY,)),
    Kind("iterations", "runs/one/seed_*/iterations.parquet", (ANALYZE,)),
    Kind("scores", "runs/one/seed_*/scores.parquet", (ANALYZE, ACTIVITY)),
    Kind("snapshot", "runs/one/seed_*/snapshots/*.parquet", (LOSSES,)),
    Kind("checkpoint", "runs/stopped/checkpoints/seed_1/*/*", (RESUME,)),
    Kind("finished seed of a stopped run", "runs/stopped/seed_0/*.*", (RESUME,)),
    Kind("settings of a stopped run", "runs/stopped/settings.json", (RESUME,)),
    Kind("environment of a stopped run", "runs/stopped/environment.json", (RESUME,)),
    Kind("metrics of a stopped run", "runs/stopped/metrics.json", (RESUME,)),
    Kind("sweep", "sweeps/sweep-strict/sweep.json", (COMPARE,)),
    Kind("sweep row", "sweeps/sweep-strict/rows/*.json", (COMPARE,)),
)  # fmt: skip


def create_stopped_run() -> None:
    """Create the run ``stopped``, with a finished first seed and a checkpoint of the second."""
    from dartcli.errors import StoppedError
    from dartcli.experiments.train import train_run

    epochs = 0

    def count(_seed: int, _record: object) -> None:
        nonlocal epochs
        epochs += 1

    class StopInSecondSeed:
        def __enter__(self) -> Callable[[], int]:
            return lambda: 15 if epochs >= 4 else 0

        def __exit__(self, *_: object) -> None:
            pass

    plan = {"epochs": 3, "patience": 3, "batch_size": 256}
    dataset = {"name": "synthetic", "options": {"interactions": 1500}}
    try:
        train_run(
            name="stopped", dataset=dataset, training=plan, seeds=(0, 1), progress=count,
            checkpoint_every="1ep", stopping=StopInSecondSeed,
        )  # fmt: skip
    except StoppedError:
        return
    raise AssertionError("the training ran to its end")


def _corrupt(content: bytes, others: list[Path], chance: random.Random) -> tuple[str, bytes | None]:
    """Return a kind of corruption and the new content of the file; None removes the file."""
    how = chance.choice(
        ["flip", "flip", "flip", "flips", "cut", "zeros", "append", "swap", "remove"]
    )
    if how in {"flip", "flips"}:
        damaged = bytearray(content)
        for _ in range(1 if how == "flip" else 20):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        return how, bytes(damaged)
    if how == "cut":
        return how, content[: chance.randrange(len(content))]
    if how == "zeros":
        begin = chance.randrange(len(content))
        end = min(len(content), begin + 512)
        return how, content[:begin] + bytes(end - begin) + content[end:]
    if how == "append":
        return how, content + chance.randbytes(chance.randrange(1, 300))
    if how == "swap" and others:
        return how, chance.choice(others).read_bytes()
    return "remove", None


class CorruptionTrials:
    """A home with every kind of file, and what commands print while it is intact."""

    def __init__(self, folder: Path) -> None:
        self.intact, self.home = folder / "intact", folder / "home"
        os.environ["DART_HOME"] = str(self.home)
        os.environ["DART_MIRROR"] = str(write_source(folder / "source", 120))
        os.environ["COLUMNS"] = "80"
        # a fault of the program then raises instead of printing an error message
        os.environ["DART_TRACEBACK"] = "1"
        log = folder / "log.csv"
        log.write_text("user,item\n" + "".join(f"u{n % 40},i{n % 31}\n" for n in range(600)))
        sweep = ["sweep", "--datasets", "synthetic", "--strategies", "base,dart", "--seeds", "0,1"]
        log_words = ["preprocess", "--input", str(log), "--user", "user", "--item", "item"]
        small = ["--set", "training.epochs=2", "--set", "dataset.interactions=1500"]
        train = ["train", "synthetic", *TINY, "--seeds", "0,1", "--snapshot", "3"]
        for words in (
            [*log_words, "--name", "shop"],
            [*train, "--name", "one"],
            [*train, "--name", "two", "--strategy", "base"],
            [*sweep, *small, "--jobs", "1"],
            ["preprocess", DATASET],
            ["preprocess", DATASET, "--split-seed", "1"],
        ):  # fmt: skip
            done = dart(*words)
            assert done.exit_code == 0, (words, done.stderr)
        create_stopped_run()
        shutil.copytree(self.home, self.intact, symlinks=True)
        self.expected: dict[tuple[str, ...], object] = {}

    def restore_home(self) -> None:
        """Replace the home with the intact copy."""
        shutil.rmtree(self.home)
        shutil.copytree(self.intact, self.home)

    def run_intact(self, words: tuple[str, ...]) -> object:
        """Return the document that a command prints while every file is intact."""
        if words not in self.expected:
            self.restore_home()
            done = dart(*words)
            assert done.exit_code == 0, (words, done.stderr, done.exception)
            self.expected[words] = _parse_stable(done.stdout)
        return self.expected[words]

    def run_trial(self, number: int) -> tuple[str, str, str]:
        """Corrupt one file, chosen by ``number``; return its kind, the corruption, the outcome."""
        chance = random.Random(number)
        kind = KINDS[number % len(KINDS)]
        words = chance.choice(kind.readers)
        expected = self.run_intact(words)
        self.restore_home()
        path = chance.choice(sorted(path for path in self.home.glob(kind.pattern)))
        kind.setup(self.home)
        others = [
            other
            for other in sorted(self.home.rglob(f"*{path.suffix}"))
            if other.is_file() and other.read_bytes() != path.read_bytes()
        ]
        stat = path.stat()
        how, content = _corrupt(path.read_bytes(), others, chance)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        where = (number, kind.name, how, path.relative_to(self.home).as_posix(), words)
        done = dart(*words)
        assert done.exception is None or isinstance(done.exception, SystemExit), (where, done)
        if done.exit_code:
            assert done.exit_code in {1, 2}, (where, done.exit_code)
            assert done.stderr.strip(), where
            return kind.name, how, "detected"
        found = _parse_stable(done.stdout)
        if found == expected:
            return kind.name, how, "without effect"
        if _shows_corruption(words, found, expected):
            return kind.name, how, "detected"
        raise AssertionError((where, "different result", done.stdout[:2000], done.stderr))


def _shows_corruption(words: tuple[str, ...], found: Any, expected: Any) -> bool:
    """Return whether a list shows an unusable run, or a comparison its missing trainings."""
    if words == LIST:
        differing = [entry for entry in found["runs"] if entry not in expected["runs"]]
        return bool(differing) and all(entry["state"] != "finished" for entry in differing)
    if words == COMPARE:
        new = [one for one in found["sentences"] if one not in expected["sentences"]]
        return any("missing" in one.lower() for one in new)
    return False


def _parse_stable(text: str) -> object:
    """Parse a JSON document and drop what differs between runs of the same command."""
    document = json.loads(text)

    def strip(value: object) -> object:
        if isinstance(value, dict):
            volatile = {"environment", "seconds", "ended", "folder", "fresh", "files"}
            return {key: strip(inner) for key, inner in value.items() if key not in volatile}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-corruptions-"))
    outcomes: Counter[tuple[str, str]] = Counter()
    ways: Counter[str] = Counter()
    failed = 0
    try:
        trials = CorruptionTrials(folder)
        for number in range(options.first, options.first + options.number):
            try:
                kind, how, what = trials.run_trial(number)
                outcomes[kind, what] += 1
                ways[how] += 1
            except AssertionError as error:
                failed += 1
                print(f"FAILED: {error}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for kind in KINDS:
        print(f"{kind.name}: {outcomes[kind.name, 'detected']} detected, "
              f"{outcomes[kind.name, 'without effect']} without effect")  # fmt: skip
    detected = sum(count for (_, what), count in outcomes.items() if what == "detected")
    print(f"{options.number} corruptions ({dict(ways)}): {detected} detected, "
          f"{outcomes.total() - detected} without effect, {failed} failed")  # fmt: skip
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
