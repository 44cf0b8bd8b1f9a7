"""What every test gets: shapes checked against the signatures, seeds, a limit on threads, and the real data.

Nothing here imports the package or torch: the layout tests stay fast, and the import hook has to come first.
"""

import os
import random
import sys
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

install_import_hook("intermodal", "typechecker.checked")

ROOT = Path(__file__).parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
SEED = 0
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT") or 1)
THREADS = max(1, min(2, int(os.environ.get("OMP_NUM_THREADS") or 2)) // PROCESSES)

hypothesis.settings.register_profile("house", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips each test whose ``@pytest.mark.data("set", ...)`` names a set that is not here."""
    for item in items:
        for marker in item.iter_markers("data"):
            for missing in [name for name in marker.args or [""] if not (SHARED_DATA / name).is_dir()]:
                folder = Path("..", "shared", "data", missing).as_posix()
                item.add_marker(pytest.mark.skip(reason=f"needs the folder {folder}, which is absent"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Returns the folder of real data sets beside the project; skips the test where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the folder ../shared/data, which is absent")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _same_every_time() -> None:
    """Seeds what the test may draw from, and limits torch to a few threads; torch only where it is loaded."""
    random.seed(SEED)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(SEED)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(SEED)
        torch.set_num_threads(THREADS)
