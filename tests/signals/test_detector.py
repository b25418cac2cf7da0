"""Signals and the detector, against plain loops and data whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dartcli import catalog
from dartcli.denoising import Evidence
from dartcli.metrics import auc
from dartcli.signals import _detector
from dartcli.signals._detector import Detection, detect

USERS, ITEMS, ROWS, FACTORS = 60, 50, 1500, 3


def make_evidence(seed: int = 0) -> Evidence:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(USERS * ITEMS, generator=generator)[:ROWS]
    user, item = pairs // ITEMS, pairs % ITEMS
    return Evidence(
        row=torch.arange(ROWS) * 2,
        user=user,
        item=item,
        logit=torch.randn(ROWS, generator=generator),
        user_counts=torch.bincount(user, minlength=USERS),
        item_counts=torch.bincount(item, minlength=ITEMS),
        user_factors=torch.randn(USERS, FACTORS, generator=generator),
        item_factors=torch.randn(ITEMS, FACTORS, generator=generator),
    )


def draw_false(found: Evidence, seed: int = 0) -> torch.Tensor:
    """False positives follow the first factor of the item, and nothing else."""
    generator = torch.Generator().manual_seed(seed)
    chance = (3 * found.item_factors[found.item, 0]).sigmoid()
    return torch.rand(ROWS, generator=generator) < chance


def draw_noise(seed: int) -> torch.Tensor:
    return torch.rand(ROWS, generator=torch.Generator().manual_seed(seed)) < 0.4


def draw_rows(number: int, seed: int = 0) -> torch.Tensor:
    return (
        torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))[:number].sort().values
    )


def found_by(found: Evidence, rows: torch.Tensor, false: torch.Tensor) -> Detection:
    detection = detect(found, rows, false[rows])
    assert detection is not None
    return detection


@pytest.mark.parametrize("name", catalog.names("signals"))
def test_a_signal_gives_every_row_a_finite_suspicion_and_keeps_its_evidence(name: str) -> None:
    found = make_evidence()
    before = found.logit.clone()
    suspicion = catalog.load("signals", name).compute(found)
    assert suspicion.shape == (ROWS,)
    assert bool(suspicion.isfinite().all())
    assert torch.equal(found.logit, before)
    assert torch.equal(suspicion, catalog.load("signals", name).compute(found))


def test_signals_equal_plain_loops() -> None:
    found = make_evidence()
    signals = {
        name: catalog.load("signals", name).compute(found) for name in catalog.names("signals")
    }
    loss = [math.log1p(math.exp(-logit)) for logit in found.logit.tolist()]
    for row in range(0, ROWS, 97):
        user, item = int(found.user[row]), int(found.item[row])
        own = [loss[other] for other in range(ROWS) if int(found.user[other]) == user]
        missing = 1 - 1 / (1 + math.exp(-float(found.logit[row])))
        squares = sum(
            float(value) ** 2
            for factors in (found.user_factors[user], found.item_factors[item])
            for value in factors
        )
        expected = {
            "loss": loss[row],
            "relative-loss": loss[row] - sum(own) / len(own),
            "self-influence": missing**2 * (3 + squares),
            "rarity": -int((found.item == item).sum()),
        }
        assert set(expected) == set(signals)
        for name, value in expected.items():
            assert float(signals[name][row]) == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_self_influence_is_the_gradient_norm_of_a_factorization_machine() -> None:
    kind = catalog.load("models", "fm")
    torch.manual_seed(1)
    model = kind((USERS, ITEMS), kind.Options(factors=FACTORS, first_order_std=1.0))
    fields = torch.tensor([[3, 7]])
    logit = model(fields)
    torch.nn.functional.softplus(-logit).sum().backward()
    norm = sum(float(one.grad.square().sum()) for one in model.parameters())
    table = model.embedding.table.detach()[:, :FACTORS]
    found = Evidence(
        row=torch.tensor([0]),
        user=fields[:, 0],
        item=fields[:, 1],
        logit=logit.detach(),
        user_counts=torch.ones(USERS),
        item_counts=torch.ones(ITEMS),
        user_factors=table[:USERS],
        item_factors=table[USERS:],
    )
    value = catalog.load("signals", "self-influence").compute(found)
    assert float(value) == pytest.approx(norm, rel=1e-5)


def test_rates_count_the_other_trusted_rows_of_the_same_user_and_item() -> None:
    found, rows = make_evidence(), draw_rows(300)
    false = draw_false(found)[rows].double().numpy()
    table = _detector._Table(found, rows.numpy(), false)
    known = np.arange(0, 300, 2)
    features = table.describe(np.arange(ROWS), known)
    prior = false[known].mean()
    for row in range(0, ROWS, 31):
        for code, column in ((found.user, 5), (found.item, 9)):
            others = [
                one
                for one in known
                if int(rows[one]) != row and int(code[rows[one]]) == int(code[row])
            ]
            rate = (sum(false[others]) + 5 * prior) / (len(others) + 5)
            assert features[row, column] == pytest.approx(math.log(rate / (1 - rate)))


def test_false_positives_are_found_if_the_factors_tell_them() -> None:
    found = make_evidence()
    false, rows = draw_false(found), draw_rows(400)
    detection = found_by(found, rows, false)
    others = torch.ones(ROWS, dtype=torch.bool)
    others[rows] = False
    chance = (3 * found.item_factors[found.item, 0]).sigmoid()
    assert detection.is_informative
    assert auc(detection.probability[others], false[others]) > 0.97 * auc(
        chance[others], false[others]
    )
    assert torch.equal(detection.probability[rows], false[rows].float())
    assert 0 <= float(detection.probability.min()) <= float(detection.probability.max()) <= 1
    assert detection.prior == pytest.approx(float(false[rows].double().mean()))


def test_labels_without_a_pattern_do_not_beat_their_prior() -> None:
    found = make_evidence()
    wins = 0
    for seed in range(20):
        false = draw_noise(seed)
        detection = found_by(found, draw_rows(200, seed), false)
        wins += detection.is_informative
        assert abs(detection.log_loss - detection.prior_log_loss) < 0.05
    assert wins <= 5


def test_the_weaker_penalty_needs_a_clear_pattern() -> None:
    found = make_evidence()
    for seed in range(5):
        rows = draw_rows(400, seed)
        clear, none = draw_false(found, seed), draw_noise(seed)
        tables = (
            _detector._Table(found, rows.numpy(), false[rows].double().numpy())
            for false in (clear, none)
        )
        assert [_detector._choose_strength(table)[0] for table in tables] == [0.1, 0.01]
        chance = (3 * found.item_factors[found.item, 0]).sigmoid().numpy()
        probability = found_by(found, rows, clear).probability.numpy()
        others = np.delete(np.arange(ROWS), rows)
        # in every fifth of the probabilities, the mean of the true chances is close
        for part in np.array_split(others[probability[others].argsort()], 5):
            assert probability[part].mean() == pytest.approx(chance[part].mean(), abs=0.1)


def test_the_labels_of_other_rows_are_not_read() -> None:
    found, rows = make_evidence(), draw_rows(200)
    false = draw_false(found)
    hidden = ~false
    hidden[rows] = false[rows]
    assert torch.equal(
        found_by(found, rows, false).probability, found_by(found, rows, hidden).probability
    )


def test_rows_unlike_every_labeled_row_get_the_probability_at_the_edge() -> None:
    found, false = make_evidence(), draw_false(make_evidence())
    rows = draw_rows(400)
    far = found.logit.clone()
    unlabeled = next(row for row in range(ROWS) if row not in set(rows.tolist()))
    far[unlabeled] = -1e4
    extreme = Evidence(**{**vars(make_evidence()), "logit": far})
    # the same row at the edge of the labeled ones; means of user and item move too, but are clipped
    assert float(found_by(extreme, rows, false).probability[unlabeled]) == pytest.approx(
        float(found_by(found, rows, false).probability[unlabeled]), abs=0.25
    )
    labeled = torch.nonzero(found.item_counts[found.item[rows]] >= found.item_counts.median())[:, 0]
    popular = found_by(found, rows[labeled], false)
    random = found_by(found, rows, false)
    assert popular.clipped > random.clipped
    # values are those of users and items, so fewer are outside than of as many distinct ones
    assert random.clipped <= random.clipped_by_chance
    assert random.looks_random
    of_few_users = found_by(found, torch.nonzero(found.user < 8)[:, 0], false)
    assert not of_few_users.looks_random


def test_the_share_outside_of_the_range_by_chance_is_that_of_uniform_draws() -> None:
    drawn = np.random.default_rng(0).random((4000, 50))
    low, high = np.percentile(drawn, _detector.PERCENTILES, axis=1)
    detection = replace(found_by(make_evidence(), draw_rows(50), draw_noise(0)), trusted=50)
    assert detection.clipped_by_chance == pytest.approx(float((low + 1 - high).mean()), rel=0.02)


def test_ranking_is_evidence_only_of_labels_that_look_random() -> None:
    found, rows = make_evidence(), draw_rows(400)
    clear = found_by(found, rows, draw_false(found))
    assert clear.auc > 0.7
    labels = draw_false(found)[rows].numpy()
    random = np.random.default_rng(0)
    by_chance = [roc_auc_score(labels, random.random(len(labels))) for _ in range(1000)]
    assert clear.auc_error == pytest.approx(np.std(by_chance), rel=0.1)
    # half of a standard error of the log loss, and three of the AUC
    loss = {"log_loss": 0.60, "prior_log_loss": 0.61, "error": 0.02}
    weak = replace(clear, **loss, auc=0.59, auc_error=0.03, clipped=0.02)
    assert weak.support == pytest.approx(1.5)
    assert weak.is_informative
    unlike = replace(weak, clipped=0.05)
    assert unlike.support == pytest.approx(0.5)
    assert not unlike.is_informative


@pytest.mark.parametrize("case", ["all true", "all false", "one user", "one item", "one label"])
def test_labels_from_which_nothing_can_be_learned_give_no_detection(case: str) -> None:
    found, false = make_evidence(), draw_false(make_evidence())
    rows = {
        "all true": torch.nonzero(~false)[:, 0],
        "all false": torch.nonzero(false)[:, 0],
        "one user": torch.nonzero(found.user == 3)[:, 0],
        "one item": torch.nonzero(found.item == 3)[:, 0],
        "one label": torch.tensor([5]),
    }[case]
    assert detect(found, rows, false[rows]) is None


def test_two_labels_are_enough_not_to_fail() -> None:
    found, false = make_evidence(), draw_false(make_evidence())
    pair = torch.stack([torch.nonzero(false)[0, 0], torch.nonzero(~false)[-1, 0]])
    assert len(set(found.user[pair].tolist())) == len(set(found.item[pair].tolist())) == 2
    detection = found_by(found, pair, false)
    assert bool(detection.probability.isfinite().all())
