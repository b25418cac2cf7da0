"""Time of one training iteration, against the loops that people write.

The contenders fit the same factorization machine on made-up interactions of a given size:

``dart``
    this program's loop, recording included, under a strategy and under ``base`` (on a GPU both
    eager and captured as a graph);
``eager``
    a tight loop: the dataset resident, one packed table, fused Adam, nothing else;
``dataloader``
    the usual loop: a ``Dataset`` that returns one row at a time, a ``DataLoader`` that stacks
    them in eight worker processes, separate embedding tables, sigmoid and ``BCELoss``, plain
    Adam, and the record of an iteration (mean loss of each kind of row, rows flagged and hit) read
    back in every step: how the thesis's program trains;
``floor``
    what the machine's memory needs for a step whatever the program (:mod:`floor`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split

from benchmarks._data import BATCH, FACTORS, Sized, sized
from benchmarks.floor import floor_epoch
from benchmarks.timing import Benchmark, interleaved
from dartcli import catalog
from dartcli.data.tensors import FALSE_POSITIVE, Interactions, TrainingSet
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable
from dartcli.errors import TrainingError
from dartcli.models._layers import FieldEmbedding, pairwise_interactions
from dartcli.settings import Training
from dartcli.training import device as devices
from dartcli.training.loop import TrainingLoop


def steps_on(device: torch.device) -> dict[str, bool]:
    """Return the ways of taking a step: name -> whether it is captured as a graph."""
    return {"eager": False} | ({"captured": True} if device.type == "cuda" else {})


def dart_epoch(
    data: Sized,
    strategy: str,
    *,
    captured: bool = False,
    validated: int = BATCH,
) -> Callable[[], None]:
    """Return what trains one more epoch by this program's loop, validation on ``validated`` rows.

    The first call also makes everything, and captures the step if that is wanted.
    """
    table, users, items, device = data.table, data.users, data.items, data.device
    made: type[Strategy] = catalog.load("strategies", strategy)
    training = TrainingSet(table, users, items, known=None, reshuffle=True)
    valid = table.first(validated)
    plan = Training(
        batch_size=BATCH, epochs=EPOCHS, patience=EPOCHS, weight_decay=1e-6, cuda_graph=captured
    )
    kind = catalog.load("models", "fm")
    context = Context(
        iterations_per_epoch=data.iterations,
        table=TrainingTable(
            table.fields[:, 0], table.fields[:, 1], table.label, users, items, len(table)
        ),
        clean=CleanSample(valid.fields, valid.clean_label),
    )
    models: list[nn.Module] = []
    for network in range(made.networks):
        with torch.random.fork_rng([]):
            torch.manual_seed(network)
            models.append(kind((users, items), kind.Options(factors=FACTORS)).to(device))
    rule = made(made.Options(), context).to(device)
    epochs = iter(TrainingLoop(models, rule, training, valid, valid.label, plan, 0))

    def run() -> None:
        with devices.threads_for(models[0]):
            record = next(epochs)
        if record.remark:
            raise TrainingError(record.remark)

    return run


class Eager:
    """A tight loop around a factorization machine."""

    def __init__(self, data: Sized, weight_decay: float = 1e-6) -> None:
        self.data = data
        users, items, device = data.users, data.items, data.device
        self.embedding = FieldEmbedding((users, items), FACTORS, 0.0).to(device)
        self.bias = nn.Parameter(torch.zeros((), device=device))
        self.optimizer = torch.optim.Adam(
            [*self.embedding.parameters(), self.bias],
            lr=1e-3,
            weight_decay=weight_decay,
            fused=True,
        )

    def score(self, fields: Tensor) -> Tensor:
        """Return Float[N], the logits of Long[N, 2] fields."""
        with torch.no_grad():
            logit: Tensor = self.embedding(fields, self.bias, pairwise=True)[0]
        return logit

    def run_epoch(self) -> None:
        """Train one epoch."""
        table = self.data.table
        order = torch.randperm(len(table), device=self.data.device)
        fields, label = table.fields[order], table.label[order]
        for step in range(self.data.iterations):
            part = slice(step * BATCH, (step + 1) * BATCH)
            logit, _ = self.embedding(fields[part], self.bias, pairwise=True)
            loss = F.binary_cross_entropy_with_logits(logit, label[part])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()


EPOCHS = 1_000_000
"""More than a benchmark takes."""


class Rows(Dataset[tuple[Any, Any, Any]]):
    """One row at a time, as datasets for a ``DataLoader`` usually are."""

    def __init__(self, table: Interactions) -> None:
        self.fields = table.fields.cpu().numpy()
        self.label = table.label.cpu().numpy()
        self.false_positive = (table.kind == FALSE_POSITIVE).cpu().numpy()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.label)

    def __getitem__(self, index: int) -> tuple[Any, Any, Any]:
        """Return fields, label and false-positive mark of one row."""
        return self.fields[index], self.label[index], self.false_positive[index]


class SeparateTables(nn.Module):
    """A factorization machine with one table for factors and one for first-order weights."""

    def __init__(self, users: int, items: int) -> None:
        super().__init__()
        self.factors = nn.Embedding(users + items, FACTORS)
        self.first_order = nn.Embedding(users + items, 1)
        self.bias = nn.Parameter(torch.zeros(1))
        self.offsets = torch.tensor([0, users])

    def forward(self, fields: Tensor) -> Tensor:
        """Map Long[N, 2] to probabilities Float[N]."""
        shifted = fields + self.offsets.to(fields.device)
        linear = self.first_order(shifted).sum(dim=1).squeeze(1) + self.bias
        return torch.sigmoid(linear + pairwise_interactions(self.factors(shifted)))


def dataloader_epoch(table: Interactions, users: int, items: int) -> Callable[[], None]:
    """Return one epoch of the usual ``DataLoader`` loop, with DART and its record."""
    device = table.label.device
    model = SeparateTables(users, items).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
    rows, _ = random_split(Rows(table), (len(table), 0))
    with warnings.catch_warnings():
        # eight workers are what the authors' program asks for, on any machine
        warnings.simplefilter("ignore")
        loader = DataLoader(rows, batch_size=BATCH, num_workers=8)
    criterion = nn.BCELoss()
    record: list[tuple[float, ...]] = []

    def run() -> None:
        for fields, label, false in loader:
            probability = model(fields.to(device))
            target, noisy = label.to(device), false.to(device)
            with torch.no_grad():
                loss = F.binary_cross_entropy(probability, target, reduction="none")
                kinds = (noisy, (target == 1) & ~noisy, target == 0)
                means = [loss[kind].mean().item() for kind in kinds]
                suspects = torch.argsort(loss, descending=True)[: int(0.02 * len(target))]
                flagged = torch.zeros_like(noisy)
                flagged[suspects] = True
                flagged[target == 0] = False
                record.append((*means, flagged.sum().item(), (flagged & noisy).sum().item()))
            objective = criterion(probability[~flagged], target[~flagged])
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()

    return run


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return milliseconds an iteration for every contender, beside ours and beside the floor."""
    data = sized(options)
    strategy = str(options.get("strategy") or "dart")
    ways = steps_on(data.device)
    ours = f"dart ({strategy}), {list(ways)[-1]}"
    contenders = {
        **{
            f"dart ({name}), {way}": dart_epoch(data, name, captured=captured)
            for name in (strategy, "base")
            for way, captured in ways.items()
        },
        "eager": Eager(data).run_epoch,
        "dataloader": dataloader_epoch(data.table, data.users, data.items),
        "floor": floor_epoch(data.table.fields, data.users, data.items),
    }
    timings = interleaved(contenders, int(options.get("rounds", 5)), data.device)
    return {
        **data.described(),
        "rows_measured": [
            {
                "contender": name,
                "ms_per_iteration": 1e3 * timing.median / data.iterations,
                "fastest": 1e3 * timing.low / data.iterations,
                "slowest": 1e3 * timing.high / data.iterations,
                "times_ours": timing.median / timings[ours].median,
                "times_floor": timing.median / timings["floor"].median,
            }
            for name, timing in timings.items()
        ],
    }


BENCHMARK = Benchmark(
    title="One training iteration",
    question="How long does an iteration take, beside the loops that people write?",
    measure=measure,
)
