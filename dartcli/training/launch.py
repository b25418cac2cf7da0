"""Meet the processes that ``torchrun`` started, and give all of them the state of the first.

Functions raise TrainingError if a process does not appear in time, or has other data.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from dartcli.denoising.processes import Processes
from dartcli.errors import TrainingError, UsageError, first_line
from dartcli.storage.atomic import ensure_directory
from dartcli.storage.system import count_processes, find_rank
from dartcli.training.checkpoint import DOCUMENT, FILES, load_latest, write_checkpoint
from dartcli.training.epochs import Position


@contextmanager
def join_processes() -> Iterator[Processes | None]:
    """Meet the processes that ``torchrun`` started; yield None if there is only this one."""
    if count_processes() == 1:
        yield None
        return
    text = os.environ.get("DART_TIMEOUT", "300")
    if not text.isdigit() or not int(text):
        raise UsageError(f"DART_TIMEOUT is {text!r}. Give a whole number of seconds above 0.")
    seconds = float(text)
    place = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT')}"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        wait = timedelta(seconds=seconds)
        store, rank, count = next(rendezvous("env://", timeout=wait))
        # after a restart, the store still has the addresses of the processes before
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        store.set_timeout(wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"process {find_rank()} of {count_processes()} did not meet the others at {place} "
            f"within {seconds:g} s ({first_line(error)[:200]}). Check `torchrun` on every node."
        ) from error
    try:
        yield Processes(seconds)
    finally:
        dist.destroy_process_group()


def wait_for_all(processes: Processes, digest: str) -> None:
    """Wait until every process is ready to train on the data with this ``digest``."""
    wait = timedelta(seconds=12 * processes.seconds)  # others may prepare the data
    try:
        dist.monitored_barrier(timeout=wait, wait_all_ranks=True)
    except RuntimeError as error:
        raise TrainingError(
            f"a process was not ready ({first_line(error)[:300]}). Look for its own message."
        ) from error
    processes.check_same("the prepared data", int(digest[:12], 16))


def share_position(
    processes: Processes, position: Position | None, identity: str, device: torch.device
) -> Position | None:
    """Return the ``position`` of process 0, whose checkpoints the others need not have."""
    with tempfile.TemporaryDirectory(prefix="dart-") as name:
        place = Path(name) / "000000000000"
        if processes.rank == 0 and position is not None:
            write_checkpoint(place, position, identity)
        for file in (*FILES, DOCUMENT):
            path = place / file
            content = processes.broadcast(path.read_bytes() if path.exists() else b"")
            if content and processes.rank:
                ensure_directory(place)
                path.write_bytes(content)
        return load_latest(Path(name), identity, device) if processes.rank else position
