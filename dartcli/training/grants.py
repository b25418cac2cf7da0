"""Draw the interactions whose ground truth is granted to training or to model selection.

Everything else about ``Interactions.kind`` is for measurement only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import FALSE_POSITIVE, Interactions
from dartcli.errors import UsageError
from dartcli.metrics.labeled import LabeledScores

STREAMS: Final = {"trusted": 5, "trusted_valid": 6}
"""Setting -> stream of randomness that its rows are drawn with."""


def draw_trusted(table: Interactions, number: int | str, seed: int, setting: str) -> Tensor:
    """Return Long[T], the rows of ``table`` whose ground truth is granted, in ascending order.

    They are drawn from the positives with ground truth; a smaller number draws a subset of the
    rows of a larger one.

    Parameters
    ----------
    table
        A split as recorded.
    number
        How many, or ``"all"``.
    seed
        Seed of the training.
    setting
        ``trusted`` for the training split, ``trusted_valid`` for validation.

    Raises
    ------
    UsageError
        If fewer positives have ground truth.
    """
    known = torch.nonzero(table.is_labeled)[:, 0]
    wanted = len(known) if number == "all" else int(number)
    if wanted > len(known) or (number == "all" and not wanted):
        split = "validation" if setting == "trusted_valid" else "training"
        raise UsageError(
            f"settings.{setting} is {number}, but {len(known):,} positives of the {split} split "
            f"have ground truth. Lower `--{setting.replace('_', '-')}`, or add labels."
        )
    stream = np.random.default_rng(derived_seed(seed, STREAMS[setting]))
    order = torch.from_numpy(stream.permutation(len(known))[:wanted]).to(known.device)
    return known[order].sort().values


def estimate_clean_auc(logit: Tensor, valid: Interactions, trusted: Tensor) -> float:
    """Return an unbiased estimate of the AUC against clean labels from some trusted positives.

    See :class:`dartcli.metrics.labeled.LabeledScores`.

    Parameters
    ----------
    logit : Float[V]
    valid
        V rows, labels as recorded.
    trusted : Long[T]
        Rows drawn at random from the positives.

    Returns
    -------
    float
        NaN if no trusted row is a true positive, or nothing is to be ranked below one.
    """
    scores = LabeledScores(
        score=logit[trusted].double().cpu().numpy(),
        is_false=(valid.kind[trusted] == FALSE_POSITIVE).cpu().numpy(),
        negative=logit[valid.label == 0].double().cpu().numpy(),
        positives=valid.positives,
        code=np.arange(len(trusted)),
    )
    return scores.estimate_auc()
