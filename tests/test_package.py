"""Check the source, its layout and size, and the contents of the wheel."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dartcli

ROOT = Path(__file__).parent.parent
PACKAGE = Path(dartcli.__file__).parent
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_ATTRIBUTES = {
    ("torch", "load"), ("os", "system"), ("os", "popen"), ("np", "load"), ("numpy", "load"),
    ("yaml", "load"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("pl", "read_ods"), ("pickle", "load"), ("pickle", "loads"),
}  # fmt: skip


def find_banned(text: str) -> Iterator[str]:
    """Yield the forbidden imports and calls in the source ``text``."""
    for node in ast.walk(ast.parse(text)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call):
            yield from _find_banned_call(node)
        yield from (name for name in modules if name.split(".")[0] in BANNED_MODULES)


def _find_banned_call(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Name(id=name) if name in BANNED_NAMES:
            yield name
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            if (owner, name) in BANNED_ATTRIBUTES:
                yield f"{owner}.{name}"
    for word in call.keywords:
        if word.arg == "shell" and ast.unparse(word.value) != "False":
            yield "shell"


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')", "exec(x)", "import pickle", "from pickle import loads", "torch.load(p)",
        "import yaml", "os.system('ls')", "subprocess.run('ls', shell=True)", "compile(a, b, c)",
        "subprocess.run('ls', shell=maybe)", "np.load(p, allow_pickle=True)",
    ],
)  # fmt: skip
def test_forbidden_calls_are_found(text: str) -> None:
    assert list(find_banned(text))


def test_similar_calls_are_allowed() -> None:
    text = "model.eval(); re.compile('a'); torch.compile(f); load_file(p); run(a, shell=False)"
    assert not list(find_banned(text))


def find_functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method in the source ``text``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Return module -> source of the package, with paths relative to it."""
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert len(paths) > 90
    return {name: path.read_text("utf-8") for name, path in paths.items()}


def test_tests_run_the_code_of_this_checkout() -> None:
    assert ROOT / "dartcli" == PACKAGE
    code = "import dartcli; print(dartcli.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == PACKAGE


def test_the_package_has_no_forbidden_calls(sources: dict[str, str]) -> None:
    found = {name: list(find_banned(text)) for name, text in sources.items()}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_the_top_level_has_only_the_modules_of_the_design() -> None:
    found = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    modules = {"__init__.py", "__main__.py", "_version.py", "catalog.py", "errors.py"}
    assert found == {*modules, "py.typed"}


def test_no_module_exceeds_400_lines(sources: dict[str, str]) -> None:
    lines = {name: len(text.splitlines()) for name, text in sources.items()}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_no_function_exceeds_60_lines(sources: dict[str, str]) -> None:
    """The signature of a command is its list of options, so only its body counts."""
    lines = {}
    for name, text in sources.items():
        for function in find_functions(text):
            first = (
                function.body[0].lineno
                if name.startswith(("cli/", "experiments/api"))
                else function.lineno
            )
            lines[name, function.name] = (function.end_lineno or first) - first + 1
    assert {where: count for where, count in lines.items() if count > 60} == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_contains_exactly_the_package_that_tests_run(wheel: zipfile.ZipFile) -> None:
    found = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert set(found) == set(expected)
    assert {name for name, content in found.items() if content != expected[name]} == set()


def test_the_wheel_contains_code_and_no_data(wheel: zipfile.ZipFile) -> None:
    for entry in wheel.infolist():
        package, _, rest = entry.filename.partition("/")
        if package.endswith(".dist-info"):
            assert rest in {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
            continue
        assert Path(rest).suffix in {".py", ".typed", ".j2", ".css", ".js"}, entry.filename
        assert entry.file_size < 60_000, entry.filename
