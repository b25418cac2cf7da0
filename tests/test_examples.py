"""Examples run, and stay short enough to be read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.long
@pytest.mark.parametrize("name", ["plain_pytorch", "with_lightning"])
def test_an_example_learns_something(name: str, home: Path) -> None:
    words = [sys.executable, str(EXAMPLES / "run.py"), name]
    environment = {**os.environ, "DART_HOME": str(home), "EPOCHS": "2"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if "is not installed" in done.stdout:
        pytest.skip(done.stdout.strip())
    found = re.search(r"AUC (0\.\d+)", done.stdout)
    assert done.returncode == 0, done.stdout
    assert found
    assert float(found[1]) > 0.6


def test_every_example_is_run_by_the_script_and_is_short() -> None:
    script = (EXAMPLES / "run.py").read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 60, path.name
        if path.name.startswith("with_"):
            assert f'"{path.stem}"' in script
