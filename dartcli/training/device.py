"""The device that a training runs on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import nn

from dartcli.errors import TrainingError, UsageError, first_line
from dartcli.storage.system import total_memory

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
"""Names and numbers are those of glibc's ``mallopt``; the values set back are its defaults."""

SMALL: Final = 1_000_000
"""Parameters up to which one thread trains about as fast as several."""


@contextlib.contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Use one CPU thread for a small model, as many as there are for a large one.

    The operations of a small model take microseconds. Several threads gain a tenth there at best;
    on a machine that has other work to do they wait for each other, and lose a hundredfold. Sums
    inside a matrix product (of a perceptron) depend on the number of threads in their last bits,
    so small models give the same bytes on machines with any number of cores.
    """
    with threads_for_size(sum(parameter.numel() for parameter in model.parameters())):
        yield


@contextlib.contextmanager
def threads_for_size(parameters: int) -> Iterator[None]:
    """Do what :func:`threads_for` does for a model of so many parameters."""
    before = torch.get_num_threads()
    if parameters <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Let the C library keep what is freed instead of handing it back, for the block.

    A step allocates and frees the gradient of a table: megabytes, which glibc would fetch from the
    operating system each time, a fault a page. What is kept is given back at the end. Does nothing
    where the C library is another one.
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
    """Let operations give the same bytes whenever they are repeated, for the block.

    ``wanted`` None means: on a CPU, where only compiled steps take longer for it (``python -m
    benchmarks deterministic``); not on a GPU, where some operations have a faster form whose sums
    come in any order.
    """
    before = torch.are_deterministic_algorithms_enabled()
    module: Any = torch.utils.deterministic
    filling = module.fill_uninitialized_memory
    if device.type == "cuda":
        # cuBLAS reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(device.type == "cpu" if wanted is None else wanted)
    # it is for finding faults, and fills every new tensor
    module.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        module.fill_uninitialized_memory = filling


LOWER: Final = "lower --batch-size or the model's factors"


@contextlib.contextmanager
def explained(device: torch.device) -> Iterator[None]:
    """Turn what goes wrong with memory or the device, in the block, into a sentence.

    Raises
    ------
    TrainingError
        If memory ran out, the device failed, or it lacks a deterministic form of an operation.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(_out_of_memory(device, str(error))) from error
    except torch.AcceleratorError as error:
        raise TrainingError(_failed(device, error)) from error
    except MemoryError as error:
        raise TrainingError(f"memory ran out ({first_line(error)}); {LOWER}.") from error
    except RuntimeError as error:
        said = str(error)
        wanted = re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", said)
        if wanted:
            raise TrainingError(
                f"memory ran out: {_size(int(wanted[1]))} more were needed; {LOWER}."
            ) from error
        if "does not have a deterministic implementation" in said:
            operation = said.partition(" does not have")[0]
            raise TrainingError(
                f"{operation} has no deterministic form on {device.type}; "
                "train without --deterministic, or with --device cpu."
            ) from error
        if said.startswith("CUDA error"):
            raise TrainingError(_failed(device, error)) from error
        raise


def _out_of_memory(device: torch.device, said: str) -> str:
    wanted = re.search(r"Tried to allocate ([\d.]+ \w+)", said)
    whole = re.search(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", said)
    needed = f"{wanted[1]} more were needed" if wanted else "more was needed"
    room = f", {whole[2]} of its {whole[1]} are free" if whole else ""
    return f"the memory of {device} ran out: {needed}{room}; {LOWER}, or use --device cpu."


def _failed(device: torch.device, error: Exception) -> str:
    return (
        f"{device} failed ({first_line(error)}); look at it with nvidia-smi, then go on with "
        "dart train --resume where a checkpoint was written, or use --device cpu."
    )


def _size(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def check_room(parameters: int, device: torch.device) -> None:
    """Raise TrainingError where a model cannot be trained in the memory that there is.

    A parameter of float32 is kept five times: as weight, gradient, two moments and best weight.
    Systems hand out more than they have and end the process later, without a word.
    """
    needed = 5 * 4 * parameters
    if device.type == "cuda":
        _free, whole = torch.cuda.mem_get_info(device)
    else:
        whole = total_memory()
    if needed > whole > 0:
        raise TrainingError(
            f"a model of {parameters:,} parameters takes {_size(needed)} to train, but {device} "
            f"has {_size(whole)}; lower the model's factors."
        )


def resolve(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` takes the first GPU where there is one.

    It is asked to compute something: a GPU that is broken says so before anything is done.

    Raises
    ------
    UsageError
        If there is no such name.
    TrainingError
        If there is no such device on this machine.
    """
    if name == "auto":
        return answering(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"there is no device {name!r}; use auto, cpu, cuda or cuda:1.") from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise UsageError(f"the device {name!r} is not supported; use auto, cpu, cuda or cuda:1.")
    if not torch.cuda.is_available():
        raise TrainingError(
            f"--device {name} was asked for, but this machine offers no CUDA device to "
            f"PyTorch {torch.__version__}; use --device cpu."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise TrainingError(
            f"--device {name} was asked for, but there are only {torch.cuda.device_count()} CUDA "
            "devices, counted from cuda:0."
        )
    return answering(device)


def answering(device: torch.device) -> torch.device:
    """Return ``device`` if it computes; TrainingError where it does not."""
    with explained(device):
        if float(torch.full((2,), 1.5, device=device).sum()) != 3.0:
            raise TrainingError(f"{device} cannot add: do not trust it, and use another.")
    return device


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: torch.device) -> str:
    """Return the device in words, for the record of a run."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"
