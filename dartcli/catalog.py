"""Find a component by name: the file name is the option name.

Every file in ``dartcli/<kind>/`` defines one constant (``DATASET``, ``MODEL``, ``STRATEGY``,
``ANALYSIS``). It is either the component, named after the file with dashes for underscores, or a
mapping from names to components. Names in a mapping begin with the file's name (``dart``,
``dart-disc``, ``dart-rel`` in ``dart.py``), so a component is found without importing other files.
Other packages add components through the entry-point group ``dartcli.<kind>``.
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
    """Return the file names of ``kind``, with dashes for underscores, without importing them."""
    package = importlib.import_module(f"dartcli.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def names(kind: Kind) -> list[str]:
    """Return every name that :func:`load` accepts, including variants and plug-ins."""
    own = [name for file in files(kind) for name in _load_components(kind, file)]
    return own + sorted(set(_find_plugins(kind)) - set(own))


def load(kind: Kind, name: str) -> Any:
    """Return the component ``name`` of ``kind``.

    Raises
    ------
    UsageError
        If the name is unknown (the message suggests similar ones), or a plug-in fails to load.
    """
    parts = name.split("-")
    known = set(files(kind))
    for length in range(len(parts), 0, -1):
        file = "-".join(parts[:length])
        if file in known:
            components = _load_components(kind, file)
            if name in components:
                return components[name]
    plugin = _find_plugins(kind).get(name)
    if plugin is not None:
        try:
            return plugin.load()
        except Exception as error:
            raise UsageError(
                f"cannot load the {SINGULAR[kind]} {name!r} from {plugin.value}: "
                f"{type(error).__name__}: {error}. Fix or uninstall the package that provides it."
            ) from error
    raise UsageError(f"no {SINGULAR[kind]} named {name!r}. {_suggest_names(kind, name)}")


def _load_components(kind: Kind, file: str) -> Mapping[str, Any]:
    module = importlib.import_module(f"dartcli.{kind}.{file.replace('-', '_')}")
    component = getattr(module, CONSTANT[kind])
    return component if isinstance(component, Mapping) else {file: component}


def _find_plugins(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dartcli.{kind}")}


def _suggest_names(kind: Kind, name: str) -> str:
    offered = names(kind)
    close = difflib.get_close_matches(name, offered, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(f'`{other}`' for other in close)}?"
    return f"Choose from {', '.join(offered)}."
