"""Which ground truth is granted, and what it may influence."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from random_tables import table

from dartcli import metrics
from dartcli.data.tensors import FALSE_POSITIVE, UNKNOWN_POSITIVE, Interactions
from dartcli.errors import UsageError
from dartcli.training.grants import draw_trusted, estimate_clean_auc


def hide(interactions: Interactions, share: float) -> Interactions:
    """Return the interactions with a share of the positives unknown."""
    generator = torch.Generator().manual_seed(3)
    hidden = torch.rand(len(interactions), generator=generator) < share
    kind = interactions.kind.masked_fill(hidden & (interactions.label > 0), UNKNOWN_POSITIVE)
    return replace(interactions, kind=kind)


def test_grants_are_nested_distinct_and_of_known_positives() -> None:
    interactions = hide(table(1), 0.3)
    known = {
        row
        for row, kind in enumerate(interactions.kind.tolist())
        if kind not in (0, UNKNOWN_POSITIVE)
    }
    drawn = [
        draw_trusted(interactions, number, 7, "trusted").tolist()
        for number in (0, 1, 20, 50, len(known), "all")
    ]
    assert [len(rows) for rows in drawn] == [0, 1, 20, 50, len(known), len(known)]
    for rows, more in pairwise(drawn):
        assert rows == sorted(set(rows))
        assert set(rows) <= set(more) <= known
    assert drawn[2] != draw_trusted(interactions, 20, 8, "trusted").tolist()
    assert drawn[2] != draw_trusted(interactions, 20, 7, "trusted_valid").tolist()


def test_grants_do_not_depend_on_the_truth_of_other_rows() -> None:
    interactions = hide(table(1), 0.3)
    rows = draw_trusted(interactions, 50, 7, "trusted")
    positive = (interactions.kind == 1) | (interactions.kind == FALSE_POSITIVE)
    flipped = torch.where(positive, 3 - interactions.kind, interactions.kind)
    assert torch.equal(rows, draw_trusted(replace(interactions, kind=flipped), 50, 7, "trusted"))


@pytest.mark.parametrize("number", [1000, "all"])
@pytest.mark.parametrize("setting", ["trusted", "trusted_valid"])
def test_more_labels_than_are_known_are_refused(number: int | str, setting: str) -> None:
    unknown = hide(table(1), 1.1)
    with pytest.raises(UsageError, match=f"settings.{setting} is {number}, but 0 positives"):
        draw_trusted(unknown, number, 0, setting)


def test_the_estimate_with_all_labels_is_the_clean_auc() -> None:
    valid = table(2)
    logit = torch.randn(len(valid), generator=torch.Generator().manual_seed(0))
    everything = draw_trusted(valid, "all", 0, "trusted_valid")
    expected = metrics.auc(logit, valid.clean_label)
    assert estimate_clean_auc(logit, valid, everything) == pytest.approx(expected, abs=1e-12)


def test_the_estimate_from_some_labels_is_right_on_average() -> None:
    valid = table(2, rows=2000)
    generator = torch.Generator().manual_seed(0)
    logit = torch.randn(len(valid), generator=generator) + valid.clean_label + valid.label / 2
    expected = metrics.auc(logit, valid.clean_label)
    estimates = [
        estimate_clean_auc(logit, valid, draw_trusted(valid, 200, seed, "trusted_valid"))
        for seed in range(300)
    ]
    spread = torch.tensor(estimates)
    assert abs(float(spread.mean()) - expected) < 4 * float(spread.std()) / 300**0.5
    assert abs(metrics.auc(logit, valid.label) - expected) > 0.03
