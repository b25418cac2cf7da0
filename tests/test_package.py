"""What is installed and what is shipped: no code from strings or files, no dataset."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import dartcli

ROOT = Path(__file__).parent.parent
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
BANNED_NAMES = {"eval", "exec", "compile", "__import__"}
BANNED_ATTRIBUTES = {
    ("torch", "load"), ("os", "system"), ("os", "popen"), ("np", "load"), ("numpy", "load"),
    ("yaml", "load"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("pl", "read_ods"), ("pickle", "load"), ("pickle", "loads"),
}  # fmt: skip


def banned(text: str) -> Iterator[str]:
    """Yield what may not be imported or called in the source ``text``."""
    for node in ast.walk(ast.parse(text)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Call):
            yield from _banned_call(node)
        yield from (name for name in modules if name.split(".")[0] in BANNED_MODULES)


def _banned_call(call: ast.Call) -> Iterator[str]:
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
def test_the_search_finds_what_it_searches_for(text: str) -> None:
    assert list(banned(text))


def test_the_search_finds_nothing_else() -> None:
    text = "model.eval(); re.compile('a'); torch.compile(f); load_file(p); run(a, shell=False)"
    assert not list(banned(text))


def test_the_installed_package_calls_nothing_that_is_banned() -> None:
    folder = Path(dartcli.__file__).parent
    found = {str(path): list(banned(path.read_text("utf-8"))) for path in folder.rglob("*.py")}
    assert len(found) > 90
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_calls_nothing_that_is_banned(wheel: zipfile.ZipFile) -> None:
    sources = [name for name in wheel.namelist() if name.endswith(".py")]
    assert "dartcli/cli/__init__.py" in sources
    for name in sources:
        assert not list(banned(wheel.read(name).decode())), name


def test_the_wheel_holds_the_package_and_no_data(wheel: zipfile.ZipFile) -> None:
    code = {".py", ".typed", ".j2", ".css", ".js"}
    for entry in wheel.infolist():
        package, _, rest = entry.filename.partition("/")
        if package.endswith(".dist-info"):
            assert rest in {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
            continue
        assert package == "dartcli", entry.filename
        assert Path(rest).suffix in code, entry.filename
        assert entry.file_size < 60_000, entry.filename
