"""Signals: gently while steps are taken, at once otherwise."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dartcli.cli.errors import Interrupted, gently, interrupt
from dartcli.errors import RunError, UsageError
from dartcli.experiments.run_index import list_runs, lock_run, remove_runs
from dartcli.experiments.run_writer import create_run, reopen_run
from dartcli.settings import Settings


@pytest.fixture(autouse=True)
def flagged() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_interrupts(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted) as stop, gently() as asked:
        assert asked() == 0
        os.kill(os.getpid(), number)
        assert asked() == number
        os.kill(os.getpid(), number)
        pytest.fail("the second signal does not interrupt")
    assert stop.value.args == (number,)
    assert "stopping after this step; once more stops at once." in capsys.readouterr().err
    assert signal.getsignal(number) is interrupt


def test_a_signal_that_nobody_looked_at_interrupts_at_the_end() -> None:
    done = False
    with pytest.raises(Interrupted) as stop, gently():
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
    assert done
    assert stop.value.args == (signal.SIGTERM,)


def test_without_a_signal_nothing_happens() -> None:
    with gently() as asked:
        assert asked() == 0
    assert signal.getsignal(signal.SIGINT) is interrupt


def test_a_run_in_use_is_neither_resumed_nor_removed(home: Path) -> None:
    names = ["one", "two"]
    for name in names:
        with create_run(Settings(), {}, name) as folder:
            # a run that was stopped
            (folder / "checkpoints" / "seed_0" / "000000000001").mkdir(parents=True)
    with lock_run(home / "runs" / "two"):
        holder = rf"the run two is being trained or removed by process {os.getpid()} on "
        with pytest.raises(RunError, match=holder), reopen_run("two"):
            pytest.fail("it was opened")
        with pytest.raises(RunError, match=holder):
            remove_runs(names)
        assert {entry.name for entry in list_runs()} == set(names)
    again = "choose another --name, or go on with dart train --resume one"
    with pytest.raises(UsageError, match=again), create_run(Settings(), {}, "one"):
        pytest.fail("it was begun again")
    assert remove_runs(names) == names
    assert list_runs() == []
