"""A table read from a file window by window is the table in memory, in an order of its own."""

import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from torch import Tensor

from dartcli import catalog
from dartcli.data import negatives, stream
from dartcli.data.negatives import pair_codes
from dartcli.data.prepare import preprocess
from dartcli.data.stream import StreamedSet, choose_window, load_measured, map_columns
from dartcli.data.tensors import Batch, Interactions, TrainingSet, known_pairs, to_interactions
from dartcli.denoising import Context
from dartcli.errors import DataError, TrainingError
from dartcli.experiments.train import resume_run, train_run
from dartcli.settings import Training
from dartcli.training.checkpoint import CheckpointWriter, Interval, load_latest
from dartcli.training.loop import TrainingLoop

CPU = torch.device("cpu")
USERS, ITEMS, ROWS, SIZE = 40, 30, 400, 16
SMALL = {"name": "synthetic", "options": {"users": 60, "items": 60, "interactions": 900}}


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BLOCK", 2 * SIZE)


def recorded() -> Interactions:
    generator = torch.Generator().manual_seed(3)
    codes = torch.randperm(USERS * ITEMS, generator=generator)[:ROWS]
    fields = torch.stack([codes // ITEMS, codes % ITEMS, codes % 7], dim=1)
    kind = torch.randint(1, 3, (ROWS,), generator=generator).to(torch.int8)
    return Interactions(fields, torch.ones(ROWS), kind)


def streamed(window: int, *, sampled: bool = True, reshuffle: bool = True) -> StreamedSet:
    table = recorded()
    mapped = Interactions(
        table.fields.t().to(torch.int32).contiguous().t(), table.label, table.kind
    )
    known = known_pairs(table, ITEMS) if sampled else None
    whole = TrainingSet(mapped, USERS, ITEMS, known=known, reshuffle=reshuffle)
    return StreamedSet(whole, window, SIZE, CPU)


def batches(source: TrainingSet, epoch: int) -> Iterator[Batch]:
    for window in source.windows(5, epoch):
        yield from window.batches(SIZE)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("reshuffle", [True, False])
def test_one_window_is_the_table_in_memory(*, sampled: bool, reshuffle: bool) -> None:
    source = streamed(ROWS, sampled=sampled, reshuffle=reshuffle)
    known = known_pairs(recorded(), ITEMS) if sampled else None
    memory = TrainingSet(recorded(), USERS, ITEMS, known=known, reshuffle=reshuffle)
    assert source.count_steps(SIZE) == memory.count_steps(SIZE)
    for epoch in (1, 2):
        pairs = zip(batches(source, epoch), batches(memory, epoch), strict=True)
        for one, other in pairs:
            assert torch.equal(one.fields, other.fields)
            assert torch.equal(one.label, other.label)
            assert torch.equal(one.row, other.row)


@pytest.mark.usefixtures("small_blocks")
def test_windows_visit_every_row_once_in_an_order_of_the_epoch() -> None:
    source, table = streamed(96), recorded()
    orders = []
    for epoch in (1, 2, 1):
        found = list(batches(source, epoch))
        assert len(found) == source.count_steps(SIZE)
        # only the last batch is smaller
        assert {len(batch.label) for batch in found[:-1]} == {SIZE}
        row = torch.cat([batch.row for batch in found])
        fields = torch.cat([batch.fields for batch in found])
        label = torch.cat([batch.label for batch in found])
        assert torch.equal(row.sort().values, torch.arange(2 * ROWS))
        positive = row < ROWS
        assert torch.equal(positive, label > 0)
        assert torch.equal(fields[positive], table.fields[row[positive]])
        drawn = pair_codes(fields[~positive, 0], fields[~positive, 1], ITEMS)
        assert not torch.isin(drawn, known_pairs(table, ITEMS)).any()
        orders.append(row)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])
    # rows that are neighbors in the file come into different windows
    first = orders[0][: source.window_rows]
    assert len(first[first < ROWS].div(96, rounding_mode="floor").unique()) > 1


def test_negatives_do_not_depend_on_how_much_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = known_pairs(recorded(), ITEMS)

    def draw() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return negatives.sample_pairs(2000, USERS, ITEMS, known, generator)

    whole = draw()
    monkeypatch.setattr(negatives, "BLOCK", 37)
    assert all(map(torch.equal, whole, draw()))


class _KilledError(Exception):
    pass


class EveryThird:
    def __init__(self, seen: list[Tensor]) -> None:
        self.seen = seen

    def __call__(self, epoch: int | None = None) -> bool:
        return epoch is None and len(self.seen) % 3 == 1


@pytest.mark.usefixtures("small_blocks")
def test_a_training_killed_at_any_step_sees_the_rows_of_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Training(batch_size=SIZE, epochs=2, patience=2, weight_decay=0.0)

    def make_loop(seen: list[Tensor], last: int, **parts: object) -> TrainingLoop:
        torch.manual_seed(0)
        kind, model = catalog.load("strategies", "dart"), catalog.load("models", "fm")
        network = model((USERS, ITEMS, 7), model.Options(factors=2))
        valid = Interactions(recorded().fields, (recorded().kind == 1).float(), recorded().kind)
        rule = kind(kind.Options(tau_m=0.3, t_m=9), Context(50))
        loop = TrainingLoop([network], rule, streamed(96), valid, valid.label, plan, 5, **parts)  # type: ignore[arg-type]
        step = loop.stepper.eager

        def watched(batch: Batch) -> object:
            if loop.stepper.steps > last:
                raise _KilledError
            seen.append(batch.row.clone())
            return step(batch)

        loop.stepper.eager = watched  # type: ignore[method-assign, assignment]
        return loop

    whole: list[Tensor] = []
    undisturbed = make_loop(whole, 1000)
    list(undisturbed)
    chance, steps = random.Random(1), 2 * streamed(96).count_steps(SIZE)
    assert len(whole) == steps
    for number, last in enumerate(chance.sample(range(1, steps), 20)):
        seen: list[Tensor] = []
        folder = tmp_path / str(number)
        writer = CheckpointWriter(folder, "id", Interval(seconds=0))
        monkeypatch.setattr(writer, "is_due", EveryThird(seen))
        with pytest.raises(_KilledError):
            list(make_loop(seen, last, writer=writer))
        position = load_latest(folder, "id", CPU)
        assert position is not None
        del seen[position.iteration :]
        resumed = make_loop(seen, 1000, position=position)
        records = [*position.finished, *resumed]
        assert all(map(torch.equal, seen, whole))
        assert len(seen) == len(whole)
        for one, other in zip(records, undisturbed.finished, strict=True):
            assert one.iterations.equals(other.iterations, null_equal=True)
        for one, other in zip(
            resumed.model.parameters(), undisturbed.model.parameters(), strict=True
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize("run", [lambda _thread: None, None], ids=["dies", "fails"])
def test_a_reader_without_memory_ends_the_epoch(
    run: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_which: object) -> None:
        raise MemoryError

    monkeypatch.setattr(StreamedSet, "read", read)
    if run is not None:
        # the thread ends before it can tell why
        monkeypatch.setattr(stream._Reading, "run", run)
    with pytest.raises(MemoryError):
        list(streamed(96).windows(5, 1))


def test_columns_hold_what_the_parquet_files_hold(home: Path) -> None:
    prepared = preprocess("synthetic", options=SMALL["options"])
    for split in ("train", "valid", "test"):
        frame = prepared.split(split)
        expected = to_interactions(frame, prepared.fields, CPU)
        found, rating = load_measured(prepared, split, 1, CPU)
        for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
            assert torch.equal(one, other)
        if "rating" in frame.columns:
            assert rating is not None
            assert rating.equals(frame["rating"].cast(pl.Float32), null_equal=True)
    pairs = map_columns(prepared, "train")["pairs"]
    train = to_interactions(prepared.split("train"), prepared.fields, CPU)
    assert torch.equal(pairs, known_pairs(train, prepared.items))
    path = prepared.folder / "columns" / "train" / "label.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="Run `dart doctor --repair`"):
        map_columns(prepared, "train")


def test_of_a_large_split_evenly_spaced_rows_are_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = preprocess("synthetic", options=SMALL["options"])
    frame = prepared.split("valid")
    monkeypatch.setattr(stream, "MEASURED", 1)
    found, _ = load_measured(prepared, "valid", 25, CPU)
    places = [number * len(frame) // 50 for number in range(50)]
    assert found.fields[:, 0].tolist() == frame["user"][places].to_list()


def test_a_run_that_streams_one_window_has_the_bytes_of_one_in_memory(home: Path) -> None:
    def train(name: str, window: int | None) -> dict[str, bytes]:
        training = {"window": window, "epochs": 2, "batch_size": 64}
        run = train_run(name=name, dataset=SMALL, strategy="dart", training=training)
        files = ("model.safetensors", "scores.parquet", "history.parquet", "iterations.parquet")
        return {file: (run.folder / "seed_0" / file).read_bytes() for file in files}

    assert train("memory", None) == train("disk", 10_000)


@pytest.mark.parametrize("strategy", ["clean", "trusted", "influence"])
def test_a_strategy_that_needs_the_whole_table_cannot_be_streamed(
    home: Path, strategy: str
) -> None:
    with pytest.raises(TrainingError, match="needs the whole training table"):
        train_run(dataset=SMALL, strategy=strategy, training={"window": 100, "epochs": 1})


def test_a_window_is_chosen_if_the_table_does_not_fit(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = preprocess("synthetic", options=SMALL["options"])
    assert choose_window(prepared, 1 << 30) is None
    assert choose_window(prepared, 1000) == stream.BLOCK
    monkeypatch.setattr("dartcli.experiments.train.available_memory", lambda: 1000)
    run = train_run(dataset=SMALL, strategy="base", training={"epochs": 1})
    assert run.settings.training.window == stream.BLOCK
    with pytest.raises(Exception, match="finished"):
        resume_run(run.name)
    with pytest.raises(TrainingError, match=r"`clean` needs all .* 0\.0 GB are available\. Use a"):
        train_run(dataset=SMALL, strategy="clean", training={"epochs": 1})
    assert [one.name for one in (home / "runs").iterdir()] == [run.name]
