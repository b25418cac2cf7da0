"""The device that a training runs on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn

from dartcli.errors import TrainingError, UsageError, first_line
from dartcli.models._layers import JointTable
from dartcli.storage.system import total_memory

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
"""Parameters of glibc's ``mallopt``."""

SMALL: Final = 1_000_000
"""Parameters up to which one thread is about as fast as several."""
PERIOD: Final = 200
"""Calls after which :class:`ThreadChoice` compares again."""
TRIALS: Final = 6
"""Calls that are compared, half of them with one thread."""


@contextlib.contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Use one CPU thread, unless the model's layers beside its embedding tables are large.

    The operations of a small model take microseconds: several threads gain a tenth at best, and on
    a busy machine they wait for each other and can be a hundred times slower. One thread also
    makes trainings reproducible on any number of cores, because sums inside a matrix product
    depend on the number of threads in their last bits.
    """
    before = torch.get_num_threads()
    if count_dense_parameters(model) <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_dense_parameters(model: nn.Module) -> int:
    """Return the number of parameters outside of embedding tables."""
    tables = [layer.table for layer in model.modules() if isinstance(layer, JointTable)]
    whole = sum(parameter.numel() for parameter in model.parameters())
    return whole - sum(table.numel() for table in tables)


class ThreadChoice:
    """Use one CPU thread or all for an operation, whichever was faster a moment ago.

    Several threads are slower than one if other programs use the cores. The operation must give
    the same result with any number of threads, as one does that treats each element alone.
    """

    def __init__(self, most: int) -> None:
        self.most, self.calls, self.best = most, 0, 1
        self.seconds: dict[int, list[float]] = {1: [], most: []}

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Run the block, which is one call of the operation."""
        place, before = self.calls % PERIOD, torch.get_num_threads()
        self.calls += 1
        is_trial = place < TRIALS
        threads = (1, self.most)[place % 2] if is_trial else self.best
        torch.set_num_threads(threads)
        began = time.perf_counter()
        try:
            yield
        finally:
            torch.set_num_threads(before)
        if is_trial:
            self.seconds[threads].append(time.perf_counter() - began)
        if place == TRIALS - 1:
            self.best = min(
                self.seconds, key=lambda number: statistics.median(self.seconds[number])
            )
            for times in self.seconds.values():
                times.clear()


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Make the C library keep freed memory instead of returning it to the system.

    Every step allocates and frees the gradient of a table. glibc would request these megabytes from
    the system each time, at one page fault per page. Memory is returned at the end of the block.
    Does nothing for other C libraries.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    mallopt, trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)
    if mallopt is None or trim is None:
        yield
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        mallopt(M_MMAP_MAX, 65_536)
        mallopt(M_TRIM_THRESHOLD, 128 * 1024)
        trim(0)


@contextlib.contextmanager
def deterministic(device: torch.device, *, wanted: bool | None) -> Iterator[None]:
    """Make operations reproducible to the byte.

    ``wanted`` None means yes on a CPU, where it costs nothing (``python -m benchmarks
    deterministic``), and no on a GPU, where some operations have a faster form that sums in any
    order.
    """
    before = torch.are_deterministic_algorithms_enabled()
    module: Any = torch.utils.deterministic
    filling = module.fill_uninitialized_memory
    if device.type == "cuda":
        # cuBLAS reads this when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms does the same, but imports the compiler, for a second
    mode = device.type == "cpu" if wanted is None else wanted
    torch.set_deterministic_debug_mode("error" if mode else "default")
    # a debugging aid that fills every new tensor
    module.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("error" if before else "default")
        module.fill_uninitialized_memory = filling


LOWER: Final = "Lower `--batch-size` or `--set model.factors`"


@contextlib.contextmanager
def explained(device: torch.device) -> Iterator[None]:
    """Turn errors of memory and devices into a TrainingError.

    Raises
    ------
    TrainingError
        If memory runs out, the device fails, or an operation has no deterministic form.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_out_of_memory(device, str(error))) from error
    except torch.AcceleratorError as error:
        raise TrainingError(_failed(device, error)) from error
    except MemoryError as error:
        raise TrainingError(f"out of memory ({first_line(error)}). {LOWER}.") from error
    except RuntimeError as error:
        said = str(error)
        wanted = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", said)
        if wanted:
            raise TrainingError(
                f"out of memory: could not allocate {_size(int(wanted[1]))}. {LOWER}."
            ) from error
        if "does not have a deterministic implementation" in said:
            operation = said.partition(" does not have")[0]
            raise TrainingError(
                f"{operation} has no deterministic implementation on {device.type}. Use "
                "`--no-deterministic` or `--device cpu`."
            ) from error
        if said.startswith("CUDA error"):
            raise TrainingError(_failed(device, error)) from error
        raise


def _out_of_memory(device: torch.device, said: str) -> str:
    wanted = re.search(r"Tried to allocate ([\d.]+ \w+)", said)
    whole = re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", said)
    needed = f": could not allocate {wanted[1]}" if wanted else ""
    room = f" ({whole[2]} of {whole[1]} free)" if whole else ""
    return f"{device} is out of memory{needed}{room}. {LOWER}, or use `--device cpu`."


def _failed(device: torch.device, error: Exception) -> str:
    return (
        f"{device} failed: {first_line(error)}. Check it with `nvidia-smi`, then resume the run "
        "with `dart resume`, or use `--device cpu`."
    )


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def check_room(parameters: int, device: torch.device) -> None:
    """Raise TrainingError if a model does not fit into memory.

    Each float32 parameter is stored five times: weight, gradient, two moments, and best weight.
    Checking beforehand matters because operating systems grant more memory than they have and kill
    the process later.
    """
    needed = 5 * 4 * parameters
    if device.type == "cuda":
        _free, whole = torch.cuda.mem_get_info(device)
    else:
        whole = total_memory()
    if needed > whole > 0:
        raise TrainingError(
            f"training a model with {parameters:,} parameters needs {_size(needed)}, but {device} "
            f"has {_size(whole)}. Lower `--set model.factors`."
        )


def resolve(name: str) -> torch.device:
    """Return the device ``name``; ``auto`` is the first GPU, or the CPU if there is none.

    The device is tested with a small computation, so a broken GPU is found before anything starts.

    Raises
    ------
    UsageError
        If the name is invalid.
    TrainingError
        If this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device {name!r}. Use `auto`, `cpu`, `cuda`, or `cuda:1`.") from error
    if device.type == "cpu":
        return check_device(torch.device("cpu"))
    if device.type != "cuda":
        raise UsageError(
            f"device {name!r} is not supported. Use `auto`, `cpu`, `cuda`, or `cuda:1`."
        )
    if not torch.cuda.is_available():
        raise TrainingError(
            f"device {name} is not available: PyTorch {torch.__version__} finds no CUDA device. "
            "Use `--device cpu`."
        )
    if ":" not in name and "LOCAL_RANK" in os.environ:
        # of several processes on this machine, each takes one GPU
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(
            f"device {name} does not exist: this machine has {torch.cuda.device_count()} CUDA "
            "devices, numbered from cuda:0."
        )
    return check_device(device)


def check_device(device: torch.device) -> torch.device:
    """Return ``device`` if it computes a simple sum correctly; else raise TrainingError."""
    with explained(device):
        if float(torch.full((2,), 1.5, device=device).sum()) != 3.0:
            raise TrainingError(
                f"{device} returned a wrong result for a simple sum. Use another device."
            )
    return device


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> str:
    """Return name and type of the device, for the record of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
