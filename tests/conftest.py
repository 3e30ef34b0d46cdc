"""What the tests share: the project's root, the demo town, real exports when they are at hand, and the command line."""
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("trustlab", deadline=None, derandomize=True)
settings.load_profile("trustlab")

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Ran:
    "A command that ended: its exit code and what it wrote"
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def root() -> Path:
    "The project's root"
    return ROOT


@pytest.fixture(scope="session")
def town(root) -> Path:
    "The folder of the simulated community's exports"
    return root / "data" / "town"


@pytest.fixture(scope="session")
def shared(root) -> Path:
    "The folder of real exports beside the checkout; tests that need it are skipped when it is absent"
    folder = root.parent / "shared" / "data"
    if not folder.is_dir(): pytest.skip("the real exports (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def cli():
    "Runs `trustlab ARGS...` in a process of its own: `cli('load', store, path).code`"
    def run(*args, cwd=None, timeout=300, **environment) -> Ran:
        command = [sys.executable, "-c", "import sys; sys.argv[0] = 'trustlab'; from trustlab.cli import main; main()", *map(str, args)]
        env = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", **environment}
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        return Ran(done.returncode, done.stdout, done.stderr)
    return run
