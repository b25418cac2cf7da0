"""The functions of the package: what they accept and how their results look."""

import inspect
from pathlib import Path

import polars as pl
import pytest
import torch

import dartcli
from dartcli.errors import UsageError

SMALL = {"name": "synthetic", "options": {"users": 60, "items": 60, "interactions": 900}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dartcli.Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(tmp_path_factory.mktemp("api")))
        return [
            dartcli.train(
                {"dataset": SMALL}, strategy=strategy, epochs=2, batch_size=256, seeds=range(2),
                name=strategy,
            )
            for strategy in ("base", "dart")
        ]  # fmt: skip


@pytest.fixture
def home(runs: list[dartcli.Run], monkeypatch: pytest.MonkeyPatch) -> Path:
    path = runs[0].folder.parent.parent
    monkeypatch.setenv("DART_HOME", str(path))
    return path


def test_arguments_become_settings(home: Path) -> None:
    run = dartcli.train(
        {"dataset": SMALL},
        strategy={"name": "dart-disc", "options": {"tau_m": 0.3}},
        model="lr",
        protocol="reference",
        seeds=7,
        epochs=1,
        patience=3,
        batch_size=128,
        learning_rate=0.01,
        weight_decay=0.1,
        device="cpu",
        training={"optimizer": "sparse-adam"},
        split_seed=4,
    )
    found = run.settings
    assert found.strategy.name == "dart-disc"
    assert found.strategy.options["tau_m"] == 0.3
    assert (found.model.name, found.protocol, found.seeds) == ("lr", "reference", (7,))
    assert (found.training.epochs, found.training.patience) == (1, 3)
    assert (found.training.batch_size, found.training.learning_rate) == (128, 0.01)
    assert (found.training.weight_decay, found.training.optimizer) == (0.1, "sparse-adam")
    assert (found.device, found.split_seed) == ("cpu", 4)
    assert home in run.folder.parents
    again = dartcli.train(config=run.folder / "settings.json", seeds=[8])
    assert again.settings.model_copy(update={"seeds": (7,)}) == found
    other = dartcli.train(run.settings, strategy="base")
    assert other.settings.strategy.name == "base"


def test_the_dataset_is_named_by_the_first_argument(home: Path) -> None:
    with pytest.raises(UsageError, match="no dataset named 'movielens'"):
        dartcli.train("movielens", strategy="dart", epochs=3)
    assert home.is_dir()


def test_signatures_are_complete() -> None:
    parameters = inspect.signature(dartcli.train).parameters
    assert {"strategy", "model", "epochs", "seeds", "progress"} <= set(parameters)
    for name in dartcli.__all__:
        value = getattr(dartcli, name)
        if inspect.isfunction(value):
            assert value.__doc__, name
            for parameter in inspect.signature(value).parameters.values():
                assert parameter.annotation is not inspect.Parameter.empty, name


def test_model_returns_the_module_with_the_reported_weights(
    runs: list[dartcli.Run], home: Path
) -> None:
    run = runs[1]
    for seed in run.seeds:
        model = run.model(seed)
        assert not model.training
        state = model.state_dict()
        assert state
        for name, value in run.weights(seed).items():
            assert torch.equal(state[name], value)
        scores = run.scores(seed).filter(pl.col("split") == "test")
        fields = torch.tensor(scores.select("user", "item").rows())
        with torch.no_grad():
            logits = model(fields)
        assert torch.allclose(logits, torch.tensor(scores["logit"].to_numpy()), atol=1e-5)
    assert torch.equal(next(run.model().parameters()), next(run.model(run.seeds[0]).parameters()))
    with pytest.raises(UsageError, match=r"has no seed 9\. Its seeds: 0, 1"):
        run.model(9)
    assert home.is_dir()


def test_results_are_short_in_a_console_and_tables_in_a_notebook(
    runs: list[dartcli.Run], home: Path
) -> None:
    base, dart = runs
    auc = dart.metrics.summary["test_auc"].mean
    assert repr(dart) == f"<Run dart: dart, fm on synthetic, 2 seeds, test AUC {auc:.4f}>"
    assert f"<td>test auc</td><td>{auc:.4f}</td>" in dart._repr_html_()
    result = dartcli.analyze("memorization", dart)
    assert repr(result) == "<AnalysisResult memorization: 1 tables, 1 figures>"
    html = result._repr_html_()
    assert html.count("<table>") == len(result.tables)
    assert html.count("<svg") == len(result.figures)
    page = dartcli.report([base, dart], home / "page.html")
    assert repr(page) == f"<Page {home / 'page.html'}>"
    assert page.path.as_uri() in page._repr_html_()
    (home / "runs" / "left").mkdir()
    assert repr(dartcli.Run(home / "runs" / "left")) == "<Run left: not finished>"


def test_compare_is_the_analysis_of_that_name(runs: list[dartcli.Run], home: Path) -> None:
    assert dartcli.compare(*runs).numbers == dartcli.analyze("compare", runs).numbers
    assert dartcli.compare("base", "dart").numbers == dartcli.compare(*runs).numbers
    assert dartcli.find_run("dart").metrics == runs[1].metrics
    assert home.is_dir()


def test_progress_is_one_line_per_seed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    settings = {"dataset": SMALL}
    dartcli.train(settings, epochs=2, seeds=(3, 4), progress=True)
    lines = capsys.readouterr().err.split("\n")
    assert [line.split("\r")[-1].partition(":")[0] for line in lines if line] == [
        "seed 3, epoch 2/2", "seed 4, epoch 2/2",
    ]  # fmt: skip
    dartcli.train(settings, epochs=1, progress=lambda seed, one: seen.append((seed, one.epoch)))
    assert seen == [(0, 1)]
    assert capsys.readouterr().err == ""
    assert home.is_dir()


def test_a_log_of_ones_own_is_prepared_by_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DART_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    rows = [{"u": n % 40, "i": n % 31} for n in range(600)]
    pl.DataFrame(rows).write_csv("log.csv")
    log = dartcli.LogOptions(inputs=("log.csv",), user="u", item="i")
    assert dartcli.preprocess_log("shop", log).manifest.counts.users == 40
    # it is found from every working directory
    monkeypatch.chdir("/")
    assert not dartcli.preprocess("shop").fresh
