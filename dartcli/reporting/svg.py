"""A matplotlib figure as SVG that can stand inside an HTML page, beside others."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from dartcli.reporting.figures import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_SCALE = 1.15
"""CSS pixels a point at the least: text of 8 points stays readable, a wide figure scrolls."""
LARGEST_SCALE = 1.5
"""CSS pixels a point at the most."""


def inline(figure: Figure, prefix: str, label: str) -> str:
    """Return ``figure`` as an ``<svg>`` element, the same bytes for the same figure.

    Parameters
    ----------
    figure
        A figure in the house style.
    prefix
        Put before every id: figures in one page may have the same ids.
    label
        What a reader who cannot see it is told.
    """
    root = ET.fromstring(_drawn(figure))  # noqa: S314 - matplotlib wrote it just now
    for parent in list(root.iter()):
        for child in list(parent):
            # its style sheet would hold for the whole page
            if _local(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update(
            {name: _own(name, value, prefix) for name, value in attributes.items()}
        )
    width, height = (float(number) for number in root.get("viewBox", "0 0 1 1").split()[2:])
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "width": f"{width:g}",
        "height": f"{height:g}",
        "role": "img",
        "aria-label": label,
        "style": (
            f"min-width: {width * LEAST_SCALE:.0f}px; max-width: {width * LARGEST_SCALE:.0f}px"
        ),
    }
    return ET.tostring(root, encoding="unicode").strip()


def _drawn(figure: Figure) -> str:
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return buffer.getvalue()


def _local(name: str) -> str:
    """Return a name without its namespace: HTML knows where ``<svg>`` belongs."""
    return name.rpartition("}")[2]


def _own(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    if name == "style":
        # Verdana is as wide as DejaVu Sans, by which the text was measured
        value = value.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    if name == "d":
        # a hundredth of a point is finer than any screen, and half the bytes
        value = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
    return re.sub(r"url\(#", f"url(#{prefix}", value)
