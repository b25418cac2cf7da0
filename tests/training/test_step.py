"""Compiled and captured steps against the step as it is written."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dartcli import catalog
from dartcli.data.tensors import Batch
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable
from dartcli.models._layers import JointTable
from dartcli.settings import Training
from dartcli.training.acceleration import COMPILERS
from dartcli.training.program import Program, Taken
from dartcli.training.step import Stepper

USERS, ITEMS, ROWS, SIZE = 40, 30, 64, 16
CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in COMPILERS), reason="there is no C++ compiler here"
)


def batches(rows: int = ROWS, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    fields = torch.stack(
        [
            torch.randint(USERS, (rows,), generator=generator),
            torch.randint(ITEMS, (rows,), generator=generator),
        ],
        dim=1,
    )
    label = torch.randint(0, 2, (rows,), generator=generator).float()
    row = torch.arange(rows)
    return [
        Batch(fields[start : start + SIZE], label[start : start + SIZE], row[start : start + SIZE])
        for start in range(0, rows, SIZE)
    ]


def program(strategy: str = "dart", model: str = "fm", **options: Any) -> Program:
    kind: type[Strategy] = catalog.load("strategies", strategy)
    table = torch.cat([batch.fields for batch in batches()])
    label = torch.cat([batch.label for batch in batches()])
    context = Context(
        iterations_per_epoch=ROWS // SIZE,
        table=TrainingTable(table[:, 0], table[:, 1], label, USERS, ITEMS, ROWS),
        clean=CleanSample(table[:SIZE], label[:SIZE]),
    )
    models: list[nn.Module] = []
    for network in range(kind.networks):
        torch.manual_seed(network)
        made = catalog.load("models", model)
        models.append(made((USERS, ITEMS), made.Options(factors=4)).train())
    return Program(models, kind(kind.Options(**options), context))


def stepped(made: Program, plan: Training, **options: Any) -> Stepper:
    return Stepper(made, plan, CPU, **options)


def take(stepper: Stepper, times: int = 3) -> list[Tensor]:
    losses = []
    for number in range(times):
        torch.manual_seed(number)
        stepper.epoch.fill_(number + 1)
        losses.extend(stepper(batch).loss.clone() for batch in batches())
    return losses


def weights(made: Program) -> dict[str, Tensor]:
    state = {}
    for number, network in enumerate([*made.models, made.strategy]):
        state |= {f"{number}.{name}": value for name, value in network.state_dict().items()}
    return state


def assert_close(first: Program, second: Program, tolerance: float) -> None:
    others = weights(second)
    for name, value in weights(first).items():
        torch.testing.assert_close(value, others[name], rtol=tolerance, atol=tolerance)


@needs_compiler
@pytest.mark.parametrize("strategy", ["base", "dart", "co-teaching"])
def test_compiled_steps_agree_with_eager_ones(strategy: str) -> None:
    options = {"t_i": 2, "t_m": 6, "tau_m": 0.5} if strategy == "dart" else {}
    eager, compiled = program(strategy, **options), program(strategy, **options)
    plain = stepped(eager, Training(batch_size=SIZE, compile="off"))
    fast = stepped(compiled, Training(batch_size=SIZE, compile="on"))
    for one, other in zip(take(plain), take(fast), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert (plain.engine, fast.engine, fast.remark) == ("eager", "compiled", None)
    assert_close(eager, compiled, 1e-5)
    assert plain.iteration.item() == fast.iteration.item() == 12


@needs_compiler
def test_if_compilation_fails_the_step_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise FileNotFoundError("no folder for it")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fails)
    options = {"t_i": 2, "t_m": 6, "tau_m": 0.5}
    eager, tried = program("dart", **options), program("dart", **options)
    plain = stepped(eager, Training(batch_size=SIZE, compile="off"))
    fast = stepped(tried, Training(batch_size=SIZE, compile="on"))
    for one, other in zip(take(plain), take(fast), strict=True):
        assert torch.equal(one, other)
    assert fast.remark is not None
    assert "no folder for it" in fast.remark
    assert plain.iteration.item() == fast.iteration.item() == 12


@needs_compiler
def test_compiled_code_is_kept_in_a_folder_that_ends_with_the_process(
    home: Path, tmp_path: Path
) -> None:
    words = ["train", "synthetic", "--set", "dataset.interactions=1500", "--epochs", "1"]
    kept = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", "dartcli", *words, "--batch-size", "100", "--compile", "on"],
        env={**kept, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"compiled"' in (home / "runs/run_01/environment.json").read_text()
    assert {path.name for path in home.iterdir()} == {"locks", "processed", "runs"}
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@needs_compiler
def test_compiled_steps_repeat_to_the_byte() -> None:
    plan = Training(batch_size=SIZE, compile="on")
    first, second = program(), program()
    take(stepped(first, plan))
    take(stepped(second, plan))
    assert_close(first, second, 0.0)


def test_without_a_compiler_steps_are_eager_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    eager, other = program(), program()
    take(stepped(eager, Training(batch_size=SIZE, compile="off")))
    fast = stepped(other, Training(batch_size=SIZE, compile="on"))
    take(fast)
    assert fast.engine == "eager"
    assert fast.remark is not None
    assert "g++" in fast.remark
    assert_close(eager, other, 0.0)


def test_auto_compiles_after_the_step_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dartcli.training.step.PAYS_AFTER", 5)
    called: list[int] = []

    class Fake:
        def __init__(self, *_parts: object) -> None:
            pass

        def __call__(self, batch: Batch) -> Taken:
            called.append(stepper.steps)
            return stepper.eager(batch)

    monkeypatch.setattr("dartcli.training.step.Compiled", Fake)
    stepper = stepped(program(), Training(batch_size=SIZE, compile="auto"))
    take(stepper)
    assert called == [6, 7, 8, 9, 10, 11, 12]


def recorder(log: list[str]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a stand-in for a device's graph: the capture computes, as no graph does, nothing."""

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        log.append("capture")

        def replay() -> None:
            log.append("replay")
            step()

        return replay

    return capture


def test_a_captured_step_is_replayed_on_fresh_batches(no_sync: Callable[[], object]) -> None:
    log: list[str] = []
    eager, captured = program(t_i=2, t_m=6, tau_m=0.5), program(t_i=2, t_m=6, tau_m=0.5)
    plain = stepped(eager, Training(batch_size=SIZE, compile="off"))
    fast = stepped(captured, Training(batch_size=SIZE), capture=recorder(log))
    with no_sync():
        kept = take(fast)
    for one, other in zip(take(plain), kept, strict=True):
        assert torch.equal(one, other)
    # three steps warm up; what a step returned is not overwritten by the next
    assert log == ["capture", *["replay"] * 9]
    assert fast.engine == "cuda graph"
    assert_close(eager, captured, 0.0)


def test_the_smaller_last_batch_is_never_captured() -> None:
    log: list[str] = []
    fast = stepped(program(), Training(batch_size=SIZE), capture=recorder(log))
    for batch in [*batches(ROWS), *batches(ROWS - 5, seed=1)]:
        fast(batch)
    assert log.count("replay") == 7 - 3
    assert fast.steps == 8


def test_a_step_that_cannot_be_captured_is_eager_and_says_why() -> None:
    def refuse(_step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore words")

    eager, other = program(), program()
    take(stepped(eager, Training(batch_size=SIZE, compile="off")))
    fast = stepped(other, Training(batch_size=SIZE), capture=refuse)
    take(fast)
    assert fast.remark is not None
    assert "stream is capturing" in fast.remark
    assert_close(eager, other, 0.0)


def adam_by_hand(
    table: Tensor, gradients: Iterator[tuple[Tensor, Tensor]], rate: float, decay: float
) -> Tensor:
    """Adam on the touched rows alone, as a plain loop in float64 (SparseAdam's definition)."""
    value = table.double().clone()
    mean, square = torch.zeros_like(value), torch.zeros_like(value)
    for number, (rows, gradient) in enumerate(gradients, 1):
        for row in rows.tolist():
            slope = gradient[row].double() + decay * value[row]
            mean[row] = 0.9 * mean[row] + 0.1 * slope
            square[row] = 0.999 * square[row] + 0.001 * slope**2
            step = rate * (1 - 0.999**number) ** 0.5 / (1 - 0.9**number)
            value[row] -= step * mean[row] / (square[row].sqrt() + 1e-8)
    return value


def test_sparse_adam_equals_a_plain_loop() -> None:
    plan = Training(batch_size=SIZE, optimizer="sparse-adam", learning_rate=0.01, weight_decay=0.1)
    made, reference = program("base"), program("base")
    table, dense = (
        next(layer for layer in one.models[0].modules() if isinstance(layer, JointTable))
        for one in (made, reference)
    )
    before = table.table.detach().clone()
    stepper = stepped(made, plan)

    def gradients() -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(batches()[:3], 1):
            # the reference network holds the weights before the step
            reference.models[0].load_state_dict(made.models[0].state_dict())
            taken = reference.forward(batch, torch.tensor(number), torch.tensor(1))
            (slope,) = torch.autograd.grad(taken.objective, [dense.table])
            stepper(batch)
            touched = (batch.fields + table.offsets).flatten().unique()
            yield touched, slope

    expected = adam_by_hand(before, gradients(), 0.01, 0.1)
    torch.testing.assert_close(table.table.detach().double(), expected, rtol=1e-5, atol=1e-6)
    untouched = torch.ones(len(before), dtype=torch.bool)
    for batch in batches()[:3]:
        untouched[(batch.fields + table.offsets).flatten()] = False
    assert untouched.any()
    assert torch.equal(table.table.detach()[untouched], before[untouched])


def test_sparse_adam_is_not_compiled_and_says_so() -> None:
    plan = Training(batch_size=SIZE, optimizer="sparse-adam", compile="on")
    stepper = stepped(program(), plan)
    take(stepper, 1)
    assert stepper.engine == "eager"
    assert stepper.remark is not None
    assert "sparse-adam" in stepper.remark
