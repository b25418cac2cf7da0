"""Run the examples and print the version of each package and the AUC.

`python examples/run.py` runs all, `python examples/run.py with_lightning` only one. An example
whose package is not installed is skipped; the exit code is 1 if another one fails.
"""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = {
    "plain_pytorch": "torch",
    "with_lightning": "lightning",
    "with_accelerate": "accelerate",
    "with_deepctr_torch": "deepctr-torch",
    "with_fuxictr": "fuxictr",
    "with_recbole": "recbole",
    "with_torch_rechub": "torch-rechub",
}


def run(name: str) -> bool:
    """Run one example, print its result, and return whether it worked."""
    try:
        version = metadata.version(PACKAGES[name])
    except metadata.PackageNotFoundError:
        print(f"{name}: {PACKAGES[name]} is not installed; skipped")
        return True
    words = [sys.executable, str(HERE / f"{name}.py")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    print(f"{name}: {PACKAGES[name]} {version}: {lines[-1] if lines else 'no output'}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    results = [run(name) for name in sys.argv[1:] or PACKAGES]
    sys.exit(not all(results))
