"""What surprised people who put a strategy into loops of their own."""

import logging
import math
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F

import dartcli
from dartcli import catalog
from dartcli.denoising import TrainingTable
from dartcli.denoising.denoiser import Denoiser
from dartcli.errors import UsageError


def draw(rows: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=generator) < 0.5).float()
    return torch.randn(rows, generator=generator) * 2, labels


@pytest.mark.parametrize("name", ["lcd", "lcd-re", "mentornet"])
def test_a_strategy_that_changes_with_the_epoch_asks_for_it(name: str) -> None:
    logits, labels = draw()
    with pytest.raises(UsageError, match="iterations_per_epoch"):
        dartcli.strategy(name)(logits, labels)
    derived, given = dartcli.strategy(name, iterations_per_epoch=3), dartcli.strategy(name)
    for step in range(1, 10):
        loss = derived(logits, labels, iteration=step)
        assert loss == given(logits, labels, iteration=step, epoch=(step - 1) // 3 + 1)
        plain = F.binary_cross_entropy_with_logits(logits, labels)
        assert (abs(float(loss - plain)) < 1e-6) == (step <= 3)


@pytest.mark.parametrize("name", catalog.names("strategies"))
def test_a_strategy_that_reads_the_epoch_says_so(name: str) -> None:
    kind = catalog.load("strategies", name)
    if (
        kind.reads_noisy
        or kind.needs_clean
        or kind.networks > 1
        or kind.stages > 1
        or kind.needs_epoch
        or kind.needs_study
    ):
        return
    logits, labels = draw()
    user, item = torch.arange(64) % 5, torch.arange(64) % 4
    table = TrainingTable(user, item, labels, users=5, items=4, rows=64)
    denoise = dartcli.strategy(name, iterations_per_epoch=10, table=table)
    early, late = (
        denoise.decide(logits, labels, iteration=40, epoch=epoch, user=user, item=item)
        for epoch in (1, 99)
    )
    assert torch.equal(early.weight, late.weight)
    assert torch.equal(early.label, late.label)


def test_steps_are_counted_if_no_iteration_is_passed() -> None:
    logits, labels = draw()
    counting, told = (dartcli.strategy("dart", tau_m=0.5, t_m=10) for _ in range(2))
    for step in range(1, 15):
        assert counting(logits, labels) == told(logits, labels, iteration=step)
    restored = dartcli.strategy("dart", tau_m=0.5, t_m=10)
    restored.load_state_dict(counting.state_dict())
    assert int(restored.steps) == 14


@pytest.mark.parametrize("name", ["dart", "mentornet"])
def test_a_compiled_step_is_compiled_once_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounter()
    weights = torch.zeros(3, requires_grad=True)
    denoise = dartcli.strategy(name, iterations_per_epoch=2)
    eager = dartcli.strategy(name, iterations_per_epoch=2)

    @torch.compile(fullgraph=True, backend=counter)
    def step(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return denoise(features @ weights, labels)

    for number in range(6):
        features = torch.randn(40, 3, generator=torch.Generator().manual_seed(number))
        labels = (features[:, 0] > 0).float()
        loss = step(features, labels)
        torch.testing.assert_close(loss, eager(features @ weights, labels))
        loss.backward()
    assert counter.frame_count == 1
    assert int(denoise.steps) == 6
    assert denoise.last is not None
    assert denoise.last.counts()["rows"] == 40


def test_a_batch_too_small_to_flag_anything_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    denoise = dartcli.strategy("dart", tau_m=0.02, t_m=1)
    logits, labels = torch.randn(60), torch.ones(60)
    denoise(logits, labels, iteration=5)
    assert not caplog.messages
    for _ in range(3):
        denoise(logits, labels * (torch.arange(60) < 49), iteration=5)
    assert len(caplog.messages) == 1
    assert "49 positives" in caplog.text
    assert "at least 50" in caplog.text


def test_probabilities_give_the_decision_and_gradient_of_their_logits() -> None:
    logits, labels = draw()
    by_logit = logits.clone().requires_grad_()
    by_probability = logits.clone().requires_grad_()
    options: dict[str, Any] = {"tau_m": 0.3, "t_m": 1}
    first = dartcli.strategy("dart", **options)
    second = dartcli.strategy("dart", inputs="probabilities", **options)
    loss, other = first(by_logit, labels), second(by_probability.sigmoid(), labels)
    torch.testing.assert_close(loss, other)
    loss.backward()
    other.backward()
    torch.testing.assert_close(by_logit.grad, by_probability.grad, rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="probabilities are"):
        second(logits, labels)


def test_logits_that_look_like_probabilities_are_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    denoise = dartcli.strategy("base")
    logits, labels = draw()
    denoise(logits, labels)
    denoise(torch.zeros(20), torch.ones(20))
    assert not caplog.messages
    for _ in range(3):
        denoise(logits.sigmoid(), labels)
    assert len(caplog.messages) == 1
    assert 'inputs="probabilities"' in caplog.text


@pytest.mark.parametrize(("name", "value"), [("user", 5), ("item", -1), ("row", 64)])
def test_ids_are_checked_against_the_table(name: str, value: int) -> None:
    logits, labels = draw()
    ids = {"user": torch.arange(64) % 5, "item": torch.arange(64) % 4, "row": torch.arange(64)}
    table = TrainingTable(ids["user"], ids["item"], labels, users=5, items=4, rows=64)
    denoise = dartcli.strategy("dart", table=table)
    denoise(logits, labels, **ids)
    ids[name] = ids[name].clone()
    ids[name][3] = value
    with pytest.raises(UsageError, match=rf"{name} ids are .*\b{value}\b|{name} ids are {value}"):
        denoise(logits, labels, **ids)


def state(denoise: Denoiser) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in denoise.state_dict().items()}


def test_decide_and_evaluation_change_nothing() -> None:
    denoise = dartcli.strategy("mentornet", iterations_per_epoch=1)
    logits, labels = draw()
    denoise(logits, labels)
    before = state(denoise)
    decision = denoise.decide(logits * 3, labels)
    denoise.eval()
    denoise(logits * 5, labels)
    denoise.decide(logits * 5, labels)
    assert all(torch.equal(value, before[name]) for name, value in state(denoise).items())
    denoise.train()
    denoise(logits * 3, labels)
    assert denoise.last is not None
    assert torch.equal(denoise.last.weight, decision.weight)
    assert not torch.equal(denoise.state_dict()["rule.threshold"], before["rule.threshold"])


def test_half_precision_is_computed_in_float32() -> None:
    rows = 70_000
    logits = torch.full((rows,), -1.0, dtype=torch.float16, requires_grad=True)
    loss = dartcli.strategy("base")(logits, torch.ones(rows))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    loss.backward()
    assert logits.grad is not None
    # in bfloat16 both losses would be 4.15625, and the smaller row be flagged
    close = torch.tensor([-4.125, -4.15625, 1.0, 1.0], dtype=torch.bfloat16)
    decision = dartcli.strategy("dart-disc", tau_m=0.25, t_m=1).decide(close, torch.ones(4))
    assert decision.weight.tolist() == [1, 0, 1, 1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = dartcli.strategy("lcd", iterations_per_epoch=1).decide(close, torch.ones(4))
    assert inside.label.dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "iteration", "said"),
    [
        (torch.tensor([0.0, 2.0]), 1, "labels are 0 to 2"),
        (torch.tensor([-1.0, 1.0]), 1, "labels are -1 to 1"),
        (torch.tensor([0.0, math.nan]), 1, "labels are"),
        (torch.tensor([0.0, 1.0]), torch.tensor(0), "iteration is 0"),
    ],
)
def test_labels_and_iterations_out_of_range_are_errors(
    labels: torch.Tensor, iteration: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        dartcli.strategy("dart")(torch.tensor([3.0, -3.0]), labels, iteration=iteration)


def test_columns_are_accepted() -> None:
    logits, labels = draw()
    flat, column = (dartcli.strategy("dart", tau_m=0.3, t_m=1) for _ in range(2))
    assert flat(logits, labels) == column(logits[:, None], labels[:, None])


def test_losses_of_rows_and_sample_weights() -> None:
    logits, labels = draw()
    factor = torch.rand(64, generator=torch.Generator().manual_seed(1))
    factor[:9] = 0
    options: dict[str, Any] = {"tau_m": 0.3, "t_m": 1}
    rows = dartcli.strategy("dart", reduction="none", **options)(logits, labels)
    denoise = dartcli.strategy("dart", **options)
    decision = denoise.decide(logits, labels)
    expected = decision.weight * F.binary_cross_entropy_with_logits(
        logits, decision.label, reduction="none"
    )
    torch.testing.assert_close(rows, expected)
    kept = ((decision.weight * factor) > 0).sum()
    torch.testing.assert_close(
        denoise(logits, labels, sample_weight=factor), (expected * factor).sum() / kept
    )


def test_the_last_decision_has_counts() -> None:
    denoise = dartcli.strategy("dart", r=0.5, tau_m=0.4, t_m=1)
    assert denoise.last is None
    logits = torch.tensor([-3.0, -2.0, -1.0, 2.0, 3.0, -3.0])
    denoise(logits, torch.tensor([1, 1, 1, 1, 1, 0]))
    assert denoise.last is not None
    assert denoise.last.counts() == {"rows": 6, "positives": 5, "discarded": 1, "relabeled": 1}
    assert denoise.last.weight.tolist() == [1, 0, 1, 1, 1, 1]


def test_trusted_labels_replace_the_decision_and_are_not_flagged() -> None:
    trusted = torch.full((10,), math.nan)
    trusted[[4, 7]] = torch.tensor([0.0, 0.8])
    denoise = dartcli.strategy("dart-disc", tau_m=0.5, t_m=1, trusted=trusted)
    row = torch.tensor([4, 7, 1, 2, 3])
    logits = torch.tensor([-9.0, -8.0, -7.0, 1.0, 2.0])
    decision = denoise.decide(logits, torch.ones(5), row=row)
    # row 4 counts as a negative, so 2 of 4 positives are flagged: 7, which is trusted, and 1
    assert decision.weight.tolist() == [1, 1, 0, 1, 1]
    torch.testing.assert_close(decision.label, torch.tensor([0.0, 0.8, 1.0, 1.0, 1.0]))
    with pytest.raises(UsageError, match="row"):
        denoise(logits, torch.ones(5))


def test_nothing_waits_for_the_device_in_a_later_step_on_a_gpu(
    no_sync: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU values are read in the first call only; here the CPU plays the GPU."""
    monkeypatch.setattr("dartcli.denoising.denoiser.is_watched", lambda _values, *, first: first)
    denoise = dartcli.strategy("dart", tau_m=0.3, t_m=1)
    logits, labels = draw()
    logging.getLogger("dartcli").setLevel(logging.WARNING)
    denoise(logits, labels)
    with no_sync():
        denoise(logits, labels)
