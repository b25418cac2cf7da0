"""Two processes train as one would with the whole batch."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import dartcli

STEPS, ROWS = 50, 64
PARTS = (slice(0, 40), slice(40, ROWS))
"""Processes may have batches of different sizes."""
STRATEGIES = ("dart", "mentornet")


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))


def train(model: nn.Module, part: slice, *, group: Any, name: str) -> dict[str, torch.Tensor]:
    options = {"tau_m": 0.3, "t_m": 20} if name == "dart" else {}
    denoise = dartcli.strategy(name, iterations_per_epoch=10, group=group, **options)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator, losses = torch.Generator().manual_seed(1), []
    for _ in range(STEPS):
        features = torch.randn(ROWS, 6, generator=generator)
        labels = (features[:, 0] + torch.randn(ROWS, generator=generator) > 0).float()
        row = torch.randperm(1000, generator=generator)[:ROWS]
        loss = denoise(model(features[part]), labels[part], row=row[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    state = {f"state.{key}": value for key, value in denoise.state_dict().items()}
    weights = {f"model.{n}": value.detach() for n, value in enumerate(model.parameters())}
    return {"losses": torch.stack(losses), **state, **weights}


def run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # the name of the machine need not resolve to an address that can be reached
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    for name in STRATEGIES:
        found = train(DistributedDataParallel(make_model()), PARTS[rank], group=True, name=name)
        save_file(found, f"{folder}/{name} {rank}.safetensors")
    # neither process leaves while the other still expects something of it
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_have_the_losses_of_one_with_the_whole_batch(tmp_path: Path) -> None:
    multiprocessing.spawn(run_process, (str(tmp_path),), nprocs=2)
    for name in STRATEGIES:
        alone = train(make_model(), slice(None), group=None, name=name)
        first, second = (load_file(tmp_path / f"{name} {rank}.safetensors") for rank in (0, 1))
        for found in (first, second):
            torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-6, atol=0)
            for key, value in alone.items():
                torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
        for key in first:
            if key.startswith("state."):
                assert torch.equal(first[key], second[key])
