"""Run commands in this process, on tiny data."""

from typer.testing import CliRunner, Result

from dartcli.cli import app

DATA = [
    "--set", "dataset.users=60", "--set", "dataset.items=60", "--set", "dataset.interactions=900",
]  # fmt: skip
TRAIN = ["train", "synthetic", *DATA, "--epochs", "2", "--batch-size", "256"]
DART = ["--seeds", "0-1", "--tau-m", "0.2", "--t-m", "4"]
"""Flags of the run ``one``; it flags false positives."""


def dart(*words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=typed)


def succeed(*words: str) -> Result:
    """Run a command that must not fail."""
    result = dart(*words)
    assert result.exit_code == 0, (words, result.stderr)
    return result
