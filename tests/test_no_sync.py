"""The guard itself: it must catch what it is there for."""

from collections.abc import Callable

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
    ],
)
def test_what_waits_is_refused(wait: Callable[[], object]) -> None:
    with NoSync(), pytest.raises(AssertionError, match="waits for the device"):
        wait()


def test_what_does_not_wait_is_allowed() -> None:
    with NoSync():
        result = torch.where(MASK, VALUES, 0.0).sort().values[torch.tensor([3])]
    assert result.tolist() == [3.0]
