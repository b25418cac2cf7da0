"""Numbers that are none, memory that is not there, devices that fail: sentences."""

import re
from pathlib import Path

import pytest
import torch
from test_checkpoint import PLAN, Ends

from dartcli.errors import TrainingError, UsageError
from dartcli.experiments.train import train_run
from dartcli.training import device as devices
from dartcli.training.checkpoint import CheckpointWriter, Interval, load_latest

CPU = torch.device("cpu")
GPU_SAID = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.20 GiB is free. Including non-PyTorch memory, this process has 77.90 GiB in use."
)


def test_a_non_finite_loss_names_iteration_cause_and_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    plan = PLAN.model_copy(update={"learning_rate": 1e30})
    writer = CheckpointWriter(tmp_path, "id", Interval(seconds=1e-9))
    with pytest.raises(TrainingError) as fault:
        Ends("base", "fm", plan, writer=writer)
    said = str(fault.value)
    assert "after iteration" in said or "at iteration" in said
    assert "`--learning-rate`" in said
    assert "1e+30" in said
    position = load_latest(tmp_path, "id", CPU)
    if position is None:
        assert "No checkpoint" in said
    else:
        assert f"(iteration {position.iteration:,})" in said
        weights = [value for name, value in position.tensors.items() if name.startswith("model")]
        assert all(bool(value.isfinite().all()) for value in weights)


def test_without_checkpoints_the_end_of_the_epoch_notices(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"not a number at iteration \d+ \("):
        Ends("base", "fm", plan)
    writer = CheckpointWriter(tmp_path, "id", Interval())
    with pytest.raises(TrainingError, match="No checkpoint"):
        Ends("base", "fm", plan, writer=writer)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(GPU_SAID), r"2\.50 GiB.*1\.20 GiB.*79\.11 GiB"),
        (torch.OutOfMemoryError("no words"), "cpu is out of memory"),
        (MemoryError(), "MemoryError"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nmore"), "nvidia-smi"),
        (RuntimeError("CUDA error: an illegal memory access"), "CUDA error: an ille"),
        (
            RuntimeError("put_ does not have a deterministic implementation, but you set"),
            r"put_.*--no-deterministic",
        ),
    ],
)
def test_device_errors_become_messages(error: Exception, words: str) -> None:
    with pytest.raises(TrainingError) as fault, devices.explained(CPU):
        raise error
    assert re.search(words, str(fault.value))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), devices.explained(CPU):
        raise RuntimeError("shapes do not fit")
    memory = r"3,725,290\.3 GiB"
    with pytest.raises(TrainingError, match=memory), devices.explained(CPU):
        torch.empty(10**15)


def test_a_model_that_does_not_fit_is_refused_before_anything_is_allocated(home: Path) -> None:
    with pytest.raises(TrainingError, match=r"[\d,.]+ GiB.*cpu"):
        train_run(model={"name": "fm", "options": {"factors": 10**6}})
    assert not list((home / "runs").iterdir())


def test_a_device_that_computes_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.resolve("cpu") == CPU
    monkeypatch.setattr(torch, "full", lambda *_, **__: torch.ones(2))
    with pytest.raises(TrainingError, match="cpu"):
        devices.resolve("auto")


def test_an_unavailable_device_is_reported_before_any_work(home: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(TrainingError, match="cuda"):
        train_run(device="cuda")
    with pytest.raises(UsageError, match="tpu9"):
        train_run(device="tpu9")
    assert not home.exists()


@pytest.mark.parametrize(("wanted", "expected"), [(None, True), (True, True), (False, False)])
def test_deterministic_is_the_default_on_a_cpu(wanted: bool | None, expected: bool) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    with devices.deterministic(CPU, wanted=wanted):
        assert torch.are_deterministic_algorithms_enabled() is expected
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.are_deterministic_algorithms_enabled() is before


def test_training_has_the_setting_in_force(home: Path) -> None:
    seen: list[bool] = []
    train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}},
        training={"epochs": 1},
        deterministic=False,
        progress=lambda _seed, _record: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [False]
    assert '"deterministic": false' in (home / "runs/run_01/settings.json").read_text()
