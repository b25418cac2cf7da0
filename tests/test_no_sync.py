"""The guard refuses every operation that waits, and no other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from no_sync import NoSync

VALUES = torch.arange(4.0)
MASK = VALUES > 1


@pytest.mark.parametrize(
    "wait",
    [
        lambda: VALUES[0].item(),
        lambda: bool(MASK.any()),
        lambda: VALUES[MASK],
        lambda: MASK.nonzero(),
        lambda: torch.masked_select(VALUES, MASK),
        lambda: VALUES.clone().__setitem__(MASK, VALUES[:2]),
        lambda: torch.unique(VALUES),
        lambda: torch.equal(VALUES, VALUES),
        lambda: torch.allclose(VALUES, VALUES),
        lambda: torch.unique_consecutive(VALUES),
        lambda: [1, 2][VALUES[1].int()],
        lambda: VALUES.clone().index_put_((MASK,), VALUES[0]),
        lambda: VALUES.cpu(),
        lambda: VALUES.tolist(),
        lambda: VALUES.numpy(),
        lambda: np.asarray(VALUES),
        lambda: VALUES.new_tensor(1.0),
        lambda: VALUES[[0, 1]],
        lambda: torch.empty(2, device="meta").to("cpu"),
        lambda: torch.empty(2).copy_(torch.empty(2, device="meta")),
    ],
)
def test_operations_that_wait_are_refused(wait: Callable[[], object]) -> None:
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        wait()


def test_operations_that_do_not_wait_are_allowed() -> None:
    last = torch.tensor([3])
    with NoSync():
        result = torch.where(MASK, VALUES, 0.0).sort().values[last]
    assert result.tolist() == [3.0]


def test_numbers_made_on_the_device_are_allowed() -> None:
    with NoSync():
        made = [VALUES.new_full((), 2.0), torch.full((), 2.0), torch.where(MASK, 2.0, VALUES)[3]]
    assert [float(number) for number in made] == [2.0, 2.0, 2.0]


def test_the_guard_ends_with_its_block_even_after_an_error() -> None:
    with pytest.raises(AssertionError, match="tolist waits for the device"), NoSync():
        VALUES.tolist()
    assert VALUES.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert VALUES[0].item() == 0.0


def test_backward_passes_are_guarded_too() -> None:
    class WaitsInBackward(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
            del context
            return values * 2

        @staticmethod
        def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
            del context
            return gradient * gradient.max().item()

    values = VALUES.clone().requires_grad_()
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        WaitsInBackward.apply(values).sum().backward()
