"""Steps against autograd and PyTorch's Adam; captured steps against eager ones."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dartcli import catalog
from dartcli.data.tensors import Batch
from dartcli.denoising import (
    CleanSample,
    Context,
    Decision,
    Observed,
    Strategy,
    TrainingTable,
    denoised_loss,
    observe,
)
from dartcli.models._layers import JointTable
from dartcli.settings import Training
from dartcli.training.device import SMALL
from dartcli.training.program import Program
from dartcli.training.step import Stepper

USERS, ITEMS, ROWS, SIZE = 40, 30, 64, 16
CPU = torch.device("cpu")


def batches(rows: int = ROWS, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    fields = torch.stack(
        [
            torch.randint(USERS, (rows,), generator=generator),
            torch.randint(ITEMS, (rows,), generator=generator),
        ],
        dim=1,
    )
    label = torch.randint(0, 2, (rows,), generator=generator).float()
    row = torch.arange(rows)
    return [
        Batch(fields[start : start + SIZE], label[start : start + SIZE], row[start : start + SIZE])
        for start in range(0, rows, SIZE)
    ]


def program(strategy: str = "dart", model: str = "fm", **options: Any) -> Program:
    kind: type[Strategy] = catalog.load("strategies", strategy)
    table = torch.cat([batch.fields for batch in batches()])
    label = torch.cat([batch.label for batch in batches()])
    context = Context(
        iterations_per_epoch=ROWS // SIZE,
        table=TrainingTable(table[:, 0], table[:, 1], label, USERS, ITEMS, ROWS),
        clean=CleanSample(table[:SIZE], label[:SIZE]),
    )
    models: list[nn.Module] = []
    for network in range(kind.networks):
        torch.manual_seed(network)
        made = catalog.load("models", model)
        size = {"factors": 4} if "factors" in made.Options.model_fields else {}
        models.append(made((USERS, ITEMS), made.Options(**size)).train())
    return Program(models, kind(kind.Options(**options), context))


def stepped(made: Program, plan: Training, **options: Any) -> Stepper:
    return Stepper(made, plan, CPU, **options)


def take(stepper: Stepper, times: int = 3) -> list[Tensor]:
    losses = []
    for number in range(times):
        torch.manual_seed(number)
        stepper.epoch.fill_(number + 1)
        losses.extend(stepper(batch).loss.clone() for batch in batches())
    return losses


def weights(made: Program) -> dict[str, Tensor]:
    state = {}
    for number, network in enumerate([*made.models, made.strategy]):
        state |= {f"{number}.{name}": value for name, value in network.state_dict().items()}
    return state


def assert_close(first: Program, second: Program, tolerance: float) -> None:
    others = weights(second)
    for name, value in weights(first).items():
        torch.testing.assert_close(value, others[name], rtol=tolerance, atol=tolerance)


def plain_steps(made: Program, plan: Training, times: int = 3) -> list[Tensor]:
    """Take the same steps with autograd, the loss as it is defined, and PyTorch's own Adam."""
    networks = [*made.models, made.strategy]
    parameters = [parameter for network in networks for parameter in network.parameters()]
    adam = torch.optim.Adam(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    losses, iteration = [], torch.zeros((), dtype=torch.int64)
    for number in range(times):
        torch.manual_seed(number)
        for batch in batches():
            iteration += 1
            logits = [made.strategy.link(model(batch.fields)) for model in made.models]
            views = [
                observe(
                    logit,
                    batch.label,
                    row=batch.row,
                    iteration=iteration,
                    epoch=torch.tensor(number + 1),
                    user=batch.fields[:, 0],
                    item=batch.fields[:, 1],
                )
                for logit in logits
            ]
            with torch.no_grad():
                decisions = made.strategy.exchange(views)
            adam.zero_grad()
            pairs = zip(logits, decisions, strict=True)
            torch.stack([denoised_loss(*pair) for pair in pairs]).sum().backward()
            adam.step()
            losses.append(views[0].loss)
    return losses


@pytest.mark.parametrize("model", catalog.names("models"))
@pytest.mark.parametrize("strategy", ["base", "dart", "lcd-re", "s-model", "co-teaching"])
def test_steps_equal_autograd_and_adam(strategy: str, model: str) -> None:
    options = {"t_i": 2, "t_m": 6, "tau_m": 0.5} if strategy == "dart" else {}
    plain, made = program(strategy, model, **options), program(strategy, model, **options)
    plan = Training(batch_size=SIZE, learning_rate=0.01, weight_decay=0.01)
    expected = plain_steps(plain, plan)
    stepper = stepped(made, plan)
    for one, other in zip(take(stepper), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert stepper.iteration.item() == 12
    assert_close(plain, made, 1e-4)


def test_steps_repeat_to_the_byte() -> None:
    first, second = program(), program()
    take(stepped(first, Training(batch_size=SIZE)))
    take(stepped(second, Training(batch_size=SIZE)))
    assert_close(first, second, 0.0)


def test_adam_with_several_threads_changes_no_bit() -> None:
    kind, before, found = catalog.load("models", "fm"), torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            torch.manual_seed(0)
            large = kind((USERS, 70_000), kind.Options()).train()
            assert sum(parameter.numel() for parameter in large.parameters()) > SMALL
            made = Program([large], program("base").strategy)
            take(stepped(made, Training(batch_size=SIZE)), 2)
            found.append(weights(made))
    finally:
        torch.set_num_threads(before)
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_a_strategy_that_ignores_a_network_leaves_its_weights() -> None:
    class First(Strategy):
        def exchange(self, observed: Sequence[Observed]) -> list[Decision]:
            nothing = torch.zeros_like(observed[1].label)
            return [Decision(nothing + 1, observed[0].label), Decision(nothing, observed[1].label)]

    made = program("co-teaching")
    made = Program(made.models, First(First.Options(), Context()))
    before = [weights(made)[f"{number}.embedding.table"].clone() for number in range(2)]
    take(stepped(made, Training(batch_size=SIZE, weight_decay=0.0)))
    after = [weights(made)[f"{number}.embedding.table"] for number in range(2)]
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def recorder(log: list[str]) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return a stand-in for a device's graph: the capture computes, as no graph does, nothing."""

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        log.append("capture")

        def replay() -> None:
            log.append("replay")
            step()

        return replay

    return capture


def test_a_captured_step_is_replayed_on_fresh_batches(no_sync: Callable[[], object]) -> None:
    log: list[str] = []
    eager, captured = program(t_i=2, t_m=6, tau_m=0.5), program(t_i=2, t_m=6, tau_m=0.5)
    plain = stepped(eager, Training(batch_size=SIZE))
    fast = stepped(captured, Training(batch_size=SIZE), capture=recorder(log))
    with no_sync():
        kept = take(fast)
    for one, other in zip(take(plain), kept, strict=True):
        assert torch.equal(one, other)
    # three steps warm up; what a step returned is not overwritten by the next
    assert log == ["capture", *["replay"] * 9]
    assert fast.engine == "cuda graph"
    assert_close(eager, captured, 0.0)


def test_the_smaller_last_batch_is_never_captured() -> None:
    log: list[str] = []
    fast = stepped(program(), Training(batch_size=SIZE), capture=recorder(log))
    for batch in [*batches(ROWS), *batches(ROWS - 5, seed=1)]:
        fast(batch)
    assert log.count("replay") == 7 - 3
    assert fast.steps == 8


def test_a_step_that_cannot_be_captured_is_eager_and_says_why() -> None:
    def refuse(_step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore words")

    eager, other = program(), program()
    take(stepped(eager, Training(batch_size=SIZE)))
    fast = stepped(other, Training(batch_size=SIZE), capture=refuse)
    take(fast)
    assert fast.remark is not None
    assert "stream is capturing" in fast.remark
    assert_close(eager, other, 0.0)


def adam_by_hand(
    table: Tensor, gradients: Iterator[tuple[Tensor, Tensor]], rate: float, decay: float
) -> Tensor:
    """Adam on the touched rows alone, as a plain loop in float64 (SparseAdam's definition)."""
    value = table.double().clone()
    mean, square = torch.zeros_like(value), torch.zeros_like(value)
    for number, (rows, gradient) in enumerate(gradients, 1):
        for row in rows.tolist():
            slope = gradient[row].double() + decay * value[row]
            mean[row] = 0.9 * mean[row] + 0.1 * slope
            square[row] = 0.999 * square[row] + 0.001 * slope**2
            step = rate * (1 - 0.999**number) ** 0.5 / (1 - 0.9**number)
            value[row] -= step * mean[row] / (square[row].sqrt() + 1e-8)
    return value


def test_sparse_adam_equals_a_plain_loop() -> None:
    plan = Training(batch_size=SIZE, optimizer="sparse-adam", learning_rate=0.01, weight_decay=0.1)
    made, reference = program("base"), program("base")
    table, dense = (
        next(layer for layer in one.models[0].modules() if isinstance(layer, JointTable))
        for one in (made, reference)
    )
    before = table.table.detach().clone()
    stepper = stepped(made, plan)

    def gradients() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches()[:3]:
            # the reference network holds the weights before the step
            reference.models[0].load_state_dict(made.models[0].state_dict())
            objective = denoised_loss(
                reference.models[0](batch.fields), Decision(torch.ones(SIZE), batch.label)
            )
            (slope,) = torch.autograd.grad(objective, [dense.table])
            stepper(batch)
            touched = (batch.fields + table.offsets).flatten().unique()
            yield touched, slope

    expected = adam_by_hand(before, gradients(), 0.01, 0.1)
    torch.testing.assert_close(table.table.detach().double(), expected, rtol=1e-5, atol=1e-6)
    untouched = torch.ones(len(before), dtype=torch.bool)
    for batch in batches()[:3]:
        untouched[(batch.fields + table.offsets).flatten()] = False
    assert untouched.any()
    assert torch.equal(table.table.detach()[untouched], before[untouched])


def test_sparse_adam_is_not_captured_and_says_so() -> None:
    log: list[str] = []
    plan = Training(batch_size=SIZE, optimizer="sparse-adam")
    stepper = stepped(program(), plan, capture=recorder(log))
    take(stepper, 1)
    assert (log, stepper.engine) == ([], "eager")
    assert stepper.remark is not None
    assert "sparse-adam" in stepper.remark


def test_without_graphs_steps_are_eager() -> None:
    log: list[str] = []
    plan = Training(batch_size=SIZE, cuda_graph=False)
    stepper = stepped(program(), plan, capture=recorder(log))
    take(stepper, 1)
    assert (log, stepper.engine, stepper.remark) == ([], "eager", None)
