"""Find a component by name: the file name is the option name.

Every file in ``dartcli/<kind>/`` defines one constant (``DATASET``, ``MODEL``, ``STRATEGY``,
``SIGNAL``, ``ANALYSIS``). It is either the component, named after the file with dashes for
underscores, or a mapping from names to components. Names in a mapping begin with the file's name
(``dart``, ``dart-disc``, ``dart-rel`` in ``dart.py``), so a component is found without importing
other files.
Other packages add components through the entry-point group ``dartcli.<kind>``.

Names and descriptions are read from the source of these files without importing it, because help
and completion must not wait for PyTorch. So the constant is a class, a call with the description as
its ``title=`` or ``question=``, or a dictionary literal of these.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, Literal

from dartcli.errors import UsageError

Kind = Literal["datasets", "models", "strategies", "signals", "analyses"]

SINGULAR: Final[dict[Kind, str]] = {
    "datasets": "dataset",
    "models": "model",
    "strategies": "strategy",
    "signals": "signal",
    "analyses": "analysis",
}
CONSTANT: Final[dict[Kind, str]] = {kind: name.upper() for kind, name in SINGULAR.items()}

DESCRIPTIONS: Final = ("title", "question")
"""Arguments that describe a component constructed by a call."""


def files(kind: Kind) -> list[str]:
    """Return the file names of ``kind``, with dashes for underscores, without importing them."""
    package = importlib.import_module(f"dartcli.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))


def names(kind: Kind) -> list[str]:
    """Return every name that :func:`load` accepts, including variants and plug-ins."""
    return list(describe(kind))


def describe(kind: Kind) -> dict[str, str]:
    """Return every name of ``kind`` with a one-line description, without importing components.

    A class is described by its docstring's first line, a dataset by its title, an analysis by its
    question, and a plug-in by where it is defined.
    """
    own = {name: text for file in files(kind) for name, text in _read_entries(kind, file).items()}
    plugins = {name: f"plug-in {point.value}" for name, point in _find_plugins(kind).items()}
    return own | {name: plugins[name] for name in sorted(set(plugins) - set(own))}


def check(kind: Kind, name: str) -> None:
    """Raise UsageError if there is no component ``name``; import nothing.

    The message suggests similar names.
    """
    # looking for plug-ins reads the metadata of every package, which a sweep would do for each arm
    is_own = any(name in _read_entries(kind, file) for file in files(kind))
    if not is_own and name not in describe(kind):
        raise UsageError(f"no {SINGULAR[kind]} named {name!r}. {_suggest_names(kind, name)}")


def load(kind: Kind, name: str) -> Any:
    """Return the component ``name`` of ``kind``.

    Raises
    ------
    UsageError
        If the name is unknown (the message suggests similar ones), or a plug-in fails to load.
    """
    check(kind, name)
    for file in files(kind):
        if name in _read_entries(kind, file):
            return _load_components(kind, file)[name]
    plugin = _find_plugins(kind)[name]
    try:
        return plugin.load()
    except Exception as error:
        raise UsageError(
            f"cannot load the {SINGULAR[kind]} {name!r} from {plugin.value}: "
            f"{type(error).__name__}: {error}. Fix or uninstall the package that provides it."
        ) from error


def _load_components(kind: Kind, file: str) -> Mapping[str, Any]:
    module = importlib.import_module(f"dartcli.{kind}.{file.replace('-', '_')}")
    component = getattr(module, CONSTANT[kind])
    return component if isinstance(component, Mapping) else {file: component}


@functools.cache
def _read_entries(kind: Kind, file: str) -> Mapping[str, str]:
    """Return name -> description of the components in the source of one file."""
    module = f"dartcli.{kind}.{file.replace('-', '_')}"
    spec = importlib.util.find_spec(module)
    assert spec is not None  # noqa: S101 - files() found it
    assert spec.origin is not None  # noqa: S101
    body = ast.parse(Path(spec.origin).read_text("utf-8")).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    value = _find_value(body, CONSTANT[kind])
    if not isinstance(value, ast.Dict):
        return {file: _describe_entry(value, classes)}
    return {
        str(key.value): _describe_entry(component, classes)
        for key, component in zip(value.keys, value.values, strict=True)
        if isinstance(key, ast.Constant)
    }


def _find_value(body: Sequence[ast.stmt], constant: str) -> ast.expr | None:
    """Return what a module assigns to ``constant``."""
    for node in body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(one, ast.Name) and one.id == constant for one in targets):
            return node.value
    return None


def _describe_entry(value: ast.expr | None, classes: Mapping[str, ast.ClassDef]) -> str:
    """Return the summary of a class, or the title or question in a call."""
    if isinstance(value, ast.Name) and value.id in classes:
        return (ast.get_docstring(classes[value.id]) or "").partition("\n")[0].replace("``", "`")
    words = value.keywords if isinstance(value, ast.Call) else []
    for word in words:
        if word.arg in DESCRIPTIONS and isinstance(word.value, ast.Constant):
            return str(word.value.value)
    return ""


def _find_plugins(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"dartcli.{kind}")}


def _suggest_names(kind: Kind, name: str) -> str:
    offered = names(kind)
    close = difflib.get_close_matches(name, offered, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(f'`{other}`' for other in close)}?"
    return f"Choose from {', '.join(offered)}."
