"""Find a component by its name: the file name is the option name.

Every file in ``dartcli/<kind>/`` holds one constant (``DATASET``, ``MODEL``, ``STRATEGY``,
``ANALYSIS``): either the component itself, offered under the file's name with
dashes for underscores, or a mapping from full names to components. A name in such a mapping
starts with the file's name (``dart``, ``dart-disc``, ``dart-rel`` in ``dart.py``), so a component
is found without importing any other file. Other packages add components through the entry-point
group ``dartcli.<kind>``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

from dartcli.errors import UsageError

Kind = Literal["datasets", "models", "strategies", "analyses"]

CONSTANT: Final[dict[Kind, str]] = {
    "datasets": "DATASET",
    "models": "MODEL",
    "strategies": "STRATEGY",
    "analyses": "ANALYSIS",
}
SINGULAR: Final[dict[Kind, str]] = {
    "datasets": "dataset",
    "models": "model",
    "strategies": "strategy",
    "analyses": "analysis",
}


def files(kind: Kind) -> list[str]:
    """Return the names of the files of ``kind``, dashes for underscores, without importing them."""
    package = importlib.import_module(f"dartcli.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def names(kind: Kind) -> list[str]:
    """Return every name that ``load(kind, name)`` knows, variants and plug-ins included."""
    own = [name for file in files(kind) for name in _components(kind, file)]
    return own + sorted(set(_plugins(kind)) - set(own))


def load(kind: Kind, name: str) -> Any:
    """Return the component ``name`` of ``kind``.

    Raises
    ------
    UsageError
        If there is none of that name; the message names the closest ones.
    """
    parts = name.split("-")
    known = set(files(kind))
    for length in range(len(parts), 0, -1):
        file = "-".join(parts[:length])
        if file in known:
            components = _components(kind, file)
            if name in components:
                return components[name]
    plugin = _plugins(kind).get(name)
    if plugin is not None:
        try:
            return plugin.load()
        except Exception as error:
            raise UsageError(
                f"the {SINGULAR[kind]} {name!r} comes from another package ({plugin.value}), which "
                f"fails: {type(error).__name__}: {error}; mend or uninstall that package."
            ) from error
    raise UsageError(_unknown(kind, name))


def _components(kind: Kind, file: str) -> Mapping[str, Any]:
    module = importlib.import_module(f"dartcli.{kind}.{file.replace('-', '_')}")
    component = getattr(module, CONSTANT[kind])
    return component if isinstance(component, Mapping) else {file: component}


def _plugins(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dartcli.{kind}")}


def _unknown(kind: Kind, name: str) -> str:
    offered = names(kind)
    close = difflib.get_close_matches(name, offered, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(offered)}."
    return f"there is no {SINGULAR[kind]} named {name!r}; {hint}"
