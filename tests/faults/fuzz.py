"""Run commands on unusual arguments and files: no traceback, no hang, no file outside DART_HOME.

    python tests/faults/fuzz.py --examples 10000

Arguments mix valid and invalid words; files are valid ones with a few random changes. Every command
must end with a documented exit code and, unless it is 0, an error message.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import polars as pl
import xlsxwriter
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pipeline import write_source
from typer.testing import CliRunner

MAX_SECONDS = 10.0
"""Longest CPU time that a command may take."""
MAX_WAIT = 120.0
"""Longest time until it ends, on a machine with other work."""
COMMANDS = (
    "download", "preprocess", "train", "eval", "analyze", "runs", "report", "sweep", "doctor",
    "no-such",
)  # fmt: skip
NAMES = (
    "synthetic", "jester-1", "shop", "one", "two", "none", "../../etc", "/etc/passwd", "a/b", "..",
    ".", "", " ", "-", "--", "run_01", "run_99999999999999999999", "a" * 300, "\x00", "é\u202e", "*",
    "[one]", "$(touch x)", "`x`", "; rm -rf x", "<script>", "%s%n", "NaN", "one\n",
)  # fmt: skip
NUMBERS = (
    "0", "1", "-1", "2", "0.5", "1e400", "-1e400", "nan", "inf", "1e-320", "9" * 30, "2147483648",
    "9223372036854775808", "0x10", "1_000", "١", "3ep", "0ep", "1e9ep", "90s", "off", "auto",
)  # fmt: skip
KEYS = (
    "dataset.interactions", "dataset.users", "dataset.seed", "dataset.split", "dataset.tp_threshold",
    "model.factors", "model.hidden", "model.dropout", "strategy.r", "strategy.tau_m", "strategy.t_i",
    "strategy.t_m", "strategy", "model", "training.batch_size", "training.learning_rate",
    "training.snapshots", "training.weight_decay", "training.cuda_graph", "seeds", "device", "protocol",
    "split_seed", "deterministic", "version", "a.b.c", "", ".", "dataset.name", "measure",
)  # fmt: skip
FLAGS = (
    "--strategy", "--model", "--protocol", "--r", "--tau-m", "--t-i", "--t-m", "--basis",
    "--patience", "--batch-size", "--learning-rate", "--weight-decay", "--optimizer", "--device",
    "--seed", "--seeds", "--split-seed", "--snapshot", "--config", "--set", "--name",
    "--checkpoint-every", "--resume", "--split", "--format", "--json", "--yes", "--input", "--user",
    "--item", "--label", "--rating", "--noisy-if", "--field", "--numeric-field", "--time",
    "--test-clean", "--describe", "--from", "--list", "--repair", "--deterministic", "--help",
    "--version", "--datasets", "--models", "--strategies", "--jobs", "--tune", "--output", "-h",
)  # fmt: skip
WORDS = (
    "dart", "base", "dart-disc", "co-teaching", "clean", "fm", "deepfm", "lr", "strict",
    "reference", "positives", "batch", "adam", "sparse-adam", "cpu", "cuda", "cuda:99", "mps", "tpu",
    "precision-recall", "memorization", "compare", "dataset", "show", "diff", "remove", "temporal",
    "user < 3", "(SELECT 1)", "user", "item", "0-4", "5-1", "markdown", "latex", "true", "[1,2]",
    '{"a": {"a": 1}}', "[" * 2000, "profile-it",
)  # fmt: skip

values = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
)
assignments = st.builds(lambda key, value: f"{key}={value}", st.sampled_from(KEYS), values)
options = st.one_of(
    st.tuples(st.sampled_from(FLAGS), values),
    st.tuples(st.just("--set"), assignments),
    st.tuples(values),
    st.tuples(st.sampled_from(FLAGS)),
)
typed = st.tuples(st.sampled_from(COMMANDS), st.lists(options, max_size=6)).map(
    lambda parts: [parts[0], *(word for option in parts[1] for word in option)]
)
trees = st.recursive(
    values | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(KEYS) | st.sampled_from(("dataset", "training", "name",
                                                               "options", "strategy")), inner,
                      max_size=4),
    max_leaves=8,
)  # fmt: skip
damages = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(("flip", "cut", "insert", "double")), st.binary(
        min_size=1, max_size=8)), min_size=1, max_size=6,
)  # fmt: skip


def damaged(content: bytes, what: list[tuple[float, str, bytes]]) -> bytes:
    """Return ``content`` after the changes in ``what``: (place from 0 to 1, kind, bytes)."""
    for place, how, extra in what:
        at = int(place * max(len(content) - 1, 0))
        if how == "flip":
            flipped = bytes(
                a ^ b for a, b in zip(content[at : at + len(extra)], extra, strict=False)
            )
            content = content[:at] + flipped + content[at + len(flipped) :]
        elif how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + extra + content[at:]
        else:
            content = content[:at] + content[max(at - 200, 0) :]
    return content


class Fuzz:
    """A home, a working directory, and a user's home directory; only the first may change."""

    def __init__(self, folder: Path) -> None:
        self.home, self.here = folder / "home", folder / "here"
        self.user = folder / "user"
        for path in (self.here, self.user, folder / "tmp"):
            path.mkdir(parents=True)
        os.environ |= {
            "DART_HOME": str(self.home), "HOME": str(self.user), "COLUMNS": "80",
            "XDG_CACHE_HOME": str(self.user), "XDG_CONFIG_HOME": str(self.user),
            "DART_MIRROR": str(write_source(folder / "mirror", 60)), "TMPDIR": str(folder / "tmp"),
            "MPLCONFIGDIR": str(self.home / "matplotlib"),
            # a fault of the program then raises instead of printing an error message
            "DART_TRACEBACK": "1",
        }  # fmt: skip
        tempfile.tempdir = None
        os.chdir(self.here)
        self.outcomes: Counter[str] = Counter()
        self.slowest = (0.0, "")
        for words in (
            ["train", "synthetic", "--set", "dataset.interactions=1500", "--epochs", "2",
             "--name", "one", "--snapshot", "2"],
            ["train", "synthetic", "--set", "dataset.interactions=1500", "--epochs", "2",
             "--name", "two", "--strategy", "base"],
        ):  # fmt: skip
            assert self.run_command(words) == 0, words
        self.initial = folder / "initial"
        shutil.copytree(self.home, self.initial)
        self.files = self._write_files(folder / "given")

    @staticmethod
    def _write_files(folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        chance = random.Random(3)
        log = pl.DataFrame(
            {
                "user": [chance.randrange(30) for _ in range(200)],
                "item": [f"i{chance.randrange(20)}" for _ in range(200)],
                "time": [chance.random() for _ in range(200)],
            }
        )
        log.write_parquet(folder / "log.parquet")
        log.write_csv(folder / "log.csv")
        with xlsxwriter.Workbook(folder / "ratings.xlsx") as book:
            sheet = book.add_worksheet()
            for row in range(40):
                for column in range(101):
                    sheet.write_number(row, column, (row * column) % 9)
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("jester-data-1.csv", log.write_csv())
            file.writestr("../../escaped", "x")
        return {**found, "jester-data-1.zip": archive.getvalue()}

    def run_command(self, words: list[str]) -> int:
        """Run one command and check how it ends; return its exit code."""
        from dartcli.cli import app

        began, began_cpu = time.monotonic(), time.process_time()
        if words[0] in {"train", "sweep"}:
            # a long training is not a hang
            words = _shorten(words)
        done = CliRunner().invoke(app, words)
        waited, seconds = time.monotonic() - began, time.process_time() - began_cpu
        self.slowest = max(self.slowest, (seconds, " ".join(words)))
        said = (words, done.exit_code, done.stderr[-2000:])
        assert done.exception is None or isinstance(done.exception, SystemExit), (
            said,
            done.exception,
        )
        assert done.exit_code in {0, 1, 2}, said
        assert "Traceback" not in done.stderr, said
        if done.exit_code:
            assert done.stderr.strip() or done.stdout.strip(), said
        assert seconds < MAX_SECONDS, (seconds, said)
        assert waited < MAX_WAIT, (waited, said)
        outside = [path for path in (*self.here.iterdir(), *self.user.iterdir())
                   if path.name not in self.allowed]  # fmt: skip
        assert not outside, (outside, said)
        self.outcomes[f"exit code {done.exit_code}"] += 1
        return done.exit_code

    allowed: tuple[str, ...] = ()

    def run_arguments(self, words: list[str]) -> None:
        """Run generated arguments, without those that write to a path from the user."""
        writing = {"--output", "-o", "--install-completion"}
        self.run_command([word for word in words if word not in writing])
        if not (self.home / "runs" / "one" / "metrics.json").exists() or self._has_many_runs():
            shutil.rmtree(self.home, ignore_errors=True)
            shutil.copytree(self.initial, self.home)

    def _has_many_runs(self) -> bool:
        return len(list((self.home / "runs").iterdir())) > 30

    def run_on_file(self, name: str, content: bytes, words: list[str]) -> None:
        """Run a command on a file; the word ``FILE`` stands for its path."""
        place = self.here / name
        place.write_bytes(content)
        self.allowed = (name,)
        try:
            self.run_command([str(place) if word == "FILE" else word for word in words])
        finally:
            self.allowed = ()
            place.unlink()


def _shorten(words: list[str]) -> list[str]:
    """Append arguments that make a training or sweep short; the last of each option counts."""
    small = ["--set", "dataset.interactions=1500"]
    if words[0] == "train":
        return [*words, "--epochs", "1", *small]
    few = ["--datasets", "synthetic", "--strategies", "base", "--seeds", "0", "--jobs", "1"]
    return [*words, *few, "--set", "training.epochs=1", *small]


def run(examples: int, first: int = 0) -> Fuzz:
    """Run about ``examples`` commands; an AssertionError names the one that misbehaved."""
    folder = Path(tempfile.mkdtemp(prefix="dart-fuzz-"))
    fuzz = Fuzz(folder)
    quiet = settings(
        database=None, deadline=None, phases=[Phase.generate], print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip

    def limit(share: float) -> settings:
        return settings(quiet, max_examples=max(1, round(examples * share)))

    @seed(first)
    @limit(0.75)
    @given(typed)
    def words(typed_words: list[str]) -> None:
        fuzz.run_arguments(typed_words)

    @seed(first)
    @limit(0.12)
    @given(trees, st.booleans(), damages)
    def configs(tree: object, broken: bool, what: list[tuple[float, str, bytes]]) -> None:
        text = json.dumps(tree, default=str).encode()
        fuzz.run_on_file(
            "settings.json", damaged(text, what) if broken else text, ["train", "--config", "FILE"]
        )

    log_words = [
        "preprocess",
        "--input",
        "FILE",
        "--user",
        "user",
        "--item",
        "item",
        "--name",
        "shop",
    ]

    @seed(first)
    @limit(0.04)
    @given(st.sampled_from(("log.parquet", "log.csv")), damages)
    def logs(name: str, what: list[tuple[float, str, bytes]]) -> None:
        fuzz.run_on_file(name, damaged(fuzz.files[name], what), log_words)

    @seed(first)
    @limit(0.06)
    @given(damages)
    def archives(what: list[tuple[float, str, bytes]]) -> None:
        content = damaged(fuzz.files["jester-data-1.zip"], what)
        fuzz.run_on_file("jester-data-1.zip", content, ["download", "jester-1", "--from", "FILE"])

    @seed(first)
    @limit(0.03)
    @given(damages)
    def workbooks(what: list[tuple[float, str, bytes]]) -> None:
        content = damaged(fuzz.files["ratings.xlsx"], what)
        name = "[final] April 2015 to Nov 30 2019 - Transformed Jester Data - .xlsx"
        shutil.rmtree(fuzz.home / "raw" / "jester-4", ignore_errors=True)
        fuzz.run_on_file(name, content, ["download", "jester-4", "--from", "FILE"])
        fuzz.run_command(["preprocess", "jester-4"])

    try:
        for trial in (words, configs, logs, archives, workbooks):
            trial()
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    return fuzz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    fuzz = run(chosen.examples, chosen.seed)
    seconds, slow = fuzz.slowest
    print(f"{fuzz.outcomes.total():,} invocations: {dict(fuzz.outcomes)}")
    print(f"the slowest took {seconds:.1f} s of CPU time: {slow[:150]}")


if __name__ == "__main__":
    main()
