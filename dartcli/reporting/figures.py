"""The style of figures, and smoothing for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Floats = npt.NDArray[np.float64]
# Okabe and Ito's palette: told apart with any color vision, and in print
TRUE_POSITIVE: Final = "#009E73"
FALSE_POSITIVE: Final = "#D55E00"
NEGATIVE: Final = "#6E6E6E"
RUN_COLORS: Final = ("#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BASELINE_STYLES: Final = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
STYLE: Final[dict[Any, Any]] = {
    "figure.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "font.family": "DejaVu Sans",
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
    """Yield a figure of ``width`` x ``height`` inches and its axes, in the house style.

    The axes are listed row by row.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width, height))
        axes = drawing.subplots(rows, columns, squeeze=False)
        yield drawing, list(axes.flat)
        # text is measured when a figure is drawn: do it while the style holds
        drawing.draw_without_rendering()


def smooth(numerator: Floats, denominator: Floats, window: int, *, least: float = 0.0) -> Floats:
    """Return pooled ratios: sums of ``numerator`` over sums of ``denominator``, centerd windows.

    At the ends the window is cut off. NaN counts as zero in both; the ratio is NaN where the
    denominators of a window sum to ``least`` or less: a ratio of a few counts is noise.
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
        return np.where(below > least, windowed(numerator) / below, np.nan)
