"""Two components of the loss: against scikit-learn, and data whose answer is known."""

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from dartcli.denoising.mixture import NONE, split_losses

chance = np.random.default_rng(0)
LOGITS = np.concatenate([chance.normal(3, 1, 6000), chance.normal(-2, 0.8, 2000)])


def to_losses(logits: object) -> torch.Tensor:
    return torch.nn.functional.softplus(-torch.as_tensor(np.asarray(logits))).float()


def test_it_divides_two_normals_as_scikit_learn_does() -> None:
    found = split_losses(to_losses(LOGITS))
    model = GaussianMixture(2, random_state=0, n_init=3).fit(-LOGITS.reshape(-1, 1))
    higher = int(model.means_.argmax())
    grid = np.linspace(-2.5, 2.5, 5001).reshape(-1, 1)
    posterior = model.predict_proba(grid)[:, higher]
    likely, sure = (float(grid[np.argmax(posterior >= level), 0]) for level in (0.5, 0.95))
    assert found.share == pytest.approx((likely <= -LOGITS).mean(), abs=0.005)
    assert abs(found.share - 0.25) < 0.01
    # bins are 0.02 wide
    assert math.log(math.expm1(found.sure)) == pytest.approx(sure, abs=0.05)


def test_the_order_of_the_losses_does_not_matter() -> None:
    losses = to_losses(LOGITS)
    order = torch.randperm(len(losses), generator=torch.Generator().manual_seed(1))
    assert split_losses(losses) == split_losses(losses[order])


@pytest.mark.parametrize(
    "losses",
    [torch.empty(0), torch.tensor([0.3]), torch.full((100,), 0.5), torch.arange(9.0)],
    ids=["none", "one", "equal", "nine"],
)
def test_too_few_different_losses_are_not_divided(losses: torch.Tensor) -> None:
    assert split_losses(losses) == NONE


def test_a_single_normal_is_not_divided() -> None:
    assert split_losses(to_losses(np.random.default_rng(3).normal(1, 1, 4000))) == NONE


def test_losses_of_zero_and_huge_losses_are_allowed() -> None:
    losses = torch.cat([to_losses(LOGITS), torch.tensor([0.0, 50.0])])
    assert 0.2 < split_losses(losses).share < 0.3
