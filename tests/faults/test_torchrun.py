"""One of two processes of ``torchrun`` dies, hangs, or computes NaN: a restart, or a sentence."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults

TRAIN = [
    *("train", "synthetic", "--set", "dataset.users=60", "--set", "dataset.items=60"),
    *("--set", "dataset.interactions=900", "--batch-size", "256", "--epochs", "4"),
]
"""Six steps an epoch."""

BEGIN = """
import os, signal, sys, time
from dartcli.training import checkpoint, distributed

first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
rank = int(os.environ["RANK"])
fit, steps = distributed.SharedProgram.fit, 0

def disturbed(self, batch, *rest):
    global steps
    steps += 1
    if first and steps == 9:
        disturb(self)
    return fit(self, batch, *rest)

def disturb(program):
    pass
"""
END = """
distributed.SharedProgram.fit = disturbed
from dartcli.cli import main
main()
"""
KILLED = """
def disturb(program):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""
KILLED_WHILE_SAVING = """
write_document, saved = checkpoint.write_document, 0

def dying(path, document):
    global saved
    saved += 1
    if first and saved == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write_document(path, document)

checkpoint.write_document = dying
"""
HANGING = """
def disturb(program):
    if rank == 1:
        time.sleep(3600)
"""
NAN = """
def disturb(program):
    if rank == 1:
        next(program.models[0].parameters()).data.fill_(float("nan"))
"""


def launch(
    home: Path, script: str, *words: str, restarts: int = 0, seconds: int = 60
) -> subprocess.CompletedProcess[str]:
    program = home / "program.py"
    home.mkdir(exist_ok=True)
    program.write_text(BEGIN + script + END)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--max-restarts", str(restarts), str(program), *TRAIN, *words),
    ]
    place = {"DART_HOME": str(home), "DART_TIMEOUT": str(seconds), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        check=False,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=240,
    )


def weights(home: Path) -> bytes:
    return (home / "runs" / "one" / "seed_0" / "model.safetensors").read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("script", [KILLED, KILLED_WHILE_SAVING], ids=["a step", "saving"])
def test_torchrun_resumes_after_a_process_was_killed(tmp_path: Path, script: str) -> None:
    words = ("--name", "one", "--checkpoint-every", "1ep", "-q")
    whole = launch(tmp_path / "whole", "", *words)
    assert whole.returncode == 0, whole.stderr
    result = launch(tmp_path / "killed", script, *words, restarts=1)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "one\n"
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert [path.name for path in (tmp_path / "killed" / "runs").iterdir()] == ["one"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (KILLED, "process 0 of 2 lost the others"),
        (HANGING, "did not answer for 15 s"),
        (NAN, "loss is not a number at iteration 9"),
    ],
    ids=["killed", "hanging", "nan"],
)
def test_a_fault_ends_in_a_sentence(tmp_path: Path, script: str, said: str) -> None:
    began = time.monotonic()
    result = launch(tmp_path / "home", script, "--name", "one", seconds=15)
    assert time.monotonic() - began < 120
    assert result.returncode == 1
    assert said in result.stderr
    assert not (tmp_path / "home" / "runs" / "one").exists()
