"""The training loop: stopping, best weights, repeatability, faults."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from random_tables import ITEMS, ROWS, USERS, table
from torch import Tensor, nn

from dartcli import catalog
from dartcli.data.seeds import derived_seed
from dartcli.data.tensors import FALSE_POSITIVE, Interactions, TrainingSet, known_pairs
from dartcli.denoising import Context, Strategy
from dartcli.errors import TrainingError
from dartcli.settings import Training
from dartcli.training import device, loop
from dartcli.training.epochs import EpochRecord
from dartcli.training.loop import Outcome
from dartcli.training.program import Program
from dartcli.training.recorder import Recorder
from dartcli.training.step import Stepper

CPU = torch.device("cpu")


def model(name: str = "fm", seed: int = 0) -> nn.Module:
    kind = catalog.load("models", name)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made: nn.Module = kind((USERS, ITEMS), kind.Options(factors=4))
    return made


def rule(name: str = "dart", **options: object) -> Strategy:
    kind = catalog.load("strategies", name)
    made: Strategy = kind(kind.Options(**options), Context())
    return made


def fitted(
    network: nn.Module,
    strategy: Strategy,
    training: TrainingSet,
    plan: Training,
    seed: int = 0,
) -> tuple[list[EpochRecord], Outcome]:
    valid = table(99)
    run = loop.TrainingLoop([network], strategy, training, valid, valid.label, plan, seed)
    return list(run), run.outcome


def training_set(*, resample: bool = False, reshuffle: bool = True) -> TrainingSet:
    recorded = table(1)
    if not resample:
        return TrainingSet(recorded, USERS, ITEMS, known=None, reshuffle=reshuffle)
    positive = recorded.label > 0
    recorded = Interactions(
        recorded.fields[positive], recorded.label[positive], recorded.kind[positive]
    )
    known = known_pairs(recorded, ITEMS)
    return TrainingSet(recorded, USERS, ITEMS, known=known, reshuffle=reshuffle)


def plan(**changes: object) -> Training:
    return Training(
        **({"batch_size": 64, "epochs": 3, "patience": 3, "weight_decay": 1e-6} | changes)
    )


@pytest.mark.parametrize("name", ["fm", "deepfm"])
def test_the_same_seed_gives_the_same_weights_and_records(name: str) -> None:
    weights, traces = [], []
    for _ in range(2):
        network = model(name)
        records, _ = fitted(network, rule(tau_m=0.2, t_m=1), training_set(resample=True), plan())
        weights.append(network.state_dict())
        traces.append(records[-1].iterations)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert traces[0].equals(traces[1])


def test_the_number_of_threads_changes_no_bit_of_fm() -> None:
    before = torch.get_num_threads()
    weights = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            network = model()
            # rows enough for operations to be divided among threads
            large = TrainingSet(table(1, 40_000), USERS, ITEMS, known=None, reshuffle=True)
            fitted(network, rule(tau_m=0.2, t_m=1), large, plan(batch_size=8192, epochs=2))
            weights.append(network.state_dict())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_another_seed_gives_other_weights() -> None:
    networks = [model(), model()]
    for seed, network in enumerate(networks):
        fitted(network, rule("base"), training_set(), plan(), seed=seed)
    assert not torch.equal(networks[0].embedding.table, networks[1].embedding.table)


def test_training_leaves_the_default_generator_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fitted(model("deepfm"), rule("base"), training_set(), plan())
    assert torch.equal(torch.rand(4), expected)


def aucs(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    given = iter(values)
    monkeypatch.setattr(loop.metrics, "auc", lambda _score, _label: next(given))


@pytest.mark.parametrize(
    ("values", "patience", "best", "trained", "stopped"),
    [
        # patience 2: two epochs in a row that are not better than the best
        ([0.5, 0.6, 0.6, 0.59], 2, 2, 4, "patience"),
        ([0.5, 0.6, 0.55, 0.61, 0.5, 0.5], 2, 4, 6, "patience"),
        ([0.5, 0.4], 1, 1, 2, "patience"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 2, 8, 8, "epochs"),
        ([0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9], 8, 8, 8, "epochs"),
    ],
)
def test_early_stopping_counts_epochs_since_the_best(
    monkeypatch: pytest.MonkeyPatch,
    values: list[float],
    patience: int,
    best: int,
    trained: int,
    stopped: str,
) -> None:
    aucs(monkeypatch, values)
    records, outcome = fitted(
        model(), rule("base"), training_set(), plan(epochs=8, patience=patience)
    )
    assert (outcome.best_epoch, outcome.epochs, outcome.stopped) == (best, trained, stopped)
    assert len(records) == trained
    highest = float("-inf")
    for record, value in zip(records, values, strict=False):
        assert record.improved == (value > highest)
        highest = max(highest, value)


def test_the_best_weights_are_those_after_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    aucs(monkeypatch, [0.5, 0.9, 0.6, 0.6])
    network = model()
    valid = table(99)
    run = loop.TrainingLoop(
        [network], rule("base"), training_set(), valid, valid.label, plan(epochs=4, patience=2), 0
    )
    with pytest.raises(RuntimeError):
        _ = run.outcome
    after = [loop.copy_weights(network) for _ in run]
    outcome = run.outcome
    assert torch.equal(outcome.best["embedding.table"], after[1]["embedding.table"])
    assert not torch.equal(outcome.best["embedding.table"], after[3]["embedding.table"])


def test_iterations_and_epochs_are_counted_through() -> None:
    records, _ = fitted(model(), rule("base"), training_set(), plan())
    steps = -(-ROWS // 64)
    assert [record.iteration for record in records] == [steps, 2 * steps, 3 * steps]
    numbers = [number for record in records for number in record.iterations["iteration"]]
    assert numbers == list(range(1, 3 * steps + 1))
    assert all(int(record.iterations["rows"].sum()) == ROWS for record in records)


def test_the_strategy_sees_the_iteration_counted_from_one() -> None:
    # t_i = 3 and t_m = 1: from iteration 4 on, all positives are discarded
    strategy = rule("dart-disc", tau_m=1.0, t_i=3, t_m=1)
    records, _ = fitted(model(), strategy, training_set(), plan(epochs=1))
    trace = records[0].iterations
    assert trace["flagged"].to_list()[:3] == [0, 0, 0]
    assert (trace["flagged"] == trace["positives"]).to_list()[3:] == [True] * (len(trace) - 3)


def test_a_loss_that_is_not_a_number_stops_with_the_iteration() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.calls = 0

        def forward(self, fields: Tensor) -> Tensor:
            self.calls += 1
            broken = float("nan") if self.calls >= 3 else 1.0
            return self.weight * broken + torch.zeros(len(fields))

    with pytest.raises(TrainingError, match=r"not a number at iteration 3 .*--learning-rate"):
        fitted(Breaks(), rule("base"), training_set(), plan())


def test_a_validation_split_of_one_class_stops_with_a_sentence() -> None:
    valid = table(99)
    with pytest.raises(TrainingError, match="validation AUC is not a number after epoch 1"):
        list(
            loop.TrainingLoop(
                [model()], rule("base"), training_set(), valid, torch.ones(len(valid)), plan(), 0
            )
        )


def test_trusted_labels_without_a_true_positive_stop_with_a_sentence() -> None:
    valid = table(99)
    trusted = torch.nonzero(valid.kind == FALSE_POSITIVE)[:3, 0]
    training = loop.TrainingLoop(
        [model()], rule("base"), training_set(), valid, valid.label, plan(), 0, trusted=trusted
    )
    with pytest.raises(TrainingError, match=r"none of the 3 trusted labels .*`--trusted-valid`"):
        list(training)


def test_an_epoch_visits_every_row_once_and_new_negatives_are_never_training_positives() -> None:
    training = training_set(resample=True)
    known = set(known_pairs(training.recorded, ITEMS).tolist())
    seen = []
    for number in (1, 2):
        epoch = training.epoch(7, number)
        rows = torch.cat([batch.row for batch in epoch.batches(64)])
        assert sorted(rows.tolist()) == list(range(len(training)))
        sampled = epoch.table.fields[len(training.recorded) :]
        codes = (sampled[:, 0] * ITEMS + sampled[:, 1]).tolist()
        assert not known & set(codes)
        assert len(codes) == len(known)
        seen.append((rows.tolist(), codes))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_without_reshuffling_batches_are_slices_of_the_stored_table() -> None:
    training = training_set(reshuffle=False)
    batches = list(training.epoch(0, 5).batches(64))
    assert torch.equal(torch.cat([b.row for b in batches]), torch.arange(ROWS))
    assert torch.equal(torch.cat([b.fields for b in batches]), training.recorded.fields)


def test_blocks_of_batches_do_not_change_what_an_epoch_visits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    epoch = training_set().epoch(0, 1)
    whole = [batch.row.tolist() for batch in epoch.batches(64)]
    for rows in (1, 100, 128):
        monkeypatch.setattr("dartcli.data.tensors.ROWS_PER_BLOCK", rows)
        assert [batch.row.tolist() for batch in epoch.batches(64)] == whole


def test_seeds_for_different_purposes_differ() -> None:
    seeds = [
        derived_seed(seed, stream, epoch)
        for seed in range(5)
        for stream in range(3)
        for epoch in range(5)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert all(first != second for first, second in pairwise(seeds))


def test_the_step_never_waits_for_the_device(no_sync: Callable[[], object]) -> None:
    training = training_set()
    epoch = training.epoch(0, 1)
    network, strategy = model(), rule(tau_m=0.5, t_m=1)
    stepper = Stepper(Program([network], strategy), Training(batch_size=64), CPU)
    record = Recorder(len(training), 64)
    batch = next(iter(epoch.batches(64)))
    with no_sync():
        record.record(*stepper(batch))


def test_the_faster_number_of_threads_is_used_until_the_next_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    costs = {1: 2.0, 3: 5.0}
    monkeypatch.setattr(device.time, "perf_counter", lambda: clock[0])
    before, used = torch.get_num_threads(), []
    choice = device.ThreadChoice(3)
    for call in range(2 * device.PERIOD):
        if call == device.PERIOD // 2:
            costs = {1: 2.0, 3: 1.0}  # the other programs end
        with choice.use():
            used.append(torch.get_num_threads())
            clock[0] += costs[used[-1]]
    assert torch.get_num_threads() == before
    trials = [1, 3] * (device.TRIALS // 2)
    rest = device.PERIOD - device.TRIALS
    assert used == [*trials, *[1] * rest, *trials, *[3] * rest]
