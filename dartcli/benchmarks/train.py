"""Time of one training iteration, against the loops that people write.

Three contenders fit the same factorization machine on made-up interactions of a given size:

``dart``
    this program's loop, trace included;
``eager``
    a tight loop: the data set resident, one packed table, fused Adam, nothing else;
``dataloader``
    the usual loop: a ``Dataset`` that returns one row at a time, a ``DataLoader`` that stacks
    them in eight worker processes, separate embedding tables, sigmoid and ``BCELoss``, plain
    Adam, and the record of an iteration (mean loss of each kind of row, rows handled and hit) read
    back in every step: how the thesis's program trains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, random_split

from dartcli import catalog
from dartcli.data.batches import FALSE_POSITIVE, NEGATIVE, TRUE_POSITIVE, Table, TrainingSet
from dartcli.denoising import CleanSample, Context, Strategy, TrainingTable
from dartcli.errors import UsageError
from dartcli.layers import FieldEmbedding, pairwise_interactions
from dartcli.measuring import Benchmark, Timing, interleaved
from dartcli.settings import Training
from dartcli.training import device as devices
from dartcli.training.loop import fit

SIZES = {
    "movielens-100k": (943, 1_682, 160_000),
    "book-crossing": (77_805, 185_973, 693_872),
}
"""Name -> users, items, rows of the training split (as many negatives as positives)."""
BATCH = 2048
FACTORS = 16


def made_up(users: int, items: int, rows: int, device: torch.device) -> Table:
    """Return a table of that size: ids uniform, half positives, a quarter of those false."""
    random = np.random.default_rng(0)
    fields = np.stack([random.integers(users, size=rows), random.integers(items, size=rows)], 1)
    kind = random.choice(
        np.array([NEGATIVE, TRUE_POSITIVE, FALSE_POSITIVE], dtype=np.int8),
        size=rows,
        p=(0.5, 0.375, 0.125),
    )
    return Table(
        fields=torch.from_numpy(fields).to(device),
        label=torch.from_numpy((kind != NEGATIVE).astype(np.float32)).to(device),
        kind=torch.from_numpy(kind).to(device),
    )


def dart_epoch(table: Table, users: int, items: int, strategy: str) -> Callable[[], None]:
    """Return one epoch of this program's loop, validation on one batch."""
    device = table.label.device
    made: type[Strategy] = catalog.load("strategies", strategy)
    training = TrainingSet(table, users, items, known=None, reshuffle=True)
    valid = Table(table.fields[:BATCH], table.label[:BATCH], table.kind[:BATCH])
    plan = Training(batch_size=BATCH, epochs=1, patience=1)
    kind = catalog.load("models", "fm")
    context = Context(
        iterations_per_epoch=-(-len(table) // BATCH),
        table=TrainingTable(
            table.fields[:, 0], table.fields[:, 1], table.label, users, items, len(table)
        ),
        clean=CleanSample(valid.fields, valid.clean_label),
    )

    def run() -> None:
        models: list[nn.Module] = []
        for network in range(made.networks):
            with torch.random.fork_rng([]):
                torch.manual_seed(network)
                models.append(kind((users, items), kind.Options(factors=FACTORS)).to(device))
        rule = made(made.Options(), context).to(device)
        with devices.threads_for(models[0]):
            for _ in fit(models, rule, training, valid, valid.label, plan, 0):
                pass

    return run


def eager_epoch(table: Table, users: int, items: int, iterations: int) -> Callable[[], None]:
    """Return ``iterations`` steps of a tight loop."""
    device = table.label.device
    embedding = FieldEmbedding((users, items), FACTORS, 0.0).to(device)
    bias = nn.Parameter(torch.zeros((), device=device))
    optimizer = torch.optim.Adam(
        [*embedding.parameters(), bias], lr=1e-3, weight_decay=1e-6, fused=True
    )

    def run() -> None:
        order = torch.randperm(len(table), device=device)
        fields, label = table.fields[order], table.label[order]
        for step in range(iterations):
            part = slice(step * BATCH, (step + 1) * BATCH)
            factors, first_order = embedding(fields[part])
            logit = bias + first_order + pairwise_interactions(factors)
            loss = F.binary_cross_entropy_with_logits(logit, label[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


class Rows(Dataset[tuple[Any, Any, Any]]):
    """One row at a time, as data sets for a ``DataLoader`` usually are."""

    def __init__(self, table: Table) -> None:
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


def dataloader_epoch(table: Table, users: int, items: int) -> Callable[[], None]:
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
                handled = torch.zeros_like(noisy)
                handled[suspects] = True
                handled[target == 0] = False
                record.append((*means, handled.sum().item(), (handled & noisy).sum().item()))
            objective = criterion(probability[~handled], target[~handled])
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()

    return run


def measure(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return milliseconds an iteration for every contender, and how much longer than ``dart``."""
    size = str(options.get("size", "movielens-100k"))
    strategy = str(options.get("strategy", "dart"))
    device = devices.resolve(str(options.get("device", "cpu")))
    if size not in SIZES:
        raise UsageError(f"there is no size {size!r}; choose from {', '.join(SIZES)}.")
    users, items, rows = SIZES[size]
    table = made_up(users, items, rows, device)
    iterations = -(-rows // BATCH)
    timings = interleaved(
        {
            f"dart ({strategy})": dart_epoch(table, users, items, strategy),
            "dart (base)": dart_epoch(table, users, items, "base"),
            "eager": eager_epoch(table, users, items, iterations),
            "dataloader": dataloader_epoch(table, users, items),
        },
        int(options.get("rounds", 5)),
        device,
    )
    ours = timings[f"dart ({strategy})"].median / iterations
    return {
        "size": size,
        "users": users,
        "items": items,
        "rows": rows,
        "batch_size": BATCH,
        "device": devices.describe(device),
        "rows_measured": [_row(name, timing, iterations, ours) for name, timing in timings.items()],
    }


def _row(name: str, timing: Timing, steps: int, ours: float) -> dict[str, Any]:
    median = timing.median / steps
    return {
        "contender": name,
        "ms_per_iteration": 1e3 * median,
        "fastest": 1e3 * timing.low / steps,
        "slowest": 1e3 * timing.high / steps,
        "times_ours": median / ours,
    }


BENCHMARK = Benchmark(
    title="One training iteration",
    question="How long does an iteration take, beside the loops that people write?",
    measure=measure,
)
