"""What every figure keeps: no legend over data, equal scales, curves that a page can show."""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from checksums import update_checksums

from dartcli import catalog
from dartcli.errors import DartError
from dartcli.experiments.run import Run
from dartcli.experiments.train import train_run
from dartcli.reporting import figures
from dartcli.reporting.analyze import run_analysis
from dartcli.reporting.build import write_report

pytestmark = pytest.mark.long

SMALL = {"name": "synthetic", "options": {"interactions": 3000}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    home = tmp_path_factory.mktemp("figures") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        runs = [
            train_run(
                dataset=SMALL,
                strategy={"name": strategy, "options": options},
                training={"epochs": 4, "batch_size": 256},
                seeds=(0, 1, 2),
                name=f"{strategy}-with-a-long-name-that-fills-the-title-of-a-panel-{'x' * 20}",
            )
            for strategy, options in (
                ("base", {}),
                ("dart", {"t_m": 1, "tau_m": 0.3}),
                ("dart-rel", {"t_m": 1, "tau_m": 0.2}),
            )
        ]
    return home, runs


@pytest.fixture
def runs(trained: tuple[Path, list[Run]], monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    home, runs = trained
    monkeypatch.setenv("DART_HOME", str(home))
    return runs


def draw(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with mpl.rc_context(figures.STYLE):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def test_legends_and_titles_stay_outside_the_data_and_inside_the_figure(runs: list[Run]) -> None:
    seen = 0
    for name in catalog.names("analyses"):
        try:
            result = run_analysis(name, runs)
        except DartError:
            continue
        for figure in result.figures.values():
            renderer = draw(figure)
            assert not [panel for panel in figure.axes if panel.get_legend() is not None]
            for legend in figure.legends:
                box = legend.get_window_extent(renderer)
                seen += 1
                assert not any(
                    box.overlaps(panel.get_window_extent(renderer)) for panel in figure.axes
                ), name
                assert box.x1 <= figure.bbox.x1 + 1, name
            for panel in figure.axes:
                for title in (panel.title, panel._left_title):
                    assert title.get_window_extent(renderer).x1 <= figure.bbox.x1 + 1, name
                is_drawn = panel.lines or panel.collections or panel.patches or panel.images
                assert is_drawn, f"{name} has an empty panel"
    assert seen >= 6


@pytest.mark.parametrize(
    ("analysis", "groups"),
    [
        ("memorization", [[0, 1, 2]]),
        ("loss-distribution", [[0, 1, 2]]),
        ("user-activity", [[0, 1]]),
    ],
)
def test_panels_that_are_compared_have_equal_scales(
    runs: list[Run], analysis: str, groups: list[list[int]]
) -> None:
    (figure,) = run_analysis(analysis, runs).figures.values()
    for group in groups:
        assert len({figure.axes[number].get_ylim() for number in group}) == 1


def lengthen(run: Run, iterations: int) -> None:
    """Repeat the recorded iterations until there are as many as after a long training."""
    for seed in run.seeds:
        path = run.seed_folder(seed) / "iterations.parquet"
        table = pl.read_parquet(path)
        repeated = pl.concat([table] * -(-iterations // len(table)))[:iterations]
        random = np.random.default_rng(seed)
        noise = [
            (pl.col(name) + pl.Series(random.normal(0, 0.01, iterations))).alias(name)
            for name in table.columns
            if name.startswith("loss_")
        ]
        repeated.with_columns(
            pl.int_range(1, iterations + 1, dtype=pl.Int64).alias("iteration"),
            (pl.int_range(iterations) // 79 + 1).cast(pl.Int32).alias("epoch"),
            *noise,
        ).write_parquet(path)
    update_checksums(run.folder)


def test_a_report_on_two_runs_of_9000_iterations_is_small(home: Path) -> None:
    pair = [
        train_run(
            dataset=SMALL,
            strategy={"name": strategy, "options": options},
            training={"epochs": 2, "batch_size": 256},
            name=strategy,
        )
        for strategy, options in (("base", {}), ("dart", {"t_m": 1, "tau_m": 0.3}))
    ]
    for run in pair:
        lengthen(run, 9000)
    names = [run.name for run in pair]
    page = write_report(names)
    assert {"memorization", "precision-recall"} <= set(page.analyses)
    assert page.path.stat().st_size < 500_000
    for name in ("memorization", "precision-recall"):
        result = run_analysis(name, names)
        written = next(path for path in result.files if path.name == "numbers.json")
        assert written.stat().st_size < 500_000


def test_the_verdict_and_its_figure_come_first_then_the_contents_by_importance(
    runs: list[Run],
) -> None:
    text = write_report(runs).path.read_text("utf-8")
    places = [
        text.index(mark)
        for mark in (
            "<nav", 'id="summary"', "<img", 'id="results"', 'id="analysis-1"', 'id="setup"',
            'id="repeat"',
        )
    ]  # fmt: skip
    assert places == sorted(places)
    titles = [
        catalog.load("analyses", name).question
        for name in ("compare", "precision-recall", "user-activity", "memorization", "dataset")
    ]
    found = [text.index(title) for title in titles]
    assert found == sorted(found)
    for target in ("results", "analysis-1", "setup", "repeat"):
        assert f'<a href="#{target}">' in text


def test_thinned_curves_keep_their_ends_and_pooled_windows_their_sum() -> None:
    curve = np.arange(9001, dtype=np.float64)
    x, y = figures.thin(curve, 2 * curve)
    assert len(x) == figures.MAX_POINTS
    assert (x[0], x[-1], y[-1]) == (0, 9000, 18000)
    short = np.array([1.0, 2.0, 3.0])
    assert figures.thin(short)[0].tolist() == short.tolist()
    assert figures.pool_windows(short).tolist() == short.tolist()
    pooled = figures.pool_windows(curve)
    assert len(pooled) <= figures.MAX_POINTS
    assert pooled.sum() == curve.sum()
    assert pooled[0] == sum(range(len(curve) // len(pooled) + 1))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 1)), (4, (4, 1)), (5, (3, 2)), (6, (3, 2))]
)
def test_panels_are_arranged_with_few_gaps(count: int, expected: tuple[int, int]) -> None:
    assert figures.arrange(count, 4) == expected


def test_only_coordinates_are_rounded() -> None:
    with figures.new_figure(4, 3) as (figure, (panel,)):
        panel.plot([0, 1], [0.12345, 0.6789])
        panel.set_title("0.12345")
    svg = figures.render_svg(figure).decode()
    assert ">0.12345<" in svg
    paths = re.findall(r' d="([^"]*)"', svg)
    assert paths
    assert not any(re.search(r"\.\d{3}", path) for path in paths)
