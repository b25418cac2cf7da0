"""A strategy as the loss of another training loop."""

from collections.abc import Callable

import pytest
import torch

import dartcli
from dartcli import catalog
from dartcli.denoising import TrainingTable
from dartcli.errors import UsageError


def test_the_loss_of_base_is_the_mean_cross_entropy() -> None:
    logits, labels = torch.randn(50), torch.randint(0, 2, (50,))
    loss = dartcli.strategy("base")(logits, labels, iteration=1)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool, torch.uint8])
def test_labels_may_be_of_any_type(kind: torch.dtype) -> None:
    logits = torch.tensor([-2.0, 3.0, 1.0, -1.0, 0.5], requires_grad=True)
    labels = torch.tensor([1, 1, 1, 1, 0]).to(kind)
    denoise = dartcli.strategy("dart", r=0.5, tau_m=0.5, t_i=0, t_m=1)
    decision = denoise.decide(logits, labels, iteration=1)
    assert decision.label.tolist() == [0, 1, 1, 1, 0]
    assert decision.weight.tolist() == [1, 1, 1, 0, 1]
    denoise(logits, labels, iteration=1).backward()
    assert logits.grad is not None
    assert logits.grad[3] == 0


def test_the_iteration_may_be_a_tensor() -> None:
    logits, labels = torch.randn(20), torch.ones(20)
    denoise = dartcli.strategy("dart-disc", tau_m=0.5, t_m=10)
    for step in (1, 5, 10, 99):
        by_int = denoise.decide(logits, labels, iteration=step)
        by_tensor = denoise.decide(logits, labels, iteration=torch.tensor(step))
        assert torch.equal(by_int.weight, by_tensor.weight)
        assert int((by_int.weight == 0).sum()) == int(min(step / 10, 1) * 0.5 * 20)


def test_a_model_trained_on_noisy_labels_learns_the_true_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1000, 4, generator=generator)
    features[:, 3] = 1.0
    truth = features @ torch.tensor([3.0, -2.0, 1.0, 0.0]) > 0
    # 60% of the disliked rows are clicked nonetheless, which misleads plain training
    noisy = truth | (torch.rand(1000, generator=generator) < 0.6)

    def accuracy(name: str, **options: object) -> float:
        weights = torch.zeros(4, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.05)
        denoise = dartcli.strategy(name, **options)
        for step in range(1, 201):
            loss = denoise(features @ weights, noisy, iteration=step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        predicted = features @ weights.detach() > 0
        return float((predicted == truth).float().mean())

    denoised = accuracy("dart-rel", tau_m=0.37, t_i=20, t_m=100)
    assert denoised > 0.9
    assert denoised > accuracy("base") + 0.1


@pytest.mark.parametrize("name", catalog.names("strategies"))
def test_a_strategy_is_a_loss_unless_it_needs_more_than_a_batch(name: str) -> None:
    kind = catalog.load("strategies", name)
    if kind.reads_noisy or kind.needs_study or kind.networks > 1 or kind.stages > 1:
        with pytest.raises(UsageError, match=repr(name)):
            dartcli.strategy(name)
        return
    user, item = torch.randint(0, 5, (30,)), torch.randint(0, 4, (30,))
    labels = torch.randint(0, 2, (30,)).float()
    table = TrainingTable(user, item, labels, users=5, items=4, rows=30)
    denoise = dartcli.strategy(name, iterations_per_epoch=10, table=table)
    logits = torch.randn(30, requires_grad=True)
    loss = denoise(logits, labels, iteration=3, epoch=2, user=user, item=item)
    loss.backward()
    assert loss.shape == ()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize(
    ("call", "value"),
    [
        (lambda: dartcli.strategy("drat"), "drat"),
        (lambda: dartcli.strategy("dart", q=1), r"strategy\.q"),
        (lambda: dartcli.strategy("dart", t_m="3ep"), "3ep"),
        (lambda: dartcli.strategy("dart", r="auto"), "'auto'"),
        (lambda: dartcli.strategy("dart", rank_by="relative-loss"), "'relative-loss'"),
        (lambda: dartcli.strategy("dart", tau_m=1.5), r"strategy\.tau_m.*1\.5"),
        (lambda: dartcli.strategy("popularity"), "TrainingTable"),
        (lambda: dartcli.strategy("dart", inputs="logit"), "'logit'"),
        (lambda: dartcli.strategy("dart", reduction="sum"), "'sum'"),
        (lambda: dartcli.strategy("dart", trusted=torch.tensor([2.0])), "trusted"),
        (lambda: call_dart(torch.zeros(3, 2), torch.zeros(3, 2)), r"\(3, 2\)"),
        (lambda: call_dart(torch.zeros(3), torch.zeros(4)), r"labels have the shape \(4,\)"),
        (lambda: call_dart(torch.zeros(3).long(), torch.zeros(3)), "int64"),
        (lambda: call_dart(torch.zeros(3), torch.zeros(3), iteration=0), r"\b0\b"),
    ],
)
def test_errors_name_the_offending_value(call: Callable[[], object], value: str) -> None:
    with pytest.raises(UsageError, match=value):
        call()


def call_dart(logits: torch.Tensor, labels: torch.Tensor, iteration: int = 1) -> torch.Tensor:
    return dartcli.strategy("dart")(logits, labels, iteration=iteration)


def test_the_five_steps_are_functions(home: object) -> None:
    small = {"users": 80, "items": 90, "interactions": 1500}
    data = dartcli.preprocess("synthetic", options=small)
    assert data.manifest.counts.interactions == 1500
    run = dartcli.train(
        dataset={"name": "synthetic", "options": small},
        strategy={"name": "dart", "options": {"tau_m": 0.2, "t_m": 1}},
        training={"epochs": 2, "batch_size": 256},
        name="mine",
    )
    assert run.name == "mine"
    assert 0 < dartcli.evaluate(run)["summary"]["test_auc"]["mean"] < 1
    report = dartcli.analyze("precision-recall", [run])
    assert report.sentences
    assert str(dartcli.download("synthetic")).endswith("synthetic")
    assert home


def test_names_are_imported_when_they_are_used() -> None:
    assert "strategy" in dir(dartcli)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dartcli.nothing  # noqa: B018 - the access is the test
