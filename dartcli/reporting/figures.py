"""The style of figures, and drawing that several analyses share."""

from __future__ import annotations

import io
import re
import textwrap
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


MAX_POINTS: Final = 240
"""Points of a curve: more than a column of a page can show."""


@contextmanager
def new_figure(
    width: float, height: float, columns: int = 1, rows: int = 1, panels: int | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of ``width`` x ``height`` inches, and its axes row by row.

    If there are fewer ``panels`` than places, the last places stay empty.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in axes[panels:] if panels else ():
            unused.remove()
        yield figure, axes[:panels]
        # the layout measures text, which needs the style; once is enough
        layout = figure.get_layout_engine()
        if layout is not None:
            layout.execute(figure)
        figure.set_layout_engine("none")


@contextmanager
def new_panels(count: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with ``count`` panels of one size, at most two in a row, and its axes."""
    columns, rows = arrange(count, 2)
    size = (1.2 + 4.2 * columns, 0.6 + 3.2 * rows)
    with new_figure(*size, columns, rows, count) as made:
        yield made


def render_svg(figure: Figure, *, transparent: bool = False) -> bytes:
    """Return ``figure`` as SVG; equal figures give equal bytes.

    Coordinates of paths are cut to a hundredth of a point, which makes the file smaller.
    """
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None}
        )
    return re.sub(rb' d="[^"]*"', _round_path, buffer.getvalue())


def _round_path(path: re.Match[bytes]) -> bytes:
    return re.sub(rb"(\d\.\d\d)\d+", rb"\1", path[0])


def run_color(number: int) -> str:
    """Return the color of the run at position ``number``."""
    return RUN_COLORS[number % len(RUN_COLORS)]


def draw_run(
    panel: Axes, x: Floats, curves: Sequence[Floats], mean: Floats, color: str, label: str
) -> None:
    """Draw a curve per seed, if there are several, and their mean."""
    for curve in curves if len(curves) > 1 else ():
        panel.plot(*thin(x[: len(curve)], curve), color=color, lw=0.5, alpha=0.35)
    panel.plot(*thin(x[: len(mean)], mean), color=color, label=label)


def draw_baselines(panel: Axes, x: Floats, baselines: Iterable[tuple[str, Floats]]) -> None:
    """Draw labeled baselines, each in a line style of its own."""
    for style, (label, curve) in zip(BASELINE_STYLES, baselines, strict=False):
        panel.plot(*thin(x, curve), color=BASELINE, lw=1.1, ls=style, label=label)


def draw_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """Draw one legend for all ``axes`` below the figure, where it covers no data."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return
    # about 0.07 inches a letter, and 0.6 for the line
    width = 0.07 * max(map(len, handles)) + 0.6
    columns = int(np.clip(figure.get_figwidth() // width, 1, len(handles)))
    figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=columns)


def wrap(label: str, width: int = 24) -> str:
    """Return ``label`` with line breaks: ``width`` letters in a line, unless a word has more.

    Only words of more than 40 letters are broken.
    """
    longest = min(max(map(len, label.split()), default=0), 40)
    return "\n".join(textwrap.wrap(label, max(width, longest), break_on_hyphens=False))


def arrange(count: int, most: int) -> tuple[int, int]:
    """Return columns and rows for ``count`` panels, at most ``most`` in a row, with few gaps."""
    choices = range(min(count, most), min(count, most) // 2, -1)
    columns = min(choices, key=lambda number: (-(-count // number) * number - count, -number))
    return columns, -(-count // columns)


def share_limits(axes: Sequence[Axes], *, x: bool = False) -> None:
    """Give the panels that are compared one vertical scale, and one horizontal scale if ``x``."""
    for axis in ("x", "y") if x else ("y",):
        limits = [getattr(panel, f"get_{axis}lim")() for panel in axes]
        low, high = min(min(pair) for pair in limits), max(max(pair) for pair in limits)
        for panel in axes:
            getattr(panel, f"set_{axis}lim")(low, high)


def thin(*curves: Floats) -> list[Floats]:
    """Return at most ``MAX_POINTS`` points of smooth curves of one length, both ends included."""
    size = len(curves[0])
    kept = np.unique(np.linspace(0, size - 1, min(size, MAX_POINTS)).round().astype(np.int64))
    return [curve[kept] for curve in curves]


def pool_windows(values: Floats) -> Floats:
    """Return the sums of equal windows of ``values``, at most ``MAX_POINTS``; NaN counts as zero.

    The last window may be smaller. With few values, every window has one.
    """
    starts = [0, *(end + 1 for end in window_ends(len(values))[:-1])]
    return np.asarray(np.add.reduceat(np.nan_to_num(values), starts), dtype=np.float64)


def window_ends(size: int) -> list[int]:
    """Return the last position of each window of :func:`pool_windows`."""
    width = max(-(-size // MAX_POINTS), 1)
    return [*range(width - 1, size - 1, width), size - 1]


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
