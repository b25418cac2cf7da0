"""Several processes train as one does with the same batches."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from random_tables import ITEMS, ROWS, USERS, table
from safetensors.torch import load_file, save_file
from torch import Tensor, multiprocessing, nn
from torch import distributed as dist

from dartcli import catalog
from dartcli.data.tensors import TrainingSet
from dartcli.denoising import Context, Strategy, TrainingTable
from dartcli.denoising.processes import Processes
from dartcli.errors import TrainingError, UsageError
from dartcli.settings import Training
from dartcli.training.checkpoint import CheckpointWriter, Interval, load_latest
from dartcli.training.launch import share_position
from dartcli.training.loop import TrainingLoop

PLAN = Training(batch_size=65, epochs=2, patience=2, learning_rate=0.01, weight_decay=1e-6)
"""Two processes get 33 and 32 rows; the last batch of an epoch is shorter."""
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "base": ("base", "fm", {}),
    "dart": ("dart", "fm", {}),
    "mentornet": ("mentornet", "fm", {}),
    "s-model": ("s-model", "fm", {}),
    "two networks": ("co-teaching", "fm", {}),
    "batch norm and dropout": ("dart", "deepfm", {}),
    "sparse": ("dart", "fm", {"optimizer": "sparse-adam"}),
}


def make_loop(case: tuple[str, str, dict[str, Any]], **parts: Any) -> TrainingLoop:
    strategy, model, changes = case
    kind: type[Strategy] = catalog.load("strategies", strategy)
    train, valid = table(1), table(2)
    statistics = TrainingTable(
        train.fields[:, 0], train.fields[:, 1], train.label, USERS, ITEMS, ROWS
    )
    options: dict[str, Any] = {"tau_m": 0.3, "t_m": 5} if strategy == "dart" else {}
    rule = kind(kind.Options(**options), Context(7, statistics))
    made, models = catalog.load("models", model), []
    for network in range(kind.networks):
        torch.manual_seed(network)
        extra = {"dropout": 0.3} if model == "deepfm" else {}
        models.append(made((USERS, ITEMS), made.Options(factors=4, **extra)))
    training = TrainingSet(train, USERS, ITEMS, known=None, reshuffle=True)
    plan = PLAN.model_copy(update=changes)
    return TrainingLoop(models, rule, training, valid, valid.label, plan, 5, **parts)


def train(loop: TrainingLoop) -> dict[str, Tensor]:
    """Return every loss, and the weights and the strategy's memory at the end."""
    records = list(loop)
    program = loop.stepper.program
    found = {"losses": torch.cat([one.iterations["objective"].to_torch() for one in records])}
    networks: list[nn.Module] = [*program.models, program.strategy]
    for number, network in enumerate(networks):
        found |= {f"{number}.{name}": value for name, value in network.state_dict().items()}
    return {name: value.detach().clone() for name, value in found.items()}


def run_process(rank: int, folder: str, work: Callable[[Processes, str], Any], count: int) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # the name of the machine need not resolve to an address that can be reached
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", timedelta(seconds=60), rank=rank, world_size=count
    )
    work(Processes(60), folder)
    # no process leaves while another still expects something of it
    dist.barrier()
    dist.destroy_process_group()


def spawn(work: Callable[[Processes, str], Any], folder: Path, count: int) -> None:
    multiprocessing.spawn(run_process, (str(folder), work, count), nprocs=count)


def train_cases(processes: Processes, folder: str) -> None:
    for name, case in CASES.items():
        found = train(make_loop(case, processes=processes))
        if name in {"dart", "batch norm and dropout"}:
            again = train(make_loop(case, processes=processes))
            assert all(torch.equal(value, again[key]) for key, value in found.items()), name
        save_file(found, f"{folder}/{name} {processes.rank}.safetensors")


@pytest.mark.long
def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    spawn(train_cases, tmp_path, 2)
    for name, case in CASES.items():
        alone = train(make_loop(case))
        first, second = (load_file(tmp_path / f"{name} {rank}.safetensors") for rank in (0, 1))
        assert all(torch.equal(value, second[key]) for key, value in first.items()), name
        torch.testing.assert_close(first["losses"], alone["losses"], rtol=1e-6, atol=0)
        if case[1] == "fm":
            # the gradient of a bias before batch normalization is nothing but rounding
            for key, value in alone.items():
                torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-6)


def check_less_common_batches(processes: Processes, folder: str) -> None:
    # the last batch has a single row, so two of the processes have none
    case = ("dart", "deepfm", {"batch_size": 57, "epochs": 1})
    assert ROWS % 57 == 1
    found = train(make_loop(case, processes=processes))
    if processes.rank == 0:
        alone = train(make_loop(case))["losses"]
        torch.testing.assert_close(found["losses"][:-1], alone[:-1], rtol=1e-6, atol=0)
        # one row uses running means, which lag behind a bias whose gradient is only rounding
        torch.testing.assert_close(found["losses"][-1], alone[-1], rtol=1e-3, atol=0)
    local = ("base", "fm", {"ranking": "local"})
    found = train(make_loop(local, processes=processes))
    if processes.rank == 0:
        # without a ranking, the approximation is exact
        alone = train(make_loop(local))["losses"]
        torch.testing.assert_close(found["losses"], alone, rtol=1e-6, atol=0)
    with pytest.raises(UsageError, match="remembers earlier batches"):
        train(make_loop(("mentornet", "fm", {"ranking": "local"}), processes=processes))
    with pytest.raises(TrainingError, match="the answer of process 1 differs"):
        processes.check_same("the answer", 1.0 + (processes.rank == 1))


def stop_and_resume(processes: Processes, folder: str) -> None:
    whole = train(make_loop(CASES["dart"], processes=processes))
    # a signal reaches the second process only, after its tenth step
    asked = iter(range(10))
    processes.poll = lambda: 15 if processes.rank == 1 and next(asked, None) is None else 0
    own = Path(folder) / "checkpoints" if processes.rank == 0 else None
    writer = CheckpointWriter(own, "id", Interval(), lambda: processes.signal)
    with pytest.raises(Exception, match="stopped after iteration 11") as stop:
        train(make_loop(CASES["dart"], processes=processes, writer=writer))
    assert stop.value.exit_code == 143  # type: ignore[attr-defined]
    processes.poll, processes.signal = lambda: 0, 0
    device = torch.device("cpu")
    position = load_latest(own, "id", device) if own else None
    position = share_position(processes, position, "id", device)
    assert position is not None
    assert position.iteration == 11
    resumed = train(make_loop(CASES["dart"], processes=processes, position=position))
    # the record of the first epochs is not repeated
    del whole["losses"], resumed["losses"]
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def count_bytes(processes: Processes, folder: str) -> None:
    """Compare what is handed to ``torch.distributed`` with docs/explanation/scaling.md."""
    sent: list[int] = []
    all_gather = dist.all_gather

    def counting(results: list[Tensor], own: Tensor, **options: Any) -> Any:
        sent.append(own.nbytes * (len(results) - 1))
        return all_gather(results, own, **options)

    others = processes.count - 1
    fields, factors, width, validation = 2, 4, 16, 8
    for name, networks, dense, normalized, exchanges in (
        ("dart", 1, 1, 0, 2),
        ("two networks", 2, 2, 0, 2),
        # bias; two layers of 16 units with batch normalization; the output
        ("batch norm and dropout", 1, 1 + (8 * 16 + 3 * 16) + (16 * 16 + 3 * 16) + 17, 2, 10),
    ):
        loop, batch = make_loop(CASES[name], processes=processes), PLAN.batch_size
        dist.all_gather = counting
        sent.clear()
        list(loop)
        dist.all_gather = all_gather
        steps = loop.iteration
        full, last = batch, ROWS - (-(-ROWS // batch) - 1) * batch
        modelled = 0
        for rows, many in ((full, steps - PLAN.epochs), (last, PLAN.epochs)):  # type: ignore[operator]
            most = -(-rows // processes.count)
            step = 4 * (most * networks + 1)  # logits, and whether to stop
            step += networks * most * fields * 4 * (1 + factors + 1)  # row numbers and gradients
            step += 4 * dense
            step += normalized * 4 * width * 4  # mean, variance, and two sums of the gradient
            modelled += many * step * others
        modelled += PLAN.epochs * validation * others  # type: ignore[operator]
        assert sum(sent) == modelled, name
        assert len(sent) == steps * exchanges + PLAN.epochs, name


def check_all(processes: Processes, folder: str) -> None:
    check_less_common_batches(processes, folder)
    stop_and_resume(processes, folder)
    count_bytes(processes, folder)


@pytest.mark.long
def test_three_processes(tmp_path: Path) -> None:
    """A batch smaller than their number, local ranking, stopping, and what they exchange."""
    spawn(check_all, tmp_path, 3)
