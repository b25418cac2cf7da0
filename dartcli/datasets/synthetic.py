r"""Synthetic: simulated clicks with known false positives, generated from one seed.

Users :math:`u` and items :math:`i` have latent tastes :math:`p_u, q_i \in R^d`. Items have a
quality :math:`b_i`, a caption with a pull :math:`c_i` that is independent of quality, and an
exposure :math:`e_i` with a long tail; the activity of users has a long tail, too. The affinity is

.. math:: a_{ui} = s_t \, p_u \cdot q_i / \sqrt{d} + s_b \, b_i

and whether a user likes an item is drawn once per pair, with probability
:math:`\sigma(a_{ui}) = 1 / (1 + e^{-a_{ui}})`. Clicks follow taste and captions:

- a *true positive* is drawn from the liked items with weight :math:`e_i \exp(a_{ui} + s_c c_i)`,
- a *false positive* is drawn from the disliked items with weight
  :math:`e_i \exp(s_c c_i + s_m a_{ui})`: the caption is misleading, more so for users whose taste
  the item appears to match.

Both are drawn without replacement (Gumbel top-k). :math:`e_i = k^{-0.8}`, where :math:`k` is a
random rank of the item; user activity is log-normal with :math:`\sigma = 0.9`. The strengths
:math:`s_t, s_b, s_c, s_m` are the options ``taste``, ``quality``, ``pull`` and ``mimicry``.

A share ``false_positive_rate`` of all interactions (rounded) is false. No pair occurs twice.
Ratings from 1 to 10 follow the affinity with noise: 7 to 10 for liked items, 1 to 6 for disliked
ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from dartcli.data.columns import ITEM, NOISY, RATING, USER
from dartcli.data.dataset import DataOptions, Dataset
from dartcli.errors import UsageError

Floats = npt.NDArray[np.float64]

MOST_PAIRS = 10_000_000_000
"""Limit of users x items, which take about half an hour."""
BLOCK = 1 << 22
"""User-item pairs scored at once; limits the memory."""


class Options(DataOptions):
    """Size and properties of the simulated data."""

    users: int = Field(1_500, ge=2, le=10_000_000)
    """Users."""
    items: int = Field(1_000, ge=2, le=10_000_000)
    """Items."""
    interactions: int = Field(100_000, ge=10, le=1_000_000_000)
    """Interactions; at most a quarter of all user-item pairs."""
    false_positive_rate: float = Field(0.3, ge=0, lt=1)
    """Share of interactions that the user did not like."""
    dimensions: int = Field(8, ge=1, le=1000)
    """Dimensions of the latent tastes."""
    taste: float = Field(2.5, ge=0, le=1000)
    """Weight of taste in the affinity."""
    quality: float = Field(0.5, ge=0, le=1000)
    """Weight of item quality in the affinity."""
    pull: float = Field(0.7, ge=0, le=1000)
    """Weight of captions in clicks."""
    mimicry: float = Field(0.2, ge=0, le=1000)
    """Weight of the affinity in clicks on disliked items."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the simulation."""


def read(_folder: Path, options: DataOptions) -> pl.LazyFrame:
    """Simulate interactions: user, item, rating, noisy.

    Raises
    ------
    UsageError
        If there are too many pairs, or more interactions than a quarter of all pairs.
    """
    assert isinstance(options, Options)  # noqa: S101 - options of DATASET
    if options.interactions * 4 > options.users * options.items:
        raise UsageError(
            f"dataset.interactions is {options.interactions:,}, but {options.users:,} users and "
            f"{options.items:,} items allow at most {options.users * options.items // 4:,}."
        )
    if options.users * options.items > MOST_PAIRS:
        raise UsageError(
            f"cannot simulate {options.users:,} users x {options.items:,} items: the limit is "
            f"{MOST_PAIRS:,} pairs. Reduce dataset.users or dataset.items."
        )
    random = np.random.default_rng(options.seed)
    world = _draw_world(options, random)
    true, false = _draw_activity(options, random)
    step = max(1, BLOCK // options.items)
    parts = [
        _draw_clicks(
            options, world, true, false, range(first, min(first + step, options.users)), random
        )
        for first in range(0, options.users, step)
    ]
    table = pl.concat(parts)
    order = random.permutation(len(table))
    return table[order].lazy()


def _draw_world(options: Options, random: np.random.Generator) -> dict[str, Floats]:
    """Draw tastes, qualities, pulls and exposures."""
    items = options.items
    rank = random.permutation(items) + 1.0
    return {
        "user": random.standard_normal((options.users, options.dimensions)),
        "item": random.standard_normal((items, options.dimensions)),
        "quality": random.standard_normal(items),
        "pull": random.standard_normal(items),
        "log_exposure": -0.8 * np.log(rank),
    }


def _draw_activity(
    options: Options, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the number of true and false positives of each user; the totals are exact."""
    activity = random.lognormal(mean=0.0, sigma=0.9, size=options.users)
    cap = options.items // 2
    count = np.minimum(np.floor(activity / activity.sum() * options.interactions), cap)
    count = count.astype(np.int64)
    while (missing := options.interactions - int(count.sum())) != 0:
        movable = np.flatnonzero(count < cap if missing > 0 else count > 0)
        chosen = random.permutation(movable)[: abs(missing)]
        count[chosen] += np.sign(missing)
    owner = np.repeat(np.arange(options.users), count)
    number = round(options.false_positive_rate * options.interactions)
    false_owner = random.permutation(owner)[:number]
    false = np.bincount(false_owner, minlength=options.users).astype(np.int64)
    return count - false, false


def _draw_clicks(
    options: Options,
    world: dict[str, Floats],
    true: npt.NDArray[np.int64],
    false: npt.NDArray[np.int64],
    users: range,
    random: np.random.Generator,
) -> pl.DataFrame:
    """Draw the clicks of a block of users without replacement (Gumbel top-k)."""
    block = slice(users.start, users.stop)
    affinity = (
        options.taste * (world["user"][block] @ world["item"].T) / np.sqrt(options.dimensions)
        + options.quality * world["quality"]
    )
    noise = random.gumbel(size=affinity.shape)
    liked = _draw_liked(affinity, true[block], false[block], random)
    shared = world["log_exposure"] + options.pull * world["pull"] + noise
    by_taste = np.where(liked, shared + affinity, -np.inf)
    by_caption = np.where(liked, -np.inf, shared + options.mimicry * affinity)
    satisfaction = affinity + 0.5 * random.standard_normal(affinity.shape)
    parts: list[dict[str, Any]] = []
    for scores, wanted, noisy in ((by_taste, true[block], False), (by_caption, false[block], True)):
        user, item = _find_top(scores, wanted)
        parts.append(
            {
                USER: (user + users.start).astype(np.int64),
                ITEM: item,
                RATING: _to_ratings(satisfaction[user, item], noisy=noisy),
                NOISY: np.full(len(user), noisy),
            }
        )
    return pl.concat([pl.DataFrame(part) for part in parts])


def _draw_liked(
    affinity: Floats,
    true: npt.NDArray[np.int64],
    false: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Draw which items each user likes, independently with probability sigmoid(affinity).

    If a user likes fewer items than ``true``, or dislikes fewer than ``false``, the threshold is
    moved until there are enough to draw every click without repeating a pair.
    """
    uniform = np.maximum(random.random(affinity.shape), np.finfo(np.float64).tiny)
    utility = affinity - np.log(uniform) + np.log1p(-uniform)
    liked = utility > 0
    count = liked.sum(axis=1)
    wanted = np.clip(count, true, affinity.shape[1] - false)
    short = np.flatnonzero(count != wanted)
    row, item = _find_top(utility[short], wanted[short])
    liked[short] = False
    liked[short[row], item] = True
    return liked


def _find_top(
    scores: Floats, wanted: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the ``wanted[row]`` highest scores in each row."""
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.arange(scores.shape[1])
    row, position = np.nonzero(rank[None, :] < wanted[:, None])
    return row, order[row, position]


def _to_ratings(satisfaction: Floats, *, noisy: bool) -> Floats:
    """Map satisfaction linearly to 1..6 (disliked) or 7..10 (liked), rounded."""
    low, high, center = (1, 6, 3.5) if noisy else (7, 10, 8.0)
    return np.clip(np.round(center + 0.75 * satisfaction), low, high)


DATASET = Dataset(
    name="synthetic",
    title="simulated clicks with known false positives",
    license="none needed: generated by this program",
    citation="none needed",
    homepage="built in",
    files=(),
    options=Options,
    read=read,
)
