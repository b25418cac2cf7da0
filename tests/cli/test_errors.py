"""Signals, exceptions, and log records become messages and exit codes."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from dartcli.cli import console
from dartcli.cli.errors import Interrupted, defer_interrupts, guarded, raise_interrupted
from dartcli.errors import RunError, StoppedError, UsageError
from dartcli.experiments.run_index import list_runs, lock_run, remove_runs
from dartcli.experiments.run_writer import create_run, reopen_run
from dartcli.settings import Settings

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.signal(number, raise_interrupted) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_is_recorded_and_second_interrupts(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Interrupted) as stop, defer_interrupts() as received:
        assert received() == 0
        os.kill(os.getpid(), number)
        assert received() == number
        os.kill(os.getpid(), number)
        pytest.fail("the second signal does not interrupt")
    assert stop.value.args == (number,)
    assert "Ctrl-C" in capsys.readouterr().err
    assert signal.getsignal(number) is raise_interrupted


@pytest.mark.usefixtures("handlers")
def test_pending_signal_interrupts_at_the_end_of_the_block() -> None:
    done = False
    with pytest.raises(Interrupted) as stop, defer_interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        done = True
    assert done
    assert stop.value.args == (signal.SIGTERM,)


@pytest.mark.usefixtures("handlers")
def test_blocks_without_a_signal_end_normally() -> None:
    with defer_interrupts() as received:
        assert received() == 0
    assert signal.getsignal(signal.SIGINT) is raise_interrupted


def with_note(error: BaseException, note: str) -> BaseException:
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("raised", "code", "stderr"),
    [
        (UsageError("no run 'x'."), 2, "error: no run 'x'.\n"),
        (RunError("no [red]"), 1, "error: no [red]\n"),
        (StoppedError("stopped after step 3.", 15), 143, "Stopped after step 3.\n"),
        (KeyboardInterrupt(), 130, "Interrupted. Run `dart eval 'my run'` again to continue.\n"),
        (with_note(Interrupted(15), "Run `x`."), 143, "Interrupted. Run `x`.\n"),
    ],
)
def test_exceptions_become_messages_and_exit_codes(
    raised: BaseException,
    code: int,
    stderr: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["dart", "eval", "my run"])

    @guarded
    def command() -> None:
        raise raised

    with pytest.raises(typer.Exit) as stop:
        command()
    assert stop.value.exit_code == code
    assert capsys.readouterr() == ("", stderr)


def test_bugs_are_named_as_such_and_keep_their_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @guarded
    def command() -> None:
        raise ZeroDivisionError("by 0")

    monkeypatch.delenv("DART_TRACEBACK", raising=False)
    with pytest.raises(typer.Exit) as stop:
        command()
    assert stop.value.exit_code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: unexpected ZeroDivisionError: by 0.")
    assert "DART_TRACEBACK" in message
    monkeypatch.setenv("DART_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        command()


def test_log_records_become_notes_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_log()
    console.show_log()
    logger = logging.getLogger("dartcli.somewhere")
    logger.debug("hidden")
    logger.info("prepared [x]")
    logger.warning("no labels")
    assert capsys.readouterr() == ("", "• prepared [x]\nwarning: no labels\n")


def test_run_in_use_is_neither_resumed_nor_removed(home: Path) -> None:
    names = ["one", "two"]
    for name in names:
        with create_run(Settings(), {}, name) as folder:
            # a run that was stopped
            (folder / "checkpoints" / "seed_0" / "000000000001").mkdir(parents=True)
    with lock_run(home / "runs" / "two"):
        holder = rf"two.*\b{os.getpid()}\b"
        with pytest.raises(RunError, match=holder), reopen_run("two"):
            pytest.fail("it was opened")
        with pytest.raises(RunError, match=holder):
            remove_runs(names)
        assert {entry.name for entry in list_runs()} == set(names)
    resume = "dart resume one"
    with pytest.raises(UsageError, match=resume), create_run(Settings(), {}, "one"):
        pytest.fail("it was created again")
    assert remove_runs(names) == names
    assert list_runs() == []
