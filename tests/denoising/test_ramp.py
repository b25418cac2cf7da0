"""The rate of Eq. 3, and the strategies that rise to it."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dartcli import catalog, settings
from dartcli.denoising import Context, RampStrategy, compute_rate
from dartcli.errors import UsageError

RAMPS = [
    name
    for name in catalog.names("strategies")
    if issubclass(catalog.load("strategies", name), RampStrategy)
]


def plain_rate(iteration: int, t_i: float, t_m: float, tau_m: float) -> float:
    """Eq. 3."""
    return max(min((iteration - t_i) / t_m * tau_m, tau_m), 0.0)


def rate_of(iterations: Sequence[int], *parameters: float) -> Tensor:
    constants = [torch.tensor(value, dtype=torch.float64) for value in parameters]
    return compute_rate(torch.tensor(iterations), *constants)


def test_the_rate_is_eq_3_to_the_last_bit() -> None:
    iterations = [*range(1, 12), 999, 1000, 1001, 1003, 2500, 5999, 6000, 6001, 10**9]
    for t_i in (0, 1, 2.5, 1000):
        for t_m in (1, 3, 5000):
            for tau_m in (0.0, 0.02, 0.3, 1.0):
                found = rate_of(iterations, t_i, t_m, tau_m)
                assert found.dtype == torch.float64
                expected = [plain_rate(iteration, t_i, t_m, tau_m) for iteration in iterations]
                assert found.tolist() == expected


durations = st.integers(0, 40_000)


@given(
    iteration=st.integers(1, 10**6),
    t_i=durations,
    t_m=st.integers(1, 40_000),
    tau_m=st.floats(0, 1),
)
def test_the_rate_rises_from_zero_to_its_maximum(
    iteration: int, t_i: int, t_m: int, tau_m: float
) -> None:
    before, found = rate_of([iteration - 1, iteration], t_i, t_m, tau_m).tolist()
    assert found == plain_rate(iteration, t_i, t_m, tau_m)
    assert 0 <= before <= found <= tau_m
    if iteration <= t_i:
        assert found == 0
    if iteration >= t_i + t_m:
        assert found == tau_m


class CudaDivision(TorchDispatchMode):
    """Divide by a Python number as PyTorch's GPU kernel does: multiply by the reciprocal.

    Source: aten/src/ATen/native/cuda/BinaryDivTrueKernel.cu, ``iter.is_cpu_scalar(2)``.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func.overloadpacket is torch.ops.aten.div and not isinstance(args[1], torch.Tensor):
            return args[0] * (1.0 / args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("t_m", [49, 237])
def test_the_rate_is_the_same_on_a_gpu(t_m: int) -> None:
    iterations = range(1, t_m + 1)
    with CudaDivision():
        found = rate_of(iterations, 0, t_m, 0.02)
    assert found.tolist() == [plain_rate(iteration, 0, t_m, 0.02) for iteration in iterations]


def test_the_published_ramps_are_found() -> None:
    assert {"dart", "dart-disc", "dart-rel", "adt-ce-t", "co-teaching"} <= set(RAMPS)


@pytest.mark.parametrize("name", RAMPS)
def test_every_ramp_is_eq_3_of_its_options(name: str) -> None:
    kind = catalog.load("strategies", name)
    strategy = kind(kind.Options(t_i=3, t_m=40, tau_m=kind.Options().tau_m), Context())
    iterations = range(1, 60)
    expected = [plain_rate(iteration, 3, 40, kind.Options().tau_m) for iteration in iterations]
    assert strategy.compute_rate(torch.tensor(iterations)).tolist() == expected


@pytest.mark.parametrize("name", RAMPS)
@pytest.mark.parametrize("option", ["t_i", "t_m"])
def test_durations_may_count_epochs(name: str, option: str) -> None:
    kind = catalog.load("strategies", name)
    for duration, expected in (("3ep", 240), ("0.5ep", 40)):
        options = kind.Options(**{"t_i": 7, "t_m": 7, option: duration})
        with pytest.raises(UsageError, match=duration):
            kind(options, Context())
        assert getattr(kind(options, Context(iterations_per_epoch=80)), option) == expected


@pytest.mark.parametrize("name", RAMPS)
@pytest.mark.parametrize("duration", [0, "0", "0ep"])
def test_a_ramp_of_no_length_is_refused(name: str, duration: int | str) -> None:
    kind = catalog.load("strategies", name)
    with pytest.raises(UsageError, match=rf"strategy\.t_m is '?{duration}'?:"):
        kind(kind.Options(t_m=duration), Context(iterations_per_epoch=80))


@pytest.mark.parametrize(
    ("duration", "per_epoch", "expected"),
    [(5000, None, 5000), ("5000", None, 5000), ("3ep", 79, 237), ("0.5ep", 79, 39.5), (0, 79, 0)],
)
def test_durations_become_iterations(
    duration: int | str, per_epoch: int | None, expected: float
) -> None:
    assert settings.iterations(settings.check_duration(duration), per_epoch) == expected
