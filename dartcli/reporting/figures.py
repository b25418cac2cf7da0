"""The style of figures, and drawing that several analyses share."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = npt.NDArray[np.float64]
# the palette of Okabe and Ito is legible with any color vision, and in print
TRUE_POSITIVE: Final = "#009E73"
FALSE_POSITIVE: Final = "#D55E00"
NEGATIVE: Final = "#6E6E6E"
RUN_COLORS: Final = ("#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BASELINE: Final = "#444444"
BASELINE_STYLES: Final = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
REFERENCE_LINE: Final[dict[str, Any]] = {"color": "#8A8A8A", "lw": 1, "ls": (0, (4, 2))}
STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    # text in SVG falls back to Verdana, which is as wide as the DejaVu Sans that measured it
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "dartcli",
}


@contextmanager
def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of ``width`` x ``height`` inches, and its axes row by row."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(axes.flat)
        # drawing measures text, which needs the style
        figure.draw_without_rendering()


def render_svg(figure: Figure, *, transparent: bool = False) -> bytes:
    """Return ``figure`` as SVG; equal figures give equal bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()


def run_color(number: int) -> str:
    """Return the color of the run at position ``number``."""
    return RUN_COLORS[number % len(RUN_COLORS)]


def draw_run(
    panel: Axes, x: Floats, curves: Sequence[Floats], mean: Floats, color: str, label: str
) -> None:
    """Draw a curve per seed, if there are several, and their mean."""
    for curve in curves if len(curves) > 1 else ():
        panel.plot(x[: len(curve)], curve, color=color, lw=0.5, alpha=0.35)
    panel.plot(x[: len(mean)], mean, color=color, label=label)


def draw_baselines(panel: Axes, x: Floats, baselines: Iterable[tuple[str, Floats]]) -> None:
    """Draw labeled baselines, each in a line style of its own."""
    for style, (label, curve) in zip(BASELINE_STYLES, baselines, strict=False):
        panel.plot(x, curve, color=BASELINE, lw=1.1, ls=style, label=label)


def none_to_nan(values: Iterable[float | None]) -> Floats:
    """Return ``values`` as an array, None as NaN, which is not drawn."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def smooth(
    numerator: Floats, denominator: Floats, window: int, *, min_count: float = 0.0
) -> Floats:
    """Return the ratio of the sums of both arrays over centered windows.

    Windows are cut off at the ends, and NaN counts as zero in both arrays. The ratio is NaN if the
    denominators of a window sum to ``min_count`` or less, because a ratio of a few counts is noise.
    """
    size = len(numerator)
    position = np.arange(size)
    first = np.maximum(position - window // 2, 0)
    last = np.minimum(position + (window + 1) // 2, size)

    def windowed(values: Floats) -> Floats:
        total = np.concatenate([[0.0], np.nancumsum(values)])
        return np.asarray(total[last] - total[first], dtype=np.float64)

    below = windowed(np.where(np.isnan(numerator), 0.0, denominator))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > min_count, windowed(numerator) / below, np.nan)
