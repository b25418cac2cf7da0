"""The catalog finds files and plug-ins by name, and suggests names for typos."""

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

import dartcli
from dartcli import catalog
from dartcli.errors import UsageError

KINDS = get_args(catalog.Kind)


class Plugin:
    """A component of another package."""


def offer(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Let another package provide strategies; underscores in a name stand for dashes."""
    points = [
        EntryPoint(name.replace("_", "-"), value, "dartcli.strategies")
        for name, value in names.items()
    ]

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(catalog, "entry_points", entry_points)


@pytest.fixture
def plugin_module(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("some_plugin_of_another_package")
    module.Plugin = Plugin
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return f"{module.__name__}:Plugin"


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_a_component_and_every_name_loads(kind: catalog.Kind) -> None:
    folder = Path(dartcli.__file__).parent / kind
    stems = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    expected = sorted(stem.replace("_", "-") for stem in stems if not stem.startswith("_"))
    assert expected
    assert catalog.files(kind) == expected
    names = catalog.names(kind)
    assert len(set(names)) == len(names)
    for name in names:
        assert catalog.load(kind, name) is catalog.load(kind, name)
        assert any(name == file or name.startswith(f"{file}-") for file in expected), name


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_constant_and_a_word(kind: catalog.Kind) -> None:
    assert catalog.CONSTANT[kind].isupper()
    assert catalog.SINGULAR[kind]


def test_the_strategies_of_table_2_are_offered() -> None:
    published = {
        *("base", "clean", "bootstrap-hard", "bootstrap-soft", "lcd", "lcd-re"),
        *("adt-ce-r", "adt-ce-t", "dart-disc", "dart-rel", "dart"),
    }
    assert published <= set(catalog.names("strategies"))
    assert {"fm", "deepfm"} <= set(catalog.names("models"))


def test_a_variant_is_found_through_the_file_it_begins_with() -> None:
    from dartcli.strategies import adt, dart, lcd

    assert catalog.load("strategies", "dart") is dart.Dart
    assert catalog.load("strategies", "dart-rel") is dart.DartRel
    assert catalog.load("strategies", "lcd-re") is lcd.LcdRe
    # two dashes below the file
    assert catalog.load("strategies", "adt-ce-t") is adt.AdtTruncated


def test_a_component_is_found_without_importing_its_neighbors() -> None:
    program = (
        "import sys; from dartcli import catalog; catalog.load('datasets', 'movielens-1m');"
        "print([name for name in sys.modules if name.startswith('dartcli.datasets.')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "['dartcli.datasets._text', 'dartcli.datasets.movielens']"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dartt", "`dart`"),
        ("dart_disc", "`dart-disc`"),
        ("lcdre", "`lcd-re`"),
        ("bootstrap", "`bootstrap-hard`"),
        ("Base", "`base`"),
        ("dart-", "`dart`"),
        ("../dart", "`dart`"),
        ("dart.Dart", "`dart`"),
    ],
)
def test_a_typo_is_answered_with_the_closest_names(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"strategy named '{name}'.*{hint}"):
        catalog.load("strategies", name)


@pytest.mark.parametrize("name", ["", "-", "zzzzzz", "../../..", "__init__"])
def test_a_name_unlike_any_other_is_answered_with_all_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"adt-ce-r, .*, dart, dart-disc, dart-rel, "):
        catalog.load("strategies", name)


@pytest.mark.parametrize(
    ("kind", "word"),
    [("datasets", "dataset"), ("models", "model"), ("analyses", "analysis")],
)
def test_the_error_names_the_kind(kind: catalog.Kind, word: str) -> None:
    with pytest.raises(UsageError, match=f"{word} named 'qqqqqq'"):
        catalog.load(kind, "qqqqqq")


def test_a_plug_in_is_offered_and_loaded(
    monkeypatch: pytest.MonkeyPatch, plugin_module: str
) -> None:
    own = catalog.names("strategies")
    offer(monkeypatch, zebra=plugin_module, aardvark=plugin_module)
    assert catalog.names("strategies") == [*own, "aardvark", "zebra"]
    assert catalog.load("strategies", "zebra") is Plugin
    assert "zebra" not in catalog.names("models")
    with pytest.raises(UsageError, match="`zebra`"):
        catalog.load("strategies", "zebrra")


def test_the_name_of_a_plug_in_may_begin_like_a_file(
    monkeypatch: pytest.MonkeyPatch, plugin_module: str
) -> None:
    offer(monkeypatch, dart_turbo=plugin_module)
    assert catalog.load("strategies", "dart-turbo") is Plugin


def test_a_plug_in_cannot_replace_a_file(
    monkeypatch: pytest.MonkeyPatch, plugin_module: str
) -> None:
    own, names = catalog.load("strategies", "dart"), catalog.names("strategies")
    offer(monkeypatch, dart=plugin_module)
    assert catalog.load("strategies", "dart") is own
    assert catalog.names("strategies") == names


def test_a_plug_in_is_listed_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, broken="no_such_module_anywhere:Thing")
    assert "broken" in catalog.names("strategies")
    assert catalog.load("strategies", "base") is not None


def test_a_plug_in_that_fails_to_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, broken="no_such_module_anywhere:Thing")
    with pytest.raises(UsageError, match="no_such_module_anywhere:Thing"):
        catalog.load("strategies", "broken")


@pytest.mark.parametrize("kind", KINDS)
def test_names_and_descriptions_in_the_source_are_those_of_the_components(
    kind: catalog.Kind,
) -> None:
    expected = {}
    for file in catalog.files(kind):
        module = importlib.import_module(f"dartcli.{kind}.{file.replace('-', '_')}")
        found = getattr(module, catalog.CONSTANT[kind])
        expected |= found if isinstance(found, dict) else {file: found}
    described = catalog.describe(kind)
    assert set(described) == set(expected)
    for name, component in expected.items():
        text = component.__doc__ if isinstance(component, type) else None
        text = getattr(component, "title", getattr(component, "question", text))
        assert described[name] == text.partition("\n")[0].replace("``", "`")
        assert described[name]


def test_unknown_names_are_refused_without_importing_a_component() -> None:
    program = (
        "import sys; from dartcli import catalog\n"
        "try: catalog.load('strategies', 'dart-x')\n"
        "except catalog.UsageError as error: print(error)\n"
        "print([name for name in ('torch', 'polars') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "`dart`" in run.stdout
    assert run.stdout.splitlines()[-1] == "[]"
