"""Damage to every kind of file that is read: noticed, or without effect; never another result.

    python tests/faults/corruptions.py --number 500

A file is damaged as a disk would do it: its time stays. Then whatever reads it is run. Either a
sentence comes out, or exactly what came out before.
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

sys.path.insert(0, str(Path(__file__).parent))

import typer
from pipeline import DATASET, source
from typer.testing import CliRunner, Result

TINY = ["--epochs", "3", "--patience", "3", "--set", "dataset.interactions=1500"]


def dart(*words: str) -> Result:
    """Run one command within this process; ``history`` stands for the library's reader of it."""
    from dartcli.cli import app
    from dartcli.cli.errors import guarded

    if words[0] == "history":
        reader = typer.Typer()
        reader.command()(guarded(_history))
        return CliRunner().invoke(reader, [words[1]])

    return CliRunner().invoke(app, list(words))


def _history(name: str) -> None:
    from dartcli.experiments.run_index import find_run

    run = find_run(name)
    typer.echo(json.dumps([run.history(seed).to_dicts() for seed in run.seeds]))


@dataclass(frozen=True)
class Kind:
    """A kind of file, and what reads it."""

    name: str
    pattern: str
    """Below the home."""
    readers: tuple[tuple[str, ...], ...]
    """Commands; they write nothing that lasts, or something that is removed."""
    before: Callable[[Path], None] = lambda _home: None
    """What is removed first, so that the file is needed."""


def _without_prepared(home: Path) -> None:
    shutil.rmtree(home / "processed" / DATASET)


def _without_splits(home: Path) -> None:
    for path in (home / "processed" / DATASET).glob("*/splits"):
        shutil.rmtree(path)


ANALYZE = ("analyze", "precision-recall", "one", "--json")
SHOW = ("runs", "show", "one", "--json")
EVAL = ("eval", "one", "--json", "--device", "cpu")
RESUME = ("train", "--resume", "stopped", "--json")
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
    Kind("source", f"raw/{DATASET}/*/*.xls", (PREPARE, TRAIN), _without_prepared),
    Kind("source, unused", f"raw/{DATASET}/*/*.xls", (PREPARE, TRAIN)),
    Kind("record of downloads", f"raw/{DATASET}/download.json", (PREPARE, TRAIN)),
    Kind("interactions", f"processed/{DATASET}/*/interactions.parquet", (TRAIN,), _without_splits),
    Kind("ids", f"processed/{DATASET}/*/ids/*.parquet", (PREPARE, TRAIN)),
    Kind("manifest", f"processed/{DATASET}/*/manifest.json", (TRAIN,), _without_splits),
    Kind("split", f"processed/{DATASET}/*/splits/*/*.parquet", (TRAIN,)),
    Kind("manifest of a split", f"processed/{DATASET}/*/splits/*/manifest.json", (PREPARE, TRAIN)),
    Kind("note of the last dataset", "processed/last.json", (DEFAULT,)),
    Kind("description of a log", "own/shop.json", (OWN,)),
    Kind("hashes of logs", "own/hashes.json", (OWN,)),
    Kind("settings", "runs/one/settings.json", (SHOW, EVAL, ANALYZE)),
    Kind("measures", "runs/one/metrics.json", (SHOW, LIST, ANALYZE)),
    Kind("environment", "runs/one/environment.json", (EVAL, ANALYZE)),
    Kind("measures of a seed", "runs/one/seed_*/metrics.json", (EVAL, ANALYZE)),
    Kind("weights", "runs/one/seed_*/model.safetensors", (EVAL,)),
    Kind("history", "runs/one/seed_*/history.parquet", (HISTORY,)),
    Kind("iterations", "runs/one/seed_*/iterations.parquet", (ANALYZE,)),
    Kind("scores", "runs/one/seed_*/scores.parquet", (ANALYZE, ACTIVITY)),
    Kind("snapshot", "runs/one/seed_*/snapshots/*.parquet", (LOSSES,)),
    Kind("checkpoint", "runs/stopped/checkpoints/seed_1/*/*", (RESUME,)),
    Kind("finished seed", "runs/stopped/seed_0/*.*", (RESUME,)),
    Kind("settings of a stopped run", "runs/stopped/settings.json", (RESUME,)),
    Kind("environment of a stopped run", "runs/stopped/environment.json", (RESUME,)),
    Kind("measures of a stopped run", "runs/stopped/metrics.json", (RESUME,)),
    Kind("sweep", "sweeps/sweep-strict/sweep.json", (COMPARE,)),
    Kind("row of a sweep", "sweeps/sweep-strict/rows/*.json", (COMPARE,)),
)  # fmt: skip


def stopped(home: Path) -> None:
    """Make the run ``stopped``: its first seed is finished, its second is not."""
    from dartcli.errors import StoppedError
    from dartcli.experiments.train import train_run

    epochs = 0

    def count(_seed: int, _record: object) -> None:
        nonlocal epochs
        epochs += 1

    class Ends:
        def __enter__(self) -> Callable[[], int]:
            return lambda: 15 if epochs >= 4 else 0

        def __exit__(self, *_: object) -> None:
            pass

    plan = {"epochs": 3, "patience": 3, "batch_size": 256}
    dataset = {"name": "synthetic", "options": {"interactions": 1500}}
    try:
        train_run(
            name="stopped", dataset=dataset, training=plan, seeds=(0, 1), progress=count,
            checkpoint_every="1ep", stopping=Ends,
        )  # fmt: skip
    except StoppedError:
        return
    raise AssertionError("it was not stopped")


def _changed(content: bytes, others: list[Path], chance: random.Random) -> tuple[str, bytes | None]:
    """Return what is done to a file, and what it then holds; None = it is gone."""
    how = chance.choice(["flip", "flip", "flip", "flips", "cut", "zeros", "longer", "swap", "gone"])
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
    if how == "longer":
        return how, content + chance.randbytes(chance.randrange(1, 300))
    if how == "swap" and others:
        return how, chance.choice(others).read_bytes()
    return "gone", None


class Damages:
    """A home with every kind of file, and what its readers say of it while it is whole."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.home = folder / "whole", folder / "home"
        os.environ["DART_HOME"] = str(self.home)
        os.environ["DART_MIRROR"] = str(source(folder / "source", 120))
        os.environ["COLUMNS"] = "80"
        log = folder / "log.csv"
        log.write_text("user,item\n" + "".join(f"u{n % 40},i{n % 31}\n" for n in range(600)))
        sweep = ["sweep", "--datasets", "synthetic", "--strategies", "base,dart", "--seeds", "0,1"]
        own = ["preprocess", "--input", str(log), "--user", "user", "--item", "item"]
        small = ["--set", "training.epochs=2", "--set", "dataset.interactions=1500"]
        train = ["train", "synthetic", *TINY, "--seeds", "0,1", "--snapshot", "3"]
        for words in (
            [*own, "--name", "shop"],
            [*train, "--name", "one"],
            [*train, "--name", "two", "--strategy", "base"],
            [*sweep, *small, "--jobs", "1"],
            ["preprocess", DATASET],
            ["preprocess", DATASET, "--split-seed", "1"],
        ):  # fmt: skip
            done = dart(*words)
            assert done.exit_code == 0, (words, done.stderr)
        stopped(self.home)
        shutil.copytree(self.home, self.whole, symlinks=True)
        self.truth: dict[tuple[str, ...], object] = {}

    def fresh(self) -> None:
        """Make the home whole again."""
        shutil.rmtree(self.home)
        shutil.copytree(self.whole, self.home)

    def said(self, words: tuple[str, ...]) -> object:
        """Return what a command says while everything is whole."""
        if words not in self.truth:
            self.fresh()
            done = dart(*words)
            assert done.exit_code == 0, (words, done.stderr, done.exception)
            self.truth[words] = _plain(done.stdout)
        return self.truth[words]

    def trial(self, number: int) -> tuple[str, str, str]:
        """Damage one file, as ``number`` decides; return kind, damage and what became of it."""
        chance = random.Random(number)
        kind = KINDS[number % len(KINDS)]
        words = chance.choice(kind.readers)
        expected = self.said(words)
        self.fresh()
        path = chance.choice(sorted(path for path in self.home.glob(kind.pattern)))
        kind.before(self.home)
        others = [
            other
            for other in sorted(self.home.rglob(f"*{path.suffix}"))
            if other.is_file() and other.read_bytes() != path.read_bytes()
        ]
        stat = path.stat()
        how, content = _changed(path.read_bytes(), others, chance)
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
            assert "dart: " in done.stderr, (where, done.stderr)
            assert "fault of dartcli" not in done.stderr, (where, done.stderr)
            return kind.name, how, "noticed"
        found = _plain(done.stdout)
        if found == expected:
            return kind.name, how, "without effect"
        # a list shows it, and a comparison says that something is missing
        said = ('"unreadable"', '"unfinished"', "trainings of the sweep are missing")
        if words in {LIST, COMPARE} and any(sentence in done.stdout for sentence in said):
            return kind.name, how, "noticed"
        raise AssertionError((where, "another result", done.stdout[:2000], done.stderr))


def _plain(text: str) -> object:
    """Return a JSON document without what differs from time to time."""
    document = json.loads(text)

    def bare(value: object) -> object:
        if isinstance(value, dict):
            left = {"environment", "seconds", "ended", "folder", "fresh", "files"}
            return {key: bare(inner) for key, inner in value.items() if key not in left}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    return bare(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="dart-damages-"))
    outcomes: Counter[tuple[str, str]] = Counter()
    ways: Counter[str] = Counter()
    failed = 0
    try:
        damages = Damages(folder)
        for number in range(options.first, options.first + options.number):
            try:
                kind, how, what = damages.trial(number)
                outcomes[kind, what] += 1
                ways[how] += 1
            except AssertionError as error:
                failed += 1
                print(f"FAILED: {error}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for kind in KINDS:
        print(f"{kind.name}: {outcomes[kind.name, 'noticed']} noticed, "
              f"{outcomes[kind.name, 'without effect']} without effect")  # fmt: skip
    noticed = sum(count for (_, what), count in outcomes.items() if what == "noticed")
    print(f"{options.number} damages ({dict(ways)}): {noticed} noticed, "
          f"{outcomes.total() - noticed} without effect, {failed} failed")  # fmt: skip
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
