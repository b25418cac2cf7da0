"""The device that a training runs on."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

from dartcli.errors import TrainingError, UsageError

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


def resolve(name: str) -> torch.device:
    """Return the device called ``name``; ``auto`` takes the first GPU where there is one.

    Raises
    ------
    UsageError
        If there is no such name.
    TrainingError
        If there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
